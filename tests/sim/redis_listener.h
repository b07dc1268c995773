/* redis_listener.h - those who listen and resume at another process with what they have. Everything
 * that comes is judged as it comes.
 */
#ifndef CRIER_TESTS_REDIS_LISTENER_H
#define CRIER_TESTS_REDIS_LISTENER_H

#include "redis_judge.h"

/* What an op was about; its context. */
struct ask {
    struct world *w;
    struct listener *l; /* borrowed; NULL */
    struct author *a;   /* borrowed; NULL */
    uint32_t serial, uid;
    unsigned slot;
    int channel;
    bool has_key;
    uint64_t tick, now_ms;
    struct position since; /* that a catch-up asks for */
    struct place head;     /* of the server then */
};

static inline struct ask *ask_new(struct world *w, unsigned slot, int channel)
{
    struct ask *a = calloc(1, sizeof *a);
    BUG_ON(!a);
    const struct slot *s = &w->slot[slot];
    *a = (struct ask){
        .w = w, .slot = slot, .channel = channel, .tick = ++w->tick, .now_ms = w->now_ms};
    a->head = NOWHERE;
    if (s->n_seats) {
        int life = s->seat[s->n_seats - 1].life;
        struct place head = shelf_head(&w->truth[channel], &w->life[life].shelf[channel]);
        a->head = truth_down(&w->truth[channel], head.branch, head.offset);
    }
    w->outstanding++;
    return a;
}

static inline struct window window_of(const struct ask *a)
{
    return (struct window){.w = a->w, .slot = a->slot, .channel = a->channel, .from = a->tick};
}

static inline void ask_done(struct ask *a, struct bus_op *op)
{
    a->w->outstanding--;
    free(a);
    bus_op_free(op);
}

static inline bool is_away(const struct ask *a, const struct bus_op *op)
{
    if (op->err && op->err != ERR_UNAVAILABLE)
        world_fail(a->w, "an op was answered %s", err_str(op->err));
    return op->err != ERR_OK;
}

static inline void say_wrong(struct world *w, const struct listener *l, const char *wrong)
{
    if (wrong)
        world_fail(w, "listener %u of %s at bus %u: %s (it is at %u,%" PRIu64 ")", l->number,
                   channel_name[l->channel], l->slot, wrong, l->pos.epoch, l->pos.offset);
}

/* --- where a listener is --- */

static inline void listener_at(struct listener *l, struct position pos)
{
    l->pos = pos;
    l->at = truth_place(&l->w->truth[l->channel], pos);
    l->known = true;
}

/* It goes on into another epoch, and nothing is said: if something was lost there, that must be
 * said later. Who was told of a gap stands in the newest epoch, and has passed nothing until it is
 * further than there. */
static inline void note_passed(struct listener *l, struct position next)
{
    const struct truth *t = &l->w->truth[l->channel];
    int mine = truth_branch(t, l->pos.epoch), b = truth_branch(t, next.epoch);
    uint64_t end;
    unsigned younger;
    bool told = !truth_end(t, mine, (struct place){b, next.offset}, &end, &younger);
    for (; b >= 0 && b != mine && t->branch[b].parent >= 0; b = t->branch[b].parent) {
        const struct branch *br = &t->branch[b];
        if (br->base < l->at.offset || (told && br->base == l->at.offset) ||
            l->n_passed == PASSED_MAX)
            return;
        l->passed[l->n_passed++] = (struct position){t->branch[br->parent].epoch, br->base};
    }
}

static inline bool same_position(struct position a, struct position b)
{
    return a.epoch == b.epoch && a.offset == b.offset;
}

/* Who comes with a position of an epoch that is gone may be at a process that never heard of it,
 * and is told only that: everything before it is in doubt. */
static inline bool is_of_another_order(const struct listener *l, struct position since,
                                       struct position resumed)
{
    const struct truth *t = &l->w->truth[l->channel];
    const struct place to = {truth_branch(t, resumed.epoch), resumed.offset};
    uint64_t end;
    unsigned younger;
    return same_position(since, l->pos) &&
           !truth_end(t, truth_branch(t, since.epoch), to, &end, &younger);
}

