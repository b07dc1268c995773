/* base64.c - RFC 4648 section 4, one spelling per byte string.
 *
 * Decoding refuses what a lenient decoder would accept (no padding, blanks, leftover bits that are
 * not zero): two texts for the same bytes would let an identifier be forged that compares as
 * different.
 */
#include "crier/codec.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_len(size_t n_bytes)
{
    return (n_bytes / 3 + (n_bytes % 3 != 0)) * 4;
}

/* n: 1 to 3 bytes. */
static void encode_group(const unsigned char *p, size_t n, char out[4])
{
    uint32_t v = (uint32_t)p[0] << 16;

    if (n > 1)
        v |= (uint32_t)p[1] << 8;
    if (n > 2)
        v |= p[2];
    out[0] = alphabet[v >> 18];
    out[1] = alphabet[v >> 12 & 63];
    out[2] = n > 1 ? alphabet[v >> 6 & 63] : '=';
    out[3] = n > 2 ? alphabet[v & 63] : '=';
}

void base64_append(struct buf *b, struct slice bytes)
{
    const unsigned char *p = (const unsigned char *)bytes.ptr;

    if (bytes.len == 0)
        return;
    if (bytes.len > SIZE_MAX / 2 || buf_reserve(b, base64_len(bytes.len)) != ERR_OK) {
        b->failed = true;
        return;
    }
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        encode_group(p + i, left < 3 ? left : 3, b->data + b->len);
        b->len += 4;
    }
}

/* 64 for anything outside the alphabet. */
static uint32_t digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* Reads n digits (2 to 4); gives n - 1 bytes. */
static enum err decode_group(const char *p, size_t n, uint8_t *out)
{
    uint32_t v = 0;

    for (size_t i = 0; i < 4; i++) {
        uint32_t digit = i < n ? digit_value(p[i]) : 0;
        if (digit > 63)
            return ERR_SYNTAX;
        v = v << 6 | digit;
    }
    if (n < 4 && (v & (n == 3 ? 0xffu : 0xffffu)))
        return ERR_SYNTAX; /* leftover bits */
    out[0] = (uint8_t)(v >> 16);
    if (n > 2)
        out[1] = (uint8_t)(v >> 8);
    if (n > 3)
        out[2] = (uint8_t)v;
    return ERR_OK;
}

enum err base64_decode(struct slice text, uint8_t *out, size_t *out_len)
{
    size_t done = 0;

    if (text.len % 4)
        return ERR_SYNTAX;
    for (size_t i = 0; i < text.len; i += 4) {
        const char *p = text.ptr + i;
        size_t n = 4;
        if (i + 4 == text.len && p[3] == '=')
            n = p[2] == '=' ? 2 : 3;
        enum err e = decode_group(p, n, out + done);
        if (e != ERR_OK)
            return e;
        done += n - 1;
    }
    *out_len = done;
    return ERR_OK;
}
