/* problem.c - answers: JSON, problem+json (RFC 9457), CORS on everything. */
#include "http_internal.h"

#include "crier/json.h"
#include "crier/metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *http_status_text(int status)
{
    switch (status) {
    case 101:
        return "Switching Protocols";
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 422:
        return "Unprocessable Content";
    case 426:
        return "Upgrade Required";
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 505:
        return "HTTP Version Not Supported";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}

void http_add_header(struct http_response *res, const char *name, const char *value)
{
    BUG_ON(res->n_headers == HTTP_HEADERS_MAX);
    res->header[res->n_headers++] = (struct http_header){name, value};
}

static void add_common(const struct http_exchange *ex, struct http_response *res, const char *vary)
{
    http_add_header(res, "Vary", vary);
    http_add_header(res, "X-Content-Type-Options", "nosniff");
    if (!ex->origin)
        return;
    http_add_header(res, "Access-Control-Allow-Origin", ex->origin);
    http_add_header(res, "Access-Control-Expose-Headers", "Retry-After");
}

void http_respond(struct http_exchange *ex, struct http_response *res)
{
    BUG_ON(ex->answered);
    ex->answered = true;
    ex->abandoned = NULL;
    metrics_inc(M_REQUESTS);
    add_common(ex, res, "Origin");
    ex->ops->respond(ex, res);
}

void http_accept_stream(struct http_exchange *ex, struct http_stream *st)
{
    struct http_response head = {.status = 200, .content_type = "text/event-stream; charset=utf-8"};
    BUG_ON(ex->answered);
    ex->answered = true;
    metrics_inc(M_REQUESTS);
    http_add_header(&head, "Cache-Control", "no-store, no-transform");
    http_add_header(&head, "X-Accel-Buffering", "no");
    if (coding_name((enum msg_coding)st->coding))
        http_add_header(&head, "Content-Encoding", coding_name((enum msg_coding)st->coding));
    add_common(ex, &head, "Origin, Accept-Encoding");
    ex->ops->stream(ex, &head, st);
}

void http_respond_json(struct http_exchange *ex, int status, const struct buf *json)
{
    if (json->failed) {
        http_problem(ex, 503, "overloaded", "out of memory, try again later");
        return;
    }
    struct http_response res = {
        .status = status, .content_type = "application/json", .body = buf_slice(json)};
    http_add_header(&res, "Cache-Control", "no-store");
    http_respond(ex, &res);
}

void http_problem_text(struct buf *b, int status, const char *code, const char *detail)
{
    buf_printf(b, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\",",
               http_status_text(status), status, code);
    buf_append_str(b, "\"detail\":");
    json_append_string(b, slice_str(detail));
    buf_append_str(b, "}\n");
}

static void count_refusal(int status)
{
    if (status == 413)
        metrics_inc(M_BAD_TOO_LARGE);
    else if (status == 503)
        metrics_inc(M_BAD_OVERLOAD);
    else if (status != 403)
        metrics_inc(M_BAD_REQUEST);
}

void http_problem(struct http_exchange *ex, int status, const char *code, const char *fmt, ...)
{
    char detail[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    struct buf b;
    buf_init(&b, 8192);
    http_problem_text(&b, status, code, detail);
    struct http_response res = {
        .status = status, .content_type = "application/problem+json", .body = buf_slice(&b)};
    http_add_header(&res, "Cache-Control", "no-store");
    if (status == 503)
        http_add_header(&res, "Retry-After", "2");
    if (status == 405)
        http_add_header(&res, "Allow", ex->allow);
    if (status == 426) {
        http_add_header(&res, "Upgrade", "websocket");
        http_add_header(&res, "Sec-WebSocket-Version", "13");
    }
    count_refusal(status);
    http_respond(ex, &res);
    buf_release(&b);
}
