/* load_rates.c - requests per second of CPU: new streams, and publishing.
 *
 * New streams: 5,000 clients come, 64 at a time, and leave; both halves count. A connection is made
 * by a whole request: accept, parse, subscribe, answer. Publishing: to a channel without listeners
 * over 16 keep-alive connections, and the same one at a time.
 */
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "server.h"

#include <stdio.h>
#include <string.h>

#define CLIENTS 5000
#define RUNS 5
#define REQUESTS 20000
#define PUBLISHERS 16

/* The connection that asks for /stats is idle while thousands of TLS handshakes are made. */
static const char *const patient[] = {"--request-timeout", "1m", NULL};
static const char *const target[] = {"/events?channel=news", "/ws?channel=news"};

static double k_per_s(double n, uint64_t ns)
{
    return n * 1e6 / (double)ns;
}

static void new_streams(enum client_kind kind)
{
    struct server s;
    struct http h;
    struct runs coming = {0}, both = {0};
    char text[80];
    server_start(&s, patient);
    http_open(&h, s.port);
    for (int i = -1; i < RUNS; i++) {
        struct clients cs;
        uint64_t began = cpu_ns(s.pid);
        clients_open(&cs, kind, s.clients_port, CLIENTS, target[kind], CONNECTING_AT_ONCE);
        uint64_t here = cpu_ns(s.pid);
        clients_close(&cs);
        stats_wait(&h, client_kind_name(kind), 0);
        uint64_t gone = cpu_ns(s.pid);
        if (i < 0)
            continue; /* warming up */
        runs_add(&coming, k_per_s(CLIENTS, here - began));
        runs_add(&both, k_per_s(CLIENTS, gone - began));
    }
    snprintf(text, sizeof(text), "new %s clients", client_kind_name(kind));
    figure(text, &coming, "k/s");
    snprintf(text, sizeof(text), "new %s clients, leaving included", client_kind_name(kind));
    figure(text, &both, "k/s");
    http_close(&h);
    server_stop(&s);
}

static double publish_round(const struct server *s, struct http *h, int n_publishers)
{
    static const char body[] = "1 and a little more, so that it is a usual message";
    uint64_t began = cpu_ns(s->pid);
    for (int i = 0; i < REQUESTS + n_publishers; i++) {
        struct http *p = &h[i % n_publishers];
        if (i >= n_publishers && http_receive(p) != 200)
            die("POST /publish: %s", p->answer);
        if (i < REQUESTS)
            http_send(p, "POST", "/publish?channel=nobody", body, sizeof(body) - 1);
    }
    return k_per_s(REQUESTS, cpu_ns(s->pid) - began);
}

static void publishing(int n_publishers)
{
    static struct http h[PUBLISHERS];
    struct server s;
    struct runs rate = {0};
    char text[80];
    server_start(&s, patient);
    for (int i = 0; i < n_publishers; i++)
        http_open(&h[i], s.port);
    for (int i = -1; i < RUNS; i++) {
        double r = publish_round(&s, h, n_publishers);
        if (i >= 0)
            runs_add(&rate, r);
    }
    snprintf(text, sizeof(text), "publishing, %d keep-alive connection%s", n_publishers,
             n_publishers > 1 ? "s" : "");
    figure(text, &rate, "k/s");
    for (int i = 0; i < n_publishers; i++)
        http_close(&h[i]);
    server_stop(&s);
}

int main(void)
{
    pin_to_core(LOAD_CORE);
    headline("Requests per second of CPU (promise: >= 30 k/s new connections)");
    new_streams(CLIENT_SSE);
    new_streams(CLIENT_WS);
    publishing(PUBLISHERS);
    publishing(1);
    return 0;
}
