/* zstd.c - Zstandard frames that stand alone (see zstd.h).
 *
 * One compressor per thread, made on first use and kept: its tables cost more to make than a usual
 * message costs to compress. What is not compressed is written by hand: a raw block needs no
 * library (RFC 8878 3.1.1).
 */
#include "crier/zstd.h"

#include <pthread.h>
#include <zstd.h>

/* Within 2 MiB of window, a quarter of what browsers accept (RFC 9659). */
#define LEVEL 3
#define MAGIC "\x28\xb5\x2f\xfd"
#define SINGLE_SEGMENT 0x20 /* the window is the content: no window descriptor */
#define SIZE_IN_2_BYTES 0x40
#define SIZE_BIAS 256 /* of a size in 2 bytes */
#define RAW_BLOCK_LAST 1u
#define RAW_MAX (UINT16_MAX + SIZE_BIAS)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;

static void free_compressor(void *c)
{
    (void)ZSTD_freeCCtx(c);
}

static void make_key(void)
{
    BUG_ON(pthread_key_create(&key, free_compressor) != 0);
}

/* NULL when memory is used up. */
static ZSTD_CCtx *compressor(void)
{
    (void)pthread_once(&once, make_key);
    ZSTD_CCtx *c = pthread_getspecific(key);
    if (c)
        return c;
    c = ZSTD_createCCtx();
    if (c && (ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, LEVEL)) ||
              pthread_setspecific(key, c))) {
        free_compressor(c);
        return NULL;
    }
    return c;
}

enum err zstd_append(struct buf *b, struct slice plain)
{
    ZSTD_CCtx *c = compressor();
    size_t room = ZSTD_compressBound(plain.len);
    if (!c || buf_reserve(b, room))
        return ERR_NOMEM;
    size_t n = ZSTD_compress2(c, b->data + b->len, room, plain.ptr, plain.len);
    if (ZSTD_isError(n)) /* there is room, so it is memory */
        return ERR_NOMEM;
    b->len += n;
    return ERR_OK;
}

static void append_raw_frame(struct buf *b, struct slice part)
{
    uint8_t head[10] = MAGIC;
    size_t n = 4;
    if (part.len < SIZE_BIAS) {
        head[n++] = SINGLE_SEGMENT;
        head[n++] = (uint8_t)part.len;
    } else {
        head[n++] = SINGLE_SEGMENT | SIZE_IN_2_BYTES;
        head[n++] = (uint8_t)(part.len - SIZE_BIAS);
        head[n++] = (uint8_t)((part.len - SIZE_BIAS) >> 8);
    }
    uint32_t block = (uint32_t)part.len << 3 | RAW_BLOCK_LAST;
    for (int i = 0; i < 3; i++)
        head[n++] = (uint8_t)(block >> (8 * i));
    buf_append(b, slice_of(head, n));
    buf_append(b, part);
}

void zstd_append_stored(struct buf *b, struct slice plain)
{
    size_t before = b->len;
    while (plain.len && !b->failed) {
        size_t n = plain.len < RAW_MAX ? plain.len : RAW_MAX;
        append_raw_frame(b, slice_of(plain.ptr, n));
        plain = slice_of(plain.ptr + n, plain.len - n);
    }
    if (b->failed)
        b->len = before;
}
