/* load_burst.c - deliveries per second of CPU when messages come in bursts, and that none is lost.
 *
 * 500 clients listen to one channel. A burst is 1,000 messages: as ten POSTs of /api/publish with
 * 100 each, or as 1,000 POSTs of /publish over 16 keep-alive connections. The clients read as fast
 * as one core can; every one of them must have got all messages, in order.
 */
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "server.h"

#include <stdio.h>
#include <string.h>

#define CLIENTS 500
#define MESSAGES 1000
#define BURSTS 9
#define BATCH 100
#define PUBLISHERS 16

static const char *const options[] = {"--sse-keepalive",   "1h",    "--ws-ping", "1h",
                                      "--outbox-messages", "10000", NULL};
static const char *const target[] = {"/events?channel=news", "/ws?channel=news"};

struct burst {
    struct server server;
    struct clients clients;
    struct http publisher[PUBLISHERS];
    uint32_t number;
};

static void publish_in_batches(struct burst *b)
{
    static char body[BATCH * 128];
    for (int i = 0; i < MESSAGES / BATCH; i++) {
        size_t n = 0;
        for (int k = 0; k < BATCH; k++)
            n += (size_t)snprintf(body + n, sizeof(body) - n,
                                  "%c{\"channel\":\"news\",\"data\":\"%u is the next message\"}",
                                  k ? ',' : '[', ++b->number);
        body[n++] = ']';
        http_post(&b->publisher[0], "/api/publish", body, n);
    }
}

/* Which of 16 connections the server reads first is its affair: so one channel, any order. */
static void publish_singly(struct burst *b)
{
    char body[64];
    for (int i = 0; i < MESSAGES; i++) {
        struct http *h = &b->publisher[i % PUBLISHERS];
        if (i >= PUBLISHERS && http_receive(h) != 200)
            die("POST /publish: %s", h->answer);
        int n = snprintf(body, sizeof(body), "%u is the next message", ++b->number);
        http_send(h, "POST", "/publish?channel=news", body, (size_t)n);
    }
    for (int i = MESSAGES; i < MESSAGES + PUBLISHERS; i++)
        if (http_receive(&b->publisher[i % PUBLISHERS]) != 200)
            die("POST /publish: %s", b->publisher[i % PUBLISHERS].answer);
}

static void measure(enum client_kind kind, const char *how, void (*publish)(struct burst *),
                    bool in_order)
{
    struct burst b = {.number = 0};
    struct runs rate = {0};
    char text[80];
    server_start(&b.server, options);
    clients_open(&b.clients, kind, b.server.clients_port, CLIENTS, target[kind],
                 CONNECTING_AT_ONCE);
    for (int i = 0; i < PUBLISHERS; i++)
        http_open(&b.publisher[i], b.server.port);
    for (int i = 0; i <= BURSTS; i++) {
        uint64_t began = cpu_ns(b.server.pid);
        publish(&b);
        clients_await(&b.clients, (uint64_t)(i + 1) * MESSAGES * CLIENTS);
        if (i > 0)
            runs_add(&rate,
                     (double)MESSAGES * CLIENTS * 1e3 / (double)(cpu_ns(b.server.pid) - began));
    }
    if (b.clients.lost || (in_order && b.clients.out_of_order))
        die("%zu clients lost, %llu messages out of order", b.clients.lost,
            (unsigned long long)b.clients.out_of_order);
    snprintf(text, sizeof(text), "%s, %s", client_kind_name(kind), how);
    figure(text, &rate, "M/s");
    clients_close(&b.clients);
    for (int i = 0; i < PUBLISHERS; i++)
        http_close(&b.publisher[i]);
    server_stop(&b.server);
}

int main(void)
{
    pin_to_core(LOAD_CORE);
    headline("Bursts of %d messages to %d clients, deliveries per second of CPU"
             " (promise: >= 3 M/s, nothing lost)",
             MESSAGES, CLIENTS);
    for (enum client_kind kind = CLIENT_SSE; kind <= CLIENT_WS; kind++) {
        measure(kind, "100 messages per request", publish_in_batches, true);
        measure(kind, "one message per request, 16 publishers", publish_singly, false);
    }
    return 0;
}
