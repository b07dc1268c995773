/* load_h2.c - what HTTP/2 costs: memory of an idle session and of an idle stream in it, and CPU per
 * delivery over many streams against as many connections of HTTP/1.1.
 *
 * The client is frames by hand: its windows are open from the beginning, and what comes is counted
 * by the frame, since a small event is a DATA frame of its own. With TLS=1.3 all is over TLS.
 */
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "server.h"
#include "tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SESSIONS 1000
#define STREAMS_EACH 20
#define WARM_UP 200
#define MEMORY_RUNS 3
#define SETTLE_US 2500000 /* freed memory goes back when a second was quiet */
#define LISTENERS 5000
#define STREAMS_SHARED 100 /* of the listeners, per connection */
#define ROUNDS 21
#define MESSAGES_PER_ROUND 6
#define PATIENCE_S 60
#define READ_BYTES (256 * 1024)

enum { DATA, HEADERS, SETTINGS = 4, WINDOW_UPDATE = 8 };
#define END_STREAM 1
#define END_HEADERS 4

static const char *const quiet[] = {"--sse-keepalive",   "1h", "--ws-ping", "1h", "--h2-ping", "1h",
                                    "--request-timeout", "1h", NULL};

struct peer {
    int fd;
    struct tls_client *tls;
    uint32_t next_id;
    size_t skip;     /* bytes of the frame that is being read */
    uint8_t head[9]; /* of the next, as far as it is here */
    size_t head_len;
    bool asked; /* the preface is sent */
};

struct peers {
    struct peer *peer;
    size_t n;
    int epoll_fd;
    uint64_t data_frames;
};

/* --- frames --- */

