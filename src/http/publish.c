/* publish.c - POST /publish and POST /api/publish.
 *
 * A request is checked as a whole before its first message is published. Then every message goes to
 * the bus, and when the last is ordered the request is answered: one object for one message, an
 * array in the order of the request for several.
 */
#include "http_internal.h"

#include "crier/dialects.h"
#include "crier/json.h"

#include <stdio.h>
#include <stdlib.h>

#define ITEMS_MAX 1000

struct publish_item {
    struct publish_job *job;
    struct msg *msg; /* counted, until it is submitted */
    char *key;
    char *channel;
    uint32_t tag;
    struct position pos;
    enum err err;
    bool repeated;
};

struct publish_job {
    struct http_exchange *ex; /* NULL when the client has left */
    struct hub *hub;
    size_t n, max, pending;
    bool array;
    struct publish_item item[];
};

struct publish_job *publish_job_new(struct http_exchange *ex, size_t max_items, bool array)
{
    struct publish_job *job = calloc(1, sizeof(*job) + max_items * sizeof(job->item[0]));
    if (!job) {
        http_problem(ex, 503, "overloaded", "out of memory, try again later");
        return NULL;
    }
    job->ex = ex;
    job->hub = ex->server->hub;
    job->max = max_items;
    job->array = array;
    return job;
}

void publish_job_free(struct publish_job *job)
{
    if (!job)
        return;
    for (size_t i = 0; i < job->n; i++) {
        msg_unref(job->item[i].msg);
        free(job->item[i].key);
        free(job->item[i].channel);
    }
    free(job);
}

enum err publish_job_add(struct publish_job *job, const struct msg_draft *d, struct slice key)
{
    BUG_ON(job->n == job->max);
    struct publish_item *it = &job->item[job->n];
    enum err e = msg_new(d, &it->msg);
    if (e)
        return e;
    it->job = job;
    it->key = key.len ? slice_dup(key) : NULL;
    it->channel = slice_dup(d->channel);
    it->tag = it->msg->channel_tag;
    job->n++;
    return ERR_OK;
}

static int status_of(enum err e, const char **code, const char **detail)
{
    if (e == ERR_CONFLICT) {
        *code = "idempotency_conflict";
        *detail = "this Idempotency-Key was used for another message in this channel";
        return 422;
    }
    *code = "unavailable";
    *detail = "the message bus is away, try again later";
    return 503;
}

static void append_item(struct buf *b, const struct publish_item *it)
{
    const char *code, *detail;
    buf_append_str(b, "{\"channel\":");
    json_append_string(b, slice_str(it->channel));
    if (it->err) {
        int status = status_of(it->err, &code, &detail);
        buf_printf(b, ",\"error\":{\"status\":%d,\"code\":\"%s\",\"detail\":\"%s\"}}", status, code,
                   detail);
        return;
    }
    buf_append_str(b, ",\"id\":\"");
    cursor_append(b, it->tag, it->pos);
    buf_append_str(b, it->repeated ? "\",\"repeated\":true}" : "\"}");
}

static void answer(struct publish_job *job)
{
    const char *code, *detail;
    struct buf b;
    size_t failed = 0;
    for (size_t i = 0; i < job->n; i++)
        failed += job->item[i].err != ERR_OK;
    if (failed == job->n) {
        int status = status_of(job->item[0].err, &code, &detail);
        http_problem(job->ex, status, code, "%s", detail);
        return;
    }
    buf_init(&b, 1024 * 1024);
    if (job->array)
        buf_append_char(&b, '[');
    for (size_t i = 0; i < job->n; i++) {
        if (i)
            buf_append_char(&b, ',');
        append_item(&b, &job->item[i]);
    }
    buf_append_str(&b, job->array ? "]\n" : "\n");
    http_respond_json(job->ex, 200, &b);
    buf_release(&b);
}

static void on_published(struct bus_op *op)
{
    struct bus_publish *p = container_of(op, struct bus_publish, op);
    struct publish_item *it = op->ctx;
    struct publish_job *job = it->job;
    it->err = op->err;
    it->pos = p->pos;
    it->repeated = p->repeated;
    bus_op_free(op);
    if (--job->pending)
        return;
    if (job->ex)
        answer(job);
    publish_job_free(job);
}

