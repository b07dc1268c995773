/* shards.h - which of several servers a key is on. Pure; any thread. */
#ifndef CRIER_REDIS_SHARDS_H
#define CRIER_REDIS_SHARDS_H

#include "crier/slice.h"

/* Stable for ever: processes of different versions must agree on where a key lies. */
uint64_t shards_hash(struct slice text);
/* Index of the name with the highest weight for the key's hash tag; n > 0. hash: shards_hash of
 * "host:port/db" of each. The order of the list does not matter; adding one moves only the keys
 * that it takes, removing one only those that it had. */
size_t shards_pick(struct slice key, const uint64_t *hash, size_t n);

#endif
