/* client_follow_ws.c - one WebSocket, from the connection to its Close.
 *
 * Positions are kept per channel, because every message names only its own; joined they are a
 * cursor for the next connection.
 *
 * Silence is answered by a ping of our own: a server may be set to ping seldom, and a connection
 * that a proxy forgot would look just like a quiet channel.
 */
#include "client_follow.h"
#include "client_handshake.h"
#include "client_problem.h"
#include "crier/json.h"
#include "crier/ws.h"

#include <stdio.h>
#include <stdlib.h>

#define SILENCE_BEFORE_PING_MS 25000
#define SILENCE_AFTER_PING_MS 10000
#define HANDSHAKE_MAX_BYTES 65536
#define READ_BYTES 16384

struct socket {
    struct follow *follow;
    struct http_raw *raw;
    struct ws ws;
    enum follow_end end; /* DONE until something else ends it */
};

static void end_with(struct socket *s, enum follow_end end)
{
    s->end = end;
    ws_stop(&s->ws);
}

static void lose(struct socket *s, const char *why)
{
    fprintf(stderr, "crier: subscribe: %s\n", why);
    end_with(s, FOLLOW_LOST);
}

static bool send_frame(struct socket *s, enum ws_opcode opcode, struct slice payload)
{
    struct buf b;
    buf_init(&b, payload.len + 16);
    ws_client_frame(&b, opcode, payload);
    enum err e = http_raw_send(s->raw, buf_slice(&b));
    buf_release(&b);
    return e == ERR_OK;
}

/* The last that is sent; whether it arrives does not matter any more. */
static void send_close(struct socket *s, uint16_t code)
{
    char payload[2] = {(char)(code >> 8), (char)code};
    send_frame(s, WS_CLOSE,
               code == WS_CODE_NO_STATUS ? SLICE_NONE : slice_of(payload, sizeof(payload)));
}

static void take_ready(struct follow *f, struct slice frame)
{
    struct slice list, item;
    size_t pos = 0;
    f->was_ready = true;
    if (json_member(frame, "channels", &list))
        while (json_element(list, &pos, &item))
            follow_set_channel_cursor(f, item, true);
}

/* {"op":"message",…} is the envelope with one more member in front. */
static void take_message(struct socket *s, struct slice frame)
{
    static const char op[] = "{\"op\":\"message\",";
    struct buf envelope;
    buf_init(&envelope, FOLLOW_EVENT_MAX_BYTES);
    if (slice_starts_with(frame, SLICE(op))) {
        buf_append_char(&envelope, '{');
        frame = slice_of(frame.ptr + sizeof(op) - 1, frame.len - (sizeof(op) - 1));
    }
    buf_append(&envelope, frame);
    bool more = follow_message(s->follow, buf_slice(&envelope));
    follow_set_channel_cursor(s->follow, buf_slice(&envelope), false);
    buf_release(&envelope);
    if (!more)
        end_with(s, FOLLOW_DONE);
}

static void take_notice(const char *op, struct slice frame)
{
    char *code = client_json_string(frame, "code");
    char *message = client_json_string(frame, "message");
    char *channel = client_json_string(frame, "channel");
    fprintf(stderr, "crier: %s%s%s (%s): %s\n", op, channel ? " " : "", channel ? channel : "",
            code ? code : "?", message ? message : "");
    free(code);
    free(message);
    free(channel);
}

static void on_message(void *ctx, bool binary, struct slice frame)
{
    struct socket *s = ctx;
    if (binary || json_check(frame, false, NULL) != ERR_OK)
        return;
    char *op = client_json_string(frame, "op");
    if (!op)
        return;
    if (strcmp(op, "message") == 0) {
        take_message(s, frame);
    } else if (strcmp(op, "ready") == 0) {
        take_ready(s->follow, frame);
    } else if (strcmp(op, "gap") == 0) {
        follow_gap(frame);
        follow_set_channel_cursor(s->follow, frame, false);
    } else if (strcmp(op, "error") == 0 || strcmp(op, "unsubscribed") == 0) {
        take_notice(op, frame);
    }
    free(op);
}

