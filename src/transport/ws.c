/* ws.c - WebSocket frames in, messages out (RFC 6455), without a descriptor.
 *
 * wslay takes a frame apart and unmasks it; everything that makes a message of frames is ours
 * (ws_message.c), because wslay's own message layer allocates what a peer announces and is not
 * strict.
 *
 * wslay pulls its input through a callback and may read ahead. The callback (feed) therefore gives
 * it never a byte beyond the frame it is in, and looks at the header bytes as they pass. So a bad
 * header is answered at its first bad byte, before a payload and before any allocation; and
 * between frames wslay's context is empty and can be lent to another connection.
 *
 * Invariant: a ws has a partial only while a frame or a message is incomplete, or during ws_input.
 *
 * Deliberately not here: sending, answering pings, the closing handshake, timeouts, agreeing on
 * extensions.
 */
#include "ws_internal.h"

#include <wslay/wslay.h>

#define MASK_KEY_BYTES 4
#define RSV1 0x40 /* permessage-deflate (RFC 7692 6) */
#define RSV_OTHERS 0x30

/* wslay's read(2): the rest of this frame, as far as it is here. 0 makes it return WANT_READ. */
static ssize_t feed(uint8_t *out, size_t room, int flags, void *user_data);

bool ws_frame_context_init(struct ws_partial *p)
{
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = feed};
    return wslay_frame_context_init(&p->frame, &callbacks, p) == 0;
}

void ws_frame_context_release(struct ws_partial *p)
{
    wslay_frame_context_free(p->frame);
}

/* The header */

bool ws_violate(struct ws_partial *p, enum err error, enum ws_code code, const char *why)
{
    p->error = error;
    p->code = (uint16_t)code;
    p->why = why;
    return false;
}

static bool violate_protocol(struct ws_partial *p, const char *why)
{
    return ws_violate(p, ERR_SYNTAX, WS_CODE_PROTOCOL, why);
}

static uint8_t frame_opcode(const struct ws_partial *p)
{
    return p->header[0] & 0x0f;
}

static bool frame_is_final(const struct ws_partial *p)
{
    return (p->header[0] & 0x80) != 0;
}

static bool frame_is_control(const struct ws_partial *p)
{
    return frame_opcode(p) >= WS_CLOSE;
}

static bool check_data_opcode(struct ws_partial *p, uint8_t opcode)
{
    if (opcode == WS_CONT)
        return p->message.is_there
                   ? ws_message_next_fragment(p)
                   : violate_protocol(p, "continuation frame without a message to continue");
    if (p->message.is_there)
        return violate_protocol(p, "new message before the fragmented one was finished");
    return ws_message_begin(p, (enum ws_opcode)opcode, (p->header[0] & RSV1) != 0);
}

static bool check_reserved_bits(struct ws_partial *p, uint8_t opcode)
{
    if (p->header[0] & RSV_OTHERS)
        return violate_protocol(p, "reserved bit set, but no extension was agreed on");
    if (!(p->header[0] & RSV1))
        return true;
    if (!p->ws->deflate)
        return violate_protocol(p, "compressed, but no extension was agreed on");
    if (opcode != WS_TEXT && opcode != WS_BINARY)
        return violate_protocol(p, "compression begins with a message, nowhere else");
    return true;
}

static bool check_first_byte(struct ws_partial *p)
{
    uint8_t opcode = frame_opcode(p);
    if (!check_reserved_bits(p, opcode))
        return false;
    if (opcode <= WS_BINARY)
        return check_data_opcode(p, opcode);
    if (opcode < WS_CLOSE || opcode > WS_PONG)
        return violate_protocol(p, "reserved opcode");
    if (!frame_is_final(p))
        return violate_protocol(p, "fragmented control frame");
    p->control_len = 0;
    utf8_init(&p->reason_utf8);
    return true;
}

static bool check_payload_len(struct ws_partial *p, uint64_t len)
{
    p->payload_len = p->payload_left = len;
    return frame_is_control(p) || ws_message_announced(p, len);
}

