/* timer.c - a hierarchical timer wheel.
 *
 * Level 0 has one slot per tick, each slot of level n spans all of level n - 1. A timer is placed
 * by its distance from the wheel's tick and placed again, lower, when the wheel reaches its slot.
 * `busy` has one bit per slot, so an empty stretch of any length is skipped instead of walked:
 * neither an idle loop nor a machine that slept for a week costs more than its timers.
 *
 * Invariant: busy bit = slot not empty; every armed timer's tick is past w->tick, except those of
 * the slot that is being fired.
 *
 * A slot is moved to a list of its own before it fires. Timers in there can be cancelled, set again
 * or freed by the callbacks like any other, and one set again for "now" waits for the next tick:
 * a timer that always sets itself with no delay cannot hold the wheel.
 */
#include "crier/timer.h"

#include "crier/err.h"

#include <string.h>

#define SLOT_BITS 6
#define SLOT_MASK ((uint64_t)TIMER_SLOTS - 1)
#define SPAN_TICKS ((uint64_t)1 << (SLOT_BITS * TIMER_LEVELS))
#define SPAN_MS (SPAN_TICKS * TIMER_TICK_MS)

_Static_assert(TIMER_SLOTS == 1 << SLOT_BITS, "the bitmaps have one bit per slot");

void timer_wheel_init(struct timer_wheel *w, uint64_t now_ms)
{
    memset(w, 0, sizeof *w);
    w->now_ms = now_ms;
    w->tick = now_ms / TIMER_TICK_MS;
    for (int level = 0; level < TIMER_LEVELS; level++)
        for (int i = 0; i < TIMER_SLOTS; i++)
            list_init(&w->slot[level][i]);
}

void timer_init(struct timer *t, void (*fire)(struct timer *t))
{
    list_init(&t->node);
    t->due_ms = 0;
    t->fire = fire;
}

/* Rounded up: a timer never fires early. */
static uint64_t due_tick(const struct timer *t)
{
    return t->due_ms / TIMER_TICK_MS + (t->due_ms % TIMER_TICK_MS != 0);
}

static void place(struct timer_wheel *w, struct timer *t, uint64_t at)
{
    uint64_t distance = at - w->tick;
    unsigned level = 0;

    /* The wheel can lag behind now_ms; what lies past the last slot is placed again from there. */
    if (distance >= SPAN_TICKS) {
        distance = SPAN_TICKS - 1;
        at = w->tick + distance;
    }
    while (distance >> (SLOT_BITS * (level + 1)))
        level++;
    uint64_t i = at >> (SLOT_BITS * level) & SLOT_MASK;
    list_push_back(&w->slot[level][i], &t->node);
    w->busy[level] |= (uint64_t)1 << i;
}

static void unlink_timer(struct timer_wheel *w, struct timer *t)
{
    struct list *neighbour = t->node.next;
    uintptr_t offset = (uintptr_t)neighbour - (uintptr_t)&w->slot[0][0];

    list_remove(&t->node);
    w->count--;
    /* An empty list is a lone head; only a slot's head lies inside the wheel (the list that is
     * being fired does not), and its place tells which bit to clear. */
    if (list_is_empty(neighbour) && offset < sizeof w->slot) {
        size_t i = offset / sizeof(struct list);
        w->busy[i / TIMER_SLOTS] &= ~((uint64_t)1 << (i % TIMER_SLOTS));
    }
}

void timer_set(struct timer_wheel *w, struct timer *t, uint64_t delay_ms)
{
    timer_cancel(w, t);
    t->due_ms = w->now_ms + (delay_ms < SPAN_MS ? delay_ms : SPAN_MS);

    uint64_t at = due_tick(t);
    place(w, t, at > w->tick ? at : w->tick + 1);
    w->count++;
}

void timer_cancel(struct timer_wheel *w, struct timer *t)
{
    if (timer_is_set(t))
        unlink_timer(w, t);
}

/* The next tick at which a slot that is not empty fires or is placed again; UINT64_MAX if none. */
static uint64_t next_busy_tick(const struct timer_wheel *w)
{
    uint64_t next = UINT64_MAX;

    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        if (!w->busy[level])
            continue;
        unsigned shift = SLOT_BITS * level;
        uint64_t after = (w->tick >> shift) + 1; /* the current slot comes last, a full turn away */
        unsigned first = (unsigned)(after & SLOT_MASK);
        uint64_t turned = w->busy[level] >> first;
        if (first)
            turned |= w->busy[level] << (TIMER_SLOTS - first);
        uint64_t at = (after + (unsigned)__builtin_ctzll(turned)) << shift;
        if (at < next)
            next = at;
    }
    return next;
}

/* Empties a slot into `out`. */
static void take_slot(struct timer_wheel *w, unsigned level, struct list *out)
{
    uint64_t i = w->tick >> (SLOT_BITS * level) & SLOT_MASK;

    list_init(out);
    list_splice_back(out, &w->slot[level][i]);
    w->busy[level] &= ~((uint64_t)1 << i);
}

/* From the top, so that what comes down a level is in time for the level below. */
static void cascade(struct timer_wheel *w)
{
    for (unsigned level = TIMER_LEVELS - 1; level > 0; level--) {
        uint64_t below = ((uint64_t)1 << (SLOT_BITS * level)) - 1;
        struct list moved, *node;
        if (w->tick & below)
            continue;
        take_slot(w, level, &moved);
        while ((node = list_pop_front(&moved))) {
            struct timer *t = container_of(node, struct timer, node);
            uint64_t at = due_tick(t);
            place(w, t, at > w->tick ? at : w->tick);
        }
    }
}

static void fire_slot(struct timer_wheel *w)
{
    struct list due, *node;

    take_slot(w, 0, &due);
    while ((node = list_pop_front(&due))) {
        struct timer *t = container_of(node, struct timer, node);
        w->count--;
        t->fire(t);
    }
}

void timer_wheel_tell_time(struct timer_wheel *w, uint64_t now_ms)
{
    if (now_ms > w->now_ms)
        w->now_ms = now_ms;
}

void timer_wheel_advance(struct timer_wheel *w, uint64_t now_ms)
{
    timer_wheel_tell_time(w, now_ms);

    uint64_t target = w->now_ms / TIMER_TICK_MS;
    while (w->tick < target) {
        uint64_t next = next_busy_tick(w);
        if (next > target) {
            w->tick = target;
            return;
        }
        w->tick = next;
        cascade(w);
        fire_slot(w);
    }
}

uint64_t timer_wheel_next_ms(const struct timer_wheel *w)
{
    if (w->count == 0)
        return UINT64_MAX;

    uint64_t at_ms = next_busy_tick(w) * TIMER_TICK_MS;
    return at_ms > w->now_ms ? at_ms - w->now_ms : 0;
}
