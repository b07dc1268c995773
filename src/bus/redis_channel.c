/* redis_channel.c - one channel: live messages, the holes in them, and what is kept here of it.
 *
 * Pub/sub is at most once, so it is only a hint; the stream is the truth. A channel is live while
 * each message that comes is the one after the last (by offset, and by the epoch it says it
 * follows). Anything else - a hole, a lost subscription, a first listener - is the same: subscribe,
 * and when that is confirmed read what came after tail.head; what comes meanwhile is buffered. So
 * between what was read and what was heard there is no seam, and what comes by both ways is told
 * apart by its offset.
 *
 * The tail kept here answers resumes without asking Redis. It ends at head always; what is older
 * than its beginning may still be in Redis unless `whole`.
 */
#include "crier/clock.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "record.h"
#include "redis_bus.h"

#include <stdlib.h>

static struct rchannel *of_node(const struct map_node *n)
{
    return container_of(n, struct rchannel, node);
}

struct slice rchannel_name(const struct rchannel *c)
{
    return slice_of(c->name, c->name_len);
}

struct rchannel *rchannel_get(const struct redis_bus *rb, struct slice name, uint64_t hash)
{
    struct map_node *n = map_get_hashed(&rb->channels, name, hash);
    return n ? of_node(n) : NULL;
}

static char *put(char *at, struct slice s)
{
    memcpy(at, s.ptr, s.len);
    return at + s.len;
}

struct rchannel *rchannel_make(struct redis_bus *rb, struct slice name, uint64_t hash)
{
    struct rchannel *c = rchannel_get(rb, name, hash);
    if (c)
        return c;
    const struct slice prefix = slice_str(rb->opt.prefix), suffix = slice_str(rb->pubsub_suffix);
    c = bus_alloc(sizeof *c + 2 * name.len + prefix.len + 2 + suffix.len);
    c->rb = rb;
    c->options = bus_ns(rb->be.bus, name);
    c->name_len = name.len;
    char *pubsub = put(c->name, name), *at = pubsub;
    at = put(at, prefix);
    *at++ = '{';
    at = put(at, name);
    *at++ = '}';
    at = put(at, suffix);
    c->sub.channel = slice_of(pubsub, (size_t)(at - pubsub));
    tail_init(&c->tail, (struct position){0});
    list_init(&c->linger);
    list_init(&c->in_retry);
    list_init(&c->waiting);
    list_init(&c->untold);
    map_put(&rb->channels, &c->node);
    return c;
}

static void clear_buffer(struct rchannel *c)
{
    for (uint32_t i = 0; i < c->n_buffered; i++)
        msg_unref(c->buffer[i].msg);
    free(c->buffer);
    c->buffer = NULL;
    c->n_buffered = c->buffer_size = 0;
}

void rchannel_free(struct rchannel *c)
{
    BUG_ON(c->reading || !list_is_empty(&c->waiting));
    clear_buffer(c);
    tail_release(&c->tail);
    list_remove(&c->linger);
    list_remove(&c->in_retry);
    registry_forget(c);
    map_remove(&c->rb->channels, &c->node);
    free(c);
}

void rchannel_drop_if_unused(struct rchannel *c)
{
    if (c->state == CHANNEL_COLD && !c->wanted && !c->reading && list_is_empty(&c->waiting) &&
        c->subscribers == c->told && !c->telling)
        rchannel_free(c);
}

/* --- subscribed or not --- */

void rchannel_want(struct rchannel *c, bool on)
{
    c->wanted = on;
    list_remove(&c->linger);
    if (!on) {
        c->left_ms = bus_now_ms(c->rb->be.bus);
        list_push_back(&c->rb->lingering, &c->linger);
    } else if (c->state == CHANNEL_COLD) {
        c->state = CHANNEL_SUBSCRIBING;
        if (c->rb->attached)
            redis_subscribe(c->rb->redis, &c->sub);
    }
}

