/* client_sse.h - the parser of an event stream (WHATWG HTML 9.2.6), without I/O.
 *
 * Single owner. Slices in an event are borrowed for the call.
 */
#ifndef CRIER_APP_CLIENT_SSE_H
#define CRIER_APP_CLIENT_SSE_H

#include "crier/buf.h"

struct sse_event {
    struct slice type; /* "message" when the stream named none */
    struct slice data;
    struct slice last_id; /* also from an earlier event; empty when there was none */
};

struct sse_parser {
    void (*on_event)(void *ctx, const struct sse_event *event); /* may call sse_stop */
    void *ctx;                                                  /* borrowed */
    struct buf line, data, type, id, last_id;                   /* owned */
    uint64_t retry_ms; /* the newest `retry:`; 0 = none came */
    unsigned bom_seen; /* bytes of a byte order mark at the start of the stream; 3 = past it */
    bool after_cr, stopped;
};

/* max_bytes bounds a line and an event. */
void sse_init(struct sse_parser *p, size_t max_bytes,
              void (*on_event)(void *ctx, const struct sse_event *event), void *ctx);
void sse_release(struct sse_parser *p);
/* ERR_LIMIT when a line or an event is longer than max_bytes; the parser is then stopped. */
enum err sse_feed(struct sse_parser *p, struct slice bytes) MUST_CHECK;
/* Nothing more is parsed or reported. */
void sse_stop(struct sse_parser *p);

#endif
