/* conduit.h - the bytes of one connection: a socket, or a TLS session over one.
 *
 * What speaks a protocol (an event stream, a WebSocket, HTTP/2) reads and writes a conduit and
 * watches its descriptor. Owns both. One thread.
 */
#ifndef CRIER_CONDUIT_H
#define CRIER_CONDUIT_H

#include "crier/tls.h"

#include <sys/uio.h>

struct conduit {
    int fd;          /* owned; -1 when empty */
    struct tls *tls; /* owned; NULL in clear */
};

/* ERR_OK with *n > 0; ERR_AGAIN: wait for what conduit_events says; ERR_CLOSED: the peer has ended
 * its side; ERR_IO. */
enum err conduit_read(struct conduit *c, void *out, size_t max, size_t *n) MUST_CHECK;
/* The same; *n may be less than there is. In clear one sendmsg; over TLS parts are gathered so that
 * small ones share a record. A write that TLS said AGAIN to is repeated with the same first bytes.
 */
enum err conduit_write(struct conduit *c, const struct iovec *iov, int n_iov, size_t *n) MUST_CHECK;
/* For who cannot repeat them: how many of the bytes behind the *n written ones TLS has sealed. They
 * count as written from here on; the next conduit_write, which may be one of no parts, sends them
 * first and says ERR_AGAIN until they are gone. */
size_t conduit_commit(struct conduit *c);
/* EPOLLIN and/or EPOLLOUT that must be watched so that an operation that said ERR_AGAIN can go on;
 * reading, blocked: what the caller waits for. */
uint32_t conduit_events(const struct conduit *c, bool reading, bool blocked);
/* What events of the descriptor mean for the bytes: EPOLLIN, a read may go on; EPOLLOUT, a write.
 */
uint32_t conduit_ready(const struct conduit *c, uint32_t events);
/* Decrypted bytes wait that no event of the descriptor will tell of: read again. */
bool conduit_has_more(const struct conduit *c);
/* No more bytes from us: close_notify, FIN. */
void conduit_finish(struct conduit *c);
void conduit_close(struct conduit *c); /* fine when empty */

#endif
