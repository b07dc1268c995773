/* test_timer.c - the timer wheel against a model that keeps all due times in an array. */
#include "crier/err.h"
#include "crier/rnd.h"
#include "crier/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_PROBES 300
#define DAY_MS ((uint64_t)86400000)
#define SPAN_MS ((uint64_t)TIMER_TICK_MS << 30)

/* A timer that knows when it must fire; `w` is the wheel it sits in. */
struct probe {
    struct timer timer;
    struct timer_wheel *w;
    uint64_t due_ms; /* by the model */
    bool set;
    unsigned fired;
    uint64_t fired_ms;
};

static struct probe probes[N_PROBES];
static uint64_t last_fired_due_tick;

static uint64_t tick_up(uint64_t ms)
{
    return (ms + TIMER_TICK_MS - 1) / TIMER_TICK_MS;
}

static void probe_fired(struct timer *t)
{
    struct probe *p = container_of(t, struct probe, timer);

    assert_true(p->set);
    assert_false(timer_is_set(t));
    assert_true(p->w->now_ms >= p->due_ms);
    p->set = false;
    p->fired++;
    p->fired_ms = p->w->now_ms;
}

static void init_probe(struct probe *p, struct timer_wheel *w)
{
    *p = (struct probe){.w = w};
    timer_init(&p->timer, probe_fired);
}

static void set_probe(struct probe *p, uint64_t delay_ms)
{
    timer_set(p->w, &p->timer, delay_ms);
    p->set = true;
    p->due_ms = p->w->now_ms + (delay_ms < SPAN_MS ? delay_ms : SPAN_MS);
    assert_true(timer_is_set(&p->timer));
}

static void test_an_idle_wheel_has_nothing_next(void **state)
{
    struct timer_wheel w;

    (void)state;
    timer_wheel_init(&w, 12345);
    assert_true(timer_wheel_next_ms(&w) == UINT64_MAX);
    timer_wheel_advance(&w, 12345 + 1000 * DAY_MS);
    assert_true(w.now_ms == 12345 + 1000 * DAY_MS);
    assert_true(timer_wheel_next_ms(&w) == UINT64_MAX);
}

/* Every delay around the borders of each level, from wheel positions around its own borders. */
static void test_never_early_and_at_most_a_tick_late(void **state)
{
    static const uint64_t starts[] = {0, 7, 8, 511, 512, 513, 262143, 262144, 1000003};
    struct timer_wheel w;
    struct probe p;

    (void)state;
    for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
        for (unsigned shift = 0; shift < 33; shift++) {
            for (uint64_t near = 0; near < 19; near++) {
                uint64_t delay = ((uint64_t)1 << shift) + near - 9;
                if (delay > SPAN_MS)
                    delay = near;
                timer_wheel_init(&w, starts[s]);
                init_probe(&p, &w);
                set_probe(&p, delay);
                if (p.due_ms > starts[s])
                    timer_wheel_advance(&w, p.due_ms - 1);
                assert_int_equal(p.fired, 0);
                timer_wheel_advance(&w, p.due_ms + TIMER_TICK_MS);
                assert_int_equal(p.fired, 1);
                assert_int_equal(w.count, 0);
            }
        }
    }
}

/* What a loop does: sleep for what the wheel says, advance, and so on. */
static void test_following_next_ms_fires_on_time_with_few_wakeups(void **state)
{
    struct timer_wheel w;
    struct probe p;

    (void)state;
    for (uint64_t delay = 1; delay < SPAN_MS; delay = delay * 3 + 1) {
        unsigned wakeups = 0;
        timer_wheel_init(&w, 98765);
        init_probe(&p, &w);
        set_probe(&p, delay);
        while (!p.fired) {
            uint64_t wait = timer_wheel_next_ms(&w);
            assert_true(wait > 0 && wait != UINT64_MAX);
            timer_wheel_advance(&w, w.now_ms + wait);
            wakeups++;
        }
        assert_true(p.fired_ms >= p.due_ms);
        assert_true(p.fired_ms < p.due_ms + TIMER_TICK_MS);
        assert_true(wakeups <= TIMER_LEVELS);
    }
}

