/* test_buf.c - the bounded buffer: it grows, it stops at its maximum, it never half-appends. */
#include "crier/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* A failing allocation is a result here, not a reason for the sanitizers to stop the program. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void assert_holds(const struct buf *b, const char *text)
{
    assert_int_equal(b->len, strlen(text));
    assert_true(slice_eq(buf_slice(b), slice_str(text)));
}

static void test_appends_of_all_kinds(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    buf_append(&b, SLICE("a"));
    buf_append_str(&b, "bc");
    buf_append_char(&b, '\0');
    buf_append_u64(&b, 0);
    buf_append_u64(&b, UINT64_MAX);
    buf_printf(&b, "<%d %s>", -5, "x");
    buf_append(&b, SLICE_NONE);
    assert_false(b.failed);
    assert_int_equal(b.len, 31);
    assert_memory_equal(b.data,
                        "abc\0"
                        "018446744073709551615<-5 x>",
                        31);
    buf_release(&b);
    assert_null(b.data);
}

static void test_every_size_up_to_the_maximum_fits_and_no_more(void **state)
{
    (void)state;
    for (size_t max = 0; max < 300; max++) {
        struct buf b;
        buf_init(&b, max);
        for (size_t i = 0; i < max; i++)
            buf_append_char(&b, (char)('a' + i % 26));
        assert_false(b.failed);
        assert_int_equal(b.len, max);
        assert_true(b.cap <= max);
        buf_append_char(&b, 'x');
        assert_true(b.failed);
        assert_int_equal(b.len, max);
        for (size_t i = 0; i < max; i++)
            assert_int_equal(b.data[i], 'a' + i % 26);
        buf_release(&b);
    }
}

static void test_a_failed_append_changes_nothing_and_is_remembered(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 5);
    buf_append_str(&b, "abc");
    buf_append_str(&b, "def");
    assert_true(b.failed);
    assert_holds(&b, "abc");
    buf_append_str(&b, "de");
    assert_true(b.failed);
    assert_holds(&b, "abcde");
    buf_clear(&b);
    assert_false(b.failed);
    assert_holds(&b, "");
    buf_release(&b);
}

static void test_printf_may_end_exactly_at_the_maximum(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 8);
    buf_printf(&b, "%s", "12345678");
    assert_false(b.failed);
    assert_holds(&b, "12345678");
    buf_printf(&b, "%s", "");
    assert_false(b.failed);
    buf_printf(&b, "%d", 9);
    assert_true(b.failed);
    assert_holds(&b, "12345678");
    buf_release(&b);
}

static void test_reserve_says_why_and_does_not_fail_the_buffer(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    assert_int_equal(buf_reserve(&b, 101), ERR_LIMIT);
    assert_int_equal(buf_reserve(&b, SIZE_MAX), ERR_LIMIT);
    assert_int_equal(buf_reserve(&b, 100), ERR_OK);
    assert_true(b.cap - b.len >= 100);
    memset(b.data, 'x', 100);
    b.len = 100;
    assert_int_equal(buf_reserve(&b, 1), ERR_LIMIT);
    assert_int_equal(buf_reserve(&b, 0), ERR_OK);
    assert_false(b.failed);
    buf_release(&b);
}

static void test_memory_that_is_not_there(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_append_str(&b, "abc");
    assert_int_equal(buf_reserve(&b, SIZE_MAX / 4), ERR_NOMEM);
    assert_int_equal(buf_reserve(&b, SIZE_MAX - 3), ERR_NOMEM);
    assert_false(b.failed);
    assert_holds(&b, "abc");
    buf_release(&b);
}

static void test_consume_from_the_front(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    buf_consume(&b, 0);
    buf_append_str(&b, "abcdef");
    buf_consume(&b, 2);
    assert_holds(&b, "cdef");
    buf_consume(&b, 0);
    assert_holds(&b, "cdef");
    buf_consume(&b, 4);
    assert_holds(&b, "");
    buf_append_str(&b, "g");
    assert_holds(&b, "g");
    buf_release(&b);
}

static void test_take_gives_the_memory_away(void **state)
{
    struct buf b;
    size_t len = 99;

    (void)state;
    buf_init(&b, 10);
    assert_null(buf_take(&b, &len));
    assert_int_equal(len, 0);
    buf_append_str(&b, "abc");
    char *data = buf_take(&b, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(data, "abc", 3);
    assert_holds(&b, "");
    buf_append_str(&b, "0123456789");
    assert_false(b.failed);
    assert_holds(&b, "0123456789");
    free(data);
    buf_release(&b);
}

static void test_growth_is_geometric(void **state)
{
    struct buf b;
    size_t moves = 0;

    (void)state;
    buf_init(&b, (size_t)1 << 20);
    for (size_t i = 0; i < 1 << 20; i++) {
        size_t cap = b.cap;
        buf_append_char(&b, 'x');
        moves += b.cap != cap;
    }
    assert_false(b.failed);
    assert_true(moves <= 16);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_of_all_kinds),
        cmocka_unit_test(test_every_size_up_to_the_maximum_fits_and_no_more),
        cmocka_unit_test(test_a_failed_append_changes_nothing_and_is_remembered),
        cmocka_unit_test(test_printf_may_end_exactly_at_the_maximum),
        cmocka_unit_test(test_reserve_says_why_and_does_not_fail_the_buffer),
        cmocka_unit_test(test_memory_that_is_not_there),
        cmocka_unit_test(test_consume_from_the_front),
        cmocka_unit_test(test_take_gives_the_memory_away),
        cmocka_unit_test(test_growth_is_geometric),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
