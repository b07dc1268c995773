/* h1_wire.h - HTTP/1.1 as text: what h1.c needs of the protocol without the library. Pure
 * functions. */
#ifndef CRIER_H1_WIRE_H
#define CRIER_H1_WIRE_H

#include "crier/head.h"
#include "crier/http.h"

enum http_method h1_method_of(const char *name);
/* Path and query of a request target, slices of it; the absolute form (RFC 9112 3.2.2) loses its
 * authority. */
void h1_split_target(struct slice target, struct slice *path, struct slice *query);
/* Is this the opening handshake of a WebSocket (RFC 6455 4.2.1)? */
enum http_upgrade h1_upgrade_of(const struct http_exchange *ex);
/* Is the framing of a request unambiguous (RFC 9112 6.3, 11.2)? */
struct h1_check {
    struct head_framing framing;
    const char *next; /* where the next line must begin; NULL: lines are not looked at in place */
    bool hole;
};

/* in_place: version and header lines lie in memory as they came, with two zeros for each CRLF. */
void h1_check_init(struct h1_check *c, const char *version, bool in_place);
void h1_check_add(struct h1_check *c, struct slice name, struct slice value);
/* What is wrong, NULL when nothing is. */
const char *h1_check_end(struct h1_check *c, enum http_method method, bool is_1_0);

/* Status line and headers of a body that lasts until the connection ends. */
void h1_stream_head(struct buf *b, const struct http_response *head);

#endif
