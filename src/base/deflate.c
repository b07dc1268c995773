/* deflate.c - raw DEFLATE by zlib.
 *
 * The compressor is reset before each piece, so that a piece refers to nothing before it, and lives
 * as long as its thread: setting one up costs more than packing a small message. zlib never uses a
 * distance longer than its window, so what 9 bits made can be read with any larger window. (8 bits
 * zlib cannot do.)
 *
 * Inflating always has the largest window, which reads whatever the peer uses. A block with BFINAL
 * ends a stream, not the message: the next byte begins another (RFC 7692 7.2.3.5). Bounding what
 * comes out is the caller's business: it gives the room.
 */
#include "crier/deflate.h"

#include <pthread.h>
#include <stdlib.h>
#define ZLIB_CONST /* its input is const */
#include <zlib.h>

#define NARROW_BITS 9
#define INFLATE_BITS 15
#define MEMORY_LEVEL 8         /* zlib's default */
#define STORED_BLOCK_MAX 65535 /* RFC 1951 3.2.4: LEN has 16 bits */

static int level = 6, wide_bits = 15;

/* One thread's. */
struct compressors {
    z_stream z[2]; /* by enum deflate_window */
    bool is_there[2];
};

static _Thread_local struct compressors *mine; /* owned; freed as the thread ends */
static pthread_key_t at_thread_end;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void deflate_configure(int new_level, int window_bits)
{
    BUG_ON(new_level < 1 || new_level > 9 || window_bits < NARROW_BITS || window_bits > 15);
    level = new_level;
    wide_bits = window_bits;
}

int deflate_window_bits(void)
{
    return wide_bits;
}

static void compressors_free(void *arg)
{
    struct compressors *c = arg;
    for (int w = 0; w < 2; w++)
        if (c->is_there[w])
            (void)deflateEnd(&c->z[w]);
    free(c);
}

static void make_key(void)
{
    if (pthread_key_create(&at_thread_end, compressors_free))
        abort();
}

/* NULL when memory is used up. */
static z_stream *compressor(enum deflate_window w)
{
    if (!mine) {
        struct compressors *c = calloc(1, sizeof(*c));
        pthread_once(&once, make_key);
        if (!c || pthread_setspecific(at_thread_end, c)) {
            free(c);
            return NULL;
        }
        mine = c;
    }
    z_stream *z = &mine->z[w];
    if (mine->is_there[w])
        return deflateReset(z) == Z_OK ? z : NULL;
    int bits = w == DEFLATE_NARROW ? NARROW_BITS : wide_bits;
    if (deflateInit2(z, level, Z_DEFLATED, -bits, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    mine->is_there[w] = true;
    return z;
}

enum err deflate_append(struct buf *b, struct slice plain, enum deflate_window w)
{
    z_stream *z = compressor(w);
    BUG_ON(plain.len > UINT32_MAX / 2);
    if (!z)
        return ERR_NOMEM;
    /* deflateBound is of a finished stream: the empty stored block is longer than its end. */
    size_t room = deflateBound(z, plain.len) + 16;
    enum err e = buf_reserve(b, room);
    if (e)
        return e;
    z->next_in = (const Bytef *)plain.ptr;
    z->avail_in = (uInt)plain.len;
    z->next_out = (Bytef *)b->data + b->len;
    z->avail_out = (uInt)room;
    BUG_ON(deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_in || !z->avail_out);
    b->len += room - z->avail_out;
    return ERR_OK;
}

void deflate_append_stored(struct buf *b, struct slice plain)
{
    while (plain.len) {
        unsigned n = plain.len < STORED_BLOCK_MAX ? (unsigned)plain.len : STORED_BLOCK_MAX;
        uint8_t header[5] = {0, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n, (uint8_t)(~n >> 8)};
        buf_append(b, slice_of(header, sizeof(header)));
        buf_append(b, slice_of(plain.ptr, n));
        plain = slice_of(plain.ptr + n, plain.len - n);
    }
}

uint32_t crc32_add(uint32_t crc, struct slice bytes)
{
    return bytes.len ? (uint32_t)crc32_z(crc, (const Bytef *)bytes.ptr, bytes.len) : crc;
}

uint32_t crc32_join(uint32_t a, uint32_t b, uint64_t b_len)
{
    return (uint32_t)crc32_combine(a, b, (z_off_t)b_len);
}

/* Inflating */

struct inflater {
    z_stream z;
    bool between_blocks;
};

struct inflater *inflater_try_new(void)
{
    struct inflater *f = calloc(1, sizeof(*f));
    if (f && inflateInit2(&f->z, -INFLATE_BITS) != Z_OK) {
        free(f);
        return NULL;
    }
    return f;
}

void inflater_free(struct inflater *f)
{
    if (!f)
        return;
    (void)inflateEnd(&f->z);
    free(f);
}

void inflater_reset(struct inflater *f)
{
    BUG_ON(inflateReset(&f->z) != Z_OK);
    f->between_blocks = false;
}

bool inflater_is_between_blocks(const struct inflater *f)
{
    return f->between_blocks;
}

enum err inflater_feed(struct inflater *f, struct slice *in, char *out, size_t room, size_t *n)
{
    z_stream *z = &f->z;
    int result = Z_OK;
    BUG_ON(in->len > UINT32_MAX || room > UINT32_MAX || !room);
    z->next_in = (const Bytef *)in->ptr;
    z->avail_in = (uInt)in->len;
    z->next_out = (Bytef *)out;
    z->avail_out = (uInt)room;
    do {
        result = inflate(z, Z_SYNC_FLUSH);
        if (result == Z_STREAM_END)
            inflater_reset(f);
    } while (result == Z_STREAM_END && z->avail_in && z->avail_out);
    /* zlib.h, inflate(): 128 = at the end of a block, the low bits = bits not used yet; a call that
     * can do nothing forgets it. */
    bool idle = in->len == z->avail_in && room == z->avail_out;
    f->between_blocks = (z->data_type & (128 | 7)) == 128 || (idle && f->between_blocks);
    *in = slice_of(z->next_in, z->avail_in);
    *n = room - z->avail_out;
    if (result == Z_MEM_ERROR)
        return ERR_NOMEM;
    return result == Z_DATA_ERROR || result == Z_NEED_DICT ? ERR_SYNTAX : ERR_OK;
}
