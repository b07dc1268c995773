/* redis_range.h - what the read script answers: the order of a channel and a run of its messages.
 */
#ifndef CRIER_BUS_REDIS_RANGE_H
#define CRIER_BUS_REDIS_RANGE_H

#include "redis_bus.h"

struct range {
    struct tail order; /* head and lineage of the channel, nothing kept */
    uint64_t now_ms;   /* the server's wall clock */
    bool exhausted;    /* there is no more in that direction */
    uint64_t scanned;  /* offset of the last entry that was looked at; 0 = none */
    uint32_t n;
    struct msg **msg; /* owned, counted; by offset, rising */
};

enum range_from {
    RANGE_NOTHING, /* only the order */
    RANGE_AFTER,   /* messages after an offset */
    RANGE_UP_TO,   /* the newest messages up to an offset, which is among them */
};
#define RANGE_NEWEST UINT64_MAX

/* One call of the read script. ERR_OK with the answer; else as redis_call.done. */
struct range_call {
    struct redis_bus *rb;
    const struct ns_options *options;
    enum range_from from;
    uint64_t offset;
    uint32_t count;     /* cut to what a reply may hold */
    struct known known; /* that was given out here */
    /* g is valid during the call only, NULL unless e is ERR_OK */
    void (*done)(struct range_call *call, enum err e, struct range *g);
    uint32_t name_len;
    char name[CHANNEL_MAX_BYTES];
};
/* The memory is the caller's until done. */
void range_read(struct range_call *call, struct slice channel);

/* The messages as a tail that ends at the newest of them, or where the order does when `is_end`:
 * a catch-up is answered from it like from any other. */
void range_tail(const struct range *g, bool is_end, struct tail *t);
/* A catch-up from such a tail; what was asked for and what is said of gaps is of the whole order.
 * ERR_NOMEM. */
enum err range_catch_up(const struct range *g, const struct tail *t,
                        struct catch_up *cu) MUST_CHECK;
/* The order as it was before the message after `offset`: epochs that begin later are left out. */
void range_order_at(const struct range *g, uint64_t offset, struct tail *t);

#endif
