/* node.h - one server: a command link, a subscribe link, and whether it delivers.
 *
 * A node serves when its command link is up and INFO said that it is a master. It is proven when,
 * besides, a probe that was published on the command link less than REDIS_PROOF_MS ago was heard on
 * the subscribe link. Loop's thread only; freed at the end of the turn after node_close.
 */
#ifndef CRIER_REDIS_NODE_H
#define CRIER_REDIS_NODE_H

#include "acks.h"
#include "client.h"
#include "info.h"
#include "link.h"

#define NODE_PROBES 8 /* on their way at once, at most; more are not remembered */
#define NODE_STALL_MS 1500
#define NODE_DEAF_MS 5000

enum node_state {
    NODE_AWAY,    /* no command link */
    NODE_ASKED,   /* INFO is on its way */
    NODE_UNFIT,   /* cannot serve now; asked again with the next tick */
    NODE_SERVING, /* takes commands */
};

/* A command on its way. */
struct flight {
    struct link_request q;
    struct redis_node *node; /* borrowed */
    struct redis_call *call; /* borrowed; NULL for the node's own commands */
    uint64_t number;         /* of the node's commands */
    unsigned how;            /* enum call_how */
    uint64_t probe;          /* its counter; 0 = not a probe */
    void (*answer)(struct flight *f, enum err e, const struct reply *reply);
};

struct probe_time {
    uint64_t turn_ms;  /* the loop's, for proof: not later than it was sent */
    uint64_t clock_ms; /* for the round-trip time */
};

struct redis_node {
    struct redis *r; /* borrowed */
    struct list in_client;
    struct redis_endpoint endpoint; /* owned */
    char *name;                     /* owned; for logs */
    struct link *commands, *pushes; /* owned */
    struct timer tick, proof_ends;
    enum node_state state;
    const char *unfit_why; /* constant text */
    const char *doom_why;  /* set: the command link must be broken at the end of the turn */
    const char *deaf_why;  /* set: the subscribe link must be */
    char identity[INFO_IDENTITY_BYTES];
    char replid[41];
    bool blind;          /* INFO is forbidden */
    bool sharded;        /* SPUBLISH, SSUBSCRIBE */
    bool advised;        /* said once what is unwise about this server */
    bool asking_role;    /* INFO replication is on its way */
    bool asking_cluster; /* CLUSTER INFO is */
    bool was_up;         /* commands were up before: the next time is a reconnect */
    bool pushes_was_up;
    bool needed; /* readiness waits for it */
    bool closed;
    bool proven;       /* as counted in M_REDIS_UP */
    bool subs_refused; /* the last answer to a subscription was an error */
    bool cluster_down; /* it says that the cluster cannot serve */

    /* call.c's */
    uint64_t sent, answered; /* numbers of flights */
    struct list held;        /* redis_call.waiting, until `answered` has reached relearned */
    uint64_t relearned;
    int refused_kind; /* enum error_kind of the refusal that was logged last, and when */
    uint64_t refused_ms;

    /* probe.c's */
    char *probe_channel; /* owned; NULL: none yet */
    struct redis_sub probe;
    uint64_t probe_last, probe_heard; /* counters */
    uint64_t probe_valid;             /* the first since both links are up */
    struct probe_time probe_sent[NODE_PROBES];
    uint64_t proven_ms;  /* when the newest probe that was heard was sent; 0 = none */
    uint64_t unheard_ms; /* since when one is answered and not heard; 0 = none is */
    int64_t rtt_ms;

    /* subs.c's */
    struct list wanted, asked, on; /* redis_sub.in_node by state */
    struct acks acks;
    uint64_t ack_ms;        /* when the last one came, or the first of a queue was sent */
    uint64_t subs_retry_ms; /* none is asked for before */

    /* of a cluster */
    size_t slots;      /* how many it owns */
    uint64_t named_ms; /* when a redirection named it last, or it lost its last slot */

    struct loop_corpse corpse;
};

/* Makes it and opens its links. ERR_NOMEM. */
enum err node_new(struct redis *r, const struct redis_endpoint *e,
                  struct redis_node **out) MUST_CHECK;
/* Calls on their way are answered, subscriptions go elsewhere. Once. */
void node_close(struct redis_node *n);
bool node_takes_commands(const struct redis_node *n);
/* The node cannot be right: both links are broken at the end of the turn. Constant text. */
void node_doom(struct redis_node *n, const char *why);
void node_deafen(struct redis_node *n, const char *why); /* the subscribe link alone */
void node_break_doomed(struct redis_node *n);
/* The one place where a state changes. */
void node_set_state(struct redis_node *n, enum node_state state);

/* ERR_LIMIT; ERR_UNAVAILABLE when the link is down. Takes f in any case: it is freed on errors. */
enum err node_send(struct redis_node *n, struct flight *f, const struct slice *arg,
                   size_t n_args) MUST_CHECK;
struct flight *flight_new(struct redis_node *n,
                          void (*answer)(struct flight *f, enum err e, const struct reply *reply));
void flight_free(struct flight *f);

#endif
