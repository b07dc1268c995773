/* h1_wire.c - HTTP/1.1 as text (see h1_wire.h). It keeps no state and knows no library. */
#include "h1_wire.h"

#include "crier/clock.h"
#include "crier/ws.h"

#include <time.h>

enum http_method h1_method_of(const char *name)
{
    static const struct {
        const char *name;
        enum http_method method;
    } known[] = {{"GET", HTTP_GET},
                 {"POST", HTTP_POST},
                 {"HEAD", HTTP_HEAD},
                 {"OPTIONS", HTTP_OPTIONS},
                 {"DELETE", HTTP_DELETE}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].method;
    return HTTP_OTHER;
}

void h1_split_target(struct slice target, struct slice *path, struct slice *query)
{
    if (slice_starts_with(target, SLICE("http://"))) {
        struct slice rest = slice_of(target.ptr + 7, target.len - 7);
        const char *slash = memchr(rest.ptr, '/', rest.len);
        target = slash ? slice_of(slash, (size_t)(target.ptr + target.len - slash)) : SLICE("/");
    }
    (void)slice_split(&target, '?', path);
    *query = target;
}

struct wanted {
    struct slice token;
    bool found;
};

static void look_for(void *ctx, struct slice list)
{
    struct wanted *w = ctx;
    struct slice one;
    while (slice_split(&list, ',', &one))
        if (slice_eq_nocase(slice_trim(one), w->token))
            w->found = true;
}

static bool has_token(const struct http_exchange *ex, const char *name, struct slice token)
{
    struct wanted w = {token, false};
    ex->ops->each_header(ex, name, look_for, &w);
    return w.found;
}

enum http_upgrade h1_upgrade_of(const struct http_exchange *ex)
{
    char accept[29];
    if (ex->method != HTTP_GET || !has_token(ex, "Connection", SLICE("upgrade")) ||
        !has_token(ex, "Upgrade", SLICE("websocket")))
        return HTTP_UPGRADE_NONE;
    if (http_header_count(ex, "Sec-WebSocket-Version") > 1 ||
        http_header_count(ex, "Sec-WebSocket-Key") > 1)
        return HTTP_UPGRADE_REPEATED;
    if (!slice_eq(ex->ops->header(ex, "Sec-WebSocket-Version"), SLICE("13")))
        return HTTP_UPGRADE_BAD_VERSION;
    if (ws_accept_key(ex->ops->header(ex, "Sec-WebSocket-Key"), accept))
        return HTTP_UPGRADE_BAD_KEY;
    return HTTP_UPGRADE_OK;
}

void h1_stream_head(struct buf *b, const struct http_response *head)
{
    char date[64];
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    buf_printf(b, "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\n", head->status,
               http_status_text(head->status), date, head->content_type);
    for (unsigned i = 0; i < head->n_headers; i++)
        buf_printf(b, "%s: %s\r\n", head->header[i].name, head->header[i].value);
    buf_append_str(b, "Connection: close\r\n\r\n");
}
