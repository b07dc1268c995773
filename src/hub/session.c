/* session.c - the life of one client on one transport.
 *
 * Invariants: a session's state changes only in set_state; what a client was told it has (sub->pos)
 * moves only when an entry is handed to the transport whole (session_pop), so a cursor is never
 * ahead of the bytes. A session that is too slow is closed with its cursor, not thinned: a client
 * that can resume loses nothing, and a silent hole is worse than a visible disconnect.
 *
 * Subscribing and catching up are in subscribe.c, what goes out is in pull.c.
 */
#include "hub_internal.h"

#include "crier/metrics.h"
#include "crier/rnd.h"

#include <stdlib.h>

static void set_state(struct session *s, enum session_state to)
{
    BUG_ON(to <= (enum session_state)s->state);
    s->state = (uint8_t)to;
}

static enum metric clients_metric(const struct session *s)
{
    switch (s->dialect->transport[0]) {
    case 's':
        return M_CLIENTS_SSE;
    case 'w':
        return M_CLIENTS_WS;
    default:
        return M_CLIENTS_POLL;
    }
}

static void on_timer(struct timer *t)
{
    struct session *s = container_of(t, struct session, timer);
    if (s->state == SESSION_OPEN)
        s->dialect->tick(s);
    else
        session_gone(s); /* the last notice could not be written in time */
}

void session_init(struct session *s, struct hub *h, const struct session_ops *ops,
                  const struct dialect *d, enum msg_coding coding)
{
    s->ops = ops;
    s->dialect = d;
    s->hub = h;
    do
        s->id = rnd_u64();
    while (!s->id || hub_session(h, s->id));
    map_put(&h->sessions, &s->by_id);
    list_init(&s->dirty);
    timer_init(&s->timer, on_timer);
    outbox_init(&s->out, msg_form_packed((enum msg_form)d->form, coding));
    s->heard_ms = s->sent_ms = h->timers->now_ms;
    s->page_messages = HUB_PAGE_MESSAGES;
    metrics_inc(clients_metric(s));
}

void session_timer(struct session *s, uint64_t delay_ms)
{
    timer_set(s->hub->timers, &s->timer, delay_ms);
}

void session_mark_dirty(struct session *s)
{
    if (s->state != SESSION_CLOSED && !list_is_linked(&s->dirty))
        list_push_back(&s->hub->dirty, &s->dirty);
}

void session_cut(struct session *s)
{
    s->cut = true;
    session_mark_dirty(s);
}

void session_gone(struct session *s)
{
    if (s->state == SESSION_CLOSED)
        return;
    if (s->dialect->gone)
        s->dialect->gone(s);
    free(s->opening);
    s->opening = NULL;
    session_leave_all(s);
    set_state(s, SESSION_CLOSED);
    metrics_dec(clients_metric(s));
    timer_cancel(s->hub->timers, &s->timer);
    map_remove(&s->hub->sessions, &s->by_id);
    outbox_release(&s->out);
    list_remove(&s->dirty);
    list_push_back(&s->hub->closed, &s->dirty);
}

/* --- what goes in --- */

static bool is_full(const struct session *s, size_t more)
{
    const struct hub_options *o = s->hub->opt;
    return s->out.count >= o->outbox_messages || s->out.bytes + more > o->outbox_bytes;
}

/* A burst can fill the outbox within one turn, before the client was offered any of it: only a
 * client that does not take it is slow. */
static bool has_room(struct session *s, size_t more)
{
    if (!is_full(s, more))
        return true;
    if (s->ops->relieve)
        s->ops->relieve(s);
    return !is_full(s, more);
}

void session_deliver(struct sub *sub, struct msg *m)
{
    struct session *s = sub->session;
    if (s->state != SESSION_OPEN || s->quiet || s->cut)
        return;
    const struct encoded *enc = msg_encoded(m, (enum msg_form)s->out.form);
    if (!enc) {
        session_cut(s);
        return;
    }
    if (!has_room(s, enc->len)) {
        session_close_slow(s);
        return;
    }
    if (outbox_push_msg(&s->out, m))
        session_cut(s);
    session_mark_dirty(s);
}

void session_push(struct session *s, struct slice a, struct slice b)
{
    if (s->state == SESSION_CLOSED || s->quiet || s->cut)
        return;
    /* The notice that closes (not OPEN any more) always finds room. */
    if (s->state == SESSION_OPEN && !has_room(s, a.len + b.len)) {
        session_close_slow(s);
        return;
    }
    if (coding_push(s, a, b))
        session_cut(s);
    session_mark_dirty(s);
}

void session_push_framing(struct session *s, struct slice bytes)
{
    if (s->state == SESSION_CLOSED)
        return;
    if (outbox_push_framing(&s->out, bytes))
        session_cut(s);
    session_mark_dirty(s);
}

void session_push_ready(struct session *s, struct slice bytes)
{
    if (s->state == SESSION_CLOSED || s->cut)
        return;
    if (coding_open_gate(s, bytes))
        session_cut(s);
    session_mark_dirty(s);
}

/* --- closing --- */

static void say_no_more(struct session *s)
{
    s->quiet = true;
    if (!s->cut && coding_end(s))
        session_cut(s);
}

void session_finish(struct session *s)
{
    if (s->state != SESSION_OPEN)
        return;
    set_state(s, SESSION_CLOSING);
    if (s->opening) /* the gate never opens now: what waits behind it cannot be sent */
        outbox_drop_messages(&s->out);
    say_no_more(s);
    session_timer(s, HUB_CLOSE_FLUSH_MS);
    session_mark_dirty(s);
}

/* `ready` will never be said, and with it not the gaps: the client is where it was before. */
static void abandon_opening(struct session *s)
{
    outbox_drop_messages(&s->out);
    for (uint32_t i = 0; i < s->opening->n_gaps; i++)
        s->opening->gap[i].sub->pos = s->opening->gap[i].since;
}

void session_close(struct session *s, uint16_t code, const char *reason)
{
    if (s->state != SESSION_OPEN || s->quiet)
        return;
    if (s->opening)
        abandon_opening(s);
    s->close_code = code;
    set_state(s, SESSION_CLOSING);
    s->dialect->closing(s, code, reason);
    say_no_more(s);
    session_timer(s, HUB_CLOSE_FLUSH_MS);
    session_mark_dirty(s);
}

void session_close_slow(struct session *s)
{
    if (s->state != SESSION_OPEN)
        return;
    metrics_inc(M_SLOW_CLOSED);
    outbox_drop_messages(&s->out);
    session_close(s, 4001, "too slow");
}

void session_heard(struct session *s)
{
    s->heard_ms = s->hub->timers->now_ms;
}

bool session_wants_reading(const struct session *s)
{
    return s->in_flight < HUB_COMMANDS_IN_FLIGHT && !s->ending;
}

void session_ends_later(struct session *s, uint16_t code, const char *why)
{
    s->end_code = code;
    s->end_why = why;
    s->ending = true;
    if (!s->in_flight)
        session_mark_dirty(s);
}

void session_command_sent(struct session *s)
{
    s->in_flight++;
}

void session_command_done(struct session *s)
{
    BUG_ON(!s->in_flight);
    if (s->in_flight-- == HUB_COMMANDS_IN_FLIGHT / 2 && s->ops->resume_reading)
        s->ops->resume_reading(s);
    if (s->ending && !s->in_flight)
        session_mark_dirty(s);
}
