/* load_redis.c - what it costs that instances share a Redis, and how much later messages come.
 *
 * Always in turn: one instance with its bus in memory; and two instances with one Redis, where one
 * is published to and the other is listened to. Instances are on one core; Redis and the load share
 * the other, so rates over the wall clock are those of this machine's two cores and say little of
 * others: believe CPU times and ratios.
 *
 * The latency is that of a message over everything: from when it was due to be sent (a load that
 * waits for a slow answer does not hide it) until its listener has it, at half of the rate that was
 * the highest through Redis.
 */
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "redis.h"
#include "server.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUNS 5
#define MESSAGES 20000
#define BATCH 100
#define PUBLISHERS 16
#define FAN_CLIENTS 500
#define FAN_MESSAGES 1000
#define LATENCY_RUNS 5
#define LATENCY_SECONDS 4
#define LATENCY_MESSAGES_MAX 400000

/* The instances, and who publishes and listens. */
struct scene {
    bool shared;
    struct redis_server redis; /* shared */
    struct server at, to;      /* published to, listened to; the same one when not shared */
    struct clients clients;
    struct http publisher[PUBLISHERS];
    uint32_t number;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void await_ready(const struct server *s)
{
    struct http h;
    int status;
    http_open(&h, s->port);
    do {
        usleep(20000);
        http_send(&h, "GET", "/ready", "", 0);
        status = http_receive(&h);
    } while (status == 503);
    if (status != 200)
        die("GET /ready was answered %d: %s", status, h.answer);
    http_close(&h);
}

static void scene_start(struct scene *s, bool shared, size_t n_clients)
{
    const char *alone[] = {"--sse-keepalive", "1h", "--outbox-messages", "20000", NULL};
    const char *together[] = {"--sse-keepalive", "1h", "--outbox-messages", "20000", "--redis",
                              s->redis.url,      NULL};
    *s = (struct scene){.shared = shared};
    if (shared) {
        redis_start(&s->redis);
        server_start(&s->at, together);
        server_start(&s->to, together);
    } else {
        server_start(&s->at, alone);
        s->to = s->at;
    }
    await_ready(&s->at);
    await_ready(&s->to);
    clients_open(&s->clients, CLIENT_SSE, s->to.port, n_clients, "/events?channel=news",
                 CONNECTING_AT_ONCE);
    for (int i = 0; i < PUBLISHERS; i++)
        http_open(&s->publisher[i], s->at.port);
}

static void scene_stop(struct scene *s)
{
    clients_close(&s->clients);
    for (int i = 0; i < PUBLISHERS; i++)
        http_close(&s->publisher[i]);
    server_stop(&s->at);
    if (s->shared) {
        server_stop(&s->to);
        redis_stop(&s->redis);
    }
}

/* --- publishing --- */

static void take_answer(struct http *h)
{
    if (http_receive(h) != 200)
        die("publishing: %s", h->answer);
}

static void send_next(struct scene *s, struct http *h)
{
    char body[64];
    int n = snprintf(body, sizeof(body), "%u is the next message", ++s->number);
    http_send(h, "POST", "/publish?channel=news", body, (size_t)n);
}

static void publish_singly(struct scene *s, size_t messages)
{
    for (size_t i = 0; i < messages; i++) {
        struct http *h = &s->publisher[i % PUBLISHERS];
        if (i >= PUBLISHERS)
            take_answer(h);
        send_next(s, h);
        if (i % PUBLISHERS == 0)
            clients_read(&s->clients, 0);
    }
    for (size_t i = 0; i < PUBLISHERS; i++)
        take_answer(&s->publisher[i]);
}

static void publish_in_batches(struct scene *s, size_t messages)
{
    static char body[BATCH * 128];
    for (size_t i = 0; i < messages / BATCH; i++) {
        size_t n = 0;
        for (int k = 0; k < BATCH; k++)
            n += (size_t)snprintf(body + n, sizeof(body) - n,
                                  "%c{\"channel\":\"news\",\"data\":\"%u is the next message\"}",
                                  k ? ',' : '[', ++s->number);
        body[n++] = ']';
        http_post(&s->publisher[0], "/api/publish", body, n);
        clients_read(&s->clients, 0);
    }
}

/* --- costs --- */

struct costs {
    struct runs at, to, redis, all, rate; /* us of CPU per message; k/s of messages, wall clock */
};

static void measure(struct scene *s, void (*publish)(struct scene *, size_t), size_t messages,
                    struct costs *c)
{
    uint64_t want = s->clients.messages + messages * s->clients.n;
    uint64_t began = now_ns(), at = cpu_ns(s->at.pid), to = cpu_ns(s->to.pid),
             redis = s->shared ? cpu_ns(s->redis.pid) : 0;
    publish(s, messages);
    clients_await(&s->clients, want);
    double per_message = 1e3 * (double)messages;
    double at_us = (double)(cpu_ns(s->at.pid) - at) / per_message;
    double to_us = s->shared ? (double)(cpu_ns(s->to.pid) - to) / per_message : 0;
    double redis_us = s->shared ? (double)(cpu_ns(s->redis.pid) - redis) / per_message : 0;
    runs_add(&c->at, at_us);
    runs_add(&c->to, to_us);
    runs_add(&c->redis, redis_us);
    runs_add(&c->all, at_us + to_us);
    runs_add(&c->rate, (double)messages * 1e6 / (double)(now_ns() - began));
    if (s->clients.lost)
        die("%zu clients lost", s->clients.lost);
}

/* Returns the highest rate through Redis, messages per second. */
static double compare(const char *how, void (*publish)(struct scene *, size_t), size_t clients,
                      size_t messages)
{
    static struct scene alone, shared;
    struct costs warm_up = {0}, a = {0}, s = {0};
    struct runs ratio = {0};
    scene_start(&alone, false, clients);
    scene_start(&shared, true, clients);
    measure(&alone, publish, messages, &warm_up);
    measure(&shared, publish, messages, &warm_up);
    for (int i = 0; i < RUNS; i++) {
        measure(&alone, publish, messages, &a);
        measure(&shared, publish, messages, &s);
        runs_add(&ratio, s.all.value[i] / a.all.value[i]);
    }
    scene_stop(&alone);
    scene_stop(&shared);
    printf(" %s\n", how);
    figure("memory: CPU of the instance", &a.at, "us/message");
    figure("Redis: CPU of the instance published to", &s.at, "us/message");
    if (clients)
        figure("Redis: CPU of the instance listened to", &s.to, "us/message");
    figure("Redis: CPU of Redis", &s.redis, "us/message");
    figure("CPU of the instances, over Redis to in memory", &ratio, "x");
    figure("memory: rate on these two cores", &a.rate, "k/s");
    figure("Redis: rate on these two cores", &s.rate, "k/s");
    return runs_median(&s.rate) * 1000;
}

/* --- latency --- */

struct timing {
    uint64_t began_ns;
    double interval_ns;
    uint32_t first; /* number of the first message */
    size_t n, heard;
    uint64_t read_ns; /* when clients were read last */
    double delay_ms[LATENCY_MESSAGES_MAX];
};

static uint64_t due_ns(const struct timing *t, size_t i)
{
    return t->began_ns + (uint64_t)(t->interval_ns * (double)i);
}

static void on_heard(void *ctx, uint32_t number)
{
    struct timing *t = ctx;
    size_t i = number - t->first;
    if (i >= t->n)
        die("message %u was not sent", number);
    t->delay_ms[i] = (double)(t->read_ns - due_ns(t, i)) / 1e6;
    t->heard++;
}

static void read_until(struct scene *s, struct timing *t, uint64_t until_ns)
{
    do {
        uint64_t now = now_ns();
        uint64_t wait_ns = until_ns > now ? until_ns - now : 0;
        struct pollfd p = {.fd = s->clients.epoll_fd, .events = POLLIN};
        struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000u),
                                .tv_nsec = (long)(wait_ns % 1000000000u)};
        if (ppoll(&p, 1, &wait, NULL) > 0) {
            t->read_ns = now_ns();
            clients_read(&s->clients, 0);
        }
    } while (now_ns() < until_ns);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#define PERCENTILES 3
