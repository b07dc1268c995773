/* h1_wire.h - HTTP/1.1 as text: what h1.c needs of the protocol without the library. Pure
 * functions. */
#ifndef CRIER_H1_WIRE_H
#define CRIER_H1_WIRE_H

#include "crier/http.h"

enum http_method h1_method_of(const char *name);
/* Path and query of a request target, slices of it; the absolute form (RFC 9112 3.2.2) loses its
 * authority. */
void h1_split_target(struct slice target, struct slice *path, struct slice *query);
/* Is this the opening handshake of a WebSocket (RFC 6455 4.2.1)? */
enum http_upgrade h1_upgrade_of(const struct http_exchange *ex);
/* Status line and headers of a body that lasts until the connection ends. */
void h1_stream_head(struct buf *b, const struct http_response *head);

#endif
