/* json_check.c - is this text one JSON value (RFC 8259)?
 *
 * UTF-8 is checked over the whole text first; after that only the grammar is left, and every byte
 * from 0x80 up is just a character of a string. The grammar is a small state machine: `want` says
 * what may come next and `kinds` remembers in one bit per level whether it is in an object, so
 * nesting costs no stack and is bounded by construction.
 *
 * Duplicate names are found by a keyed 64-bit hash of the decoded name: names are collected per
 * object and sorted at its end, n log n however many there are. That two different names share the
 * hash is less likely than a broken machine, and a peer cannot search for them without the key.
 */
#include "crier/codec.h"
#include "crier/json.h"
#include "crier/map.h"
#include "json_internal.h"

#include <stdlib.h>

#define FEW_NAMES 16

_Static_assert(JSON_MAX_DEPTH <= 64, "one bit per level in a 64-bit word");

enum want { WANT_VALUE, WANT_VALUE_OR_END, WANT_NAME, WANT_NAME_OR_END, WANT_COMMA_OR_END };

struct name {
    uint64_t hash;
    size_t offset;
};

struct checker {
    const char *start, *p, *end;
    enum want want;
    unsigned depth;
    uint64_t kinds; /* lowest bit: the innermost container is an object */
    bool reject_duplicates;
    struct name *names; /* of the object that is looked at; `few` or on the heap */
    size_t n_names, names_cap;
    struct name few[FEW_NAMES];
    struct json_error error;
};

static enum err fail(struct checker *c, enum err e, const char *what)
{
    c->error = (struct json_error){(size_t)(c->p - c->start), what};
    return e;
}

/* -1 at the end. */
static int peek(const struct checker *c)
{
    return c->p < c->end ? (unsigned char)*c->p : -1;
}

static void skip_blank(struct checker *c)
{
    while (c->p < c->end && json_is_blank(*c->p))
        c->p++;
}

static enum err check_utf8(struct checker *c)
{
    struct utf8 u;

    utf8_init(&u);
    if (utf8_feed(&u, slice_of(c->p, (size_t)(c->end - c->p))) == ERR_OK && utf8_is_complete(&u))
        return ERR_OK;
    utf8_init(&u);
    const char *at = c->p;
    while (at < c->end && utf8_feed(&u, slice_of(at, 1)) == ERR_OK)
        at++;
    c->p = at;
    return fail(c, ERR_UTF8, "UTF-8");
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* After the backslash. */
static enum err check_escape(struct checker *c)
{
    int kind = peek(c);

    if (kind < 0 || !strchr("\"\\/bfnrtu", kind) || kind == 0)
        return fail(c, ERR_SYNTAX, "an escape");
    c->p++;
    for (int i = 0; kind == 'u' && i < 4; i++, c->p++)
        if (!is_hex(peek(c)))
            return fail(c, ERR_SYNTAX, "four hexadecimal digits");
    return ERR_OK;
}

/* Most of most texts is this: kept apart from the checker, whose members live in memory. */
static const char *skip_plain(const char *p, const char *end)
{
    while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
        p++;
    return p;
}

static enum err check_string(struct checker *c)
{
    c->p++; /* the opening quote */
    for (;;) {
        c->p = skip_plain(c->p, c->end);
        int ch = peek(c);
        if (ch < 0x20)
            return fail(c, ERR_SYNTAX, ch < 0 ? "the end of a string" : "an escaped control");
        c->p++;
        if (ch == '"')
            return ERR_OK;
        if (ch == '\\') {
            enum err e = check_escape(c);
            if (e != ERR_OK)
                return e;
        }
    }
}

static enum err check_digits(struct checker *c)
{
    if (!is_digit(peek(c)))
        return fail(c, ERR_SYNTAX, "a digit");
    while (is_digit(peek(c)))
        c->p++;
    return ERR_OK;
}

static enum err check_number(struct checker *c)
{
    enum err e = ERR_OK;

