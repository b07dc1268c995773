/* ws_internal.h - what the files of the WebSocket object share. */
#ifndef CRIER_TRANSPORT_WS_INTERNAL_H
#define CRIER_TRANSPORT_WS_INTERNAL_H

#include "crier/deflate.h"
#include "crier/list.h"
#include "crier/ws.h"

#define WS_CONTROL_MAX_BYTES 125 /* RFC 6455 5.5 */
#define WS_HEADER_MAX_BYTES 14

/* One message over all its fragments so far (ws_message.c). */
struct ws_message {
    bool is_there, is_text, is_deflated;
    uint32_t fragments;
    uint64_t packed_bytes; /* announced so far, of one that is deflated */
    struct utf8 utf8;
    struct buf bytes;          /* owned */
    struct inflater *inflater; /* owned; NULL unless something is being inflated */
};

struct ws_partial {
    struct list node; /* in the pool's free list, or in its list of those that are held */
    uint64_t since_ms;
    struct ws *ws;                     /* borrowed: who holds this */
    struct wslay_frame_context *frame; /* owned */
    struct slice input;                /* what is left of ws_input's bytes */
    bool in_input;                     /* ws_input is on the stack */

    /* The frame: header bytes as they passed, then payload. header_len 0 = between frames. */
    uint8_t header[WS_HEADER_MAX_BYTES], header_len;
    uint64_t payload_len, payload_left;

    struct ws_message message;

    uint8_t control[WS_CONTROL_MAX_BYTES], control_len;
    struct utf8 reason_utf8;

    enum err error; /* the violation */
    uint16_t code;
    const char *why;
};

/* --- ws_pool.c --- */
/* NULL when memory is used up. */
struct ws_partial *ws_pool_try_take(struct ws_pool *pool, struct ws *ws);
void ws_pool_give_back(struct ws_pool *pool, struct ws_partial *p);
void ws_pool_begin_again(struct ws_pool *pool, struct ws_partial *p);
struct inflater *ws_pool_try_lend_inflater(struct ws_pool *pool);
void ws_pool_return_inflater(struct ws_pool *pool, struct inflater *f);

/* --- ws.c --- */
/* Half a frame cannot be forgotten by wslay, so a context is made and freed with its partial. */
bool ws_frame_context_init(struct ws_partial *p);
void ws_frame_context_release(struct ws_partial *p);
/* False, for returning it. */
bool ws_violate(struct ws_partial *p, enum err error, enum ws_code code, const char *why);

/* --- ws_message.c: each false at a violation --- */
bool ws_message_begin(struct ws_partial *p, enum ws_opcode opcode, bool is_deflated);
bool ws_message_next_fragment(struct ws_partial *p);
/* A frame header announces so many bytes. */
bool ws_message_announced(struct ws_partial *p, uint64_t len);
/* `last`: the message ends with this chunk. */
bool ws_message_add(struct ws_partial *p, struct slice chunk, bool last);
/* Forgets it, whatever state it is in. */
void ws_message_drop(struct ws_partial *p);

#endif
