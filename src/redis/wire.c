/* wire.c - from an endpoint to an open byte stream.
 *
 * One state at a time, one descriptor at a time; every way out goes through wire_close. The time to
 * connect is divided among the addresses that are left, so one that swallows packets does not keep
 * the others from being tried.
 *
 * EPOLLOUT is asked for only while somebody waits for it: connecting, a write that did not fit, a
 * TLS session that has something of its own to say.
 *
 * A write that fails because the peer has gone is not reported: what the peer said before it left
 * ("max number of clients reached") is still to be read, and the read then says the end.
 *
 * It knows nothing of Redis and does not try again.
 */
#include "wire.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

/* A peer whose machine vanished is noticed after 15 + 3 * 5 seconds, also on a link that only
 * listens. */
#define KEEPALIVE_IDLE_S 15
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES 3

static void socket_ready(struct io_watch *watch, uint32_t events);
static void share_is_over(struct timer *t);

void wire_init(struct wire *w, struct loop *l, const struct redis_endpoint *e,
               struct tls_ctx *tls_ctx, const struct wire_ops *ops)
{
    BUG_ON(e->tls && !tls_ctx);
    *w = (struct wire){.loop = l, .endpoint = e, .tls_ctx = tls_ctx, .ops = ops};
    w->watch = (struct io_watch){.fd = -1, .ready = socket_ready};
    timer_init(&w->share, share_is_over);
}

static void close_socket(struct wire *w)
{
    if (w->tls)
        tls_close(w->tls);
    w->tls = NULL;
    loop_unwatch(w->loop, &w->watch);
    if (w->watch.fd >= 0)
        close(w->watch.fd);
    w->watch.fd = -1;
    w->write_errno = 0;
    w->read_wants_out = w->write_blocked = false;
}

void wire_close(struct wire *w)
{
    if (w->state == WIRE_RESOLVING)
        resolve_cancel(w->resolve);
    w->resolve = NULL;
    timer_cancel(loop_timers(w->loop), &w->share);
    close_socket(w);
    w->state = WIRE_CLOSED;
}

const char *wire_doing(const struct wire *w)
{
    switch (w->state) {
    case WIRE_RESOLVING:
        return "resolving the name";
    case WIRE_CONNECTING:
        return "connecting";
    case WIRE_HANDSHAKING:
        return "TLS handshake";
    default:
        return "";
    }
}

static void fail(struct wire *w)
{
    wire_close(w);
    w->ops->failed(w, w->why);
}

static void say(struct wire *w, const char *what, const char *why)
{
    snprintf(w->why, sizeof w->why, "%s: %s", what, why);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void opened(struct wire *w)
{
    timer_cancel(loop_timers(w->loop), &w->share);
    w->state = WIRE_OPEN;
    loop_rewatch(w->loop, &w->watch, EPOLLIN);
    w->ops->opened(w);
}

static void shake_hands(struct wire *w)
{
    enum err e = tls_handshake(w->tls);

    if (e == ERR_OK) {
        opened(w);
    } else if (e == ERR_AGAIN) {
        loop_rewatch(w->loop, &w->watch, EPOLLIN | (tls_wants_write(w->tls) ? EPOLLOUT : 0u));
    } else {
        say(w, "TLS", tls_why(w->tls));
        fail(w);
    }
}

static void connected(struct wire *w)
{
    timer_cancel(loop_timers(w->loop), &w->share);
    if (!w->endpoint->tls) {
        opened(w);
        return;
    }
    if (tls_open(w->tls_ctx, w->watch.fd, w->endpoint->host, &w->tls) != ERR_OK) {
        say(w, "TLS", "no session could be made for this name");
        fail(w);
        return;
    }
    w->state = WIRE_HANDSHAKING;
    shake_hands(w);
}

static void set_tcp_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
    };

    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                         sizeof options[i].value);
}

/* ERR_OK: connected or on the way, w->watch is registered for the outcome. */
static enum err start_connect(struct wire *w, const struct sockaddr *to, socklen_t len)
{
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return ERR_IO;
    w->watch.fd = fd;
    if (to->sa_family != AF_UNIX)
        set_tcp_options(fd);
    if (connect(fd, to, len) != 0 && errno != EINPROGRESS)
        return ERR_IO;
    return loop_watch(w->loop, &w->watch, EPOLLOUT);
}

static void connect_next(struct wire *w)
{
    while (w->tried < w->n_addrs) {
        const struct sock_addr *a = &w->addr[w->tried++];
        uint64_t now = loop_now_ms(w->loop);
        uint64_t left = w->deadline_ms > now ? w->deadline_ms - now : 0;
        close_socket(w);
        if (start_connect(w, &a->any, a->len) == ERR_OK) {
            timer_set(loop_timers(w->loop), &w->share, left / (w->n_addrs - w->tried + 1));
            return;
        }
        say(w, "connect", strerror(errno));
    }
    fail(w);
}

