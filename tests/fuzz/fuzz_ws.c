/* fuzz_ws.c - bytes from anybody into the WebSocket object (libFuzzer; `make fuzz`).
 *
 * Input: one byte of enum flags, then what comes over the wire. COOKED: not the wire itself but
 * records of first header byte, length and payload, which become well-formed frames, so that the
 * fuzzer gets past masks and lengths; with PACKED payloads are deflated on the way.
 *
 * The same bytes are fed whole, one by one, and in pieces that depend on them. What comes out must
 * be the same, text must be UTF-8, nothing may be over the limit, and at the end the pool has
 * everything back.
 */
#include "crier/deflate.h"
#include "crier/msg.h"
#include "crier/ws.h"

#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_MAX 3000
#define FRAGMENTS_MAX 20
#define WIRE_MAX_BYTES (256 * 1024)

enum flags { DEFLATE = 1, CLIENT = 2, COOKED = 4, PACKED = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct ws_limits limits = {MESSAGE_MAX, FRAGMENTS_MAX};
static struct ws_pool *pool;
static uint64_t seed;

/* What happened, as one text. */
static void note(struct buf *log, const char *what, uint16_t code, struct slice payload)
{
    buf_printf(log, "%s %u %zu ", what, code, payload.len);
    buf_append(log, payload);
    buf_append_char(log, '\n');
}

static void on_message(void *ctx, bool binary, struct slice payload)
{
    BUG_ON(payload.len > MESSAGE_MAX);
    BUG_ON(!binary && !utf8_is_valid(payload));
    note(ctx, binary ? "binary" : "text", 0, payload);
}

static void on_ping(void *ctx, struct slice payload)
{
    BUG_ON(payload.len > 125);
    note(ctx, "ping", 0, payload);
}

static void on_pong(void *ctx, struct slice payload)
{
    BUG_ON(payload.len > 125);
    note(ctx, "pong", 0, payload);
}

static void on_close(void *ctx, uint16_t code, struct slice reason)
{
    BUG_ON(reason.len > 123 || !utf8_is_valid(reason));
    BUG_ON(code != WS_CODE_NO_STATUS && !ws_code_is_valid(code));
    note(ctx, "close", code, reason);
}

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

enum split { WHOLE, BYTES, RANDOM };

static size_t piece(enum split how, size_t left)
{
    size_t n = how == WHOLE ? left : how == BYTES ? 1 : 1 + next_random() % 100;
    return n < left ? n : left;
}

/* A copy of its own size, so that ASan sees a read past the piece. */
static enum err input(struct ws *ws, struct slice bytes, uint16_t *code, const char **why)
{
    char *copy = malloc(bytes.len);
    if (!copy)
        abort();
    memcpy(copy, bytes.ptr, bytes.len);
    enum err e = ws_input(ws, slice_of(copy, bytes.len), code, why);
    free(copy);
    return e;
}

static void run(uint8_t flags, struct slice wire, enum split how, struct buf *log)
{
    static const struct ws_events events = {on_message, on_ping, on_pong, on_close};
    struct ws ws;
    enum err e = ERR_OK;
    ws_init(&ws, flags & CLIENT ? WS_CLIENT : WS_SERVER, pool, &events, &limits, log);
    ws.deflate = (flags & DEFLATE) != 0;
    while (wire.len && !e) {
        uint16_t code = 0;
        const char *why = NULL;
        size_t n = piece(how, wire.len);
        e = input(&ws, slice_of(wire.ptr, n), &code, &why);
        wire = slice_of(wire.ptr + n, wire.len - n);
        BUG_ON(ws_pool_held(pool) != (ws.partial ? 1 : 0));
        BUG_ON(ws_pool_inflaters(pool) > (ws.partial && ws.deflate ? 1 : 0));
        if (e) {
            BUG_ON(!ws.stopped || ws.partial || !why || !ws_code_is_valid(code));
            note(log, err_str(e), code, slice_str(why));
        }
    }
    note(log, ws.partial ? "incomplete" : "between", 0, SLICE_NONE);
    ws_release(&ws);
    BUG_ON(ws_pool_held(pool) || ws_pool_inflaters(pool));
}

static void add_frame(struct buf *wire, uint8_t flags, uint8_t first, struct slice payload)
{
    uint8_t header[10], key[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t n = ws_frame_header(header, first & 15, payload.len);
    header[0] = first;
    if (!(flags & CLIENT))
        header[1] |= 0x80;
    buf_append(wire, slice_of(header, n));
    if (!(flags & CLIENT))
        buf_append(wire, slice_of(key, 4));
    for (size_t i = 0; i < payload.len; i++)
        buf_append_char(wire,
                        flags & CLIENT ? payload.ptr[i] : (char)(payload.ptr[i] ^ key[i & 3]));
}

static void cook(struct buf *wire, uint8_t flags, struct slice in)
{
    while (in.len >= 2) {
        uint8_t first = (uint8_t)in.ptr[0];
        size_t n = (uint8_t)in.ptr[1];
        n = n < in.len - 2 ? n : in.len - 2;
        struct slice payload = slice_of(in.ptr + 2, n);
        in = slice_of(payload.ptr + n, in.len - 2 - n);
        if (!(flags & PACKED)) {
            add_frame(wire, flags, first, payload);
            continue;
        }
        struct buf packed;
        buf_init(&packed, 64 * 1024);
        BUG_ON(deflate_append(&packed, payload, DEFLATE_WIDE));
        add_frame(wire, flags, first, slice_of(packed.data, packed.len - DEFLATE_TAIL_BYTES));
        buf_release(&packed);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf wire, log[3];
    if (!size)
        return 0;
    if (!pool)
        pool = ws_pool_new();
    struct slice in = slice_of(data + 1, size - 1);
    buf_init(&wire, WIRE_MAX_BYTES);
    if (data[0] & COOKED)
        cook(&wire, data[0], in);
    else
        buf_append(&wire, in);
    seed = size;
    for (size_t i = 0; i < size; i++)
        seed = seed * 31 + data[i];
    for (int how = WHOLE; how <= RANDOM; how++) {
        buf_init(&log[how], SIZE_MAX);
        run(data[0], buf_slice(&wire), (enum split)how, &log[how]);
        BUG_ON(log[how].failed || !slice_eq(buf_slice(&log[how]), buf_slice(&log[WHOLE])));
    }
    for (int how = WHOLE; how <= RANDOM; how++)
        buf_release(&log[how]);
    buf_release(&wire);
    return 0;
}
