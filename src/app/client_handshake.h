/* client_handshake.h - opening a WebSocket over a raw connection (RFC 6455 4.1). */
#ifndef CRIER_APP_CLIENT_HANDSHAKE_H
#define CRIER_APP_CLIENT_HANDSHAKE_H

#include "client_http.h"

/* ERR_OK: it is open; `rest` has what came after the answer. ERR_SYNTAX: the server answered
 * something else (answer->status and content_type; `rest` has the body) or no HTTP (status 0,
 * answer->error). ERR_IO, ERR_CLOSED. */
enum err client_handshake(struct http_raw *raw, const char *url, struct http_answer *answer,
                          struct buf *rest) MUST_CHECK;
/* For tests: the status of an answer's first line, 0 when it is none; the value of a header, the
 * first if repeated, empty when absent. `head` ends with its empty line. */
long client_head_status(struct slice head);
struct slice client_head_value(struct slice head, struct slice name);

#endif
