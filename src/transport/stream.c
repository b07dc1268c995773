/* stream.c - a session on a socket of its own (see stream.h).
 *
 * Reading is level-triggered, one recv per turn and connection, so a talkative client takes its
 * turn like everyone. A session whose commands pile up in the bus is not read until half are
 * answered.
 *
 * The end: what is queued is written, then FIN, then the peer's FIN is awaited for a moment,
 * because closing with unread input would reset the connection and destroy the last bytes we sent.
 */
#include "crier/stream.h"

#include "ws_session.h"

#include "crier/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define IOV_MAX_PER_WRITE 128
#define BYTES_PER_WRITE (256 * 1024)

struct stream {
    struct session s;
    struct io_watch w;
    struct stream_set *set;
    bool websocket;
    bool blocked; /* the kernel said EAGAIN: waiting for EPOLLOUT */
    bool no_wait; /* a protocol error: FIN follows the Close at once */
    bool fin_sent;
};

struct ws_stream {
    struct stream st;
    struct ws ws;
};

static struct stream *stream_of(struct session *s)
{
    return container_of(s, struct stream, s);
}

static struct ws *ws_of(struct stream *st)
{
    return &container_of(st, struct ws_stream, st)->ws;
}

static void watch_again(struct stream *st)
{
    bool reading = st->s.state != SESSION_OPEN || session_wants_reading(&st->s);
    uint32_t events = (reading ? (uint32_t)EPOLLIN : 0) | (st->blocked ? (uint32_t)EPOLLOUT : 0);
    if (!events)
        events = EPOLLET; /* still hears of a reset, once */
    loop_rewatch(st->set->loop, &st->w, events);
}

/* --- writing --- */

static void send_fin(struct stream *st)
{
    if (st->fin_sent)
        return;
    st->fin_sent = true;
    shutdown(st->w.fd, SHUT_WR);
    session_timer(&st->s, STREAM_LINGER_MS);
}

/* Everything is written and the session is closing. */
static void all_written(struct stream *st)
{
    if (!st->websocket || st->s.peer_closed || st->no_wait)
        send_fin(st);
    else
        session_timer(&st->s, STREAM_WS_CLOSE_MS); /* for the peer's half of the handshake */
}

