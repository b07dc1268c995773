/* poll.c - the long poll as a session of one answer.
 *
 * The session joins like any other; the answer is made at the end of the turn in which there is
 * something to say, so messages that come together go together. What does not fit stays behind the
 * returned cursor: the client's next poll reads it from the stream's history, which is also why a
 * lost response costs nothing.
 */
#include "http_internal.h"

#include "crier/dialects.h"
#include "crier/json.h"

#include <stdlib.h>

#define ANSWER_MAX (64u * 1024 * 1024)
#define TIMEOUT_DEFAULT_S 25
#define TIMEOUT_MAX_S 55
#define LIMIT_DEFAULT 100
#define LIMIT_MAX 1000

struct poll {
    struct session s;
    struct http_exchange *ex; /* borrowed until answered or abandoned */
    struct buf gaps;          /* objects, comma separated */
    uint32_t limit;
    bool opened;     /* all channels have been joined */
    bool due;        /* answer even if there is no message */
    uint16_t failed; /* answer 503 instead */
};

static struct poll *poll_of(struct session *s)
{
    return container_of(s, struct poll, s);
}

static void append_messages(struct buf *b, struct poll *p)
{
    struct outbox_item item;
    for (uint32_t n = 0; n < p->limit && outbox_item(&p->s.out, 0, &item); n++) {
        if (n)
            buf_append_char(b, ',');
        buf_append(b, item.bytes);
        session_pop(&p->s);
    }
}

static void answer(struct poll *p)
{
    struct http_exchange *ex = p->ex;
    struct buf body, messages;
    p->ex = NULL;
    if (p->failed) {
        http_problem(ex, 503, "unavailable", "the message bus is away, try again later");
        return;
    }
    buf_init(&messages, ANSWER_MAX);
    append_messages(&messages, p);
    buf_init(&body, ANSWER_MAX + 8192);
    buf_append_str(&body, "{\"cursor\":\"");
    session_cursor(&p->s, &body);
    buf_append_str(&body, "\",\"messages\":[");
    buf_append(&body, buf_slice(&messages));
    buf_append_str(&body, "],\"gaps\":[");
    buf_append(&body, buf_slice(&p->gaps));
    buf_append_str(&body, "]}");
    body.failed |= messages.failed || p->gaps.failed;
    http_respond_json(ex, 200, &body);
    buf_release(&messages);
    buf_release(&body);
}

static void on_flush(struct session *s)
{
    struct poll *p = poll_of(s);
    bool can = p->opened || p->failed;
    if (!can || (!p->due && !s->out.count))
        return;
    answer(p);
    session_gone(s);
}

static void on_free(struct session *s)
{
    struct poll *p = poll_of(s);
    buf_release(&p->gaps);
    free(p);
}

static const struct session_ops poll_ops = {.flush = on_flush, .free = on_free};

/* --- dialect --- */

static void add_gap(struct poll *p, const struct sub *sub, enum gap_reason reason,
                    struct position since, struct position resumed)
{
    buf_append_str(&p->gaps, p->gaps.len ? ",{" : "{");
    notice_gap(&p->gaps, sub_channel(sub), reason, since, resumed);
    buf_append_char(&p->gaps, '}');
    p->due = true;
}

static void on_ready(struct session *s)
{
    struct poll *p = poll_of(s);
    for (uint32_t i = 0; i < s->opening->n_gaps; i++) {
        const struct opening_gap *g = &s->opening->gap[i];
        add_gap(p, g->sub, g->reason, g->since, g->resumed);
    }
    p->opened = true;
    session_push_ready(s, SLICE_NONE);
}

static void on_gap(struct session *s, struct sub *sub, const struct catch_up *cu)
{
    add_gap(poll_of(s), sub, cu->gap, cu->since, cu->start);
    /* The answer says both. But a message from before the gap that does not fit into it comes with
     * the next, and the gap again. */
    if (!s->opening && !session_is_waiting(s, sub))
        sub->pos = cu->start;
}

static void on_closing(struct session *s, uint16_t code, const char *reason)
{
    struct poll *p = poll_of(s);
    (void)reason;
    p->due = true;
    /* Before all channels have been joined there is no cursor to answer with. */
    if (!p->opened || code == WS_CODE_TRY_LATER)
        p->failed = code;
}

static void on_tick(struct session *s)
{
    poll_of(s)->due = true;
    session_mark_dirty(s);
}

/* Cut before there was an answer: at the drain's deadline, or for want of memory. */
static void on_gone(struct session *s)
{
    struct poll *p = poll_of(s);
    struct http_exchange *ex = p->ex;
    p->ex = NULL;
    if (ex)
        http_problem(ex, 503, "unavailable", "the poll was cut short, try again");
}

static const struct dialect dialect_poll = {
    .transport = "poll",
    .form = FORM_ENVELOPE,
    .passing = true,
    .ready = on_ready,
    .gap = on_gap,
    .closing = on_closing,
    .tick = on_tick,
    .gone = on_gone,
};

static void on_abandoned(struct http_exchange *ex)
{
    struct poll *p = ex->route_state;
    p->ex = NULL;
    session_gone(&p->s);
}

static bool parse_limits(struct http_exchange *ex, const struct query *q, struct subscription *sub)
{
    uint64_t timeout_s = TIMEOUT_DEFAULT_S;
    sub->limit = LIMIT_DEFAULT;
    if (!query_u64(ex, q, "limit", "bad_limit", 1, LIMIT_MAX, &sub->limit) ||
        !query_u64(ex, q, "timeout", "bad_timeout", 0, TIMEOUT_MAX_S, &timeout_s))
        return false;
    sub->timeout_ms = timeout_s * 1000;
    return true;
}

static struct subscription *parse(struct http_exchange *ex)
{
    struct query q;
    struct subscription *sub = NULL;
    if (query_parse(ex, &q))
        sub = subscription_parse(ex, &q, SUBSCRIPTION_MAX_STREAM, true);
    if (sub && !sub->n) {
        subscription_free(sub);
        sub = NULL;
        http_problem(ex, 400, "missing_channel", "name at least one channel: /poll?channel=NAME");
    }
    if (sub && !parse_limits(ex, &q, sub)) {
        subscription_free(sub);
        sub = NULL;
    }
    query_release(&q);
    return sub;
}

void route_poll(struct http_exchange *ex, struct slice rest)
{
    (void)rest;
    struct subscription *sub = parse(ex);
    if (!sub)
        return;
    struct poll *p = turn_away(ex) ? NULL : calloc(1, sizeof(*p));
    if (!p) {
        if (!ex->answered)
            http_problem(ex, 503, "overloaded", "out of memory, try again later");
        subscription_free(sub);
        return;
    }
    p->ex = ex;
    p->limit = (uint32_t)sub->limit;
    p->due = !sub->has_cursor;
    buf_init(&p->gaps, 256 * 1024);
    ex->route_state = p;
    ex->abandoned = on_abandoned;
    ex->waits_long = true;
    session_init(&p->s, ex->server->hub, &poll_ops, &dialect_poll, CODING_PLAIN);
    p->s.page_messages = p->limit;
    session_timer(&p->s, sub->timeout_ms);
    if (session_open(&p->s, sub->req, sub->n)) {
        p->failed = WS_CODE_TRY_LATER;
        p->due = true;
        session_mark_dirty(&p->s);
    }
    subscription_free(sub);
}
