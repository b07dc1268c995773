/* option.c - from the text of one option to its field, or to a sentence that says what is wrong.
 *
 * The sentence always has the same form: where it was found, what was found, what was expected.
 * What is expected comes from the row's kind and range, so that it cannot differ from what is
 * accepted. Knows nothing of where values come from.
 */
#include "option.h"

#include "crier/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum err option_fail(struct config_error *e, enum err code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->text, sizeof(e->text), fmt, args);
    va_end(args);
    /* One line, whatever bytes the value had. */
    for (char *c = e->text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return code;
}

void option_show(struct slice value, char out[OPTION_SHOWN_BYTES])
{
    const char *colon = value.len ? memmem(value.ptr, value.len, "://", 3) : NULL;
    bool secret =
        colon && (memchr(value.ptr, '@', value.len) || !slice_starts_with(value, SLICE("http")));
    size_t len = secret ? (size_t)(colon + 3 - value.ptr) : value.len;
    snprintf(out, OPTION_SHOWN_BYTES, "%.*s%s", (int)(len > 100 ? 100 : len),
             value.ptr ? value.ptr : "", secret ? "..." : "");
}

/* Texts */

enum err option_check_log_level(struct slice value, const char **expected)
{
    enum log_level level;
    *expected = "error, warn, info or debug";
    return log_level_parse(value, &level);
}

enum err option_check_client_auth(struct slice value, const char **expected)
{
    *expected = "none, optional or required";
    bool known = slice_eq(value, SLICE("none")) || slice_eq(value, SLICE("optional")) ||
                 slice_eq(value, SLICE("required"));
    return known ? ERR_OK : ERR_SYNTAX;
}

enum err option_check_codings(struct slice value, const char **expected)
{
    struct slice one;
    *expected = "zstd and gzip, comma separated, or none";
    if (slice_eq(value, SLICE("none")))
        return ERR_OK;
    while (slice_split(&value, ',', &one))
        if (!slice_eq(slice_trim(one), SLICE("zstd")) && !slice_eq(slice_trim(one), SLICE("gzip")))
            return ERR_SYNTAX;
    return ERR_OK;
}

enum err option_check_host(struct slice value, const char **expected)
{
    *expected = "host names or IP addresses, comma separated, without port";
    struct slice part;
    while (slice_split(&value, ',', &part)) {
        part = slice_trim(part);
        if (part.len == 0 || memchr(part.ptr, '/', part.len) || memchr(part.ptr, ' ', part.len))
            return ERR_SYNTAX;
    }
    return ERR_OK;
}

/* scheme://host[:port] as browsers send it: a path or a trailing slash would never match. */
static bool is_origin(struct slice s)
{
    struct slice scheme =
        slice_starts_with(s, SLICE("https://")) ? SLICE("https://") : SLICE("http://");
    if (!slice_starts_with(s, scheme) || s.len == scheme.len)
        return false;
    for (size_t i = scheme.len; i < s.len; i++) {
        char c = s.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("/?#@*\\", c) || (c >= 'A' && c <= 'Z'))
            return false;
    }
    return true;
}

enum err option_check_origins(struct slice value, const char **expected)
{
    *expected = "origins as browsers send them, comma separated, like "
                "https://app.example.com or http://localhost:3000 (lower case, no path, no "
                "trailing slash), or * alone";
    if (value.len == 0 || slice_eq(value, SLICE("*")))
        return ERR_OK;
    struct slice part;
    while (slice_split(&value, ',', &part))
        if (!is_origin(slice_trim(part)))
            return ERR_SYNTAX;
    return ERR_OK;
}

/* Without braces: in Redis they would be taken for the hash tag, which is the channel. */
enum err option_check_redis_prefix(struct slice value, const char **expected)
{
    *expected = "1 to 64 of A-Z a-z 0-9 _ . : @ = + , ~ ! - / and no URL";
    /* A URL at the wrong flag would be logged with its password. */
    if (value.len < 1 || value.len > 64 || memmem(value.ptr, value.len, "://", 3))
        return ERR_SYNTAX;
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (!c || !strchr("_.:@=+,~!-/", c)))
            return ERR_SYNTAX;
    }
    return ERR_OK;
}

static enum err set_text(char **field, const struct option *o, struct slice value,
                         const char **expected)
{
    enum err e = o->check ? o->check(value, expected) : ERR_OK;
    if (e)
        return e;
    free(*field);
    *field = slice_dup(value);
    return ERR_OK;
}

/* Booleans */

static enum err set_bool(bool *field, struct slice value, const char **expected)
{
    static const char *const words[2][4] = {{"no", "false", "0", "off"},
                                            {"yes", "true", "1", "on"}};
    *expected = "yes or no";
    for (int on = 0; on < 2; on++)
        for (int i = 0; i < 4; i++)
            if (slice_eq_nocase(value, slice_str(words[on][i]))) {
                *field = on != 0;
                return ERR_OK;
            }
    return ERR_SYNTAX;
}

/* Numbers */

