/* sse.c - EventSource as an encoding of a session (WHATWG HTML, "Server-sent events").
 *
 * Messages are encoded in msg/; here are the control events, the keep-alive and GET /events. A
 * browser gives up for ever on anything but 200, so a server that cannot serve now says 200, when
 * to come back, and ends the body.
 */
#include "http_internal.h"

#include "crier/dialects.h"
#include "crier/json.h"
#include "crier/metrics.h"
#include "crier/rnd.h"

#define NOTICE_MAX (64 * 1024)

static uint64_t jittered_retry_ms(const struct hub *h)
{
    uint64_t base = hub_options(h)->sse_retry_ms;
    return base / 2 + rnd_below((uint32_t)(2 * base) + 1);
}

void sse_prelude(struct session *s, bool padding)
{
    struct buf b;
    buf_init(&b, 4096);
    if (padding)
        buf_printf(&b, ":%2048s\n\n", "");
    buf_printf(&b, "retry: %llu\n: crier\n\n",
               (unsigned long long)hub_options(s->hub)->sse_retry_ms);
    session_push(s, buf_slice(&b), SLICE_NONE);
    buf_release(&b);
}

static void append_id(struct buf *b, const struct session *s)
{
    buf_append_str(b, "id: ");
    session_cursor(s, b);
    buf_append_char(b, '\n');
}

static void append_opening_gaps(struct buf *b, struct session *s)
{
    for (uint32_t i = 0; i < s->opening->n_gaps; i++) {
        const struct opening_gap *g = &s->opening->gap[i];
        buf_append_str(b, "event: crier.gap\n");
        /* Only the last moves the browser's cursor on: none may be skipped by a reconnect. */
        if (i + 1 == s->opening->n_gaps)
            append_id(b, s);
        buf_append_str(b, "data: {");
        notice_gap(b, sub_channel(g->sub), g->reason, g->since, g->resumed);
        buf_append_str(b, "}\n\n");
    }
}

void sse_ready_text(struct buf *b, struct session *s)
{
    buf_append_str(b, "event: crier.ready\n");
    if (!s->opening->n_gaps)
        append_id(b, s);
    buf_append_str(b, "data: {");
    notice_ready(b, s, "");
    buf_append_str(b, "}\n\n");
    append_opening_gaps(b, s);
}

static void on_ready(struct session *s)
{
    struct buf b;
    buf_init(&b, NOTICE_MAX);
    sse_ready_text(&b, s);
    if (b.failed)
        session_gone(s);
    else
        session_push_ready(s, buf_slice(&b));
    buf_release(&b);
}

void sse_gap(struct session *s, struct sub *sub, const struct catch_up *cu)
{
    struct buf b;
    buf_init(&b, NOTICE_MAX);
    buf_append_str(&b, "event: crier.gap\ndata: {");
    notice_gap_cu(&b, sub, cu);
    buf_append_str(&b, "}\n\n");
    session_push(s, buf_slice(&b), SLICE_NONE);
    buf_release(&b);
}

void sse_closing(struct session *s, uint16_t code, const char *reason)
{
    struct buf b;
    buf_init(&b, NOTICE_MAX);
    if (code == WS_CODE_GOING_AWAY || code == WS_CODE_TRY_LATER)
        buf_printf(&b, "retry: %llu\n", (unsigned long long)jittered_retry_ms(s->hub));
    buf_printf(&b, "event: crier.close\ndata: {\"code\":%u,\"reason\":", code);
    json_append_string(&b, slice_str(reason));
    buf_append_str(&b, ",\"cursor\":\"");
    session_tail_cursor(s, &b);
    buf_append_str(&b, "\"}\n\n");
    session_push(s, buf_slice(&b), SLICE_NONE);
    buf_release(&b);
}

void sse_tick(struct session *s)
{
    uint64_t every_ms = hub_options(s->hub)->sse_keepalive_ms;
    uint64_t idle_ms = hub_timers(s->hub)->now_ms - s->sent_ms;
    if (idle_ms < every_ms) {
        session_timer(s, every_ms - idle_ms);
        return;
    }
    if (!s->out.count)
        session_push(s, SLICE(":\n\n"), SLICE_NONE);
    session_timer(s, every_ms);
}

static const struct dialect dialect_sse_raw = {
    .transport = "sse",
    .form = FORM_SSE_RAW,
    .ready = on_ready,
    .gap = sse_gap,
    .closing = sse_closing,
    .tick = sse_tick,
};

static const struct dialect dialect_sse_json = {
    .transport = "sse",
    .form = FORM_SSE_JSON,
    .ready = on_ready,
    .gap = sse_gap,
    .closing = sse_closing,
    .tick = sse_tick,
};

static bool is_overloaded(const struct http_exchange *ex)
{
    const struct http_shared *sh = ex->server->shared;
    return sh->connections > sh->max_connections;
}

bool sse_turn_away(struct http_exchange *ex)
{
    if (!ex->server->shared->draining && !is_overloaded(ex))
        return false;
    metrics_inc(M_BAD_OVERLOAD);
    struct buf b;
    buf_init(&b, 64);
    buf_printf(&b, "retry: %llu\n\n", (unsigned long long)jittered_retry_ms(ex->server->hub));
    struct http_response res = {.status = 200,
                                .content_type = "text/event-stream; charset=utf-8",
                                .body = buf_slice(&b),
                                .close = true};
    http_add_header(&res, "Cache-Control", "no-store, no-transform");
    http_add_header(&res, "X-Accel-Buffering", "no");
    http_respond(ex, &res);
    buf_release(&b);
    return true;
}

bool publish_turn_away(struct http_exchange *ex)
{
    if (!ex->server->shared->draining)
        return false;
    http_problem(ex, 503, "shutting_down", "this server is shutting down, try again");
    return true;
}

bool turn_away(struct http_exchange *ex)
{
    if (publish_turn_away(ex))
        return true;
    if (!is_overloaded(ex))
        return false;
    http_problem(ex, 503, "overloaded", "this server has all the connections it can hold");
    return true;
}

void sse_accept(struct http_exchange *ex, struct subscription *sub)
{
    bool packs = false;
    for (size_t i = 0; i < sub->n; i++)
        packs = packs || msg_is_packed_in(sub->req[i].channel);
    if (packs)
        sub->stream.coding = (uint8_t)coding_choose(ex->ops->header(ex, "Accept-Encoding"),
                                                    ex->server->shared->sse_codings);
    http_accept_stream(ex, &sub->stream);
}

static void on_open(struct http_stream *st, struct session *s)
{
    struct subscription *sub = container_of(st, struct subscription, stream);
    sse_prelude(s, sub->padding);
    session_timer(s, hub_options(s->hub)->sse_keepalive_ms);
    if (session_open(s, sub->req, sub->n))
        session_gone(s);
    subscription_free(sub);
}

void route_events(struct http_exchange *ex, struct slice rest)
{
    (void)rest;
    struct query q;
    struct subscription *sub = NULL;
    if (query_parse(ex, &q))
        sub = subscription_parse(ex, &q, SUBSCRIPTION_MAX_STREAM, false);
    query_release(&q);
    if (!sub)
        return;
    if (!sub->n) {
        subscription_free(sub);
        http_problem(ex, 400, "missing_channel", "name at least one channel: /events?channel=NAME");
        return;
    }
    if (sse_turn_away(ex)) {
        subscription_free(sub);
        return;
    }
    sub->stream.dialect = sub->json ? &dialect_sse_json : &dialect_sse_raw;
    sub->stream.open = on_open;
    sse_accept(ex, sub);
}
