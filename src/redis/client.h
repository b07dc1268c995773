/* client.h - how the parts of the client hang together: nodes, calls, subscriptions, and a topology
 * that says which node a key is on. Loop's thread only.
 *
 *   redis.c   life of a client, the end of a turn, readiness
 *   node.c    one server: its two links, who it is, whether it delivers
 *   call.c    commands: written, answered, refused
 *   subs.c    subscriptions: asked for, confirmed, lost
 *   shards.c, sentinel.c, cluster.c   topologies
 *
 * Callers' handlers may call anything of redis.h, redis_free too. So whoever comes from the loop
 * goes through client_enter and client_leave, between which the client's memory stays; a node's
 * memory stays until the end of the turn. After a handler was called, nothing else is certain.
 */
#ifndef CRIER_REDIS_CLIENT_H
#define CRIER_REDIS_CLIENT_H

#include "crier/pool.h"
#include "crier/redis.h"

struct redis;
struct redis_node;
struct reply;

struct topology_ops {
    void (*init)(struct redis *r);      /* sets r->state, which the topology owns */
    void (*release)(struct redis *r);   /* stopped */
    enum err (*start)(struct redis *r); /* may make nodes; what it made, stop undoes */
    void (*stop)(struct redis *r);      /* answers the calls it keeps ERR_CLOSED */
    /* The node that a key is on as far as is known; NULL: not known. */
    struct redis_node *(*node_for)(struct redis *r, struct slice key);
    /* A link to n was lost or it says it cannot serve; n is NULL when it is not about one node. */
    void (*look)(struct redis *r, struct redis_node *n);
    /* NULL when every key has a node. Constant text. */
    const char *(*missing)(const struct redis *r);
    /* The rest may be NULL. In place of call_send(r, node_for(r, c->key), c, 0). */
    void (*submit)(struct redis *r, struct redis_call *c);
    /* `from` has answered MOVED, ASK or TRYAGAIN. True: the call will be sent again. */
    bool (*redirect)(struct redis *r, struct redis_call *c, struct redis_node *from,
                     const struct reply *why);
    void (*finished)(struct redis *r, struct redis_call *c); /* about to be answered */
    /* n answered an SSUBSCRIBE with MOVED. */
    void (*sub_moved)(struct redis *r, struct redis_node *from, const struct reply *why);
};

extern const struct topology_ops shards_topology, sentinel_topology, cluster_topology;

struct redis {
    struct redis_options o; /* what it points to is borrowed */
    const struct topology_ops *topology;
    void *state;         /* owned by the topology */
    struct loop *loop;   /* borrowed; NULL when detached */
    bool closing;        /* within redis_detach */
    bool freed;          /* redis_free was called within a callback */
    unsigned depth;      /* of client_enter */
    bool news;           /* there is something to do at the end of the turn */
    bool was_ready;      /* what on.ready was called for last */
    struct list nodes;   /* redis_node.in_client, owned */
    struct map subs;     /* redis_sub.node; borrowed from callers */
    struct list nowhere; /* redis_sub.in_node: subscriptions whose node is not known */
    struct loop_hook turn_end;
    struct pool flights;
    struct slice *arg; /* owned scratch for writing a command */
    size_t arg_cap;
    size_t held_bytes; /* of calls that wait in lists of ours */
    int64_t rtt_ms;    /* what M_REDIS_RTT was given */
};

void client_enter(struct redis *r);
void client_leave(struct redis *r);
uint64_t client_now_ms(const struct redis *r); /* attached */
/* False: the bound of what may wait is reached. Undone by client_unhold. */
bool client_try_hold(struct redis *r, const struct redis_call *c);
void client_unhold(struct redis *r, const struct redis_call *c);

/* --- call.c --- */

enum call_how {
    CALL_PLAIN = 0,
    CALL_WITH_TEXT = 1, /* EVAL and not EVALSHA */
    CALL_ASKING = 2,    /* the slot is being moved there */
};

/* Sends it, or answers it. n may be NULL: ERR_UNAVAILABLE. */
void call_send(struct redis *r, struct redis_node *n, struct redis_call *c, unsigned how);
void call_finish(struct redis *r, struct redis_call *c, enum err e, const struct reply *reply);
/* Calls that wait in n->held, when its command link is gone. */
void call_drop_held(struct redis_node *n, enum err e);

/* --- subs.c --- */

enum sub_state { SUB_NONE, SUB_WANTED, SUB_SENT, SUB_ON };

/* Puts a subscription that is in no node's list at n (NULL: nowhere). */
void subs_place(struct redis *r, struct redis_sub *s, struct redis_node *n);
/* Those that are nowhere, after the topology has learnt something. */
void subs_place_waiting(struct redis *r);
/* Moves each subscription to the node that its channel is on now. */
void subs_reroute(struct redis *r);
/* Asks the server for what is wanted, as much as may be on its way at once. */
void subs_flush(struct redis_node *n);
void subs_push(struct redis_node *n, const struct reply *p);
void subs_link_lost(struct redis_node *n); /* all of n's are wanted again */
void subs_leave(struct redis_node *n);     /* n goes away: to other nodes, or nowhere */
void subs_forget(struct redis *r);         /* all, without a word */

#endif
