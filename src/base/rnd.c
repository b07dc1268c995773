/* rnd.c - unpredictable bytes from the kernel, and cheap jitter.
 *
 * Jitter is asked for per heartbeat of every session, so it comes from a small generator per thread
 * (splitmix64) that is seeded once from the kernel. Nothing that must not be guessed may use it.
 */
#include "crier/rnd.h"

#include "crier/err.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/random.h>

void rnd_bytes(void *out, size_t n)
{
    char *at = out;

    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            BUG_ON(errno != EINTR);
            continue;
        }
        at += got;
        n -= (size_t)got;
    }
}

uint64_t rnd_u64(void)
{
    uint64_t v;

    rnd_bytes(&v, sizeof v);
    return v;
}

static uint32_t jitter_u32(void)
{
    static _Thread_local uint64_t state;
    static _Thread_local bool seeded;

    if (!seeded) {
        state = rnd_u64();
        seeded = true;
    }
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

/* The product's upper half is the answer; the few lower halves that would make some answers more
 * likely than others are thrown again (Lemire). */
uint32_t rnd_below(uint32_t n)
{
    BUG_ON(n == 0);
    uint32_t unfair = (0 - n) % n;

    for (;;) {
        uint64_t product = (uint64_t)jitter_u32() * n;
        if ((uint32_t)product >= unfair)
            return (uint32_t)(product >> 32);
    }
}
