/* ws_common.c - what all WebSocket dialects share: frames, pings, the Close. */
#include "crier/dialects.h"
#include "crier/metrics.h"

void ws_push(struct session *s, enum ws_opcode opcode, struct slice payload)
{
    uint8_t header[10];
    size_t n = ws_frame_header(header, (uint8_t)opcode, payload.len);
    session_push(s, slice_of(header, n), payload);
}

void ws_frame_append(struct buf *b, enum ws_opcode opcode, struct slice payload)
{
    uint8_t header[10];
    buf_append(b, slice_of(header, ws_frame_header(header, (uint8_t)opcode, payload.len)));
    buf_append(b, payload);
}

void ws_tick(struct session *s)
{
    const struct hub_options *o = hub_options(s->hub);
    uint64_t silent_ms = hub_timers(s->hub)->now_ms - s->heard_ms;
    if (silent_ms >= o->ws_ping_ms + o->ws_pong_ms) {
        metrics_inc(M_DEAD_CLOSED);
        session_gone(s);
    } else if (silent_ms >= o->ws_ping_ms) {
        ws_push(s, WS_PING, SLICE_NONE);
        session_timer(s, o->ws_ping_ms + o->ws_pong_ms - silent_ms);
    } else {
        session_timer(s, o->ws_ping_ms - silent_ms);
    }
}

/* At most max bytes, not cutting a character. */
static struct slice utf8_cut(struct slice s, size_t max)
{
    if (s.len <= max)
        return s;
    size_t n = max;
    while (n && ((unsigned char)s.ptr[n] & 0xc0) == 0x80)
        n--;
    return slice_of(s.ptr, n);
}

void ws_push_close(struct session *s, uint16_t code, struct slice reason)
{
    char payload[125];
    size_t n = 0;
    if (code != WS_CODE_NO_STATUS) {
        payload[n++] = (char)(code >> 8);
        payload[n++] = (char)(code & 0xff);
        struct slice cut = utf8_cut(reason, 123);
        if (cut.len)
            memcpy(payload + n, cut.ptr, cut.len);
        n += cut.len;
    }
    ws_push(s, WS_CLOSE, slice_of(payload, n));
}

void ws_end(struct session *s, uint16_t code, const char *why)
{
    if (s->in_flight)
        session_ends_later(s, code, why);
    else
        session_close(s, code, why);
}

void ws_closing(struct session *s, uint16_t code, const char *reason)
{
    struct buf cursor;
    buf_init(&cursor, 4096);
    if (code == WS_CODE_TOO_SLOW && s->n_subs)
        session_tail_cursor(s, &cursor);
    bool fits = !cursor.failed && cursor.len && cursor.len <= 123;
    ws_push_close(s, code, fits ? buf_slice(&cursor) : slice_str(reason));
    buf_release(&cursor);
}
