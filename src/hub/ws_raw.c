/* ws_raw.c - the raw dialect of a WebSocket: bare payloads of one channel, both ways.
 *
 * There is no room for notices. What must be said is said by closing: a cursor that cannot be
 * honoured with 4003 and where to go on, a publish that cannot be ordered with 1013.
 */
#include "hub_internal.h"

#include "crier/dialects.h"

#include <stdio.h>
#include <stdlib.h>

static void close_gap(struct session *s, const struct sub *sub, enum gap_reason reason,
                      struct position resumed)
{
    char text[64 + CURSOR_ENTRY_MAX_BYTES];
    char cursor[CURSOR_ENTRY_MAX_BYTES];
    size_t n = cursor_format(cursor, sub->audience->tag, resumed);
    snprintf(text, sizeof(text), "gap %s %.*s", gap_reason_str(reason), (int)n, cursor);
    session_close(s, WS_CODE_GAP, text);
}

static void on_ready(struct session *s)
{
    if (s->opening->n_gaps) {
        const struct opening_gap *g = &s->opening->gap[0];
        close_gap(s, g->sub, g->reason, g->resumed);
        return;
    }
    session_push_ready(s, SLICE_NONE);
}

static void on_gap(struct session *s, struct sub *sub, const struct catch_up *cu)
{
    close_gap(s, sub, cu->gap, cu->start);
}

static void on_published(struct bus_op *op)
{
    struct hub_call *call = op->ctx;
    struct session *s = hub_session(call->hub, call->session);
    if (s) {
        session_command_done(s);
        if (op->err)
            session_close(s, WS_CODE_TRY_LATER, "the message could not be published");
    }
    free(call);
    bus_op_free(op);
}

static void on_received(struct session *s, bool binary, struct slice payload)
{
    struct msg_draft d = {
        .channel = sub_channel(s->subs), .payload = payload, .kind = MSG_BINARY, .client = s->id};
    size_t at;
    const char *what;
    /* The rule for a body without a content type; it cannot fail. */
    if (!binary && msg_kind_of(SLICE_NONE, payload, &d.kind, &at, &what))
        d.kind = MSG_TEXT;
    struct hub_call *call = hub_call_new(s->hub, s, SLICE_NONE);
    if (hub_publish(s->hub, &d, SLICE_NONE, on_published, call)) {
        free(call);
        session_close(s, WS_CODE_TRY_LATER, "out of memory");
        return;
    }
    session_command_sent(s);
}

const struct dialect dialect_ws_raw = {
    .transport = "ws",
    .form = FORM_WS_RAW,
    .ready = on_ready,
    .gap = on_gap,
    .closing = ws_closing,
    .tick = ws_tick,
    .received = on_received,
};
