/* chat.c - chat rooms: the channel chat:ROOM with people in it.
 *
 * Everything said in a room is an ordinary message of its channel, ordered by the bus: joins,
 * leaves and talk arrive in the same order for everyone, can be resumed, and reach plain /events
 * and /poll clients too. Only the welcome and errors are for one client alone.
 *
 * A client without a WebSocket posts. To speak as the EventSource client it was welcomed as, it
 * shows the key from that welcome: a keyed hash of the client id, so no state is kept for it.
 */
#include "http_internal.h"

#include "crier/clock.h"
#include "crier/codec.h"
#include "crier/dialects.h"
#include "crier/json.h"
#include "crier/metrics.h"
#include "crier/rnd.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX (1024 * 1024)
#define PREFIX "chat:"

/* s->app of a session that was announced and must say goodbye */
static char announced;

static struct slice room_of(struct slice channel)
{
    return slice_of(channel.ptr + sizeof(PREFIX) - 1, channel.len - (sizeof(PREFIX) - 1));
}

static void append_timestamp(struct buf *b)
{
    char now[CLOCK_ISO8601_BYTES];
    clock_iso8601(clock_wall_ms(), now);
    buf_printf(b, ",\"timestamp\":\"%s\"", now);
}

static void append_room(struct buf *b, struct slice room)
{
    buf_append_str(b, ",\"room\":");
    json_append_string(b, room);
}

/* What is said in a room is JSON. Borrows from both. */
static struct msg_draft draft_of(struct slice channel, const struct buf *json, uint64_t client)
{
    return (struct msg_draft){.channel = channel,
                              .payload = buf_slice(json),
                              .kind = MSG_JSON,
                              .content_type = SLICE("application/json"),
                              .client = client};
}

static void on_published(struct bus_op *op)
{
    bus_op_free(op);
}

/* "CLIENT <what>" to everybody else in the room. */
static void announce(struct session *s, struct slice channel, const char *what, bool with_room)
{
    char id[CLIENT_ID_BYTES];
    struct buf b;
    client_id_text(s->id, id);
    buf_init(&b, TEXT_MAX);
    buf_printf(&b, "{\"type\":\"system\",\"message\":\"%s %s\"", id, what);
    append_timestamp(&b);
    if (with_room)
        append_room(&b, room_of(channel));
    buf_append_char(&b, '}');
    struct msg_draft d = draft_of(channel, &b, s->id);
    d.exclude_client = true;
    if (hub_publish(s->hub, &d, SLICE_NONE, on_published, NULL))
        metrics_inc(M_BAD_OVERLOAD);
    buf_release(&b);
}

static void append_welcome(struct buf *b, const struct session *s, const char *post_key)
{
    char id[CLIENT_ID_BYTES], text[CHANNEL_MAX_BYTES + 64];
    struct slice room = room_of(sub_channel(s->subs));
    client_id_text(s->id, id);
    snprintf(text, sizeof(text), "Welcome to room %.*s. You are %s.", (int)room.len, room.ptr, id);
    buf_append_str(b, "{\"type\":\"system\",\"message\":");
    json_append_string(b, slice_str(text));
    buf_printf(b, ",\"client_id\":\"%s\"", id);
    append_timestamp(b);
    if (post_key)
        buf_printf(b, ",\"post_key\":\"%s\"", post_key);
    buf_append_char(b, '}');
}

/* Called when the joiner has been welcomed. */
static void announce_join(struct session *s)
{
    if (s->state != SESSION_OPEN)
        return;
    s->app = &announced;
    announce(s, sub_channel(s->subs), "joined the room", true);
}

static void on_gone(struct session *s)
{
    /* When the server goes, everyone leaves: telling everyone of everyone helps nobody. */
    if (!s->app || !s->subs || s->close_code == WS_CODE_GOING_AWAY)
        return;
    /* Left first, then said: the bus may run between the two, and whoever hears it and asks who is
     * here must not find the one that left. */
    char name[CHANNEL_MAX_BYTES];
    struct slice channel = sub_channel(s->subs);
    memcpy(name, channel.ptr, channel.len);
    session_leave_all(s);
    announce(s, slice_of(name, channel.len), "left the room", false);
}

/* The message of a client: payload of what goes to the room. */
static void append_message(struct buf *b, const char *id, struct slice content, struct slice room)
{
    buf_printf(b, "{\"type\":\"message\",\"client_id\":\"%s\",\"content\":", id);
    buf_append(b, content);
    append_timestamp(b);
    append_room(b, room);
    buf_append_char(b, '}');
}

/* --- over WebSocket --- */

static void append_gap(struct buf *b, const struct sub *sub, enum gap_reason reason,
                       struct position since, struct position resumed)
{
    buf_append_str(b, "{\"type\":\"gap\",");
    notice_gap(b, sub_channel(sub), reason, since, resumed);
    buf_append_char(b, '}');
}