static void on_abandoned(struct http_exchange *ex)
{
    struct publish_job *job = ex->route_state;
    job->ex = NULL; /* what was accepted is published all the same */
}

void publish_job_run(struct publish_job *job)
{
    job->pending = job->n;
    job->ex->route_state = job;
    job->ex->abandoned = on_abandoned;
    for (size_t i = 0; i < job->n; i++) {
        struct bus_publish *p = bus_publish_new(on_published, &job->item[i]);
        p->msg = job->item[i].msg;
        p->key = job->item[i].key;
        job->item[i].msg = NULL;
        job->item[i].key = NULL;
        bus_submit(hub_port(job->hub), &p->op);
    }
}

/* --- POST /publish --- */

static bool body_kind(struct http_exchange *ex, struct msg_draft *d)
{
    size_t at = 0;
    const char *what = "";
    d->content_type = ex->ops->header(ex, "Content-Type");
    d->payload = ex->body;
    if (!msg_kind_of(d->content_type, ex->body, &d->kind, &at, &what))
        return true;
    http_problem(ex, 400, "bad_json", "the Content-Type says JSON, the body is not: %s at byte %zu",
                 what, at);
    return false;
}

static bool event_and_key(struct http_exchange *ex, struct slice event, struct slice key)
{
    const char *why;
    if (event.len && msg_event_check(event, &why)) {
        http_problem(ex, 400, "bad_event", "%s", why);
        return false;
    }
    if (key.ptr && !idempotency_key_is_valid(key)) {
        http_problem(ex, 400, "bad_key",
                     "an idempotency key is 1 to 128 printable ASCII characters without blanks");
        return false;
    }
    return true;
}

/* One item per channel; NULL after having answered. */
static struct publish_job *job_of_query(struct http_exchange *ex, const struct subscription *sub,
                                        const struct query *q)
{
    struct msg_draft d = {.event = query_get(q, "event")};
    struct slice key = ex->ops->header(ex, "Idempotency-Key");
    if (!body_kind(ex, &d) || !event_and_key(ex, d.event, key))
        return NULL;
    struct publish_job *job = publish_job_new(ex, sub->n, sub->n > 1);
    for (size_t i = 0; job && i < sub->n; i++) {
        d.channel = sub->req[i].channel;
        if (publish_job_add(job, &d, key)) {
            publish_job_free(job);
            http_problem(ex, 503, "overloaded", "out of memory, try again later");
            return NULL;
        }
    }
    return job;
}

void route_publish(struct http_exchange *ex, struct slice rest)
{
    (void)rest;
    struct query q;
    struct subscription *sub = NULL;
    struct publish_job *job = NULL;
    if (!query_parse(ex, &q) || publish_turn_away(ex))
        goto out;
    sub = subscription_parse(ex, &q, SUBSCRIPTION_MAX_STREAM, true);
    if (!sub)
        goto out;
    if (!sub->n)
        http_problem(ex, 400, "missing_channel",
                     "name at least one channel: /publish?channel=NAME");
    else if (ex->body.len > ex->server->shared->message_bytes)
        http_problem(ex, 413, "too_large", "the message has %zu bytes, at most %llu are allowed",
                     ex->body.len, (unsigned long long)ex->server->shared->message_bytes);
    else
        job = job_of_query(ex, sub, &q);
out:
    query_release(&q);
    subscription_free(sub);
    if (job)
        publish_job_run(job);
}

/* --- POST /api/publish --- */

struct api_item {
    struct http_exchange *ex;
    struct publish_job *job;
    struct slice object;
    size_t index;
};

static bool refuse(const struct api_item *it, const char *code, const char *what)
{
    int status = strcmp(code, "too_large") == 0 ? 413 : 400;
    if (it->job->array && it->job->max > 1)
        http_problem(it->ex, status, code, "item %zu: %s", it->index, what);
    else
        http_problem(it->ex, status, code, "%s", what);
    return false;
}

static bool string_member(const struct api_item *it, const char *name, struct buf *out,
                          const char *code, const char *what)
{
    struct slice raw;
    if (!json_member(it->object, name, &raw) || !json_string_decode(raw, out))
        return true;
    return refuse(it, code, what);
}