static bool check_second_byte(struct ws_partial *p)
{
    bool masked = (p->header[1] & 0x80) != 0;
    uint8_t len = p->header[1] & 0x7f;
    if (masked != (p->ws->role == WS_SERVER))
        return violate_protocol(p, masked ? "masked frame from a server"
                                          : "unmasked frame from a client");
    if (frame_is_control(p) && len > WS_CONTROL_MAX_BYTES)
        return violate_protocol(p, "control frame longer than 125 bytes");
    if (frame_opcode(p) == WS_CLOSE && len == 1)
        return violate_protocol(p, "Close with half a code");
    return len > 125 || check_payload_len(p, len);
}

static bool check_extended_len(struct ws_partial *p, size_t n_bytes)
{
    uint64_t len = 0;
    for (size_t i = 0; i < n_bytes; i++)
        len = len << 8 | p->header[2 + i];
    if (len >> 63)
        return violate_protocol(p, "payload length with the top bit set");
    if (len < 126 || (n_bytes == 8 && len <= UINT16_MAX))
        return violate_protocol(p, "payload length not in its shortest form");
    return check_payload_len(p, len);
}

static size_t extended_len_bytes(const struct ws_partial *p)
{
    uint8_t len = p->header[1] & 0x7f;
    return len == 126 ? 2 : len == 127 ? 8 : 0;
}

static size_t header_bytes(const struct ws_partial *p)
{
    if (p->header_len < 2)
        return 2;
    return 2 + extended_len_bytes(p) + (p->ws->role == WS_SERVER ? MASK_KEY_BYTES : 0);
}

static bool check_header_byte(struct ws_partial *p, uint8_t byte)
{
    p->header[p->header_len++] = byte;
    if (p->header_len == 1)
        return check_first_byte(p);
    if (p->header_len == 2)
        return check_second_byte(p);
    size_t n = extended_len_bytes(p);
    if (n > 0 && p->header_len == 2 + n)
        return check_extended_len(p, n);
    return true;
}

static ssize_t feed(uint8_t *out, size_t room, int flags, void *user_data)
{
    struct ws_partial *p = user_data;
    size_t n = 0;
    (void)flags;
    while (n < room && n < p->input.len && p->header_len < header_bytes(p)) {
        out[n] = (uint8_t)p->input.ptr[n];
        if (!check_header_byte(p, out[n]))
            return 0;
        n++;
    }
    if (p->header_len >= header_bytes(p) && p->payload_left > 0) {
        size_t payload = p->input.len - n < room - n ? p->input.len - n : room - n;
        if (payload > p->payload_left)
            payload = (size_t)p->payload_left;
        if (payload > 0)
            memcpy(out + n, p->input.ptr + n, payload);
        p->payload_left -= payload;
        n += payload;
    }
    p->input = slice_of(p->input.ptr + n, p->input.len - n);
    return (ssize_t)n;
}

/* The payload */

static uint16_t close_code(const struct ws_partial *p)
{
    return (uint16_t)(p->control[0] << 8 | p->control[1]);
}

/* The code as soon as it is complete, the reason as it arrives. */
static bool check_close(struct ws_partial *p, size_t had)
{
    size_t reason_from = had < 2 ? 2 : had;
    if (p->control_len < 2)
        return true;
    if (had < 2 && !ws_code_is_valid(close_code(p)))
        return violate_protocol(p, "Close with a code that may not be sent");
    if (utf8_feed(&p->reason_utf8,
                  slice_of(p->control + reason_from, p->control_len - reason_from)) != ERR_OK)
        return ws_violate(p, ERR_UTF8, WS_CODE_NOT_UTF8, "Close reason that is not UTF-8");
    return true;
}

