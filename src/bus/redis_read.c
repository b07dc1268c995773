/* redis_read.c - reading a channel's stream, once for all listeners that wait.
 *
 * A channel has one read on its way at most. What it brings goes into the channel's tail when it
 * joins on there, and every waiter that can be answered then is; who needs more causes the next
 * read, which again serves all it can. So 2,000 clients that resume on one channel cost one read,
 * or as many as there are pages, and not 2,000.
 *
 *   START   of a channel that nobody here has listened to: its order, and its newest messages when
 *           a waiter wants any
 *   REPAIR  after tail.head, given on to the listeners, page after page until there is no more
 *   FILL    before the tail's first message, into the tail
 *   PAGE    older than the tail may hold: only to waiters
 *
 * A cursor that does not fit the order may be right and this process late (the client had the
 * message elsewhere): before a gap is said, the order is read again.
 */
#include "crier/log.h"
#include "crier/metrics.h"
#include "redis_range.h"

#include <stdlib.h>

enum read_kind { READ_START, READ_REPAIR, READ_FILL, READ_PAGE };

struct read {
    struct range_call call;
    struct rchannel *channel; /* borrowed; stays while it reads */
    enum read_kind kind;
    uint64_t stand; /* forward: serves who stands there or later; call.offset may be further on */
    uint64_t number;
    uint32_t generation;
    struct position seen; /* where the order was that the page before was of; epoch 0: no page */
};

/* --- waiters --- */

static void waiter_answer(struct waiter *w)
{
    struct bus_op *op = w->op;
    struct bus *b = w->channel->rb->be.bus;
    list_remove(&w->in_channel);
    list_remove(&w->in_bus);
    free(w);
    bus_answer(b, op);
}

void waiter_fail(struct waiter *w)
{
    w->op->err = ERR_UNAVAILABLE;
    waiter_answer(w);
}

void read_fail_waiters(struct rchannel *c)
{
    while (!list_is_empty(&c->waiting))
        waiter_fail(container_of(c->waiting.next, struct waiter, in_channel));
}

void read_wait(struct rchannel *c, struct bus_op *op, struct catch_up *cu)
{
    struct waiter *w = bus_alloc(sizeof *w);
    w->channel = c;
    w->op = op;
    w->cu = cu;
    w->since_ms = bus_now_ms(c->rb->be.bus);
    w->since_read = c->rb->reads;
    list_push_back(&c->waiting, &w->in_channel);
    list_push_back(&c->rb->waiters, &w->in_bus);
}

/* The newest offset of this order that a reader has. */
static uint64_t stand_of(const struct tail *order, const struct catch_up *cu)
{
    const uint64_t head = order->head.offset;
    struct position common;
    if (cu->from == FROM_NOW)
        return head;
    if (cu->from == FROM_LAST_N)
        return head - (cu->last_n < head ? cu->last_n : head);
    return tail_judge(order, cu->since, &common) && !common.epoch ? 0 : common.offset;
}

static bool is_foreign(const struct rchannel *c, const struct catch_up *cu)
{
    struct position common;
    return cu->from == FROM_POSITION && tail_judge(&c->tail, cu->since, &common) != GAP_NONE;
}

/* Read by a read that began after it had come? */
static bool is_confirmed(const struct rchannel *c, const struct waiter *w)
{
    return c->confirmed > w->since_read;
}

static uint64_t floor_of(const struct tail *t)
{
    return t->head.offset - t->count;
}

/* --- beginning a read --- */

static void on_range(struct range_call *call, enum err e, struct range *g);

static void begin_from(struct rchannel *c, enum read_kind kind, uint64_t stand, uint64_t offset,
                       uint32_t count)
{
    static const enum range_from from[] = {[READ_START] = RANGE_UP_TO,
                                           [READ_REPAIR] = RANGE_AFTER,
                                           [READ_FILL] = RANGE_UP_TO,
                                           [READ_PAGE] = RANGE_AFTER};
    struct redis_bus *rb = c->rb;
    struct read *rd = bus_alloc(sizeof *rd);
    rd->channel = c;
    rd->kind = kind;
    rd->stand = stand;
    rd->number = ++rb->reads;
    rd->generation = c->generation;
    rd->call = (struct range_call){
        .rb = rb,
        .options = c->options,
        .from = from[kind],
        .offset = offset,
        .count = count,
        .known = known_of(c->known ? c->tail.head : (struct position){0}, c->tail.line),
        .done = on_range};
    BUG_ON(c->reading);
    c->reading = rd;
    range_read(&rd->call, rchannel_name(c));
}

static void begin(struct rchannel *c, enum read_kind kind, uint64_t offset, uint32_t count)
{
    begin_from(c, kind, offset, offset, count);
}

/* --- the tail --- */