static const double percentile[PERCENTILES] = {50, 99, 99.9};

/* Fills t->delay_ms, sorted. */
static void run_at(struct scene *s, struct timing *t, double per_second)
{
    t->interval_ns = 1e9 / per_second;
    t->n = (size_t)(per_second * LATENCY_SECONDS);
    t->heard = 0;
    t->first = s->number + 1;
    if (t->n > LATENCY_MESSAGES_MAX)
        die("%zu messages are too many", t->n);
    s->clients.heard = on_heard;
    s->clients.ctx = t;
    t->began_ns = now_ns();
    for (size_t i = 0; i < t->n; i++) {
        struct http *h = &s->publisher[i % PUBLISHERS];
        read_until(s, t, due_ns(t, i));
        if (i >= PUBLISHERS)
            take_answer(h);
        send_next(s, h);
    }
    for (size_t i = 0; i < PUBLISHERS; i++)
        take_answer(&s->publisher[i]);
    while (t->heard < t->n)
        read_until(s, t, now_ns() + 1000000);
    qsort(t->delay_ms, t->n, sizeof(double), ascending);
}

static void latency(double per_second)
{
    static struct scene alone, shared;
    static struct timing a, s;
    static struct runs memory[PERCENTILES], redis[PERCENTILES], added[PERCENTILES];
    scene_start(&alone, false, 1);
    scene_start(&shared, true, 1);
    for (int run = -1; run < LATENCY_RUNS; run++) {
        run_at(&alone, &a, per_second);
        run_at(&shared, &s, per_second);
        for (int i = 0; i < PERCENTILES && run >= 0; i++) {
            size_t at = (size_t)((double)(a.n - 1) * percentile[i] / 100);
            runs_add(&memory[i], a.delay_ms[at]);
            runs_add(&redis[i], s.delay_ms[at]);
            runs_add(&added[i], s.delay_ms[at] - a.delay_ms[at]);
        }
    }
    scene_stop(&alone);
    scene_stop(&shared);
    for (int i = 0; i < PERCENTILES; i++) {
        char text[80];
        snprintf(text, sizeof(text), "p%g, memory", percentile[i]);
        figure(text, &memory[i], "ms");
        snprintf(text, sizeof(text), "p%g, Redis", percentile[i]);
        figure(text, &redis[i], "ms");
        snprintf(text, sizeof(text), "p%g, added", percentile[i]);
        figure(text, &added[i], "ms");
    }
}

int main(void)
{
    pin_to_core(LOAD_CORE);
    headline("Publishing over one Redis, compared with the bus in memory");
    compare("one message per request, 16 connections, no listener", publish_singly, 0, MESSAGES);
    compare("100 messages per request, no listener", publish_in_batches, 0, MESSAGES);
    headline("Published at one instance, listened to at another");
    double most = compare("one message per request, 16 connections, one listener", publish_singly,
                          1, MESSAGES);
    compare("100 messages per request, one listener", publish_in_batches, 1, MESSAGES);
    compare("100 messages per request, 500 listeners", publish_in_batches, FAN_CLIENTS,
            FAN_MESSAGES);
    headline("Latency at %.0f messages/s, half of that rate (promise: < 1 / 5 / 20 ms)", most / 2);
    latency(most / 2);
    return 0;
}
