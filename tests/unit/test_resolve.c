/* test_resolve.c - names to addresses beside the loop, with a resolver that hangs when told to. */
#include "crier/clock.h"
#include "crier/resolve.h"

#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "fake_dns.h"

#define PATIENCE_MS 20000
#define MAX_THREADS 64

static struct loop *loop;

struct query {
    struct resolve *r;
    unsigned called;
    size_t n;
    struct sock_addr addr[RESOLVE_MAX_ADDRS];
    struct query *cancels; /* another, when this one is done */
};

static const struct dns_name names[] = {
    {.name = "one.test", .address = {"192.0.2.1"}},
    {.name = "two.test", .address = {"2001:db8::1", "192.0.2.2", "192.0.2.2"}},
    {.name = "many.test",
     .address = {"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6",
                 "192.0.2.7", "192.0.2.8", "192.0.2.9"}},
    {.name = "slow.test", .hangs = true, .address = {"192.0.2.7"}},
    {.name = NULL},
};

static unsigned threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned n = 0;

    assert_non_null(tasks);
    while (readdir(tasks))
        n++;
    closedir(tasks);
    return n;
}

static unsigned threads_at_start;

static void wait_for_threads_to_end(void)
{
    uint64_t give_up = clock_mono_ms() + PATIENCE_MS;

    while (threads() > threads_at_start) {
        assert_true(clock_mono_ms() < give_up);
        sched_yield();
    }
}

static int make_loop(void **state)
{
    (void)state;
    dns_hold(true);
    return loop_new(&loop) == ERR_OK ? 0 : -1;
}

static int drop_loop(void **state)
{
    (void)state;
    loop_free(loop);
    dns_hold(false);
    wait_for_threads_to_end();
    return 0;
}

static void done(void *ctx, const struct sock_addr *addr, size_t n)
{
    struct query *q = ctx;

    assert_true(n <= RESOLVE_MAX_ADDRS);
    q->called++;
    q->n = n;
    memcpy(q->addr, addr, n * sizeof *addr);
    if (q->cancels)
        resolve_cancel(q->cancels->r);
}

static enum err ask(struct query *q, const char *host)
{
    *q = (struct query){.cancels = q->cancels};
    enum err e = resolve_start(loop, host, 6379, done, q, &q->r);
    assert_int_equal(q->called, 0); /* never from within */
    return e;
}

static void wait_for(struct query *q)
{
    uint64_t give_up = clock_mono_ms() + PATIENCE_MS;

    while (!q->called) {
        assert_true(clock_mono_ms() < give_up);
        loop_turn(loop, PATIENCE_MS);
    }
    assert_int_equal(q->called, 1);
}

static void assert_addresses(struct query *q, const char *expected)
{
    char all[RESOLVE_MAX_ADDRS * (SOCK_ADDR_TEXT_BYTES + 1)] = "", one[SOCK_ADDR_TEXT_BYTES];

    for (size_t i = 0; i < q->n; i++) {
        sock_addr_text(&q->addr[i], one);
        strcat(all, i ? " " : "");
        strcat(all, one);
    }
    assert_string_equal(all, expected);
}

static void assert_host(const char *host, const char *expected)
{
    struct query q = {.cancels = NULL};

    assert_int_equal(ask(&q, host), ERR_OK);
    wait_for(&q);
    assert_addresses(&q, expected);
}

static void test_literals(void **state)
{
    (void)state;
    assert_host("192.0.2.1", "192.0.2.1:6379");
    assert_host("2001:db8::1", "[2001:db8::1]:6379");
    assert_host("[2001:db8::1]", "[2001:db8::1]:6379");
}

/* They must not wait for threads that hang. */
static void test_literals_need_no_thread(void **state)
{
    struct query slow[MAX_THREADS] = {{.called = 0}};

    (void)state;
    for (int i = 0; i < MAX_THREADS; i++)
        assert_int_equal(ask(&slow[i], "slow.test"), ERR_OK);
    assert_host("192.0.2.1", "192.0.2.1:6379");
    for (int i = 0; i < MAX_THREADS; i++)
        resolve_cancel(slow[i].r);
}