/* A gap covers what it passed on a way that the order has left, and what it passed after `since`.
 */
static inline void forget_passed(struct listener *l, struct position since, struct place resumed)
{
    const struct truth *t = &l->w->truth[l->channel];
    for (unsigned i = 0; i < l->n_passed; i++)
        if (l->passed[i].offset >= since.offset ||
            !truth_is_on(t, truth_down(t, l->at.branch, l->passed[i].offset + 1), resumed))
            l->passed[i--] = l->passed[--l->n_passed];
}

/* Who stops between a loss and where it was found is told again, but not with the same words. */
static inline const char *note_told(struct listener *l, enum gap_reason why, struct position since,
                                    struct position resumed)
{
    if (why != GAP_EPOCH)
        return NULL;
    bool again =
        l->is_told && same_position(since, l->told_since) && same_position(resumed, l->told);
    l->is_told = true;
    l->told_since = since;
    l->told = resumed;
    return again ? "told of the same loss twice in the same place" : NULL;
}

static inline void listener_message(struct listener *l, const struct msg *m)
{
    note_passed(l, m->pos);
    listener_at(l, m->pos);
    l->w->seen->msgs++;
}

/* --- joining, pages --- */

static inline const char *state_name(enum listener_state s)
{
    static const char *const name[] = {"away", "joining", "behind", "paging", "live"};
    return name[s];
}

static inline void on_left(struct bus_op *op)
{
    struct ask *a = op->ctx;
    if (op->err)
        world_fail(a->w, "a leave was answered %s", err_str(op->err));
    ask_done(a, op);
}

static inline void listener_leave(struct listener *l)
{
    struct world *w = l->w;
    struct bus_leave *op = bus_leave_new(on_left, ask_new(w, l->slot, l->channel));
    op->channel = slice_dup(slice_str(channel_name[l->channel]));
    op->client = l->client;
    trace(w, "listener %u leaves bus %u (%s)", l->number, l->slot, state_name(l->state));
    bus_submit(w->slot[l->slot].port[l->port], &op->op);
    l->state = AWAY;
    l->serial++;
}

static inline void trace_answer(const struct ask *a, const struct bus_op *op,
                                const struct catch_up *cu)
{
    if (op->err)
        trace(a->w, "bus %u: %s", a->slot, err_str(op->err));
    else
        trace(a->w,
              "bus %u answers %s%d: since %u,%" PRIu64 " gap %s start %u,%" PRIu64
              " count %u head %u,%" PRIu64 "%s",
              a->slot, a->l ? "listener " : "history ", a->l ? (int)a->l->number : a->channel,
              cu->since.epoch, cu->since.offset, gap_reason_str(cu->gap), cu->start.epoch,
              cu->start.offset, cu->count, cu->head.epoch, cu->head.offset,
              cu->complete ? " complete" : "");
}

static inline void take_page(struct listener *l, const struct ask *a, const struct catch_up *cu)
{
    struct window v = window_of(a);
    struct place end;
    const char *wrong = judge_page(&v, cu, a->since, &end);
    say_wrong(l->w, l, wrong);
    if (wrong)
        return;
    l->w->seen->gap[cu->gap]++;
    say_wrong(l->w, l, note_told(l, cu->gap, cu->since, cu->start));
    if (cu->gap == GAP_EPOCH && l->known && is_of_another_order(l, cu->since, cu->start))
        l->n_passed = 0;
    if (cu->gap && l->known)
        forget_passed(l, cu->since, truth_place(&l->w->truth[l->channel], cu->start));
    listener_at(l, cu->start);
    if (cu->gap && one_in(l->w, 4)) { /* some are closed by a gap, and come back with its end */
        listener_leave(l);
        return;
    }
    for (uint32_t i = 0; i < cu->count; i++)
        listener_message(l, cu->msgs[i]);
    l->state = cu->complete ? LIVE : BEHIND;
}

