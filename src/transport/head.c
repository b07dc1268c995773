/* head.c - is this the head of an HTTP/1.1 request that everyone reads the same way? (head.h)
 *
 * Strict where RFC 9112 lets a recipient be lenient: lines end with CRLF, no folded lines, no blank
 * before a colon, nothing but a token as a name. Whoever sends such things by honest mistake gets
 * told.
 */
#include "crier/head.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

bool head_is_token(struct slice s)
{
    static const char extra[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == '\0' || !strchr(extra, c)))
            return false;
    }
    return s.len > 0;
}

bool head_has_control(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (((unsigned char)s.ptr[i] < 0x20 && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
            return true;
    return false;
}

static void complain(struct head_framing *f, const char *why)
{
    if (!f->why)
        f->why = why;
}

void head_framing_add(struct head_framing *f, struct slice name, struct slice value)
{
    if (!head_is_token(name))
        complain(f, "a header name has a character that is not allowed");
    if (head_has_control(value))
        complain(f, "a header value has a control character");
    if (slice_eq_nocase(name, SLICE("Content-Length"))) {
        f->content_length++;
        if (slice_to_u64(slice_trim(value), UINT64_MAX / 2, &f->body_bytes))
            complain(f, "Content-Length must be one decimal number");
    } else if (slice_eq_nocase(name, SLICE("Transfer-Encoding"))) {
        f->transfer_encoding++;
        if (!slice_eq_nocase(slice_trim(value), SLICE("chunked")))
            complain(f, "Transfer-Encoding may only be chunked");
    } else if (slice_eq_nocase(name, SLICE("Host"))) {
        f->host++;
    }
}

void head_framing_end(struct head_framing *f, bool takes_body, bool is_1_0)
{
    if (f->content_length > 1 || f->transfer_encoding > 1 || f->host > 1)
        complain(f, "Content-Length, Transfer-Encoding and Host may be given once");
    if (f->content_length && f->transfer_encoding)
        complain(f, "Content-Length and Transfer-Encoding exclude each other");
    if (is_1_0 && f->transfer_encoding)
        complain(f, "HTTP/1.0 has no Transfer-Encoding");
    if (!is_1_0 && !f->host)
        complain(f, "Host is missing");
    if (!takes_body && (f->body_bytes || f->transfer_encoding))
        complain(f, "GET, HEAD and OPTIONS take no body here");
}

/* The next line without its CRLF. False: no line end yet. */
static bool next_line(struct slice *rest, struct slice *line, const char **why)
{
    const char *lf = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    if (!lf)
        return false;
    size_t n = (size_t)(lf - rest->ptr);
    if (n == 0 || lf[-1] != '\r')
        *why = "a line must end with CRLF";
    *line = slice_of(rest->ptr, n ? n - 1 : 0);
    *rest = slice_of(lf + 1, rest->len - n - 1);
    return true;
}

struct request_line {
    struct slice method, target, version;
};

static const char *check_request_line(struct slice line, struct request_line *r, int *status)
{
    struct slice rest = line;
    if (!slice_split(&rest, ' ', &r->method) || !slice_split(&rest, ' ', &r->target) || !rest.ptr)
        return "the request line must be METHOD SP TARGET SP VERSION";
    r->version = rest;
    if (!head_is_token(r->method))
        return "the method must be a token";
    if (!r->target.len || head_has_control(r->target) || memchr(r->target.ptr, '\t', r->target.len))
        return "the request target is empty or has a control character";
    if (slice_eq(r->version, SLICE("HTTP/1.1")) || slice_eq(r->version, SLICE("HTTP/1.0")))
        return NULL;
    *status = slice_starts_with(r->version, SLICE("HTTP/")) && r->version.len == 8 ? 505 : 400;
    return "the version must be HTTP/1.1 or HTTP/1.0";
}

/* Whoever names a version of HTTP, or one of its methods, is told what is wrong. Other bytes may be
 * a bad preface of HTTP/2, or anything: no answer of ours is one in their protocol. */
static bool is_meant_as_http(struct slice line)
{
    static const char *const methods[] = {"GET",    "HEAD",    "POST",    "PUT",  "PATCH",
                                          "DELETE", "OPTIONS", "CONNECT", "TRACE"};
    for (size_t i = 0; i + 5 <= line.len; i++)
        if (slice_eq_nocase(slice_of(line.ptr + i, 5), SLICE("HTTP/")))
            return true;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (slice_starts_with(line, slice_str(methods[i])))
            return true;
    return line.len == 0;
}

static const char *check_header_line(struct slice line, struct head_framing *f)
{
    struct slice name, value = line;
    if (line.ptr[0] == ' ' || line.ptr[0] == '\t')
        return "folded header lines are not accepted";
    if (!memchr(line.ptr, ':', line.len))
        return "a header line has no colon";
    (void)slice_split(&value, ':', &name);
    head_framing_add(f, name, value);
    return f->why;
}

static bool takes_body(struct slice method)
{
    return !slice_eq(method, SLICE("GET")) && !slice_eq(method, SLICE("HEAD")) &&
           !slice_eq(method, SLICE("OPTIONS"));
}

static enum head_verdict bad(int *status, const char **why, const char *text)
{
    *why = text;
    if (!*status)
        *status = 400;
    return HEAD_BAD;
}

static enum head_verdict check_lines(struct slice rest, int *status, const char **why)
{
    struct head_framing f = {0};
    struct request_line r = {0};
    struct slice line;
    const char *wrong = NULL;
    if (!next_line(&rest, &line, &wrong))
        return HEAD_MORE;
    if (!is_meant_as_http(line))
        return HEAD_ALIEN;
    if (!wrong)
        wrong = check_request_line(line, &r, status);
    while (!wrong) {
        if (!next_line(&rest, &line, &wrong))
            return HEAD_MORE;
        if (!wrong && !line.len)
            break;
        if (!wrong)
            wrong = check_header_line(line, &f);
    }
    if (!wrong) {
        head_framing_end(&f, takes_body(r.method), slice_eq(r.version, SLICE("HTTP/1.0")));
        wrong = f.why;
    }
    return wrong ? bad(status, why, wrong) : HEAD_HTTP1;
}

enum head_verdict head_check(struct slice bytes, int *status, const char **why)
{
    size_t n = bytes.len < sizeof(preface) - 1 ? bytes.len : sizeof(preface) - 1;
    bool full = bytes.len >= HEAD_MAX_BYTES;
    *status = 0;
    if (n >= 3 && memcmp(bytes.ptr, preface, n) == 0)
        return n == sizeof(preface) - 1 ? HEAD_HTTP2 : HEAD_MORE;
    /* One empty line before the request is tolerated (RFC 9112 2.2). */
    if (slice_starts_with(bytes, SLICE("\r\n")))
        bytes = slice_of(bytes.ptr + 2, bytes.len - 2);
    enum head_verdict v = check_lines(bytes, status, why);
    if (v == HEAD_MORE && full) {
        *status = 431;
        return bad(status, why, "the request line and headers are larger than 16 KiB");
    }
    return v;
}
