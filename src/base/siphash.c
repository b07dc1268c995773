/* siphash.c - SipHash-1-3 (Aumasson and Bernstein) under one random key per process.
 *
 * The key never leaves the process and differs after each start, so a peer that chooses keys cannot
 * aim them at one bucket. Not for authentication: the short-round variant is meant for tables.
 */
#include "crier/map.h"
#include "crier/rnd.h"

#include <endian.h>
#include <pthread.h>

static uint64_t process_key[2];
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

struct sip {
    uint64_t a, b, c, d;
};

static void make_key(void)
{
    rnd_bytes(process_key, sizeof process_key);
}

static inline uint64_t rotl(uint64_t v, unsigned bits)
{
    return v << bits | v >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
    s->a += s->b;
    s->c += s->d;
    s->b = rotl(s->b, 13) ^ s->a;
    s->d = rotl(s->d, 16) ^ s->c;
    s->a = rotl(s->a, 32);
    s->c += s->b;
    s->a += s->d;
    s->b = rotl(s->b, 17) ^ s->c;
    s->d = rotl(s->d, 21) ^ s->a;
    s->c = rotl(s->c, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->d ^= word;
    sip_round(s);
    s->a ^= word;
}

/* The last 0-7 bytes, with the length in the top byte. */
static inline uint64_t tail_word(const char *p, size_t len)
{
    uint64_t word = 0;

    memcpy(&word, p, len & 7);
    return le64toh(word) | (uint64_t)len << 56;
}

uint64_t hash_bytes(struct slice key)
{
    pthread_once(&key_once, make_key);

    struct sip s = {
        process_key[0] ^ 0x736f6d6570736575u,
        process_key[1] ^ 0x646f72616e646f6du,
        process_key[0] ^ 0x6c7967656e657261u,
        process_key[1] ^ 0x7465646279746573u,
    };
    const char *p = key.len ? key.ptr : "";
    const char *words_end = p + (key.len & ~(size_t)7);

    for (; p < words_end; p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        sip_word(&s, le64toh(word));
    }
    sip_word(&s, tail_word(p, key.len));
    s.c ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(&s);
    return s.a ^ s.b ^ s.c ^ s.d;
}
