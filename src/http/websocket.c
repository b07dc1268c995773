/* websocket.c - GET /ws: the request; what is spoken then are the dialects in src/hub. */
#include "http_internal.h"

#include "crier/dialects.h"

static void on_open(struct http_stream *st, struct session *s)
{
    struct subscription *sub = container_of(st, struct subscription, stream);
    session_timer(s, hub_options(s->hub)->ws_ping_ms);
    if (session_open(s, sub->req, sub->n))
        session_gone(s);
    subscription_free(sub);
}

void route_ws(struct http_exchange *ex, struct slice rest)
{
    (void)rest;
    struct query q;
    struct subscription *sub = NULL;
    if (!http_websocket_is_good(ex))
        return;
    if (query_parse(ex, &q))
        sub = subscription_parse(ex, &q, SUBSCRIPTION_MAX_WS, true);
    query_release(&q);
    if (!sub)
        return;
    if (!sub->json && sub->n != 1) {
        http_problem(ex, 400, sub->n ? "too_many_channels" : "missing_channel",
                     "format=raw takes exactly one channel");
        subscription_free(sub);
        return;
    }
    if (turn_away(ex)) {
        subscription_free(sub);
        return;
    }
    sub->stream.dialect = sub->json ? &dialect_ws_json : &dialect_ws_raw;
    sub->stream.open = on_open;
    http_accept_websocket(ex, &sub->stream);
}