struct unit {
    const char *suffix;
    uint64_t factor;
};

static enum err parse_scaled(struct slice s, const struct unit *units, size_t n_units,
                             uint64_t plain_factor, uint64_t *out)
{
    uint64_t factor = plain_factor, v;
    size_t digits = 0;
    while (digits < s.len && s.ptr[digits] >= '0' && s.ptr[digits] <= '9')
        digits++;
    if (digits < s.len) {
        struct slice suffix = slice_of(s.ptr + digits, s.len - digits);
        size_t i = 0;
        while (i < n_units && !slice_eq_nocase(suffix, slice_str(units[i].suffix)))
            i++;
        if (i == n_units)
            return ERR_SYNTAX;
        factor = units[i].factor;
    }
    enum err e = slice_to_u64(slice_of(s.ptr, digits), UINT64_MAX, &v);
    if (e)
        return e;
    return __builtin_mul_overflow(v, factor, out) ? ERR_RANGE : ERR_OK;
}

enum err config_parse_duration(struct slice s, uint64_t *ms)
{
    static const struct unit units[] = {{"ms", 1}, {"s", SECOND}, {"m", 60 * SECOND}, {"h", HOUR}};
    uint64_t v;
    enum err e = parse_scaled(s, units, sizeof(units) / sizeof(units[0]), SECOND, &v);
    if (e == ERR_OK)
        *ms = v;
    return e;
}

enum err config_parse_bytes(struct slice s, uint64_t *bytes)
{
    static const struct unit units[] = {{"k", KIB}, {"m", MIB}, {"g", GIB}};
    uint64_t v;
    enum err e = parse_scaled(s, units, sizeof(units) / sizeof(units[0]), 1, &v);
    if (e == ERR_OK)
        *bytes = v;
    return e;
}

static enum err parse_number(const struct option *o, struct slice value, uint64_t *v)
{
    enum err e;
    if (o->kind == KIND_DURATION)
        e = config_parse_duration(value, v);
    else if (o->kind == KIND_BYTES)
        e = config_parse_bytes(value, v);
    else
        e = slice_to_u64(value, UINT64_MAX, v);
    if (e)
        return e;
    return *v < o->min || *v > o->max ? ERR_RANGE : ERR_OK;
}

/* The largest unit that says it exactly. */
static void describe_amount(char *out, size_t out_bytes, enum kind kind, uint64_t v)
{
    static const struct unit durations[] = {{"h", HOUR}, {"m", 60 * SECOND}, {"s", SECOND}};
    static const struct unit bytes[] = {{"g", GIB}, {"m", MIB}, {"k", KIB}};
    const struct unit *units = kind == KIND_DURATION ? durations : bytes;
    if (kind == KIND_DURATION || kind == KIND_BYTES)
        for (int i = 0; i < 3; i++)
            if (v > 0 && v % units[i].factor == 0) {
                snprintf(out, out_bytes, "%" PRIu64 "%s", v / units[i].factor, units[i].suffix);
                return;
            }
    snprintf(out, out_bytes, "%" PRIu64 "%s", v, kind == KIND_DURATION && v > 0 ? "ms" : "");
}

static void describe_number(char *out, size_t out_bytes, const struct option *o)
{
    const char *what = "a number";
    char low[32], high[32];
    describe_amount(low, sizeof(low), o->kind, o->min);
    describe_amount(high, sizeof(high), o->kind, o->max);
    if (o->kind == KIND_DURATION)
        what = "a duration like 250ms, 15s, 5m or 2h";
    else if (o->kind == KIND_BYTES)
        what = "a size like 4096, 64k or 1m";
    snprintf(out, out_bytes, "%s, %s to %s", what, low, high);
}

static void store_number(struct config *c, const struct option *o, uint64_t v)
{
    char *field = (char *)c + o->offset;
    uint16_t v16 = (uint16_t)v;
    uint32_t v32 = (uint32_t)v;
    if (o->kind == KIND_PORT)
        memcpy(field, &v16, sizeof(v16));
    else if (o->kind == KIND_COUNT32)
        memcpy(field, &v32, sizeof(v32));
    else
        memcpy(field, &v, sizeof(v));
}

enum err option_set(struct config *c, const struct option *o, struct slice value,
                    const struct source *from)
{
    void *field = (char *)c + o->offset;
    const char *expected = NULL;
    char range[128];
    uint64_t v;
    enum err e;
    if (o->kind == KIND_TEXT) {
        e = set_text(field, o, value, &expected);
    } else if (o->kind == KIND_BOOL) {
        e = set_bool(field, value, &expected);
    } else {
        e = parse_number(o, value, &v);
        if (e == ERR_OK)
            store_number(c, o, v);
        describe_number(range, sizeof(range), o);
        expected = range;
    }
    if (e == ERR_OK)
        return ERR_OK;
    char shown[OPTION_SHOWN_BYTES];
    option_show(value, shown);
    return option_fail(from->err, e, "%s: found \"%s\", expected %s", from->text, shown, expected);
}
