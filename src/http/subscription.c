/* subscription.c - the common parameters of everything that listens.
 *
 * The result outlives the request (a WebSocket opens only when the client has been told), so all
 * text is copied into one store, whose size is fixed first.
 */
#include "http_internal.h"

#include <stdlib.h>

#define HISTORY_MAX 100000

static bool names(const struct subscription *sub, struct slice channel)
{
    for (size_t i = 0; i < sub->n; i++)
        if (slice_eq(sub->req[i].channel, channel))
            return true;
    return false;
}

static bool add_channel(struct http_exchange *ex, struct subscription *sub, struct slice name,
                        size_t max)
{
    const char *why;
    if (channel_check(name, &why)) {
        http_problem(ex, 400, "bad_channel", "%s (a '+' in a query is written %%2B)", why);
        return false;
    }
    if (names(sub, name))
        return true;
    if (sub->n == max) {
        http_problem(ex, 400, "too_many_channels", "at most %zu channels may be named here", max);
        return false;
    }
    size_t at = sub->store.len;
    buf_append(&sub->store, name);
    sub->req[sub->n++].channel = slice_of(sub->store.data + at, name.len);
    return true;
}

static bool add_channels(struct http_exchange *ex, struct subscription *sub, const struct query *q,
                         size_t max)
{
    for (size_t i = 0; i < q->n; i++)
        if (slice_eq(q->param[i].name, SLICE("channel")) &&
            !add_channel(ex, sub, q->param[i].value, max))
            return false;
    return true;
}

/* The cursor's text: the header a browser sends on reconnection outranks the URL it repeats. */
static struct slice cursor_text(const struct http_exchange *ex, const struct query *q)
{
    static const char *const params[] = {"since", "last_event_id", "lastEventID"};
    struct slice text = ex->ops->header(ex, "Last-Event-ID");
    for (size_t i = 0; !text.len && i < sizeof(params) / sizeof(params[0]); i++)
        text = query_get(q, params[i]);
    return text;
}

static bool apply_cursor(struct http_exchange *ex, struct subscription *sub, const struct query *q)
{
    struct slice text = cursor_text(ex, q);
    struct cursor c;
    if (!text.len)
        return true;
    if (cursor_parse(text, &c)) {
        http_problem(ex, 400, "bad_cursor",
                     "since and Last-Event-ID must be a cursor as this server gave it, or several "
                     "joined with '~'");
        return false;
    }
    sub->has_cursor = true;
    for (size_t i = 0; i < sub->n; i++) {
        struct sub_request *r = &sub->req[i];
        r->from.from = FROM_POSITION;
        r->no_position = cursor_find(&c, r->channel, i, sub->n, &r->from.since) != ERR_OK;
    }
    return true;
}

static bool apply_history(struct http_exchange *ex, struct subscription *sub, const struct query *q)
{
    uint64_t n = 0;
    if (!query_u64(ex, q, "history", "bad_history", 0, HISTORY_MAX, &n))
        return false;
    for (size_t i = 0; n && !sub->has_cursor && i < sub->n; i++) {
        sub->req[i].from.from = FROM_LAST_N;
        sub->req[i].from.last_n = (uint32_t)n;
    }
    return true;
}

static bool apply_format(struct http_exchange *ex, struct subscription *sub, const struct query *q)
{
    struct slice format = query_get(q, "format");
    if (!format.ptr)
        return true;
    sub->json = slice_eq(format, SLICE("json"));
    if (sub->json || slice_eq(format, SLICE("raw")))
        return true;
    http_problem(ex, 400, "bad_format", "format must be raw or json");
    return false;
}

static bool apply_all(struct http_exchange *ex, struct subscription *sub, const struct query *q)
{
    uint64_t padding = 0;
    if (!query_u64(ex, q, "padding", "bad_parameter", 0, 1, &padding))
        return false;
    sub->padding = padding;
    return apply_cursor(ex, sub, q) && apply_history(ex, sub, q) && apply_format(ex, sub, q);
}

static struct subscription *subscription_new(struct http_exchange *ex, size_t text_bytes)
{
    struct subscription *sub = calloc(1, sizeof(*sub));
    if (sub) {
        sub->server = ex->server;
        sub->stream.cancel = subscription_cancel;
        buf_init(&sub->store, text_bytes + 1);
    }
    if (!sub || buf_reserve(&sub->store, text_bytes + 1)) {
        free(sub);
        http_problem(ex, 503, "overloaded", "out of memory, try again later");
        return NULL;
    }
    return sub;
}

struct subscription *subscription_parse(struct http_exchange *ex, const struct query *q,
                                        size_t max_channels, bool default_json)
{
    struct subscription *sub = subscription_new(ex, q->text.len);
    if (!sub)
        return NULL;
    sub->json = default_json;
    if (add_channels(ex, sub, q, max_channels) && apply_all(ex, sub, q))
        return sub;
    subscription_free(sub);
    return NULL;
}

struct subscription *subscription_of(struct http_exchange *ex, const struct query *q,
                                     struct slice channel)
{
    struct subscription *sub = subscription_new(ex, channel.len);
    if (!sub)
        return NULL;
    if (add_channel(ex, sub, channel, 1) && apply_all(ex, sub, q))
        return sub;
    subscription_free(sub);
    return NULL;
}

void subscription_free(struct subscription *sub)
{
    if (!sub)
        return;
    buf_release(&sub->store);
    free(sub);
}

void subscription_cancel(struct http_stream *st)
{
    subscription_free(container_of(st, struct subscription, stream));
}
