/* status.c - health, readiness, figures. */
#include "http_internal.h"

#include "crier/clock.h"
#include "crier/json.h"
#include "crier/metrics.h"
#include "crier/version.h"

#define ROOMS_MAX 1000
#define ANSWER_MAX (16u * 1024 * 1024)
#define REASON_MAX 1024

static void respond_status(struct http_exchange *ex, int status, struct slice json)
{
    struct http_response res = {.status = status, .content_type = "application/json", .body = json};
    http_add_header(&res, "Cache-Control", "no-store");
    if (status == 503)
        http_add_header(&res, "Retry-After", "2");
    http_respond(ex, &res);
}

void route_health(struct http_exchange *ex, struct slice rest)
{
    (void)rest;
    respond_status(ex, 200, SLICE("{\"status\":\"ok\"}\n"));
}

static void respond_unavailable(struct http_exchange *ex, const char *why)
{
    struct buf b;
    buf_init(&b, REASON_MAX);
    buf_append_str(&b, "{\"status\":\"unavailable\",\"reason\":");
    json_append_string(&b, slice_str(why));
    buf_append_str(&b, "}\n");
    BUG_ON(b.failed); /* a constant text */
    respond_status(ex, 503, buf_slice(&b));
    buf_release(&b);
}

void route_ready(struct http_exchange *ex, struct slice rest)
{
    const struct http_shared *shared = ex->server->shared;
    const char *why;
    (void)rest;
    if (shared->draining)
        respond_status(ex, 503, SLICE("{\"status\":\"draining\"}\n"));
    else if (!bus_is_ready(shared->bus, &why))
        respond_unavailable(ex, why);
    else
        respond_status(ex, 200, SLICE("{\"status\":\"ready\"}\n"));
}

void route_metrics(struct http_exchange *ex, struct slice rest)
{
    struct buf b;
    (void)rest;
    buf_init(&b, ANSWER_MAX);
    metrics_render(&b);
    struct http_response res = {.status = 200,
                                .content_type = "text/plain; version=0.0.4; charset=utf-8",
                                .body = buf_slice(&b)};
    http_add_header(&res, "Cache-Control", "no-store");
    http_respond(ex, &res);
    buf_release(&b);
}

/* --- /stats --- */

static void append_clients(struct buf *b)
{
    long long sse = metrics_get(M_CLIENTS_SSE), ws = metrics_get(M_CLIENTS_WS),
              poll = metrics_get(M_CLIENTS_POLL);
    buf_printf(b, "{\"total_connections\":%lld,", sse + ws + poll);
    buf_printf(b, "\"connections\":{\"sse\":%lld,\"ws\":%lld,\"poll\":%lld},", sse, ws, poll);
}

static void append_rooms(struct buf *b, const struct bus_channels *c)
{
    buf_append_str(b, "\"rooms\":{");
    for (uint32_t i = 0; i < c->count; i++) {
        if (i)
            buf_append_char(b, ',');
        json_append_string(b, slice_str(c->info[i].name + sizeof("chat:") - 1));
        buf_printf(b, ":%u", c->info[i].subscribers);
    }
    buf_append_str(b, c->more ? "},\"more_rooms\":true," : "},");
}

static void append_process(struct buf *b, const struct http_shared *sh)
{
    buf_printf(b, "\"published\":%lld,", (long long)metrics_get(M_PUBLISHED));
    buf_printf(b, "\"uptime_seconds\":%llu,\"version\":\"%s\"}\n",
               (unsigned long long)((clock_wall_ms() - sh->started_ms) / 1000), CRIER_VERSION);
}

static void on_abandoned(struct http_exchange *ex)
{
    struct bus_channels *c = ex->route_state;
    c->op.ctx = NULL;
}

static void on_rooms(struct bus_op *op)
{
    struct bus_channels *c = container_of(op, struct bus_channels, op);
    struct http_exchange *ex = op->ctx;
    if (ex) {
        struct buf b;
        buf_init(&b, ANSWER_MAX);
        append_clients(&b);
        if (!op->err) /* away: what this process knows by itself is asked for all the more */
            append_rooms(&b, c);
        append_process(&b, ex->server->shared);
        http_respond_json(ex, 200, &b);
        buf_release(&b);
    }
    bus_op_free(op);
}

void route_stats(struct http_exchange *ex, struct slice rest)
{
    (void)rest;
    struct bus_channels *c = bus_channels_new(on_rooms, ex);
    c->prefix = slice_dup(SLICE("chat:"));
    c->limit = ROOMS_MAX;
    /* With more workers the op is on its way in another thread: only ctx may be touched, and the
     * bus does not look at it. */
    ex->route_state = c;
    ex->abandoned = on_abandoned;
    bus_submit(hub_port(ex->server->hub), &c->op);
}
