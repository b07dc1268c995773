/* pages.c - the demo pages, embedded in the binary at build time (crier/web.h). */
#include "http_internal.h"

#include "crier/web.h"

#define CSP                                                                                     \
    "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; img-src 'self' data:; " \
    "frame-ancestors 'none'; base-uri 'none'"

static const struct web_asset *find(struct slice path)
{
    if (slice_eq(path, SLICE("/")))
        path = SLICE("/index.html");
    for (size_t i = 0; i < web_assets_count; i++)
        if (slice_eq(slice_str(web_assets[i].path), path))
            return &web_assets[i];
    return NULL;
}

bool page_exists(struct slice path)
{
    return find(path) != NULL;
}

void route_page(struct http_exchange *ex, struct slice rest)
{
    const struct web_asset *a = find(ex->path);
    (void)rest;
    struct http_response res = {.status = 200,
                                .content_type = a->content_type,
                                .body = slice_of(a->bytes, a->len),
                                .body_is_static = true};
    http_add_header(&res, "Cache-Control", "no-cache");
    http_add_header(&res, "Content-Security-Policy", CSP);
    http_respond(ex, &res);
}