static size_t put_frame(uint8_t *out, uint8_t type, uint8_t flags, uint32_t id, const void *payload,
                        size_t n)
{
    const uint8_t head[9] = {
        (uint8_t)(n >> 16),  (uint8_t)(n >> 8),   (uint8_t)n,         type,       flags,
        (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    memcpy(out, head, sizeof(head));
    memcpy(out + sizeof(head), payload, n);
    return sizeof(head) + n;
}

/* A literal field that is not indexed; both under 127 bytes. */
static size_t put_field(uint8_t *out, const char *name, const char *value)
{
    size_t n = strlen(name), v = strlen(value);
    out[0] = 0;
    out[1] = (uint8_t)n;
    memcpy(out + 2, name, n);
    out[2 + n] = (uint8_t)v;
    memcpy(out + 3 + n, value, v);
    return 3 + n + v;
}

static void send_all(const struct peer *p, const uint8_t *bytes, size_t n)
{
    ssize_t r = p->tls ? tls_client_send(p->tls, bytes, n) : send(p->fd, bytes, n, MSG_NOSIGNAL);
    if (r != (ssize_t)n)
        die("sending frames");
}

static void greet(struct peer *p)
{
    static const uint8_t initial_window[] = {0, 4, 0x7f, 0xff, 0xff, 0xff};
    static const uint8_t more[] = {0x7f, 0xff, 0, 0};
    uint8_t bytes[128] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    size_t n = 24;
    n += put_frame(bytes + n, SETTINGS, 0, 0, initial_window, sizeof(initial_window));
    n += put_frame(bytes + n, WINDOW_UPDATE, 0, 0, more, sizeof(more));
    send_all(p, bytes, n);
    p->asked = true;
}

static void open_stream(struct peer *p, const char *target)
{
    uint8_t block[512], bytes[600];
    size_t n = put_field(block, ":method", "GET");
    n += put_field(block + n, ":scheme", "http");
    n += put_field(block + n, ":authority", "localhost");
    n += put_field(block + n, ":path", target);
    send_all(p, bytes, put_frame(bytes, HEADERS, END_STREAM | END_HEADERS, p->next_id, block, n));
    p->next_id += 2;
}

/* --- what comes --- */

static void count_frames(struct peers *ps, struct peer *p, const uint8_t *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t left = n - at, step = p->skip < left ? p->skip : left;
        at += step;
        p->skip -= step;
        if (at == n)
            return;
        p->head[p->head_len++] = bytes[at++];
        if (p->head_len < sizeof(p->head))
            continue;
        p->head_len = 0;
        p->skip = (size_t)p->head[0] << 16 | (size_t)p->head[1] << 8 | p->head[2];
        if (p->head[3] == DATA)
            ps->data_frames++;
        else if (p->head[3] != HEADERS && p->head[3] != SETTINGS && p->head[3] != WINDOW_UPDATE)
            die("a frame of type %d", p->head[3]);
    }
}

static void read_peer(struct peers *ps, struct peer *p)
{
    static uint8_t bytes[READ_BYTES];
    if (!p->asked) { /* TLS is shaking hands */
        if (tls_client_shake_hands(p->tls))
            greet(p);
        return;
    }
    do {
        ssize_t r = p->tls ? tls_client_recv(p->tls, bytes, sizeof(bytes))
                           : recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (r < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (r <= 0)
            die("the server ended a connection");
        count_frames(ps, p, bytes, (size_t)r);
    } while (p->tls);
}

static void read_peers(struct peers *ps, time_t began)
{
    struct epoll_event ev[256];
    int n = epoll_wait(ps->epoll_fd, ev, 256, 100);
    for (int i = 0; i < n; i++)
        read_peer(ps, ev[i].data.ptr);
    if (time(NULL) - began > PATIENCE_S)
        die("too few frames: %llu", (unsigned long long)ps->data_frames);
}

static void await_frames(struct peers *ps, uint64_t frames)
{
    time_t began = time(NULL);
    while (ps->data_frames < frames)
        read_peers(ps, began);
}

/* --- coming and going --- */

static void peers_open(struct peers *ps, uint16_t port, size_t n)
{
    *ps = (struct peers){.n = n, .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    ps->peer = calloc(n, sizeof(*ps->peer));
    if (!ps->peer || ps->epoll_fd < 0)
        die("%zu connections", n);
    for (size_t i = 0; i < n; i++) {
        struct peer *p = &ps->peer[i];
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
        *p = (struct peer){.fd = tcp_connect(port), .next_id = 1};
        if (epoll_ctl(ps->epoll_fd, EPOLL_CTL_ADD, p->fd, &ev))
            die("epoll_ctl");
        if (tls_is_on(port)) {
            p->tls = tls_client_new(p->fd, "h2");
            (void)tls_client_shake_hands(p->tls);
        } else {
            greet(p);
        }
        for (time_t began = time(NULL); !p->asked;)
            read_peers(ps, began);
    }
}

static void peers_ask(struct peers *ps, size_t streams_each, const char *target)
{
    for (size_t k = 0; k < streams_each; k++) {
        uint64_t before = ps->data_frames;
        for (size_t i = 0; i < ps->n; i++)
            open_stream(&ps->peer[i], target);
        await_frames(ps, before + ps->n); /* crier.ready, or the answer */
    }
}

static void peers_close(struct peers *ps)
{
    for (size_t i = 0; i < ps->n; i++) {
        tls_client_free(ps->peer[i].tls);
        close(ps->peer[i].fd);
    }
    close(ps->epoll_fd);
    free(ps->peer);
}

/* --- memory --- */

static void one_memory_run(struct runs *session, struct runs *stream, struct runs *after)
{
    struct server s;
    struct http h;
    struct peers ps;
    server_start(&s, quiet);
    http_open(&h, s.port);
    peers_open(&ps, s.clients_port, WARM_UP);
    peers_ask(&ps, 1, "/events?channel=news");
    peers_close(&ps);
    stats_wait(&h, "sse", 0);
    usleep(SETTLE_US);
    double before = (double)memory_bytes(s.pid);
    peers_open(&ps, s.clients_port, SESSIONS);
    peers_ask(&ps, 1, "/health"); /* what the first answer leaves in it belongs to a session */
    usleep(SETTLE_US);
    double idle = (double)memory_bytes(s.pid);
    peers_ask(&ps, STREAMS_EACH, "/events?channel=news");
    stats_wait(&h, "sse", SESSIONS * STREAMS_EACH);
    usleep(SETTLE_US);
    double listening = (double)memory_bytes(s.pid);
    peers_close(&ps);
    stats_wait(&h, "sse", 0);
    usleep(SETTLE_US);
    runs_add(session, (idle - before) / SESSIONS);
    runs_add(stream, (listening - idle) / SESSIONS / STREAMS_EACH);
    runs_add(after, ((double)memory_bytes(s.pid) - before) / SESSIONS);
    http_close(&h);
    server_stop(&s);
}

static void measure_memory(void)
{
    struct runs session = {0}, stream = {0}, after = {0};
    for (int i = 0; i < MEMORY_RUNS; i++)
        one_memory_run(&session, &stream, &after);
    headline("%d sessions with %d event streams each", SESSIONS, STREAMS_EACH);
    figure("a session, its request answered", &session, "B");
    figure("a stream", &stream, "B");
    figure("a session, after all left", &after, "B");
}

/* --- deliveries --- */

struct fanout {
    struct server server;
    struct http http;
    struct clients h1;
    struct peers h2;
    uint32_t number;
};

static void publish(struct fanout *f, const char *target)
{
    char body[256];
    int n = snprintf(body, sizeof(body), "%u and then the rest of a message as it is usual",
                     ++f->number);
    http_post(&f->http, target, body, (size_t)n);
}

static double cost(const struct fanout *f, uint64_t began)
{
    return (double)(cpu_ns(f->server.pid) - began) / LISTENERS / MESSAGES_PER_ROUND / 1000;
}

static double h1_round(struct fanout *f)
{
    uint64_t began = cpu_ns(f->server.pid);
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        publish(f, "/publish?channel=h1");
        clients_await(&f->h1, f->h1.messages + LISTENERS - f->h1.messages % LISTENERS);
    }
    return cost(f, began);
}

static double h2_round(struct fanout *f)
{
    uint64_t began = cpu_ns(f->server.pid);
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        uint64_t want = f->h2.data_frames + LISTENERS;
        publish(f, "/publish?channel=h2");
        await_frames(&f->h2, want);
    }
    return cost(f, began);
}

static void measure_fanout(size_t streams_each)
{
    struct runs h1 = {0}, h2 = {0}, ratio = {0};
    struct fanout f = {0};
    server_start(&f.server, quiet);
    http_open(&f.http, f.server.port);
    clients_open(&f.h1, CLIENT_SSE, f.server.clients_port, LISTENERS, "/events?channel=h1",
                 CONNECTING_AT_ONCE);
    peers_open(&f.h2, f.server.clients_port, LISTENERS / streams_each);
    peers_ask(&f.h2, streams_each, "/events?channel=h2");
    (void)h1_round(&f), (void)h2_round(&f);
    for (int i = 0; i < ROUNDS; i++) {
        double a = i % 2 ? h1_round(&f) : 0, b = h2_round(&f);
        if (i % 2 == 0)
            a = h1_round(&f);
        runs_add(&h1, a);
        runs_add(&h2, b);
        runs_add(&ratio, b / a);
    }
    headline("One message to %d event streams, %zu on a connection", LISTENERS, streams_each);
    figure("HTTP/1.1, per delivery", &h1, "us CPU");
    figure("HTTP/2, per delivery", &h2, "us CPU");
    figure("ratio", &ratio, "x");
    clients_close(&f.h1);
    peers_close(&f.h2);
    http_close(&f.http);
    server_stop(&f.server);
}

int main(void)
{
    pin_to_core(LOAD_CORE);
    headline("HTTP/2 %s%s (promise: <= 30 KB a session, <= 0.7 KB a stream)",
             tls_wanted() ? "over TLS " : "in clear", tls_wanted() ? tls_wanted() : "");
    measure_memory();
    measure_fanout(STREAMS_SHARED);
    measure_fanout(1);
    return 0;
}