static void share_is_over(struct timer *t)
{
    struct wire *w = container_of(t, struct wire, share);

    say(w, "connect", "timed out");
    connect_next(w);
}

static void connect_finished(struct wire *w)
{
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(w->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0) {
        connected(w);
        return;
    }
    say(w, "connect", strerror(error));
    connect_next(w);
}

static void resolved(void *ctx, const struct sock_addr *addr, size_t n)
{
    struct wire *w = ctx;

    w->resolve = NULL;
    w->state = WIRE_CONNECTING;
    BUG_ON(n > RESOLVE_MAX_ADDRS);
    memcpy(w->addr, addr, n * sizeof *addr);
    w->n_addrs = n;
    w->tried = 0;
    snprintf(w->why, sizeof w->why, "the name has no address");
    connect_next(w);
}

/* Connects at once or not at all: EAGAIN means that the server's queue is full. */
static void open_unix(struct wire *w)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};

    if (strlen(w->endpoint->path) >= sizeof to.sun_path) {
        say(w, "connect", "the path is too long for a UNIX socket");
        fail(w);
        return;
    }
    memcpy(to.sun_path, w->endpoint->path, strlen(w->endpoint->path));
    w->state = WIRE_CONNECTING;
    if (start_connect(w, (const struct sockaddr *)&to, sizeof to) != ERR_OK) {
        say(w, "connect", strerror(errno));
        fail(w);
        return;
    }
    connected(w);
}

void wire_open(struct wire *w, uint64_t timeout_ms)
{
    BUG_ON(w->state != WIRE_CLOSED);
    if (w->endpoint->path) {
        open_unix(w);
        return;
    }
    w->deadline_ms = loop_now_ms(w->loop) + timeout_ms;
    w->state = WIRE_RESOLVING;
    if (resolve_start(w->loop, w->endpoint->host, w->endpoint->port, resolved, w, &w->resolve) !=
        ERR_OK) {
        w->state = WIRE_CLOSED;
        say(w, "resolving the name", "no thread or descriptor could be had");
        fail(w);
    }
}

/* --- bytes ------------------------------------------------------------------------------------ */

static void watch_what_is_awaited(struct wire *w)
{
    loop_rewatch(w->loop, &w->watch,
                 EPOLLIN | (w->read_wants_out || w->write_blocked ? EPOLLOUT : 0u));
}

static void socket_ready(struct io_watch *watch, uint32_t events)
{
    struct wire *w = container_of(watch, struct wire, watch);

    (void)events;
    if (w->state == WIRE_CONNECTING)
        connect_finished(w);
    else if (w->state == WIRE_HANDSHAKING)
        shake_hands(w);
    else
        w->ops->ready(w);
}

static enum err tls_outcome(struct wire *w, enum err e)
{
    if (e == ERR_CLOSED)
        snprintf(w->why, sizeof w->why, "%s", tls_why(w->tls));
    else if (e == ERR_IO)
        say(w, "TLS", tls_why(w->tls));
    return e;
}

static enum err socket_read(struct wire *w, char *out, size_t *n)
{
    ssize_t got = recv(w->watch.fd, out, WIRE_READ_BYTES, 0);

    if (got > 0) {
        *n = (size_t)got;
        return ERR_OK;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return ERR_AGAIN;
    if (got == 0 && !w->write_errno) {
        snprintf(w->why, sizeof w->why, "closed the connection");
        return ERR_CLOSED;
    }
    snprintf(w->why, sizeof w->why, "%s", strerror(got == 0 ? w->write_errno : errno));
    return ERR_IO;
}

enum err wire_read(struct wire *w, char out[WIRE_READ_BYTES], size_t *n)
{
    if (!w->tls)
        return socket_read(w, out, n);

    enum err e = tls_read(w->tls, out, WIRE_READ_BYTES, n);
    w->read_wants_out = e == ERR_AGAIN && tls_wants_write(w->tls);
    watch_what_is_awaited(w);
    return tls_outcome(w, e);
}

static enum err socket_write(struct wire *w, struct slice bytes, size_t *n)
{
    if (w->write_errno)
        return ERR_AGAIN;
    ssize_t done = send(w->watch.fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);

    if (done >= 0) {
        *n = (size_t)done;
        return ERR_OK;
    }
    if (errno == EPIPE || errno == ECONNRESET)
        w->write_errno = errno;
    if (w->write_errno || errno == EAGAIN || errno == EINTR)
        return ERR_AGAIN;
    snprintf(w->why, sizeof w->why, "write: %s", strerror(errno));
    return ERR_IO;
}

enum err wire_write(struct wire *w, struct slice bytes, size_t *n)
{
    enum err e = w->tls ? tls_outcome(w, tls_write(w->tls, bytes.ptr, bytes.len, n))
                        : socket_write(w, bytes, n);

    /* A TLS write that waits for the peer goes on after the next read. */
    w->write_blocked = e == ERR_AGAIN && !w->write_errno && (!w->tls || tls_wants_write(w->tls));
    watch_what_is_awaited(w);
    return e;
}