static void ws_on_ready(struct session *s)
{
    struct buf text, frames;
    buf_init(&text, TEXT_MAX);
    buf_init(&frames, TEXT_MAX);
    append_welcome(&text, s, NULL);
    ws_frame_append(&frames, WS_TEXT, buf_slice(&text));
    for (uint32_t i = 0; i < s->opening->n_gaps; i++) {
        const struct opening_gap *g = &s->opening->gap[i];
        buf_clear(&text);
        append_gap(&text, g->sub, g->reason, g->since, g->resumed);
        ws_frame_append(&frames, WS_TEXT, buf_slice(&text));
    }
    if (text.failed || frames.failed)
        session_gone(s);
    else
        session_push_ready(s, buf_slice(&frames));
    buf_release(&text);
    buf_release(&frames);
    announce_join(s);
}

static void ws_on_gap(struct session *s, struct sub *sub, const struct catch_up *cu)
{
    struct buf b;
    buf_init(&b, TEXT_MAX);
    append_gap(&b, sub, cu->gap, cu->since, cu->start);
    ws_push(s, WS_TEXT, buf_slice(&b));
    buf_release(&b);
}

static void say_error(struct session *s, const char *message)
{
    struct buf b;
    metrics_inc(M_BAD_COMMAND);
    buf_init(&b, TEXT_MAX);
    buf_append_str(&b, "{\"type\":\"error\",\"message\":");
    json_append_string(&b, slice_str(message));
    buf_append_char(&b, '}');
    ws_push(s, WS_TEXT, buf_slice(&b));
    buf_release(&b);
}

static void on_talk_published(struct bus_op *op)
{
    struct hub_call *call = op->ctx;
    struct session *s = hub_session(call->hub, call->session);
    if (s) {
        session_command_done(s);
        if (op->err && s->state == SESSION_OPEN)
            say_error(s, "The message could not be delivered, try again");
    }
    free(call);
    bus_op_free(op);
}

static void talk(struct session *s, struct slice content)
{
    struct buf b;
    char id[CLIENT_ID_BYTES];
    struct slice channel = sub_channel(s->subs);
    client_id_text(s->id, id);
    buf_init(&b, content.len + 1024);
    append_message(&b, id, content, room_of(channel));
    struct msg_draft d = draft_of(channel, &b, s->id);
    struct hub_call *call = hub_call_new(s->hub, s, SLICE_NONE);
    if (b.failed || hub_publish(s->hub, &d, SLICE_NONE, on_talk_published, call)) {
        free(call);
        say_error(s, "The message could not be delivered, try again");
    } else {
        session_command_sent(s);
    }
    buf_release(&b);
}

/* The raw JSON string of "content"; false when there is none. */
static bool content_of(struct slice text, struct slice *content)
{
    return json_type_of(text) == JSON_OBJECT && json_member(text, "content", content) &&
           json_type_of(*content) == JSON_STRING;
}

#define EXPECTED_CONTENT "Expected {\"content\": \"…\"}"

static void ws_on_received(struct session *s, bool binary, struct slice payload)
{
    struct slice content;
    if (binary)
        ws_end(s, WS_CODE_NOT_ACCEPTED, "binary frames are not accepted in chat rooms");
    else if (json_check(payload, true, NULL))
        say_error(s, "Invalid JSON format");
    else if (!content_of(payload, &content))
        say_error(s, EXPECTED_CONTENT);
    else
        talk(s, content);
}

const struct dialect dialect_chat_ws = {
    .transport = "ws",
    .form = FORM_WS_RAW,
    .ready = ws_on_ready,
    .gap = ws_on_gap,
    .closing = ws_closing,
    .tick = ws_tick,
    .received = ws_on_received,
    .gone = on_gone,
};

/* --- over EventSource --- */

static void post_key(const struct http_shared *sh, uint64_t client, char out[17])
{
    uint64_t parts[2] = {sh->post_key_secret, client};
    snprintf(out, 17, "%016llx", (unsigned long long)hash_bytes(slice_of(parts, sizeof(parts))));
}

static void sse_on_ready(struct session *s)
{
    struct buf b;
    char key[17];
    const struct http_server *server = s->app;
    post_key(server->shared, s->id, key);
    buf_init(&b, TEXT_MAX);
    sse_ready_text(&b, s);
    buf_append_str(&b, "data: ");
    append_welcome(&b, s, key);
    buf_append_str(&b, "\n\n");
    s->app = NULL;
    if (b.failed)
        session_gone(s);
    else
        session_push_ready(s, buf_slice(&b));
    buf_release(&b);
    announce_join(s);
}

static void sse_on_gone(struct session *s)
{
    if (s->app == &announced)
        on_gone(s);
}

static const struct dialect dialect_chat_sse = {
    .transport = "sse",
    .form = FORM_SSE_RAW,
    .ready = sse_on_ready,
    .gap = sse_gap,
    .closing = sse_closing,
    .tick = sse_tick,
    .gone = sse_on_gone,
};

/* --- the request --- */