static void test_set_again_and_cancel(void **state)
{
    struct timer_wheel w;
    struct probe p;

    (void)state;
    timer_wheel_init(&w, 1000);
    init_probe(&p, &w);
    timer_cancel(&w, &p.timer);
    assert_int_equal(w.count, 0);
    set_probe(&p, 100);
    set_probe(&p, 5000);
    assert_int_equal(w.count, 1);
    timer_wheel_advance(&w, 5999);
    assert_int_equal(p.fired, 0);
    set_probe(&p, 1);
    timer_wheel_advance(&w, 6008);
    assert_int_equal(p.fired, 1);
    set_probe(&p, 50);
    timer_cancel(&w, &p.timer);
    timer_cancel(&w, &p.timer);
    assert_int_equal(w.count, 0);
    assert_true(timer_wheel_next_ms(&w) == UINT64_MAX);
    timer_wheel_advance(&w, 10000);
    assert_int_equal(p.fired, 1);
}

static void test_time_does_not_go_back(void **state)
{
    struct timer_wheel w;
    struct probe p;

    (void)state;
    timer_wheel_init(&w, 1000);
    init_probe(&p, &w);
    timer_wheel_advance(&w, 900);
    timer_wheel_tell_time(&w, 800);
    assert_int_equal(w.now_ms, 1000);
    set_probe(&p, 100);
    timer_wheel_advance(&w, 1099);
    assert_int_equal(p.fired, 0);
    timer_wheel_advance(&w, 1104);
    assert_int_equal(p.fired, 1);
}

/* The loop learns the time after its wait and fires only at the end of the turn: delays set in
 * between count from the new time, and the old timers still fire. */
static void test_set_while_the_wheel_lags_behind_the_time(void **state)
{
    static const uint64_t delays[] = {0, 1, 100, 5000, 500000, SPAN_MS - 1, SPAN_MS};
    struct timer_wheel w;

    (void)state;
    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        timer_wheel_init(&w, 0);
        init_probe(&probes[0], &w);
        init_probe(&probes[1], &w);
        set_probe(&probes[0], 30);
        timer_wheel_tell_time(&w, 100000);
        assert_int_equal(timer_wheel_next_ms(&w), 0);
        set_probe(&probes[1], delays[i]);
        timer_wheel_advance(&w, 100000);
        assert_int_equal(probes[0].fired, 1);
        assert_int_equal(probes[1].fired, delays[i] == 0);
        if (delays[i])
            timer_wheel_advance(&w, 100000 + delays[i] - 1);
        assert_int_equal(probes[1].fired, delays[i] == 0);
        timer_wheel_advance(&w, 100000 + delays[i] + TIMER_TICK_MS);
        assert_int_equal(probes[1].fired, 1);
    }
}

static void test_delays_past_the_span_are_cut(void **state)
{
    struct timer_wheel w;
    struct probe p;

    (void)state;
    timer_wheel_init(&w, 5 * DAY_MS);
    init_probe(&p, &w);
    set_probe(&p, UINT64_MAX);
    assert_true(p.timer.due_ms == 5 * DAY_MS + SPAN_MS);
    timer_wheel_advance(&w, 5 * DAY_MS + SPAN_MS - 1);
    assert_int_equal(p.fired, 0);
    timer_wheel_advance(&w, 5 * DAY_MS + SPAN_MS + TIMER_TICK_MS);
    assert_int_equal(p.fired, 1);
}

/* --- callbacks that change the wheel ---------------------------------------------------------- */

struct again {
    struct timer timer;
    struct timer_wheel *w;
    unsigned fired;
};

static void set_again_at_once(struct timer *t)
{
    struct again *a = container_of(t, struct again, timer);

    a->fired++;
    timer_set(a->w, t, 0);
}

