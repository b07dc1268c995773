/* tombstone.h - the last offsets of channels that are gone.
 *
 * A channel that comes back goes on counting where it stopped, so a position is never used twice
 * and a client of a quiet channel is not told of a gap that never was. Remembered for a bounded
 * number of channels; when one is pushed out, `floor` rises to its offset and whatever channel is
 * not remembered starts there. Single owner.
 */
#ifndef CRIER_BUS_TOMBSTONE_H
#define CRIER_BUS_TOMBSTONE_H

#include "crier/slice.h"

#define TOMBSTONES_MAX 65536

struct tombstone {
    uint64_t hash; /* of the channel's name, under the process key */
    uint64_t offset;
};

struct tombstones {
    struct tombstone *ring; /* owned; oldest at `first` */
    uint32_t *index;        /* owned; open addressing, ring slot + 1, 0 = free */
    uint32_t capacity;      /* a power of two */
    uint32_t first, count;
    uint64_t floor;
};

/* ERR_NOMEM. capacity: a power of two, at most 2^30. */
enum err tombstones_init(struct tombstones *t, uint32_t capacity) MUST_CHECK;
void tombstones_release(struct tombstones *t);
/* Where the channel stopped, or the floor. */
uint64_t tombstones_offset(const struct tombstones *t, uint64_t hash);
/* Remembers; an offset that was remembered for the same hash never sinks. */
void tombstones_put(struct tombstones *t, uint64_t hash, uint64_t offset);

#endif
