/* redis_range.c - what the read script answers.
 *
 * Messages that are older than their channel keeps are left out by the server's clock, which all
 * processes share: a stream is trimmed by age only now and then. What is not a message of crier is
 * skipped, counted and said; it is a hole like any other.
 */
#include "redis_range.h"

#include "crier/log.h"
#include "crier/metrics.h"
#include "record.h"

#include <stdlib.h>

static void range_release(struct range *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        msg_unref(g->msg[i]);
    free(g->msg);
    tail_release(&g->order);
}

static bool parse_order(const struct reply *r, struct range *g)
{
    struct lineage line;
    uint64_t epoch, offset;
    if (reply_count(r) != 5 || slice_to_u64(reply_text(reply_at(r, 0)), CURSOR_EPOCH_MAX, &epoch) ||
        epoch == 0 || slice_to_u64(reply_text(reply_at(r, 1)), UINT64_MAX - 1, &offset) ||
        lineage_parse(reply_text(reply_at(r, 2)), &line) ||
        slice_to_u64(reply_text(reply_at(r, 3)), INT64_MAX, &g->now_ms) ||
        (line.count && line.ended[line.count - 1].offset > offset))
        return false;
    tail_reset(&g->order, (struct position){.epoch = (uint32_t)epoch, .offset = offset}, &line);
    return true;
}

/* [ID, [name, RECORD]]; the id is OFFSET-0. */
static struct msg *parse_entry(struct slice channel, const struct reply *entry, uint64_t *offset)
{
    struct record r;
    struct msg *m;
    struct slice id = reply_text(reply_at(entry, 0)), number;
    uint64_t at;
    if (slice_split(&id, '-', &number) && !slice_to_u64(number, UINT64_MAX - 1, &at))
        *offset = at;
    if (record_parse(reply_text(reply_at(reply_at(entry, 1), 1)), &r))
        return NULL;
    return record_message(&r, channel, &m) ? NULL : m;
}

static void parse_entries(const struct range_call *call, const struct reply *entries,
                          struct range *g)
{
    const struct slice channel = slice_of(call->name, call->name_len);
    const size_t n = reply_count(entries);
    const bool back = call->from == RANGE_UP_TO;
    g->exhausted = n < call->count;
    g->msg = n ? bus_alloc(n * sizeof(struct msg *)) : NULL;
    for (size_t i = 0; i < n; i++) {
        const struct reply *entry = reply_at(entries, back ? n - 1 - i : i);
        struct msg *m = parse_entry(channel, entry, &g->scanned);
        if (!m) {
            metrics_inc(M_REDIS_BAD_RECORDS);
            log_warn("redis_bad_record", "channel=%s what=\"not a message of crier\"",
                     log_quote(channel));
        } else if (m->time_ms + call->options->history_ms <= g->now_ms) {
            msg_unref(m);
            g->exhausted = g->exhausted || back; /* those before it are older still */
        } else {
            g->msg[g->n++] = m;
        }
    }
}

static void on_reply(struct script_call *sc, enum err e, const struct reply *r)
{
    struct range_call *call = sc->ctx;
    struct range g = {.n = 0};
    if (!e && !parse_order(r, &g)) {
        log_error("redis_bad_reply", "script=read channel=%s",
                  log_quote(slice_of(call->name, call->name_len)));
        e = ERR_IO;
    }
    if (!e)
        parse_entries(call, reply_at(r, 4), &g);
    call->done(call, e, e ? NULL : &g);
    range_release(&g);
}

void range_read(struct range_call *call, struct slice channel)
{
    memcpy(call->name, channel.ptr, channel.len);
    call->name_len = (uint32_t)channel.len;
    if (call->count > call->rb->reply_messages)
        call->count = call->rb->reply_messages;
    if (call->count == 0)
        call->from = RANGE_NOTHING;
    struct script_call *sc = script_call_new(call->rb, &script_read, 11,
                                             3 * REDIS_KEY_MAX + 192 + KNOWN_BYTES, on_reply, call);
    script_call_key(sc, channel, ":m", SLICE_NONE);
    if (call->options->history_messages && call->options->history_ms)
        script_call_key(sc, channel, ":s", SLICE_NONE);
    else
        call->from = RANGE_NOTHING;
    script_call_constant(sc, redis_arg_identity);
    script_call_u64(sc, cursor_new_epoch());
    script_call_u64(sc, redis_bus_meta_ms(call->options));
    static const char *const direction[] = {
        [RANGE_NOTHING] = "-", [RANGE_AFTER] = "f", [RANGE_UP_TO] = "b"};
    script_call_text(sc, slice_str(direction[call->from]));
    if (call->from == RANGE_UP_TO && call->offset == RANGE_NEWEST)
        script_call_text(sc, SLICE("+"));
    else
        script_call_u64(sc, call->from == RANGE_AFTER && call->offset < UINT64_MAX
                                ? call->offset + 1
                                : call->offset);
    script_call_u64(sc, call->count);
    script_call_constant(sc, redis_arg_publish);
    script_call_pubsub(sc, channel);
    script_call_known(sc, &call->known);
    if (call->from != RANGE_NOTHING)
        metrics_inc(M_REDIS_RANGE_READS);
    script_call_submit(sc);
}

/* Only the epochs that had ended before `at` began; its own may be forgotten. */
static void order_until(const struct range *g, struct position at, struct tail *t)
{
    const struct lineage *line = g->order.line;
    struct lineage past = {.count = 0};
    for (uint32_t i = 0; line && i < line->count && line->ended[i].epoch != at.epoch &&
                         line->ended[i].offset <= at.offset;
         i++)
        lineage_add(&past, line->ended[i], line->mark[i]);
    for (uint32_t i = 0; line && i < line->n_strays; i++)
        lineage_add_stray(&past, line->stray[i]);
    tail_reset(t, at, &past);
}

void range_order_at(const struct range *g, uint64_t offset, struct tail *t)
{
    order_until(g, tail_position_before_next(&g->order, offset), t);
}

void range_tail(const struct range *g, bool is_end, struct tail *t)
{
    tail_init(t, (struct position){0});
    order_until(g, g->n && !is_end ? g->msg[g->n - 1]->pos : g->order.head, t);
    for (uint32_t i = g->n; i > 0; i--)
        if (g->msg[i - 1]->pos.offset != t->head.offset - t->count ||
            !tail_prepend(t, g->msg[i - 1], 0))
            break;
}

enum err range_catch_up(const struct range *g, const struct tail *t, struct catch_up *cu)
{
    const struct position asked = cu->since;
    struct position common;
    bool is_of_order =
        cu->from == FROM_POSITION && tail_judge(&g->order, asked, &common) == GAP_NONE;
    /* The tail does not know the epochs after its own; the offset is right whatever they are. */
    if (is_of_order)
        cu->since.epoch = t->head.epoch;
    enum err e = tail_catch_up(t, cu, false);
    if (is_of_order)
        cu->since = asked;
    if (cu->gap)
        cu->start.epoch = g->order.head.epoch;
    else if (is_of_order)
        cu->start = asked;
    if (cu->gap == GAP_EXPIRED)
        cu->lost_to = cu->start;
    return e;
}
