/* coding.c - what the coding of an event stream asks for besides its messages: notices that are
 * coded too, and the frame of a gzip stream (RFC 1952).
 *
 * Notices are for one client, short and rare: they are stored, not compressed, so that no session
 * needs a compressor. The trailer sums up all plain bytes that were sent, and what will be is known
 * only then (messages may be dropped, id lines be the session's own): the sum moves with the
 * entries that leave the outbox whole, and the trailer is made when it is the first. A stream that
 * is cut has none, which tells the client so.
 */
#include "hub_internal.h"

#include "crier/deflate.h"

#define GZIP_HEADER "\x1f\x8b\x08\0\0\0\0\0\0\xff" /* deflate; no name, time or system */
#define STORED_HEADER_BYTES 5

static enum msg_coding coding_of(const struct session *s)
{
    return msg_form_coding((enum msg_form)s->out.form);
}

static enum err begin(struct session *s)
{
    if (s->coding_begun || coding_of(s) != CODING_GZIP)
        return ERR_OK;
    s->coding_begun = true;
    return outbox_push_framing(&s->out, SLICE(GZIP_HEADER));
}

static enum err append_notice(struct buf *coded, enum msg_coding coding, struct slice a,
                              struct slice b)
{
    msg_append_stored(coded, coding, a);
    msg_append_stored(coded, coding, b);
    return coded->failed ? ERR_NOMEM : ERR_OK;
}

enum err coding_push(struct session *s, struct slice a, struct slice b)
{
    enum msg_coding coding = coding_of(s);
    if (coding != CODING_GZIP && coding != CODING_ZSTD)
        return outbox_push_bytes(&s->out, a, b);
    struct buf coded;
    buf_init(&coded, SIZE_MAX / 2);
    enum err e = begin(s);
    if (!e)
        e = append_notice(&coded, coding, a, b);
    if (!e)
        e = outbox_push_bytes(&s->out, buf_slice(&coded), SLICE_NONE);
    buf_release(&coded);
    return e;
}

enum err coding_open_gate(struct session *s, struct slice bytes)
{
    struct buf coded;
    buf_init(&coded, SIZE_MAX / 2);
    BUG_ON(coding_of(s) == CODING_GZIP && !s->coding_begun);
    enum err e = append_notice(&coded, coding_of(s), bytes, SLICE_NONE);
    if (!e)
        e = outbox_open_gate(&s->out, buf_slice(&coded));
    buf_release(&coded);
    return e;
}

enum err coding_end(struct session *s)
{
    char placeholder[GZIP_TRAILER_BYTES] = {0};
    if (coding_of(s) != CODING_GZIP)
        return ERR_OK;
    enum err e = begin(s);
    if (!e)
        e = outbox_push_framing(&s->out, slice_of(placeholder, sizeof(placeholder)));
    s->coding_ended = !e;
    return e;
}

bool coding_is_trailer(const struct session *s, uint32_t i)
{
    return s->coding_ended && i + 1 == s->out.count;
}

static void put_le32(char *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (char)(v >> (8 * i));
}

void coding_trailer(const struct session *s, char out[GZIP_TRAILER_BYTES])
{
    out[0] = 3; /* the last block: empty, with the fixed codes */
    out[1] = 0;
    put_le32(out + 2, s->sum.crc);
    put_le32(out + 6, s->sum.len);
}

struct plain_sum plain_sum_join(struct plain_sum a, struct plain_sum b)
{
    return (struct plain_sum){crc32_join(a.crc, b.crc, b.len), a.len + b.len};
}

/* Of a notice: stored blocks, one behind the other. */
static struct plain_sum sum_of_blocks(struct slice blocks)
{
    struct plain_sum sum = {0, 0};
    while (blocks.len) {
        const uint8_t *head = (const uint8_t *)blocks.ptr;
        struct slice plain = slice_of(head + STORED_HEADER_BYTES, head[1] | (size_t)head[2] << 8);
        size_t whole = STORED_HEADER_BYTES + plain.len;
        BUG_ON(whole > blocks.len);
        sum.crc = crc32_add(sum.crc, plain);
        sum.len += (uint32_t)plain.len;
        blocks = slice_of(blocks.ptr + whole, blocks.len - whole);
    }
    return sum;
}

struct plain_sum coding_sum(const struct session *s, const struct outbox_item *item,
                            struct slice own_line)
{
    if (coding_of(s) != CODING_GZIP || item->framing)
        return (struct plain_sum){0, 0};
    if (!item->msg)
        return sum_of_blocks(item->bytes);
    if (!own_line.len)
        return item->enc->plain;
    struct plain_sum line = {crc32_add(0, own_line), (uint32_t)own_line.len};
    return plain_sum_join(line, item->enc->rest_plain);
}
