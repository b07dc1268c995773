/* zstd.h - Zstandard frames (RFC 8878) that stand alone (libzstd; zstd.c is the only file that
 * includes zstd.h of the library).
 *
 * A body with Content-Encoding: zstd is one or more frames (RFC 8878 3.1), so each event is a frame
 * of its own that is the same for every client. Any thread.
 */
#ifndef CRIER_ZSTD_H
#define CRIER_ZSTD_H

#include "crier/buf.h"

/* One frame; no checksum, window within what browsers accept (RFC 9659: 8 MiB). ERR_NOMEM; b is
 * then as before. */
enum err zstd_append(struct buf *b, struct slice plain) MUST_CHECK;
/* The same bytes not compressed: frames of one raw block each; nothing for nothing. */
void zstd_append_stored(struct buf *b, struct slice plain);

#endif
