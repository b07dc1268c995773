/* cursor.h - positions in channels, and the text that clients carry.
 *
 * A position is (epoch, offset): the offset counts a channel's messages, the epoch names the order
 * they were counted in. Another epoch means that offsets cannot be compared.
 *
 * A cursor is one entry per channel joined by '~'. An entry is 4 characters of channel tag, 5 of
 * epoch, and 1-11 of offset, all base64url digits, most significant first: 15 bytes up to offset
 * 2^36, so 8 channels take at most 127 bytes (a Last-Event-ID over 128 bytes costs a CORS
 * preflight). Cursors of single channels may be joined with '~' by anyone. Clients must treat
 * the rest as opaque.
 *
 * The tag is 24 bits of a hash that is the same in every process. Two channels of one request may
 * share it: entries are matched by place first (same list, same order), then by tag; a tag that
 * several entries carry finds nothing, which the client is told as a gap.
 */
#ifndef CRIER_CURSOR_H
#define CRIER_CURSOR_H

#include "crier/buf.h"

#define CURSOR_MAX_ENTRIES 128
#define CURSOR_ENTRY_MAX_BYTES 20
#define CURSOR_EPOCH_MAX ((1u << 30) - 1) /* epochs are 1 .. this; 0 = none */

struct position {
    uint32_t epoch;
    uint64_t offset; /* of the last message that was received; 0 = before the first */
};

struct cursor_entry {
    uint32_t tag;
    struct position pos;
};

struct cursor {
    size_t count;
    struct cursor_entry entry[CURSOR_MAX_ENTRIES];
};

uint32_t cursor_tag(struct slice channel);
/* ERR_SYNTAX for anything not of the form above (also for an empty text), ERR_LIMIT for too many
 * entries. */
enum err cursor_parse(struct slice text, struct cursor *out) MUST_CHECK;
/* Position of the i-th of n requested channels, as described above. ERR_NOT_FOUND. */
enum err cursor_find(const struct cursor *c, struct slice channel, size_t i, size_t n,
                     struct position *out) MUST_CHECK;
/* Appends one entry to `out`; the caller puts '~' between entries. */
void cursor_append(struct buf *out, uint32_t tag, struct position pos);
/* The same into an array, not terminated; returns the length. */
size_t cursor_format(char out[CURSOR_ENTRY_MAX_BYTES], uint32_t tag, struct position pos);
/* A random epoch in 1 .. CURSOR_EPOCH_MAX. */
uint32_t cursor_new_epoch(void);

#endif
