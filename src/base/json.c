/* json.c - finding values in a checked text, and writing strings.
 *
 * Nothing is parsed into a tree: a value is the slice of the input it was written in. Walking is a
 * scan for the matching end and allocates nothing. The text was checked before, so the scan looks
 * only at what it needs; it still never leaves its slice, whatever the bytes are.
 *
 * Looking up a member costs a scan of the object. That is meant for a handful of look-ups per text.
 */
#include "crier/json.h"
#include "crier/codec.h"
#include "json_internal.h"

void json_init(void)
{
    json_unescape_init();
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && json_is_blank(s.ptr[0]))
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len > 0 && json_is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

enum json_type json_type_of(struct slice value)
{
    value = trim(value);
    switch (value.len ? value.ptr[0] : 'n') {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
    case 'f':
        return JSON_BOOL;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

static const char *skip_blank(const char *p, const char *end)
{
    while (p < end && json_is_blank(*p))
        p++;
    return p;
}

/* p at the opening quote; answers the place behind the closing one. */
static const char *skip_string(const char *p, const char *end)
{
    const char *from = p + 1, *quote;

    while ((quote = memchr(from, '"', (size_t)(end - from)))) {
        const char *escape = quote;
        while (escape > from && escape[-1] == '\\')
            escape--;
        if ((quote - escape) % 2 == 0)
            return quote + 1;
        from = quote + 1;
    }
    return end;
}

static const char *skip_container(const char *p, const char *end)
{
    size_t depth = 0;

    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
            continue;
        }
        depth += *p == '{' || *p == '[';
        depth -= *p == '}' || *p == ']';
        p++;
        if (depth == 0)
            break;
    }
    return p;
}

static bool ends_scalar(char c)
{
    return c == ',' || c == '}' || c == ']' || c == ':' || json_is_blank(c);
}

static const char *skip_value(const char *p, const char *end)
{
    if (p == end)
        return p;
    if (*p == '"')
        return skip_string(p, end);
    if (*p == '{' || *p == '[')
        return skip_container(p, end);
    while (p < end && !ends_scalar(*p))
        p++;
    return p;
}

static struct slice between(const char *from, const char *to)
{
    return slice_of(from, (size_t)(to - from));
}

static char escaped_char(char kind)
{
    switch (kind) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return kind; /* quote, backslash, slash */
    }
}

/* Length of the escape at the start of s when it stands for the ASCII character c, else 0. */
static size_t escape_matches(struct slice s, char c)
{
    static const char hex[] = "0123456789abcdef";

    if (s.len < 2)
        return 0;
    if (s.ptr[1] != 'u')
        return escaped_char(s.ptr[1]) == c ? 2 : 0;
    char want[4] = {'0', '0', hex[c >> 4 & 15], hex[c & 15]};
    return s.len >= 6 && slice_eq_nocase(slice_of(s.ptr + 2, 4), slice_of(want, 4)) ? 6 : 0;
}

/* Compared in place: decoding each name would let a peer buy much work with few bytes. */
static bool name_is(struct slice quoted, const char *name)
{
    struct slice raw = quoted.len < 2 ? SLICE_NONE : slice_of(quoted.ptr + 1, quoted.len - 2);

    for (; *name && raw.len > 0; name++) {
        size_t n = raw.ptr[0] == '\\' ? escape_matches(raw, *name) : raw.ptr[0] == *name;
        if (n == 0)
            return false;
        raw = slice_of(raw.ptr + n, raw.len - n);
    }
    return *name == '\0' && raw.len == 0;
}

bool json_member(struct slice object, const char *name, struct slice *value)
{
    object = trim(object);
    if (object.len == 0 || object.ptr[0] != '{')
        return false;

    const char *p = object.ptr, *end = p + object.len;
    do {
        p = skip_blank(p + 1, end); /* behind the brace or comma */
        if (p == end || *p != '"')
            return false;
        const char *name_end = skip_string(p, end);
        bool found = name_is(between(p, name_end), name);
        p = skip_blank(name_end, end);
        if (p == end)
            return false;
        p = skip_blank(p + 1, end);
        const char *value_end = skip_value(p, end);
        if (found) {
            *value = between(p, value_end);
            return true;
        }
        p = skip_blank(value_end, end);
    } while (p < end && *p == ',');
    return false;
}

