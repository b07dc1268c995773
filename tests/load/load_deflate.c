/* load_deflate.c - one message of 2 KB to 5,000 clients that read it compressed, and to as many
 * that read it plain, of the same server: CPU and bytes per delivery; and what an idle compressed
 * client holds.
 *
 * Rounds alternate between the two channels. Nobody unpacks: all clients of a channel get the same
 * bytes, so a message has arrived when all have as much and nothing more comes.
 */
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "server.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 5000
#define ROUNDS 15
#define MESSAGES_PER_ROUND 6
#define MESSAGE_BYTES 2048
#define QUIET_MS 20
#define PATIENCE_S 60
#define IDLE_RUNS 3
#define IDLE_WARM_UP 500
#define IDLE_SETTLE_US 2500000

static const char *const options[] = {"--sse-keepalive", "1h", "--ws-ping", "1h", NULL};

/* A request target goes into the request line: what follows it here are more header fields. */
#define WITH(field) " HTTP/1.1\r\n" field "\r\nX-Rest:"
static const struct way {
    const char *name;
    enum client_kind kind;
    const char *fields;
} ways[] = {
    {"ws, deflate", CLIENT_WS, WITH("Sec-WebSocket-Extensions: permessage-deflate")},
    {"sse, gzip", CLIENT_SSE, WITH("Accept-Encoding: gzip")},
    {"sse, zstd", CLIENT_SSE, WITH("Accept-Encoding: zstd")},
};
#define N_WAYS (sizeof(ways) / sizeof(ways[0]))

static void open_clients(struct clients *cs, enum client_kind kind, uint16_t port, size_t n,
                         const char *channel, const char *fields)
{
    char target[256];
    snprintf(target, sizeof(target), "/%s?channel=%s%s",
             client_kind_name(kind)[0] == 'w' ? "ws" : "events", channel, fields);
    clients_open(cs, kind, port, n, target, CONNECTING_AT_ONCE);
}

/* Quotes of shares: what repeats in it repeats, the numbers do not. */
static size_t make_message(char *out, uint32_t *seed)
{
    size_t n = (size_t)sprintf(out, "[");
    while (n < MESSAGE_BYTES - 100) {
        uint32_t r = *seed = *seed * 1664525u + 1013904223u;
        n += (size_t)sprintf(
            out + n, "{\"symbol\":\"%c%c%c\",\"bid\":%u.%02u,\"ask\":%u.%02u,\"size\":%u},",
            'A' + (int)(r >> 8) % 26, 'A' + (int)(r >> 13) % 26, 'A' + (int)(r >> 18) % 26,
            r >> 20 & 1023, r >> 9 & 63, (r >> 20 & 1023) + 1, r >> 3 & 63, r >> 16 & 8191);
    }
    memset(out + n, ' ', MESSAGE_BYTES - 3 - n);
    memcpy(out + MESSAGE_BYTES - 3, "{}]", 3);
    return MESSAGE_BYTES;
}

/* Everyone has the same bytes, more than before, and no more come. */
static void await_all(struct clients *cs, uint64_t before)
{
    time_t began = time(NULL);
    for (;;) {
        uint64_t seen = cs->bytes;
        clients_read(cs, QUIET_MS);
        if (cs->bytes == seen && seen > before && (seen - before) % CLIENTS == 0)
            return;
        if (time(NULL) - began > PATIENCE_S || cs->lost)
            die("waiting for a message: %zu connections lost", cs->lost);
    }
}

/* CPU per delivery in microseconds. */
static double one_round(const struct server *s, struct http *h, struct clients *cs,
                        const char *channel, uint32_t *seed)
{
    char body[MESSAGE_BYTES + 200], path[64];
    uint64_t spent = 0;
    snprintf(path, sizeof(path), "/publish?channel=%s", channel);
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        size_t n = make_message(body, seed);
        uint64_t before = cs->bytes, began = cpu_ns(s->pid);
        http_post(h, path, body, n);
        await_all(cs, before);
        spent += cpu_ns(s->pid) - began;
    }
    return (double)spent / CLIENTS / MESSAGES_PER_ROUND / 1000;
}

static void measure_fanout(const struct way *w)
{
    struct runs plain = {0}, packed = {0}, ratio = {0}, plain_bytes = {0}, packed_bytes = {0};
    struct server s;
    struct clients a, b;
    struct http h;
    uint32_t seed_a = 1, seed_b = 1;
    const double deliveries = (double)CLIENTS * MESSAGES_PER_ROUND;
    server_start(&s, options);
    open_clients(&a, w->kind, s.port, CLIENTS, "plain", "");
    open_clients(&b, w->kind, s.port, CLIENTS, "packed", w->fields);
    http_open(&h, s.port);
    (void)one_round(&s, &h, &a, "plain", &seed_a);
    (void)one_round(&s, &h, &b, "packed", &seed_b);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t before_a = a.bytes, before_b = b.bytes;
        double y = i % 2 ? one_round(&s, &h, &b, "packed", &seed_b) : 0;
        double x = one_round(&s, &h, &a, "plain", &seed_a);
        if (i % 2 == 0)
            y = one_round(&s, &h, &b, "packed", &seed_b);
        runs_add(&plain, x);
        runs_add(&packed, y);
        runs_add(&ratio, y / x);
        runs_add(&plain_bytes, (double)(a.bytes - before_a) / deliveries);
        runs_add(&packed_bytes, (double)(b.bytes - before_b) / deliveries);
    }
    headline(" %s", w->name);
    figure("per delivery, plain", &plain, "us CPU");
    figure("per delivery, compressed", &packed, "us CPU");
    figure("ratio", &ratio, "x");
    figure("on the wire, plain", &plain_bytes, "B");
    figure("on the wire, compressed", &packed_bytes, "B");
    clients_close(&a);
    clients_close(&b);
    http_close(&h);
    server_stop(&s);
}

static void come_and_go(const struct way *w, const struct server *s, struct http *h, size_t n,
                        double *bytes)
{
    struct clients cs;
    double before = (double)memory_bytes(s->pid);
    open_clients(&cs, w->kind, s->port, n, "news", w->fields);
    stats_wait(h, client_kind_name(w->kind), (long)n);
    usleep(IDLE_SETTLE_US);
    *bytes = ((double)memory_bytes(s->pid) - before) / (double)n;
    clients_close(&cs);
    stats_wait(h, client_kind_name(w->kind), 0);
    usleep(IDLE_SETTLE_US);
}

static void measure_idle(const struct way *w)
{
    struct runs each = {0};
    for (int i = 0; i < IDLE_RUNS; i++) {
        struct server s;
        struct http h;
        double bytes;
        server_start(&s, options);
        http_open(&h, s.port);
        come_and_go(w, &s, &h, IDLE_WARM_UP, &bytes);
        come_and_go(w, &s, &h, CLIENTS, &bytes);
        runs_add(&each, bytes);
        http_close(&h);
        server_stop(&s);
    }
    figure(w->name, &each, "B");
}

int main(void)
{
    pin_to_core(LOAD_CORE);
    headline("A message of %d bytes to %d clients, compressed once (promise: <= 1.2 x plain)",
             MESSAGE_BYTES, CLIENTS);
    for (size_t i = 0; i < N_WAYS; i++)
        measure_fanout(&ways[i]);
    headline("User memory of an idle client, of %d", CLIENTS);
    for (size_t i = 0; i < N_WAYS; i++)
        measure_idle(&ways[i]);
    return 0;
}
