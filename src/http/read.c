/* read.c - /api/channels…: what is there, who is there, what was said. Nothing here listens.
 *
 * Each request is one op to the bus; the exchange waits for its answer.
 */
#include "http_internal.h"

#include "crier/codec.h"
#include "crier/dialects.h"
#include "crier/json.h"

#include <stdlib.h>

#define ANSWER_MAX (64u * 1024 * 1024)

/* A request whose answer is on its way; the client may leave meanwhile. */
struct waiting {
    struct http_exchange *ex; /* NULL: left */
    enum gap_reason gap;      /* known before asking */
};

static void on_abandoned(struct http_exchange *ex)
{
    struct waiting *w = ex->route_state;
    w->ex = NULL;
}

static struct waiting *wait_for(struct http_exchange *ex)
{
    struct waiting *w = calloc(1, sizeof(*w));
    BUG_ON(!w);
    w->ex = ex;
    ex->route_state = w;
    ex->abandoned = on_abandoned;
    return w;
}

/* The exchange to answer, or NULL (left, or already answered with the error); frees w. */
static struct http_exchange *answer_to(struct waiting *w, const struct bus_op *op)
{
    struct http_exchange *ex = w->ex;
    free(w);
    if (!ex || !op->err)
        return ex;
    if (op->err == ERR_NOT_FOUND && op->kind == BUS_PRESENCE)
        http_problem(ex, 404, "no_presence", "the channel's namespace keeps no presence");
    else if (op->err == ERR_NOT_FOUND)
        http_problem(ex, 404, "not_found", "nobody listens to this channel and nothing is kept");
    else
        http_problem(ex, 503, "unavailable", "the message bus is away, try again later");
    return NULL;
}

static void channel_member(struct buf *b, const char *name)
{
    buf_append_str(b, "{\"channel\":");
    json_append_string(b, slice_str(name));
}

static void finish(struct http_exchange *ex, struct buf *b)
{
    buf_append_str(b, "\n");
    http_respond_json(ex, 200, b);
    buf_release(b);
}

/* --- lists --- */

static void append_info(struct buf *b, const struct bus_channel_info *info)
{
    channel_member(b, info->name);
    buf_printf(b, ",\"subscribers\":%u,\"messages\":%u,\"cursor\":\"", info->subscribers,
               info->messages);
    cursor_append(b, cursor_tag(slice_str(info->name)), info->head);
    buf_append_str(b, "\"}");
}

static void on_channels(struct bus_op *op)
{
    struct bus_channels *c = container_of(op, struct bus_channels, op);
    struct http_exchange *ex = answer_to(op->ctx, op);
    if (ex) {
        struct buf b;
        buf_init(&b, ANSWER_MAX);
        buf_append_str(&b, "{\"channels\":[");
        for (uint32_t i = 0; i < c->count; i++) {
            if (i)
                buf_append_char(&b, ',');
            append_info(&b, &c->info[i]);
        }
        buf_append_str(&b, c->more ? "],\"more\":true}" : "],\"more\":false}");
        finish(ex, &b);
    }
    bus_op_free(op);
}

void route_channels(struct http_exchange *ex, struct slice rest)
{
    struct query q;
    uint64_t limit = 100;
    (void)rest;
    if (query_parse(ex, &q) && query_u64(ex, &q, "limit", "bad_limit", 1, 1000, &limit)) {
        struct bus_channels *c = bus_channels_new(on_channels, wait_for(ex));
        c->prefix = slice_dup(query_get(&q, "prefix"));
        c->after = slice_dup(query_get(&q, "after"));
        c->limit = (uint32_t)limit;
        bus_submit(hub_port(ex->server->hub), &c->op);
    }
    query_release(&q);
}

static void on_channel(struct bus_op *op)
{
    struct bus_channel_get *g = container_of(op, struct bus_channel_get, op);
    struct http_exchange *ex = answer_to(op->ctx, op);
    if (ex) {
        struct buf b;
        buf_init(&b, ANSWER_MAX);
        append_info(&b, &g->info);
        finish(ex, &b);
    }
    bus_op_free(op);
}

static void get_channel(struct http_exchange *ex, const struct query *q, struct slice channel)
{
    (void)q;
    struct bus_channel_get *g = bus_channel_get_new(on_channel, wait_for(ex));
    g->channel = slice_dup(channel);
    bus_submit(hub_port(ex->server->hub), &g->op);
}

static void on_presence(struct bus_op *op)
{
    struct bus_presence *p = container_of(op, struct bus_presence, op);
    struct http_exchange *ex = answer_to(op->ctx, op);
    if (ex) {
        struct buf b;
        buf_init(&b, ANSWER_MAX);
        channel_member(&b, p->channel);
        buf_append_char(&b, ',');
        notice_presence(&b, p);
        buf_append_char(&b, '}');
        finish(ex, &b);
    }
    bus_op_free(op);
}

static void get_presence(struct http_exchange *ex, const struct query *q, struct slice channel)
{
    uint64_t limit = 1000;
    if (!query_u64(ex, q, "limit", "bad_limit", 1, 10000, &limit))
        return;
    struct bus_presence *p = bus_presence_new(on_presence, wait_for(ex));
    p->channel = slice_dup(channel);
    p->limit = (uint32_t)limit;
    bus_submit(hub_port(ex->server->hub), &p->op);
}

