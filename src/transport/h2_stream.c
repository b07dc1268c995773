/* h2_stream.c - one stream of HTTP/2: a request, then an answer or a session.
 *
 * A request goes: fields (RECEIVING) -> body -> complete, in conn->ready -> handled -> answered;
 * then its exchange lives until the answer is sent, or goes at once when a session takes the stream
 * over, because an idle stream should cost little. nghttp2, the hub and the routes each end things
 * at their own time: stream, session and exchange know each other by pointers that are taken back,
 * and exchanges are freed at the end of the turn.
 *
 * WebSockets (RFC 8441): END_STREAM is FIN, RST_STREAM a reset; everything between is the same
 * object that sockets use (ws_session.h).
 */
#include "h2_internal.h"

#include "ws_session.h"

#include "crier/h1.h"
#include "crier/log.h"
#include "crier/metrics.h"

#include <stdlib.h>

#define IOV_MAX_PER_FRAME 64

struct h2_session {
    struct session s;
    struct h2_stream *st; /* borrowed; NULL when the stream is gone */
    struct h2 *h;
    bool websocket;
    bool fin; /* END_STREAM when everything is written */
};

struct h2_ws {
    struct h2_session hs;
    struct ws_session ws;
};

struct h2_exchange {
    struct http_exchange ex;
    struct h2_stream *st; /* borrowed; NULL when the stream is gone */
    struct list node;     /* in conn->waiting or conn->ready */
    struct loop_corpse corpse;
    struct h2_request req;
    struct h2_target target;
    struct buf body;
    uint64_t last_ms;  /* the peer sent or took something */
    uint64_t received; /* of the body */
    const char *why;   /* to be refused with this, and status */
    int status;
    char *copy; /* of the answer's body, owned; NULL when that is static */
    struct slice answer;
    size_t answer_sent;
    bool is_pending;
    bool has_answer;
};

static struct h2_exchange *x_of(const struct http_exchange *ex)
{
    return container_of(ex, struct h2_exchange, ex);
}

static struct h2_session *hs_of(struct session *s)
{
    return container_of(s, struct h2_session, s);
}

static struct ws_session *ws_of(struct h2_session *hs)
{
    return &container_of(hs, struct h2_ws, hs)->ws;
}

static uint64_t now_ms(const struct h2_conn *c)
{
    return loop_now_ms(c->h->loop);
}

/* --- exchanges --- */

static void free_exchange(struct loop_corpse *corpse)
{
    struct h2_exchange *x = container_of(corpse, struct h2_exchange, corpse);
    http_exchange_release(&x->ex);
    h2_request_release(&x->req);
    buf_release(&x->body);
    free(x->copy);
    free(x);
}

static void not_pending(struct h2_exchange *x)
{
    if (x->is_pending)
        x->st->conn->h->pending--;
    x->is_pending = false;
}

/* The stream goes on, or ends, without it. */
static void drop_exchange(struct h2_stream *st)
{
    struct h2_exchange *x = st->x;
    if (!x)
        return;
    not_pending(x);
    st->conn->body_bytes -= x->body.len;
    if (x->copy)
        st->conn->answer_bytes -= x->answer.len;
    list_remove(&x->node);
    st->x = NULL;
    x->st = NULL;
    if (x->ex.abandoned)
        x->ex.abandoned(&x->ex);
    x->ex.abandoned = NULL;
    x->corpse.free = free_exchange;
    loop_free_later(st->conn->h->loop, &x->corpse);
}

/* It is the peer's turn. */
static void wait_for_peer(struct h2_exchange *x)
{
    struct h2_conn *c = x->st->conn;
    x->last_ms = now_ms(c);
    list_remove(&x->node);
    list_push_back(&c->waiting, &x->node);
}

uint64_t h2_stream_waiting_since(const struct h2_conn *c)
{
    if (list_is_empty(&c->waiting))
        return UINT64_MAX;
    return container_of(c->waiting.next, struct h2_exchange, node)->last_ms;
}

void h2_stream_reset_late(struct h2_conn *c, uint64_t before_ms)
{
    while (h2_stream_waiting_since(c) <= before_ms) {
        struct h2_exchange *x = container_of(c->waiting.next, struct h2_exchange, node);
        list_remove(&x->node);
        h2_wire_reset(x->st, false);
    }
}

