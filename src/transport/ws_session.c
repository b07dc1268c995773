/* ws_session.c - what WebSocket messages mean for a session.
 *
 * The object that takes frames apart (ws.c) knows no session, the dialects (src/hub) know no
 * frames; this is what lies between, once for all carriers.
 *
 * Who takes too long over one message is found by one timer of the worker: the pool knows whose
 * message began first. Pings and pongs are counted by one number per connection: the time at which
 * its bucket, which holds as many as may come in a second, is full again.
 */
#include "ws_session.h"

#include "crier/dialects.h"
#include "crier/log.h"
#include "crier/metrics.h"

#include <stdlib.h>

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
    if (s->ending)
        return; /* for another reason, which came first */
    if (!s->in_flight) {
        end_now(s, code, why);
        return;
    }
    session_ends_later(s, code, why);
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

/* The client broke a rule: the ws has stopped, the Close is the last it hears. */
static void fail(struct session *s, uint16_t code, const char *why, enum metric count)
{
    metrics_inc(count);
    log_debug("websocket_error", "code=%u why=\"%s\"", code, why);
    if (s->state == SESSION_OPEN)
        end(s, code, why);
    else if (s->state == SESSION_CLOSING && !s->out.count)
        s->ops->peer_done(s);
}

/* --- what comes --- */

static void on_message(void *ctx, bool binary, struct slice payload)
{
    struct session *s = ((struct ws_session *)ctx)->s;
    if (s->state == SESSION_OPEN && !s->ending)
        s->dialect->received(s, binary, payload);
}

static bool admit_control(struct ws_session *w)
{
    uint64_t now_us = hub_timers(w->s->hub)->now_ms * 1000;
    uint64_t full_us = w->control_us > now_us ? w->control_us : now_us;
    if (full_us - now_us >= 1000000) {
        ws_stop(&w->ws);
        fail(w->s, WS_CODE_POLICY, "too many pings and pongs", M_WS_CONTROL_RATE);
        return false;
    }
    w->control_us = full_us + 1000000 / hub_options(w->s->hub)->ws_control_rate;
    return true;
}

static void on_ping(void *ctx, struct slice payload)
{
    struct ws_session *w = ctx;
    if (admit_control(w) && w->s->state == SESSION_OPEN && !w->s->ending)
        ws_push(w->s, WS_PONG, payload);
}

static void on_pong(void *ctx, struct slice payload)
{
    (void)payload; /* session_heard has been called: that is all it says */
    (void)admit_control(ctx);
}

static void on_close(void *ctx, uint16_t code, struct slice reason)
{
    struct session *s = ((struct ws_session *)ctx)->s;
    (void)reason;
    s->peer_closed = true;
    if (s->state == SESSION_OPEN)
        end(s, code, NULL);
    else if (s->state == SESSION_CLOSING && !s->out.count)
        s->ops->peer_done(s);
}

static enum metric metric_of(enum err e, uint16_t code)
{
    if (e == ERR_LIMIT)
        return code == WS_CODE_TOO_BIG ? M_WS_TOO_BIG : M_WS_FRAGMENTS;
    return e == ERR_NOMEM ? M_BAD_OVERLOAD : M_BAD_WS;
}

void ws_session_input(struct ws_session *w, struct ws_set *set, struct slice bytes)
{
    uint16_t code;
    const char *why;
    if (w->s->state == SESSION_CLOSED)
        return;
    ws_pool_tell_time(set->pool, set->timers->now_ms);
    enum err e = ws_input(&w->ws, bytes, &code, &why);
    if (e)
        fail(w->s, code, why, metric_of(e, code));
    if (w->ws.partial && !timer_is_set(&set->slow))
        timer_set(set->timers, &set->slow, set->opt->ws_message_ms);
}

/* --- slow senders --- */

static void end_slow(struct ws *ws)
{
    struct ws_session *w = container_of(ws, struct ws_session, ws);
    /* Whom we do not read is not slow; whom we close has another deadline. */
    if (w->s->state != SESSION_OPEN || !session_wants_reading(w->s)) {
        ws_begin_again(ws);
        return;
    }
    ws_stop(ws);
    fail(w->s, WS_CODE_POLICY, "message took too long", M_WS_TOO_SLOW);
}

static void on_slow(struct timer *t)
{
    struct ws_set *set = container_of(t, struct ws_set, slow);
    uint64_t now_ms = set->timers->now_ms;
    uint64_t limit_ms = set->opt->ws_message_ms, since_ms;
    struct ws *oldest;
    ws_pool_tell_time(set->pool, now_ms);
    while ((oldest = ws_pool_oldest(set->pool, &since_ms)) && now_ms - since_ms >= limit_ms)
        end_slow(oldest);
    if (oldest)
        timer_set(set->timers, t, since_ms + limit_ms - now_ms);
}

/* --- life --- */

void ws_session_init(struct ws_session *w, struct session *s, struct ws_set *set,
                     enum msg_coding coding)
{
    static const struct ws_events events = {on_message, on_ping, on_pong, on_close};
    bool raw = s->dialect->form == FORM_WS_RAW;
    ws_init(&w->ws, WS_SERVER, set->pool, &events, raw ? &set->raw_limits : &set->command_limits,
            w);
    w->ws.deflate = coding != CODING_PLAIN;
    w->s = s;
    w->control_us = 0;
}

void ws_session_release(struct ws_session *w)
{
    ws_release(&w->ws);
}

struct ws_set *ws_set_new(struct hub *h)
{
    struct ws_set *set = calloc(1, sizeof(*set));
    const struct hub_options *o = hub_options(h);
    if (!set)
        return NULL;
    set->opt = o;
    set->timers = hub_timers(h);
    set->pool = ws_pool_new();
    set->raw_limits = (struct ws_limits){o->message_bytes, o->ws_fragments};
    /* Escapes may double a payload, and the other members of a command need room. */
    set->command_limits = (struct ws_limits){2 * o->message_bytes + 4096, o->ws_fragments};
    timer_init(&set->slow, on_slow);
    return set;
}

void ws_set_free(struct ws_set *set)
{
    if (!set)
        return;
    timer_cancel(set->timers, &set->slow);
    ws_pool_free(set->pool);
    free(set);
}
