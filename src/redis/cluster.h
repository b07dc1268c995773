/* cluster.h - Redis Cluster: cluster.c knows who has which slot, detour.c leads calls whose slot is
 * being moved. Loop's thread only. */
#ifndef CRIER_REDIS_CLUSTER_H
#define CRIER_REDIS_CLUSTER_H

#include "node.h"
#include "scout.h"
#include "slot.h"

/* What is submitted for a slot while others are being led to where it has gone. */
struct detour {
    struct list held; /* redis_call.waiting */
    uint32_t n_held;
    bool releasing;
};

struct cluster_slot {
    struct redis_node *owner; /* the client's; NULL = not known */
    struct detour *detour;    /* owned */
    uint32_t calls;           /* not answered yet, with those that are held */
};

struct cluster {
    struct scout scout;
    bool running;
    bool told;         /* a table came since the start */
    bool changed;      /* slots have other owners since subscriptions were looked through */
    bool sub_moved;    /* subscriptions wait in `nowhere` for the next tick */
    size_t covered;    /* slots with an owner */
    uint64_t whole_ms; /* when it was ready last, or another was asked instead */
    struct list later; /* redis_call.waiting: sent again when their time has come */
    struct timer tick; /* while anything waits for it */
    struct cluster_slot slot[SLOT_COUNT];
};

/* --- cluster.c --- */

/* NULL: there are too many, or no memory. */
struct redis_node *cluster_node_at(struct redis *r, struct slice host, uint16_t port);
void cluster_set_owner(struct redis *r, uint16_t slot, struct redis_node *n);
void cluster_want_tick(struct redis *r);

/* --- detour.c --- */

void detour_submit(struct redis *r, struct redis_call *c);
bool detour_redirect(struct redis *r, struct redis_call *c, struct redis_node *from,
                     const struct reply *why);
void detour_finished(struct redis *r, struct redis_call *c);
void detour_begin(struct redis *r, uint16_t slot); /* what is submitted must not overtake */
void detour_tick(struct redis *r);                 /* sends what waited long enough */
void detour_stop(struct redis *r);                 /* answers what waits ERR_CLOSED */

#endif