static inline void on_caught_up(struct bus_op *op, const struct catch_up *cu)
{
    struct ask *a = op->ctx;
    struct listener *l = a->l;
    bool away = is_away(a, op);
    trace_answer(a, op, cu);
    if (l->serial == a->serial && away) {
        a->w->seen->failed_joins++;
        listener_leave(l);
    } else if (l->serial == a->serial) {
        take_page(l, a, cu);
    }
    ask_done(a, op);
}

static inline void on_joined(struct bus_op *op)
{
    on_caught_up(op, &container_of(op, struct bus_join, op)->cu);
}

static inline void on_page(struct bus_op *op)
{
    on_caught_up(op, &container_of(op, struct bus_page, op)->cu);
}

static inline struct catch_up limits(struct world *w)
{
    static const uint32_t messages[] = {0, 1, 2, 7, 50, 1000};
    return (struct catch_up){.max_messages = messages[chance(w, 6)],
                             .max_bytes = one_in(w, 3) ? chance(w, 300) : 1 << 20};
}

/* A position that is none, or not any more, or that this process has never heard of. */
static inline struct position odd_position(struct world *w, const struct listener *l)
{
    const struct truth *t = &w->truth[l->channel];
    struct position p = l->pos;
    switch (chance(w, 4)) {
    case 0:
        p.epoch = 1 + chance(w, CURSOR_EPOCH_MAX);
        break;
    case 1:
        p.offset += 1000000;
        break;
    case 2:
        p.offset = p.offset ? chance_u64(w) % p.offset : 0;
        p.epoch = t->branch[truth_down(t, l->at.branch, p.offset).branch].epoch;
        break;
    default: {
        const struct listener *other = &w->listener[chance(w, LISTENERS)];
        if (other->known && other->channel == l->channel)
            p = other->pos;
    }
    }
    return p;
}

static inline struct catch_up wish(struct listener *l)
{
    struct world *w = l->w;
    struct catch_up cu = limits(w);
    cu.from = FROM_POSITION;
    cu.since = l->pos;
    if (!l->known || (one_in(w, 8) && !w->calm)) {
        cu.from = one_in(w, 2) ? FROM_NOW : FROM_LAST_N;
        cu.last_n = one_in(w, 3) ? chance(w, 700) : chance(w, 12);
    } else if (one_in(w, 12) && !w->calm) {
        cu.since = odd_position(w, l);
    }
    return cu;
}

static inline void listener_join(struct listener *l)
{
    struct world *w = l->w;
    l->slot = chance(w, w->n_slots);
    if (!w->slot[l->slot].bus)
        return;
    l->port = chance(w, w->slot[l->slot].n_ports);
    l->client = ++w->next_client;
    struct ask *a = ask_new(w, l->slot, l->channel);
    struct bus_join *op = bus_join_new(on_joined, a);
    a->l = l;
    a->serial = ++l->serial;
    op->channel = slice_dup(slice_str(channel_name[l->channel]));
    op->member = (struct bus_member){.client = l->client, .transport = "ws"};
    op->cu = wish(l);
    a->since = op->cu.since;
    if (op->cu.from != FROM_POSITION || !same_position(op->cu.since, l->pos)) {
        l->is_told = false; /* it begins anew */
        l->n_passed = 0;
    }
    w->seen->joined++;
    w->seen->resumed += op->cu.from == FROM_POSITION;
    trace(w, "listener %u joins %s at bus %u: %s %u,%" PRIu64 " last %u", l->number,
          channel_name[l->channel], l->slot,
          op->cu.from == FROM_NOW      ? "now"
          : op->cu.from == FROM_LAST_N ? "last"
                                       : "since",
          op->cu.since.epoch, op->cu.since.offset, op->cu.last_n);
    bus_submit(w->slot[l->slot].port[l->port], &op->op);
    l->state = JOINING;
}

