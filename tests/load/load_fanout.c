/* load_fanout.c - CPU per delivery of one message to 5,000 clients, against a bare send() loop.
 *
 * Rounds alternate: the server delivers a message to its 5,000 clients, then a process that does
 * nothing else sends as many bytes to 5,000 sockets of its own. The same program reads both, in the
 * same way, from the other core. What the server does for the POST is part of its time.
 */
#include "bare.h"
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "server.h"

#include <stdio.h>
#include <string.h>

#define CLIENTS 5000
#define ROUNDS 31
#define MESSAGES_PER_ROUND 6

static const char *const options[] = {"--sse-keepalive", "1h", "--ws-ping", "1h", NULL};
static const char *const target[] = {"/events?channel=news", "/ws?channel=news"};
/* What a message looks like to clients.c; filled up to the size of the server's. */
static const char *const message_head[] = {"data: ", "{\"data\":\""};
static const char *const ready_text[] = {"crier.ready\n\n", "\"op\":\"ready\""};

struct fanout {
    enum client_kind kind;
    struct server server;
    struct bare bare;
    struct clients ours, theirs;
    struct http http;
    size_t message_bytes; /* on the wire */
    uint32_t number;
};

static double server_round(struct fanout *f)
{
    char body[256];
    uint64_t began = cpu_ns(f->server.pid);
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        int n = snprintf(body, sizeof(body), "%u and then the rest of a message as it is usual",
                         ++f->number);
        http_post(&f->http, "/publish?channel=news", body, (size_t)n);
        clients_await(&f->ours, f->ours.messages + CLIENTS - f->ours.messages % CLIENTS);
    }
    return (double)(cpu_ns(f->server.pid) - began) / CLIENTS / MESSAGES_PER_ROUND / 1000;
}

static double bare_round(struct fanout *f)
{
    char message[1024];
    uint64_t began = cpu_ns(f->bare.pid);
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        memset(message, 'x', sizeof(message));
        int n = snprintf(message, sizeof(message), "%s%u", message_head[f->kind],
                         f->number + (uint32_t)i);
        message[n] = ' ';
        uint64_t want = f->theirs.messages + CLIENTS;
        bare_send(&f->bare, message, f->message_bytes, 0, 1, CLIENTS);
        clients_await(&f->theirs, want);
        bare_wait(&f->bare);
    }
    return (double)(cpu_ns(f->bare.pid) - began) / CLIENTS / MESSAGES_PER_ROUND / 1000;
}

static void set_up(struct fanout *f, enum client_kind kind)
{
    *f = (struct fanout){.kind = kind};
    server_start(&f->server, options);
    clients_open(&f->ours, kind, f->server.port, CLIENTS, target[kind], CONNECTING_AT_ONCE);
    bare_start(&f->bare, CLIENTS, ready_text[kind]);
    clients_open(&f->theirs, kind, f->bare.port, CLIENTS, "/", CONNECTING_AT_ONCE);
    http_open(&f->http, f->server.port);
    uint64_t before = f->ours.bytes;
    (void)server_round(f);
    f->message_bytes = (size_t)(f->ours.bytes - before) / CLIENTS / MESSAGES_PER_ROUND;
    (void)bare_round(f);
}

static void measure(enum client_kind kind)
{
    struct runs ours = {0}, theirs = {0}, ratio = {0};
    struct fanout f;
    set_up(&f, kind);
    for (int i = 0; i < ROUNDS; i++) {
        /* in turn first and second, so that whatever the first leaves in the caches is even */
        double a = i % 2 ? server_round(&f) : 0, b = bare_round(&f);
        if (i % 2 == 0)
            a = server_round(&f);
        runs_add(&ours, a);
        runs_add(&theirs, b);
        runs_add(&ratio, a / b);
    }
    if (f.ours.out_of_order || f.ours.lost)
        die("out of order: %llu, lost connections: %zu", (unsigned long long)f.ours.out_of_order,
            f.ours.lost);
    headline(" %s, %zu bytes per message on the wire", client_kind_name(kind), f.message_bytes);
    figure("per delivery", &ours, "us CPU");
    figure("per bare send()", &theirs, "us CPU");
    figure("ratio", &ratio, "x");
    clients_close(&f.ours);
    clients_close(&f.theirs);
    http_close(&f.http);
    bare_stop(&f.bare);
    server_stop(&f.server);
}

int main(void)
{
    pin_to_core(LOAD_CORE);
    headline("One message to %d clients (promise: <= 1.05 x a bare send() loop)", CLIENTS);
    measure(CLIENT_SSE);
    measure(CLIENT_WS);
    return 0;
}
