/* test_slice.c - borrowed bytes: comparing, trimming, splitting, numbers; names of errors. */
#include "crier/slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_empty_slices_are_equal_wherever_they_point(void **state)
{
    (void)state;
    assert_true(slice_eq(SLICE_NONE, SLICE("")));
    assert_true(slice_eq_nocase(SLICE(""), SLICE_NONE));
    assert_false(slice_eq(SLICE_NONE, SLICE("a")));
    assert_true(slice_starts_with(SLICE("a"), SLICE_NONE));
    assert_true(slice_starts_with(SLICE_NONE, SLICE("")));
    assert_int_equal(slice_str(NULL).len, 0);
}

static void test_case_is_ignored_in_ascii_only(void **state)
{
    (void)state;
    assert_true(slice_eq_nocase(SLICE("Content-TYPE"), SLICE("content-type")));
    assert_false(slice_eq_nocase(SLICE("content-type"), SLICE("content-typ")));
    /* '@' and '`', '[' and '{' differ in the same bit as letters do */
    assert_false(slice_eq_nocase(SLICE("@["), SLICE("`{")));
    assert_false(slice_eq_nocase(SLICE("\xc3\x84"), SLICE("\xc3\xa4")));
    assert_false(slice_eq(SLICE("A"), SLICE("a")));
}

static void test_prefix_may_be_the_whole_but_not_more(void **state)
{
    (void)state;
    assert_true(slice_starts_with(SLICE("chat.room"), SLICE("chat.")));
    assert_true(slice_starts_with(SLICE("chat"), SLICE("chat")));
    assert_false(slice_starts_with(SLICE("chat"), SLICE("chat.")));
    assert_false(slice_starts_with(SLICE("chat"), SLICE("Chat")));
}

static void test_trim_takes_blanks_and_tabs_from_the_ends_only(void **state)
{
    (void)state;
    assert_true(slice_eq(slice_trim(SLICE(" \t a b\t ")), SLICE("a b")));
    assert_int_equal(slice_trim(SLICE(" \t ")).len, 0);
    assert_int_equal(slice_trim(SLICE_NONE).len, 0);
    assert_true(slice_eq(slice_trim(SLICE("\na\r")), SLICE("\na\r")));
}

static void assert_split(struct slice text, const char *const *parts)
{
    struct slice part = SLICE_NONE;

    for (; *parts; parts++) {
        assert_true(slice_split(&text, ',', &part));
        assert_true(slice_eq(part, slice_str(*parts)));
    }
    assert_false(slice_split(&text, ',', &part));
    assert_false(slice_split(&text, ',', &part));
}

static void test_split_keeps_empty_parts(void **state)
{
    (void)state;
    assert_split(SLICE("a,,b"), (const char *[]){"a", "", "b", NULL});
    assert_split(SLICE("a,"), (const char *[]){"a", "", NULL});
    assert_split(SLICE(","), (const char *[]){"", "", NULL});
    assert_split(SLICE("abc"), (const char *[]){"abc", NULL});
    assert_split(SLICE(""), (const char *[]){"", NULL});
    assert_split(SLICE_NONE, (const char *[]){NULL});
}

static void test_numbers_are_digits_and_nothing_else(void **state)
{
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "1.0", "1e3", "/", ":"};
    uint64_t v = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(slice_to_u64(slice_str(bad[i]), UINT64_MAX, &v), ERR_SYNTAX);
    assert_int_equal(slice_to_u64(SLICE_NONE, 9, &v), ERR_SYNTAX);
    assert_int_equal(v, 7);
}

static void test_numbers_up_to_the_limit(void **state)
{
    uint64_t v = 0;

    (void)state;
    assert_int_equal(slice_to_u64(SLICE("18446744073709551615"), UINT64_MAX, &v), ERR_OK);
    assert_true(v == UINT64_MAX);
    assert_int_equal(slice_to_u64(SLICE("0"), 0, &v), ERR_OK);
    assert_int_equal(v, 0);
    assert_int_equal(slice_to_u64(SLICE("007"), 7, &v), ERR_OK);
    assert_int_equal(v, 7);
    assert_int_equal(slice_to_u64(SLICE("8"), 7, &v), ERR_RANGE);
    assert_int_equal(slice_to_u64(SLICE("18446744073709551616"), UINT64_MAX, &v), ERR_RANGE);
    assert_int_equal(slice_to_u64(SLICE("36893488147419103232"), UINT64_MAX, &v), ERR_RANGE);
    assert_int_equal(slice_to_u64(SLICE("99999999999999999999999"), UINT64_MAX, &v), ERR_RANGE);
    /* too large and no number: it is no number */
    assert_int_equal(slice_to_u64(SLICE("99999999999999999999999x"), 1, &v), ERR_SYNTAX);
    assert_int_equal(v, 7);
}

static void test_dup_is_terminated(void **state)
{
    char *copy = slice_dup(slice_of("abcdef", 3)), *empty = slice_dup(SLICE_NONE);

    (void)state;
    assert_string_equal(copy, "abc");
    assert_string_equal(empty, "");
    free(copy);
    free(empty);
}

static void test_every_error_has_its_own_name(void **state)
{
    (void)state;
    for (int a = ERR_OK; a <= ERR_UNAVAILABLE; a++) {
        assert_string_not_equal(err_str((enum err)a), "unknown");
        for (int b = ERR_OK; b < a; b++)
            assert_string_not_equal(err_str((enum err)a), err_str((enum err)b));
    }
    assert_string_equal(err_str((enum err)999), "unknown");
    assert_string_equal(err_str(ERR_LIMIT), "limit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_slices_are_equal_wherever_they_point),
        cmocka_unit_test(test_case_is_ignored_in_ascii_only),
        cmocka_unit_test(test_prefix_may_be_the_whole_but_not_more),
        cmocka_unit_test(test_trim_takes_blanks_and_tabs_from_the_ends_only),
        cmocka_unit_test(test_split_keeps_empty_parts),
        cmocka_unit_test(test_numbers_are_digits_and_nothing_else),
        cmocka_unit_test(test_numbers_up_to_the_limit),
        cmocka_unit_test(test_dup_is_terminated),
        cmocka_unit_test(test_every_error_has_its_own_name),
    };
    return cmocka_run_group_tests_name("slice", tests, NULL, NULL);
}
