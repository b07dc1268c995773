/* timer.h - a timer wheel; timers are embedded in their owners.
 *
 * Hierarchical wheel with ticks of TIMER_TICK_MS: setting and cancelling are O(1), a timer fires at
 * or up to one tick after its time, never before. The wheel has no clock of its own: the loop (or a
 * test) advances it. Single owner, no locks.
 */
#ifndef CRIER_TIMER_H
#define CRIER_TIMER_H

#include "crier/list.h"

#include <stdint.h>

#define TIMER_TICK_MS 8
#define TIMER_LEVELS 5
#define TIMER_SLOTS 64

struct timer {
    struct list node; /* in a slot, or alone */
    uint64_t due_ms;
    void (*fire)(struct timer *t); /* may set or cancel any timer, and free the owner of this one */
};

struct timer_wheel {
    uint64_t now_ms;
    uint64_t tick; /* now_ms / TIMER_TICK_MS, as far as the wheel has turned */
    size_t count;
    uint64_t busy[TIMER_LEVELS]; /* bit i: slot i has a timer */
    struct list slot[TIMER_LEVELS][TIMER_SLOTS];
};

void timer_wheel_init(struct timer_wheel *w, uint64_t now_ms);
void timer_init(struct timer *t, void (*fire)(struct timer *t));
/* (Re)arms: fires delay_ms from w->now_ms. Delays beyond the wheel's span (about 99 days) are cut.
 */
void timer_set(struct timer_wheel *w, struct timer *t, uint64_t delay_ms);
/* Safe when not armed. */
void timer_cancel(struct timer_wheel *w, struct timer *t);
static inline int timer_is_set(const struct timer *t)
{
    return list_is_linked(&t->node);
}
/* Says what time it is without firing anything, so that timers set from now on count from it. */
void timer_wheel_tell_time(struct timer_wheel *w, uint64_t now_ms);
/* Fires everything due up to now_ms (never goes back). */
void timer_wheel_advance(struct timer_wheel *w, uint64_t now_ms);
/* Milliseconds until the next timer may be due (a lower bound, > 0 unless overdue);
 * UINT64_MAX when none is set. */
uint64_t timer_wheel_next_ms(const struct timer_wheel *w);

#endif
