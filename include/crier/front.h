/* front.h - the front door: listens, accepts, reads the head of the first request without taking
 * it, hands the connection on. On the TLS port it shakes hands before that.
 *
 * A connection that says nothing, or says it slowly, costs a descriptor and a small object until
 * its deadline; only one that has sent a whole, unambiguous head reaches an HTTP library. Worker
 * thread only; one front per worker, all with SO_REUSEPORT listeners on the same addresses.
 */
#ifndef CRIER_FRONT_H
#define CRIER_FRONT_H

#include "crier/h1.h"
#include "crier/h2.h"
#include "crier/loop.h"
#include "crier/relay.h"
#include "crier/sock.h"

#define FRONT_ADDRS_MAX 8
#define FRONT_LISTENERS_MAX (2 * FRONT_ADDRS_MAX) /* in clear and TLS */
#define FRONT_HANDSHAKES_MAX 512                  /* at a time, about 50 KB each; others wait */
#define FRONT_HANDSHAKE_MS 1000 /* what the oldest of so many may still have when others wait */
#define FRONT_ACCEPTS_PER_TURN 64
#define FRONT_LINGER_MS 2000               /* for the peer's FIN after a refusal */
#define FRONT_DROP_MAX_BYTES (1024 * 1024) /* of what a refused connection goes on to send */
#define FRONT_PAUSE_MS 100                 /* without accepting, after descriptors ran out */

struct front;

enum err front_new(struct loop *l, struct h1 *h1, struct h2 *h2, struct relay_set *relays,
                   _Atomic int64_t *connections, uint64_t head_ms, struct front **out) MUST_CHECK;
/* Turns out who has not sent a head yet. A turn later they are freed. */
void front_end(struct front *f);
void front_free(struct front *f); /* after front_end, or when it never listened; NULL is fine */
/* The certificates and so on that handshakes begin with from here on (counted). */
void front_set_tls(struct front *f, struct tls_ctx *c);
/* Takes a listening descriptor. TLS only after front_set_tls. */
enum err front_listen(struct front *f, int fd, bool tls) MUST_CHECK;
/* No more connections; those accepted go on. */
void front_close_listeners(struct front *f);

#endif
