/* map.c - intrusive chained hash map.
 *
 * Invariant: a node sits in bucket (hash & (n_buckets - 1)); n_buckets is 0 or a power of two.
 *
 * A removal must not move nodes, or a walk that removes what it visits would lose its place. So the
 * array shrinks only when something is put in, and goes away entirely when the last node leaves
 * (then a walk has nothing left to find). Growing that fails is not an error: chains get longer.
 */
#include "crier/map.h"

#include <stdlib.h>

#define MIN_BUCKETS 8

void map_init(struct map *m, map_key_fn key)
{
    *m = (struct map){.key = key};
}

void map_release(struct map *m)
{
    BUG_ON(m->count != 0);
    free(m->buckets);
    map_init(m, m->key);
}

static struct map_node **bucket_of(const struct map *m, uint64_t hash)
{
    return &m->buckets[hash & (m->n_buckets - 1)];
}

struct map_node *map_get_hashed(const struct map *m, struct slice key, uint64_t hash)
{
    if (m->count == 0)
        return NULL;
    for (struct map_node *n = *bucket_of(m, hash); n; n = n->next)
        if (n->hash == hash && slice_eq(m->key(n), key))
            return n;
    return NULL;
}

struct map_node *map_get(const struct map *m, struct slice key)
{
    return map_get_hashed(m, key, hash_bytes(key));
}

static void link_node(struct map *m, struct map_node *node)
{
    struct map_node **bucket = bucket_of(m, node->hash);

    node->next = *bucket;
    *bucket = node;
}

static void resize(struct map *m, size_t n_buckets)
{
    struct map old = *m;
    struct map_node **buckets = calloc(n_buckets, sizeof *buckets);

    BUG_ON(!buckets && !old.buckets);
    if (!buckets)
        return;
    m->buckets = buckets;
    m->n_buckets = n_buckets;
    for (size_t i = 0; i < old.n_buckets; i++) {
        for (struct map_node *n = old.buckets[i], *next; n; n = next) {
            next = n->next;
            link_node(m, n);
        }
    }
    free(old.buckets);
}

void map_put(struct map *m, struct map_node *node)
{
    struct slice key = m->key(node);

    node->hash = hash_bytes(key);
    BUG_ON(map_get_hashed(m, key, node->hash));
    if (m->n_buckets == 0)
        resize(m, MIN_BUCKETS);
    else if (m->count >= m->n_buckets)
        resize(m, m->n_buckets * 2);
    else if (m->n_buckets > MIN_BUCKETS && m->count < m->n_buckets / 8)
        resize(m, m->n_buckets / 4);
    link_node(m, node);
    m->count++;
}

void map_remove(struct map *m, struct map_node *node)
{
    BUG_ON(m->count == 0);
    struct map_node **at = bucket_of(m, node->hash);

    while (*at != node) {
        BUG_ON(!*at);
        at = &(*at)->next;
    }
    *at = node->next; /* node->next stays: map_next may be called with this node */
    m->count--;
    if (m->count == 0 && m->n_buckets > MIN_BUCKETS) {
        free(m->buckets);
        m->buckets = NULL;
        m->n_buckets = 0;
    }
}

struct map_node *map_next(const struct map *m, struct map_node *prev)
{
    size_t i = 0;

    if (m->count == 0)
        return NULL;
    if (prev) {
        if (prev->next)
            return prev->next;
        i = (prev->hash & (m->n_buckets - 1)) + 1;
    }
    for (; i < m->n_buckets; i++)
        if (m->buckets[i])
            return m->buckets[i];
    return NULL;
}
