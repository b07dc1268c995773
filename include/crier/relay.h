/* relay.h - HTTP/1.1 over TLS for a library that speaks it in clear.
 *
 * A relay stands between a TLS session and one end of a socketpair, whose other end the library
 * takes for the client's socket. It lasts for short requests and long polls; what becomes a stream
 * dissolves it and goes on with the TLS session alone. Worker thread only.
 */
#ifndef CRIER_RELAY_H
#define CRIER_RELAY_H

#include "crier/buf.h"
#include "crier/conduit.h"
#include "crier/loop.h"

#define RELAY_BYTES (16 * 1024) /* one record; kept per direction while a side does not take it */
#define RELAY_KERNEL_BYTES (64 * 1024) /* in the socketpair, each way */
#define RELAY_LINGER_MS 2000           /* for the client's end after ours */

/* What can be on its way when a relay is dissolved: in the kernel (which counts generously) and
 * here
 */
#define RELAY_IN_TRANSIT_BYTES (4 * RELAY_KERNEL_BYTES)

/* One per worker. */
struct relay_set;

/* stall_ms: how long a client may take nothing of what waits for it. connections: borrowed, counted
 * down when a relay ends. */
enum err relay_set_new(struct loop *l, _Atomic int64_t *connections, uint64_t stall_ms,
                       struct relay_set **out) MUST_CHECK;
/* Ends them all; who has a clear end sees the end of the stream. A turn later they are freed. */
void relay_set_end(struct relay_set *set);
void relay_set_free(struct relay_set *set); /* none left; NULL is fine */

/* Takes, on success, the conduit and its place among the connections that are counted. first: bytes
 * that were read already. *fd: the clear end, the caller's. ERR_NOMEM. */
enum err relay_open(struct relay_set *set, struct conduit c, struct slice first,
                    int *fd) MUST_CHECK;
/* The owner of this clear end is about to close it. Fine when it is not one. */
void relay_forget(struct relay_set *set, int fd);
/* Is fd the clear end of a relay? It is dissolved then: *c and its place among the connections are
 * the caller's. What the client has sent and nobody read is appended to `unread`; what was written
 * to fd and the client did not take yet, to `unsent`: it must go first. Both may come back failed
 * when they were made too small. */
bool relay_dissolve(struct relay_set *set, int fd, struct conduit *c, struct buf *unread,
                    struct buf *unsent) MUST_CHECK;
/* Answers that clients have not taken yet. */
size_t relay_pending(struct relay_set *set);

#endif
