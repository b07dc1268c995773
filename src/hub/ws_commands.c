/* ws_commands.c - what a JSON WebSocket client may ask.
 *
 * A command is checked as a whole before it does anything; every refusal names its code, what was
 * expected, and the client's ref. Commands that go to the bus are answered in the order they were
 * sent, because the bus is one FIFO each way. The table at the end is the list of operations.
 */
#include "ws_commands.h"

#include "crier/dialects.h"
#include "crier/json.h"
#include "crier/metrics.h"

#include <stdio.h>
#include <stdlib.h>

#define ANSWER_MAX (16u * 1024 * 1024)
#define FIELD_MAX 4096
#define HISTORY_MAX 100000

struct command {
    struct session *s;
    struct slice text;
    struct slice ref; /* raw JSON; empty when absent */
};

static void begin(struct buf *b, const char *op, struct slice ref, size_t max)
{
    buf_init(b, max);
    buf_printf(b, "{\"op\":\"%s\"", op);
    if (ref.len) {
        buf_append_str(b, ",\"ref\":");
        buf_append(b, ref);
    }
}

void command_reply_begin(struct buf *b, struct slice ref)
{
    begin(b, "ok", ref, ANSWER_MAX);
}

static void push_end(struct session *s, struct buf *b)
{
    buf_append_char(b, '}');
    if (b->failed)
        session_close(s, WS_CODE_OUR_FAULT, "out of memory");
    else
        ws_push(s, WS_TEXT, buf_slice(b));
    buf_release(b);
}

static void fail(struct session *s, struct slice ref, const char *code, const char *message)
{
    metrics_inc(M_BAD_COMMAND);
    struct buf b;
    begin(&b, "error", ref, ANSWER_MAX);
    buf_printf(&b, ",\"code\":\"%s\",\"message\":", code);
    json_append_string(&b, slice_str(message));
    push_end(s, &b);
}

static void refuse(const struct command *c, const char *code, const char *message)
{
    fail(c->s, c->ref, code, message);
}

/* --- fields --- */

/* A string member into `out` (caller's buf); an absent one leaves it empty. */
static enum err string_field(const struct command *c, const char *name, struct buf *out)
{
    struct slice raw;
    if (!json_member(c->text, name, &raw))
        return ERR_OK;
    return json_string_decode(raw, out);
}

/* The channel, checked; false after having refused. */
static bool channel_field(const struct command *c, struct buf *out)
{
    const char *why = "channel must be a string";
    struct slice raw;
    if (!json_member(c->text, "channel", &raw)) {
        refuse(c, "missing_channel", "channel is missing: it must be a string");
        return false;
    }
    if (string_field(c, "channel", out) || channel_check(buf_slice(out), &why)) {
        refuse(c, "bad_channel", why);
        return false;
    }
    return true;
}

static bool number_field(const struct command *c, const char *name, uint64_t min, uint64_t max,
                         uint64_t *out, const char *code, const char *what)
{
    struct slice raw;
    uint64_t v;
    if (!json_member(c->text, name, &raw))
        return true;
    if (json_u64(raw, max, &v) || v < min) {
        refuse(c, code, what);
        return false;
    }
    *out = v;
    return true;
}

static bool bool_field(const struct command *c, const char *name, bool *out)
{
    struct slice raw;
    if (!json_member(c->text, name, &raw))
        return true;
    if (json_bool(raw, out)) {
        refuse(c, "bad_parameter", "echo and reverse must be true or false");
        return false;
    }
    return true;
}

/* since: fills FROM_POSITION, or no_position when the cursor is silent about the channel. */
static bool since_field(const struct command *c, struct slice channel, struct catch_up *cu,
                        bool *no_position)
{
    struct buf text;
    struct cursor cursor;
    bool ok = true;
    buf_init(&text, FIELD_MAX);
    if (string_field(c, "since", &text) || (text.len && cursor_parse(buf_slice(&text), &cursor))) {
        refuse(c, "bad_cursor", "since must be a cursor as this server gave it, in a string");
        ok = false;
    } else if (text.len) {
        cu->from = FROM_POSITION;
        *no_position = cursor_find(&cursor, channel, 0, 1, &cu->since) != ERR_OK;
    }
    buf_release(&text);
    return ok;
}

/* --- operations --- */

static void op_subscribe(const struct command *c)
{
    struct buf channel;
    buf_init(&channel, FIELD_MAX);
    struct sub_request req = {.from.from = FROM_NOW};
    uint64_t n = 0;
    if (!channel_field(c, &channel))
        goto out;
    req.channel = buf_slice(&channel);
    if (!number_field(c, "history", 0, HISTORY_MAX, &n, "bad_history",
                      "history must be a number from 0 to 100000") ||
        !since_field(c, req.channel, &req.from, &req.no_position))
        goto out;
    if (req.from.from == FROM_NOW && n) {
        req.from.from = FROM_LAST_N;
        req.from.last_n = (uint32_t)n;
    }
    if (c->s->n_subs >= CURSOR_MAX_ENTRIES) {
        refuse(c, "too_many_channels", "a WebSocket may listen to 128 channels");
        goto out;
    }
    switch (session_subscribe(c->s, &req, c->ref)) {
    case ERR_OK:
        break;
    case ERR_EXISTS:
        refuse(c, "already_subscribed", "this connection listens to that channel already");
        break;
    default:
        session_close(c->s, WS_CODE_TRY_LATER, "out of memory");
    }
out:
    buf_release(&channel);
}