void rchannel_cool(struct rchannel *c)
{
    read_fail_waiters(c); /* they have left since */
    if (c->state != CHANNEL_COLD && c->rb->attached)
        redis_unsubscribe(c->rb->redis, &c->sub);
    c->state = CHANNEL_COLD;
    c->generation++;
    c->known = c->whole = c->overflown = false;
    list_remove(&c->linger);
    clear_buffer(c);
    tail_reset(&c->tail, (struct position){0}, &(struct lineage){.count = 0});
    rchannel_drop_if_unused(c);
}

void rchannel_subscribed(struct rchannel *c)
{
    if (c->state != CHANNEL_SUBSCRIBING)
        return;
    c->state = CHANNEL_SYNCING;
    c->generation++;
#ifdef CRIER_TEST_NO_CATCH_UP
    /* For the test that shows that the history checker sees what this would lose. */
    if (c->known) {
        rchannel_synced(c);
        return;
    }
#endif
    if (c->known)
        metrics_inc(M_REDIS_REPAIRS);
    read_pump(c);
}

void rchannel_lost(struct rchannel *c)
{
    c->state = CHANNEL_SUBSCRIBING;
    c->generation++;
    clear_buffer(c);
    c->overflown = false;
}

/* --- messages --- */

void rchannel_accept(struct rchannel *c, struct msg *m)
{
    const struct ns_options *o = c->options;
    uint32_t keep = o->history_ms ? o->history_messages : 0;
    if (keep > CACHE_MESSAGES) {
        keep = CACHE_MESSAGES;
        if (c->tail.count == keep)
            c->whole = false;
    }
    if (m->pos.epoch != c->tail.head.epoch)
        tail_new_epoch(&c->tail, m->pos.epoch);
    tail_append(&c->tail, m, keep, bus_now_ms(c->rb->be.bus));
    bus_ordered(c->rb->be.bus, m);
}

static bool is_next(const struct rchannel *c, struct position p, uint32_t previous_epoch)
{
    const struct position head = c->tail.head;
#ifdef CRIER_TEST_NO_CATCH_UP
    return p.offset > head.offset;
#endif
    return p.offset == head.offset + 1 && previous_epoch == head.epoch;
}

/* Had already: of this order, and not beyond head. */
static bool is_old(const struct rchannel *c, struct position p)
{
    struct position common;
    (void)tail_judge(&c->tail, p, &common);
    return common.epoch && common.offset == p.offset;
}

static void buffer(struct rchannel *c, struct msg *m, uint32_t previous_epoch, uint64_t since_read)
{
    if (c->n_buffered == BUFFER_MESSAGES) {
        clear_buffer(c);
        c->overflown = true;
    }
    if (c->n_buffered == c->buffer_size) {
        uint32_t size = c->buffer_size ? 2 * c->buffer_size : 8;
        void *grown = realloc(c->buffer, size * sizeof c->buffer[0]);
        if (!grown) {
            clear_buffer(c);
            c->overflown = true;
            return;
        }
        c->buffer = grown;
        c->buffer_size = size;
    }
    c->buffer[c->n_buffered].msg = msg_ref(m);
    c->buffer[c->n_buffered].since_read = since_read;
    c->buffer[c->n_buffered++].previous_epoch = previous_epoch;
}

/* Something may have been missed: the truth is in the stream. */
void rchannel_look_again(struct rchannel *c)
{
    if (c->state != CHANNEL_LIVE)
        return;
    metrics_inc(M_REDIS_REPAIRS);
    c->state = CHANNEL_SYNCING;
    read_pump(c);
}

/* A message that pub/sub brought when so many reads had been begun; the channel is live. */
static void live(struct rchannel *c, struct msg *m, uint32_t previous_epoch, uint64_t since_read)
{
    if (is_next(c, m->pos, previous_epoch)) {
        rchannel_accept(c, m);
    } else if (!is_old(c, m->pos)) {
        if (c->confirmed > since_read)
            return; /* looked for since, and it is not there: of an order that was lost */
        log_debug("redis_hole", "channel=%s have=%llu heard=%llu", log_quote(rchannel_name(c)),
                  (unsigned long long)c->tail.head.offset, (unsigned long long)m->pos.offset);
        buffer(c, m, previous_epoch, since_read);
        rchannel_look_again(c);
    }
}

