/* load_idle_cpu.c - CPU time that an idle client costs per second.
 *
 * 5,000 clients that are sent nothing but keep-alives (EventSource) or pings, which they answer
 * (WebSocket). Both come every second here, for seconds; the cost of one is then scaled to the
 * intervals that are the default.
 */
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "server.h"

#include <time.h>

#define CLIENTS 5000
#define RUNS 5
#define SECONDS 4
#define KEEPALIVE_BYTES 3 /* ":" and an empty line */
#define DEFAULT_KEEPALIVE_S 15
#define DEFAULT_PING_S 30

static const char *const options[] = {"--sse-keepalive", "1s", "--ws-ping", "1s",
                                      "--ws-pong",       "1s", NULL};
static const char *const target[] = {"/events?channel=news", "/ws?channel=news"};

static void read_for(struct clients *cs, time_t seconds)
{
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += seconds;
    do {
        clients_read(cs, 20);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
}

static uint64_t signs_of_life(const struct clients *cs)
{
    return cs->kind == CLIENT_WS ? cs->pings : cs->bytes / KEEPALIVE_BYTES;
}

static void measure(enum client_kind kind, const char *one, const char *per_second, int interval_s)
{
    struct runs cost = {0}, idle = {0};
    struct server s;
    struct clients cs;
    server_start(&s, options);
    clients_open(&cs, kind, s.clients_port, CLIENTS, target[kind], CONNECTING_AT_ONCE);
    read_for(&cs, 2);
    for (int i = 0; i < RUNS; i++) {
        uint64_t before = signs_of_life(&cs), began = cpu_ns(s.pid);
        read_for(&cs, SECONDS);
        uint64_t n = signs_of_life(&cs) - before;
        if (n < CLIENTS || cs.lost)
            die("%llu keep-alives, %zu connections lost", (unsigned long long)n, cs.lost);
        double us = (double)(cpu_ns(s.pid) - began) / (double)n / 1000;
        runs_add(&cost, us);
        runs_add(&idle, us / interval_s);
    }
    figure(one, &cost, "us CPU");
    figure(per_second, &idle, "us/s");
    clients_close(&cs);
    server_stop(&s);
}

int main(void)
{
    pin_to_core(LOAD_CORE);
    headline("CPU of an idle client (promise: <= 0.4 us/s)");
    measure(CLIENT_SSE, "one keep-alive", "sse, a keep-alive every 15 s", DEFAULT_KEEPALIVE_S);
    measure(CLIENT_WS, "one ping and its pong", "ws, a ping every 30 s", DEFAULT_PING_S);
    return 0;
}
