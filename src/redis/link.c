/* link.c - a connection to Redis that comes back.
 *
 * down ──timer──▶ opening (wire.c) ──▶ greeting (greeting.c) ──▶ up ──any failure──▶ down …
 *
 * Invariants: what is answered is the oldest request; an attempt begins in the timer and nowhere
 * else, so no callback finds a connection that is half torn down; whoever calls out compares
 * `connection` afterwards, because the callback may have broken or closed the link.
 *
 * Commands are written once per turn, by a hook that exists only while there is something to write.
 *
 * A server that stalls is told by the oldest request, and by a reply that has begun and does not
 * end. After each the connection is given up: what comes late could not be told from what comes
 * next. One that answers slowly because we read slowly is not blamed for it.
 *
 * Backoff starts over only after a connection that lasted, or a server that greets and then closes
 * would be called fifty times a second.
 */
#include "link.h"

#include "greeting.h"
#include "pipeline.h"
#include "wire.h"

#include "crier/log.h"
#include "crier/rnd.h"

#include <stdio.h>
#include <stdlib.h>

#define READ_BYTES_PER_TURN ((size_t)256 * 1024)
#define BACKOFF_LEAST_MS 10
#define BACKOFF_MAX_SHIFT 16
#define LASTED_MS LINK_BACKOFF_MAX_MS
#define WHERE_MAX_BYTES 512
#define SAME_WHY_EVERY_MS 60000

enum link_state { LINK_DOWN, LINK_OPENING, LINK_GREETING, LINK_UP, LINK_CLOSED };

struct link {
    struct loop *loop; /* borrowed */
    struct link_options o;
    struct buf where; /* the endpoint, for logs */
    enum link_state state;
    struct wire wire;
    struct greeting greeting;
    struct reply_parser *parser; /* owned; NULL while there is no connection */
    uint64_t connection;         /* counts them; changes when one ends */
    struct timer timer; /* down: next attempt; opening, greeting: its end; up: what stalls */
    unsigned attempts;  /* failed in a row */
    uint64_t up_since_ms;

    struct pipeline pipeline;
    struct loop_hook hook; /* in the loop while in_hook: there is something to write */
    bool in_hook;
    bool unread;              /* the last turn's read ended before the data did */
    uint64_t midway_since_ms; /* a reply has begun; 0 = none */

    char why[REDIS_WHY_BYTES], logged_why[REDIS_WHY_BYTES];
    uint64_t logged_ms;
    struct loop_corpse corpse;
};

static const struct wire_ops wire_callbacks;

static void timer_fired(struct timer *t);
static bool end_of_turn(struct loop_hook *h);
static void free_link(struct loop_corpse *c);
static bool read_some(struct link *l);

static uint64_t now_ms(const struct link *l)
{
    return loop_now_ms(l->loop);
}

static void set_timer(struct link *l, uint64_t delay_ms)
{
    timer_set(loop_timers(l->loop), &l->timer, delay_ms);
}

/* --- life ------------------------------------------------------------------------------------- */

enum err link_new(struct loop *loop, const struct link_options *o, struct link **out)
{
    struct link *l = calloc(1, sizeof *l);
    const struct redis_options *r = o->redis;
    bool scripts = o->kind == LINK_COMMANDS;

    BUG_ON(!l);
    l->loop = loop;
    l->o = *o;
    wire_init(&l->wire, loop, o->endpoint, r->tls, &wire_callbacks);
    l->greeting = (struct greeting){.endpoint = o->endpoint,
                                    .name = scripts ? "crier" : "crier-subscribe",
                                    .scripts = scripts ? r->scripts : NULL,
                                    .n_scripts = scripts ? r->n_scripts : 0};
    timer_init(&l->timer, timer_fired);
    list_init(&l->hook.node);
    l->hook.run = end_of_turn;
    pipeline_init(&l->pipeline, r->max_pending_bytes);
    buf_init(&l->where, WHERE_MAX_BYTES);
    redis_endpoint_text(o->endpoint, &l->where);
    l->corpse.free = free_link;
    *out = l;
    return ERR_OK;
}

void link_open(struct link *l)
{
    BUG_ON(l->state != LINK_DOWN);
    set_timer(l, 0);
}

