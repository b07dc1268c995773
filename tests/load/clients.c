/* clients.c - see clients.h. */
#include "clients.h"

#include "figures.h"
#include "http.h"
#include "tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)
#define EVENTS_AT_ONCE 512
#define PATIENCE_S 60

static const char *const ready_marker[] = {"crier.ready", "\"op\":\"ready\"", ""};
static const char *const number_marker[] = {"data: ", "\"data\":\"", "\"data\":\""};

const char *client_kind_name(enum client_kind k)
{
    static const char *const name[] = {"sse", "ws", "poll"};
    return name[k];
}

static ssize_t send_bytes(const struct client *c, const char *bytes, size_t n)
{
    return c->tls ? tls_client_send(c->tls, bytes, n) : send(c->fd, bytes, n, MSG_NOSIGNAL);
}

static ssize_t receive_bytes(const struct client *c, char *out, size_t max)
{
    return c->tls ? tls_client_recv(c->tls, out, max) : recv(c->fd, out, max, MSG_DONTWAIT);
}

static void close_client(struct client *c)
{
    if (c->fd < 0)
        return;
    tls_client_free(c->tls);
    close(c->fd);
    *c = (struct client){.fd = -1};
}

/* --- asking --- */

static void send_request(struct clients *cs, struct client *c)
{
    char path[512], request[1024];
    const char *target = cs->target, *at = strstr(target, "%zu");
    if (at)
        snprintf(path, sizeof(path), "%.*s%zu%s", (int)(at - target), target,
                 (size_t)(c - cs->client), at + 3);
    else
        snprintf(path, sizeof(path), "%s", target);
    int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path,
                     cs->kind == CLIENT_WS ? "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                                             "Sec-WebSocket-Version: 13\r\n"
                                             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                           : "");
    if (send_bytes(c, request, (size_t)n) != n)
        die("sending a request");
    c->asked = true;
    if (cs->kind == CLIENT_POLL) { /* silent until there is news: ask /stats whether it stands */
        c->ready = true;
        cs->n_ready++;
    }
}

/* Under TLS not before the handshake is over. */
static void ask(struct clients *cs, struct client *c)
{
    if (!c->tls || tls_client_shake_hands(c->tls))
        send_request(cs, c);
}

/* --- what was received --- */

static const char *marker_of(const struct clients *cs, const struct client *c)
{
    return c->ready ? number_marker[cs->kind] : ready_marker[cs->kind];
}

static void marker_found(struct clients *cs, struct client *c)
{
    c->matched = 0;
    if (c->ready) {
        c->in_number = true;
        c->digits = c->number = 0;
    } else {
        c->ready = true;
        cs->n_ready++;
    }
}

static void number_ended(struct clients *cs, struct client *c)
{
    c->in_number = false;
    if (!c->digits)
        return; /* the data of a control event */
    cs->messages++;
    if (c->last && c->number != c->last + 1)
        cs->out_of_order++;
    c->last = c->number;
    if (cs->heard)
        cs->heard(cs->ctx, c->number);
}

static const char *scan_number(struct clients *cs, struct client *c, const char *p, const char *end)
{
    for (; p < end && *p >= '0' && *p <= '9'; p++, c->digits++)
        c->number = c->number * 10 + (uint32_t)(*p - '0');
    if (p < end)
        number_ended(cs, c);
    return p;
}

static const char *scan_marker(struct clients *cs, struct client *c, const char *p, const char *end)
{
    const char *marker = marker_of(cs, c);
    size_t len = strlen(marker);
    if (!c->matched) {
        const char *at = memmem(p, (size_t)(end - p), marker, len);
        if (at) {
            marker_found(cs, c);
            return at + len;
        }
        if ((size_t)(end - p) >= len)
            p = end - len + 1; /* it may begin here and go on in the next bytes */
    }
    for (; p < end; p++) {
        c->matched = *p == marker[c->matched] ? (uint8_t)(c->matched + 1) : *p == marker[0];
        if (c->matched == len) {
            marker_found(cs, c);
            return p + 1;
        }
    }
    return p;
}

/* Pings come alone, when nothing else is sent. */
static bool answer_ping(struct clients *cs, const struct client *c, const char *p, size_t n)
{
    char pong[131] = {(char)0x8a};
    if (cs->kind != CLIENT_WS || n < 2 || (uint8_t)p[0] != 0x89 || n != 2u + (uint8_t)p[1])
        return false;
    pong[1] = (char)(0x80 | p[1]); /* masked with zeros */
    memcpy(pong + 6, p + 2, n - 2);
    if (send_bytes(c, pong, n + 4) != (ssize_t)(n + 4))
        die("answering a ping");
    cs->pings++;
    return true;
}

/* True when there may be more that epoll does not tell of. */
static bool read_once(struct clients *cs, struct client *c)
{
    static char text[READ_BYTES];
    ssize_t r = receive_bytes(c, text, sizeof(text));
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (r <= 0) {
        close_client(c);
        cs->lost++;
        return false;
    }
    cs->bytes += (uint64_t)r;
    if (answer_ping(cs, c, text, (size_t)r))
        return c->tls;
    for (const char *p = text, *end = text + r; p < end;)
        p = c->in_number ? scan_number(cs, c, p, end) : scan_marker(cs, c, p, end);
    return c->tls;
}

static void read_client(struct clients *cs, struct client *c)
{
    if (!c->asked)
        ask(cs, c);
    else
        while (read_once(cs, c))
            ;
}

void clients_read(struct clients *cs, int wait_ms)
{
    struct epoll_event ev[EVENTS_AT_ONCE];
    int n = epoll_wait(cs->epoll_fd, ev, EVENTS_AT_ONCE, wait_ms);
    for (int i = 0; i < n; i++)
        read_client(cs, ev[i].data.ptr);
}

static void read_patiently(struct clients *cs, time_t began, const char *what)
{
    clients_read(cs, 100);
    if (time(NULL) - began > PATIENCE_S || cs->lost) {
        errno = 0;
        die("%s: %zu of %zu clients ready, %llu messages, %zu connections lost", what, cs->n_ready,
            cs->n, (unsigned long long)cs->messages, cs->lost);
    }
}

void clients_await(struct clients *cs, uint64_t messages)
{
    time_t began = time(NULL);
    while (cs->messages < messages)
        read_patiently(cs, began, "waiting for messages");
}

/* --- coming and going --- */

static void open_one(struct clients *cs, uint16_t port, size_t i)
{
    struct client *c = &cs->client[i];
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    *c = (struct client){.fd = tcp_connect(port)};
    if (tls_is_on(port))
        c->tls = tls_client_new(c->fd, "http/1.1");
    ask(cs, c);
    if (epoll_ctl(cs->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev))
        die("epoll_ctl");
}

void clients_open(struct clients *cs, enum client_kind kind, uint16_t port, size_t n,
                  const char *target, size_t at_once)
{
    time_t began = time(NULL);
    *cs = (struct clients){
        .kind = kind, .target = target, .n = n, .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    cs->client = calloc(n, sizeof(*cs->client));
    if (!cs->client || cs->epoll_fd < 0)
        die("%zu clients", n);
    for (size_t i = 0; i < n; i++) {
        open_one(cs, port, i);
        while (i + 1 - cs->n_ready >= at_once)
            read_patiently(cs, began, "connecting");
    }
    while (cs->n_ready < n)
        read_patiently(cs, began, "connecting");
}

void clients_close(struct clients *cs)
{
    for (size_t i = 0; i < cs->n; i++)
        close_client(&cs->client[i]);
    close(cs->epoll_fd);
    free(cs->client);
    cs->client = NULL;
    cs->n = 0;
}
