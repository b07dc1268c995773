/* pull.c - what goes out to one client: entries of its outbox,
 * taken by its transport.
 *
 * Invariant: what a client was told it has (sub->pos) moves only
 * when an entry is handed to the transport whole (session_pop), so
 * a cursor is never ahead of the bytes; and an entry that is half
 * sent looks the same when it is asked for again.
 */
#include "hub_internal.h"

#include "crier/metrics.h"

static struct sub *sub_of(const struct session *s, const struct msg *m)
{
    for (struct sub *sub = s->subs; sub; sub = sub->next)
        if (sub->audience->node.hash == m->channel_hash)
            return sub;
    return NULL;
}

static enum metric delivered_metric(const struct session *s)
{
    switch (s->dialect->transport[0]) {
    case 's':
        return M_DELIVERED_SSE;
    case 'w':
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
    enum msg_form plain = msg_form_plain((enum msg_form)s->out.form);
    return s->n_subs > 1 && (plain == FORM_SSE_RAW || plain == FORM_SSE_JSON);
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

/* What one entry looks like to this client. */
struct view {
    struct slice line; /* the session's own id line, coded; else empty */
    struct slice bytes;
    struct plain_sum sum;
};

/* n bytes of the hub's scratch space are taken; NULL when there are not so many. */
static char *take_scratch(struct hub *h, size_t n)
{
    if (buf_reserve(&h->lines, n))
        return NULL;
    char *at = h->lines.data + h->lines.len;
    h->lines.len += n;
    return at;
}

static bool view_trailer(struct session *s, uint32_t i, struct view *v)
{
    char *trailer = i == 0 ? take_scratch(s->hub, GZIP_TRAILER_BYTES) : NULL;
    if (!trailer)
        return false; /* its turn comes when all else has gone */
    coding_trailer(s, trailer);
    v->bytes = slice_of(trailer, GZIP_TRAILER_BYTES);
    return true;
}

/* "id: CURSOR\n" of positions `pos`; false when the scratch space is full. */
static bool view_id_line(struct session *s, const struct position *pos,
                         const struct outbox_item *item, struct view *v)
{
    char plain[CURSOR_MAX_ENTRIES * (CURSOR_ENTRY_MAX_BYTES + 1) + 8] = "id: ";
    struct buf *lines = &s->hub->lines;
    size_t before = lines->len, n = 4;
    n += format_positions(s, pos, plain + n, sizeof(plain) - n - 1);
    plain[n++] = '\n';
    msg_append_stored(lines, msg_form_coding((enum msg_form)s->out.form), slice_of(plain, n));
    if (lines->failed) {
        lines->failed = false;
        lines->len = before;
        return false;
    }
    v->line = slice_of(lines->data + before, lines->len - before);
    v->bytes = slice_of(item->bytes.ptr + item->enc->id_len, item->bytes.len - item->enc->id_len);
    v->sum = coding_sum(s, item, slice_of(plain, n));
    return true;
}

/* False: not now. `pos` is NULL when the messages' own id lines go out. */
static bool view_entry(struct session *s, uint32_t i, const struct outbox_item *item,
                       struct position *pos, struct view *v)
{
    *v = (struct view){.line = SLICE_NONE, .bytes = item->bytes};
    if (coding_is_trailer(s, i))
        return view_trailer(s, i, v);
    if (pos && item->msg) {
        positions_after(s, pos, item->msg);
        return view_id_line(s, pos, item, v);
    }
    v->sum = coding_sum(s, item, SLICE_NONE);
    return true;
}

int session_iov(struct session *s, struct iovec *iov, int max, size_t max_bytes)
{
    struct iov_fill f = {iov, 0, max, 0, max_bytes, s->out.head_sent};
    struct position pos[CURSOR_MAX_ENTRIES];
    bool own = own_id_line(s);
    if (own)
        positions_now(s, pos);
    buf_clear(&s->hub->lines);
    struct outbox_item item;
    for (uint32_t i = 0; i < HUB_IOV_ENTRIES && outbox_item(&s->out, i, &item); i++) {
        struct view v;
        if (f.used + 2 > f.max || f.bytes >= f.max_bytes ||
            !view_entry(s, i, &item, own ? pos : NULL, &v))
            break;
        s->hub->iov_len[i] = (uint32_t)(v.line.len + v.bytes.len);
        s->hub->iov_sum[i] = v.sum;
        fill_part(&f, v.line);
        fill_part(&f, v.bytes);
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
        if (s->coding_begun)
            s->sum = plain_sum_join(s->sum, s->hub->iov_sum[i]);
        session_pop(s);
    }
    session_continue(s);
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
