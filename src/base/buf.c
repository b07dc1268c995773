/* buf.c - a growing byte buffer with a maximum.
 *
 * Invariant: len <= cap <= max, and the memory is always one byte larger than cap, because
 * vsnprintf insists on writing a NUL behind the last byte even when the content ends at max.
 *
 * It never shrinks by itself: the owner knows whether the next message will be as large.
 */
#include "crier/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_ALLOC_BYTES 64

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){.max = max_bytes};
}

void buf_release(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

/* The capacity that makes amortised appends cheap; never beyond the maximum. */
static size_t grown_cap(const struct buf *b, size_t need)
{
    size_t alloc = b->cap ? b->cap + 1 : FIRST_ALLOC_BYTES / 2;

    do {
        if (alloc > b->max / 2)
            return b->max;
        alloc *= 2;
    } while (alloc - 1 < need);
    return alloc - 1;
}

enum err buf_reserve(struct buf *b, size_t n)
{
    if (n <= b->cap - b->len && b->data)
        return ERR_OK;
    if (n > b->max - b->len)
        return ERR_LIMIT;

    size_t cap = grown_cap(b, b->len + n);
    if (cap == SIZE_MAX)
        cap--;
    if (cap < b->len + n)
        return ERR_NOMEM;
    char *data = realloc(b->data, cap + 1);
    if (!data)
        return ERR_NOMEM;
    b->data = data;
    b->cap = cap;
    return ERR_OK;
}

void buf_append(struct buf *b, struct slice s)
{
    if (s.len == 0)
        return;
    if (buf_reserve(b, s.len) != ERR_OK) {
        b->failed = true;
        return;
    }
    memcpy(b->data + b->len, s.ptr, s.len);
    b->len += s.len;
}

void buf_append_str(struct buf *b, const char *s)
{
    buf_append(b, slice_str(s));
}

void buf_append_char(struct buf *b, char c)
{
    buf_append(b, slice_of(&c, 1));
}

void buf_append_u64(struct buf *b, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    buf_append(b, slice_of(digits + at, sizeof digits - at));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || buf_reserve(b, (size_t)n) != ERR_OK) {
        b->failed = true;
        return;
    }
    va_start(args, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, args);
    va_end(args);
    b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
    BUG_ON(n > b->len);
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

char *buf_take(struct buf *b, size_t *len)
{
    char *data = b->data;

    *len = b->len;
    buf_init(b, b->max);
    return data;
}
