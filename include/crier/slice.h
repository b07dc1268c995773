/* slice.h - borrowed bytes with a length; never NUL-terminated by contract. */
#ifndef CRIER_SLICE_H
#define CRIER_SLICE_H

#include "crier/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *ptr; /* borrowed; may be NULL when len is 0 */
    size_t len;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
#define SLICE_NONE ((struct slice){NULL, 0})

static inline struct slice slice_of(const void *ptr, size_t len)
{
    return (struct slice){(const char *)ptr, len};
}

static inline struct slice slice_str(const char *s)
{
    return (struct slice){s, s ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII case-insensitive, as header names and tokens are compared (RFC 9110 5.1). */
bool slice_eq_nocase(struct slice a, struct slice b);
bool slice_starts_with(struct slice s, struct slice prefix);
/* Without leading and trailing SP and HTAB. */
struct slice slice_trim(struct slice s);
/* Cuts the part before `sep` off `*rest` (all of it if there is no sep); false when `*rest` was
 * already exhausted (ptr == NULL). "a,,b" yields "a", "", "b". */
bool slice_split(struct slice *rest, char sep, struct slice *part);
/* Decimal digits only, no sign, no blanks. ERR_SYNTAX, or ERR_RANGE over `max`. */
enum err slice_to_u64(struct slice s, uint64_t max, uint64_t *out) MUST_CHECK;
/* A malloc'ed NUL-terminated copy, owned by the caller; aborts when memory is used up. */
char *slice_dup(struct slice s);

#endif