static uint32_t tail_limit(const struct rchannel *c)
{
    const struct ns_options *o = c->options;
    if (!o->history_ms || c->full)
        return 0;
    return o->history_messages < CACHE_MESSAGES ? o->history_messages : CACHE_MESSAGES;
}

/* When it would have been appended, so that it expires like the others. */
static uint64_t appended_ms(const struct rchannel *c, const struct range *g, const struct msg *m)
{
    uint64_t now = bus_now_ms(c->rb->be.bus);
    uint64_t age = g->now_ms > m->time_ms ? g->now_ms - m->time_ms : 0;
    return age < now ? now - age : 0;
}

/* Puts what joins on before the tail's first message. */
static void prepend(struct rchannel *c, const struct range *g)
{
    struct tail *t = &c->tail;
    uint32_t i = g->n;
    while (i > 0 && g->msg[i - 1]->pos.offset > floor_of(t))
        i--; /* of the order that went on meanwhile */
    while (i > 0 && t->count < tail_limit(c) && g->msg[i - 1]->pos.offset == floor_of(t)) {
        if (!tail_prepend(t, g->msg[i - 1], appended_ms(c, g, g->msg[i - 1]))) {
            c->full = true;
            return;
        }
        i--;
    }
    bool hole = i > 0 && g->msg[i - 1]->pos.offset != floor_of(t);
    c->whole = c->whole || hole || (i == 0 && g->exhausted);
}

static void start(struct rchannel *c, const struct range *g)
{
    range_order_at(g, g->order.head.offset, &c->tail);
    c->whole = g->order.head.offset == 0 || tail_limit(c) == 0;
    prepend(c, g);
}

/* --- repairing --- */

static bool has(const struct tail *order, struct position p)
{
    struct position common;
    (void)tail_judge(order, p, &common);
    return common.epoch && common.offset == p.offset;
}

#define SAME_ORDER UINT64_MAX

static void keep_stray(struct lineage *line, struct position common, uint64_t shared)
{
    if (common.offset > shared)
        common.offset = shared;
    lineage_add_stray(line, common);
}

/* Whoever comes with a position of an epoch that is gone is to be given what it has not had. The
 * old order and this one are the same up to `shared`, and nothing more may be taken for it. */
static void keep_strays(struct rchannel *c, const struct tail *old, uint64_t shared)
{
    uint64_t last;
    struct lineage *line = c->tail.line;
    if (!shared)
        return;
    if (!line)
        line = c->tail.line = bus_alloc(sizeof *line);
    for (uint32_t i = 0; old->line && i < old->line->n_strays; i++)
        keep_stray(line, old->line->stray[i], shared);
    if (old->head.epoch != c->tail.head.epoch && !lineage_find(line, old->head.epoch, &last))
        keep_stray(line, old->head, shared);
}

static void say_gap_since(struct rchannel *c, const struct range *g, enum gap_reason why,
                          struct position since, uint64_t resumed, uint64_t shared)
{
    struct tail old = c->tail;
    tail_init(&c->tail, old.head);
    range_order_at(g, resumed, &c->tail);
    keep_strays(c, &old, shared);
    tail_release(&old);
    c->whole = false;
    log_info("redis_gap", "channel=%s reason=%s since=%llu resumed=%llu",
             log_quote(rchannel_name(c)), gap_reason_str(why), (unsigned long long)since.offset,
             (unsigned long long)resumed);
    /* In the newest epoch stands who was told of all losses. */
    const struct position told = {.epoch = g->order.head.epoch, .offset = resumed};
    bus_gap(c->rb->be.bus, rchannel_name(c), why, since, told);
}

static void say_gap(struct rchannel *c, const struct range *g, enum gap_reason why,
                    uint64_t resumed)
{
    say_gap_since(c, g, why, c->tail.head, resumed, SAME_ORDER);
}

/* Where the listeners are, or the first loss before what they share with the order that they may
 * not know of. */
static struct position parted_since(const struct rchannel *c, const struct range *g,
                                    struct position common)
{
    const struct position loss = tail_loss_before(&g->order, common);
    bool none = loss.epoch == common.epoch && loss.offset == common.offset;
    return none ? c->tail.head : loss;
}

/* The orders have parted: goes on from the newest message that they share, or from the oldest one
 * that there is. */
static void part(struct rchannel *c, const struct range *g, enum gap_reason why,
                 struct position common)
{
    uint64_t first = g->n ? g->msg[0]->pos.offset - 1 : g->order.head.offset;
    say_gap_since(c, g, why, parted_since(c, g, common),
                  common.epoch && common.offset > first ? common.offset : first,
                  common.epoch ? common.offset : 0);
}