static struct slice get_header(const struct http_exchange *ex, const char *name)
{
    const struct h2_request *req = &x_of(ex)->req;
    struct slice value = SLICE_NONE;
    if (slice_eq_nocase(slice_str(name), SLICE("Host")))
        value = h2_request_get(req, ":authority");
    return value.ptr ? value : h2_request_get(req, name);
}

static void each_header(const struct http_exchange *ex, const char *name,
                        void (*each)(void *ctx, struct slice value), void *ctx)
{
    h2_request_each(&x_of(ex)->req, name, each, ctx);
}

static bool keep_answer(struct h2_exchange *x, const struct http_response *res)
{
    x->answer = res->body;
    if (res->body_is_static || !res->body.len)
        return true;
    x->copy = malloc(res->body.len);
    if (!x->copy)
        return false;
    memcpy(x->copy, res->body.ptr, res->body.len);
    x->answer.ptr = x->copy;
    x->st->conn->answer_bytes += res->body.len;
    return true;
}

static void answer(struct h2_exchange *x, const struct http_response *res)
{
    bool has_body = res->status != 204 && res->content_type;
    bool sends = has_body && res->body.len && x->ex.method != HTTP_HEAD;
    not_pending(x);
    x->has_answer = true;
    wait_for_peer(x);
    if ((sends && !keep_answer(x, res)) ||
        h2_wire_respond(x->st, res, res->status, has_body, sends))
        h2_wire_reset(x->st, true);
}

static void refuse(struct h2_exchange *x, int status, const char *code, const char *detail)
{
    struct http_response res = {.status = status, .content_type = "application/problem+json"};
    struct buf b;
    buf_init(&b, 4096);
    http_problem_text(&b, status, code, detail);
    res.body = buf_slice(&b);
    answer(x, &res);
    buf_release(&b);
}

/* 2xx to a CONNECT would say that the WebSocket is open. */
static void refuse_connect(struct h2_exchange *x)
{
    metrics_inc(M_BAD_REQUEST);
    refuse(x, 400, "bad_request", "this path does not speak WebSocket");
}

static void respond(struct http_exchange *ex, const struct http_response *res)
{
    struct h2_exchange *x = x_of(ex);
    if (!x->st)
        return;
    if (x->target.websocket && res->status < 300)
        refuse_connect(x);
    else
        answer(x, res);
}

static enum http_upgrade get_upgrade(const struct http_exchange *ex)
{
    if (!x_of(ex)->target.websocket)
        return HTTP_UPGRADE_NONE;
    if (http_header_count(ex, "Sec-WebSocket-Version") > 1)
        return HTTP_UPGRADE_REPEATED;
    return slice_eq(get_header(ex, "Sec-WebSocket-Version"), SLICE("13"))
               ? HTTP_UPGRADE_OK
               : HTTP_UPGRADE_BAD_VERSION;
}

/* --- sessions --- */

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

static void give_window_back(struct h2_stream *st)
{
    h2_wire_consumed(st, st->unread_bytes);
    st->unread_bytes = 0;
}

