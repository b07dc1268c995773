/* codec.h - small codecs without state, and UTF-8 with a little. Any thread. */
#ifndef CRIER_CODEC_H
#define CRIER_CODEC_H

#include "crier/buf.h"

/* RFC 4648 section 4, with padding. */
void base64_append(struct buf *b, struct slice bytes);
size_t base64_len(size_t n_bytes); /* characters of the padded form */
/* Strict: canonical, padded, no blanks. out holds at least 3 * len / 4 bytes. */
enum err base64_decode(struct slice text, uint8_t *out, size_t *out_len) MUST_CHECK;

/* RFC 3986 percent-decoding, `+` is a blank when plus_is_space (query strings). Appends to b.
 * ERR_SYNTAX for a bad escape, ERR_LIMIT when it does not fit: b's content is then as before. */
enum err percent_decode(struct slice s, bool plus_is_space, struct buf *b) MUST_CHECK;
/* Everything but unreserved characters is escaped. */
void percent_append(struct buf *b, struct slice s);

/* out: 20 bytes (libcrypto). Only where a protocol names it: the WebSocket handshake (RFC 6455
 * 4.2.2), and what Redis calls a script. */
void sha1(struct slice bytes, uint8_t out[20]);

/* UTF-8 as it arrives (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
struct utf8 {
    uint32_t state; /* 0 = at a character boundary */
};
static inline void utf8_init(struct utf8 *u)
{
    u->state = 0;
}
/* ERR_UTF8 at the first byte that cannot be continued to valid UTF-8. */
enum err utf8_feed(struct utf8 *u, struct slice bytes) MUST_CHECK;
static inline bool utf8_is_complete(const struct utf8 *u)
{
    return u->state == 0;
}
bool utf8_is_valid(struct slice s);

#endif
