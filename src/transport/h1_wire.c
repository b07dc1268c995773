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

/* libmicrohttpd 0.9 parses in place and writes two zeros where CRLF stood, so the lines of an
 * honest head follow each other without a gap up to the empty one. A gap is what it swallowed
 * without a word: a folded line, a bare LF, a NUL, or a line without a name, which it even takes
 * for the end of the head. */
static void check_line(struct h1_check *c, const char *begin, const char *end)
{
    if (!c->next)
        return;
    if (begin != c->next || end[0] != '\0' || end[1] != '\0')
        c->hole = true;
    c->next = end + 2;
}

void h1_check_init(struct h1_check *c, const char *version, bool in_place)
{
    *c = (struct h1_check){.next = in_place ? version : NULL};
    check_line(c, version, version + strlen(version));
}

void h1_check_add(struct h1_check *c, struct slice name, struct slice value)
{
    check_line(c, name.ptr, value.ptr + value.len);
    head_framing_add(&c->framing, name, value);
}

static bool takes_body(enum http_method m)
{
    return m != HTTP_GET && m != HTTP_HEAD && m != HTTP_OPTIONS;
}

const char *h1_check_end(struct h1_check *c, enum http_method method, bool is_1_0)
{
    check_line(c, c->next, c->next);
    head_framing_end(&c->framing, takes_body(method), is_1_0);
    if (c->framing.why)
        return c->framing.why;
    return c->hole ? "folded lines, bare LF and NUL are not accepted in a header" : NULL;
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
