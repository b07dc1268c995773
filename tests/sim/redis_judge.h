/* redis_judge.h - whether what the bus says is so.
 *
 * Three rules. What follows a position is the message after it, in the tree of redis_truth.h. Where
 * that is not so, a gap is said, from where the listener is to where it goes on. And a gap has a
 * cause that existed between the question and the answer: the position was not of the server's
 * order, or its epoch was forgotten (more than 32 restarts since), or something was lost there or
 * before it, or what is passed over could not be read any more.
 *
 * A loss before the position may be told more than once (redis_listener.h): whether somebody was
 * told stands in its position only, and the messages after the loss have theirs from before.
 *
 * A verdict is NULL, or what is wrong.
 */
#ifndef CRIER_TESTS_REDIS_JUDGE_H
#define CRIER_TESTS_REDIS_JUDGE_H

#include "redis_server.h"

#define KNOWN_EPOCHS 32u

/* What the process `slot` can have learnt since a tick. */
struct window {
    const struct world *w;
    unsigned slot;
    int channel;
    uint64_t from;
};

static inline const struct truth *truth_of(const struct window *v)
{
    return &v->w->truth[v->channel];
}

/* A set of lives: what its commands can have gone to. */
static inline unsigned lives_since(const struct window *v)
{
    const struct slot *s = &v->w->slot[v->slot];
    unsigned lives = 0;
    for (size_t i = 0; i < s->n_seats; i++)
        if (i + 1 == s->n_seats || s->seat[i + 1].tick > v->from)
            lives |= 1u << s->seat[i].life;
    return lives;
}

/* What a process keeps itself may be of the life before: what was gone there is gone. */
static inline unsigned lives_ever(const struct window *v)
{
    struct window ever = *v;
    ever.from = 0;
    return lives_since(&ever);
}

static inline bool is_kept(const struct shelf *s, struct place p)
{
    const struct stream *st = &s->stream;
    if (!st->n || p.offset < st->entry[0].offset || p.offset > st->entry[st->n - 1].offset)
        return false;
    const struct entry *e = &st->entry[p.offset - st->entry[0].offset];
    return e->branch == p.branch && e->offset == p.offset;
}

/* Could a process in these lives have found that a message is not to be had? */
static inline bool may_be_gone(const struct window *v, unsigned lives, struct place p)
{
    const struct node *n = truth_node(truth_of(v), p);
    if (n->time_ms + options_of(v->w, v->channel)->history_ms <= WALL + v->w->now_ms)
        return true;
    for (int i = 0; i < v->w->n_lives; i++)
        if (lives & 1u << i && !is_kept(&v->w->life[i].shelf[v->channel], p))
            return true;
    return false;
}

/* Those on the way to `to` with offsets over `after`. */
static inline bool may_all_be_gone(const struct window *v, unsigned lives, uint64_t after,
                                   struct place to)
{
    for (uint64_t at = to.offset; at > after; at--) {
        struct place p = truth_down(truth_of(v), to.branch, at);
        if (truth_node(truth_of(v), p) && !may_be_gone(v, lives, p))
            return false;
    }
    return true;
}

/* --- gaps --- */

/* What an order says of a position. */
struct standing {
    bool known;     /* its epoch */
    bool forgotten; /* it may not be, there were so many since */
    bool newest;    /* the epoch may have been the newest one */
    bool older;     /* or may not */
    bool past;      /* the position is beyond the end of its epoch in this order */
    bool past_loss; /* something was lost there, or before it, in this order */
    uint64_t from, end;
    uint64_t common; /* what it shares with the order, known or not */
};

static inline struct standing standing_of(const struct window *v, const struct run *r,
                                          struct position p)
{
    const struct truth *t = truth_of(v);
    struct standing s = {.known = false};
    unsigned younger = 0;
    int b = truth_branch(t, p.epoch);
    s.common = truth_common(t, truth_place_up_to(t, p), r->head);
    s.known = b >= 0 && truth_end(t, b, r->head, &s.end, &younger);
    if (!s.known)
        return s;
    s.forgotten = younger > KNOWN_EPOCHS;
    s.newest = younger == 0;
    s.older = younger > 0;
    for (int i = r->head.branch; i != b; i = t->branch[i].parent)
        s.newest = t->branch[i].parent == b && t->branch[i].tick > v->from;
    s.past = p.offset > s.end;
    s.from = s.past ? s.end : p.offset;
    for (int i = b; i >= 0; i = t->branch[i].parent) {
        uint64_t end;
        (void)truth_end(t, i, r->head, &end, &younger);
        s.past_loss |= end <= p.offset && truth_is_loss(t, i, r->head);
    }
    return s;
}

static inline bool is_cause(const struct standing *s, enum gap_reason why)
{
    if (why == GAP_AHEAD)
        return s->known && s->past && s->newest;
    return why == GAP_EPOCH && (!s->known || s->forgotten || (s->past && s->older) || s->past_loss);
}

