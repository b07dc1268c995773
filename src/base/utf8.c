/* utf8.c - UTF-8 checked as it arrives.
 *
 * Between two bytes it is enough to know how many continuation bytes are missing and in which range
 * the next one must lie: the range after the first byte is what keeps out overlong forms,
 * surrogates and code points past U+10FFFF (RFC 3629 section 4). All three fit the one word of
 * struct utf8: missing | lowest << 8 | highest << 16. At a character boundary it is 0.
 */
#include "crier/codec.h"

static uint32_t expect(uint32_t missing, uint32_t lowest, uint32_t highest)
{
    return missing | lowest << 8 | highest << 16;
}

/* The state after the first byte of a multi-byte character; 0 when it cannot start one. */
static uint32_t after_first(unsigned char c)
{
    if (c >= 0xc2 && c <= 0xdf)
        return expect(1, 0x80, 0xbf);
    if (c == 0xe0)
        return expect(2, 0xa0, 0xbf);
    if (c == 0xed)
        return expect(2, 0x80, 0x9f);
    if (c >= 0xe1 && c <= 0xef)
        return expect(2, 0x80, 0xbf);
    if (c == 0xf0)
        return expect(3, 0x90, 0xbf);
    if (c >= 0xf1 && c <= 0xf3)
        return expect(3, 0x80, 0xbf);
    if (c == 0xf4)
        return expect(3, 0x80, 0x8f);
    return 0;
}

static const unsigned char *skip_ascii(const unsigned char *p, const unsigned char *end)
{
    uint64_t word;

    while (end - p >= 8) {
        memcpy(&word, p, 8);
        if (word & 0x8080808080808080u)
            break;
        p += 8;
    }
    while (p < end && *p < 0x80)
        p++;
    return p;
}

enum err utf8_feed(struct utf8 *u, struct slice bytes)
{
    if (bytes.len == 0)
        return ERR_OK;

    const unsigned char *p = (const unsigned char *)bytes.ptr, *end = p + bytes.len;
    uint32_t state = u->state;

    for (; p < end; p++) {
        if (state == 0) {
            p = skip_ascii(p, end);
            if (p == end)
                break;
            state = after_first(*p);
            if (state == 0)
                return ERR_UTF8;
            continue;
        }
        if (*p < (state >> 8 & 0xff) || *p > state >> 16)
            return ERR_UTF8;
        uint32_t missing = (state & 0xff) - 1;
        state = missing ? expect(missing, 0x80, 0xbf) : 0;
    }
    u->state = state;
    return ERR_OK;
}

bool utf8_is_valid(struct slice s)
{
    struct utf8 u;

    utf8_init(&u);
    return utf8_feed(&u, s) == ERR_OK && utf8_is_complete(&u);
}
