/* test_trim.c - freed memory goes back when a rush of connections is over, and only then. */
#include "crier/trim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct timer_wheel wheel;
static struct trimmer trimmer;
static unsigned trims;

static void count_trim(void)
{
    trims++;
}

static int set_up(void **state)
{
    (void)state;
    trims = 0;
    timer_wheel_init(&wheel, 0);
    trimmer_init(&trimmer, &wheel, count_trim);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    trimmer_release(&trimmer);
    assert_int_equal(wheel.count, 0);
    return 0;
}

static void end_connections(unsigned n)
{
    while (n--)
        trimmer_note(&trimmer);
}

static void pass_looks(unsigned n)
{
    while (n--)
        timer_wheel_advance(&wheel, wheel.now_ms + TRIM_LOOK_MS + 2 * TIMER_TICK_MS);
}

static void few_connections_set_no_timer(void **state)
{
    (void)state;
    end_connections(TRIM_WORTH - 1);
    assert_int_equal(wheel.count, 0);
}

static void a_rush_that_is_over_is_trimmed_once(void **state)
{
    (void)state;
    end_connections(10 * TRIM_WORTH);
    pass_looks(2);
    assert_int_equal(trims, 1);
    pass_looks(5);
    assert_int_equal(trims, 1);
    assert_int_equal(wheel.count, 0);
}

static void a_rush_that_goes_on_waits(void **state)
{
    (void)state;
    end_connections(TRIM_WORTH);
    for (unsigned i = 1; i < TRIM_LOOKS_MAX; i++) {
        end_connections(TRIM_QUIET + 1);
        pass_looks(1);
        assert_int_equal(trims, 0);
    }
    end_connections(TRIM_QUIET + 1);
    pass_looks(1);
    assert_int_equal(trims, 1);
}

static void after_a_trim_counting_begins_anew(void **state)
{
    (void)state;
    end_connections(TRIM_WORTH);
    pass_looks(1);
    assert_int_equal(trims, 1);
    end_connections(TRIM_WORTH - 1);
    assert_int_equal(wheel.count, 0);
    end_connections(1);
    pass_looks(1);
    assert_int_equal(trims, 2);
}

static void releasing_forgets_the_timer(void **state)
{
    (void)state;
    end_connections(TRIM_WORTH);
    assert_int_equal(wheel.count, 1);
    trimmer_release(&trimmer);
    assert_int_equal(wheel.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(few_connections_set_no_timer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rush_that_is_over_is_trimmed_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rush_that_goes_on_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_a_trim_counting_begins_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(releasing_forgets_the_timer, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
