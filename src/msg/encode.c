/* encode.c - the forms in which a message goes out, each made once.
 *
 * A form is built in a scratch buffer and copied into memory of exactly its size, because it lives
 * as long as the message and a channel may keep thousands. The pointer is published by
 * compare-exchange: no thread waits for another, the loser of a race frees its copy.
 *
 * JSON payloads are forwarded as they came. Binary has no place in SSE and JSON, which are UTF-8,
 * so it goes as base64 there.
 */
#include "crier/codec.h"
#include "crier/json.h"
#include "crier/msg.h"

#include <stdatomic.h>
#include <stdlib.h>

#define WS_FIN 0x80
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

enum msg_form msg_form_packed(enum msg_form plain, enum msg_coding coding)
{
    static const uint8_t packed[CODING_COUNT][FORM_COUNT] = {
        [CODING_DEFLATE] =
            {[FORM_WS_JSON] = FORM_WS_JSON_DEFLATE, [FORM_WS_RAW] = FORM_WS_RAW_DEFLATE},
        [CODING_NARROW] =
            {[FORM_WS_JSON] = FORM_WS_JSON_NARROW, [FORM_WS_RAW] = FORM_WS_RAW_NARROW},
        [CODING_GZIP] = {[FORM_SSE_RAW] = FORM_SSE_RAW_GZIP, [FORM_SSE_JSON] = FORM_SSE_JSON_GZIP},
        [CODING_ZSTD] = {[FORM_SSE_RAW] = FORM_SSE_RAW_ZSTD, [FORM_SSE_JSON] = FORM_SSE_JSON_ZSTD},
    };
    if (coding == CODING_PLAIN)
        return plain;
    BUG_ON(!packed[coding][plain]);
    return (enum msg_form)packed[coding][plain];
}

static struct encoded *encoded_new(struct slice head, struct slice body, size_t id_len)
{
    struct encoded *e = malloc(sizeof *e + head.len + body.len);
    if (!e)
        return NULL;
    e->len = head.len + body.len;
    e->id_len = id_len;
    if (head.len)
        memcpy(e->bytes, head.ptr, head.len);
    if (body.len)
        memcpy(e->bytes + head.len, body.ptr, body.len);
    return e;
}

static struct encoded *new_frame(uint8_t opcode, struct slice payload)
{
    uint8_t header[WS_HEADER_MAX];
    size_t n = ws_frame_header(header, opcode, payload.len);
    return encoded_new(slice_of(header, n), payload, 0);
}

static struct encoded *encode(const struct msg *m, enum msg_form form)
{
    if (form == FORM_WS_RAW)
        return new_frame(m->kind == MSG_BINARY ? WS_OPCODE_BINARY : WS_OPCODE_TEXT, m->payload);

    struct encoded *e = NULL;
    size_t id_len = 0;
    struct buf b, scratch;
    buf_init(&b, SIZE_MAX / 2);
    buf_init(&scratch, SIZE_MAX / 2);
    if (form == FORM_SSE_RAW || form == FORM_SSE_JSON)
        id_len = append_id_line(&b, m);
    if (form == FORM_SSE_RAW) {
        append_sse_raw(&b, m);
    } else if (form == FORM_SSE_JSON) {
        append_sse_json(&b, &scratch, m);
    } else {
        buf_append_str(&b, form == FORM_WS_JSON ? "{\"op\":\"message\"," : "{");
        append_members(&b, m);
    }
    if (!b.failed)
        e = form == FORM_WS_JSON ? new_frame(WS_OPCODE_TEXT, buf_slice(&b))
                                 : encoded_new(SLICE_NONE, buf_slice(&b), id_len);
    buf_release(&scratch);
    buf_release(&b);
    return e;
}

const struct encoded *msg_encoded(struct msg *m, enum msg_form form)
{
    BUG_ON(form >= FORM_COUNT);
    /* acquire pairs with the release below: who sees the pointer sees the bytes */
    struct encoded *have = atomic_load_explicit(&m->form[form], memory_order_acquire);
    if (have)
        return have;
    struct encoded *made = encode(m, form);
    if (!made)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&m->form[form], &have, made, memory_order_acq_rel,
                                                memory_order_acquire))
        return made;
    free(made);
    return have;
}