static void test_a_timer_that_sets_itself_for_now_waits_for_the_next_tick(void **state)
{
    struct timer_wheel w;
    struct again a = {.w = &w};

    (void)state;
    timer_wheel_init(&w, 0);
    timer_init(&a.timer, set_again_at_once);
    timer_set(&w, &a.timer, 0);
    for (unsigned tick = 1; tick <= 200; tick++) {
        timer_wheel_advance(&w, tick * TIMER_TICK_MS);
        assert_int_equal(a.fired, tick);
    }
    /* after a long sleep it fires for being late and once for now, not once per tick missed */
    timer_wheel_advance(&w, 100 * DAY_MS);
    assert_in_range(a.fired, 201, 202);
    timer_cancel(&w, &a.timer);
}

struct clique {
    struct timer timer;
    struct timer_wheel *w;
    struct clique **all; /* those that still exist */
    size_t n, self;
    unsigned *fired;
};

static void free_the_others(struct timer *t)
{
    struct clique *me = container_of(t, struct clique, timer);
    struct clique **all = me->all;
    size_t n = me->n;

    ++*me->fired;
    for (size_t i = 0; i < n; i++) {
        timer_cancel(me->w, &all[i]->timer);
        if (all[i] != me)
            free(all[i]);
    }
    free(me);
}

/* Whichever fires first takes all others with it, those of the same tick too. */
static void test_a_callback_may_free_timers_of_the_same_tick_and_its_own(void **state)
{
    static const uint64_t delays[] = {40, 40, 40, 41, 47, 48, 49, 600, 600, 40000};
    struct clique *all[10];
    struct timer_wheel w;
    unsigned fired = 0;

    (void)state;
    timer_wheel_init(&w, 0);
    for (size_t i = 0; i < 10; i++) {
        all[i] = malloc(sizeof *all[i]);
        assert_non_null(all[i]);
        *all[i] = (struct clique){.w = &w, .all = all, .n = 10, .self = i, .fired = &fired};
        timer_init(&all[i]->timer, free_the_others);
        timer_set(&w, &all[i]->timer, delays[i]);
    }
    timer_wheel_advance(&w, 100000);
    assert_int_equal(fired, 1);
    assert_int_equal(w.count, 0);
    assert_true(timer_wheel_next_ms(&w) == UINT64_MAX);
}

struct mover {
    struct timer timer;
    struct timer_wheel *w;
    struct probe *target;
    uint64_t delay_ms;
};

static void move_target(struct timer *t)
{
    struct mover *m = container_of(t, struct mover, timer);

    set_probe(m->target, m->delay_ms);
}

static void test_a_callback_may_move_a_timer_of_the_same_tick(void **state)
{
    static const uint64_t delays[] = {0, 8, 511, 512, 4000, 300000};
    struct timer_wheel w;
    struct mover m;

    (void)state;
    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        timer_wheel_init(&w, 0);
        init_probe(&probes[0], &w);
        m = (struct mover){.w = &w, .target = &probes[0], .delay_ms = delays[i]};
        timer_init(&m.timer, move_target);
        timer_set(&w, &m.timer, 80);
        set_probe(&probes[0], 80);
        timer_wheel_advance(&w, 80);
        assert_int_equal(probes[0].fired, 0);
        assert_int_equal(w.count, 1);
        timer_wheel_advance(&w, 80 + delays[i] + TIMER_TICK_MS);
        assert_int_equal(probes[0].fired, 1);
    }
}

/* --- order ------------------------------------------------------------------------------------ */

static void fired_in_order(struct timer *t)
{
    assert_true(tick_up(t->due_ms) >= last_fired_due_tick);
    last_fired_due_tick = tick_up(t->due_ms);
    probe_fired(t);
}

