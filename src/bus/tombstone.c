/* tombstone.c - the last offsets of channels that are gone.
 *
 * A ring in order of age, and an open-addressing index from hash to ring slot that is at most half
 * full. Both are taken zeroed and at once, so the kernel backs only the pages that are touched.
 *
 * Names are not kept, 64 bits of their keyed hash are: two channels that share them share a
 * tombstone, which holds the higher offset. So at worst a channel skips ahead; it never repeats.
 * A tombstone keeps its age when it is updated, at worst it is pushed out early and raises the
 * floor.
 */
#include "tombstone.h"

#include <stdlib.h>

#define CAPACITY_MAX (1u << 30)

enum err tombstones_init(struct tombstones *t, uint32_t capacity)
{
    BUG_ON(capacity == 0 || capacity > CAPACITY_MAX || (capacity & (capacity - 1)) != 0);
    *t = (struct tombstones){.capacity = capacity};
    t->ring = calloc(capacity, sizeof *t->ring);
    t->index = calloc(2 * (size_t)capacity, sizeof *t->index);
    if (t->ring && t->index)
        return ERR_OK;
    tombstones_release(t);
    return ERR_NOMEM;
}

void tombstones_release(struct tombstones *t)
{
    free(t->ring);
    free(t->index);
    *t = (struct tombstones){0};
}

static uint32_t index_mask(const struct tombstones *t)
{
    return 2 * t->capacity - 1;
}

static uint32_t home_of(const struct tombstones *t, uint64_t hash)
{
    return (uint32_t)hash & index_mask(t);
}

/* Place of the hash in the index, or the free place where it belongs. */
static uint32_t probe(const struct tombstones *t, uint64_t hash)
{
    uint32_t i = home_of(t, hash);
    while (t->index[i] && t->ring[t->index[i] - 1].hash != hash)
        i = (i + 1) & index_mask(t);
    return i;
}

/* Moves later entries of the run up, so that no search ends at the hole. */
static void unindex(struct tombstones *t, uint32_t hole)
{
    const uint32_t mask = index_mask(t);
    t->index[hole] = 0;
    for (uint32_t i = (hole + 1) & mask; t->index[i]; i = (i + 1) & mask) {
        uint32_t home = home_of(t, t->ring[t->index[i] - 1].hash);
        if (((i - home) & mask) < ((i - hole) & mask))
            continue; /* its home lies after the hole */
        t->index[hole] = t->index[i];
        t->index[i] = 0;
        hole = i;
    }
}

static void push_out_oldest(struct tombstones *t)
{
    const struct tombstone *oldest = &t->ring[t->first];
    if (oldest->offset > t->floor)
        t->floor = oldest->offset;
    unindex(t, probe(t, oldest->hash));
    t->first = (t->first + 1) & (t->capacity - 1);
    t->count--;
}

uint64_t tombstones_offset(const struct tombstones *t, uint64_t hash)
{
    uint32_t slot = t->index[probe(t, hash)];
    return slot ? t->ring[slot - 1].offset : t->floor;
}

void tombstones_put(struct tombstones *t, uint64_t hash, uint64_t offset)
{
    uint32_t slot = t->index[probe(t, hash)];
    if (slot) {
        if (offset > t->ring[slot - 1].offset)
            t->ring[slot - 1].offset = offset;
        return;
    }
    if (t->count == t->capacity)
        push_out_oldest(t);
    uint32_t at = (t->first + t->count) & (t->capacity - 1);
    t->ring[at] = (struct tombstone){.hash = hash, .offset = offset};
    t->index[probe(t, hash)] = at + 1;
    t->count++;
}
