/* test_shards.c - rendezvous hashing: the same everywhere and for ever, even, and minimal when
 * servers come and go. */
#include "../../src/redis/shards.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define KEYS 20000
#define SERVERS 5

static uint64_t hash[SERVERS];

static int name_servers(void **state)
{
    char name[32];

    (void)state;
    for (int i = 0; i < SERVERS; i++) {
        snprintf(name, sizeof name, "redis-%d:6379/0", i);
        hash[i] = shards_hash(slice_str(name));
    }
    return 0;
}

static size_t pick(unsigned key, const uint64_t *servers, size_t n)
{
    char text[32];

    snprintf(text, sizeof text, "crier:{channel-%u}", key);
    return shards_pick(slice_str(text), servers, n);
}

/* Figures that must never change: processes of two versions share the servers. */
static void test_the_choice_is_the_same_for_ever(void **state)
{
    (void)state;
    assert_int_equal(shards_hash(SLICE("127.0.0.1:6379/0")), UINT64_C(0x4f22f770ec602e7d));
    assert_int_equal(pick(0, hash, SERVERS), 1);
    assert_int_equal(pick(1, hash, SERVERS), 1);
    assert_int_equal(pick(2, hash, SERVERS), 0);
    assert_int_equal(pick(3, hash, SERVERS), 1);
}

static void test_only_the_tag_counts(void **state)
{
    (void)state;
    for (unsigned key = 0; key < 100; key++) {
        char text[40];
        snprintf(text, sizeof text, "other:prefix:{channel-%u}:more", key);
        assert_int_equal(shards_pick(slice_str(text), hash, SERVERS), pick(key, hash, SERVERS));
    }
}

static void test_the_order_of_the_list_does_not_matter(void **state)
{
    uint64_t turned[SERVERS];

    (void)state;
    for (size_t i = 0; i < SERVERS; i++)
        turned[i] = hash[SERVERS - 1 - i];
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(hash[pick(key, hash, SERVERS)], turned[pick(key, turned, SERVERS)]);
}

static void test_keys_are_spread_evenly(void **state)
{
    unsigned had[SERVERS] = {0};

    (void)state;
    for (unsigned key = 0; key < KEYS; key++)
        had[pick(key, hash, SERVERS)]++;
    for (size_t i = 0; i < SERVERS; i++) /* 10 % is 7 standard deviations */
        assert_in_range(had[i], KEYS / SERVERS * 9 / 10, KEYS / SERVERS * 11 / 10);
}

static void test_a_server_more_takes_its_share_and_moves_nothing_else(void **state)
{
    unsigned moved = 0;

    (void)state;
    for (unsigned key = 0; key < KEYS; key++) {
        size_t before = pick(key, hash, SERVERS - 1), after = pick(key, hash, SERVERS);
        if (before == after)
            continue;
        assert_int_equal(after, SERVERS - 1);
        moved++;
    }
    assert_in_range(moved, KEYS / SERVERS * 9 / 10, KEYS / SERVERS * 11 / 10);
}

static void test_one_server_has_everything(void **state)
{
    (void)state;
    assert_int_equal(shards_pick(SLICE("a"), hash, 1), 0);
    assert_int_equal(shards_pick(SLICE_NONE, hash, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_choice_is_the_same_for_ever),
        cmocka_unit_test(test_only_the_tag_counts),
        cmocka_unit_test(test_the_order_of_the_list_does_not_matter),
        cmocka_unit_test(test_keys_are_spread_evenly),
        cmocka_unit_test(test_a_server_more_takes_its_share_and_moves_nothing_else),
        cmocka_unit_test(test_one_server_has_everything),
    };
    return cmocka_run_group_tests_name("shards", tests, name_servers, NULL);
}
