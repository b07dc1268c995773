/* dialects.h - the WebSocket dialects of a session, and the texts all dialects share.
 *
 * The shapes are those of docs/PROTOCOL.md. Worker thread only.
 */
#ifndef CRIER_DIALECTS_H
#define CRIER_DIALECTS_H

#include "crier/hub.h"
#include "crier/ws_codes.h"

extern const struct dialect dialect_ws_json;
extern const struct dialect dialect_ws_raw;

/* Parts for dialects of WebSockets. */
void ws_push(struct session *s, enum ws_opcode opcode, struct slice payload);
/* The same as bytes, for texts of several frames. */
void ws_frame_append(struct buf *b, enum ws_opcode opcode, struct slice payload);
void ws_tick(struct session *s);
void ws_closing(struct session *s, uint16_t code, const char *reason);
/* What the client sent ends it: a Close, after the answers to what it sent before. why: constant.
 */
void ws_end(struct session *s, uint16_t code, const char *why);
/* A Close frame's payload; reason is cut at 123 bytes. */
void ws_push_close(struct session *s, uint16_t code, struct slice reason);

/* "client":"…"EXTRA,"cursor":"…","channels":[…] (members only). */
void notice_ready(struct buf *b, const struct session *s, const char *extra);
/* "channel":"…","reason":"…","since":"…","cursor":"…" (members only). */
void notice_gap(struct buf *b, struct slice channel, enum gap_reason reason, struct position since,
                struct position resumed);
void notice_gap_cu(struct buf *b, const struct sub *sub, const struct catch_up *cu);
/* "members":[{"client":…,"user":…,"transport":…,"since":…}…],"total":… (members only). */
void notice_presence(struct buf *b, const struct bus_presence *p);
/* "messages":[…],"cursor":"…","complete":…,"gap":{…} (members only). */
void notice_history(struct buf *b, struct slice channel, const struct catch_up *cu);

/* A JSON "data" member (raw slice) as payload and kind: a string is text, any other value JSON;
 * with encoding "base64" a string is binary. `scratch` holds decoded bytes. On failure *code and
 * *what say what was expected. */
enum err payload_of_json(struct slice data, struct slice encoding, struct buf *scratch,
                         struct slice *payload, enum msg_kind *kind, const char **code,
                         const char **what) MUST_CHECK;
/* 1-128 printable ASCII bytes. */
bool idempotency_key_is_valid(struct slice key);

#endif
