/* session.c - the life of one client on one transport.
 *
 * Invariants: a session's state changes only in set_state; what a client was told it has (sub->pos)
 * moves only when an entry is handed to the transport whole (session_pop), so a cursor is never
 * ahead of the bytes. A session that is too slow is closed with its cursor, not thinned: a client
 * that can resume loses nothing, and a silent hole is worse than a visible disconnect.
 *
 * Subscribing and catching up are in subscribe.c.
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
    if (outbox_push_bytes(&s->out, a, b))
        session_cut(s);
    session_mark_dirty(s);
}

void session_push_ready(struct session *s, struct slice bytes)
{
    if (s->state == SESSION_CLOSED || s->cut)
        return;
    if (outbox_open_gate(&s->out, bytes))
        session_cut(s);
    session_mark_dirty(s);
}

/* --- closing --- */

void session_finish(struct session *s)
{
    if (s->state != SESSION_OPEN)
        return;
    set_state(s, SESSION_CLOSING);
    if (s->opening) /* the gate never opens now: what waits behind it cannot be sent */
        outbox_drop_messages(&s->out);
    s->quiet = true;
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
    s->quiet = true;
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

/* --- what goes out --- */

static struct sub *sub_of(const struct session *s, const struct msg *m)
{
    for (struct sub *sub = s->subs; sub; sub = sub->next)
        if (sub->audience->node.hash == m->channel_hash)
            return sub;
    return NULL;
}

static enum metric delivered_metric(const struct session *s)
{
    switch (clients_metric(s)) {
    case M_CLIENTS_SSE:
        return M_DELIVERED_SSE;
    case M_CLIENTS_WS:
        return M_DELIVERED_WS;
    default:
        return M_DELIVERED_POLL;
    }
}

void session_pop(struct session *s)
{
    struct outbox_item item;
    BUG_ON(!outbox_item(&s->out, 0, &item));
    if (item.msg) {
        struct sub *sub = s->head_left ? NULL : sub_of(s, item.msg);
        if (sub)
            sub->pos = item.msg->pos;
        s->head_left = false;
        metrics_inc(delivered_metric(s));
    }
    outbox_pop(&s->out);
}

/* Appends the cursor of positions `pos`, one for each subscription in order. */
static size_t format_positions(const struct session *s, const struct position *pos, char *out,
                               size_t cap)
{
    size_t n = 0, i = 0;
    for (const struct sub *sub = s->subs; sub; sub = sub->next, i++) {
        if (n + CURSOR_ENTRY_MAX_BYTES + 1 > cap)
            return 0;
        if (i)
            out[n++] = '~';
        n += cursor_format(out + n, sub->audience->tag, pos[i]);
    }
    return n;
}

static size_t positions_now(const struct session *s, struct position *pos)
{
    size_t n = 0;
    for (const struct sub *sub = s->subs; sub; sub = sub->next)
        pos[n++] = sub->pos;
    return n;
}

static void positions_after(const struct session *s, struct position *pos, const struct msg *m)
{
    size_t i = 0;
    for (const struct sub *sub = s->subs; sub; sub = sub->next, i++)
        if (sub->audience->node.hash == m->channel_hash)
            pos[i] = m->pos;
}

static bool own_id_line(const struct session *s)
{
    return s->n_subs > 1 && (s->out.form == FORM_SSE_RAW || s->out.form == FORM_SSE_JSON);
}

struct iov_fill {
    struct iovec *iov;
    int used, max;
    size_t bytes, max_bytes;
    size_t skip; /* already written part of the first entry */
};

static void fill_part(struct iov_fill *f, struct slice part)
{
    if (f->skip >= part.len) {
        f->skip -= part.len;
        return;
    }
    f->iov[f->used].iov_base = (void *)(uintptr_t)(part.ptr + f->skip);
    f->iov[f->used].iov_len = part.len - f->skip;
    f->bytes += part.len - f->skip;
    f->used++;
    f->skip = 0;
}

/* "id: CURSOR\n" in the hub's scratch space; empty when that is full. */
static struct slice id_line(struct session *s, const struct position *pos, size_t *line_used)
{
    char *line = s->hub->lines + *line_used;
    size_t room = HUB_LINE_BYTES - *line_used;
    if (room < 8)
        return SLICE_NONE;
    memcpy(line, "id: ", 4);
    size_t n = format_positions(s, pos, line + 4, room - 5);
    if (!n)
        return SLICE_NONE;
    line[4 + n] = '\n';
    *line_used += n + 5;
    return slice_of(line, n + 5);
}

int session_iov(struct session *s, struct iovec *iov, int max, size_t max_bytes)
{
    struct iov_fill f = {iov, 0, max, 0, max_bytes, s->out.head_sent};
    struct position pos[CURSOR_MAX_ENTRIES];
    bool own = own_id_line(s);
    size_t line_used = 0;
    if (own)
        positions_now(s, pos);
    struct outbox_item item;
    for (uint32_t i = 0; i < HUB_IOV_ENTRIES && outbox_item(&s->out, i, &item); i++) {
        if (f.used + 2 > f.max || f.bytes >= f.max_bytes)
            break;
        struct slice line = SLICE_NONE;
        if (own && item.msg) {
            positions_after(s, pos, item.msg);
            line = id_line(s, pos, &line_used);
            if (!line.len)
                break;
            item.bytes = slice_of(item.bytes.ptr + item.id_len, item.bytes.len - item.id_len);
        }
        s->hub->iov_len[i] = (uint32_t)(line.len + item.bytes.len);
        fill_part(&f, line);
        fill_part(&f, item.bytes);
    }
    return f.used;
}

void session_advance(struct session *s, size_t n)
{
    metrics_add(M_SENT_BYTES, (int64_t)n);
    s->sent_ms = s->hub->timers->now_ms;
    for (uint32_t i = 0; n; i++) {
        size_t left = s->hub->iov_len[i] - s->out.head_sent;
        if (n < left) {
            s->out.head_sent += (uint32_t)n;
            break;
        }
        n -= left;
        session_pop(s);
    }
    session_continue(s);
}

void session_heard(struct session *s)
{
    s->heard_ms = s->hub->timers->now_ms;
}

bool session_wants_reading(const struct session *s)
{
    return s->in_flight < HUB_COMMANDS_IN_FLIGHT && !s->ending;
}

void session_ends_later(struct session *s)
{
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

/* --- cursors --- */

static void append_positions(const struct session *s, const struct position *pos, struct buf *out)
{
    size_t i = 0;
    bool first = true;
    for (const struct sub *sub = s->subs; sub; sub = sub->next, i++) {
        if (!pos[i].epoch)
            continue;
        if (!first)
            buf_append_char(out, '~');
        first = false;
        cursor_append(out, sub->audience->tag, pos[i]);
    }
}

void session_cursor(const struct session *s, struct buf *out)
{
    struct position pos[CURSOR_MAX_ENTRIES];
    positions_now(s, pos);
    append_positions(s, pos, out);
}

void session_tail_cursor(const struct session *s, struct buf *out)
{
    struct position pos[CURSOR_MAX_ENTRIES];
    positions_now(s, pos);
    struct outbox_item item;
    for (uint32_t i = s->head_left; outbox_item(&s->out, i, &item); i++)
        if (item.msg)
            positions_after(s, pos, item.msg);
    append_positions(s, pos, out);
}
