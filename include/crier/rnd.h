/* rnd.h - randomness. rnd_u64 is unpredictable (getrandom), rnd_below is for jitter. Any thread. */
#ifndef CRIER_RND_H
#define CRIER_RND_H

#include <stddef.h>
#include <stdint.h>

void rnd_bytes(void *out, size_t n); /* getrandom(2); aborts when the kernel has none */
uint64_t rnd_u64(void);
uint32_t rnd_below(uint32_t n); /* uniform in [0, n); n > 0 */

#endif