static ssize_t write_some(struct stream *st, size_t *wanted)
{
    struct iovec iov[IOV_MAX_PER_WRITE];
    int n = session_iov(&st->s, iov, IOV_MAX_PER_WRITE, BYTES_PER_WRITE);
    *wanted = 0;
    for (int i = 0; i < n; i++)
        *wanted += iov[i].iov_len;
    if (!n)
        return 0;
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t r;
    do /* one part is the rule, and send has less to copy and check */
        r = n == 1 ? send(st->w.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                   : sendmsg(st->w.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    return r;
}

/* Writes a batch; true when the kernel took all of it. */
static bool write_batch(struct stream *st, size_t *wanted)
{
    ssize_t r = write_some(st, wanted);
    if (r < 0 && errno != EAGAIN) {
        session_cut(&st->s);
        return false;
    }
    if (r > 0)
        session_advance(&st->s, (size_t)r);
    if (r >= 0 && (size_t)r == *wanted)
        return true;
    st->blocked = true;
    watch_again(st);
    return false;
}

static void on_relieve(struct session *s)
{
    struct stream *st = stream_of(s);
    size_t wanted;
    if (!st->fin_sent)
        (void)write_batch(st, &wanted); /* the kernel may have room again though it said EAGAIN */
}

static void on_flush(struct session *s)
{
    struct stream *st = stream_of(s);
    size_t wanted;
    if (st->blocked || st->fin_sent || !write_batch(st, &wanted))
        return;
    if (s->out.count && wanted) {
        session_mark_dirty(s); /* the rest in the next turn: others wait too */
    } else if (s->state == SESSION_CLOSING && !s->out.count) {
        all_written(st);
    }
}

/* --- reading --- */

static void on_peer_done(struct session *s)
{
    send_fin(stream_of(s));
}

void stream_input(struct session *s, struct slice bytes)
{
    struct stream *st = stream_of(s);
    if (st->websocket && !ws_session_input(ws_of(st), bytes))
        st->no_wait = true;
}

static void on_readable(struct stream *st)
{
    struct session *s = &st->s;
    ssize_t r = recv(st->w.fd, st->set->read_buffer, STREAM_READ_BYTES, MSG_DONTWAIT);
    if (r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR)) {
        session_gone(s);
        return;
    }
    if (r < 0)
        return;
    session_heard(s);
    stream_input(s, slice_of(st->set->read_buffer, (size_t)r));
    if (s->state != SESSION_CLOSED)
        watch_again(st);
}

static void on_ready(struct io_watch *w, uint32_t events)
{
    struct stream *st = container_of(w, struct stream, w);
    if (events & EPOLLOUT) {
        st->blocked = false;
        watch_again(st);
        session_mark_dirty(&st->s);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        on_readable(st);
}

static void on_resume_reading(struct session *s)
{
    if (s->state != SESSION_CLOSED)
        watch_again(stream_of(s));
}

/* --- life --- */

static void on_free(struct session *s)
{
    struct stream *st = stream_of(s);
    struct stream_set *set = st->set;
    loop_unwatch(set->loop, &st->w);
    close(st->w.fd);
    metrics_dec(M_CONNECTIONS);
    (*set->connections)--;
    trimmer_note(&set->trimmer);
    if (st->websocket) {
        ws_release(ws_of(st));
        pool_free(&set->ws, st);
    } else {
        pool_free(&set->sse, st);
    }
}

static const struct session_ops stream_ops = {.flush = on_flush,
                                              .relieve = on_relieve,
                                              .resume_reading = on_resume_reading,
                                              .peer_done = on_peer_done,
                                              .free = on_free};

static void set_options(int fd)
{
    int on = 1, off = 0;
    unsigned timeout_ms = STREAM_USER_TIMEOUT_MS;
    /* libmicrohttpd corks a connection while it answers. A socket that is not TCP refuses: fine. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

enum err stream_open(struct stream_set *set, int fd, const struct dialect *d, bool websocket,
                     struct session **out)
{
    struct stream *st = pool_try_new(websocket ? &set->ws : &set->sse);
    if (!st) {
        close(fd);
        return ERR_NOMEM;
    }
    st->set = set;
    st->websocket = websocket;
    st->w = (struct io_watch){.fd = fd, .ready = on_ready};
    set_options(fd);
    if (loop_watch(set->loop, &st->w, EPOLLIN)) {
        close(fd);
        pool_free(websocket ? &set->ws : &set->sse, st);
        return ERR_NOMEM;
    }
    session_init(&st->s, set->hub, &stream_ops, d);
    if (websocket)
        ws_session_init(ws_of(st), &st->s, set->ws_pool,
                        d->form == FORM_WS_RAW ? &set->raw_limits : &set->command_limits);
    *out = &st->s;
    return ERR_OK;
}

enum err stream_set_new(struct loop *l, struct hub *h, _Atomic int64_t *connections,
                        struct stream_set **out)
{
    struct stream_set *set = calloc(1, sizeof(*set));
    if (!set)
        return ERR_NOMEM;
    set->loop = l;
    set->hub = h;
    size_t message_bytes = hub_options(h)->message_bytes;
    set->raw_limits = (struct ws_limits){message_bytes, STREAM_FRAGMENTS_MAX};
    /* Escapes may double a payload, and the other members of a command need room. */
    set->command_limits = (struct ws_limits){2 * message_bytes + 4096, STREAM_FRAGMENTS_MAX};
    set->connections = connections;
    set->ws_pool = ws_pool_new();
    pool_init(&set->sse, sizeof(struct stream));
    pool_init(&set->ws, sizeof(struct ws_stream));
    trimmer_init(&set->trimmer, loop_timers(l), trim_malloc);
    *out = set;
    return ERR_OK;
}

void stream_set_free(struct stream_set *set)
{
    if (!set)
        return;
    ws_pool_free(set->ws_pool);
    trimmer_release(&set->trimmer);
    pool_release(&set->sse);
    pool_release(&set->ws);
    free(set);
}
