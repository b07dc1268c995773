/* test_redis_parts.c - what the Redis client is made of: INFO, error replies, the queue of what a
 * subscribe link has not answered. */
#include "../../src/redis/acks.h"
#include "../../src/redis/error.h"
#include "../../src/redis/info.h"
#include "crier/redis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* --- INFO --- */

#define RUN_ID "5a1c0123456789abcdef0123456789abcdef0123"
#define REPLID "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb"

static const char info_text[] =
    "# Server\r\nredis_version:7.0.15\r\nrun_id:" RUN_ID "\r\n"
    "os:Linux: a colon more\r\nno field at all\r\n\r\n"
    "# Memory\r\nmaxmemory:104857600\r\nmaxmemory_policy:allkeys-lru\r\n"
    "# Persistence\r\nloading:0\r\naof_enabled:1\r\n"
    "# Replication\r\nrole:master\r\nmaster_replid:" REPLID "\r\n"
    "# Cluster\r\ncluster_enabled:1\r\n";

static void test_info_is_read(void **state)
{
    struct server_info i;

    (void)state;
    info_parse(SLICE(info_text), &i);
    assert_int_equal(i.version, INFO_VERSION(7, 0));
    assert_true(slice_eq(i.version_text, SLICE("7.0.15")));
    assert_true(slice_eq(i.run_id, SLICE(RUN_ID)));
    assert_true(slice_eq(i.replid, SLICE(REPLID)));
    assert_true(slice_eq(i.policy, SLICE("allkeys-lru")));
    assert_true(i.has_role && i.is_master && i.cluster && i.has_aof && i.aof && i.has_maxmemory);
    assert_false(i.loading);
    assert_int_equal(i.maxmemory, 104857600);
}

static void test_info_of_others_is_read(void **state)
{
    struct server_info i;

    (void)state;
    info_parse(SLICE("role:slave\nloading:1\nredis_version:6.2\nredis_version\n:\nmaxmemory:-1"),
               &i);
    assert_true(i.has_role);
    assert_false(i.is_master);
    assert_true(i.loading);
    assert_int_equal(i.version, INFO_VERSION(6, 2));
    assert_false(i.has_maxmemory);
    assert_false(i.has_aof);
    info_parse(SLICE("redis_version:unstable\r\n"), &i);
    assert_int_equal(i.version, 0);
    info_parse(SLICE_NONE, &i);
    assert_false(i.has_role);
    assert_int_equal(i.run_id.len, 0);
}

static void identify(const char *run_id, const char *replid, char out[INFO_IDENTITY_BYTES + 1])
{
    struct server_info i = {.run_id = slice_str(run_id), .replid = slice_str(replid)};

    info_identity(&i, out);
    out[INFO_IDENTITY_BYTES] = '\0';
    assert_int_equal(strspn(out, "0123456789abcdef"), INFO_IDENTITY_BYTES);
}

static void test_identity_is_of_both_ids(void **state)
{
    char a[INFO_IDENTITY_BYTES + 1], b[INFO_IDENTITY_BYTES + 1];

    (void)state;
    identify(RUN_ID, REPLID, a);
    identify(RUN_ID, REPLID, b);
    assert_string_equal(a, b);
    identify("6" RUN_ID, REPLID, b); /* a restart */
    assert_string_not_equal(a, b);
    identify(RUN_ID, "9" REPLID, b); /* a failover */
    assert_string_not_equal(a, b);
    identify(RUN_ID, RUN_ID, b);
    assert_string_not_equal(b, "0000000000000000");
    identify("", REPLID, b);
    assert_string_not_equal(b, "0000000000000000");
    identify("", "", b);
    assert_string_equal(b, "0000000000000000");
    identify("AbC", "", b);
    assert_string_equal(b, "0000000000000abc");
}

/* --- errors --- */

static void expect_kind(const char *text, enum error_kind kind)
{
    if (error_kind(slice_str(text)) != kind)
        fail_msg("%s: %d", text, (int)error_kind(slice_str(text)));
}

static void test_errors_are_known_by_their_first_word(void **state)
{
    (void)state;
    expect_kind("NOSCRIPT No matching script. Please use EVAL.", ERROR_NO_SCRIPT);
    expect_kind("MOVED 3999 127.0.0.1:6381", ERROR_REDIRECT);
    expect_kind("TRYAGAIN Multiple keys request during rehashing of slot", ERROR_REDIRECT);
    expect_kind("READONLY You can't write against a read only replica.", ERROR_NOT_MASTER);
    expect_kind("CLUSTERDOWN Hash slot not served", ERROR_CLUSTER_DOWN);
    expect_kind("OOM command not allowed when used memory > 'maxmemory'.", ERROR_PASSING);
    expect_kind("LOADING", ERROR_PASSING);
    expect_kind("BUSYGROUP Consumer Group name already exists", ERROR_OTHER);
    expect_kind("WRONGTYPE Operation against a key holding the wrong kind of value", ERROR_OTHER);
    expect_kind("ERR OOM", ERROR_OTHER);
    expect_kind("", ERROR_OTHER);
    expect_kind(" OOM", ERROR_OTHER);
}