static void op_unsubscribe(const struct command *c)
{
    struct buf channel;
    buf_init(&channel, FIELD_MAX);
    if (!channel_field(c, &channel))
        goto out;
    if (session_unsubscribe(c->s, buf_slice(&channel), c->ref))
        refuse(c, "not_subscribed", "this connection does not listen to that channel");
out:
    buf_release(&channel);
}

void command_unavailable(struct session *s, struct slice ref)
{
    fail(s, ref, "unavailable", "the message bus is away, try again later");
}

static void fail_op(struct session *s, struct slice ref, enum err err)
{
    switch (err) {
    case ERR_CONFLICT:
        fail(s, ref, "idempotency_conflict", "this key was used for another message");
        break;
    case ERR_NOT_FOUND:
        fail(s, ref, "no_presence", "this namespace keeps no presence");
        break;
    default:
        command_unavailable(s, ref);
    }
}

/* The session to answer, with the answer begun; NULL when it is gone or was told of an error. */
static struct session *answer_begin(const struct bus_op *op, struct slice channel, struct buf *b)
{
    const struct hub_call *call = op->ctx;
    struct slice ref = slice_of(call->ref, call->ref_len);
    struct session *s = hub_session(call->hub, call->session);
    if (s)
        session_command_done(s);
    if (!s || s->state != SESSION_OPEN)
        return NULL;
    if (op->err) {
        fail_op(s, ref, op->err);
        return NULL;
    }
    command_reply_begin(b, ref);
    buf_append_str(b, ",\"channel\":");
    json_append_string(b, channel);
    return s;
}

static void answer_end(struct bus_op *op)
{
    free(op->ctx);
    bus_op_free(op);
}

static void on_published(struct bus_op *op)
{
    struct bus_publish *p = container_of(op, struct bus_publish, op);
    struct buf b;
    struct session *s = answer_begin(op, p->msg->channel, &b);
    if (s) {
        buf_append_str(&b, ",\"id\":\"");
        cursor_append(&b, p->msg->channel_tag, p->pos);
        buf_append_str(&b, p->repeated ? "\",\"repeated\":true" : "\"");
        push_end(s, &b);
    }
    answer_end(op);
}

/* Everything of a publish but the channel; false after having refused. */
static bool publish_fields(const struct command *c, struct msg_draft *d, struct buf *payload,
                           struct buf *event, struct buf *key)
{
    struct slice data, encoding = SLICE_NONE;
    const char *code, *what;
    bool echo = true;
    if (!json_member(c->text, "data", &data)) {
        refuse(c, "bad_body", "data is missing: it may be any JSON value");
        return false;
    }
    (void)json_member(c->text, "encoding", &encoding);
    if (payload_of_json(data, encoding, payload, &d->payload, &d->kind, &code, &what)) {
        refuse(c, code, what);
        return false;
    }
    if (d->payload.len > hub_options(c->s->hub)->message_bytes) {
        refuse(c, "too_large", "data is larger than a message may be");
        return false;
    }
    what = "event must be a string";
    if (string_field(c, "event", event) ||
        (event->len && msg_event_check(buf_slice(event), &what))) {
        refuse(c, "bad_event", what);
        return false;
    }
    if (json_member(c->text, "key", &data) &&
        (json_string_decode(data, key) || !idempotency_key_is_valid(buf_slice(key)))) {
        refuse(c, "bad_key", "key must be a string of 1 to 128 printable characters");
        return false;
    }
    if (!bool_field(c, "echo", &echo))
        return false;
    d->event = buf_slice(event);
    d->exclude_client = !echo;
    return true;
}

static void op_publish(const struct command *c)
{
    struct buf channel, payload, event, key;
    buf_init(&channel, FIELD_MAX);
    buf_init(&payload, 4 * hub_options(c->s->hub)->message_bytes + FIELD_MAX);
    buf_init(&event, FIELD_MAX);
    buf_init(&key, FIELD_MAX);
    struct msg_draft d = {.client = c->s->id};
    if (channel_field(c, &channel) && publish_fields(c, &d, &payload, &event, &key)) {
        d.channel = buf_slice(&channel);
        struct hub_call *call = hub_call_new(c->s->hub, c->s, c->ref);
        if (hub_publish(c->s->hub, &d, buf_slice(&key), on_published, call)) {
            free(call);
            refuse(c, "overloaded", "out of memory, try again later");
        } else {
            session_command_sent(c->s);
        }
    }
    buf_release(&channel);
    buf_release(&payload);
    buf_release(&event);
    buf_release(&key);
}

