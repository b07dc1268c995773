/* resolve.h - host names to addresses without blocking the loop.
 *
 * getaddrinfo blocks, so each request has a thread of its own for as long as it takes; literals are
 * answered without one. Belongs to the loop's thread.
 */
#ifndef CRIER_RESOLVE_H
#define CRIER_RESOLVE_H

#include "crier/loop.h"
#include "crier/sock.h"

#define RESOLVE_MAX_ADDRS 8

struct resolve;

/* `done` is called once, from the loop, never within this call; n = 0: the name has no address.
 * host is copied. ERR_NOMEM when no thread can be had; then done is not called. */
enum err resolve_start(struct loop *l, const char *host, uint16_t port,
                       void (*done)(void *ctx, const struct sock_addr *addr, size_t n), void *ctx,
                       struct resolve **out) MUST_CHECK;
/* done is not called any more (a thread that is still in getaddrinfo ends by itself). Only before
 * done was called. */
void resolve_cancel(struct resolve *r);

#endif
