/* trim.c - when to give freed memory back (see trim.h).
 *
 * Invariant: the timer is set exactly while at least TRIM_WORTH connections ended since the last
 * trim. So a server that is idle, or has few and long connections, never wakes up for this.
 */
#include "crier/trim.h"

#include <malloc.h>

void trim_malloc(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

static void on_look(struct timer *timer)
{
    struct trimmer *t = container_of(timer, struct trimmer, timer);
    uint64_t lately = t->ended - t->seen;
    if (lately > TRIM_QUIET && ++t->looks < TRIM_LOOKS_MAX) {
        t->seen = t->ended;
        timer_set(t->wheel, timer, TRIM_LOOK_MS);
        return;
    }
    t->ended = t->seen = 0;
    t->looks = 0;
    t->trim();
}

void trimmer_init(struct trimmer *t, struct timer_wheel *wheel, void (*trim)(void))
{
    *t = (struct trimmer){.wheel = wheel, .trim = trim};
    timer_init(&t->timer, on_look);
}

void trimmer_release(struct trimmer *t)
{
    timer_cancel(t->wheel, &t->timer);
}

void trimmer_note(struct trimmer *t)
{
    if (++t->ended == TRIM_WORTH) {
        t->seen = t->ended;
        timer_set(t->wheel, &t->timer, TRIM_LOOK_MS);
    }
}
