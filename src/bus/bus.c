/* bus.c - takes requests, lets the backend order and read, answers.
 *
 * Every op comes in through the inbox and leaves through bus_answer, exactly once, into the same
 * FIFO as the live messages of its port. Interest counts from the moment a join is handled and not
 * from its answer: between the two a port may hear messages of which its new listener knows nothing
 * yet, and the answer says where that listener stands among them.
 *
 * Nothing here knows where offsets come from or where messages are kept: that is the backend.
 */
#include "crier/metrics.h"
#include "internal.h"

#include <stdatomic.h>
#include <stdlib.h>

#define INBOX_BUDGET 512

const char *gap_reason_str(enum gap_reason r)
{
    switch (r) {
    case GAP_NONE:
        return "none";
    case GAP_EXPIRED:
        return "expired";
    case GAP_EPOCH:
        return "epoch";
    case GAP_AHEAD:
        return "ahead";
    case GAP_NO_POSITION:
        return "no_position";
    }
    bug_at(__FILE__, __LINE__, "unknown gap reason");
}

static void handle_publish(struct bus *b, struct bus_op *op)
{
    b->be->ops->publish(b->be, container_of(op, struct bus_publish, op));
}

static void handle_join(struct bus *b, struct bus_op *op)
{
    struct bus_join *j = container_of(op, struct bus_join, op);
    struct slice channel = slice_str(j->channel);
    presence_expect(b, interest_add(b, channel, op->port->id), j);
    b->be->ops->catch_up(b->be, op, channel, &j->cu, false);
}

static void handle_page(struct bus *b, struct bus_op *op)
{
    struct bus_page *p = container_of(op, struct bus_page, op);
    b->be->ops->catch_up(b->be, op, slice_str(p->channel), &p->cu, false);
}

static void handle_leave(struct bus *b, struct bus_op *op)
{
    struct bus_leave *l = container_of(op, struct bus_leave, op);
    struct slice channel = slice_str(l->channel);
    struct interest *i = interest_get(b, channel, hash_bytes(channel));
    BUG_ON(!i); /* a leave without a join */
    struct member *m = presence_leave(b, i, l->client);
    bool is_heard = interest_drop(b, i, op->port->id);
    if (m && is_heard)
        presence_tell_leave(b, i, m);
    presence_free(m);
    bus_answer(b, op);
}

static void handle_history(struct bus *b, struct bus_op *op)
{
    struct bus_history *h = container_of(op, struct bus_history, op);
    b->be->ops->catch_up(b->be, op, slice_str(h->channel), &h->cu, h->reverse);
}

static void handle_clear(struct bus *b, struct bus_op *op)
{
    b->be->ops->clear(b->be, container_of(op, struct bus_clear, op));
}

static void handle_channels(struct bus *b, struct bus_op *op)
{
    struct bus_channels *c = container_of(op, struct bus_channels, op);
    listing_fill(b, c);
    b->be->ops->channels(b->be, c);
}

static void handle_channel_get(struct bus *b, struct bus_op *op)
{
    struct bus_channel_get *c = container_of(op, struct bus_channel_get, op);
    struct slice channel = slice_str(c->channel);
    const struct interest *i = interest_get(b, channel, hash_bytes(channel));
    c->info.name = slice_dup(channel);
    c->info.subscribers = i ? i->subscribers : 0;
    b->be->ops->channel(b->be, c);
}

static void handle_presence(struct bus *b, struct bus_op *op)
{
    op->err = presence_list(b, container_of(op, struct bus_presence, op));
    bus_answer(b, op);
}

static void inbox_deliver(struct mailbox *mb, struct mail *m)
{
    static void (*const handle[])(struct bus *, struct bus_op *) = {
        [BUS_PUBLISH] = handle_publish,   [BUS_JOIN] = handle_join,
        [BUS_PAGE] = handle_page,         [BUS_LEAVE] = handle_leave,
        [BUS_HISTORY] = handle_history,   [BUS_CLEAR] = handle_clear,
        [BUS_CHANNELS] = handle_channels, [BUS_CHANNEL] = handle_channel_get,
        [BUS_PRESENCE] = handle_presence,
    };
    struct bus_op *op = container_of(m, struct bus_op, mail);
    BUG_ON(op->kind >= sizeof handle / sizeof handle[0]);
    handle[op->kind](mb->owner, op);
}

