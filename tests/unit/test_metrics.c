/* test_metrics.c - sums over threads, and the text that Prometheus reads. */
#include "crier/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define THREADS 4
#define ROUNDS 100000

static void *count_up(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        metrics_inc(M_REQUESTS);
        metrics_add(M_SENT_BYTES, 10);
    }
    metrics_add(M_CONNECTIONS, 3);
    return NULL;
}

static void sums_over_threads_survive_the_threads(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    int64_t requests = metrics_get(M_REQUESTS), bytes = metrics_get(M_SENT_BYTES);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, count_up, NULL), 0);
    /* A reader in between sees a value between the two ends and never one that goes back. */
    int64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        int64_t now = metrics_get(M_REQUESTS);
        assert_true(now >= last);
        last = now;
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(metrics_get(M_REQUESTS) - requests, THREADS * ROUNDS);
    assert_int_equal(metrics_get(M_SENT_BYTES) - bytes, THREADS * ROUNDS * 10);
}

static void a_gauge_raised_there_is_lowered_here(void **state)
{
    (void)state;
    pthread_t t;
    int64_t before = metrics_get(M_CONNECTIONS);
    assert_int_equal(pthread_create(&t, NULL, count_up, NULL), 0);
    pthread_join(t, NULL);
    metrics_dec(M_CONNECTIONS);
    metrics_add(M_CONNECTIONS, -2);
    assert_int_equal(metrics_get(M_CONNECTIONS), before);
}

static size_t occurrences(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void renders_prometheus_text(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    metrics_add(M_CLIENTS_WS, 7 - metrics_get(M_CLIENTS_WS));
    metrics_add(M_PUBLISHED, 12 - metrics_get(M_PUBLISHED));
    metrics_render(&b);
    buf_append_char(&b, 0);
    assert_false(b.failed);
    assert_non_null(strstr(b.data, "# HELP crier_clients Clients connected now.\n"
                                   "# TYPE crier_clients gauge\n"
                                   "crier_clients{transport=\"sse\"} "));
    assert_non_null(strstr(b.data, "\ncrier_clients{transport=\"ws\"} 7\n"));
    assert_non_null(strstr(b.data, "# TYPE crier_published_messages_total counter\n"
                                   "crier_published_messages_total 12\n"));
    assert_int_equal(occurrences(b.data, "# TYPE crier_clients gauge\n"), 1);
    assert_int_equal(occurrences(b.data, "# HELP crier_refused_total "), 1);
    size_t lines = occurrences(b.data, "\n"), comments = occurrences(b.data, "# ");
    assert_int_equal(lines - comments, METRIC_COUNT);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_over_threads_survive_the_threads),
        cmocka_unit_test(a_gauge_raised_there_is_lowered_here),
        cmocka_unit_test(renders_prometheus_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
