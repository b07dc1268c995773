/* http.h - requests and answers, whatever version of HTTP carries them.
 *
 * A transport makes one http_exchange per request, when the whole request is there, and calls
 * http_handle. The route answers it exactly once: with http_respond, or by accepting a stream (SSE,
 * WebSocket), at once or later. After that the exchange belongs to the transport again.
 *
 * Worker thread only. Slices of an exchange are borrowed until it is answered.
 */
#ifndef CRIER_HTTP_H
#define CRIER_HTTP_H

#include "crier/buf.h"
#include "crier/hub.h"

struct http_exchange;
struct http_stream;

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_DELETE, HTTP_OPTIONS, HTTP_OTHER };

/* What all workers share; atomics where it changes. */
struct http_shared {
    struct slice allowed_origins; /* comma separated, or "*"; borrowed */
    struct slice sse_codings;     /* the best first, comma separated; borrowed */
    bool ws_deflate;              /* permessage-deflate is agreed to */
    bool loopback_only;           /* every listener is on loopback */
    uint64_t message_bytes;
    uint64_t post_key_secret; /* of the chat's post keys */
    uint64_t started_ms;      /* wall clock */
    const struct bus *bus;    /* borrowed; for bus_is_ready */
    _Atomic bool draining;
    _Atomic int64_t connections;
    int64_t max_connections;
};

/* One per worker. */
struct http_server {
    struct hub *hub;            /* borrowed */
    struct http_shared *shared; /* borrowed */
    /* Lets the bus answer now what was asked of it, as far as it can; NULL when it runs on another
     * thread. Not within a callback of the hub. */
    void (*settle)(struct http_server *server);
};

#define HTTP_HEADERS_MAX 10
struct http_header {
    const char *name;  /* borrowed, constant */
    const char *value; /* borrowed until http_respond returns */
};

struct http_response {
    int status;
    const char *content_type; /* NULL = no body */
    struct slice body;        /* borrowed for the call; copied unless body_is_static */
    bool body_is_static;      /* lives for ever (embedded pages) */
    bool close;               /* close the connection after it */
    unsigned n_headers;
    struct http_header header[HTTP_HEADERS_MAX];
};

enum http_upgrade {
    HTTP_UPGRADE_NONE, /* not a WebSocket request */
    HTTP_UPGRADE_OK,
    HTTP_UPGRADE_BAD_VERSION, /* Sec-WebSocket-Version is not 13 */
    HTTP_UPGRADE_BAD_KEY,
    HTTP_UPGRADE_REPEATED, /* the version or the key is there more than once */
};

/* What a route hands over with an accepted stream. The transport makes a session of the dialect and
 * calls `open` (on the worker's thread, at once or when the client has been told), or
 * `cancel` when the client left before. Either ends the life of the object; both free it. */
struct http_stream {
    const struct dialect *dialect;
    uint8_t coding; /* enum msg_coding, of what we send; for a WebSocket also of what we get */
    void (*open)(struct http_stream *st, struct session *s);
    void (*cancel)(struct http_stream *st);
};

struct http_exchange_ops {
    /* The (only) value of a header, name case-insensitive; ptr NULL when absent. */
    struct slice (*header)(const struct http_exchange *ex, const char *name);
    /* Every value that was given to a header which may be given more than once. */
    void (*each_header)(const struct http_exchange *ex, const char *name,
                        void (*each)(void *ctx, struct slice value), void *ctx);
    void (*respond)(struct http_exchange *ex, const struct http_response *res);
    /* 200 with these headers; the body is the session. No content length, connection not kept. */
    void (*stream)(struct http_exchange *ex, const struct http_response *head,
                   struct http_stream *st);
    enum http_upgrade (*upgrade)(const struct http_exchange *ex);
    /* 101 (or 200 on HTTP/2); the session speaks WebSocket. */
    void (*websocket)(struct http_exchange *ex, const struct http_response *head,
                      struct http_stream *st);
};

struct http_exchange {
    const struct http_exchange_ops *ops;
    struct http_server *server;
    enum http_method method;
    struct slice path;  /* as sent, percent-encoded, without the query */
    struct slice query; /* as sent, without '?' */
    struct slice body;
    bool answered;
    const char *origin; /* value for Access-Control-Allow-Origin; NULL = none. Owned by ex */
    const char *allow;  /* methods of the route, for Allow and CORS; constant */
    /* Set by a route that answers later: the client has left and nothing can be answered any more.
     */
    void (*abandoned)(struct http_exchange *ex);
    void *route_state; /* the route's own, for abandoned */
    bool waits_long;   /* set by a route whose answer may take long: who half-closes has left */
};

/* Routes the request. */
void http_handle(struct http_exchange *ex);
/* All values of a header that is a list, joined by commas (RFC 9110 5.3). */
void http_header_list(const struct http_exchange *ex, const char *name, struct buf *out);
size_t http_header_count(const struct http_exchange *ex, const char *name);
/* Exactly once; adds CORS and Vary. */
void http_respond(struct http_exchange *ex, struct http_response *res);
void http_add_header(struct http_response *res, const char *name, const char *value);
/* JSON answer; a failed buf becomes 503. */
void http_respond_json(struct http_exchange *ex, int status, const struct buf *json);
/* application/problem+json (RFC 9457). detail says what was found and what was expected. */
void http_problem(struct http_exchange *ex, int status, const char *code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Text of the same, for transports that refuse before there is an exchange. */
void http_problem_text(struct buf *b, int status, const char *code, const char *detail);
/* Accepts: adds CORS and the stream headers. */
void http_accept_stream(struct http_exchange *ex, struct http_stream *st);
/* Answers what the request may be wrong in as a handshake (426, 400), then false. */
bool http_websocket_is_good(struct http_exchange *ex);
/* The same for a request that is good: agrees on subprotocol and extension, which sets st->coding;
 * cancels the stream and answers 400 when what is offered cannot be read. */
void http_accept_websocket(struct http_exchange *ex, struct http_stream *st);
/* Frees what http_handle allocated in the exchange; the transport calls it once, at the end. */
void http_exchange_release(struct http_exchange *ex);
const char *http_status_text(int status);

#endif