/* --- history --- */

static void on_history(struct bus_op *op)
{
    struct bus_history *h = container_of(op, struct bus_history, op);
    struct waiting *w = op->ctx;
    if (!h->cu.gap)
        h->cu.gap = w->gap;
    struct http_exchange *ex = answer_to(w, op);
    if (ex) {
        struct buf b;
        buf_init(&b, ANSWER_MAX);
        channel_member(&b, h->channel);
        buf_append_char(&b, ',');
        notice_history(&b, slice_str(h->channel), &h->cu);
        buf_append_char(&b, '}');
        finish(ex, &b);
    }
    bus_op_free(op);
}

static bool parse_reverse(struct http_exchange *ex, const struct query *q, bool *reverse)
{
    struct slice v = query_get(q, "reverse");
    *reverse = slice_eq(v, SLICE("1")) || slice_eq(v, SLICE("true"));
    if (!v.ptr || *reverse || slice_eq(v, SLICE("0")) || slice_eq(v, SLICE("false")))
        return true;
    http_problem(ex, 400, "bad_parameter", "reverse must be 1, 0, true or false");
    return false;
}

/* Where to read from; the whole of what is kept when there is no cursor. */
static bool parse_since(struct http_exchange *ex, const struct query *q, struct slice channel,
                        struct catch_up *cu, enum gap_reason *gap)
{
    struct slice text = query_get(q, "since");
    struct cursor c;
    cu->from = FROM_LAST_N;
    cu->last_n = UINT32_MAX;
    if (!text.len)
        return true;
    if (cursor_parse(text, &c)) {
        http_problem(ex, 400, "bad_cursor", "since must be a cursor as this server gave it");
        return false;
    }
    if (cursor_find(&c, channel, 0, 1, &cu->since))
        *gap = GAP_NO_POSITION;
    else
        cu->from = FROM_POSITION;
    return true;
}

static void get_history(struct http_exchange *ex, const struct query *q, struct slice channel)
{
    uint64_t limit = 100;
    bool reverse;
    struct catch_up cu = {0};
    enum gap_reason gap = GAP_NONE;
    if (!query_u64(ex, q, "limit", "bad_limit", 1, 1000, &limit) ||
        !parse_reverse(ex, q, &reverse) || !parse_since(ex, q, channel, &cu, &gap))
        return;
    struct waiting *w = wait_for(ex);
    struct bus_history *h = bus_history_new(on_history, w);
    w->gap = gap;
    h->channel = slice_dup(channel);
    h->reverse = reverse;
    h->cu = cu;
    h->cu.max_messages = (uint32_t)limit;
    h->cu.max_bytes = 8u * 1024 * 1024;
    bus_submit(hub_port(ex->server->hub), &h->op);
}

static void on_clear(struct bus_op *op)
{
    struct bus_clear *c = container_of(op, struct bus_clear, op);
    struct http_exchange *ex = answer_to(op->ctx, op);
    if (ex) {
        struct buf b;
        buf_init(&b, ANSWER_MAX);
        channel_member(&b, c->channel);
        buf_printf(&b, ",\"removed\":%u}", c->removed);
        finish(ex, &b);
    }
    bus_op_free(op);
}

static void delete_history(struct http_exchange *ex, const struct query *q, struct slice channel)
{
    (void)q;
    struct bus_clear *c = bus_clear_new(on_clear, wait_for(ex));
    c->channel = slice_dup(channel);
    bus_submit(hub_port(ex->server->hub), &c->op);
}

/* --- /api/channels/C[/history|/presence] --- */

typedef void (*channel_route)(struct http_exchange *ex, const struct query *q,
                              struct slice channel);

/* Channel names may hold slashes, so the last part decides; it is cut off *rest. */
static channel_route channel_route_of(struct http_exchange *ex, struct slice *rest)
{
    static const struct slice history = {"/history", 8}, presence = {"/presence", 9};
    bool is_delete = ex->method == HTTP_DELETE;
    if (rest->len > history.len &&
        slice_eq(slice_of(rest->ptr + rest->len - history.len, history.len), history)) {
        rest->len -= history.len;
        return is_delete ? delete_history : get_history;
    }
    if (is_delete) {
        ex->allow = "GET, HEAD, OPTIONS";
        return NULL;
    }
    if (rest->len > presence.len &&
        slice_eq(slice_of(rest->ptr + rest->len - presence.len, presence.len), presence)) {
        rest->len -= presence.len;
        return get_presence;
    }
    return get_channel;
}

void route_channel(struct http_exchange *ex, struct slice rest)
{
    struct query q;
    struct buf name;
    const char *why;
    channel_route run = channel_route_of(ex, &rest);
    if (!run) {
        http_problem(ex, 405, "method_not_allowed", "only /history can be deleted");
        return;
    }
    buf_init(&name, rest.len + 1);
    if (query_parse(ex, &q)) {
        if (percent_decode(rest, false, &name))
            http_problem(ex, 400, "bad_channel",
                         "the path has a '%%' without two hexadecimal digits");
        else if (channel_check(buf_slice(&name), &why))
            http_problem(ex, 400, "bad_channel", "%s", why);
        else
            run(ex, &q, buf_slice(&name));
    }
    query_release(&q);
    buf_release(&name);
}
