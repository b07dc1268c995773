/* test_map.c - the hash map, checked against a plain array; and the hash. */
#include "crier/list.h"
#include "crier/map.h"
#include "crier/rnd.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define N_ITEMS 2000

struct item {
    struct map_node node;
    char name[16];
    bool in;
    unsigned seen;
};

static struct item items[N_ITEMS];

static struct item *item_of(const struct map_node *node)
{
    return container_of((struct map_node *)(uintptr_t)node, struct item, node);
}

static struct slice item_key(const struct map_node *node)
{
    return slice_str(item_of(node)->name);
}

static void fresh_items(struct map *m)
{
    map_init(m, item_key);
    memset(items, 0, sizeof items);
    for (size_t i = 0; i < N_ITEMS; i++)
        snprintf(items[i].name, sizeof items[i].name, "item-%zu", i);
}

static void put_all(struct map *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        map_put(m, &items[i].node);
}

static void remove_all(struct map *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        map_remove(m, &items[i].node);
}

static void test_an_empty_map_has_nothing(void **state)
{
    struct map m;

    (void)state;
    fresh_items(&m);
    assert_null(map_get(&m, SLICE("item-0")));
    assert_null(map_get(&m, SLICE_NONE));
    assert_null(map_next(&m, NULL));
    map_release(&m);
    map_release(&m);
}

static void test_what_was_put_is_found_by_key_and_by_hash(void **state)
{
    struct map m;

    (void)state;
    fresh_items(&m);
    put_all(&m, N_ITEMS);
    assert_int_equal(m.count, N_ITEMS);
    for (size_t i = 0; i < N_ITEMS; i++) {
        struct slice key = slice_str(items[i].name);
        assert_ptr_equal(map_get(&m, key), &items[i].node);
        assert_ptr_equal(map_get_hashed(&m, key, hash_bytes(key)), &items[i].node);
        assert_true(items[i].node.hash == hash_bytes(key));
    }
    assert_null(map_get(&m, SLICE("item-")));
    assert_null(map_get(&m, SLICE("item-00")));
    remove_all(&m, N_ITEMS);
    map_release(&m);
}

static void test_keys_are_bytes(void **state)
{
    struct map m;

    (void)state;
    fresh_items(&m);
    items[0].name[0] = '\0'; /* the empty key is a key */
    put_all(&m, 2);
    assert_ptr_equal(map_get(&m, SLICE_NONE), &items[0].node);
    assert_null(map_get(&m, SLICE("\0")));
    assert_null(map_get(&m, SLICE("item-1\0")));
    remove_all(&m, 2);
    map_release(&m);
}

static void test_buckets_follow_the_population(void **state)
{
    struct map m;

    (void)state;
    fresh_items(&m);
    put_all(&m, N_ITEMS);
    size_t large = m.n_buckets;
    assert_true(large >= N_ITEMS / 2 && large <= 4 * N_ITEMS);
    assert_int_equal(large & (large - 1), 0);
    for (size_t i = 10; i < N_ITEMS; i++)
        map_remove(&m, &items[i].node);
    for (int round = 0; round < 12; round++) {
        map_put(&m, &items[500].node);
        map_remove(&m, &items[500].node);
    }
    assert_true(m.n_buckets <= 128);
    for (size_t i = 0; i < 10; i++)
        assert_ptr_equal(map_get(&m, slice_str(items[i].name)), &items[i].node);
    remove_all(&m, 10);
    assert_true(m.n_buckets <= 8);
    map_release(&m);
}

static unsigned walk(struct map *m, bool (*drop)(struct item *))
{
    unsigned n = 0;

    for (struct map_node *it = map_next(m, NULL); it; it = map_next(m, it)) {
        n++;
        item_of(it)->seen++;
        if (drop(item_of(it)))
            map_remove(m, it);
    }
    return n;
}

static bool drop_none(struct item *item)
{
    (void)item;
    return false;
}

static bool drop_all(struct item *item)
{
    (void)item;
    return true;
}

static bool drop_odd(struct item *item)
{
    return (item - items) % 2;
}

static void test_a_walk_meets_everything_once(void **state)
{
    struct map m;

    (void)state;
    fresh_items(&m);
    put_all(&m, N_ITEMS);
    assert_int_equal(walk(&m, drop_none), N_ITEMS);
    for (size_t i = 0; i < N_ITEMS; i++)
        assert_int_equal(items[i].seen, 1);
    remove_all(&m, N_ITEMS);
    map_release(&m);
}

static void test_a_walk_may_remove_what_it_meets(void **state)
{
    struct map m;

    (void)state;
    fresh_items(&m);
    for (size_t n = 1; n <= N_ITEMS; n += n < 40 ? 1 : 490) {
        put_all(&m, n);
        assert_int_equal(walk(&m, drop_odd), n);
        assert_int_equal(m.count, (n + 1) / 2);
        assert_int_equal(walk(&m, drop_all), (n + 1) / 2);
        assert_int_equal(m.count, 0);
    }
    map_release(&m);
}