static void test_names(void **state)
{
    (void)state;
    assert_host("one.test", "192.0.2.1:6379");
    assert_host("two.test", "[2001:db8::1]:6379 192.0.2.2:6379");
    assert_host("many.test", "192.0.2.1:6379 192.0.2.2:6379 192.0.2.3:6379 192.0.2.4:6379 "
                             "192.0.2.5:6379 192.0.2.6:6379 192.0.2.7:6379 192.0.2.8:6379");
}

static void test_names_without_an_address(void **state)
{
    char name[300];

    (void)state;
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_host("none.test", "");
    assert_host(name, "");
    assert_host("", "");
}

static void test_the_loop_goes_on_meanwhile(void **state)
{
    struct query slow = {.called = 0};

    (void)state;
    assert_int_equal(ask(&slow, "slow.test"), ERR_OK);
    assert_host("one.test", "192.0.2.1:6379");
    loop_turn(loop, 0);
    assert_int_equal(slow.called, 0);
    dns_hold(false);
    wait_for(&slow);
    assert_addresses(&slow, "192.0.2.7:6379");
}

static void test_the_host_is_copied(void **state)
{
    struct query q = {.called = 0};
    char host[] = "one.test";

    (void)state;
    assert_int_equal(ask(&q, host), ERR_OK);
    memset(host, 'x', sizeof host - 1);
    wait_for(&q);
    assert_addresses(&q, "192.0.2.1:6379");
}

/* The threads outlive the requests, and the loop (which teardown frees first). */
static void test_cancelled(void **state)
{
    struct query slow = {.called = 0}, literal = {.called = 0}, quick = {.called = 0};

    (void)state;
    assert_int_equal(ask(&slow, "slow.test"), ERR_OK);
    assert_int_equal(ask(&literal, "192.0.2.1"), ERR_OK);
    assert_int_equal(ask(&quick, "one.test"), ERR_OK);
    resolve_cancel(slow.r);
    resolve_cancel(literal.r);
    resolve_cancel(quick.r);
    loop_turn(loop, 0);
    assert_host("one.test", "192.0.2.1:6379"); /* whatever there was has been dispatched */
    assert_int_equal(slow.called + literal.called + quick.called, 0);
}

/* Both are ready in the same turn. */
static void test_cancelled_by_another(void **state)
{
    struct query a = {.called = 0}, b = {.called = 0};

    (void)state;
    a.cancels = &b;
    b.cancels = &a;
    assert_int_equal(ask(&a, "192.0.2.1"), ERR_OK);
    assert_int_equal(ask(&b, "192.0.2.2"), ERR_OK);
    loop_turn(loop, PATIENCE_MS);
    loop_turn(loop, 0);
    assert_int_equal(a.called + b.called, 1);
}

/* A resolver that hangs collects no threads without bound, and when it moves again all is well. */
static void test_no_more_threads_than_that(void **state)
{
    struct query slow[MAX_THREADS + 1] = {{.called = 0}};
    int n = 0;

    (void)state;
    while (ask(&slow[n], "slow.test") == ERR_OK)
        resolve_cancel(slow[n++].r); /* cancelled or not, the thread is there */
    assert_int_equal(n, MAX_THREADS);
    assert_int_equal(slow[n].called, 0);
    dns_hold(false);
    wait_for_threads_to_end();
    assert_host("one.test", "192.0.2.1:6379");
}

static void *nothing(void *arg)
{
    return arg;
}

#define resolve_test(f) cmocka_unit_test_setup_teardown(f, make_loop, drop_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        resolve_test(test_literals),
        resolve_test(test_literals_need_no_thread),
        resolve_test(test_names),
        resolve_test(test_names_without_an_address),
        resolve_test(test_the_loop_goes_on_meanwhile),
        resolve_test(test_the_host_is_copied),
        resolve_test(test_cancelled),
        resolve_test(test_cancelled_by_another),
        resolve_test(test_no_more_threads_than_that),
    };

    dns_table = names;
    /* A sanitizer starts a thread of its own with the first of ours. */
    pthread_t first;
    if (pthread_create(&first, NULL, nothing, NULL) != 0)
        return 1;
    pthread_join(first, NULL);
    threads_at_start = threads();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