static void give_on(struct rchannel *c, const struct range *g)
{
    for (uint32_t i = 0; i < g->n; i++) {
        struct msg *m = g->msg[i];
        if (m->pos.offset <= c->tail.head.offset)
            continue;
        if (m->pos.offset != c->tail.head.offset + 1)
            say_gap(c, g, GAP_EXPIRED, m->pos.offset - 1);
        else if (g->order.line && lineage_is_loss(g->order.line, c->tail.head))
            say_gap(c, g, GAP_EPOCH, c->tail.head.offset);
        rchannel_accept(c, m);
    }
}

/* Epochs may have been marked since they ended here. */
static void adopt_marks(struct rchannel *c, const struct range *g)
{
    const struct lineage *line = g->order.line;
    struct lineage *ours = c->tail.line;
    for (uint32_t i = 0; line && ours && i < line->count; i++)
        for (uint32_t k = 0; k < ours->count; k++)
            if (ours->ended[k].epoch == line->ended[i].epoch &&
                ours->ended[k].offset == line->ended[i].offset)
                ours->mark[k] = line->mark[i];
}

/* The epoch of the listeners is gone, but maybe not those that it came from. */
static struct position common_past(const struct rchannel *c, const struct range *g)
{
    const struct lineage *ours = c->tail.line;
    struct position common = {0};
    for (uint32_t i = ours ? ours->count : 0; i-- > 0 && !common.epoch;)
        (void)tail_judge(&g->order, ours->ended[i], &common);
    return common;
}

/* False when another read was begun. */
static bool repair(struct rchannel *c, const struct read *rd, const struct range *g)
{
    struct position common, seen;
    enum gap_reason gap = tail_judge(&g->order, c->tail.head, &common);
    if (rd->seen.epoch && !tail_judge(&g->order, rd->seen, &seen))
        gap = GAP_NONE; /* nothing was found since the page before, with which all was said */
    if (gap && !common.epoch)
        common = common_past(c, g);
    if (gap && common.offset < rd->stand && common.offset < g->order.head.offset) {
        begin(c, READ_REPAIR, common.offset, PAGE_MESSAGES); /* what parts them lies before */
        return false;
    }
    if (g->n || g->exhausted) {
        if (gap)
            part(c, g, gap, common);
        give_on(c, g);
        adopt_marks(c, g);
    }
    if (!g->exhausted) {
        uint64_t at = g->scanned > rd->call.offset ? g->scanned : rd->call.offset + 1;
        const bool said = g->n || rd->seen.epoch;
        begin_from(c, READ_REPAIR, g->n ? at : rd->stand, at, PAGE_MESSAGES);
        if (c->reading && said) /* else it could not be sent */
            c->reading->seen = g->order.head;
        return false;
    }
    if (c->tail.head.offset < g->order.head.offset)
        say_gap(c, g, GAP_EXPIRED, g->order.head.offset);
    else if (g->order.line && lineage_is_loss(g->order.line, c->tail.head))
        say_gap(c, g, GAP_EPOCH, c->tail.head.offset);
    if (c->tail.head.offset == g->order.head.offset)
        tail_adopt(&c->tail, &g->order);
    return true;
}

static void synced(struct rchannel *c, const struct read *rd)
{
    if (c->overflown) {
        c->overflown = false;
        begin(c, READ_REPAIR, c->tail.head.offset, PAGE_MESSAGES);
        return;
    }
    c->confirmed = rd->number;
    rchannel_synced(c);
}

/* --- answering waiters --- */

/* A page that lies before the tail; the next one is asked for by who got it. */
static void answer_from_page(struct waiter *w, const struct range *g, const struct tail *page)
{
    struct catch_up *cu = w->cu;
    const struct catch_up asked = *cu;
    if (asked.from == FROM_LAST_N) { /* the page is not the newest: by position, and no gap */
        cu->since = tail_position(&g->order, stand_of(&g->order, cu));
        cu->from = FROM_POSITION;
    }
    w->op->err = range_catch_up(g, page, cu);
    if (asked.from == FROM_LAST_N) {
        cu->from = asked.from;
        cu->since = asked.since;
        cu->gap = GAP_NONE;
    }
    cu->head = g->order.head;
    cu->complete = false; /* only the tail of a live channel knows what comes next */
    waiter_answer(w);
}

/* What is read is judged as the tail is, or who was sent to read would not be answered. */
static void lend_strays(const struct rchannel *c, struct range *g)
{
    const struct lineage *ours = c->tail.line;
    if (!ours || !ours->n_strays)
        return;
    if (!g->order.line)
        g->order.line = bus_alloc(sizeof *g->order.line);
    for (uint32_t i = 0; i < ours->n_strays; i++)
        lineage_add_stray(g->order.line, ours->stray[i]);
}

