/* map.h - intrusive hash map from bytes to the object that contains the node.
 *
 * Chained, power-of-two buckets, grows and shrinks by itself (shrinks when something is put in or
 * the last node leaves). Keys are hashed with SipHash under a
 * per-process random key, because peers choose channel names. The map owns its bucket array only;
 * nodes and keys live in the caller's objects. Single owner, no locks.
 */
#ifndef CRIER_MAP_H
#define CRIER_MAP_H

#include "crier/slice.h"

struct map_node {
    struct map_node *next; /* in the bucket */
    uint64_t hash;
};

/* The key of a node; the bytes must not change while the node is in the map. */
typedef struct slice (*map_key_fn)(const struct map_node *node);

struct map {
    struct map_node **buckets; /* owned */
    size_t n_buckets;
    size_t count;
    map_key_fn key;
};

/* SipHash-1-3 under the process key; the same bytes give the same hash in every thread. */
uint64_t hash_bytes(struct slice key);

void map_init(struct map *m, map_key_fn key);
void map_release(struct map *m); /* the map must be empty */
/* NULL when absent. The _hashed form saves hashing when the caller kept hash_bytes(key). */
struct map_node *map_get(const struct map *m, struct slice key);
struct map_node *map_get_hashed(const struct map *m, struct slice key, uint64_t hash);
/* The key must not be present (BUG_ON). Sets node->hash. */
void map_put(struct map *m, struct map_node *node);
/* The node must be in the map. */
void map_remove(struct map *m, struct map_node *node);
/* Walks all nodes in no particular order: pass NULL first; NULL at the end. The node returned
 * last may be removed before the next call, but its memory must still be there (free it after);
 * nothing else may change in between. O(1) amortised. */
struct map_node *map_next(const struct map *m, struct map_node *prev);

#endif