static void test_errors_within_scripts_are_known_too(void **state)
{
    (void)state;
    expect_kind("OOM command not allowed when used memory > 'maxmemory'. script: 16dbcdf34029817f, "
                "on @user_script:1.",
                ERROR_PASSING);
    expect_kind("ERR Error running script (call to f_16dbcdf34029817f): @user_script:2: "
                "@user_script: 2: -OOM command not allowed when used memory > 'maxmemory'.",
                ERROR_PASSING);
    expect_kind("ERR Error running script (call to f_16dbcdf34029817f): @user_script:2: "
                "@user_script: 2: -READONLY You can't write against a read only replica.",
                ERROR_NOT_MASTER);
    expect_kind("ERR Error running script (call to f_16dbcdf34029817f): @user_script:2: "
                "@user_script: 2: WRONGTYPE Operation against a key",
                ERROR_OTHER);
    /* what was begun is not begun again elsewhere */
    expect_kind("ERR Error running script (call to f_1): @user_script:2: @user_script: 2: -MOVED 1 "
                "127.0.0.1:1",
                ERROR_OTHER);
    expect_kind("ERR Error running script (call to f_1): @user_script: 2", ERROR_OTHER);
    expect_kind("ERR Error running script", ERROR_OTHER);
}

static void expect_redirect(const char *text, uint16_t slot, const char *host, uint16_t port)
{
    struct redirect to;

    if (error_parse_redirect(slice_str(text), &to) != ERR_OK)
        fail_msg("%s", text);
    assert_int_equal(to.slot, slot);
    assert_int_equal(to.port, port);
    assert_true(slice_eq(to.host, slice_str(host)));
}

static void test_redirections_are_read(void **state)
{
    static const char *const bad[] = {
        "MOVED",
        "MOVED 1",
        "MOVED 1 ",
        "MOVED x 127.0.0.1:1",
        "MOVED 16384 127.0.0.1:1",
        "MOVED 1 127.0.0.1",
        "MOVED 1 127.0.0.1:",
        "MOVED 1 127.0.0.1:0",
        "ASK 1 h:65536",
        "",
    };
    struct redirect to;

    (void)state;
    expect_redirect("MOVED 3999 127.0.0.1:6381", 3999, "127.0.0.1", 6381);
    expect_redirect("ASK 16383 redis.example:1", 16383, "redis.example", 1);
    expect_redirect("MOVED 1 2001:db8::1:7000", 1, "2001:db8::1", 7000);
    expect_redirect("MOVED 1 :7000", 1, "", 7000);
    expect_redirect("MOVED 1 h:7000 and what may come", 1, "h", 7000);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (error_parse_redirect(slice_str(bad[i]), &to) != ERR_SYNTAX)
            fail_msg("%s", bad[i]);
}

/* --- acks --- */

static void test_acks_are_a_queue_that_counts(void **state)
{
    struct acks a = {0};
    uint32_t number;

    (void)state;
    assert_null(acks_head(&a));
    for (uint32_t i = 0; i < 1000; i++) { /* grows with its head in the middle */
        assert_int_equal(acks_push(&a, (struct ack){.hash = 2 * i, .subscribe = true}), 2 * i);
        assert_int_equal(acks_push(&a, (struct ack){.hash = 2 * i + 1}), 2 * i + 1);
        assert_int_equal(acks_head(&a)->hash, i);
        assert_int_equal(acks_pop(&a, &number).hash, i);
        assert_int_equal(number, i);
    }
    assert_int_equal(a.count, 1000);
    assert_int_equal(a.subscribes, 500);
    for (uint32_t i = 1000; i < 2000; i++) {
        struct ack k = acks_pop(&a, &number);
        assert_int_equal(k.hash, i);
        assert_int_equal(k.subscribe, i % 2 == 0);
    }
    assert_null(acks_head(&a));
    assert_int_equal(a.cap, 0); /* the room was given back */
    assert_int_equal(acks_push(&a, (struct ack){.hash = 1}), 2000);
    acks_release(&a);
    assert_null(acks_head(&a));
}

/* --- scripts --- */

static void test_a_script_is_named_as_redis_does(void **state)
{
    struct redis_script s = {.text = "return 1"};

    (void)state;
    redis_script_init(&s);
    assert_string_equal(s.sha1_hex, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"); /* SCRIPT LOAD */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info_is_read),
        cmocka_unit_test(test_info_of_others_is_read),
        cmocka_unit_test(test_identity_is_of_both_ids),
        cmocka_unit_test(test_errors_are_known_by_their_first_word),
        cmocka_unit_test(test_errors_within_scripts_are_known_too),
        cmocka_unit_test(test_redirections_are_read),
        cmocka_unit_test(test_acks_are_a_queue_that_counts),
        cmocka_unit_test(test_a_script_is_named_as_redis_does),
    };
    return cmocka_run_group_tests_name("redis_parts", tests, NULL, NULL);
}