static void test_a_big_jump_fires_everything_in_order(void **state)
{
    struct timer_wheel w;

    (void)state;
    timer_wheel_init(&w, 77777);
    last_fired_due_tick = 0;
    for (size_t i = 0; i < N_PROBES; i++) {
        init_probe(&probes[i], &w);
        probes[i].timer.fire = fired_in_order;
        set_probe(&probes[i], rnd_u64() % ((uint64_t)1 << rnd_below(34)));
    }
    timer_wheel_advance(&w, 200 * DAY_MS);
    for (size_t i = 0; i < N_PROBES; i++)
        assert_int_equal(probes[i].fired, 1);
    assert_int_equal(w.count, 0);
}

/* --- the model -------------------------------------------------------------------------------- */

static uint64_t random_step(void)
{
    switch (rnd_below(20)) {
    case 0:
        return rnd_below(1u << 31);
    case 1:
        return rnd_below(300000);
    case 2:
    case 3:
        return rnd_below(3000);
    default:
        return rnd_below(40);
    }
}

static void random_change(struct timer_wheel *w)
{
    struct probe *p = &probes[rnd_below(N_PROBES)];

    if (rnd_below(4) == 0) {
        timer_cancel(w, &p->timer);
        p->set = false;
    } else {
        set_probe(p, rnd_u64() % ((uint64_t)1 << rnd_below(32)));
    }
}

/* What is overdue by a tick has fired; the wheel's promise about the next one holds. */
static void assert_like_model(const struct timer_wheel *w)
{
    uint64_t first_due = UINT64_MAX;
    size_t set = 0;

    for (size_t i = 0; i < N_PROBES; i++) {
        assert_int_equal(timer_is_set(&probes[i].timer), probes[i].set);
        if (!probes[i].set)
            continue;
        set++;
        assert_true(probes[i].due_ms + TIMER_TICK_MS > w->now_ms);
        if (probes[i].due_ms < first_due)
            first_due = probes[i].due_ms;
    }
    assert_int_equal(w->count, set);
    uint64_t next = timer_wheel_next_ms(w);
    assert_int_equal(next == UINT64_MAX, set == 0);
    if (set)
        assert_true(next > 0 && w->now_ms + next < first_due + 2 * TIMER_TICK_MS);
}

static void test_random_use_against_the_model(void **state)
{
    struct timer_wheel w;

    (void)state;
    timer_wheel_init(&w, rnd_below(1u << 30));
    for (size_t i = 0; i < N_PROBES; i++)
        init_probe(&probes[i], &w);
    for (unsigned step = 0; step < 30000; step++) {
        for (unsigned n = rnd_below(6); n > 0; n--)
            random_change(&w);
        timer_wheel_advance(&w, w.now_ms + random_step());
        assert_like_model(&w);
    }
    for (size_t i = 0; i < N_PROBES; i++)
        timer_cancel(&w, &probes[i].timer);
    assert_int_equal(w.count, 0);
    for (int level = 0; level < TIMER_LEVELS; level++)
        assert_true(w.busy[level] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_idle_wheel_has_nothing_next),
        cmocka_unit_test(test_never_early_and_at_most_a_tick_late),
        cmocka_unit_test(test_following_next_ms_fires_on_time_with_few_wakeups),
        cmocka_unit_test(test_set_again_and_cancel),
        cmocka_unit_test(test_time_does_not_go_back),
        cmocka_unit_test(test_set_while_the_wheel_lags_behind_the_time),
        cmocka_unit_test(test_delays_past_the_span_are_cut),
        cmocka_unit_test(test_a_timer_that_sets_itself_for_now_waits_for_the_next_tick),
        cmocka_unit_test(test_a_callback_may_free_timers_of_the_same_tick_and_its_own),
        cmocka_unit_test(test_a_callback_may_move_a_timer_of_the_same_tick),
        cmocka_unit_test(test_a_big_jump_fires_everything_in_order),
        cmocka_unit_test(test_random_use_against_the_model),
    };
    return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