static void leave_hook(struct link *l)
{
    if (l->in_hook)
        loop_remove_hook(l->loop, &l->hook);
    l->in_hook = false;
}

static void drop_connection(struct link *l)
{
    l->connection++;
    timer_cancel(loop_timers(l->loop), &l->timer);
    wire_close(&l->wire);
    reply_parser_free(l->parser);
    l->parser = NULL;
    leave_hook(l);
    pipeline_drop_bytes(&l->pipeline);
    l->midway_since_ms = 0;
    l->unread = false;
}

void link_close(struct link *l)
{
    if (l->state == LINK_CLOSED)
        return;
    l->state = LINK_CLOSED;
    drop_connection(l);
    loop_free_later(l->loop, &l->corpse);
    pipeline_answer_all(&l->pipeline, ERR_CLOSED); /* they may close it from within */
}

static void free_link(struct loop_corpse *c)
{
    struct link *l = container_of(c, struct link, corpse);

    buf_release(&l->where);
    free(l);
}

void *link_ctx(const struct link *l)
{
    return l->o.ctx;
}

bool link_is_up(const struct link *l)
{
    return l->state == LINK_UP;
}

static const char *kind_text(const struct link *l)
{
    return l->o.kind == LINK_COMMANDS ? "commands" : "subscribe";
}

/* A server that stays away is said once, and then once a minute. */
static void log_down(struct link *l, bool was_up)
{
    bool news = was_up || strcmp(l->why, l->logged_why) != 0 ||
                now_ms(l) - l->logged_ms >= SAME_WHY_EVERY_MS;

    if (!news)
        return;
    log_warn("redis_link_down", "endpoint=%s kind=%s why=%s", log_quote(buf_slice(&l->where)),
             kind_text(l), log_quote(slice_str(l->why)));
    memcpy(l->logged_why, l->why, sizeof l->why);
    l->logged_ms = now_ms(l);
}

static uint64_t backoff_ms(const struct link *l)
{
    unsigned shift = l->attempts < BACKOFF_MAX_SHIFT ? l->attempts : BACKOFF_MAX_SHIFT;
    uint64_t most = (uint64_t)LINK_BACKOFF_MIN_MS << shift;
    uint64_t delay =
        rnd_below((uint32_t)(most < LINK_BACKOFF_MAX_MS ? most : LINK_BACKOFF_MAX_MS) + 1);

    return delay > BACKOFF_LEAST_MS ? delay : BACKOFF_LEAST_MS;
}