/* Nothing that the listener has not had is passed over, if it can be had. */
static inline bool is_near(const struct window *v, const struct run *r, const struct standing *s,
                           struct place to)
{
    const struct truth *t = truth_of(v);
    unsigned lives = lives_ever(v);
    if (!truth_is_on(t, to, r->head))
        return false;
    if (!s->known || s->forgotten) /* a process may know where it came from */
        return may_all_be_gone(v, lives, 0, to) ||
               (to.offset >= s->common && may_all_be_gone(v, lives, s->common, to));
    if (to.offset >= s->from)
        return may_all_be_gone(v, lives, s->from, to);
    /* It was ahead of what there was then. */
    const struct node *next = truth_node(t, truth_down(t, r->head.branch, to.offset + 1));
    return s->newest && next && next->tick > v->from;
}

static inline const char *judge_order_gap(const struct window *v, enum gap_reason why,
                                          struct position since, struct place to)
{
    const char *wrong = "a gap without cause";
    unsigned lives = lives_since(v);
    for (int i = 0; i < v->w->n_lives; i++) {
        const struct shelf *s = &v->w->life[i].shelf[v->channel];
        for (size_t k = 0; lives & 1u << i && k < s->n_runs; k++) {
            if (s->run[k].to < v->from)
                continue;
            struct standing st = standing_of(v, &s->run[k], since);
            if (!is_cause(&st, why))
                continue;
            if (is_near(v, &s->run[k], &st, to))
                return NULL;
            wrong = "a gap that goes on elsewhere than it must";
        }
    }
    return wrong;
}

static inline const char *judge_gap(const struct window *v, enum gap_reason why,
                                    struct position since, struct position resumed)
{
    struct place from = truth_place(truth_of(v), since);
    struct place to = truth_place(truth_of(v), resumed);
    if (to.branch < 0)
        return "a gap that ends nowhere";
    if (why != GAP_EXPIRED)
        return judge_order_gap(v, why, since, to);
    if (!truth_is_on(truth_of(v), from, to) || to.offset <= from.offset)
        return "an expired gap that leads nowhere";
    return may_all_be_gone(v, lives_ever(v), from.offset, to) ? NULL
                                                              : "a gap over what could be had";
}

/* A loss that came to light when the listener, at pos, was past it: the gap begins there. */
static inline const char *judge_late_gap(const struct window *v, struct position since,
                                         struct position pos)
{
    const struct truth *t = truth_of(v);
    int b = truth_branch(t, since.epoch);
    /* Of its own epoch, though it may have nothing yet: those before may have got no further. */
    const struct place at = {truth_branch(t, pos.epoch), pos.offset};
    uint64_t end;
    unsigned younger;
    if (b < 0 || !truth_end(t, b, at, &end, &younger) || end != since.offset)
        return "a late gap where no epoch ended";
    return truth_is_loss(t, b, at) ? NULL : "a late gap where nothing was lost";
}

/* --- messages and pages --- */

static inline const char *judge_message(const struct window *v, struct place at,
                                        const struct msg *m)
{
    struct place p = truth_place(truth_of(v), m->pos);
    const struct node *n = truth_node(truth_of(v), p);
    if (!n || truth_branch(truth_of(v), m->pos.epoch) != p.branch)
        return "a message with a position that was never given";
    char text[16] = "";
    memcpy(text, m->payload.ptr, m->payload.len < 15 ? m->payload.len : 15);
    if (strtoul(text + 1, NULL, 10) != n->uid)
        return "another message than the one at that position";
    if (m->time_ms != n->time_ms)
        return "another time than the message's";
    if (place_is(truth_before(truth_of(v), p), at))
        return NULL;
    return truth_is_on(truth_of(v), p, at)   ? "a message twice, or late"
           : truth_is_on(truth_of(v), at, p) ? "a message is missing"
                                             : "a message of another order without a gap";
}