static void test_random_changes_against_a_plain_array(void **state)
{
    struct map m;
    size_t count = 0;

    (void)state;
    fresh_items(&m);
    for (unsigned step = 0; step < 60000; step++) {
        /* the population swings between few and many */
        uint32_t range = step / 6000 % 2 ? 40 : N_ITEMS;
        struct item *it = &items[rnd_below(range)];
        bool fill = rnd_below(100) < (step / 3000 % 2 ? 20 : 80);
        assert_int_equal(map_get(&m, slice_str(it->name)) != NULL, it->in);
        if (it->in && !fill)
            map_remove(&m, &it->node);
        else if (!it->in && fill)
            map_put(&m, &it->node);
        else
            continue;
        it->in = fill;
        count += fill ? 1 : (size_t)-1;
        assert_int_equal(m.count, count);
    }
    for (size_t i = 0; i < N_ITEMS; i++)
        assert_int_equal(map_get(&m, slice_str(items[i].name)) != NULL, items[i].in);
    assert_int_equal(walk(&m, drop_all), count);
    map_release(&m);
}

/* The child's core and its line on stderr are of no interest. */
static void assert_aborts(void (*doomed)(void))
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* the sanitizers and cmocka have their own */
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(STDERR_FILENO);
        doomed();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void put_twice(void)
{
    struct map m;

    fresh_items(&m);
    put_all(&m, 3);
    memcpy(items[3].name, items[1].name, sizeof items[3].name);
    map_put(&m, &items[3].node);
}

static void remove_stranger(void)
{
    struct map m;

    fresh_items(&m);
    put_all(&m, 3);
    map_remove(&m, &items[3].node);
}

static void release_full(void)
{
    struct map m;

    fresh_items(&m);
    put_all(&m, 1);
    map_release(&m);
}

static void test_misuse_stops_the_program(void **state)
{
    (void)state;
    assert_aborts(put_twice);
    assert_aborts(remove_stranger);
    assert_aborts(release_full);
}

static void test_every_byte_and_the_length_count_in_the_hash(void **state)
{
    char bytes[40] = {0};

    (void)state;
    for (size_t len = 0; len <= sizeof bytes; len++) {
        uint64_t plain = hash_bytes(slice_of(bytes, len));
        assert_true(plain == hash_bytes(slice_of(bytes, len)));
        for (size_t shorter = 0; shorter < len; shorter++)
            assert_true(plain != hash_bytes(slice_of(bytes, shorter)));
        for (size_t i = 0; i < len; i++) {
            bytes[i] = 1;
            assert_true(plain != hash_bytes(slice_of(bytes, len)));
            bytes[i] = 0;
        }
    }
}

static void test_the_hash_does_not_depend_on_alignment(void **state)
{
    char room[64];

    (void)state;
    uint64_t expected = hash_bytes(SLICE("a channel name of some length"));
    for (size_t shift = 0; shift < 16; shift++) {
        memcpy(room + shift, "a channel name of some length", 29);
        assert_true(hash_bytes(slice_of(room + shift, 29)) == expected);
    }
}

static void *hash_in_thread(void *out)
{
    *(uint64_t *)out = hash_bytes(SLICE("same in every thread"));
    return NULL;
}

static void test_all_threads_hash_alike(void **state)
{
    pthread_t threads[4];
    uint64_t hashes[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hash_in_thread, &hashes[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++)
        assert_true(hashes[i] == hash_bytes(SLICE("same in every thread")));
}

/* With 1024 buckets and 16,384 keys a fair hash puts about 16 +- 4 in each. */
static void test_the_low_bits_spread(void **state)
{
    static unsigned fill[1024];
    char key[16];

    (void)state;
    for (unsigned i = 0; i < 16384; i++) {
        int n = snprintf(key, sizeof key, "k%u", i);
        fill[hash_bytes(slice_of(key, (size_t)n)) & 1023]++;
    }
    for (size_t i = 0; i < 1024; i++)
        assert_in_range(fill[i], 1, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first: the threads race for the key */
        cmocka_unit_test(test_all_threads_hash_alike),
        cmocka_unit_test(test_an_empty_map_has_nothing),
        cmocka_unit_test(test_what_was_put_is_found_by_key_and_by_hash),
        cmocka_unit_test(test_keys_are_bytes),
        cmocka_unit_test(test_buckets_follow_the_population),
        cmocka_unit_test(test_a_walk_meets_everything_once),
        cmocka_unit_test(test_a_walk_may_remove_what_it_meets),
        cmocka_unit_test(test_random_changes_against_a_plain_array),
        cmocka_unit_test(test_misuse_stops_the_program),
        cmocka_unit_test(test_every_byte_and_the_length_count_in_the_hash),
        cmocka_unit_test(test_the_hash_does_not_depend_on_alignment),
        cmocka_unit_test(test_the_low_bits_spread),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
