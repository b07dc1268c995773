/* probe.h - does a node deliver? Loop's thread only. */
#ifndef CRIER_REDIS_PROBE_H
#define CRIER_REDIS_PROBE_H

#include "node.h"

/* (Re)subscribes the probe to a channel with this hash tag; empty: without a tag. */
void probe_aim(struct redis_node *n, struct slice tag);
void probe_drop(struct redis_node *n);
void probe_send(struct redis_node *n);  /* when the node serves and the probe is subscribed */
void probe_is_on(struct redis_node *n); /* its subscription was confirmed */
void probe_heard_back(struct redis_node *n, struct slice payload);
void probe_forget(struct redis_node *n); /* a link was lost: what is proven was before */
void probe_watch(struct redis_node *n);  /* each tick: is the subscribe link deaf? */

/* Does it deliver now? */
bool probe_is_heard(const struct redis_node *n);
const char *probe_why_not(const struct redis_node *n); /* constant text; NULL when it does */
/* Something changed on which that depends: counts and logs it. */
void probe_update(struct redis_node *n);
void probe_proof_ends(struct timer *t); /* of n->proof_ends */
void probe_tell_rtt(struct redis *r);

#endif