static inline void listener_ask_page(struct listener *l)
{
    struct world *w = l->w;
    struct ask *a = ask_new(w, l->slot, l->channel);
    struct bus_page *op = bus_page_new(on_page, a);
    a->l = l;
    a->serial = l->serial;
    op->channel = slice_dup(slice_str(channel_name[l->channel]));
    op->cu = limits(w);
    op->cu.from = FROM_POSITION;
    op->cu.since = a->since = l->pos;
    w->seen->pages++;
    bus_submit(w->slot[l->slot].port[l->port], &op->op);
    l->state = PAGING;
}

static inline bool listener_step(struct listener *l)
{
    struct world *w = l->w;
    switch (l->state) {
    case AWAY:
        if (l->known && one_in(w, 40) && !w->calm) { /* somebody else, elsewhere */
            l->channel = any_channel(w);
            l->known = false;
        }
        listener_join(l);
        return true;
    case BEHIND:
        listener_ask_page(l);
        return true;
    default:
        if (!w->calm && one_in(w, l->state == LIVE ? 6 : 40))
            listener_leave(l);
        return false;
    }
}

/* The process they listened to is gone. */
static inline void listeners_cut(struct world *w, unsigned slot)
{
    for (int i = 0; i < LISTENERS; i++) {
        if (w->listener[i].slot != slot || w->listener[i].state == AWAY)
            continue;
        w->listener[i].state = AWAY;
        w->listener[i].serial++;
    }
}

/* --- live --- */

static inline void hear_gap(struct listener *l, const struct bus_event *ev)
{
    struct world *w = l->w;
    const struct truth *t = &w->truth[l->channel];
    const struct node *n = truth_node(t, l->at);
    /* The bus was there at any time since; when it gave it on is not seen here. */
    struct window v = {.w = w,
                       .slot = l->slot,
                       .channel = l->channel,
                       .from = n ? n->tick : t->branch[l->at.branch].tick};
    struct place since = truth_place(t, ev->since), resumed = truth_place(t, ev->resumed);
    if (!place_is(since, l->at)) {
        const char *wrong = judge_late_gap(&v, ev->since, l->pos);
        if (ev->gap != GAP_EPOCH || wrong)
            wrong = "a gap that does not begin where the listener is";
        say_wrong(w, l, wrong);
        w->seen->late_gaps++;
    }
    say_wrong(w, l, judge_gap(&v, ev->gap, l->pos, ev->resumed));
    if (ev->gap == GAP_EPOCH)
        w->unwound[w->n_unwound++ % UNWOUND] = (struct unwound){l->channel, ev->since, ev->resumed};
    say_wrong(w, l, note_told(l, ev->gap, ev->since, ev->resumed));
    forget_passed(l, ev->since, resumed);
    listener_at(l, ev->resumed);
    w->seen->live_gaps++;
}

struct ear {
    struct world *w;
    unsigned slot, port;
};

static inline void on_event(void *ctx, const struct bus_event *ev)
{
    const struct ear *ear = ctx;
    struct world *w = ear->w;
    bool message = ev->kind == BUS_EVENT_MESSAGE;
    int channel = channel_index(message ? ev->msg->channel : ev->channel);
    if (!message && ev->kind != BUS_EVENT_GAP)
        return;
    struct position p = message ? ev->msg->pos : ev->resumed;
    trace(w, "bus %u port %u %s %s %u,%" PRIu64 " (since %u,%" PRIu64 ")", ear->slot, ear->port,
          channel_name[channel], message ? "message" : gap_reason_str(ev->gap), p.epoch, p.offset,
          ev->since.epoch, ev->since.offset);
    for (int i = 0; i < LISTENERS; i++) {
        struct listener *l = &w->listener[i];
        if (l->state != LIVE || l->slot != ear->slot || l->port != ear->port ||
            l->channel != channel || w->failed[0])
            continue;
        if (!message) {
            hear_gap(l, ev);
            continue;
        }
        const struct window v = {.w = w, .slot = l->slot, .channel = channel};
        say_wrong(w, l, judge_message(&v, l->at, ev->msg));
        listener_message(l, ev->msg);
    }
}

#endif
