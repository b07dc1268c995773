/* test_pool.c - the pool: zeroed objects that do not overlap, chunks that go back, randomness. */
#include "crier/pool.h"
#include "crier/rnd.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define N_OBJECTS 4000

#if defined(__SANITIZE_ADDRESS__)
#define PLAIN_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PLAIN_MALLOC 1
#endif
#endif
#ifndef PLAIN_MALLOC
#define PLAIN_MALLOC 0
#endif

static unsigned char *objects[N_OBJECTS];

static size_t chunks(const struct list *l)
{
    size_t n = 0;

    list_for_each (it, l)
        n++;
    return n;
}

/* A new object is all zero, on 16, and is then filled with its own mark. */
static void take(struct pool *p, size_t i)
{
    objects[i] = pool_try_new(p);
    assert_non_null(objects[i]);
    assert_int_equal((uintptr_t)objects[i] % 16, 0);
    for (size_t at = 0; at < p->object_bytes; at++)
        assert_int_equal(objects[i][at], 0);
    memset(objects[i], (int)(i % 251 + 1), p->object_bytes);
}

static void give_back(struct pool *p, size_t i)
{
    for (size_t at = 0; at < p->object_bytes; at++)
        assert_int_equal(objects[i][at], i % 251 + 1);
    pool_free(p, objects[i]);
    objects[i] = NULL;
}

static void test_sizes_are_rounded_to_16(void **state)
{
    static const size_t cases[][2] = {{1, 16}, {16, 16}, {17, 32}, {100, 112}};
    struct pool p;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        pool_init(&p, cases[i][0]);
        assert_int_equal(p.object_bytes, cases[i][1]);
        pool_release(&p);
    }
}

static void test_objects_come_zeroed_and_do_not_overlap(void **state)
{
    static const size_t sizes[] = {16, 48, 200, 1008, 20000};
    struct pool p;

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s] > 1000 ? 150 : N_OBJECTS;
        pool_init(&p, sizes[s]);
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < n; i++)
                take(&p, i);
            assert_int_equal(p.in_use, n);
            for (size_t i = 0; i < n; i++)
                give_back(&p, i);
            assert_int_equal(p.in_use, 0);
        }
        pool_release(&p);
    }
}

static void test_free_chunks_go_back_but_for_one(void **state)
{
    struct pool p;

    (void)state;
    if (PLAIN_MALLOC)
        return;
    pool_init(&p, 256);
    for (size_t i = 0; i < N_OBJECTS; i++)
        take(&p, i);
    assert_true(chunks(&p.full) >= 10);
    for (size_t i = 0; i < N_OBJECTS; i++)
        give_back(&p, i);
    assert_int_equal(chunks(&p.full), 0);
    assert_int_equal(chunks(&p.partial), 1);
    pool_release(&p);
    assert_int_equal(chunks(&p.partial), 0);
    take(&p, 0);
    give_back(&p, 0);
    pool_release(&p);
}

static void test_one_left_over_keeps_only_its_chunk(void **state)
{
    struct pool p;

    (void)state;
    if (PLAIN_MALLOC)
        return;
    pool_init(&p, 64);
    for (size_t i = 0; i < N_OBJECTS; i++)
        take(&p, i);
    for (size_t i = 0; i < N_OBJECTS; i++)
        if (i != 1234)
            give_back(&p, i);
    assert_int_equal(chunks(&p.full) + chunks(&p.partial), 2);
    give_back(&p, 1234);
    pool_release(&p);
}

static void test_random_use(void **state)
{
    struct pool p;
    size_t in_use = 0;

    (void)state;
    pool_init(&p, 176);
    memset(objects, 0, sizeof objects);
    for (unsigned step = 0; step < 40000; step++) {
        size_t i = rnd_below(step / 10000 % 2 ? 300 : N_OBJECTS);
        bool fill = rnd_below(100) < (step / 5000 % 2 ? 15 : 85);
        if (objects[i] && !fill) {
            give_back(&p, i);
            in_use--;
        } else if (!objects[i] && fill) {
            take(&p, i);
            in_use++;
        }
        assert_int_equal(p.in_use, in_use);
    }
    for (size_t i = 0; i < N_OBJECTS; i++)
        if (objects[i])
            give_back(&p, i);
    pool_release(&p);
}

static void test_nothing_can_be_freed(void **state)
{
    struct pool p;

    (void)state;
    pool_init(&p, 32);
    pool_free(&p, NULL);
    assert_int_equal(p.in_use, 0);
    pool_release(&p);
}

static void test_jitter_is_in_range_and_reaches_all_of_it(void **state)
{
    unsigned hits[7] = {0};

    (void)state;
    for (int i = 0; i < 7000; i++)
        hits[rnd_below(7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(hits[i], 700, 1300);
    for (int i = 0; i < 100; i++)
        assert_int_equal(rnd_below(1), 0);
    bool upper = false;
    for (int i = 0; i < 200; i++)
        upper |= rnd_below(UINT32_MAX) > UINT32_MAX / 2;
    assert_true(upper);
}

static void test_random_bytes_fill_exactly_what_was_asked(void **state)
{
    unsigned char room[600] = {0};
    size_t zeros = 0;

    (void)state;
    rnd_bytes(room + 4, 592); /* more than one getrandom() is guaranteed to give */
    rnd_bytes(room, 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(room[i] | room[596 + i], 0);
    for (size_t i = 4; i < 596; i++)
        zeros += room[i] == 0;
    assert_true(zeros < 30);
    assert_true(rnd_u64() != rnd_u64());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_are_rounded_to_16),
        cmocka_unit_test(test_objects_come_zeroed_and_do_not_overlap),
        cmocka_unit_test(test_free_chunks_go_back_but_for_one),
        cmocka_unit_test(test_one_left_over_keeps_only_its_chunk),
        cmocka_unit_test(test_random_use),
        cmocka_unit_test(test_nothing_can_be_freed),
        cmocka_unit_test(test_jitter_is_in_range_and_reaches_all_of_it),
        cmocka_unit_test(test_random_bytes_fill_exactly_what_was_asked),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