/* The one way from anything to down. */
static void lose(struct link *l, const char *why)
{
    bool was_up = l->state == LINK_UP;

    snprintf(l->why, sizeof l->why, "%s", why);
    for (char *c = l->why; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?'; /* a server's words */
    drop_connection(l);
    l->state = LINK_DOWN;
    if (was_up && now_ms(l) - l->up_since_ms >= LASTED_MS)
        l->attempts = 0;
    set_timer(l, backoff_ms(l));
    l->attempts++;
    log_down(l, was_up);
    pipeline_answer_all(&l->pipeline, ERR_UNAVAILABLE); /* they may close it from within */
    if (l->state == LINK_DOWN)
        l->o.ops->down(l, l->why);
}

void link_break(struct link *l, const char *why)
{
    char copy[REDIS_WHY_BYTES]; /* why may be ours */

    if (l->state == LINK_DOWN || l->state == LINK_CLOSED)
        return;
    snprintf(copy, sizeof copy, "%s", why);
    lose(l, copy);
}

void link_hurry(struct link *l)
{
    if (l->state == LINK_DOWN && timer_is_set(&l->timer))
        set_timer(l, 0);
}

/* --- time ------------------------------------------------------------------------------------- */

static void begin(struct link *l)
{
    uint64_t timeout = l->o.redis->connect_timeout_ms;

    l->state = LINK_OPENING;
    set_timer(l, timeout);
    wire_open(&l->wire, timeout);
}

static void attempt_is_over(struct link *l)
{
    const char *doing =
        l->state == LINK_OPENING ? wire_doing(&l->wire) : "no answer to the greeting";
    char why[REDIS_WHY_BYTES];

    snprintf(why, sizeof why, "%s: timed out after %llu ms", doing,
             (unsigned long long)l->o.redis->connect_timeout_ms);
    lose(l, why);
}

/* When what has been waited for longest began; 0 = nothing is. */
static uint64_t waiting_since_ms(const struct link *l)
{
    uint64_t oldest = link_oldest_ms(l);

    return oldest ? oldest : l->midway_since_ms;
}

static void watch_for_stall(struct link *l)
{
    if (!timer_is_set(&l->timer) && waiting_since_ms(l))
        set_timer(l, l->o.redis->command_timeout_ms);
}

/* What came while this thread was busy elsewhere is read first: it is not the server that stalls
 * then. */
static void look_for_stall(struct link *l)
{
    uint64_t timeout = l->o.redis->command_timeout_ms;
    char why[REDIS_WHY_BYTES];

    if (waiting_since_ms(l) && now_ms(l) - waiting_since_ms(l) >= timeout && !read_some(l))
        return;
    if (!waiting_since_ms(l))
        return;
    uint64_t waited = now_ms(l) - waiting_since_ms(l);
    if (waited < timeout || l->unread) {
        set_timer(l, waited < timeout ? timeout - waited : 0);
        return;
    }
    snprintf(why, sizeof why, "no %sanswer after %llu ms", l->midway_since_ms ? "whole " : "",
             (unsigned long long)waited);
    lose(l, why);
}

static void timer_fired(struct timer *t)
{
    struct link *l = container_of(t, struct link, timer);

    if (l->state == LINK_DOWN)
        begin(l);
    else if (l->state == LINK_UP)
        look_for_stall(l);
    else
        attempt_is_over(l);
}

/* --- out -------------------------------------------------------------------------------------- */

static void mark_dirty(struct link *l)
{
    if (!l->in_hook)
        loop_add_hook(l->loop, &l->hook);
    l->in_hook = true;
}

static void flush(struct link *l)
{
    struct slice rest;

    while ((rest = pipeline_unwritten(&l->pipeline)).len > 0) {
        size_t n = 0;
        enum err e = wire_write(&l->wire, rest, &n);
        if (e == ERR_AGAIN)
            return;
        if (e != ERR_OK) {
            lose(l, l->wire.why);
            return;
        }
        pipeline_wrote(&l->pipeline, n);
    }
}

static bool end_of_turn(struct loop_hook *h)
{
    struct link *l = container_of(h, struct link, hook);

    leave_hook(l);
    flush(l);
    return false;
}

enum err link_send(struct link *l, struct link_request *q, const struct slice *arg, size_t n)
{
    BUG_ON(l->state != LINK_UP || (q != NULL) != (l->o.kind == LINK_COMMANDS));
    enum err e = pipeline_add(&l->pipeline, q, arg, n, now_ms(l));

    if (e != ERR_OK)
        return e;
    mark_dirty(l);
    watch_for_stall(l);
    return ERR_OK;
}

uint64_t link_oldest_ms(const struct link *l)
{
    return l->pipeline.oldest ? l->pipeline.oldest->sent_ms : 0;
}

/* --- in --------------------------------------------------------------------------------------- */

static void come_up(struct link *l)
{
    l->state = LINK_UP;
    l->up_since_ms = now_ms(l);
    l->logged_why[0] = '\0';
    timer_cancel(loop_timers(l->loop), &l->timer);
    log_info("redis_link_up", "endpoint=%s kind=%s", log_quote(buf_slice(&l->where)), kind_text(l));
    l->o.ops->up(l);
}

static void greet(struct link *l)
{
    if (!greeting_next(&l->greeting, &l->pipeline.out)) {
        come_up(l);
        return;
    }
    if (l->pipeline.out.failed) {
        lose(l, "a script or password is too long to be sent");
        return;
    }
    mark_dirty(l);
}

/* Nothing was asked, or not all of it: only an error makes sense then. */
static void take_unasked(struct link *l, const struct reply *r)
{
    struct slice text = reply_text(r);
    char why[REDIS_WHY_BYTES];

    if (text.len > sizeof why / 2)
        text.len = sizeof why / 2;
    if (reply_kind(r) == REPLY_ERROR)
        snprintf(why, sizeof why, "says: %.*s", (int)text.len, text.ptr);
    else
        snprintf(why, sizeof why, "an answer without a request");
    lose(l, why);
}

static void take_greeting(struct link *l, const struct reply *r)
{
    char why[REDIS_WHY_BYTES];

    if (pipeline_unwritten(&l->pipeline).len > 0) {
        take_unasked(l, r);
    } else if (!greeting_answered(&l->greeting, r, why)) {
        lose(l, why);
    } else {
        pipeline_drop_bytes(&l->pipeline); /* AUTH may have been in there */
        greet(l);
    }
}

static void take_answer(struct link *l, const struct reply *r)
{
    struct link_request *q = pipeline_take(&l->pipeline);

    if (q)
        q->done(q, ERR_OK, r);
    else
        take_unasked(l, r);
}

static void take_reply(struct link *l, const struct reply *r)
{
    if (l->state == LINK_GREETING)
        take_greeting(l, r);
    else if (l->o.kind == LINK_COMMANDS)
        take_answer(l, r);
    else
        l->o.ops->push(l, r);
}

static const char *parser_complaint(enum err e)
{
    if (e == ERR_SYNTAX)
        return "what it says is not RESP";
    return e == ERR_LIMIT ? "a reply is larger than is allowed" : "no memory for a reply";
}

/* False when the connection is not the same any more. */
static bool take_replies(struct link *l, struct slice bytes)
{
    uint64_t connection = l->connection;
    struct reply *r;
    enum err e = reply_parser_feed(l->parser, bytes);

    while (e == ERR_OK && (e = reply_parser_next(l->parser, &r)) == ERR_OK) {
        l->midway_since_ms = 0;
        take_reply(l, r);
        reply_free(r);
        if (l->connection != connection)
            return false;
    }
    if (e != ERR_AGAIN) {
        lose(l, parser_complaint(e));
        return false;
    }
    if (!reply_parser_is_midway(l->parser))
        l->midway_since_ms = 0;
    else if (!l->midway_since_ms)
        l->midway_since_ms = now_ms(l);
    if (l->state == LINK_UP)
        watch_for_stall(l);
    return true;
}

static void ended(struct link *l, enum err e)
{
    char why[REDIS_WHY_BYTES];
    bool midway = e == ERR_CLOSED && reply_parser_is_midway(l->parser);

    snprintf(why, sizeof why, "%.200s%s", l->wire.why, midway ? " in the middle of a reply" : "");
    lose(l, why);
}

/* False when the connection is not the same any more. */
static bool read_some(struct link *l)
{
    char bytes[WIRE_READ_BYTES];

    for (size_t total = 0; total < READ_BYTES_PER_TURN;) {
        size_t n;
        enum err e = wire_read(&l->wire, bytes, &n);
        if (e == ERR_AGAIN) {
            l->unread = false;
            return true;
        }
        if (e != ERR_OK) {
            ended(l, e);
            return false;
        }
        if (!take_replies(l, slice_of(bytes, n)))
            return false;
        /* A short read has emptied a socket; TLS gives a record at a time. */
        if (n < sizeof bytes && !l->o.endpoint->tls) {
            l->unread = false;
            return true;
        }
        total += n;
    }
    l->unread = true;
    return true;
}

static void wire_ready(struct wire *w)
{
    struct link *l = container_of(w, struct link, wire);

    if (read_some(l) && pipeline_unwritten(&l->pipeline).len > 0)
        mark_dirty(l);
}

static void wire_opened(struct wire *w)
{
    struct link *l = container_of(w, struct link, wire);

    l->state = LINK_GREETING;
    if (reply_parser_new(l->o.redis->max_reply_bytes, &l->parser) != ERR_OK) {
        lose(l, "no memory for replies");
        return;
    }
    greeting_begin(&l->greeting);
    greet(l);
}

static void wire_failed(struct wire *w, const char *why)
{
    lose(container_of(w, struct link, wire), why);
}

static const struct wire_ops wire_callbacks = {
    .opened = wire_opened,
    .failed = wire_failed,
    .ready = wire_ready,
};
