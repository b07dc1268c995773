/* buf.h - a growing byte buffer that cannot be made without a maximum.
 *
 * Appending never half-succeeds. A failed append (over the maximum, or out of memory) leaves the
 * content as it was and sets `failed`, which stays set: a builder appends freely and asks once at
 * the end. Single owner, no locks.
 */
#ifndef CRIER_BUF_H
#define CRIER_BUF_H

#include "crier/slice.h"

struct buf {
    char *data; /* owned */
    size_t len;
    size_t cap;
    size_t max;
    bool failed;
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_release(struct buf *b); /* frees; b may be initialised again */
void buf_clear(struct buf *b);   /* empty and not failed; keeps the memory */
void buf_append(struct buf *b, struct slice s);
void buf_append_str(struct buf *b, const char *s);
void buf_append_char(struct buf *b, char c);
void buf_append_u64(struct buf *b, uint64_t v); /* decimal */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Room for n more bytes at data + len, or ERR_LIMIT / ERR_NOMEM; does not set `failed`. */
enum err buf_reserve(struct buf *b, size_t n) MUST_CHECK;
/* Removes the first n bytes (n <= len). */
void buf_consume(struct buf *b, size_t n);
/* Gives the memory (malloc) away and leaves the buffer empty; NULL if it never held a byte. */
char *buf_take(struct buf *b, size_t *len);
static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->data, b->len);
}

#endif
