/* ws_pool.c - what connections hold only while a frame or a message is incomplete.
 *
 * One pool per worker. Some contexts and fewer inflaters are kept for reuse, the rest goes back to
 * malloc, so that a burst is not kept for ever. The contexts that are held stand in the order in
 * which their messages began: whoever ends slow senders looks at the first, and no connection needs
 * a timer of its own.
 */
#include "ws_internal.h"

#include <stdlib.h>

#define KEEP_PARTIALS 16
#define KEEP_MESSAGE_BYTES 16384
#define KEEP_INFLATERS 4

struct ws_pool {
    struct list free, held; /* partials; owned, owned by their ws */
    size_t n_free, n_held;
    struct inflater *inflater[KEEP_INFLATERS]; /* owned */
    size_t n_inflaters, n_lent;
    uint64_t now_ms;
};

struct ws_pool *ws_pool_new(void)
{
    struct ws_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        abort();
    list_init(&pool->free);
    list_init(&pool->held);
    return pool;
}

static struct ws_partial *partial_of(struct list *node)
{
    return container_of(node, struct ws_partial, node);
}

static void partial_free(struct ws_partial *p)
{
    ws_frame_context_release(p);
    buf_release(&p->message.bytes);
    free(p);
}

void ws_pool_free(struct ws_pool *pool)
{
    struct list *n;
    BUG_ON(pool->n_held || pool->n_lent);
    while ((n = list_pop_front(&pool->free)))
        partial_free(partial_of(n));
    while (pool->n_inflaters)
        inflater_free(pool->inflater[--pool->n_inflaters]);
    free(pool);
}

size_t ws_pool_held(const struct ws_pool *pool)
{
    return pool->n_held;
}

size_t ws_pool_inflaters(const struct ws_pool *pool)
{
    return pool->n_lent;
}

void ws_pool_tell_time(struct ws_pool *pool, uint64_t now_ms)
{
    pool->now_ms = now_ms;
}

struct ws *ws_pool_oldest(const struct ws_pool *pool, uint64_t *since_ms)
{
    if (list_is_empty(&pool->held))
        return NULL;
    const struct ws_partial *p = partial_of(pool->held.next);
    *since_ms = p->since_ms;
    return p->ws;
}

/* Contexts */

static struct ws_partial *partial_try_new(void)
{
    struct ws_partial *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    if (!ws_frame_context_init(p)) {
        free(p);
        return NULL;
    }
    list_init(&p->node);
    buf_init(&p->message.bytes, 0); /* the maximum is that of whoever takes it */
    return p;
}

struct ws_partial *ws_pool_try_take(struct ws_pool *pool, struct ws *ws)
{
    struct list *n = list_pop_front(&pool->free);
    struct ws_partial *p = n ? partial_of(n) : partial_try_new();
    if (!p)
        return NULL;
    if (n)
        pool->n_free--;
    p->ws = ws;
    p->message.bytes.max = ws->limits->message_bytes;
    pool->n_held++;
    ws_pool_begin_again(pool, p);
    return p;
}

void ws_pool_begin_again(struct ws_pool *pool, struct ws_partial *p)
{
    p->since_ms = pool->now_ms;
    list_remove(&p->node);
    list_push_back(&pool->held, &p->node);
}

void ws_pool_give_back(struct ws_pool *pool, struct ws_partial *p)
{
    ws_message_drop(p);
    list_remove(&p->node);
    pool->n_held--;
    if (p->header_len > 0 || p->error || pool->n_free == KEEP_PARTIALS) {
        partial_free(p);
        return;
    }
    if (p->message.bytes.cap > KEEP_MESSAGE_BYTES) {
        buf_release(&p->message.bytes);
        buf_init(&p->message.bytes, 0);
    }
    p->ws = NULL;
    list_push_front(&pool->free, &p->node);
    pool->n_free++;
}

/* Inflaters */

struct inflater *ws_pool_try_lend_inflater(struct ws_pool *pool)
{
    struct inflater *f =
        pool->n_inflaters ? pool->inflater[--pool->n_inflaters] : inflater_try_new();
    if (f)
        pool->n_lent++;
    return f;
}

void ws_pool_return_inflater(struct ws_pool *pool, struct inflater *f)
{
    pool->n_lent--;
    if (pool->n_inflaters == KEEP_INFLATERS) {
        inflater_free(f);
        return;
    }
    inflater_reset(f);
    pool->inflater[pool->n_inflaters++] = f;
}