/* since: what was asked for; the answer may put a loss before it in its place. */
static inline const char *judge_start(const struct window *v, const struct catch_up *cu,
                                      struct position since)
{
    struct place start = truth_place(truth_of(v), cu->start);
    struct place head = truth_place(truth_of(v), cu->head);
    if (start.branch < 0 || head.branch < 0)
        return "an answer that is nowhere";
    if (!truth_is_on(truth_of(v), start, head))
        return "an answer that begins beside the way to the head";
    if (cu->from == FROM_POSITION) {
        if (cu->gap == GAP_EXPIRED &&
            (cu->lost_to.epoch != cu->start.epoch || cu->lost_to.offset != cu->start.offset))
            return "what is lost does not end where the answer starts";
        const char *wrong = NULL;
        if (since.epoch != cu->since.epoch || since.offset != cu->since.offset)
            wrong = cu->gap == GAP_EPOCH ? judge_late_gap(v, cu->since, since)
                                         : "an answer to another position";
        if (wrong || cu->gap)
            return wrong ? wrong : judge_gap(v, cu->gap, since, cu->start);
        return place_is(truth_place(truth_of(v), since), start)
                   ? NULL
                   : "an answer that begins elsewhere than asked, without a gap";
    }
    if (cu->gap)
        return "a gap for who has no past";
    if (cu->from == FROM_NOW)
        return place_is(start, head) && !cu->count && cu->complete ? NULL : "now is not now";
    if (cu->count > cu->last_n)
        return "more of the last messages than asked for";
    uint64_t least = head.offset > cu->last_n ? head.offset - cu->last_n : 0;
    return may_all_be_gone(v, lives_ever(v), least, start) ? NULL : "too few of the last messages";
}

static inline const char *judge_size(const struct catch_up *cu)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < cu->count; i++)
        bytes += cu->msgs[i]->payload.len;
    if (cu->count > 1 && (cu->count > cu->max_messages || bytes > cu->max_bytes))
        return "a page that is too large";
    return NULL;
}

/* *at: where it ends. */
static inline const char *judge_page(const struct window *v, const struct catch_up *cu,
                                     struct position since, struct place *at)
{
    const char *wrong = judge_start(v, cu, since);
    struct place head = truth_place(truth_of(v), cu->head);
    *at = truth_place(truth_of(v), cu->start);
    for (uint32_t i = 0; !wrong && i < cu->count; i++) {
        wrong = judge_message(v, *at, cu->msgs[i]);
        *at = truth_place(truth_of(v), cu->msgs[i]->pos);
    }
    if (wrong)
        return wrong;
    if (cu->complete && !place_is(*at, head))
        return "complete, and yet not at the head";
    if (!cu->complete && !cu->count && cu->gap != GAP_AHEAD) /* it was, and there came more */
        return "neither a message nor the end";
    if (!truth_is_on(truth_of(v), *at, head))
        return "a page beside the way to the head";
    return judge_size(cu);
}

/* --- histories --- */

/* Newest first; `since` is excluded. */
static inline const char *judge_back(const struct window *v, const struct catch_up *cu)
{
    const struct truth *t = truth_of(v);
    struct place head = truth_place(t, cu->head), top = head;
    if (head.branch < 0)
        return "an answer that is nowhere";
    if (cu->from == FROM_POSITION && !cu->gap) {
        struct position last = cu->since;
        last.offset -= last.offset > 0;
        top = truth_place(t, last);
        if (!truth_is_on(t, top, head))
            return "a bound of another order, without a gap";
    }
    struct place last = top;
    for (uint32_t i = 0; i < cu->count; i++) {
        struct place p = truth_place(t, cu->msgs[i]->pos);
        const char *wrong = truth_node(t, p) ? judge_message(v, truth_before(t, p), cu->msgs[i])
                                             : "a message with a position that was never given";
        if (wrong)
            return wrong;
        if (i == 0 &&
            (!truth_is_on(t, p, top) || !may_all_be_gone(v, lives_since(v), p.offset, top)))
            return "not the newest before the bound";
        if (i > 0 && !place_is(p, truth_before(t, last)))
            return "not the one before";
        last = p;
    }
    uint64_t n = cu->count ? last.offset - 1 : top.offset;
    if (cu->complete && cu->from != FROM_LAST_N &&
        !may_all_be_gone(v, lives_since(v), 0, truth_down(t, head.branch, n)))
        return "complete, and yet there was more";
    return cu->complete || cu->count ? judge_size(cu) : "neither a message nor the end";
}

/* A history leaves out what is too old by the server's clock; the tails of processes are looked
 * through for that only now and then. */
static inline const char *judge_age(const struct window *v, const struct catch_up *cu,
                                    uint64_t then_ms)
{
    for (uint32_t i = 0; i < cu->count; i++)
        if (cu->msgs[i]->time_ms + options_of(v->w, v->channel)->history_ms <= WALL + then_ms)
            return "a message that is older than is kept";
    return NULL;
}

/* As long as it was one order in one life, what was there at the question is in the answer. */
static inline const char *judge_fresh(const struct window *v, const struct catch_up *cu,
                                      struct place then)
{
    const struct slot *s = &v->w->slot[v->slot];
    const struct seat *seat = &s->seat[s->n_seats - 1];
    const struct shelf *f = &v->w->life[seat->life].shelf[v->channel];
    if (seat->tick > v->from || then.branch < 0 || !f->n_runs ||
        f->run[f->n_runs - 1].from > v->from)
        return NULL;
    return truth_is_on(truth_of(v), then, truth_place(truth_of(v), cu->head))
               ? NULL
               : "a history that is older than the question";
}

#endif