static void on_open(struct http_stream *st, struct session *s)
{
    struct subscription *sub = container_of(st, struct subscription, stream);
    if (st->dialect == &dialect_chat_sse) {
        s->app = sub->server; /* until the welcome */
        sse_prelude(s, sub->padding);
        session_timer(s, hub_options(s->hub)->sse_keepalive_ms);
    } else {
        session_timer(s, hub_options(s->hub)->ws_ping_ms);
    }
    if (session_open(s, sub->req, sub->n))
        session_gone(s);
    subscription_free(sub);
}

static bool mentions(struct slice list, struct slice want)
{
    struct slice one, type;
    while (slice_split(&list, ',', &one)) {
        (void)slice_split(&one, ';', &type);
        if (slice_eq_nocase(slice_trim(type), want))
            return true;
    }
    return false;
}

static void join_room(struct http_exchange *ex, const struct query *q, struct slice channel)
{
    bool sse = mentions(ex->ops->header(ex, "Accept"), SLICE("text/event-stream"));
    enum http_upgrade up = ex->ops->upgrade(ex);
    if (!sse && up != HTTP_UPGRADE_OK) {
        if (up != HTTP_UPGRADE_NONE)
            (void)http_websocket_is_good(ex);
        else
            http_problem(ex, 426, "upgrade_required",
                         "a chat room is joined by WebSocket, or by EventSource (Accept: "
                         "text/event-stream)");
        return;
    }
    struct subscription *sub = subscription_of(ex, q, channel);
    if (!sub)
        return;
    sse = up == HTTP_UPGRADE_NONE;
    if (sse ? sse_turn_away(ex) : turn_away(ex)) {
        subscription_free(sub);
        return;
    }
    sub->stream.dialect = sse ? &dialect_chat_sse : &dialect_chat_ws;
    sub->stream.open = on_open;
    if (sse)
        sse_accept(ex, sub);
    else
        http_accept_websocket(ex, &sub->stream);
}

/* Who posts: the client of the key, or a new one. */
static bool poster(struct http_exchange *ex, const struct query *q, uint64_t *client)
{
    struct slice id = query_get(q, "client"), key = query_get(q, "key");
    char want[17];
    *client = rnd_u64();
    if (!id.ptr && !key.ptr)
        return true;
    if (client_id_parse(id, client)) {
        http_problem(ex, 403, "bad_post_key", "client must be the client_id of a welcome");
        return false;
    }
    post_key(ex->server->shared, *client, want);
    unsigned diff = key.len != 16;
    for (size_t i = 0; i < 16 && key.len == 16; i++)
        diff |= (unsigned)(key.ptr[i] ^ want[i]);
    if (diff)
        http_problem(ex, 403, "bad_post_key", "key must be the post_key of this client's welcome");
    return !diff;
}

static void post_to_room(struct http_exchange *ex, const struct query *q, struct slice channel)
{
    struct slice content;
    uint64_t client;
    char id[CLIENT_ID_BYTES];
    struct buf b;
    const char *why;
    if (channel_check(channel, &why)) {
        http_problem(ex, 400, "bad_channel", "%s", why);
        return;
    }
    if (ex->body.len > ex->server->shared->message_bytes) {
        http_problem(ex, 413, "too_large", "the message is larger than %llu bytes",
                     (unsigned long long)ex->server->shared->message_bytes);
        return;
    }
    if (json_check(ex->body, true, NULL)) {
        http_problem(ex, 400, "bad_json", "Invalid JSON format");
        return;
    }
    if (!content_of(ex->body, &content)) {
        http_problem(ex, 400, "bad_body", EXPECTED_CONTENT);
        return;
    }
    if (!poster(ex, q, &client))
        return;
    client_id_text(client, id);
    buf_init(&b, content.len + 1024);
    append_message(&b, id, content, room_of(channel));
    struct msg_draft d = draft_of(channel, &b, client);
    struct publish_job *job = publish_job_new(ex, 1, false);
    if (job && (b.failed || publish_job_add(job, &d, SLICE_NONE))) {
        publish_job_free(job);
        http_problem(ex, 503, "overloaded", "out of memory, try again later");
    } else if (job) {
        publish_job_run(job);
    }
    buf_release(&b);
}

void route_chat(struct http_exchange *ex, struct slice rest)
{
    struct buf channel;
    struct query q;
    buf_init(&channel, rest.len + sizeof(PREFIX));
    buf_append_str(&channel, PREFIX);
    bool ok = query_parse(ex, &q);
    if (ok && (!rest.len || percent_decode(rest, false, &channel))) {
        http_problem(ex, 400, "bad_channel", "name a room: /chat/ROOM");
        ok = false;
    }
    if (ok && ex->method == HTTP_POST) {
        if (!publish_turn_away(ex))
            post_to_room(ex, &q, buf_slice(&channel));
    } else if (ok) {
        join_room(ex, &q, buf_slice(&channel));
    }
    query_release(&q);
    buf_release(&channel);
}
