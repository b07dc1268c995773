/* cursor.c - the text that clients carry.
 *
 * Every position has exactly one text: offsets have no leading zero digit, and what does not fit
 * 64 bits is refused. So parsing and formatting are inverse to each other, and a cursor that came
 * back may be compared as bytes.
 *
 * Nothing here is secret or signed: a forged cursor only asks for messages of a channel that its
 * bearer may read anyway.
 */
#include "crier/cursor.h"

#include "crier/rnd.h"

#define TAG_DIGITS 4
#define EPOCH_DIGITS 5
#define OFFSET_MAX_DIGITS 11

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

uint32_t cursor_tag(struct slice channel)
{
    /* FNV-1a, then a mix: the same in every process and for ever, as clients keep cursors. */
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < channel.len; i++) {
        h ^= (uint8_t)channel.ptr[i];
        h *= 0x100000001b3u;
    }
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 40);
}

static bool parse_number(struct slice text, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < text.len; i++) {
        int d = digit_value(text.ptr[i]);
        if (d < 0 || v >> 58)
            return false;
        v = v << 6 | (uint64_t)d;
    }
    *out = v;
    return true;
}

static bool parse_entry(struct slice text, struct cursor_entry *e)
{
    const size_t fixed = TAG_DIGITS + EPOCH_DIGITS;
    uint64_t tag, epoch, offset;
    if (text.len <= fixed || text.len > fixed + OFFSET_MAX_DIGITS)
        return false;
    struct slice tail = slice_of(text.ptr + fixed, text.len - fixed);
    if (tail.len > 1 && tail.ptr[0] == digits[0])
        return false;
    if (!parse_number(slice_of(text.ptr, TAG_DIGITS), &tag) ||
        !parse_number(slice_of(text.ptr + TAG_DIGITS, EPOCH_DIGITS), &epoch) ||
        !parse_number(tail, &offset))
        return false;
    e->tag = (uint32_t)tag;
    e->pos = (struct position){.epoch = (uint32_t)epoch, .offset = offset};
    return true;
}

enum err cursor_parse(struct slice text, struct cursor *out)
{
    struct slice part;
    size_t count = 0;
    if (text.len == 0)
        return ERR_SYNTAX;
    while (slice_split(&text, '~', &part)) {
        if (count == CURSOR_MAX_ENTRIES)
            return ERR_LIMIT;
        if (!parse_entry(part, &out->entry[count]))
            return ERR_SYNTAX;
        count++;
    }
    out->count = count;
    return ERR_OK;
}

enum err cursor_find(const struct cursor *c, struct slice channel, size_t i, size_t n,
                     struct position *out)
{
    const struct cursor_entry *found = NULL;
    uint32_t tag = cursor_tag(channel);
    if (c->count == n && i < n && c->entry[i].tag == tag) {
        found = &c->entry[i];
    } else {
        for (size_t k = 0; k < c->count; k++) {
            if (c->entry[k].tag != tag)
                continue;
            if (found)
                return ERR_NOT_FOUND;
            found = &c->entry[k];
        }
    }
    /* Epoch 0 stands for "no position yet". */
    if (!found || found->pos.epoch == 0)
        return ERR_NOT_FOUND;
    *out = found->pos;
    return ERR_OK;
}

static char *put_digits(char *at, uint64_t v, size_t n)
{
    while (n-- > 0)
        *at++ = digits[v >> (6 * n) & 63];
    return at;
}

size_t cursor_format(char out[CURSOR_ENTRY_MAX_BYTES], uint32_t tag, struct position pos)
{
    size_t n = 1;
    while (n < OFFSET_MAX_DIGITS && pos.offset >> (6 * n))
        n++;
    char *at = put_digits(out, tag, TAG_DIGITS);
    at = put_digits(at, pos.epoch, EPOCH_DIGITS);
    at = put_digits(at, pos.offset, n);
    return (size_t)(at - out);
}

void cursor_append(struct buf *out, uint32_t tag, struct position pos)
{
    char text[CURSOR_ENTRY_MAX_BYTES];
    buf_append(out, slice_of(text, cursor_format(text, tag, pos)));
}

uint32_t cursor_new_epoch(void)
{
    uint32_t epoch;
    do
        epoch = (uint32_t)(rnd_u64() & CURSOR_EPOCH_MAX);
    while (epoch == 0);
    return epoch;
}