static bool add_to_channel(const struct api_item *it, struct msg_draft *d, struct slice raw,
                           struct slice key)
{
    struct buf name;
    const char *why = "a channel must be a string";
    bool ok = true;
    buf_init(&name, 4096);
    if (json_string_decode(raw, &name) || channel_check(buf_slice(&name), &why)) {
        ok = refuse(it, "bad_channel", why);
    } else if (it->job->n == it->job->max) {
        ok = refuse(it, "too_many_channels", "at most 1000 messages in one request");
    } else {
        d->channel = buf_slice(&name);
        if (publish_job_add(it->job, d, key)) {
            http_problem(it->ex, 503, "overloaded", "out of memory, try again later");
            ok = false;
        }
    }
    buf_release(&name);
    return ok;
}

static bool add_to_channels(const struct api_item *it, struct msg_draft *d, struct slice key)
{
    struct slice raw, one;
    size_t pos = 0, before = it->job->n;
    if (json_member(it->object, "channel", &raw))
        return add_to_channel(it, d, raw, key);
    if (!json_member(it->object, "channels", &raw) || json_type_of(raw) != JSON_ARRAY)
        return refuse(it, "missing_channel",
                      "\"channel\" (a string) or \"channels\" (an array of strings) is missing");
    it->job->array = true;
    while (json_element(raw, &pos, &one))
        if (!add_to_channel(it, d, one, key))
            return false;
    if (it->job->n == before)
        return refuse(it, "missing_channel", "\"channels\" is empty");
    return true;
}

static bool add_object(const struct api_item *it)
{
    struct buf payload, event, key;
    struct slice data, encoding = SLICE_NONE;
    struct msg_draft d = {.client = 0};
    const char *code, *what = "an event name must be a string";
    size_t max_bytes = it->ex->server->shared->message_bytes;
    bool ok = false;
    buf_init(&payload, it->object.len + 4);
    buf_init(&event, 4096);
    buf_init(&key, 4096);
    if (json_type_of(it->object) != JSON_OBJECT) {
        refuse(it, "bad_body", "expected an object with \"channel\" and \"data\"");
        goto out;
    }
    if (!json_member(it->object, "data", &data)) {
        refuse(it, "bad_body", "\"data\" is missing: it may be any JSON value");
        goto out;
    }
    (void)json_member(it->object, "encoding", &encoding);
    if (payload_of_json(data, encoding, &payload, &d.payload, &d.kind, &code, &what)) {
        refuse(it, code, what);
        goto out;
    }
    if (d.payload.len > max_bytes) {
        refuse(it, "too_large", "\"data\" is larger than a message may be");
        goto out;
    }
    if (!string_member(it, "event", &event, "bad_event", "\"event\" must be a string") ||
        !string_member(it, "key", &key, "bad_key", "\"key\" must be a string") ||
        !event_and_key(it->ex, buf_slice(&event),
                       json_member(it->object, "key", &data)
                           ? slice_of(key.data ? key.data : "", key.len)
                           : SLICE_NONE))
        goto out;
    d.event = buf_slice(&event);
    ok = add_to_channels(it, &d, buf_slice(&key));
out:
    buf_release(&payload);
    buf_release(&event);
    buf_release(&key);
    return ok;
}

static bool add_all(struct http_exchange *ex, struct publish_job *job)
{
    struct api_item it = {.ex = ex, .job = job, .object = ex->body};
    size_t pos = 0;
    if (json_type_of(ex->body) != JSON_ARRAY)
        return add_object(&it);
    job->array = true;
    for (; json_element(ex->body, &pos, &it.object); it.index++)
        if (!add_object(&it))
            return false;
    if (!job->n)
        http_problem(ex, 400, "bad_body", "the array is empty");
    return job->n > 0;
}

void route_api_publish(struct http_exchange *ex, struct slice rest)
{
    struct json_error at;
    (void)rest;
    if (publish_turn_away(ex))
        return;
    if (json_check(ex->body, true, &at)) {
        http_problem(ex, 400, "bad_json", "the body is not JSON: %s at byte %zu", at.what,
                     at.offset);
        return;
    }
    struct publish_job *job = publish_job_new(ex, ITEMS_MAX, false);
    if (!job)
        return;
    if (add_all(ex, job))
        publish_job_run(job);
    else
        publish_job_free(job);
}
