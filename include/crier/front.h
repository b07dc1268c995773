/* front.h - the front door: listens, accepts, looks at the first bytes, hands the connection on.
 *
 * A connection that says nothing costs a descriptor and a small object until its deadline; only one
 * that begins a request reaches an HTTP library. Worker thread only; one front per worker, all with
 * SO_REUSEPORT listeners on the same addresses.
 */
#ifndef CRIER_FRONT_H
#define CRIER_FRONT_H

#include "crier/h1.h"
#include "crier/loop.h"
#include "crier/sock.h"

#define FRONT_LISTENERS_MAX 8
#define FRONT_ACCEPTS_PER_TURN 64
#define FRONT_PAUSE_MS 100 /* without accepting, after descriptors ran out */

struct front;

enum err front_new(struct loop *l, struct h1 *h1, _Atomic int64_t *connections,
                   uint64_t first_byte_ms, struct front **out) MUST_CHECK;
void front_free(struct front *f);
/* Takes a listening descriptor. */
enum err front_listen(struct front *f, int fd) MUST_CHECK;
/* No more connections; those accepted go on. */
void front_close_listeners(struct front *f);

#endif
