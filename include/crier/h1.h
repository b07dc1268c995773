/* h1.h - HTTP/1.1 through libmicrohttpd (h1.c is the only file that includes microhttpd.h).
 *
 * Connections are spread over small daemons, because resuming one makes libmicrohttpd walk all that
 * are suspended in its daemon. A request that becomes a stream is detached: its socket moves to a
 * stream (stream.h) and libmicrohttpd closes a dummy in its place. Over TLS there is a relay
 * (relay.h) before libmicrohttpd, which is dissolved then. Worker thread only.
 */
#ifndef CRIER_H1_H
#define CRIER_H1_H

#include "crier/http.h"
#include "crier/relay.h"
#include "crier/sock.h"
#include "crier/stream.h"

#define H1_CONNECTIONS_PER_DAEMON 256
#define H1_CONNECTION_MEMORY_BYTES (24 * 1024) /* a head of HEAD_MAX_BYTES and the answer */
#define H1_BODY_MAX_BYTES (1024 * 1024)
#define H1_DISCARD_MAX_BYTES (8 * 1024 * 1024) /* read and dropped, so that 413 arrives */

struct h1;

enum err h1_new(struct loop *l, struct http_server *server, struct stream_set *streams,
                struct relay_set *relays, uint64_t request_timeout_ms, struct h1 **out) MUST_CHECK;
/* Ends everything, requests that wait for an answer too. */
void h1_free(struct h1 *h);
/* Takes the descriptor (closed on failure). */
void h1_add_connection(struct h1 *h, int fd, const struct sock_addr *peer);
/* The same with the clear end of a relay, which is counted among the connections there. */
void h1_add_relayed(struct h1 *h, int fd, const struct sock_addr *peer);
/* Requests that have not been answered yet. */
size_t h1_pending(const struct h1 *h);

#endif
