/* ws_message.c - a message out of the payloads of its frames: sizes, inflating, UTF-8.
 *
 * Everything is checked as it arrives, whatever the cuts: the announced length before a byte of it
 * is taken, what is inflated while it is inflated, text byte by byte. So a message costs at most
 * its limit, an inflater, and what DEFLATE may add to what does not get smaller.
 *
 * A message that came in one piece is handed on from where it lies, without a copy.
 */
#include "ws_internal.h"

#define INFLATE_STEP_BYTES 4096

/* How long may what does not get smaller become? Blocks that say nothing are legal in any number;
 * more than this is not honest, and would be work for nothing. */
static uint64_t packed_max(const struct ws_partial *p)
{
    return 2 * (uint64_t)p->ws->limits->message_bytes + 1024;
}

bool ws_message_begin(struct ws_partial *p, enum ws_opcode opcode, bool is_deflated)
{
    struct ws_message *m = &p->message;
    m->is_there = true;
    m->is_text = opcode == WS_TEXT;
    m->is_deflated = is_deflated;
    m->fragments = 0;
    m->packed_bytes = 0;
    utf8_init(&m->utf8);
    return ws_message_next_fragment(p);
}

bool ws_message_next_fragment(struct ws_partial *p)
{
    if (++p->message.fragments > p->ws->limits->fragments)
        return ws_violate(p, ERR_LIMIT, WS_CODE_POLICY, "message in too many fragments");
    return true;
}

static bool too_big(struct ws_partial *p)
{
    return ws_violate(p, ERR_LIMIT, WS_CODE_TOO_BIG, "message too big");
}

static bool out_of_memory(struct ws_partial *p)
{
    return ws_violate(p, ERR_NOMEM, WS_CODE_TRY_LATER, "out of memory");
}

bool ws_message_announced(struct ws_partial *p, uint64_t len)
{
    struct ws_message *m = &p->message;
    /* What came before was within the limits, so neither goes below zero. */
    if (!m->is_deflated)
        return len <= p->ws->limits->message_bytes - m->bytes.len || too_big(p);
    if (len > packed_max(p) - m->packed_bytes)
        return too_big(p);
    m->packed_bytes += len;
    return true;
}

static bool check_text(struct ws_partial *p, struct slice chunk)
{
    if (p->message.is_text && utf8_feed(&p->message.utf8, chunk) != ERR_OK)
        return ws_violate(p, ERR_UTF8, WS_CODE_NOT_UTF8, "text that is not UTF-8");
    return true;
}

static bool end_message(struct ws_partial *p, struct slice payload)
{
    struct ws *ws = p->ws;
    if (p->message.is_text && !utf8_is_complete(&p->message.utf8))
        return ws_violate(p, ERR_UTF8, WS_CODE_NOT_UTF8, "text that ends within a character");
    ws->events->message(ws->ctx, !p->message.is_text, payload);
    ws_message_drop(p);
    return true;
}

static bool add_plain(struct ws_partial *p, struct slice chunk, bool last)
{
    struct ws_message *m = &p->message;
    if (!check_text(p, chunk))
        return false;
    if (last && m->bytes.len == 0)
        return end_message(p, chunk);
    buf_append(&m->bytes, chunk);
    if (m->bytes.failed)
        return out_of_memory(p);
    return !last || end_message(p, buf_slice(&m->bytes));
}

/* Room to inflate into. At the limit one byte aside: what does not fill it was within the limit. */
static bool find_room(struct ws_message *m, char *aside, char **out, size_t *room)
{
    size_t left = m->bytes.max - m->bytes.len;
    *out = aside;
    *room = 1;
    if (!left)
        return true;
    if (m->bytes.cap == m->bytes.len &&
        buf_reserve(&m->bytes, left < INFLATE_STEP_BYTES ? left : INFLATE_STEP_BYTES))
        return false;
    *out = m->bytes.data + m->bytes.len;
    *room = m->bytes.cap - m->bytes.len < left ? m->bytes.cap - m->bytes.len : left;
    return true;
}

static bool inflate_all(struct ws_partial *p, struct slice packed)
{
    struct ws_message *m = &p->message;
    size_t n, room;
    do {
        char aside, *out;
        if (!find_room(m, &aside, &out, &room))
            return out_of_memory(p);
        enum err e = inflater_feed(m->inflater, &packed, out, room, &n);
        if (n && out == &aside)
            return too_big(p);
        m->bytes.len += n;
        if (!check_text(p, slice_of(out, n)))
            return false;
        if (e == ERR_NOMEM)
            return out_of_memory(p);
        if (e)
            return ws_violate(p, e, WS_CODE_NOT_UTF8, "message that does not inflate");
    } while (n == room || packed.len);
    return true;
}

static bool add_deflated(struct ws_partial *p, struct slice chunk, bool last)
{
    struct ws_message *m = &p->message;
    if (!m->inflater)
        m->inflater = ws_pool_try_lend_inflater(p->ws->pool);
    if (!m->inflater)
        return out_of_memory(p);
    if (!inflate_all(p, chunk))
        return false;
    if (!last)
        return true;
    /* RFC 7692 7.2.2: the end that the sender took away. */
    if (!inflate_all(p, slice_of("\0\0\xff\xff", DEFLATE_TAIL_BYTES)))
        return false;
    if (!inflater_is_between_blocks(m->inflater))
        return ws_violate(p, ERR_SYNTAX, WS_CODE_NOT_UTF8, "message that ends within a block");
    return end_message(p, buf_slice(&m->bytes));
}

bool ws_message_add(struct ws_partial *p, struct slice chunk, bool last)
{
    return p->message.is_deflated ? add_deflated(p, chunk, last) : add_plain(p, chunk, last);
}

void ws_message_drop(struct ws_partial *p)
{
    struct ws_message *m = &p->message;
    m->is_there = false;
    buf_clear(&m->bytes);
    if (m->inflater)
        ws_pool_return_inflater(p->ws->pool, m->inflater);
    m->inflater = NULL;
}
