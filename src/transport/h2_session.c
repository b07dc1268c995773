/* h2_session.c - a session of the hub on a stream of HTTP/2: an event stream or a WebSocket.
 *
 * Its bytes are pulled from the outbox when flow control lets them go. WebSockets (RFC 8441):
 * END_STREAM is FIN, RST_STREAM a reset; everything between is the same object that sockets use
 * (ws_session.h). Stream and session end at their own times: st is NULL when the stream is gone,
 * stream->hs when the session is.
 */
#include "h2_internal.h"

#include "ws_session.h"

#define IOV_MAX_PER_FRAME 64

struct h2_session {
    struct session s;
    struct h2_stream *st; /* borrowed; NULL when the stream is gone */
    struct h2 *h;
    uint32_t unread_bytes; /* window not given back because the session is not read */
    bool websocket;
    bool fin; /* END_STREAM when everything is written */
};

struct h2_ws {
    struct h2_session hs;
    struct ws_session ws;
};

static struct h2_session *hs_of(struct session *s)
{
    return container_of(s, struct h2_session, s);
}

static struct ws_session *ws_of(struct h2_session *hs)
{
    return &container_of(hs, struct h2_ws, hs)->ws;
}

/* --- what the hub asks of it --- */

static void on_flush(struct session *s)
{
    struct h2_session *hs = hs_of(s);
    if (hs->websocket)
        ws_session_end_if_due(s);
    if (!hs->st)
        return;
    h2_wire_wake(hs->st);
    h2_conn_touch(hs->st->conn);
}

static void on_relieve(struct session *s)
{
    struct h2_session *hs = hs_of(s);
    if (!hs->st || hs->st->conn->h->busy)
        return;
    h2_wire_wake(hs->st);
    h2_conn_write(hs->st->conn);
}

static void give_window_back(struct h2_session *hs)
{
    h2_wire_consumed(hs->st, hs->unread_bytes);
    hs->unread_bytes = 0;
}

static void on_resume_reading(struct session *s)
{
    if (hs_of(s)->st)
        give_window_back(hs_of(s));
}

static void on_peer_done(struct session *s)
{
    struct h2_session *hs = hs_of(s);
    hs->fin = true;
    if (hs->st)
        h2_wire_wake(hs->st);
}

static void on_free(struct session *s)
{
    struct h2_session *hs = hs_of(s);
    struct h2 *h = hs->h;
    if (hs->st) {
        hs->st->hs = NULL;
        h2_wire_reset(hs->st, false);
    }
    if (hs->websocket) {
        ws_session_release(ws_of(hs));
        pool_free(&h->ws_pool, hs);
    } else {
        pool_free(&h->sse_pool, hs);
    }
}

static const struct session_ops session_ops = {.flush = on_flush,
                                               .relieve = on_relieve,
                                               .resume_reading = on_resume_reading,
                                               .peer_done = on_peer_done,
                                               .free = on_free};

/* --- life --- */

static struct h2_session *session_new(struct h2_stream *st, const struct dialect *d,
                                      enum msg_coding coding, bool websocket)
{
    struct h2 *h = st->conn->h;
    struct h2_session *hs = pool_try_new(websocket ? &h->ws_pool : &h->sse_pool);
    if (!hs)
        return NULL;
    hs->h = h;
    hs->st = st;
    hs->websocket = websocket;
    st->hs = hs;
    session_init(&hs->s, h->server->hub, &session_ops, d, coding);
    if (websocket)
        ws_session_init(ws_of(hs), &hs->s, h->streams->websockets, coding);
    return hs;
}

bool h2_session_open(struct h2_stream *st, const struct http_response *head,
                     struct http_stream *hst, bool websocket)
{
    struct h2_session *hs = session_new(st, hst->dialect, hst->coding, websocket);
    if (hs && !h2_wire_respond(st, head, 200, false, true)) {
        hst->open(hst, &hs->s);
        trimmer_note(&st->conn->h->streams->trimmer); /* the request goes, the stream stays */
        return true;
    }
    hst->cancel(hst);
    if (hs)
        session_gone(&hs->s);
    else
        h2_wire_reset(st, true);
    return false;
}

void h2_session_lost(struct h2_session *hs)
{
    hs->st = NULL;
    session_gone(&hs->s);
    hs->h->left = true;
}

/* --- what comes in --- */

bool h2_session_reads(const struct h2_session *hs)
{
    return hs->websocket;
}

void h2_session_input(struct h2_session *hs, struct slice bytes)
{
    session_heard(&hs->s);
    ws_session_input(ws_of(hs), hs->h->streams->websockets, bytes);
    hs->unread_bytes += (uint32_t)bytes.len;
    if (session_wants_reading(&hs->s) || hs->s.state != SESSION_OPEN)
        give_window_back(hs);
}

void h2_session_peer_ended(struct h2_session *hs)
{
    if (hs->s.ending)
        return; /* all_written ends it */
    if (hs->s.state == SESSION_OPEN) {
        session_gone(&hs->s); /* gone without a Close */
        hs->h->left = true;
        return;
    }
    hs->fin = true;
    h2_wire_wake(hs->st);
}

/* --- what goes out --- */

/* Everything is written and the session is closing. */
static void all_written(struct h2_session *hs)
{
    if (!hs->websocket || ws_session_is_over(ws_of(hs)))
        hs->fin = true;
    else if (!hs->fin)
        session_timer(&hs->s, STREAM_WS_CLOSE_MS); /* for the peer's half of the handshake */
}

/* Is that everything that waits? Not said of streams over several channels, whose id lines the
 * outbox does not count. */
static bool took_all(const struct session *s, size_t bytes)
{
    return s->n_subs <= 1 && bytes == s->out.bytes - s->out.head_sent;
}

size_t h2_session_offer(struct h2_session *hs, size_t max, enum h2_after *after)
{
    struct iovec iov[IOV_MAX_PER_FRAME];
    struct session *s = &hs->s;
    size_t bytes = 0;
    if (s->state == SESSION_CLOSED)
        return 0;
    int n = session_iov(s, iov, IOV_MAX_PER_FRAME, max);
    for (int i = 0; i < n; i++)
        bytes += iov[i].iov_len;
    if (bytes && bytes <= max && s->state == SESSION_OPEN && took_all(s, bytes))
        *after = H2_REST;
    if (bytes)
        return bytes < max ? bytes : max;
    if (s->state == SESSION_CLOSING && !s->out.count)
        all_written(hs);
    *after = hs->fin ? H2_END : H2_MORE;
    if (hs->fin)
        session_timer(s, STREAM_LINGER_MS); /* for the peer's END_STREAM */
    return 0;
}

void h2_session_take(struct h2_session *hs, size_t n, char *out)
{
    struct session *s = &hs->s;
    struct iovec iov[IOV_MAX_PER_FRAME];
    int parts = session_iov(s, iov, IOV_MAX_PER_FRAME, n);
    size_t left = n;
    for (int i = 0; i < parts && left; i++) {
        size_t len = iov[i].iov_len < left ? iov[i].iov_len : left;
        memcpy(out, iov[i].iov_base, len);
        out += len;
        left -= len;
    }
    BUG_ON(left);
    if (n)
        session_advance(s, n);
}

void h2_session_pools_init(struct h2 *h)
{
    pool_init(&h->sse_pool, sizeof(struct h2_session));
    pool_init(&h->ws_pool, sizeof(struct h2_ws));
}

void h2_session_pools_release(struct h2 *h)
{
    pool_release(&h->sse_pool);
    pool_release(&h->ws_pool);
}
