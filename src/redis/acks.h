/* acks.h - what a subscribe link was asked and has not answered yet, in order.
 *
 * A queue of names (their hashes), so that an answer finds its question: a subscription may be
 * gone, or asked for again, by the time the server confirms it, and an error names nothing at all.
 * Loop's thread only.
 */
#ifndef CRIER_REDIS_ACKS_H
#define CRIER_REDIS_ACKS_H

#include "crier/slice.h"

struct ack {
    uint64_t hash; /* hash_bytes of the channel */
    uint16_t slot;
    bool subscribe; /* else unsubscribe */
    bool first;     /* of its command: an error answers a whole command */
};

struct acks {
    struct ack *ring; /* owned; cap is 0 or a power of two */
    size_t cap, head, count;
    size_t subscribes;       /* of count */
    uint32_t pushed, popped; /* how many ever were: the number of an entry */
};

void acks_release(struct acks *a); /* a zeroed struct is an empty queue; so is this afterwards */
uint32_t acks_push(struct acks *a, struct ack k);  /* its number, unique among those in the queue */
const struct ack *acks_head(const struct acks *a); /* NULL when empty */
/* Not when empty. number: what acks_push gave. */
struct ack acks_pop(struct acks *a, uint32_t *number);

#endif
