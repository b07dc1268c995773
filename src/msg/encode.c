/* encode.c - the forms in which a message goes out, each made once.
 *
 * A form is built in a scratch buffer and copied into memory of exactly its size, because it lives
 * as long as the message and a channel may keep thousands. The pointer is published by
 * compare-exchange: no thread waits for another, the loser of a race frees its copy.
 *
 * JSON payloads are forwarded as they came. Binary has no place in SSE and JSON, which are UTF-8,
 * so it goes as base64 there.
 *
 * Packed forms (pack.c) are made of the same plain bytes, which are not kept for it. A WebSocket
 * message that is not packed is the very frame of the plain form: both places of the message name
 * one allocation.
 */
#include "msg_internal.h"

#include "crier/codec.h"
#include "crier/deflate.h"
#include "crier/json.h"

#include <stdatomic.h>
#include <stdlib.h>

#define WS_FIN 0x80
#define WS_RSV1 0x40 /* compressed (RFC 7692) */
#define WS_OPCODE_TEXT 1
#define WS_OPCODE_BINARY 2
#define WS_HEADER_MAX 10

size_t ws_frame_header(uint8_t out[10], uint8_t opcode, uint64_t payload_len)
{
    out[0] = (uint8_t)(WS_FIN | opcode);
    if (payload_len < 126) {
        out[1] = (uint8_t)payload_len;
        return 2;
    }
    size_t n = payload_len <= UINT16_MAX ? 2 : 8;
    out[1] = n == 2 ? 126 : 127;
    for (size_t i = 0; i < n; i++)
        out[2 + i] = (uint8_t)(payload_len >> (8 * (n - 1 - i)));
    return 2 + n;
}

/* Cuts the first line, and its end if it has one, off *rest; true when it had an end. */
static bool cut_line(struct slice *rest, struct slice *line)
{
    size_t n = 0;
    while (n < rest->len && rest->ptr[n] != '\r' && rest->ptr[n] != '\n')
        n++;
    *line = slice_of(rest->ptr, n);
    if (n == rest->len)
        return false;
    size_t end = rest->ptr[n] == '\r' && n + 1 < rest->len && rest->ptr[n + 1] == '\n' ? 2 : 1;
    *rest = slice_of(rest->ptr + n + end, rest->len - n - end);
    return true;
}

void sse_append_data(struct buf *b, struct slice data)
{
    struct slice line;
    bool more;
    do {
        more = cut_line(&data, &line);
        buf_append(b, SLICE("data: "));
        buf_append(b, line);
        buf_append_char(b, '\n');
    } while (more);
}

static void append_member(struct buf *b, const char *name, struct slice text)
{
    if (text.len == 0)
        return;
    buf_append_str(b, name);
    json_append_string(b, text);
}

static void append_data(struct buf *b, const struct msg *m)
{
    buf_append(b, SLICE(",\"data\":"));
    switch ((enum msg_kind)m->kind) {
    case MSG_JSON:
        buf_append(b, m->payload);
        break;
    case MSG_TEXT:
        json_append_string(b, m->payload);
        break;
    case MSG_BINARY:
        buf_append_char(b, '"');
        base64_append(b, m->payload);
        buf_append(b, SLICE("\",\"encoding\":\"base64\""));
        break;
    }
}

/* The members of the envelope and the closing brace. */
static void append_members(struct buf *b, const struct msg *m)
{
    buf_append(b, SLICE("\"channel\":"));
    json_append_string(b, m->channel);
    buf_append(b, SLICE(",\"id\":\""));
    cursor_append(b, m->channel_tag, m->pos);
    buf_append_char(b, '"');
    append_member(b, ",\"event\":", m->event);
    append_data(b, m);
    buf_append(b, SLICE(",\"time\":"));
    buf_append_u64(b, m->time_ms);
    append_member(b, ",\"user\":", m->user);
    if (m->client) {
        char id[CLIENT_ID_BYTES];
        client_id_text(m->client, id);
        append_member(b, ",\"client\":", slice_str(id));
    }
    buf_append_char(b, '}');
}

static size_t append_id_line(struct buf *b, const struct msg *m)
{
    buf_append(b, SLICE("id: "));
    cursor_append(b, m->channel_tag, m->pos);
    buf_append_char(b, '\n');
    return b->len;
}

static void append_sse_raw(struct buf *b, const struct msg *m)
{
    if (m->event.len) {
        buf_append(b, SLICE("event: "));
        buf_append(b, m->event);
        buf_append_char(b, '\n');
    }
    if (m->kind == MSG_BINARY) {
        buf_append(b, SLICE("data: "));
        base64_append(b, m->payload);
        buf_append_char(b, '\n');
    } else {
        sse_append_data(b, m->payload);
    }
    buf_append_char(b, '\n');
}

/* `scratch` gets the envelope, `b` its data lines: the payload may hold line ends. */
static void append_sse_json(struct buf *b, struct buf *scratch, const struct msg *m)
{
    buf_append_char(scratch, '{');
    append_members(scratch, m);
    sse_append_data(b, buf_slice(scratch));
    buf_append_char(b, '\n');
    b->failed |= scratch->failed;
}

static struct encoded *encoded_new(struct slice head, struct slice body, size_t id_len)
{
    struct encoded *e = malloc(sizeof *e + head.len + body.len);
    if (!e)
        return NULL;
    memset(e, 0, sizeof *e);
    e->len = head.len + body.len;
    e->id_len = id_len;
    if (head.len)
        memcpy(e->bytes, head.ptr, head.len);
    if (body.len)
        memcpy(e->bytes + head.len, body.ptr, body.len);
    return e;
}