static bool end_close(struct ws_partial *p)
{
    struct ws *ws = p->ws;
    if (!utf8_is_complete(&p->reason_utf8))
        return ws_violate(p, ERR_UTF8, WS_CODE_NOT_UTF8,
                          "Close reason that ends within a character");
    bool has_code = p->control_len >= 2;
    ws->events->close(ws->ctx, has_code ? close_code(p) : (uint16_t)WS_CODE_NO_STATUS,
                      has_code ? slice_of(p->control + 2, p->control_len - 2u) : SLICE_NONE);
    ws_stop(ws);
    return true;
}

static bool take_control(struct ws_partial *p, struct slice chunk, bool last)
{
    struct ws *ws = p->ws;
    size_t had = p->control_len;
    if (chunk.len > 0)
        memcpy(p->control + had, chunk.ptr, chunk.len);
    p->control_len = (uint8_t)(had + chunk.len);
    if (frame_opcode(p) == WS_CLOSE)
        return check_close(p, had) && (!last || end_close(p));
    if (!last)
        return true;
    struct slice payload = slice_of(p->control, p->control_len);
    if (frame_opcode(p) == WS_PING)
        ws->events->ping(ws->ctx, payload);
    else
        ws->events->pong(ws->ctx, payload);
    return true;
}

/* One step of wslay; false when it wants more input than there is, or at a violation. */
static bool receive(struct ws_partial *p)
{
    struct wslay_frame_iocb io;
    memset(&io, 0, sizeof(io));
    ssize_t n = wslay_frame_recv(p->frame, &io);
    if (n < 0) {
        if (n != WSLAY_ERR_WANT_READ)
            violate_protocol(p, "malformed frame");
        return false;
    }
    /* feed gives wslay only what it hands on at once: nothing left to feed means nothing left. */
    bool last = p->payload_left == 0;
    struct slice chunk = slice_of(io.data, io.data_length);
    bool ok = frame_is_control(p) ? take_control(p, chunk, last)
                                  : ws_message_add(p, chunk, last && frame_is_final(p));
    if (!ok || !last)
        return ok;
    p->header_len = 0;
    if (!p->message.is_there)
        ws_pool_begin_again(p->ws->pool, p);
    return true;
}

/* The connection */

void ws_init(struct ws *ws, enum ws_role role, struct ws_pool *pool, const struct ws_events *events,
             const struct ws_limits *limits, void *ctx)
{
    memset(ws, 0, sizeof(*ws));
    ws->role = (uint8_t)role;
    ws->pool = pool;
    ws->events = events;
    ws->limits = limits;
    ws->ctx = ctx;
}

static void give_back(struct ws *ws)
{
    struct ws_partial *p = ws->partial;
    ws->partial = NULL;
    if (p)
        ws_pool_give_back(ws->pool, p);
}

void ws_release(struct ws *ws)
{
    BUG_ON(ws->partial && ws->partial->in_input);
    give_back(ws);
}

void ws_stop(struct ws *ws)
{
    ws->stopped = true;
    if (ws->partial && !ws->partial->in_input)
        give_back(ws);
}

void ws_begin_again(struct ws *ws)
{
    if (ws->partial)
        ws_pool_begin_again(ws->pool, ws->partial);
}

enum err ws_input(struct ws *ws, struct slice bytes, uint16_t *code, const char **why)
{
    if (ws->stopped || bytes.len == 0)
        return ERR_OK;
    if (!ws->partial)
        ws->partial = ws_pool_try_take(ws->pool, ws);
    struct ws_partial *p = ws->partial;
    if (!p) {
        ws->stopped = true;
        *code = WS_CODE_TRY_LATER;
        *why = "out of memory";
        return ERR_NOMEM;
    }
    p->input = bytes;
    p->in_input = true;
    while (!ws->stopped && receive(p))
        ;
    p->in_input = false;
    enum err error = p->error;
    if (error) {
        ws->stopped = true;
        *code = p->code;
        *why = p->why;
    }
    if (ws->stopped || (p->header_len == 0 && !p->message.is_there))
        give_back(ws);
    return error;
}
