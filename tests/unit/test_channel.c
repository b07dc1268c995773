/* Channel names and namespace options. */
#include "crier/channel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka.h wants the four above */
#include <cmocka.h>

static enum err check(struct slice name)
{
    const char *why = NULL;
    enum err e = channel_check(name, &why);
    assert_int_equal(e != ERR_OK, why != NULL);
    return e;
}

static void test_every_byte_is_allowed_or_refused(void **state)
{
    (void)state;
    const char *allowed =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@=+,~!-/";
    int n = 0;
    for (int c = 0; c < 256; c++) {
        char name[3] = {'a', (char)c, 'b'};
        bool ok = c != 0 && strchr(allowed, c) != NULL;
        assert_int_equal(check(slice_of(name, 3)), ok ? ERR_OK : ERR_SYNTAX);
        n += ok;
    }
    assert_int_equal(n, 73);
}

static void test_length_is_1_to_200(void **state)
{
    (void)state;
    char name[CHANNEL_MAX_BYTES + 1];
    memset(name, 'x', sizeof name);
    assert_int_equal(check(SLICE_NONE), ERR_SYNTAX);
    assert_int_equal(check(slice_of(name, 1)), ERR_OK);
    assert_int_equal(check(slice_of(name, 200)), ERR_OK);
    assert_int_equal(check(slice_of(name, 201)), ERR_SYNTAX);
}

static void test_namespace_stands_before_the_first_colon(void **state)
{
    (void)state;
    assert_true(slice_eq(channel_namespace(SLICE("chat:a:b")), SLICE("chat")));
    assert_int_equal(channel_namespace(SLICE("chat")).len, 0);
    assert_int_equal(channel_namespace(SLICE(":x")).len, 0);
    assert_int_equal(channel_namespace(SLICE_NONE).len, 0);
}

static void test_built_in_options(void **state)
{
    (void)state;
    struct ns_table t;
    ns_table_init(&t);
    const struct ns_options *news = ns_lookup(&t, SLICE("news"));
    assert_ptr_equal(news, &t.common);
    assert_int_equal(news->history_messages, 100);
    assert_int_equal(news->history_ms, 300000);
    assert_false(news->presence || news->join_leave);
    const struct ns_options *chat = ns_lookup(&t, SLICE("chat:room"));
    assert_true(chat->presence && chat->join_leave);
    assert_int_equal(chat->history_messages, 100);
    assert_ptr_equal(ns_lookup(&t, SLICE("chat")), &t.common);
    assert_ptr_equal(ns_lookup(&t, SLICE("chatter:room")), &t.common);
}

static void test_entries_copy_common_and_are_found_again(void **state)
{
    (void)state;
    struct ns_table t;
    ns_table_init(&t);
    t.common.history_messages = 7;
    struct ns_options *o = ns_table_entry(&t, SLICE("game"));
    assert_int_equal(o->history_messages, 7);
    o->history_messages = 9;
    assert_ptr_equal(ns_table_entry(&t, SLICE("game")), o);
    assert_int_equal(ns_lookup(&t, SLICE("game:1"))->history_messages, 9);
    assert_int_equal(ns_lookup(&t, SLICE("gam:1"))->history_messages, 7);
}

static void test_table_is_bounded(void **state)
{
    (void)state;
    struct ns_table t;
    char name[65];
    ns_table_init(&t);
    memset(name, 'n', sizeof name);
    assert_null(ns_table_entry(&t, slice_of(name, 64)));
    assert_non_null(ns_table_entry(&t, slice_of(name, 63)));
    assert_null(ns_table_entry(&t, SLICE_NONE));
    while (t.count < NS_MAX) {
        name[0] = (char)('A' + (int)t.count % 26);
        name[1] = (char)('A' + (int)t.count / 26);
        assert_non_null(ns_table_entry(&t, slice_of(name, 2)));
    }
    assert_null(ns_table_entry(&t, SLICE("more")));
    assert_non_null(ns_table_entry(&t, SLICE("chat")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_is_allowed_or_refused),
        cmocka_unit_test(test_length_is_1_to_200),
        cmocka_unit_test(test_namespace_stands_before_the_first_colon),
        cmocka_unit_test(test_built_in_options),
        cmocka_unit_test(test_entries_copy_common_and_are_found_again),
        cmocka_unit_test(test_table_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
