/* ws.h - the WebSocket protocol as an object without a descriptor: bytes in, events out.
 *
 * Receives through wslay's frame layer (ws.c is the only file that includes wslay.h) under our own
 * message layer: masking, RSV, opcodes, control frames, fragmentation, UTF-8 byte by byte, sizes
 * (RFC 6455 5-7), and inflating what came with permessage-deflate (RFC 7692). wslay's context, the
 * inflater and the message buffer are borrowed from the worker's ws_pool and held only while a
 * frame or message is incomplete, so an idle connection costs sizeof(struct ws).
 *
 * Sending is not its business: frames are built by ws_frame_header (msg.h) and, for the command
 * line client, ws_client_frame. Single owner, no locks.
 */
#ifndef CRIER_WS_H
#define CRIER_WS_H

#include "crier/buf.h"
#include "crier/codec.h"
#include "crier/ws_codes.h"

enum ws_role {
    WS_SERVER,
    WS_CLIENT
}; /* the server wants masked frames, the client unmasked ones */

struct ws_pool; /* per worker */
struct ws_pool *ws_pool_new(void);
void ws_pool_free(struct ws_pool *p); /* every ws must have been released */
/* Contexts out of the pool now: the connections that are in the middle of a message. */
size_t ws_pool_held(const struct ws_pool *p);
/* Inflaters out of the pool now: of those, the ones whose message is compressed. */
size_t ws_pool_inflaters(const struct ws_pool *p);
/* What begins from now on begins then. Never goes back. */
void ws_pool_tell_time(struct ws_pool *p, uint64_t now_ms);
/* Who has been in the middle of one message, or of a frame between messages, for longest, and since
 * when; NULL when nobody is. */
struct ws *ws_pool_oldest(const struct ws_pool *p, uint64_t *since_ms);

struct ws_limits {
    /* Over it: WS_CODE_TOO_BIG, as soon as a frame header announces it (when compressed: twice
     * that, and 1 KiB) or as it is inflated. */
    size_t message_bytes;
    uint32_t fragments; /* per message; over it: WS_CODE_POLICY */
};

struct ws;
/* Called inside ws_input, in the order of the bytes; payloads are borrowed for the call. A callback
 * may call ws_stop (nothing more is read), never ws_release. */
struct ws_events {
    void (*message)(void *ctx, bool binary, struct slice payload);
    void (*ping)(void *ctx, struct slice payload);
    void (*pong)(void *ctx, struct slice payload);
    /* The peer's Close: valid code (or WS_CODE_NO_STATUS) and UTF-8 reason. Nothing is called
     * after it. */
    void (*close)(void *ctx, uint16_t code, struct slice reason);
};

struct ws {
    struct ws_pool *pool;           /* borrowed */
    const struct ws_events *events; /* borrowed, constant */
    const struct ws_limits *limits; /* borrowed */
    void *ctx;                      /* borrowed, for the events */
    struct ws_partial *partial;     /* owned, from the pool; NULL between messages */
    uint8_t role;
    bool deflate; /* permessage-deflate was agreed on, with client_no_context_takeover */
    bool stopped;
};

void ws_init(struct ws *ws, enum ws_role role, struct ws_pool *pool, const struct ws_events *events,
             const struct ws_limits *limits, void *ctx);
void ws_release(struct ws *ws);
/* What is incomplete counts as begun now. */
void ws_begin_again(struct ws *ws);
/* Takes all of `bytes` (after a stop or an error: ignores them). On a violation: ERR_SYNTAX,
 * ERR_UTF8 or ERR_LIMIT; when memory is used up: ERR_NOMEM. Then *code is what the Close must carry
 * and *why a constant sentence, and the ws is stopped. What came before the violation has been
 * delivered. */
enum err ws_input(struct ws *ws, struct slice bytes, uint16_t *code, const char **why) MUST_CHECK;
void ws_stop(struct ws *ws);

/* Sec-WebSocket-Accept of a Sec-WebSocket-Key (RFC 6455 4.2.2): 28 characters and NUL.
 * ERR_SYNTAX unless the key is 16 bytes of base64. */
enum err ws_accept_key(struct slice key, char out[29]) MUST_CHECK;
/* May this code stand in a Close frame (RFC 6455 7.4)? */
bool ws_code_is_valid(uint16_t code);
/* Appends a masked frame with FIN (client role). */
void ws_client_frame(struct buf *b, enum ws_opcode opcode, struct slice payload);

#endif
