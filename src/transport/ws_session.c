/* ws_session.c - what WebSocket messages mean for a session.
 *
 * The object that takes frames apart (ws.c) knows no session, the dialects (src/hub) know no
 * frames; this is what lies between, once for all carriers.
 */
#include "ws_session.h"

#include "crier/dialects.h"
#include "crier/log.h"
#include "crier/metrics.h"

static void end_now(struct session *s, uint16_t code, const char *why)
{
    if (why) {
        session_close(s, code, why);
        return;
    }
    ws_push_close(s, code, SLICE_NONE);
    session_finish(s);
}

/* `why` NULL: the client's own Close is answered. What it sent before is answered first. */
static void end(struct session *s, uint16_t code, const char *why)
{
    if (!s->in_flight) {
        end_now(s, code, why);
        return;
    }
    s->end_code = code;
    s->end_why = why;
    session_ends_later(s);
}

void ws_session_end_if_due(struct session *s)
{
    if (!s->ending || s->in_flight)
        return;
    s->ending = false;
    if (s->state == SESSION_OPEN)
        end_now(s, s->end_code, s->end_why);
    if (s->ops->resume_reading)
        s->ops->resume_reading(s); /* for the end of the connection */
}

static void on_message(void *ctx, bool binary, struct slice payload)
{
    struct session *s = ctx;
    if (s->state == SESSION_OPEN)
        s->dialect->received(s, binary, payload);
}

static void on_ping(void *ctx, struct slice payload)
{
    struct session *s = ctx;
    if (s->state == SESSION_OPEN)
        ws_push(s, WS_PONG, payload);
}

static void on_pong(void *ctx, struct slice payload)
{
    (void)ctx;
    (void)payload; /* session_heard has been called: that is all it says */
}

static void on_close(void *ctx, uint16_t code, struct slice reason)
{
    struct session *s = ctx;
    (void)reason;
    s->peer_closed = true;
    if (s->state == SESSION_OPEN)
        end(s, code, NULL);
    else if (s->state == SESSION_CLOSING && !s->out.count)
        s->ops->peer_done(s);
}

void ws_session_init(struct ws *ws, struct session *s, struct ws_pool *pool,
                     const struct ws_limits *limits)
{
    static const struct ws_events events = {on_message, on_ping, on_pong, on_close};
    ws_init(ws, WS_SERVER, pool, &events, limits, s);
}

bool ws_session_input(struct ws *ws, struct slice bytes)
{
    struct session *s = ws->ctx;
    uint16_t code;
    const char *why;
    if (s->state == SESSION_CLOSED || !bytes.len || !ws_input(ws, bytes, &code, &why))
        return true;
    metrics_inc(M_BAD_WS);
    log_debug("websocket_error", "code=%u why=\"%s\"", code, why);
    if (s->state == SESSION_OPEN)
        end(s, code, why);
    return false;
}
