/* h2_request.h - the header fields of one HTTP/2 request, and whether they make a request that
 * HTTP/1.1 would take too. Knows no library. */
#ifndef CRIER_TRANSPORT_H2_REQUEST_H
#define CRIER_TRANSPORT_H2_REQUEST_H

#include "crier/head.h"
#include "crier/http.h"

struct h2_request {
    struct buf fields; /* per field: two lengths, name, value */
    size_t list_bytes; /* as SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 6.5.2) */
    size_t list_max;
    struct head_framing framing;
    bool too_large; /* fields were left out */
};

/* What the fields say; slices of them. */
struct h2_target {
    enum http_method method;
    struct slice path, query;
    uint64_t content_length; /* 0 = none or not said */
    bool takes_body;
    bool websocket; /* extended CONNECT (RFC 8441): method is GET, as the routes know it */
};

void h2_request_init(struct h2_request *r, size_t list_max_bytes);
void h2_request_release(struct h2_request *r);
/* False: far beyond the limit; whoever sends that is not worth an answer. */
bool h2_request_add(struct h2_request *r, struct slice name, struct slice value) MUST_CHECK;
void h2_request_each(const struct h2_request *r, const char *name,
                     void (*each)(void *ctx, struct slice value), void *ctx);
/* The first value of a field, name case-insensitive; ptr NULL when absent. */
struct slice h2_request_get(const struct h2_request *r, const char *name);
/* After the last field. NULL when good; else a constant sentence, and *status is 400, 431 or 501.
 */
const char *h2_request_check(struct h2_request *r, struct h2_target *out, int *status);

#endif
