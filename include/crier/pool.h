/* pool.h - fixed-size objects out of large chunks, so that 10,000 of a kind cost what they say.
 *
 * Chunks are page-aligned (mmap) and given back to the kernel when all their objects are free; one
 * free chunk is kept, so that a pool that swings around a chunk boundary does not call mmap all the
 * time. pool_release gives that one back too.
 * Objects come zeroed. Single owner, no locks. Under ASan each object is its own malloc, so that
 * use after free is seen.
 */
#ifndef CRIER_POOL_H
#define CRIER_POOL_H

#include "crier/list.h"
#include "crier/slice.h"

struct pool {
    size_t object_bytes; /* rounded up to 16 */
    struct list partial; /* chunks with free objects */
    struct list full;
    size_t in_use; /* objects */
    size_t chunk_bytes;
};

void pool_init(struct pool *p, size_t object_bytes);
void pool_release(struct pool *p);            /* all objects must have been freed */
void *pool_try_new(struct pool *p);           /* zeroed; NULL when the kernel has no memory */
void pool_free(struct pool *p, void *object); /* NULL is fine */

#endif