    if (peek(c) == '-')
        c->p++;
    if (peek(c) == '0')
        c->p++; /* no digit may follow: "01" ends here and fails as "0" followed by a value */
    else
        e = check_digits(c);
    if (e == ERR_OK && peek(c) == '.') {
        c->p++;
        e = check_digits(c);
    }
    if (e == ERR_OK && (peek(c) == 'e' || peek(c) == 'E')) {
        c->p++;
        if (peek(c) == '+' || peek(c) == '-')
            c->p++;
        e = check_digits(c);
    }
    return e;
}

static enum err check_word(struct checker *c, struct slice word)
{
    if (!slice_starts_with(slice_of(c->p, (size_t)(c->end - c->p)), word))
        return fail(c, ERR_SYNTAX, "a value");
    c->p += word.len;
    return ERR_OK;
}

static enum err check_scalar(struct checker *c)
{
    switch (peek(c)) {
    case '"':
        return check_string(c);
    case 't':
        return check_word(c, SLICE("true"));
    case 'f':
        return check_word(c, SLICE("false"));
    case 'n':
        return check_word(c, SLICE("null"));
    default:
        if (peek(c) != '-' && !is_digit(peek(c)))
            return fail(c, ERR_SYNTAX, "a value");
        return check_number(c);
    }
}

/* Is the innermost container an object whose names are compared? Only one can be open at a time. */
static bool names_matter(const struct checker *c)
{
    if (!c->reject_duplicates || !(c->kinds & 1))
        return false;
    return c->depth == 1 || (c->depth == 2 && !(c->kinds & 2));
}

static enum err open_container(struct checker *c, bool object)
{
    if (c->depth == JSON_MAX_DEPTH)
        return fail(c, ERR_LIMIT, "less nesting");
    c->p++;
    c->depth++;
    c->kinds = c->kinds << 1 | object;
    c->want = object ? WANT_NAME_OR_END : WANT_VALUE_OR_END;
    if (names_matter(c))
        c->n_names = 0;
    return ERR_OK;
}

static int compare_names(const void *left, const void *right)
{
    const struct name *a = left, *b = right;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static enum err check_duplicates(struct checker *c)
{
    if (c->n_names > 1)
        qsort(c->names, c->n_names, sizeof *c->names, compare_names);
    for (size_t i = 1; i < c->n_names; i++) {
        if (c->names[i].hash == c->names[i - 1].hash) {
            c->p = c->start + c->names[i].offset;
            return fail(c, ERR_EXISTS, "a name that was not used before");
        }
    }
    return ERR_OK;
}

static enum err close_container(struct checker *c)
{
    enum err e = names_matter(c) ? check_duplicates(c) : ERR_OK;

    if (e != ERR_OK)
        return e;
    c->p++;
    c->depth--;
    c->kinds >>= 1;
    c->want = WANT_COMMA_OR_END;
    return ERR_OK;
}

static enum err check_value(struct checker *c)
{
    int ch = peek(c);

    if (ch == '{' || ch == '[')
        return open_container(c, ch == '{');
    c->want = WANT_COMMA_OR_END;
    return check_scalar(c);
}

static enum err hash_name(struct slice quoted, uint64_t *hash)
{
    struct slice raw = slice_of(quoted.ptr + 1, quoted.len - 2);
    struct buf decoded;

    if (!memchr(quoted.ptr, '\\', quoted.len)) {
        *hash = hash_bytes(raw);
        return ERR_OK;
    }
    buf_init(&decoded, raw.len);
    enum err e = json_unescape(quoted, &decoded);
    *hash = hash_bytes(buf_slice(&decoded));
    buf_release(&decoded);
    return e;
}

static enum err make_room_for_name(struct checker *c)
{
    if (c->n_names < c->names_cap)
        return ERR_OK;

    bool on_heap = c->names != c->few;
    struct name *names = realloc(on_heap ? c->names : NULL, 2 * c->names_cap * sizeof *names);
    if (!names)
        return fail(c, ERR_NOMEM, "memory");
    if (!on_heap)
        memcpy(names, c->few, sizeof c->few);
    c->names = names;
    c->names_cap *= 2;
    return ERR_OK;
}

static enum err remember_name(struct checker *c, const char *from)
{
    struct name name = {.offset = (size_t)(from - c->start)};
    enum err e = make_room_for_name(c);

    if (e != ERR_OK)
        return e;
    e = hash_name(slice_of(from, (size_t)(c->p - from)), &name.hash);
    if (e != ERR_OK)
        return fail(c, e, "a name");
    c->names[c->n_names++] = name;
    return ERR_OK;
}

static enum err check_name(struct checker *c)
{
    const char *from = c->p;

    if (peek(c) != '"')
        return fail(c, ERR_SYNTAX, "a name");
    enum err e = check_string(c);
    if (e == ERR_OK && names_matter(c))
        e = remember_name(c, from);
    if (e != ERR_OK)
        return e;
    skip_blank(c);
    if (peek(c) != ':')
        return fail(c, ERR_SYNTAX, "a colon");
    c->p++;
    c->want = WANT_VALUE;
    return ERR_OK;
}

static enum err check_separator(struct checker *c)
{
    bool object = c->kinds & 1;

    if (peek(c) == (object ? '}' : ']'))
        return close_container(c);
    if (peek(c) != ',')
        return fail(c, ERR_SYNTAX, "a comma or the end");
    c->p++;
    c->want = object ? WANT_NAME : WANT_VALUE;
    return ERR_OK;
}

static enum err step(struct checker *c)
{
    skip_blank(c);
    switch (c->want) {
    case WANT_VALUE_OR_END:
        return peek(c) == ']' ? close_container(c) : check_value(c);
    case WANT_NAME_OR_END:
        return peek(c) == '}' ? close_container(c) : check_name(c);
    case WANT_NAME:
        return check_name(c);
    case WANT_COMMA_OR_END:
        return check_separator(c);
    case WANT_VALUE:
        break;
    }
    return check_value(c);
}

static enum err check_text(struct checker *c)
{
    enum err e = check_utf8(c);

    while (e == ERR_OK && (c->depth > 0 || c->want != WANT_COMMA_OR_END))
        e = step(c);
    if (e != ERR_OK)
        return e;
    skip_blank(c);
    return c->p == c->end ? ERR_OK : fail(c, ERR_SYNTAX, "the end of the text");
}

enum err json_check(struct slice text, bool reject_duplicates, struct json_error *err_out)
{
    struct checker c = {.reject_duplicates = reject_duplicates, .names_cap = FEW_NAMES};

    if (text.len == 0)
        text = SLICE("");
    c.start = c.p = text.ptr;
    c.end = text.ptr + text.len;
    c.names = c.few;
    enum err e = check_text(&c);
    if (c.names != c.few)
        free(c.names);
    if (e != ERR_OK && err_out)
        *err_out = c.error;
    return e;
}
