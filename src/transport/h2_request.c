/* h2_request.c - the header fields of one HTTP/2 request (see h2_request.h).
 *
 * nghttp2 has seen to the form of HTTP/2 itself: pseudo-header fields first and once, no
 * connection-specific fields, a content-length that fits the DATA. What is checked here is what it
 * leaves to us, and what would read differently on HTTP/1.1 behind a proxy that translates.
 */
#include "h2_request.h"

#include "h1_wire.h"

#define FIELD_OVERHEAD_BYTES 32 /* RFC 9113 6.5.2 */
#define FAR_BEYOND 4            /* times the limit */

struct field {
    uint32_t name_len, value_len;
};

void h2_request_init(struct h2_request *r, size_t list_max_bytes)
{
    memset(r, 0, sizeof(*r));
    r->list_max = list_max_bytes;
    buf_init(&r->fields, list_max_bytes);
}

void h2_request_release(struct h2_request *r)
{
    buf_release(&r->fields);
}

bool h2_request_add(struct h2_request *r, struct slice name, struct slice value)
{
    struct field f = {(uint32_t)name.len, (uint32_t)value.len};
    r->list_bytes += name.len + value.len + FIELD_OVERHEAD_BYTES;
    if (r->list_bytes > r->list_max) {
        r->too_large = true;
        return r->list_bytes <= FAR_BEYOND * r->list_max;
    }
    if (name.len && name.ptr[0] != ':')
        head_framing_add(&r->framing, name, value);
    buf_append(&r->fields, slice_of(&f, sizeof(f)));
    buf_append(&r->fields, name);
    buf_append(&r->fields, value);
    r->too_large = r->too_large || r->fields.failed;
    return true;
}

void h2_request_each(const struct h2_request *r, const char *name,
                     void (*each)(void *ctx, struct slice value), void *ctx)
{
    struct slice want = slice_str(name);
    const char *at = r->fields.data, *end = at + r->fields.len;
    while (at < end) {
        struct field f;
        memcpy(&f, at, sizeof(f));
        at += sizeof(f);
        if (slice_eq_nocase(slice_of(at, f.name_len), want))
            each(ctx, slice_trim(slice_of(at + f.name_len, f.value_len)));
        at += f.name_len + f.value_len;
    }
}

static void keep_first(void *ctx, struct slice value)
{
    struct slice *first = ctx;
    if (!first->ptr)
        *first = value;
}

struct slice h2_request_get(const struct h2_request *r, const char *name)
{
    struct slice first = SLICE_NONE;
    h2_request_each(r, name, keep_first, &first);
    return first;
}

static const char *check_authority(struct h2_request *r)
{
    struct slice authority = h2_request_get(r, ":authority"), host = h2_request_get(r, "host");
    if (r->framing.host && authority.ptr && !slice_eq_nocase(authority, host))
        return ":authority and Host name different servers";
    if (authority.ptr && memchr(authority.ptr, '@', authority.len))
        return ":authority must be a host and a port, without a user";
    if (authority.len)
        r->framing.host = r->framing.host ? r->framing.host : 1;
    return NULL;
}

static const char *check_path(struct slice path, enum http_method method)
{
    if (path.len && path.ptr[0] != '/' && !(method == HTTP_OPTIONS && slice_eq(path, SLICE("*"))))
        return ":path must begin with a slash";
    if (!path.len || head_has_control(path) || memchr(path.ptr, '\t', path.len) ||
        memchr(path.ptr, ' ', path.len) || memchr(path.ptr, '#', path.len))
        return ":path is empty or has a character that is not allowed";
    return NULL;
}

static enum http_method method_of(struct slice method)
{
    char name[16] = "";
    if (method.len && method.len < sizeof(name))
        memcpy(name, method.ptr, method.len);
    return h1_method_of(name);
}

/* Extended CONNECT. */
static const char *check_connect(const struct h2_request *r, struct h2_target *out, int *status)
{
    struct slice protocol = h2_request_get(r, ":protocol");
    if (!slice_eq(protocol, SLICE("websocket"))) {
        *status = 501;
        return "CONNECT is for :protocol websocket only";
    }
    out->websocket = true;
    out->method = HTTP_GET;
    return NULL;
}

static const char *check_fields(struct h2_request *r, struct h2_target *out, int *status)
{
    struct slice method = h2_request_get(r, ":method"), scheme = h2_request_get(r, ":scheme");
    const char *why = NULL;
    if (!head_is_token(method))
        return "the method must be a token";
    out->method = method_of(method);
    if (slice_eq(method, SLICE("CONNECT")))
        why = check_connect(r, out, status);
    if (why)
        return why;
    if (!slice_eq_nocase(scheme, SLICE("http")) && !slice_eq_nocase(scheme, SLICE("https")))
        return ":scheme must be http or https";
    out->query = h2_request_get(r, ":path");
    why = check_path(out->query, out->method);
    if (!why)
        why = check_authority(r);
    (void)slice_split(&out->query, '?', &out->path);
    return why;
}

const char *h2_request_check(struct h2_request *r, struct h2_target *out, int *status)
{
    memset(out, 0, sizeof(*out));
    *status = r->too_large ? 431 : 400;
    if (r->too_large)
        return "the header fields are larger than this server takes";
    const char *why = check_fields(r, out, status);
    out->takes_body = !out->websocket && out->method != HTTP_GET && out->method != HTTP_HEAD &&
                      out->method != HTTP_OPTIONS;
    out->content_length = r->framing.body_bytes;
    if (why)
        return why;
    head_framing_end(&r->framing, out->takes_body, false);
    return r->framing.why;
}