static void page(struct rchannel *c, const struct read *rd, struct range *g)
{
    struct tail t;
    lend_strays(c, g);
    if (!g->n && !g->exhausted && g->scanned > rd->call.offset) {
        begin_from(c, READ_PAGE, rd->stand, g->scanned, PAGE_MESSAGES); /* all too old */
        return;
    }
    if (!g->n) {
        c->whole = true; /* nothing older than the tail is to be had */
        return;
    }
    range_tail(g, false, &t);
    for (struct list *it = c->waiting.next, *next; it != &c->waiting; it = next) {
        struct waiter *w = container_of(it, struct waiter, in_channel);
        uint64_t stand = stand_of(&g->order, w->cu); /* which is how it is answered */
        next = it->next;
        if (stand >= rd->stand && stand < t.head.offset && stand < floor_of(&c->tail))
            answer_from_page(w, g, &t);
    }
    tail_release(&t);
}

static void answer_from_tail(struct rchannel *c)
{
    for (struct list *it = c->waiting.next, *next; it != &c->waiting; it = next) {
        struct waiter *w = container_of(it, struct waiter, in_channel);
        next = it->next;
        if (is_foreign(c, w->cu) && !is_confirmed(c, w))
            continue;
        if (!c->whole && stand_of(&c->tail, w->cu) < floor_of(&c->tail))
            continue;
        w->op->err = tail_catch_up(&c->tail, w->cu, false);
        waiter_answer(w);
    }
}

/* --- what a read brought --- */

/* Is what was read of the order that the tail is of? Either may be ahead of the other. */
static bool is_same_order(const struct rchannel *c, const struct range *g)
{
    return has(&c->tail, g->order.head) || has(&g->order, c->tail.head);
}

static void finish(struct rchannel *c, const struct read *rd, struct range *g)
{
    if ((rd->kind == READ_FILL || rd->kind == READ_PAGE) && !is_same_order(c, g)) {
        c->state = CHANNEL_SYNCING; /* it was lost, and nobody has said so yet */
        read_pump(c);
        return;
    }
    switch (rd->kind) {
    case READ_START:
        start(c, g);
        synced(c, rd);
        return; /* rchannel_synced has pumped */
    case READ_REPAIR:
        if (repair(c, rd, g))
            synced(c, rd);
        return;
    case READ_FILL:
        if (floor_of(&c->tail) == rd->call.offset) /* else it has moved on: asked for again */
            prepend(c, g);
        break;
    case READ_PAGE:
        page(c, rd, g);
        break;
    }
    read_pump(c);
}

static void on_range(struct range_call *call, enum err e, struct range *g)
{
    struct read *rd = container_of(call, struct read, call);
    struct rchannel *c = rd->channel;
    c->reading = NULL;
    if (e) {
        /* ERR_UNAVAILABLE: who waits may wait a little longer; the tick tries again. */
        if (e != ERR_UNAVAILABLE)
            read_fail_waiters(c);
        if (e != ERR_CLOSED && !list_is_linked(&c->in_retry))
            list_push_back(&c->rb->retry, &c->in_retry);
    } else if (rd->generation != c->generation) {
        read_pump(c);
    } else {
        finish(c, rd, g);
    }
    free(rd);
    rchannel_drop_if_unused(c);
}

/* --- what is needed next --- */

static void sync_order(struct rchannel *c)
{
    bool history = false;
    list_for_each (it, &c->waiting)
        history |= container_of(it, struct waiter, in_channel)->cu->from != FROM_NOW;
    if (c->known)
        begin(c, READ_REPAIR, c->tail.head.offset, PAGE_MESSAGES);
    else
        begin(c, READ_START, RANGE_NEWEST, history ? tail_limit(c) : 0);
}

/* The channel is live and these could not be answered from its tail. */
static void read_for_waiters(struct rchannel *c)
{
    uint64_t oldest = UINT64_MAX;
    list_for_each (it, &c->waiting) {
        const struct waiter *w = container_of(it, struct waiter, in_channel);
        if (is_foreign(c, w->cu) && !is_confirmed(c, w)) {
            c->state = CHANNEL_SYNCING;
            sync_order(c);
            return;
        }
        uint64_t stand = stand_of(&c->tail, w->cu);
        oldest = stand < oldest ? stand : oldest;
    }
    if (c->tail.count < tail_limit(c))
        begin(c, READ_FILL, floor_of(&c->tail), tail_limit(c) - c->tail.count);
    else
        begin(c, READ_PAGE, oldest, PAGE_MESSAGES);
}

void read_pump(struct rchannel *c)
{
    if (c->reading || !c->rb->attached)
        return;
    if (c->state == CHANNEL_SYNCING) {
        sync_order(c);
        return;
    }
    if (c->state != CHANNEL_LIVE)
        return;
    answer_from_tail(c);
    if (!list_is_empty(&c->waiting))
        read_for_waiters(c);
}
