/* stream.h - a session on a connection of its own: EventSource and WebSocket after the request.
 *
 * Nothing of the HTTP library remains: a stream is a session, a conduit and, for a WebSocket, the
 * protocol object. Output is pulled from the outbox, one write per turn; EPOLLOUT is armed only
 * after a write has said ERR_AGAIN. Worker thread only.
 */
#ifndef CRIER_STREAM_H
#define CRIER_STREAM_H

#include "crier/conduit.h"
#include "crier/hub.h"
#include "crier/loop.h"
#include "crier/pool.h"
#include "crier/trim.h"

#define STREAM_LINGER_MS 2000   /* for the peer's FIN after ours */
#define STREAM_WS_CLOSE_MS 5000 /* for the peer's Close after ours */
#define STREAM_USER_TIMEOUT_MS \
    30000 /* unacknowledged data kills the connection (TCP_USER_TIMEOUT) */
#define STREAM_READ_BYTES (64 * 1024)

struct ws_set;

/* One per worker. */
struct stream_set {
    struct loop *loop;
    struct hub *hub;
    struct ws_set *websockets; /* owned */
    struct pool sse, ws;
    struct trimmer trimmer;       /* told of every stream and every connection of h1 that ends */
    _Atomic int64_t *connections; /* borrowed; counted down when a stream ends */
    char read_buffer[STREAM_READ_BYTES];
};

enum err stream_set_new(struct loop *l, struct hub *h, _Atomic int64_t *connections,
                        struct stream_set **out) MUST_CHECK;
void stream_set_free(struct stream_set *set); /* no streams left */

/* Takes the conduit (also on failure: it is closed) and, on success, its place among the
 * connections that are counted. ERR_NOMEM. */
enum err stream_open(struct stream_set *set, struct conduit c, const struct dialect *d,
                     enum msg_coding coding, bool websocket, struct session **out) MUST_CHECK;
/* Bytes that were read with the request (WebSocket only). */
void stream_input(struct session *s, struct slice bytes);

#endif
