/* pool.c - fixed-size objects in chunks that are aligned to their own size.
 *
 * A chunk's header is found from any of its objects by masking the address, so an object carries
 * nothing. Objects are handed out from the free list first and then from the untouched end, so a
 * page nobody needed is never made resident.
 *
 * Invariant: a chunk is in `full` when it has no free object, else in `partial`; at most one chunk
 * is entirely free, and it is the last of `partial`. That one is kept, or a pool whose population
 * swings around a chunk boundary would call mmap and munmap for every object.
 */
#include "crier/pool.h"

#include <stdlib.h>
#include <sys/mman.h>

#define OBJECT_ALIGN 16
#define MIN_CHUNK_BYTES ((size_t)64 * 1024)
#define MIN_OBJECTS_PER_CHUNK 16

#if defined(__SANITIZE_ADDRESS__)
#define POOL_PLAIN_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_PLAIN_MALLOC 1
#endif
#endif
#ifndef POOL_PLAIN_MALLOC
#define POOL_PLAIN_MALLOC 0
#endif

struct free_object {
    struct free_object *next;
};

struct chunk {
    struct list node;         /* in pool.partial or pool.full */
    struct free_object *free; /* objects that were used before */
    size_t used;              /* objects out */
    size_t fresh;             /* objects from here on were never used */
    size_t capacity;
};

#define HEADER_BYTES ((sizeof(struct chunk) + OBJECT_ALIGN - 1) & ~(size_t)(OBJECT_ALIGN - 1))

void pool_init(struct pool *p, size_t object_bytes)
{
    object_bytes = (object_bytes + OBJECT_ALIGN - 1) & ~(size_t)(OBJECT_ALIGN - 1);
    BUG_ON(object_bytes == 0);

    *p = (struct pool){.object_bytes = object_bytes, .chunk_bytes = MIN_CHUNK_BYTES};
    while (p->chunk_bytes < object_bytes * MIN_OBJECTS_PER_CHUNK)
        p->chunk_bytes *= 2;
    list_init(&p->partial);
    list_init(&p->full);
}

static struct chunk *chunk_at(struct list *node)
{
    return container_of(node, struct chunk, node);
}

void pool_release(struct pool *p)
{
    struct list *node;

    BUG_ON(p->in_use != 0);
    while ((node = list_pop_front(&p->partial)))
        munmap(chunk_at(node), p->chunk_bytes);
}

/* mmap aligns to pages only: take twice the size and give the ends back. */
static void *map_aligned(size_t bytes)
{
    char *raw = mmap(NULL, bytes * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (raw == MAP_FAILED)
        return NULL;
    size_t before = (bytes - ((uintptr_t)raw & (bytes - 1))) & (bytes - 1);
    if (before)
        munmap(raw, before);
    munmap(raw + before + bytes, bytes - before);
    return raw + before;
}

static struct chunk *chunk_try_new(struct pool *p)
{
    struct chunk *c = map_aligned(p->chunk_bytes);

    if (!c)
        return NULL;
    c->capacity = (p->chunk_bytes - HEADER_BYTES) / p->object_bytes;
    list_push_front(&p->partial, &c->node);
    return c;
}

static void *chunk_take(struct chunk *c, size_t object_bytes)
{
    struct free_object *object = c->free;

    c->used++;
    if (!object)
        return (char *)c + HEADER_BYTES + c->fresh++ * object_bytes;
    c->free = object->next;
    return memset(object, 0, object_bytes);
}

void *pool_try_new(struct pool *p)
{
    if (POOL_PLAIN_MALLOC) {
        void *object = calloc(1, p->object_bytes);
        p->in_use += object != NULL;
        return object;
    }

    struct chunk *c = list_is_empty(&p->partial) ? chunk_try_new(p) : chunk_at(p->partial.next);
    if (!c)
        return NULL;
    void *object = chunk_take(c, p->object_bytes);
    p->in_use++;
    if (c->used == c->capacity) {
        list_remove(&c->node);
        list_push_back(&p->full, &c->node);
    }
    return object;
}

static void chunk_is_free(struct pool *p, struct chunk *c)
{
    list_remove(&c->node);
    if (!list_is_empty(&p->partial) && chunk_at(p->partial.prev)->used == 0)
        munmap(c, p->chunk_bytes);
    else
        list_push_back(&p->partial, &c->node);
}

void pool_free(struct pool *p, void *object)
{
    if (!object)
        return;
    BUG_ON(p->in_use == 0);
    p->in_use--;
    if (POOL_PLAIN_MALLOC) {
        free(object);
        return;
    }

    struct chunk *c = (struct chunk *)((uintptr_t)object & ~(uintptr_t)(p->chunk_bytes - 1));
    struct free_object *f = object;
    f->next = c->free;
    c->free = f;
    if (c->used-- == c->capacity) {
        list_remove(&c->node);
        list_push_front(&p->partial, &c->node);
    }
    if (c->used == 0)
        chunk_is_free(p, c);
}
