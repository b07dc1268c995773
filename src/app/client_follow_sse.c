/* client_follow_sse.c - one event stream, from the request to its end.
 *
 * The position is the `id` of the last dispatched event, as in a browser; `crier.ready` carries
 * one only when the old cursor could be honoured, so a stream that breaks between a gap's notices
 * is asked for again from the same place.
 */
#include "client_follow.h"
#include "client_problem.h"
#include "client_sse.h"
#include "crier/json.h"

#include <stdio.h>
#include <stdlib.h>

/* Four keep-alives of the default. A server that is set to be quieter is asked again in vain, but
 * nothing is lost by that. */
#define SILENCE_MS 60000
#define PROBLEM_MAX_BYTES 65536

struct stream {
    struct follow *follow;
    struct sse_parser parser;
    struct buf problem; /* body of an answer that is no event stream */
    bool too_long;
    bool ended; /* the server or the count said so; `end` counts */
    enum follow_end end;
};

static void stop(struct stream *s, enum follow_end end)
{
    s->ended = true;
    s->end = end;
    sse_stop(&s->parser);
}

static void take_close(struct stream *s, struct slice data)
{
    struct slice value;
    uint64_t code = 0;
    char *reason = client_json_string(data, "reason");
    if (json_member(data, "code", &value) && json_u64(value, 65535, &code) != ERR_OK)
        code = 0;
    stop(s, follow_closed(code, reason));
    free(reason);
}

static void take_event(void *ctx, const struct sse_event *e)
{
    struct stream *s = ctx;
    bool more = true;
    if (json_check(e->data, false, NULL) != ERR_OK)
        return;
    if (slice_eq(e->type, SLICE("message")))
        more = follow_message(s->follow, e->data);
    else if (slice_eq(e->type, SLICE("crier.ready")))
        s->follow->was_ready = true;
    else if (slice_eq(e->type, SLICE("crier.gap")))
        follow_gap(e->data);
    else if (slice_eq(e->type, SLICE("crier.close")))
        take_close(s, e->data);
    follow_set_cursor(s->follow, e->last_id);
    if (!more)
        stop(s, FOLLOW_DONE);
}

static bool is_event_stream(const struct http_answer *a)
{
    return a->status == 200 &&
           slice_starts_with(slice_str(a->content_type), SLICE("text/event-stream"));
}

static bool take_body(void *ctx, const struct http_answer *a, struct slice bytes)
{
    struct stream *s = ctx;
    if (!is_event_stream(a)) {
        buf_append(&s->problem, bytes);
        return !s->problem.failed;
    }
    s->too_long = sse_feed(&s->parser, bytes) != ERR_OK;
    return !s->parser.stopped;
}

static enum follow_end how_it_ended(struct stream *s, enum err e, const struct http_answer *a)
{
    if (s->ended)
        return s->end;
    if (s->too_long)
        fprintf(stderr, "crier: subscribe: the server sent an event that never ends\n");
    else if (e == ERR_CLOSED && !s->problem.failed)
        return FOLLOW_DONE;
    else if (e == ERR_IO)
        fprintf(stderr, "crier: subscribe: %s\n", a->error);
    else if (!is_event_stream(a))
        return follow_answered(s->follow, a, buf_slice(&s->problem));
    else
        fprintf(stderr, "crier: the stream ended\n");
    /* An empty stream is what a server that is full or leaving gives to EventSource. */
    s->follow->was_ready = s->follow->was_ready || (e == ERR_OK && is_event_stream(a));
    return FOLLOW_LOST;
}

enum follow_end follow_sse(struct follow *f)
{
    static const char *const headers[] = {"Accept: text/event-stream", NULL};
    struct stream s = {.follow = f};
    struct http_answer answer;
    char *url = follow_url(f, "/events", "format", "json");
    struct http_request request = {
        .url = url, .headers = headers, .silence_ms = SILENCE_MS, .on_body = take_body, .ctx = &s};
    sse_init(&s.parser, FOLLOW_EVENT_MAX_BYTES, take_event, &s);
    buf_init(&s.problem, PROBLEM_MAX_BYTES);
    enum err e = http_perform(f->http, &request, &answer);
    enum follow_end end = how_it_ended(&s, e, &answer);
    if (s.parser.retry_ms > 0)
        f->retry_ms = s.parser.retry_ms;
    sse_release(&s.parser);
    buf_release(&s.problem);
    free(url);
    return end;
}