static void say_bad_record(const struct rchannel *c)
{
    metrics_inc(M_REDIS_BAD_RECORDS);
    log_warn("redis_bad_record", "channel=%s what=\"not a message of crier\"",
             log_quote(rchannel_name(c)));
}

/* The history up to there was cleared, "EPOCH OFFSET". It may be heard before or after what came
 * next. */
static void cleared(struct rchannel *c, struct slice text)
{
    struct slice part;
    struct position to, common;
    uint64_t epoch;
    if (!c->known || !slice_split(&text, ' ', &part) ||
        slice_to_u64(part, CURSOR_EPOCH_MAX, &epoch) ||
        slice_to_u64(text, UINT64_MAX - 1, &to.offset))
        return;
    to.epoch = (uint32_t)epoch;
    (void)tail_judge(&c->tail, to, &common);
    if (!common.epoch)
        return; /* of another order */
    tail_drop_to(&c->tail, common.offset);
    c->whole = c->whole || c->tail.head.offset - c->tail.count <= common.offset;
}

/* What scripts publish beside records. False: it is none of that. */
static bool take_notice(struct rchannel *c, struct slice text)
{
    if (slice_starts_with(text, SLICE("clear "))) {
        cleared(c, slice_of(text.ptr + 6, text.len - 6));
        return true;
    }
    if (!slice_eq(text, SLICE("lost")))
        return false;
    if (c->state == CHANNEL_LIVE)
        rchannel_look_again(c);
    else
        c->overflown = true; /* what is being read may be older than the loss */
    return true;
}

void rchannel_message(struct rchannel *c, struct slice text)
{
    struct record r;
    struct msg *m;
    if (c->state != CHANNEL_LIVE && c->state != CHANNEL_SYNCING)
        return;
    if (take_notice(c, text))
        return;
    if (record_parse(text, &r)) {
        say_bad_record(c);
        return;
    }
    /* Mostly what this process published itself: not worth a copy. */
    if (c->state == CHANNEL_LIVE && is_old(c, r.pos))
        return;
    if (record_message(&r, rchannel_name(c), &m)) {
        say_bad_record(c);
        return;
    }
    if (c->state == CHANNEL_LIVE)
        live(c, m, r.previous_epoch, c->rb->reads);
    else
        buffer(c, m, r.previous_epoch, c->rb->reads);
    msg_unref(m);
}

bool rchannel_published(struct rchannel *c, struct msg *m, uint32_t previous_epoch)
{
    if (c->state != CHANNEL_LIVE || !is_next(c, m->pos, previous_epoch))
        return false;
    rchannel_accept(c, m);
    return true;
}

void rchannel_synced(struct rchannel *c)
{
    uint32_t n = c->n_buffered;
    c->state = CHANNEL_LIVE;
    c->known = true;
    /* What is buffered may have a hole itself: then the rest is buffered again. */
    typeof(c->buffer) heard = c->buffer;
    c->buffer = NULL;
    c->n_buffered = c->buffer_size = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (c->state == CHANNEL_LIVE)
            live(c, heard[i].msg, heard[i].previous_epoch, heard[i].since_read);
        else
            buffer(c, heard[i].msg, heard[i].previous_epoch, heard[i].since_read);
        msg_unref(heard[i].msg);
    }
    free(heard);
    read_pump(c);
}

/* --- age --- */

void rchannel_expire(struct rchannel *c)
{
    uint64_t now = bus_now_ms(c->rb->be.bus);
    if (now >= c->options->history_ms)
        tail_expire(&c->tail, now - c->options->history_ms);
}
