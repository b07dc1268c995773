/* unpack.h - what a client does with the coding of its event stream, a few bytes at a time. */
#ifndef CRIER_TESTS_UNPACK_H
#define CRIER_TESTS_UNPACK_H

#include "crier/msg.h"

#include <zlib.h>
#include <zstd.h>

#define UNPACK_ROOM 65536

struct unpack {
    enum msg_coding coding;
    bool ended; /* the trailer of a gzip stream has come, and was right */
    z_stream gzip;
    ZSTD_DCtx *zstd; /* owned */
};

static inline void unpack_release(struct unpack *u)
{
    if (u->coding == CODING_GZIP)
        inflateEnd(&u->gzip);
    ZSTD_freeDCtx(u->zstd);
    memset(u, 0, sizeof(*u));
}

static inline void unpack_init(struct unpack *u, enum msg_coding coding)
{
    unpack_release(u);
    u->coding = coding;
    if (coding == CODING_GZIP)
        BUG_ON(inflateInit2(&u->gzip, 16 + 15) != Z_OK);
    if (coding == CODING_ZSTD)
        u->zstd = ZSTD_createDCtx();
}

static inline bool unpack_gzip(struct unpack *u, struct slice in, struct buf *out)
{
    u->gzip.next_in = (Bytef *)(uintptr_t)in.ptr;
    u->gzip.avail_in = (uInt)in.len;
    while (u->gzip.avail_in) {
        char room[UNPACK_ROOM];
        u->gzip.next_out = (Bytef *)room;
        u->gzip.avail_out = sizeof(room);
        int r = u->ended ? Z_DATA_ERROR : inflate(&u->gzip, Z_SYNC_FLUSH);
        if (r != Z_OK && r != Z_STREAM_END)
            return false;
        u->ended = r == Z_STREAM_END;
        buf_append(out, slice_of(room, sizeof(room) - u->gzip.avail_out));
    }
    return true;
}

static inline bool unpack_zstd(struct unpack *u, struct slice in, struct buf *out)
{
    ZSTD_inBuffer from = {in.ptr, in.len, 0};
    while (from.pos < from.size) {
        char room[UNPACK_ROOM];
        ZSTD_outBuffer to = {room, sizeof(room), 0};
        if (ZSTD_isError(ZSTD_decompressStream(u->zstd, &to, &from)))
            return false;
        buf_append(out, slice_of(room, to.pos));
    }
    return true;
}

/* False: the bytes are not what the coding wants, or a sum is wrong. */
static inline bool unpack_feed(struct unpack *u, struct slice in, struct buf *out)
{
    if (u->coding == CODING_GZIP)
        return unpack_gzip(u, in, out);
    if (u->coding == CODING_ZSTD)
        return unpack_zstd(u, in, out);
    buf_append(out, in);
    return true;
}

#endif
