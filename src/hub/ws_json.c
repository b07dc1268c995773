/* ws_json.c - the JSON dialect of a WebSocket: what the server says. What the client says is in
 * ws_commands.c. */
#include "hub_internal.h"
#include "ws_commands.h"

#include "crier/dialects.h"
#include "crier/json.h"

#define NOTICE_MAX (64 * 1024)

static void push_json(struct session *s, struct buf *b)
{
    buf_append_char(b, '}');
    if (b->failed)
        session_gone(s);
    else
        ws_push(s, WS_TEXT, buf_slice(b));
    buf_release(b);
}

static void on_ready(struct session *s)
{
    struct buf b;
    buf_init(&b, NOTICE_MAX);
    buf_append_str(&b, "{\"op\":\"ready\",");
    notice_ready(&b, s, ",\"protocol\":\"crier.v1\"");
    buf_append_char(&b, '}');
    struct buf frames;
    buf_init(&frames, 2 * NOTICE_MAX);
    ws_frame_append(&frames, WS_TEXT, buf_slice(&b));
    /* Gaps of the request go before any message that waits behind the gate. */
    for (uint32_t i = 0; i < s->opening->n_gaps; i++) {
        const struct opening_gap *g = &s->opening->gap[i];
        buf_clear(&b);
        buf_append_str(&b, "{\"op\":\"gap\",");
        notice_gap(&b, sub_channel(g->sub), g->reason, g->since, g->resumed);
        buf_append_char(&b, '}');
        ws_frame_append(&frames, WS_TEXT, buf_slice(&b));
    }
    if (b.failed || frames.failed)
        session_gone(s);
    else
        session_push_ready(s, buf_slice(&frames));
    buf_release(&b);
    buf_release(&frames);
}

static void on_subscribed(struct session *s, struct slice channel, const struct catch_up *cu,
                          struct slice ref)
{
    struct buf b;
    command_reply_begin(&b, ref);
    buf_append_str(&b, ",\"channel\":");
    json_append_string(&b, channel);
    buf_append_str(&b, ",\"cursor\":\"");
    cursor_append(&b, cursor_tag(channel), cu->start);
    buf_append_char(&b, '"');
    push_json(s, &b);
}

static void on_unsubscribed(struct session *s, struct slice channel, struct slice ref)
{
    struct buf b;
    command_reply_begin(&b, ref);
    buf_append_str(&b, ",\"channel\":");
    json_append_string(&b, channel);
    push_json(s, &b);
}

static void on_not_subscribed(struct session *s, struct slice ref)
{
    command_unavailable(s, ref);
}

static void on_gap(struct session *s, struct sub *sub, const struct catch_up *cu)
{
    struct buf b;
    buf_init(&b, NOTICE_MAX);
    buf_append_str(&b, "{\"op\":\"gap\",");
    notice_gap_cu(&b, sub, cu);
    push_json(s, &b);
}

static void on_presence(struct session *s, const struct bus_event *ev)
{
    char id[CLIENT_ID_BYTES];
    client_id_text(ev->member.client, id);
    struct buf b;
    buf_init(&b, NOTICE_MAX);
    buf_printf(&b, "{\"op\":\"%s\",\"channel\":", ev->kind == BUS_EVENT_JOIN ? "join" : "leave");
    json_append_string(&b, ev->channel);
    buf_printf(&b, ",\"client\":\"%s\"", id);
    if (ev->member.user) {
        buf_append_str(&b, ",\"user\":");
        json_append_string(&b, slice_str(ev->member.user));
    }
    buf_printf(&b, ",\"subscribers\":%u", ev->subscribers);
    push_json(s, &b);
}

const struct dialect dialect_ws_json = {
    .transport = "ws",
    .form = FORM_WS_JSON,
    .ready = on_ready,
    .subscribed = on_subscribed,
    .unsubscribed = on_unsubscribed,
    .not_subscribed = on_not_subscribed,
    .gap = on_gap,
    .closing = ws_closing,
    .tick = ws_tick,
    .presence = on_presence,
    .received = command_received,
};