static void on_ping(void *ctx, struct slice payload)
{
    struct socket *s = ctx;
    if (!send_frame(s, WS_PONG, payload))
        lose(s, "the connection was lost");
}

static void on_pong(void *ctx, struct slice payload)
{
    (void)ctx; /* any byte is a sign of life */
    (void)payload;
}

static void on_close(void *ctx, uint16_t code, struct slice reason)
{
    struct socket *s = ctx;
    char *text = slice_dup(reason);
    enum follow_end end = follow_closed(code, text);
    free(text);
    send_close(s, code);
    end_with(s, end);
}

static const struct ws_events events = {on_message, on_ping, on_pong, on_close};
static const struct ws_limits limits = {FOLLOW_EVENT_MAX_BYTES, UINT32_MAX};

static void take_bytes(struct socket *s, struct slice bytes)
{
    uint16_t code;
    const char *why;
    if (ws_input(&s->ws, bytes, &code, &why) == ERR_OK)
        return;
    fprintf(stderr, "crier: subscribe: the server broke the protocol: %s\n", why);
    send_close(s, code);
    end_with(s, FOLLOW_LOST);
}

static void receive(struct socket *s, bool *pinged)
{
    static char bytes[READ_BYTES];
    size_t n;
    enum err e = http_raw_recv(s->raw, bytes, sizeof(bytes),
                               *pinged ? SILENCE_AFTER_PING_MS : SILENCE_BEFORE_PING_MS, &n);
    if (e == ERR_OK)
        take_bytes(s, slice_of(bytes, n));
    else if (e == ERR_AGAIN && !*pinged)
        send_frame(s, WS_PING, SLICE_NONE); /* if it fails, no answer comes either */
    else if (e == ERR_AGAIN)
        lose(s, "the server does not answer any more");
    else if (!http_raw_told_to_stop(s->raw))
        lose(s, "the connection was lost");
    *pinged = e == ERR_AGAIN;
}

/* After the handshake; `rest` came with it. */
static enum follow_end converse(struct follow *f, struct http_raw *raw, struct slice rest)
{
    struct ws_pool *pool = ws_pool_new();
    struct socket s = {.follow = f, .raw = raw, .end = FOLLOW_DONE};
    bool pinged = false;
    ws_init(&s.ws, WS_CLIENT, pool, &events, &limits, &s);
    take_bytes(&s, rest);
    while (!s.ws.stopped && !http_raw_told_to_stop(raw))
        receive(&s, &pinged);
    if (s.end == FOLLOW_DONE)
        send_close(&s, WS_CODE_DONE);
    ws_release(&s.ws);
    ws_pool_free(pool);
    return s.end;
}

static enum follow_end open_and_converse(struct follow *f, struct http_raw *raw, const char *url)
{
    struct http_answer answer;
    struct buf rest;
    enum follow_end end = FOLLOW_LOST;
    buf_init(&rest, HANDSHAKE_MAX_BYTES);
    enum err e = client_handshake(raw, url, &answer, &rest);
    if (e == ERR_OK)
        end = converse(f, raw, buf_slice(&rest));
    else if (e == ERR_SYNTAX && answer.status > 0)
        end = follow_answered(f, &answer, buf_slice(&rest));
    else if (http_raw_told_to_stop(raw))
        end = FOLLOW_DONE;
    else
        fprintf(stderr, "crier: subscribe: %s\n", answer.error);
    buf_release(&rest);
    return end;
}

enum follow_end follow_ws(struct follow *f)
{
    char error[256];
    struct http_raw *raw;
    enum follow_end end = FOLLOW_LOST;
    char *url = follow_url(f, "/ws", NULL, NULL);
    enum err e = http_raw_open(f->http, url, &raw, error);
    if (e == ERR_OK) {
        end = open_and_converse(f, raw, url);
        http_raw_close(raw);
    } else if (e == ERR_CLOSED) {
        end = FOLLOW_DONE;
    } else {
        fprintf(stderr, "crier: subscribe: %s\n", error);
    }
    free(url);
    return end;
}
