/* http.c - from a path to its route. The table is the list of everything that is served. */
#include "http_internal.h"

#include <stdlib.h>

#define BIT(m) (1u << (m))
#define GET_ONLY (BIT(HTTP_GET))
#define GET_HEAD (BIT(HTTP_GET) | BIT(HTTP_HEAD))

struct route {
    const char *path;
    bool is_prefix;   /* what follows is given to the route */
    unsigned methods; /* BIT(enum http_method) */
    const char *allow;
    void (*run)(struct http_exchange *ex, struct slice rest);
};

static const struct route routes[] = {
    {"/events", false, GET_ONLY, "GET, OPTIONS", route_events},
    {"/poll", false, GET_ONLY, "GET, OPTIONS", route_poll},
    {"/ws", false, GET_ONLY, "GET, OPTIONS", route_ws},
    {"/chat/", true, GET_ONLY | BIT(HTTP_POST), "GET, POST, OPTIONS", route_chat},
    {"/publish", false, BIT(HTTP_POST), "POST, OPTIONS", route_publish},
    {"/api/publish", false, BIT(HTTP_POST), "POST, OPTIONS", route_api_publish},
    {"/api/channels", false, GET_HEAD, "GET, HEAD, OPTIONS", route_channels},
    {"/api/channels/", true, GET_HEAD | BIT(HTTP_DELETE), "GET, HEAD, DELETE, OPTIONS",
     route_channel},
    {"/health", false, GET_HEAD, "GET, HEAD, OPTIONS", route_health},
    {"/ready", false, GET_HEAD, "GET, HEAD, OPTIONS", route_ready},
    {"/stats", false, GET_HEAD, "GET, HEAD, OPTIONS", route_stats},
    {"/metrics", false, GET_HEAD, "GET, HEAD, OPTIONS", route_metrics},
};

static const struct route page_route = {"", true, GET_HEAD, "GET, HEAD, OPTIONS", route_page};

static const struct route *find_route(struct slice path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        struct slice p = slice_str(routes[i].path);
        if (routes[i].is_prefix ? slice_starts_with(path, p) : slice_eq(path, p))
            return &routes[i];
    }
    return page_exists(path) ? &page_route : NULL;
}

static void answer_options(struct http_exchange *ex)
{
    struct http_response res = {.status = 204};
    http_add_header(&res, "Allow", ex->allow);
    if (ex->origin) {
        http_add_header(&res, "Access-Control-Allow-Methods", ex->allow);
        http_add_header(&res, "Access-Control-Allow-Headers",
                        "Last-Event-ID, Cache-Control, Authorization, Content-Type, "
                        "Idempotency-Key");
        http_add_header(&res, "Access-Control-Max-Age", "600");
    }
    http_respond(ex, &res);
}

void http_handle(struct http_exchange *ex)
{
    const struct route *r = find_route(ex->path);
    ex->allow = r ? r->allow : "GET, OPTIONS";
    if (!origin_admit(ex))
        return;
    if (!r)
        http_problem(ex, 404, "not_found", "there is nothing at this path");
    else if (ex->method == HTTP_OPTIONS)
        answer_options(ex);
    else if (!(r->methods & BIT(ex->method)))
        http_problem(ex, 405, "method_not_allowed", "this path takes %s", r->allow);
    else
        r->run(ex, slice_of(ex->path.ptr + strlen(r->path), ex->path.len - strlen(r->path)));
}

void http_exchange_release(struct http_exchange *ex)
{
    free((void *)(uintptr_t)ex->origin);
    ex->origin = NULL;
}