static void on_presence(struct bus_op *op)
{
    struct bus_presence *p = container_of(op, struct bus_presence, op);
    struct buf b;
    struct session *s = answer_begin(op, slice_str(p->channel), &b);
    if (s) {
        buf_append_char(&b, ',');
        notice_presence(&b, p);
        push_end(s, &b);
    }
    answer_end(op);
}

static void op_presence(const struct command *c)
{
    struct buf channel;
    uint64_t limit = 1000;
    buf_init(&channel, FIELD_MAX);
    if (channel_field(c, &channel) && number_field(c, "limit", 1, 10000, &limit, "bad_limit",
                                                   "limit must be a number from 1 to 10000")) {
        struct bus_presence *p =
            bus_presence_new(on_presence, hub_call_new(c->s->hub, c->s, c->ref));
        p->channel = slice_dup(buf_slice(&channel));
        p->limit = (uint32_t)limit;
        session_command_sent(c->s);
        bus_submit(hub_port(c->s->hub), &p->op);
    }
    buf_release(&channel);
}

static void on_history(struct bus_op *op)
{
    struct bus_history *h = container_of(op, struct bus_history, op);
    const struct hub_call *call = op->ctx;
    struct buf b;
    struct session *s = answer_begin(op, slice_str(h->channel), &b);
    if (!h->cu.gap)
        h->cu.gap = (enum gap_reason)call->gap;
    if (s) {
        buf_append_char(&b, ',');
        notice_history(&b, slice_str(h->channel), &h->cu);
        push_end(s, &b);
    }
    answer_end(op);
}

static void op_history(const struct command *c)
{
    struct buf channel;
    uint64_t limit = 100;
    bool reverse = false, no_position = false;
    struct catch_up cu = {.from = FROM_LAST_N, .last_n = UINT32_MAX};
    buf_init(&channel, FIELD_MAX);
    if (channel_field(c, &channel) &&
        number_field(c, "limit", 1, 1000, &limit, "bad_limit",
                     "limit must be a number from 1 to 1000") &&
        bool_field(c, "reverse", &reverse) &&
        since_field(c, buf_slice(&channel), &cu, &no_position)) {
        struct hub_call *call = hub_call_new(c->s->hub, c->s, c->ref);
        struct bus_history *h = bus_history_new(on_history, call);
        h->channel = slice_dup(buf_slice(&channel));
        h->reverse = reverse;
        h->cu = cu;
        if (no_position) {
            h->cu.from = FROM_LAST_N;
            h->cu.last_n = UINT32_MAX;
            call->gap = GAP_NO_POSITION;
        }
        h->cu.max_messages = (uint32_t)limit;
        h->cu.max_bytes = HUB_PAGE_BYTES / 4;
        session_command_sent(c->s);
        bus_submit(hub_port(c->s->hub), &h->op);
    }
    buf_release(&channel);
}

static void op_ping(const struct command *c)
{
    struct buf b;
    begin(&b, "pong", c->ref, FIELD_MAX);
    push_end(c->s, &b);
}

static void op_auth(const struct command *c)
{
    refuse(c, "auth_not_configured", "this server has no keys configured and takes no tokens");
}

static const struct {
    const char *name; /* as it stands in JSON */
    void (*run)(const struct command *c);
} operations[] = {
    {"\"publish\"", op_publish},
    {"\"subscribe\"", op_subscribe},
    {"\"unsubscribe\"", op_unsubscribe},
    {"\"ping\"", op_ping},
    {"\"history\"", op_history},
    {"\"presence\"", op_presence},
    {"\"auth\"", op_auth},
};

static bool ref_is_valid(struct slice ref)
{
    enum json_type t = json_type_of(ref);
    return ref.len <= SESSION_REF_BYTES && (t == JSON_STRING || t == JSON_NUMBER);
}

static void run(struct command *c)
{
    struct slice op;
    if (json_member(c->text, "ref", &c->ref) && !ref_is_valid(c->ref)) {
        c->ref = SLICE_NONE;
        refuse(c, "bad_ref", "ref must be a string or a number of at most 64 bytes");
        return;
    }
    if (!json_member(c->text, "op", &op) || json_type_of(op) != JSON_STRING) {
        refuse(c, "bad_op", "op is missing: it must be a string");
        return;
    }
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (slice_eq(op, slice_str(operations[i].name))) {
            operations[i].run(c);
            return;
        }
    }
    refuse(c, "unknown_op",
           "op must be subscribe, unsubscribe, publish, presence, history, ping "
           "or auth");
}

void command_received(struct session *s, bool binary, struct slice text)
{
    struct command c = {.s = s, .text = text};
    struct json_error at;
    char what[160];
    if (binary) {
        ws_end(s, WS_CODE_NOT_ACCEPTED, "binary frames are not accepted in format=json");
        return;
    }
    if (json_check(text, true, &at)) {
        snprintf(what, sizeof(what), "not a JSON command: %s at byte %zu", at.what, at.offset);
        refuse(&c, "bad_json", what);
    } else if (json_type_of(text) != JSON_OBJECT) {
        refuse(&c, "bad_json", "a command must be a JSON object");
    } else {
        run(&c);
    }
}
