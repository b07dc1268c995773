/* history.h - what one logical client saw of one channel, and the judge of it.
 *
 * A client outlives its connections. Its history is judged after the run, against the order in
 * which the bus really put the messages: from where it was told to start, every message exactly
 * once and in order, except ranges covered by a gap that was said first, and no gap without cause.
 *
 * `pos` is how far the client has got. `floor` is how far it may fall back when it resumes without
 * hearing a message twice: a gap that was said, but in a cursor that it does not have yet.
 */
#ifndef CRIER_TESTS_HISTORY_H
#define CRIER_TESTS_HISTORY_H

#include "crier/bus.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum event_kind {
    EV_START, /* subscribed: `asked` for (epoch 0: nothing special), told to begin after `pos` */
    EV_MSG,
    EV_GAP,
    EV_MARK, /* the server named the client's position: an id line, the reason of a Close */
    EV_END,  /* unsubscribed, or the connection ended */
    EV_HEAD, /* everything is delivered: the newest position there is */
};

struct event {
    enum event_kind kind;
    enum gap_reason reason;
    bool silent; /* START: a cursor was sent that says nothing about this channel */
    bool caused; /* GAP: what it says was true */
    struct position asked, pos;
    uint32_t uid; /* MSG */
};

struct history {
    struct event *ev; /* owned */
    size_t n, cap;
};

static inline void history_add(struct history *h, struct event ev)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 64;
        h->ev = realloc(h->ev, h->cap * sizeof(*h->ev));
        BUG_ON(!h->ev);
    }
    h->ev[h->n++] = ev;
}

static inline void history_release(struct history *h)
{
    free(h->ev);
    *h = (struct history){0};
}

/* The message that the bus put there; 0 when there is none. */
typedef uint32_t (*uid_at_fn)(const void *ctx, struct position pos);

struct judge {
    bool listening, owed; /* owed: a gap must be said next */
    bool known;
    struct position pos, floor, told;
    uid_at_fn uid_at;
    const void *ctx;
};

static inline bool same_position(struct position a, struct position b)
{
    return a.epoch == b.epoch && a.offset == b.offset;
}

static inline const char *judge_start(struct judge *j, const struct event *e)
{
    if (j->listening)
        return "subscribed twice";
    j->listening = true;
    j->told = e->pos;
    if (!e->asked.epoch) {
        j->pos = j->floor = e->pos;
        j->known = true;
        j->owed = e->silent;
        return NULL;
    }
    if (j->known && !same_position(e->asked, j->pos) && !same_position(e->asked, j->floor))
        return "the test client did not resume from where it was";
    j->known = true;
    j->pos = j->floor = e->asked;
    j->owed = !same_position(e->asked, e->pos);
    return NULL;
}

static inline const char *judge_msg(struct judge *j, const struct event *e)
{
    if (!j->listening)
        return "a message outside of a subscription";
    if (j->owed)
        return "a silent gap: messages before it was said";
    if (e->pos.epoch != j->pos.epoch)
        return "the epoch changed silently";
    if (e->pos.offset <= j->pos.offset)
        return "a message twice, or late";
    if (e->pos.offset != j->pos.offset + 1)
        return "a message is missing";
    if (j->uid_at(j->ctx, e->pos) != e->uid)
        return "another message than the one at that position";
    j->pos = j->floor = e->pos;
    return NULL;
}

static inline const char *judge_gap(struct judge *j, const struct event *e)
{
    if (!j->listening)
        return "a gap outside of a subscription";
    if (!e->caused)
        return "a gap without cause";
    if (j->owed && !same_position(e->pos, j->told))
        return "the gap ends elsewhere than the subscription starts";
    if (e->reason == GAP_NO_POSITION) {
        j->floor = e->pos;
        j->owed = false;
        return same_position(e->pos, j->told) ? NULL : "no_position in the middle";
    }
    if (!same_position(e->asked, j->pos))
        return "the gap does not begin where the client is";
    if (e->reason == GAP_EXPIRED &&
        (e->pos.epoch != j->pos.epoch || e->pos.offset <= j->pos.offset))
        return "an expired gap that goes nowhere";
    if (e->reason == GAP_EPOCH && (!j->owed || e->pos.epoch == j->pos.epoch))
        return "a gap of epoch within one epoch";
    j->owed = false;
    j->pos = e->pos;
    return NULL;
}

static inline const char *judge_mark(struct judge *j, const struct event *e)
{
    if (same_position(e->pos, j->pos))
        j->floor = j->pos;
    else if (!same_position(e->pos, j->floor))
        return "a cursor from the server that is not where the client is";
    return NULL;
}

static inline const char *judge_event(struct judge *j, const struct event *e)
{
    switch (e->kind) {
    case EV_START:
        return judge_start(j, e);
    case EV_MSG:
        return judge_msg(j, e);
    case EV_GAP:
        return judge_gap(j, e);
    case EV_MARK:
        return judge_mark(j, e);
    case EV_END:
        j->listening = j->owed = false;
        return NULL;
    case EV_HEAD:
        return !j->listening || (same_position(e->pos, j->pos) && !j->owed)
                   ? NULL
                   : "the last messages never came";
    }
    return "unknown event";
}

/* The events up to `last`, for whoever reads a failure. */
static inline void history_print(const struct history *h, size_t last)
{
    static const char *const kind[] = {"start", "message", "gap", "mark", "end", "head"};
    for (size_t i = last > 12 ? last - 12 : 0; i <= last && i < h->n; i++) {
        const struct event *e = &h->ev[i];
        printf("  %zu %s (%u,%" PRIu64 ")", i, kind[e->kind], e->pos.epoch, e->pos.offset);
        if (e->asked.epoch)
            printf(" since (%u,%" PRIu64 ")", e->asked.epoch, e->asked.offset);
        puts(e->kind == EV_GAP ? gap_reason_str(e->reason) : "");
    }
}

/* NULL when all is well; else what is wrong with the event *at. */
static inline const char *history_judge(const struct history *h, uid_at_fn uid_at, const void *ctx,
                                        size_t *at)
{
    struct judge j = {.uid_at = uid_at, .ctx = ctx};
    for (*at = 0; *at < h->n; ++*at) {
        const char *wrong = judge_event(&j, &h->ev[*at]);
        if (wrong)
            return wrong;
    }
    return NULL;
}

#endif
