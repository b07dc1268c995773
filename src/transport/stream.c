/* stream.c - a session on a connection of its own (see stream.h).
 *
 * Reading is level-triggered, one read per turn and connection (a read takes a TLS record whole),
 * so a talkative client takes its turn like everyone. A session whose commands pile up in the bus
 * is not read until half are answered.
 *
 * The end: what is queued is written, then FIN, then the peer's FIN is awaited for a moment,
 * because closing with unread input would reset the connection and destroy the last bytes we sent.
 */
#include "crier/stream.h"

#include "ws_session.h"

#include "crier/metrics.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define IOV_MAX_PER_WRITE 128
#define BYTES_PER_WRITE (256 * 1024)

struct stream {
    struct session s;
    struct io_watch w;
    struct stream_set *set;
    struct tls *tls; /* owned; NULL in clear */
    bool websocket;
    bool blocked; /* a write said ERR_AGAIN: waiting for EPOLLOUT */
    bool fin_sent;
};

struct ws_stream {
    struct stream st;
    struct ws_session ws;
};

static struct stream *stream_of(struct session *s)
{
    return container_of(s, struct stream, s);
}

static struct ws_session *ws_of(struct stream *st)
{
    return &container_of(st, struct ws_stream, st)->ws;
}

/* The descriptor is in the watch already. */
static struct conduit conduit_of(const struct stream *st)
{
    return (struct conduit){.fd = st->w.fd, .tls = st->tls};
}

static bool wants_reading(const struct stream *st)
{
    return st->s.state != SESSION_OPEN || session_wants_reading(&st->s);
}

static void watch_again(struct stream *st)
{
    struct conduit c = conduit_of(st);
    uint32_t events = conduit_events(&c, wants_reading(st), st->blocked);
    if (!events)
        events = EPOLLET; /* still hears of a reset, once */
    loop_rewatch(st->set->loop, &st->w, events);
}

/* --- writing --- */

static void send_fin(struct stream *st)
{
    if (st->fin_sent)
        return;
    struct conduit c = conduit_of(st);
    st->fin_sent = true;
    conduit_finish(&c);
    session_timer(&st->s, STREAM_LINGER_MS);
}

/* Everything is written and the session is closing. */
static void all_written(struct stream *st)
{
    if (!st->websocket || ws_session_is_over(ws_of(st)))
        send_fin(st);
    else
        session_timer(&st->s, STREAM_WS_CLOSE_MS); /* for the peer's half of the handshake */
}

/* Writes a batch; true when all of it is on its way. What TLS has sealed and could not send is no
 * longer the outbox's, which may drop the rest of what waits there. */
static bool write_batch(struct stream *st, size_t *wanted)
{
    struct iovec iov[IOV_MAX_PER_WRITE];
    int n = session_iov(&st->s, iov, IOV_MAX_PER_WRITE, BYTES_PER_WRITE);
    *wanted = 0;
    for (int i = 0; i < n; i++)
        *wanted += iov[i].iov_len;
    if (!n && !st->tls)
        return true;
    struct conduit c = conduit_of(st);
    size_t done;
    enum err e = conduit_write(&c, iov, n, &done);
    if (e && e != ERR_AGAIN) {
        session_cut(&st->s);
        return false;
    }
    bool all = !e && done == *wanted;
    done += conduit_commit(&c);
    if (done)
        session_advance(&st->s, done);
    if (all)
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
    if (st->websocket)
        ws_session_end_if_due(s);
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
    if (st->websocket)
        ws_session_input(ws_of(st), st->set->websockets, bytes);
}

/* True when there is more that the descriptor will not tell of. */
static bool read_once(struct stream *st)
{
    struct session *s = &st->s;
    struct conduit c = conduit_of(st);
    size_t n;
    enum err e = conduit_read(&c, st->set->read_buffer, STREAM_READ_BYTES, &n);
    if (e == ERR_AGAIN) {
        watch_again(st); /* TLS may have to write first */
        return false;
    }
    if (e) {
        session_gone(s);
        return false;
    }
    session_heard(s);
    stream_input(s, slice_of(st->set->read_buffer, n));
    if (s->state == SESSION_CLOSED)
        return false;
    watch_again(st);
    return wants_reading(st) && conduit_has_more(&c);
}

static void on_readable(struct stream *st)
{
    while (read_once(st))
        ;
}

static void on_ready(struct io_watch *w, uint32_t events)
{
    struct stream *st = container_of(w, struct stream, w);
    struct conduit c = conduit_of(st);
    events = conduit_ready(&c, events);
    if (st->blocked && (events & EPOLLOUT)) {
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
    struct conduit c = conduit_of(st);
    loop_unwatch(set->loop, &st->w);
    conduit_close(&c);
    metrics_dec(M_CONNECTIONS);
    (*set->connections)--;
    trimmer_note(&set->trimmer);
    if (st->websocket) {
        ws_session_release(ws_of(st));
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

enum err stream_open(struct stream_set *set, struct conduit c, const struct dialect *d,
                     enum msg_coding coding, bool websocket, struct session **out)
{
    struct stream *st = pool_try_new(websocket ? &set->ws : &set->sse);
    if (!st) {
        conduit_close(&c);
        return ERR_NOMEM;
    }
    st->set = set;
    st->websocket = websocket;
    st->w = (struct io_watch){.fd = c.fd, .ready = on_ready};
    st->tls = c.tls;
    set_options(c.fd);
    if (loop_watch(set->loop, &st->w, EPOLLIN)) {
        conduit_close(&c);
        pool_free(websocket ? &set->ws : &set->sse, st);
        return ERR_NOMEM;
    }
    session_init(&st->s, set->hub, &stream_ops, d, coding);
    if (websocket)
        ws_session_init(ws_of(st), &st->s, set->websockets, coding);
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
    set->websockets = ws_set_new(h);
    if (!set->websockets) {
        free(set);
        return ERR_NOMEM;
    }
    set->connections = connections;
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
    ws_set_free(set->websockets);
    trimmer_release(&set->trimmer);
    pool_release(&set->sse);
    pool_release(&set->ws);
    free(set);
}
