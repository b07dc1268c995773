/* ws_fixture.h - a WebSocket object fed by byte arrays in all kinds of pieces; what comes out of it
 * is one text, which must be the same each time. */
#ifndef CRIER_UNIT_WS_FIXTURE_H
#define CRIER_UNIT_WS_FIXTURE_H

#include "crier/msg.h"
#include "crier/ws.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MESSAGE_MAX 100000
#define FRAGMENTS_MAX 50
#define RANDOM_SPLITS 12

static const struct ws_limits limits = {MESSAGE_MAX, FRAGMENTS_MAX};
static bool deflate; /* was agreed on */
static struct ws_pool *pool;
static struct buf in;         /* the input under construction */
static enum ws_role role;     /* of the receiver */
static struct buf out;        /* the outcome */
static const char *stop_on;   /* stop in the callback of this event */
static struct ws *connection; /* for stop_on */
static size_t failed_after;   /* bytes taken in byte-wise feeding when it failed */

/* Outcome */

static void add_outcome(const char *what, struct slice payload)
{
    if (payload.len <= 40) {
        buf_printf(&out, "%s(", what);
        for (size_t i = 0; i < payload.len; i++) {
            char c = payload.ptr[i];
            if (c >= ' ' && c <= '~')
                buf_append_char(&out, c);
            else
                buf_printf(&out, "\\%02x", (unsigned char)c);
        }
        buf_append_str(&out, ") ");
    } else {
        uint64_t h = 14695981039346656037u;
        for (size_t i = 0; i < payload.len; i++)
            h = (h ^ (unsigned char)payload.ptr[i]) * 1099511628211u;
        buf_printf(&out, "%s[%zu %016llx] ", what, payload.len, (unsigned long long)h);
    }
    if (stop_on && strcmp(stop_on, what) == 0)
        ws_stop(connection);
}

static void on_message(void *ctx, bool binary, struct slice payload)
{
    assert_ptr_equal(ctx, &out);
    add_outcome(binary ? "binary" : "text", payload);
}

static void on_ping(void *ctx, struct slice payload)
{
    (void)ctx;
    add_outcome("ping", payload);
}

static void on_pong(void *ctx, struct slice payload)
{
    (void)ctx;
    add_outcome("pong", payload);
}

static void on_close(void *ctx, uint16_t code, struct slice reason)
{
    char what[32];
    (void)ctx;
    snprintf(what, sizeof(what), "close %u", code);
    add_outcome(what, reason);
}

static const struct ws_events events = {on_message, on_ping, on_pong, on_close};

/* Building input */

static uint64_t seed = 1;
static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static void raw(const char *bytes, size_t n)
{
    buf_append(&in, slice_of(bytes, n));
}
#define RAW(literal) raw(literal, sizeof(literal) - 1)

static void payload_bytes(struct slice payload, bool masked)
{
    char key[4] = {0x37, (char)0xfa, 0x21, 0x3d};
    if (masked)
        raw(key, 4);
    for (size_t i = 0; i < payload.len; i++)
        buf_append_char(&in, (char)(payload.ptr[i] ^ (masked ? key[i & 3] : 0)));
}

/* first: FIN, RSV and opcode as they stand on the wire. */
static void frame_n(uint8_t first, struct slice payload)
{
    uint8_t header[10];
    size_t n = ws_frame_header(header, first & 0x0f, payload.len);
    header[0] = first;
    if (role == WS_SERVER)
        header[1] |= 0x80;
    raw((const char *)header, n);
    payload_bytes(payload, role == WS_SERVER);
}

static void frame(uint8_t first, const char *payload)
{
    frame_n(first, slice_str(payload));
}

enum { TEXT = 0x81, BINARY = 0x82, CLOSE = 0x88, PING = 0x89, PONG = 0x8a, LAST = 0x80 };
enum { TEXT_MORE = 1, BINARY_MORE = 2, MORE = 0 };

static void fresh(void)
{
    buf_clear(&in);
    role = WS_SERVER;
    stop_on = NULL;
}

/* Running */

enum split { WHOLE, BYTES, RANDOM };

static size_t piece(enum split how, size_t left)
{
    if (how == WHOLE)
        return left;
    /* mostly small pieces, sometimes past wslay's own 4 KB buffer */
    size_t n = how == BYTES ? 1 : 1 + next_random() % (next_random() % 4 ? 7 : 6000);
    return n < left ? n : left;
}

static void feed(enum split how)
{
    struct ws ws;
    uint16_t code = 0;
    const char *why = NULL;
    connection = &ws;
    buf_clear(&out);
    failed_after = 0;
    ws_init(&ws, role, pool, &events, &limits, &out);
    ws.deflate = deflate;
    for (size_t at = 0; at < in.len;) {
        size_t n = piece(how, in.len - at);
        /* a copy of its own size, so that ASan sees a read past the piece */
        char *copy = malloc(n);
        memcpy(copy, in.data + at, n);
        enum err e = ws_input(&ws, slice_of(copy, n), &code, &why);
        free(copy);
        at += n;
        if (e) {
            assert_non_null(why);
            assert_true(ws.stopped);
            buf_printf(&out, "%s %u ", err_str(e), code);
            failed_after = at;
            break;
        }
    }
    /* after a violation or a Close everything is ignored */
    if (ws.stopped)
        assert_int_equal(ws_input(&ws, SLICE("\x81\x00"), &code, &why), ERR_OK);
    assert_int_equal(ws_pool_held(pool), ws.partial ? 1 : 0);
    if (ws.partial)
        buf_append_str(&out, "incomplete ");
    ws_release(&ws);
    assert_int_equal(ws_pool_held(pool), 0);
    assert_int_equal(ws_pool_inflaters(pool), 0);
    if (out.len > 0)
        out.len--;
    buf_append_char(&out, 0);
}

static void outcome(const char *expected)
{
    assert_false(in.failed);
    feed(WHOLE);
    assert_string_equal(out.data, expected);
    for (int i = 0; i < RANDOM_SPLITS; i++) {
        feed(RANDOM);
        assert_string_equal(out.data, expected);
    }
    feed(BYTES);
    assert_string_equal(out.data, expected);
}

/* The same, and the violation is seen at the n-th byte, not later. */
static void fails_at(size_t n, const char *expected)
{
    outcome(expected);
    assert_int_equal(failed_after, n);
}

static int setup(void **state)
{
    (void)state;
    pool = ws_pool_new();
    buf_init(&in, 1 << 20);
    buf_init(&out, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ws_pool_free(pool);
    buf_release(&in);
    buf_release(&out);
    return 0;
}

#endif