bool json_element(struct slice array, size_t *pos, struct slice *value)
{
    if (array.len == 0)
        return false;

    const char *end = array.ptr + array.len;
    const char *p = *pos ? array.ptr + *pos : skip_blank(array.ptr, end);

    if (p >= end || *p != (*pos ? ',' : '['))
        return false;
    p = skip_blank(p + 1, end);
    if (p == end || *p == ']')
        return false;
    const char *value_end = skip_value(p, end);
    *value = between(p, value_end);
    *pos = (size_t)(skip_blank(value_end, end) - array.ptr);
    return true;
}

enum err json_string_decode(struct slice value, struct buf *out)
{
    value = trim(value);
    if (value.len < 2 || value.ptr[0] != '"' || value.ptr[value.len - 1] != '"')
        return ERR_SYNTAX;
    if (memchr(value.ptr, '\\', value.len))
        return json_unescape(value, out);

    size_t len_before = out->len;
    buf_append(out, slice_of(value.ptr + 1, value.len - 2));
    return out->len == len_before + value.len - 2 ? ERR_OK : ERR_LIMIT;
}

enum err json_u64(struct slice value, uint64_t max, uint64_t *out)
{
    return slice_to_u64(trim(value), max, out);
}

enum err json_bool(struct slice value, bool *out)
{
    value = trim(value);
    bool yes = slice_eq(value, SLICE("true"));

    if (!yes && !slice_eq(value, SLICE("false")))
        return ERR_SYNTAX;
    *out = yes;
    return ERR_OK;
}

static bool needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

static void append_escape(struct buf *b, unsigned char c)
{
    static const char kinds[] = "\bb\ff\nn\rr\tt\"\"\\\\";

    for (const char *k = kinds; *k; k += 2) {
        if ((unsigned char)k[0] == c) {
            buf_append(b, slice_of((char[]){'\\', k[1]}, 2));
            return;
        }
    }
    buf_printf(b, "\\u%04x", (unsigned)c);
}

/* Appends valid UTF-8 as it is and U+FFFD for each longest stretch that could have been the start
 * of a character (Unicode 3.9, "best practice"). */
static void append_repaired(struct buf *b, struct slice s)
{
    size_t start = 0; /* of the character that is being read */
    struct utf8 u;

    utf8_init(&u);
    for (size_t i = 0; i < s.len; i++) {
        if (utf8_feed(&u, slice_of(s.ptr + i, 1)) != ERR_OK) {
            buf_append(b, SLICE("\xef\xbf\xbd"));
            utf8_init(&u);
            if (i > start)
                i--; /* this byte did not belong to it: read it again */
            start = i + 1;
        } else if (utf8_is_complete(&u)) {
            buf_append(b, slice_of(s.ptr + start, i + 1 - start));
            start = i + 1;
        }
    }
    if (start < s.len)
        buf_append(b, SLICE("\xef\xbf\xbd"));
}

void json_append_string(struct buf *b, struct slice s)
{
    bool valid = utf8_is_valid(s);
    size_t start = 0;

    if (s.len == 0)
        s = SLICE("");
    buf_append_char(b, '"');
    for (size_t i = 0; i <= s.len; i++) {
        if (i < s.len && !needs_escape((unsigned char)s.ptr[i]))
            continue;
        struct slice run = slice_of(s.ptr + start, i - start);
        if (valid)
            buf_append(b, run);
        else
            append_repaired(b, run);
        if (i < s.len)
            append_escape(b, (unsigned char)s.ptr[i]);
        start = i + 1;
    }
    buf_append_char(b, '"');
}
