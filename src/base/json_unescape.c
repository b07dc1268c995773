/* json_unescape.c - decoding strings that contain escapes, with jansson.
 *
 * A file of its own, because jansson.h and crier/json.h both claim names such as JSON_OBJECT.
 *
 * jansson refuses a surrogate escape that has no other half. RFC 8259 allows it in the grammar and
 * JavaScript produces it when it cuts a string in the middle of an emoji; one such character must
 * not fail a whole message, so it becomes U+FFFD, and only after jansson said no.
 */
#include "json_internal.h"

#include <jansson.h>

#define UNIT_CHARS 6 /* \uXXXX */

void json_unescape_init(void)
{
    json_object_seed(0);
}

static enum err decode(struct slice quoted, struct buf *out)
{
    json_t *value = json_loadb(quoted.ptr, quoted.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    enum err e = ERR_SYNTAX;

    if (json_is_string(value)) {
        size_t len_before = out->len;
        struct slice text = slice_of(json_string_value(value), json_string_length(value));
        buf_append(out, text);
        e = out->len == len_before + text.len ? ERR_OK : ERR_LIMIT;
    }
    json_decref(value);
    return e;
}

static unsigned hex_value(char c)
{
    return c <= '9' ? (unsigned)(c - '0') & 15 : ((unsigned)(c | 0x20) - 'a' + 10) & 15;
}

/* The code unit of an escape \uXXXX at the start of s; 0 when there is something else. */
static unsigned unit_at(struct slice s)
{
    unsigned unit = 0;

    if (s.len < UNIT_CHARS || s.ptr[0] != '\\' || s.ptr[1] != 'u')
        return 0;
    for (int i = 2; i < UNIT_CHARS; i++)
        unit = unit << 4 | hex_value(s.ptr[i]);
    return unit;
}

static bool is_high(unsigned unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low(unsigned unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

static void replace_lone_surrogates(struct slice s, struct buf *out)
{
    while (s.len > 0) {
        unsigned unit = unit_at(s);
        size_t n = s.ptr[0] == '\\' && s.len > 1 ? 2 : 1; /* an escaped backslash is one item */
        if (is_high(unit) && is_low(unit_at(slice_of(s.ptr + UNIT_CHARS, s.len - UNIT_CHARS)))) {
            n = 2 * UNIT_CHARS;
            buf_append(out, slice_of(s.ptr, n));
        } else if (is_high(unit) || is_low(unit)) {
            n = UNIT_CHARS;
            buf_append_str(out, "\\ufffd");
        } else {
            buf_append(out, slice_of(s.ptr, n));
        }
        s = slice_of(s.ptr + n, s.len - n);
    }
}

enum err json_unescape(struct slice quoted, struct buf *out)
{
    enum err e = decode(quoted, out);
    struct buf repaired;

    if (e != ERR_SYNTAX)
        return e;
    buf_init(&repaired, quoted.len);
    replace_lone_surrogates(quoted, &repaired);
    e = repaired.failed ? ERR_NOMEM : decode(buf_slice(&repaired), out);
    buf_release(&repaired);
    return e;
}