static bool is_ws(enum msg_form plain)
{
    return plain == FORM_WS_RAW || plain == FORM_WS_JSON;
}

/* What goes into a frame, or the event; of an event, *id_len is that of its first line. */
static void append_body(struct buf *b, const struct msg *m, enum msg_form plain, size_t *id_len)
{
    struct buf scratch;
    buf_init(&scratch, SIZE_MAX / 2);
    *id_len = plain == FORM_SSE_RAW || plain == FORM_SSE_JSON ? append_id_line(b, m) : 0;
    if (plain == FORM_SSE_RAW) {
        append_sse_raw(b, m);
    } else if (plain == FORM_SSE_JSON) {
        append_sse_json(b, &scratch, m);
    } else {
        buf_append_str(b, plain == FORM_WS_JSON ? "{\"op\":\"message\"," : "{");
        append_members(b, m);
    }
    buf_release(&scratch);
}

static struct encoded *new_frame(const struct msg *m, enum msg_form plain, uint8_t rsv,
                                 struct slice payload)
{
    uint8_t header[WS_HEADER_MAX];
    bool binary = plain == FORM_WS_RAW && m->kind == MSG_BINARY;
    size_t n = ws_frame_header(header, binary ? WS_OPCODE_BINARY : WS_OPCODE_TEXT, payload.len);
    header[0] |= rsv;
    return encoded_new(slice_of(header, n), payload, 0);
}

/* NULL: it is not worth it. */
static struct encoded *new_packed_frame(const struct msg *m, enum msg_form form,
                                        struct slice payload)
{
    struct encoded *e = NULL;
    struct buf packed;
    buf_init(&packed, SIZE_MAX / 2);
    if (pack_append(&packed, msg_form_coding(form), payload))
        e = new_frame(m, msg_form_plain(form), WS_RSV1, buf_slice(&packed));
    buf_release(&packed);
    return e;
}

/* The id line stays apart: a stream of several channels has a line of its own instead. */
static struct encoded *new_packed_event(const struct msg *m, enum msg_coding coding,
                                        struct slice id, struct slice rest)
{
    struct encoded *e = NULL;
    struct buf packed;
    buf_init(&packed, SIZE_MAX / 2);
    msg_append_stored(&packed, coding, id);
    size_t id_len = packed.len;
    if (!pack_wants(m) || !pack_append(&packed, coding, rest))
        msg_append_stored(&packed, coding, rest);
    if (!packed.failed)
        e = encoded_new(SLICE_NONE, buf_slice(&packed), id_len);
    if (e && coding == CODING_GZIP) {
        e->rest_plain = (struct plain_sum){crc32_add(0, rest), (uint32_t)rest.len};
        e->plain = (struct plain_sum){crc32_join(crc32_add(0, id), e->rest_plain.crc, rest.len),
                                      (uint32_t)(id.len + rest.len)};
    }
    buf_release(&packed);
    return e;
}

static struct encoded *encode_body(const struct msg *m, enum msg_form form, struct slice body,
                                   size_t id_len)
{
    enum msg_form plain = msg_form_plain(form);
    if (form == plain)
        return is_ws(form) ? new_frame(m, form, 0, body) : encoded_new(SLICE_NONE, body, id_len);
    if (is_ws(plain))
        return new_packed_frame(m, form, body);
    return new_packed_event(m, msg_form_coding(form), slice_of(body.ptr, id_len),
                            slice_of(body.ptr + id_len, body.len - id_len));
}

static struct encoded *encode(const struct msg *m, enum msg_form form)
{
    if (msg_form_plain(form) == FORM_WS_RAW)
        return encode_body(m, form, m->payload, 0);
    struct encoded *e = NULL;
    size_t id_len;
    struct buf b;
    buf_init(&b, SIZE_MAX / 2);
    append_body(&b, m, msg_form_plain(form), &id_len);
    if (!b.failed)
        e = encode_body(m, form, buf_slice(&b), id_len);
    buf_release(&b);
    return e;
}

/* A form of its own, or for a WebSocket the plain one, which stays owned by its own place. */
static struct encoded *make(struct msg *m, enum msg_form form)
{
    bool may_share = is_ws(msg_form_plain(form)) && form != msg_form_plain(form);
    struct encoded *e = may_share && !pack_wants(m) ? NULL : encode(m, form);
    if (e || !may_share)
        return e;
    return (struct encoded *)(uintptr_t)msg_encoded(m, msg_form_plain(form));
}

void encode_free(struct msg *m, enum msg_form form, struct encoded *e)
{
    enum msg_form plain = msg_form_plain(form);
    /* relaxed: e was made after the plain form was seen, or does not depend on it */
    if (form == plain || e != atomic_load_explicit(&m->form[plain], memory_order_relaxed))
        free(e);
}

const struct encoded *msg_encoded(struct msg *m, enum msg_form form)
{
    BUG_ON(form >= FORM_COUNT);
    /* acquire pairs with the release below: who sees the pointer sees the bytes */
    struct encoded *have = atomic_load_explicit(&m->form[form], memory_order_acquire);
    if (have)
        return have;
    struct encoded *made = make(m, form);
    if (!made)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&m->form[form], &have, made, memory_order_acq_rel,
                                                memory_order_acquire))
        return made;
    encode_free(m, form, made);
    return have;
}
