/* wire.h - bytes to and from one endpoint: finds its addresses, tries one after the other, speaks
 * TLS where asked.
 *
 * A wire is embedded in its owner and serves one connection at a time. Its callbacks come from the
 * loop, `opened` and `failed` also from within wire_open; each may close the wire. Loop's thread.
 */
#ifndef CRIER_REDIS_WIRE_H
#define CRIER_REDIS_WIRE_H

#include "crier/redis.h"
#include "crier/resolve.h"

struct wire;

struct wire_ops {
    void (*opened)(struct wire *w);
    void (*failed)(struct wire *w, const char *why); /* before it was opened; closed already */
    /* Opened, and bytes may be read or, where a write said ERR_AGAIN, written. */
    void (*ready)(struct wire *w);
};

struct wire {
    struct loop *loop; /* borrowed, as the next three */
    const struct redis_endpoint *endpoint;
    struct tls_ctx *tls_ctx; /* NULL when the endpoint needs none */
    const struct wire_ops *ops;
    enum { WIRE_CLOSED, WIRE_RESOLVING, WIRE_CONNECTING, WIRE_HANDSHAKING, WIRE_OPEN } state;
    struct io_watch watch;   /* its fd is owned */
    struct tls *tls;         /* owned */
    struct resolve *resolve; /* owned while resolving */
    struct timer share;      /* of the time to connect, for one address */
    uint64_t deadline_ms;
    size_t n_addrs, tried;
    struct sock_addr addr[RESOLVE_MAX_ADDRS];
    int write_errno; /* a write failed because the peer had gone; it may have said why */
    bool read_wants_out, write_blocked;
    char why[REDIS_WHY_BYTES]; /* why the last read, write or address failed */
};

void wire_init(struct wire *w, struct loop *l, const struct redis_endpoint *e,
               struct tls_ctx *tls_ctx, const struct wire_ops *ops);
/* timeout_ms is divided among the addresses; the owner's own timer ends the whole. */
void wire_open(struct wire *w, uint64_t timeout_ms);
void wire_close(struct wire *w); /* fine when closed */

/* What it was doing when it was not finished: "resolving the name", "connecting", "TLS handshake".
 */
const char *wire_doing(const struct wire *w);

/* As many bytes as WIRE_READ_BYTES must fit: TLS has then nothing left that the loop cannot see. */
#define WIRE_READ_BYTES 16384
/* ERR_AGAIN; ERR_CLOSED, ERR_IO with the reason in w->why. */
enum err wire_read(struct wire *w, char out[WIRE_READ_BYTES], size_t *n) MUST_CHECK;
/* ERR_AGAIN: `ready` will come. */
enum err wire_write(struct wire *w, struct slice bytes, size_t *n) MUST_CHECK;

#endif
