/* test_slot.c - hash tags, key slots, and who owns them by CLUSTER SLOTS. */
#include "../../src/redis/ranges.h"
#include "../../src/redis/slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_slots_are_those_of_the_specification(void **state)
{
    (void)state;
    assert_int_equal(slot_of(SLICE("123456789")), 0x31c3); /* the CRC's check value */
    assert_int_equal(slot_of(SLICE("foo")), 12182);        /* CLUSTER KEYSLOT of Redis 7.0 */
    assert_int_equal(slot_of(SLICE("hello")), 866);
    assert_int_equal(slot_of(SLICE("drv:{chan-5}")), 13129);
    assert_int_equal(slot_of(SLICE("")), 0);
    assert_int_equal(slot_of(SLICE_NONE), 0);
    assert_true(slot_of(SLICE("\xff\xfe\x00\x80")) < SLOT_COUNT);
}

static void expect_tag(const char *key, const char *tag)
{
    struct slice found = slot_tag(slice_str(key));

    if (!slice_eq(found, slice_str(tag)))
        fail_msg("%s: %.*s", key, (int)found.len, found.ptr);
    assert_int_equal(slot_of(slice_str(key)), slot_of(found));
}

static void test_the_tag_is_between_the_first_brace_and_the_next(void **state)
{
    (void)state;
    expect_tag("{user1000}.following", "user1000");
    expect_tag("crier:s:{a}", "a");
    expect_tag("foo{}{bar}", "foo{}{bar}");
    expect_tag("foo{{bar}}zap", "{bar");
    expect_tag("foo{bar}{zap}", "bar");
    expect_tag("foo{bar", "foo{bar");
    expect_tag("foo}bar{", "foo}bar{");
    expect_tag("{", "{");
    expect_tag("}{a}", "a");
}

/* --- CLUSTER SLOTS --- */

static enum err read_ranges(const char *resp, struct slot_range **out, size_t *n,
                            struct reply **reply)
{
    struct reply_parser *p;

    assert_int_equal(reply_parser_new(1 << 20, &p), ERR_OK);
    assert_int_equal(reply_parser_feed(p, slice_str(resp)), ERR_OK);
    assert_int_equal(reply_parser_next(p, reply), ERR_OK);
    reply_parser_free(p);
    return ranges_read(*reply, SLICE("seed.example"), out, n);
}

static void test_a_table_of_slots_is_read(void **state)
{
    static const char table[] = "*3\r\n"
                                "*4\r\n:0\r\n:5460\r\n"
                                "*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$2\r\nid\r\n"
                                "*3\r\n$9\r\n127.0.0.1\r\n:7004\r\n$2\r\nid\r\n"
                                "*3\r\n:5461\r\n:10922\r\n" /* does not know its own address */
                                "*4\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n"
                                "*2\r\n$8\r\nhostname\r\n$1\r\nx\r\n"
                                "*3\r\n:10923\r\n:16383\r\n*2\r\n$-1\r\n:7002\r\n";
    struct slot_range *range = NULL;
    struct reply *reply;
    size_t n = 0;

    (void)state;
    assert_int_equal(read_ranges(table, &range, &n, &reply), ERR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(range[0].first, 0);
    assert_int_equal(range[0].last, 5460);
    assert_true(slice_eq(range[0].host, SLICE("127.0.0.1")));
    assert_int_equal(range[0].port, 7000);
    assert_true(slice_eq(range[1].host, SLICE("seed.example")));
    assert_int_equal(range[1].port, 7001);
    assert_true(slice_eq(range[2].host, SLICE("seed.example")));
    assert_int_equal(range[2].last, 16383);
    free(range);
    reply_free(reply);
}

static void test_an_empty_table_is_one(void **state)
{
    struct slot_range *range = NULL;
    struct reply *reply;
    size_t n = 9;

    (void)state;
    assert_int_equal(read_ranges("*0\r\n", &range, &n, &reply), ERR_OK);
    assert_int_equal(n, 0);
    assert_null(range);
    reply_free(reply);
}

static void test_what_is_no_table_is_refused(void **state)
{
    static const char *const bad[] = {
        "+OK\r\n",
        "*1\r\n:5\r\n",
        "*1\r\n*0\r\n",
        "*1\r\n*3\r\n:5\r\n:4\r\n*2\r\n$1\r\nh\r\n:7000\r\n",      /* backwards */
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:7000\r\n",  /* too far */
        "*1\r\n*3\r\n:-1\r\n:4\r\n*2\r\n$1\r\nh\r\n:7000\r\n",     /* before the first */
        "*1\r\n*3\r\n:0\r\n:4\r\n*2\r\n$1\r\nh\r\n:0\r\n",         /* no port */
        "*1\r\n*3\r\n:0\r\n:4\r\n*2\r\n$1\r\nh\r\n:65536\r\n",     /* no such port */
        "*1\r\n*2\r\n:0\r\n:4\r\n",                                /* nobody */
        "*1\r\n*3\r\n$1\r\n0\r\n:4\r\n*2\r\n$1\r\nh\r\n:7000\r\n", /* not a number */
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct slot_range *range = NULL;
        struct reply *reply = NULL;
        size_t n = 0;
        if (read_ranges(bad[i], &range, &n, &reply) != ERR_SYNTAX)
            fail_msg("%s", bad[i]);
        assert_null(range);
        reply_free(reply);
    }
}

static void test_a_host_with_a_nul_is_refused(void **state)
{
    static const char resp[] = "*1\r\n*3\r\n:0\r\n:4\r\n*2\r\n$3\r\nh\0h\r\n:7000\r\n";
    struct reply_parser *p;
    struct reply *reply;
    struct slot_range *range = NULL;
    size_t n;

    (void)state;
    assert_int_equal(reply_parser_new(1 << 20, &p), ERR_OK);
    assert_int_equal(reply_parser_feed(p, SLICE(resp)), ERR_OK);
    assert_int_equal(reply_parser_next(p, &reply), ERR_OK);
    assert_int_equal(ranges_read(reply, SLICE("h"), &range, &n), ERR_SYNTAX);
    reply_free(reply);
    reply_parser_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_are_those_of_the_specification),
        cmocka_unit_test(test_the_tag_is_between_the_first_brace_and_the_next),
        cmocka_unit_test(test_a_table_of_slots_is_read),
        cmocka_unit_test(test_an_empty_table_is_one),
        cmocka_unit_test(test_what_is_no_table_is_refused),
        cmocka_unit_test(test_a_host_with_a_nul_is_refused),
    };
    return cmocka_run_group_tests_name("slot", tests, NULL, NULL);
}