void bus_ordered(struct bus *b, struct msg *m)
{
    const struct interest *i = interest_get(b, m->channel, m->channel_hash);
    if (i)
        interest_post_message(b, i, m);
}

void bus_gap(struct bus *b, struct slice channel, enum gap_reason why, struct position since,
             struct position resumed)
{
    const struct bus_event ev = {
        .kind = BUS_EVENT_GAP, .channel = channel, .gap = why, .since = since, .resumed = resumed};
    const struct interest *i = interest_get(b, channel, hash_bytes(channel));
    if (i)
        interest_post_notice(b, i, &ev);
}

void bus_set_ready(struct bus *b, const char *why_not)
{
    atomic_store_explicit(&b->why_not, why_not, memory_order_relaxed);
}

bool bus_is_ready(const struct bus *b, const char **why)
{
    /* relaxed: the text is constant, and a reader that is a moment late asks again */
    *why = atomic_load_explicit(&b->why_not, memory_order_relaxed);
    return *why == NULL;
}

static void count_publish(const struct bus_publish *p)
{
    if (p->op.err)
        return;
    if (p->repeated) {
        metrics_inc(M_PUBLISH_REPEATED);
        return;
    }
    metrics_inc(M_PUBLISHED);
    metrics_add(M_PUBLISHED_BYTES, (int64_t)p->msg->payload.len);
}

void bus_answer(struct bus *b, struct bus_op *op)
{
    struct member *joins = NULL;
    if (op->kind == BUS_PUBLISH)
        count_publish(container_of(op, struct bus_publish, op));
    if (op->kind == BUS_JOIN)
        joins = presence_expected(b, container_of(op, struct bus_join, op));
    if (op->kind == BUS_CHANNEL && op->err == ERR_OK) {
        const struct bus_channel_get *c = container_of(op, struct bus_channel_get, op);
        if (c->info.subscribers == 0 && c->info.messages == 0)
            op->err = ERR_NOT_FOUND;
    }
    port_answer(op);
    /* after the answer, so that a listener never hears of its own joining before it has joined */
    if (joins)
        presence_join(b, joins);
}

enum err bus_new(const struct ns_table *ns, struct backend *be, struct bus **out)
{
    struct bus *b = calloc(1, sizeof *b);
    if (!b) {
        be->ops->free(be);
        return ERR_NOMEM;
    }
    b->ns = ns;
    b->be = be;
    be->bus = b;
    mailbox_init(&b->inbox, inbox_deliver, b);
    timer_wheel_init(&b->own_timers, 0);
    b->timers = &b->own_timers;
    interest_init(b);
    presence_init(b);
    *out = b;
    return ERR_OK;
}

enum err bus_attach(struct bus *b, struct loop *l)
{
    BUG_ON(b->loop || b->own_timers.count > 0);
    b->loop = l;
    b->timers = loop_timers(l);
    enum err e = loop_attach(l, &b->inbox, INBOX_BUDGET);
    if (e == ERR_OK) {
        e = b->be->ops->attach(b->be, l);
        if (e)
            loop_detach(l, &b->inbox);
    }
    if (e) {
        b->loop = NULL;
        b->timers = &b->own_timers;
    }
    return e;
}

void bus_detach(struct bus *b)
{
    if (!b->loop)
        return;
    loop_detach(b->loop, &b->inbox);
    BUG_ON(b->be->ops->attach(b->be, NULL) != ERR_OK);
    timer_wheel_init(&b->own_timers, loop_now_ms(b->loop));
    b->timers = &b->own_timers;
    b->loop = NULL;
}

struct mailbox *bus_inbox(struct bus *b)
{
    return &b->inbox;
}

struct timer_wheel *bus_timers(struct bus *b)
{
    return b->timers;
}

uint64_t bus_now_ms(const struct bus *b)
{
    return b->loop ? loop_now_ms(b->loop) : b->timers->now_ms;
}

const struct ns_options *bus_ns(const struct bus *b, struct slice channel)
{
    return ns_lookup(b->ns, channel);
}

void bus_free(struct bus *b)
{
    for (unsigned i = 0; i < b->n_ports; i++)
        BUG_ON(b->port[i]);
    presence_release(b);
    interest_release(b);
    b->be->ops->free(b->be);
    mailbox_release(&b->inbox);
    free(b);
}
