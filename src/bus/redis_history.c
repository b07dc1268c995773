/* redis_history.c - reading without listening: always from Redis, so that who has seen its publish
 * acknowledged anywhere finds it in the history everywhere.
 *
 * One read mostly. A second one where the first tells where to begin: at the place that the asked
 * position has in common with the order, or so many messages before its end.
 */
#include "redis_range.h"

#include <stdlib.h>

#define HISTORY_MESSAGES 1000u

struct history {
    struct range_call call;
    struct bus_history *op;
    bool counts_back;        /* from where the order ends, which a first read says */
    struct position counted; /* that end */
    uint64_t begun;          /* the offset that was read from, before what is too old */
};

/* Of one read, so no more than its reply may hold. */
static uint32_t wanted(const struct redis_bus *rb, const struct catch_up *cu)
{
    uint32_t n = cu->max_messages ? cu->max_messages : 1;
    if (n > HISTORY_MESSAGES)
        n = HISTORY_MESSAGES;
    if (n > rb->reply_messages)
        n = rb->reply_messages;
    return cu->from == FROM_LAST_N && cu->last_n < n ? cu->last_n : n;
}

static void answer(struct history *h, enum err e)
{
    struct bus_op *op = &h->op->op;
    struct bus *b = h->call.rb->be.bus;
    op->err = e == ERR_OK || e == ERR_NOMEM ? e : ERR_UNAVAILABLE;
    free(h);
    bus_answer(b, op);
}

static void read_on(struct history *h, enum range_from from, uint64_t offset)
{
    h->call.from = from;
    h->call.offset = offset;
    h->call.count = wanted(h->call.rb, &h->op->cu);
    range_read(&h->call, slice_str(h->op->channel));
}

static void read_from(struct history *h, enum range_from from, uint64_t offset)
{
    h->begun = offset;
    read_on(h, from, offset);
}

/* What lies between the asked position and the first message given. */
static enum err answer_forward(struct history *h, const struct range *g)
{
    struct catch_up *cu = &h->op->cu;
    const struct catch_up asked = *cu;
    struct tail t;
    range_tail(g, g->exhausted || h->call.from != RANGE_AFTER, &t);
    if (asked.from == FROM_LAST_N)
        cu->last_n = t.count;
    enum err e = range_catch_up(g, &t, cu);
    cu->last_n = asked.last_n;
    if (cu->head.offset < g->order.head.offset)
        cu->complete = false;
    cu->head = g->order.head;
    tail_release(&t);
    return e;
}

static enum err answer_back(struct history *h, const struct range *g, enum gap_reason gap)
{
    struct catch_up *cu = &h->op->cu;
    const struct catch_up asked = *cu;
    struct tail t;
    range_tail(g, false, &t);
    cu->from = FROM_LAST_N;
    cu->last_n = g->n;
    enum err e = tail_catch_up(&t, cu, true);
    cu->from = asked.from;
    cu->last_n = asked.last_n;
    cu->gap = gap;
    if (asked.from == FROM_POSITION && !gap)
        cu->start = asked.since;
    else if (!g->n)
        cu->start = tail_position(&g->order, g->order.head.offset + 1);
    bool whole = g->exhausted || (asked.from == FROM_LAST_N && cu->count == asked.last_n);
    cu->complete = cu->complete && whole;
    cu->head = g->order.head;
    tail_release(&t);
    return e;
}

/* Is the asked position one of the order? Then GAP_NONE; else *common as tail_judge says. */
static enum gap_reason judge(const struct history *h, const struct range *g,
                             struct position *common)
{
    struct position p = h->op->cu.since;
    *common = p;
    if (h->op->cu.from != FROM_POSITION)
        return GAP_NONE;
    if (h->op->reverse && p.offset)
        p.offset--;
    return tail_judge(&g->order, p, common);
}

/* Is it not known yet from where, or not any more? */
static bool must_count(struct history *h, const struct range *g)
{
    struct position common;
    bool first = h->counted.epoch == 0;
    bool must = first ? h->op->cu.last_n != UINT32_MAX
                      : tail_judge(&g->order, h->counted, &common) != GAP_NONE;
    if (first || must)
        h->counted = g->order.head;
    return must;
}

static void on_range(struct range_call *call, enum err e, struct range *g)
{
    struct history *h = container_of(call, struct history, call);
    if (e) {
        answer(h, e);
        return;
    }
    struct position common;
    if (h->counts_back && must_count(h, g)) {
        const uint64_t head = g->order.head.offset, n = h->op->cu.last_n;
        read_from(h, RANGE_AFTER, head > n ? head - n : 0);
        return;
    }
    enum gap_reason gap = judge(h, g, &common);
    bool elsewhere = h->op->reverse ? h->begun != RANGE_NEWEST : common.offset < h->begun;
    if (gap && elsewhere) { /* ends: nearer to the beginning each time, or the newest */
        if (h->op->reverse)
            read_from(h, RANGE_UP_TO, RANGE_NEWEST);
        else
            read_from(h, RANGE_AFTER, common.offset);
        return;
    }
    if (call->from == RANGE_AFTER && !g->n && !g->exhausted && g->scanned > call->offset) {
        read_on(h, RANGE_AFTER, g->scanned); /* all of them too old */
        return;
    }
    answer(h, h->op->reverse ? answer_back(h, g, gap) : answer_forward(h, g));
}

void redis_bus_history(struct redis_bus *rb, struct bus_history *op)
{
    struct history *h = bus_alloc(sizeof *h);
    const struct catch_up *cu = &op->cu;
    h->op = op;
    h->call.rb = rb;
    h->call.options = bus_ns(rb->be.bus, slice_str(op->channel));
    h->call.done = on_range;
    const bool newest = op->reverse || (cu->from == FROM_LAST_N && cu->last_n <= wanted(rb, cu));
    h->counts_back = cu->from == FROM_LAST_N && !newest;
    if (op->reverse && cu->from == FROM_POSITION && cu->since.offset)
        read_from(h, RANGE_UP_TO, cu->since.offset - 1);
    else if (op->reverse && cu->from == FROM_POSITION)
        read_from(h, RANGE_NOTHING, 0); /* nothing is before the first one */
    else if (newest)
        read_from(h, RANGE_UP_TO, RANGE_NEWEST);
    else if (cu->from == FROM_LAST_N && cu->last_n == UINT32_MAX)
        read_from(h, RANGE_AFTER, 0);
    else if (cu->from == FROM_POSITION)
        read_from(h, RANGE_AFTER, cu->since.offset);
    else
        read_from(h, RANGE_NOTHING, 0);
}
