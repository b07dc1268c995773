/* slice.c - comparing, trimming, splitting and reading borrowed bytes.
 *
 * Nothing here looks at the locale: what arrives on the wire is ASCII by its grammar, and tolower()
 * under a Turkish locale would make two header names differ.
 */
#include "crier/slice.h"

#include <stdlib.h>

static unsigned char ascii_lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

bool slice_eq_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower((unsigned char)a.ptr[i]) != ascii_lower((unsigned char)b.ptr[i]))
            return false;
    return true;
}

bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_eq(slice_of(s.ptr, prefix.len), prefix);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s)
{
    while (s.len > 0 && is_blank(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

bool slice_split(struct slice *rest, char sep, struct slice *part)
{
    if (!rest->ptr)
        return false;

    const char *at = rest->len ? memchr(rest->ptr, sep, rest->len) : NULL;
    if (!at) {
        *part = *rest;
        *rest = SLICE_NONE;
        return true;
    }
    size_t n = (size_t)(at - rest->ptr);
    *part = slice_of(rest->ptr, n);
    *rest = slice_of(at + 1, rest->len - n - 1);
    return true;
}

enum err slice_to_u64(struct slice s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    bool over = false;

    if (s.len == 0)
        return ERR_SYNTAX;
    /* Goes on after an overflow: "99999999999999999999x" is no number at all. */
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return ERR_SYNTAX;
        over |= __builtin_mul_overflow(v, 10, &v);
        over |= __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v);
    }
    if (over || v > max)
        return ERR_RANGE;
    *out = v;
    return ERR_OK;
}

char *slice_dup(struct slice s)
{
    char *copy = malloc(s.len + 1);

    BUG_ON(!copy);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}
