/* deflate.h - raw DEFLATE (RFC 1951) in pieces that stand alone, and back (zlib; deflate.c is the
 * only file that includes zlib.h).
 *
 * A piece refers to nothing before it and ends at a byte boundary with an empty stored block
 * (Z_SYNC_FLUSH: 00 00 FF FF), so the same bytes are good for every client whatever it was sent
 * before: as a permessage-deflate message (RFC 7692 7.2.1, without those four bytes) and within a
 * gzip stream (RFC 1952). The compressor's memory is one state per thread and window, not per
 * client. Any thread, after deflate_configure.
 */
#ifndef CRIER_DEFLATE_H
#define CRIER_DEFLATE_H

#include "crier/buf.h"

#define DEFLATE_TAIL_BYTES 4 /* the empty stored block at the end of a piece */

/* NARROW is for peers that asked for a small window (RFC 7692 7.1.2.1): 9 bits, which every window
 * from 9 on can read. WIDE has as many bits as configured. */
enum deflate_window { DEFLATE_WIDE, DEFLATE_NARROW };

/* Once, before other threads start. level 1-9, window_bits 9-15. */
void deflate_configure(int level, int window_bits);
int deflate_window_bits(void);
/* ERR_NOMEM, ERR_LIMIT (needs room for what does not get smaller); b is then as before. */
enum err deflate_append(struct buf *b, struct slice plain, enum deflate_window w) MUST_CHECK;
/* The same bytes not compressed: stored blocks (5 bytes each, at most 65,535 of payload). */
void deflate_append_stored(struct buf *b, struct slice plain);

/* CRC-32 of RFC 1952; 0 to begin with. */
uint32_t crc32_add(uint32_t crc, struct slice bytes);
/* Of a and b behind each other, when b_len is the length of b. */
uint32_t crc32_join(uint32_t a, uint32_t b, uint64_t b_len);

/* One direction of inflating; about 40 KB, so it is pooled and lent (ws.c). */
struct inflater;
struct inflater *inflater_try_new(void); /* NULL when memory is used up */
void inflater_free(struct inflater *f);
/* Forgets everything: the next byte begins a stream of its own. */
void inflater_reset(struct inflater *f);
/* Inflates from *in, which is moved on, into out (room > 0); *n bytes came, also on an error.
 * ERR_OK: call again while *n == room or in->len; ERR_SYNTAX: not DEFLATE; ERR_NOMEM. Never holds
 * back output that there is. After a final block the next byte begins a stream of its own. */
enum err inflater_feed(struct inflater *f, struct slice *in, char *out, size_t room,
                       size_t *n) MUST_CHECK;
/* After a feed: a block has just ended, at a byte boundary. */
bool inflater_is_between_blocks(const struct inflater *f);

#endif
