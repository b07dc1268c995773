/* head.h - is this the head of an HTTP/1.1 request that everyone reads the same way?
 *
 * Applied to the first bytes of a connection before any HTTP library sees them (RFC 9112): a
 * request that two parsers could read differently is a way to smuggle a second one past a proxy.
 * Pure function, any thread.
 */
#ifndef CRIER_HEAD_H
#define CRIER_HEAD_H

#include "crier/slice.h"

#define HEAD_MAX_BYTES (16 * 1024) /* request line and headers, with cookies and a token */

enum head_verdict {
    HEAD_MORE,  /* good so far, not complete */
    HEAD_HTTP1, /* a complete, unambiguous head */
    HEAD_HTTP2, /* the client connection preface (RFC 9113 3.4) */
    HEAD_BAD,   /* *status and *why say what to answer */
    HEAD_ALIEN, /* names neither a method nor a version of HTTP: nothing to answer */
};

/* bytes: everything that came so far. On HEAD_BAD *status is 400, 431 or 505 and *why a constant
 * sentence. */
enum head_verdict head_check(struct slice bytes, int *status, const char **why);

/* RFC 9110 5.6.2. */
bool head_is_token(struct slice s);
/* Control characters other than HTAB, which no header value and no target may have. */
bool head_has_control(struct slice s);

/* The rules for the headers that say where a request ends, one call per header and one at the end.
 * Also used for requests that follow on the same connection. */
struct head_framing {
    unsigned content_length, transfer_encoding, host;
    uint64_t body_bytes; /* Content-Length */
    const char *why;     /* the first violation; NULL = none */
};
void head_framing_add(struct head_framing *f, struct slice name, struct slice value);
void head_framing_end(struct head_framing *f, bool takes_body, bool is_1_0);

#endif
