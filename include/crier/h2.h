/* h2.h - HTTP/2 (RFC 9113) with nghttp2 (h2.c is the only file that includes nghttp2/).
 *
 * A connection is one nghttp2 session over a conduit; every request becomes an http_exchange for
 * the same routes as on HTTP/1.1, every event stream and WebSocket (RFC 8441) a session of the hub
 * whose bytes are pulled from its outbox when flow control lets them go. Worker thread only.
 */
#ifndef CRIER_H2_H
#define CRIER_H2_H

#include "crier/conduit.h"
#include "crier/http.h"
#include "crier/sock.h"
#include "crier/stream.h"

struct h2_options {
    uint32_t max_streams;       /* --h2-max-streams: 256, MAX_CONCURRENT_STREAMS */
    uint32_t header_list_bytes; /* --h2-header-list: 16 KiB */
    uint32_t window_bytes;      /* --h2-window: 64 KiB, what a client may send before it is read */
    uint64_t ping_ms;           /* --h2-ping: 30 s of silence, then PING; dead 10 s later */
    uint64_t request_timeout_ms;
};

struct h2;

enum err h2_new(struct loop *l, struct http_server *server, struct stream_set *streams,
                const struct h2_options *opt, struct h2 **out) MUST_CHECK;
/* Ends everything, without ceremony; after one more turn of the loop all of it is freed. */
void h2_end(struct h2 *h);
void h2_free(struct h2 *h); /* nothing is open; NULL is fine */
/* Takes the conduit (closed on failure) and its place among the connections that are counted.
 * Nothing of the connection preface has been read. */
void h2_add_connection(struct h2 *h, struct conduit c, const struct sock_addr *peer);
/* First GOAWAY (2^31-1), a round trip later the second; connections without streams are closed. */
void h2_drain(struct h2 *h);
/* Requests that have not been answered yet; while draining, connections that have not ended. */
size_t h2_pending(const struct h2 *h);

#endif
