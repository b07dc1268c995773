/* h2_exchange.c - one request on a stream of HTTP/2, and its answer.
 *
 * It goes: fields (in conn->waiting) -> body -> complete, in conn->ready -> handled -> answered (in
 * conn->waiting again, until the peer has taken it); or away at once when a session takes the
 * stream over, because an idle stream should cost little. When the stream ends first, the routes
 * are told so; it is freed at the end of the turn.
 */
#include "h2_internal.h"

#include "crier/h1.h"
#include "crier/log.h"
#include "crier/metrics.h"

#include <stdlib.h>

struct h2_exchange {
    struct http_exchange ex;
    struct h2 *h;
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

static uint64_t now_ms(const struct h2_conn *c)
{
    return loop_now_ms(c->h->loop);
}

/* --- life --- */

static void free_exchange(struct loop_corpse *corpse)
{
    struct h2_exchange *x = container_of(corpse, struct h2_exchange, corpse);
    http_exchange_release(&x->ex);
    h2_request_release(&x->req);
    buf_release(&x->body);
    free(x->copy);
    pool_free(&x->h->exchange_pool, x);
}

static void not_pending(struct h2_exchange *x)
{
    if (x->is_pending)
        x->st->conn->h->pending--;
    x->is_pending = false;
}

void h2_exchange_drop(struct h2_stream *st)
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

uint64_t h2_exchange_waiting_since(const struct h2_conn *c)
{
    if (list_is_empty(&c->waiting))
        return UINT64_MAX;
    return container_of(c->waiting.next, struct h2_exchange, node)->last_ms;
}

/* An answer that waits for the connection, whose window goes to others meanwhile: the peer takes
 * what it can. */
static bool waits_for_others(const struct h2_exchange *x, uint64_t before_ms)
{
    return x->has_answer && x->st->conn->took_ms > before_ms && h2_wire_has_window(x->st);
}

void h2_exchange_reset_late(struct h2_conn *c, uint64_t before_ms)
{
    while (h2_exchange_waiting_since(c) <= before_ms) {
        struct h2_exchange *x = container_of(c->waiting.next, struct h2_exchange, node);
        if (waits_for_others(x, before_ms)) {
            wait_for_peer(x);
            continue;
        }
        list_remove(&x->node);
        h2_wire_reset(x->st, false);
    }
}

/* --- the answer --- */

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
    if (status == 503)
        http_add_header(&res, "Retry-After", "2");
    res.body = buf_slice(&b);
    answer(x, &res);
    buf_release(&b);
}

/* Many may have been asked for before the first one was there. */
static bool is_too_much(const struct h2_exchange *x, const struct http_response *res)
{
    return !res->body_is_static && res->body.len > H2_ANSWER_SMALL_BYTES &&
           x->st->conn->answer_bytes + res->body.len > H2_ANSWERS_HARD_BYTES;
}

static void refuse_overload(struct h2_exchange *x)
{
    metrics_inc(M_BAD_OVERLOAD);
    refuse(x, 503, "overloaded", "too many large answers at once on one connection");
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
    else if (is_too_much(x, res))
        refuse_overload(x);
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

static void begin_session(struct h2_exchange *x, const struct http_response *head,
                          struct http_stream *hst, bool websocket)
{
    struct h2_stream *st = x->st;
    if (!st) {
        hst->cancel(hst);
        return;
    }
    if (!h2_session_open(st, head, hst, websocket))
        return;
    if (x->body.len)
        h2_session_input(st->hs, buf_slice(&x->body)); /* came before the answer */
    h2_exchange_drop(st);
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

size_t h2_exchange_offer(const struct h2_exchange *x, size_t max, enum h2_after *after)
{
    if (!x->has_answer)
        return 0; /* it is being reset */
    size_t left = x->answer.len - x->answer_sent;
    *after = left <= max ? H2_END : H2_MORE;
    return left <= max ? left : max;
}

void h2_exchange_take(struct h2_exchange *x, size_t n, char *out)
{
    memcpy(out, x->answer.ptr + x->answer_sent, n);
    x->answer_sent += n;
    wait_for_peer(x);
}

/* --- the request --- */

bool h2_exchange_new(struct h2_stream *st)
{
    struct h2 *h = st->conn->h;
    struct h2_exchange *x = pool_try_new(&h->exchange_pool);
    if (!x)
        return false;
    *x = (struct h2_exchange){.h = h, .st = st};
    x->ex.ops = &exchange_ops;
    x->ex.server = h->server;
    list_init(&x->node);
    buf_init(&x->body, H1_BODY_MAX_BYTES);
    h2_request_init(&x->req, h->opt.header_list_bytes);
    st->x = x;
    wait_for_peer(x);
    return true;
}

bool h2_exchange_field(struct h2_exchange *x, struct slice name, struct slice value)
{
    return h2_request_add(&x->req, name, value);
}

static void complain(struct h2_exchange *x, int status, const char *why)
{
    if (x->why)
        return;
    x->why = why;
    x->status = status;
}

void h2_exchange_bad_field(struct h2_exchange *x)
{
    complain(x, 400, "a header field has a character that is not allowed");
}

static void make_ready(struct h2_exchange *x)
{
    list_remove(&x->node);
    list_push_back(&x->st->conn->ready, &x->node);
}

void h2_exchange_headers_done(struct h2_exchange *x, bool end)
{
    int status;
    const char *why = h2_request_check(&x->req, &x->target, &status);
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

void h2_exchange_data(struct h2_exchange *x, struct slice bytes)
{
    struct h2_stream *st = x->st;
    if (x->target.websocket && !x->why && !x->has_answer) {
        /* The window, which is not given back, bounds it. */
        buf_append(&x->body, bytes);
        st->conn->body_bytes += x->body.failed ? 0 : bytes.len;
        return;
    }
    h2_wire_consumed(st, bytes.len);
    if (!list_is_linked(&x->node) || x->has_answer || st->peer_ended)
        return;
    take_body(x, bytes);
    if (!x->target.websocket)
        wait_for_peer(x);
}

void h2_exchange_peer_ended(struct h2_exchange *x)
{
    if (!x->has_answer && !x->target.websocket)
        make_ready(x);
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

void h2_exchange_handle_ready(struct h2_conn *c)
{
    struct list *n;
    while (c->state == H2_OPEN && c->answer_bytes < H2_ANSWERS_MAX_BYTES &&
           (n = list_pop_front(&c->ready)))
        handle(container_of(n, struct h2_exchange, node));
}

/* Between streams that stay for hours, malloc's heap would keep a hole for each. */
void h2_exchange_pools_init(struct h2 *h)
{
    pool_init(&h->exchange_pool, sizeof(struct h2_exchange));
}

void h2_exchange_pools_release(struct h2 *h)
{
    pool_release(&h->exchange_pool);
}