static void on_resume_reading(struct session *s)
{
    if (hs_of(s)->st)
        give_window_back(hs_of(s)->st);
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

static void begin_session(struct h2_exchange *x, const struct http_response *head,
                          struct http_stream *hst, bool websocket)
{
    struct h2_stream *st = x->st;
    struct h2_session *hs = st ? session_new(st, hst->dialect, hst->coding, websocket) : NULL;
    if (!hs || h2_wire_respond(st, head, 200, false, true)) {
        hst->cancel(hst);
        if (hs)
            session_gone(&hs->s);
        else if (st)
            h2_wire_reset(st, true);
        return;
    }
    hst->open(hst, &hs->s);
    if (x->body.len)
        h2_stream_input(st, buf_slice(&x->body)); /* came before the answer */
    drop_exchange(st);
}

static void accept_stream(struct http_exchange *ex, const struct http_response *head,
                          struct http_stream *hst)
{
    struct h2_exchange *x = x_of(ex);
    if (!x->target.websocket) {
        begin_session(x, head, hst, false);
        return;
    }
    hst->cancel(hst);
    if (x->st)
        refuse_connect(x);
}

static void accept_websocket(struct http_exchange *ex, const struct http_response *head,
                             struct http_stream *hst)
{
    begin_session(x_of(ex), head, hst, true);
}

static const struct http_exchange_ops exchange_ops = {.header = get_header,
                                                      .each_header = each_header,
                                                      .respond = respond,
                                                      .stream = accept_stream,
                                                      .upgrade = get_upgrade,
                                                      .websocket = accept_websocket};

/* --- what comes in --- */

struct h2_stream *h2_stream_new(struct h2_conn *c, int32_t id)
{
    struct h2_stream *st = pool_try_new(&c->h->stream_pool);
    struct h2_exchange *x = calloc(1, sizeof(*x));
    if (!st || !x) {
        pool_free(&c->h->stream_pool, st);
        free(x);
        return NULL;
    }
    *st = (struct h2_stream){.conn = c, .id = id, .x = x};
    list_init(&st->node);
    list_push_back(&c->streams, &st->node);
    c->n_streams++;
    metrics_inc(M_H2_STREAMS);
    x->ex.ops = &exchange_ops;
    x->ex.server = c->h->server;
    x->st = st;
    list_init(&x->node);
    buf_init(&x->body, H1_BODY_MAX_BYTES);
    h2_request_init(&x->req, c->h->opt.header_list_bytes);
    wait_for_peer(x);
    return st;
}

void h2_stream_closed(struct h2_stream *st)
{
    struct h2_conn *c = st->conn;
    if (st->hs) {
        st->hs->st = NULL;
        session_gone(&st->hs->s);
        c->h->left = true;
    }
    drop_exchange(st);
    if (c->input_stream == st)
        c->input_stream = NULL;
    list_remove(&st->node);
    if (--c->n_streams == 0)
        c->idle_since_ms = now_ms(c);
    metrics_dec(M_H2_STREAMS);
    pool_free(&c->h->stream_pool, st);
    h2_conn_touch(c); /* requests may have waited for its answer to go */
}

bool h2_stream_field(struct h2_stream *st, struct slice name, struct slice value)
{
    return !st->x || h2_request_add(&st->x->req, name, value);
}

static void complain(struct h2_exchange *x, int status, const char *why)
{
    if (x->why)
        return;
    x->why = why;
    x->status = status;
}

void h2_stream_bad_field(struct h2_stream *st)
{
    if (st->x)
        complain(st->x, 400, "a header field has a character that is not allowed");
}

static void make_ready(struct h2_exchange *x)
{
    list_remove(&x->node);
    list_push_back(&x->st->conn->ready, &x->node);
}

void h2_stream_headers_done(struct h2_stream *st, bool end)
{
    struct h2_exchange *x = st->x;
    int status;
    const char *why = h2_request_check(&x->req, &x->target, &status);
    st->peer_ended = end;
    x->ex.method = x->target.method;
    x->ex.path = x->target.path;
    x->ex.query = x->target.query;
    if (why)
        complain(x, status, why);
    else if (x->target.websocket && end)
        complain(x, 400, "a WebSocket needs a stream that stays open");
    else if (x->target.content_length > H1_DISCARD_MAX_BYTES)
        complain(x, 413, "the body is larger than 1 MiB");
    if (end || x->why || x->target.websocket)
        make_ready(x);
}

static void take_body(struct h2_exchange *x, struct slice bytes)
{
    struct h2_conn *c = x->st->conn;
    x->received += bytes.len;
    if (!x->target.takes_body)
        complain(x, 400, "GET, HEAD and OPTIONS take no body here");
    if (c->body_bytes + bytes.len > H2_BODIES_MAX_BYTES)
        complain(x, 503, "too many large requests at once on one connection");
    if (x->body.len + bytes.len > H1_BODY_MAX_BYTES)
        complain(x, 413, "the body is larger than 1 MiB");
    size_t before = x->body.len;
    if (x->why)
        buf_release(&x->body);
    else
        buf_append(&x->body, bytes);
    if (x->body.failed)
        complain(x, 503, "out of memory, try again later");
    c->body_bytes = c->body_bytes - before + x->body.len;
    if (x->received > H1_DISCARD_MAX_BYTES)
        h2_wire_reset(x->st, false);
}

bool h2_stream_data(struct h2_stream *st, struct slice bytes)
{
    struct h2_exchange *x = st->x;
    if (st->hs)
        return st->hs->websocket && bytes.len;
    if (x && x->target.websocket && !x->why && !x->has_answer) {
        /* The window, which is not given back, bounds it. */
        buf_append(&x->body, bytes);
        st->conn->body_bytes += x->body.failed ? 0 : bytes.len;
        return false;
    }
    h2_wire_consumed(st, bytes.len);
    if (x && list_is_linked(&x->node) && !x->has_answer && !st->peer_ended) {
        take_body(x, bytes);
        if (!x->target.websocket)
            wait_for_peer(x);
    }
    return false;
}

void h2_stream_input(struct h2_stream *st, struct slice bytes)
{
    struct h2_session *hs = st->hs;
    session_heard(&hs->s);
    ws_session_input(ws_of(hs), hs->h->streams->websockets, bytes);
    st->unread_bytes += (uint32_t)bytes.len;
    if (session_wants_reading(&hs->s) || hs->s.state != SESSION_OPEN)
        give_window_back(st);
}

void h2_stream_peer_ended(struct h2_stream *st)
{
    st->peer_ended = true;
    if (st->hs && st->hs->s.ending)
        return; /* all_written ends it */
    if (st->hs && st->hs->s.state == SESSION_OPEN) {
        session_gone(&st->hs->s); /* gone without a Close */
        st->conn->h->left = true;
    } else if (st->hs) {
        st->hs->fin = true;
        h2_wire_wake(st);
    } else if (st->x && !st->x->has_answer && !st->x->target.websocket) {
        make_ready(st->x);
    }
}

/* --- handling --- */

static const char *code_of(int status)
{
    switch (status) {
    case 413:
    case 431:
        return "too_large";
    case 501:
        return "not_implemented";
    case 503:
        return "overloaded";
    default:
        return "bad_request";
    }
}

static void count_refusal(int status)
{
    if (status == 413 || status == 431)
        metrics_inc(M_BAD_TOO_LARGE);
    else if (status == 503)
        metrics_inc(M_BAD_OVERLOAD);
    else
        metrics_inc(M_BAD_AMBIGUOUS);
}

static void handle(struct h2_exchange *x)
{
    struct http_server *server = x->ex.server;
    if (x->why) {
        count_refusal(x->status);
        refuse(x, x->status, code_of(x->status), x->why);
        return;
    }
    x->ex.body = x->target.websocket ? SLICE_NONE : buf_slice(&x->body);
    x->is_pending = true;
    x->st->conn->h->pending++;
    http_handle(&x->ex);
    /* As on HTTP/1.1: the answer goes out with this turn's write. */
    if (!x->ex.answered && server->settle)
        server->settle(server);
}

void h2_stream_handle_ready(struct h2_conn *c)
{
    struct list *n;
    while (c->state == H2_OPEN && c->answer_bytes < H2_ANSWERS_MAX_BYTES &&
           (n = list_pop_front(&c->ready)))
        handle(container_of(n, struct h2_exchange, node));
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

static size_t offer_session(struct h2_session *hs, size_t max, enum h2_after *after)
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

size_t h2_stream_offer(struct h2_stream *st, size_t max, enum h2_after *after)
{
    if (st->hs)
        return offer_session(st->hs, max, after);
    if (!st->x || !st->x->has_answer)
        return 0; /* it is being reset */
    size_t left = st->x->answer.len - st->x->answer_sent;
    *after = left <= max ? H2_END : H2_MORE;
    return left <= max ? left : max;
}

static void take_from_session(struct session *s, size_t n, char *out)
{
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

void h2_stream_take(struct h2_stream *st, size_t n, char *out)
{
    if (st->hs) {
        take_from_session(&st->hs->s, n, out);
        return;
    }
    memcpy(out, st->x->answer.ptr + st->x->answer_sent, n);
    st->x->answer_sent += n;
    wait_for_peer(st->x);
}

bool h2_stream_cuts_request(const struct h2_stream *st)
{
    return st->x && !st->peer_ended;
}

void h2_stream_pools_init(struct h2 *h)
{
    pool_init(&h->stream_pool, sizeof(struct h2_stream));
    pool_init(&h->sse_pool, sizeof(struct h2_session));
    pool_init(&h->ws_pool, sizeof(struct h2_ws));
}

void h2_stream_pools_release(struct h2 *h)
{
    pool_release(&h->stream_pool);
    pool_release(&h->sse_pool);
    pool_release(&h->ws_pool);
}
