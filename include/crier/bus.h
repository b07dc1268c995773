/* bus.h - orders messages, keeps their recent tail, and tells every interested worker.
 *
 * The bus is one loop (bus_attach): its own thread, or a worker's. Workers reach it through a port.
 * A request (bus_op and what embeds it) travels to the bus and comes back as its own answer,
 * through the same FIFO as live messages: what a `done` callback learns is exactly true at that
 * place in the port's stream. So a join that answers "complete up to offset 7" is followed by
 * message 8, whatever happened meanwhile, and no worker ever merges or removes doubles.
 *
 * Join, resume, gap repair and reconnect are the same operation, catch-up: "give me what came
 * after this position", answered in pages, with a gap notice when it cannot be honoured.
 *
 * Threads: bus_submit is called on the port's thread; `done` and `deliver` run on the port's
 * thread; all else as said.
 */
#ifndef CRIER_BUS_H
#define CRIER_BUS_H

#include "crier/channel.h"
#include "crier/cursor.h"
#include "crier/loop.h"
#include "crier/mailbox.h"
#include "crier/msg.h"

struct bus;
struct bus_port;
struct redis_target;
struct tls_ctx;

enum bus_kind {
    BUS_PUBLISH,
    BUS_JOIN,
    BUS_PAGE,
    BUS_LEAVE,
    BUS_HISTORY,
    BUS_CLEAR,
    BUS_CHANNELS,
    BUS_CHANNEL,
    BUS_PRESENCE,
};

/* First member of every request. */
struct bus_op {
    struct mail mail;
    uint8_t mail_kind; /* the bus's own */
    uint8_t kind;      /* enum bus_kind */
    struct bus_port *port;
    enum err err;                    /* answer */
    void (*done)(struct bus_op *op); /* takes the op back; always called exactly once */
    void *ctx;                       /* borrowed, for done */
};

/* Orders one message. Answers pos. ERR_CONFLICT: the key was used for another body.
 * ERR_UNAVAILABLE: the backend is away; retry. ERR_NOMEM. */
struct bus_publish {
    struct bus_op op;
    struct msg *msg;     /* owned by the op: the bus takes its own reference */
    char *key;           /* idempotency key or NULL; owned by the op, malloc */
    struct position pos; /* out */
    bool repeated;       /* out: the key was known, nothing was published; pos is the first one's */
};

/* Why a cursor could not be honoured. Text forms are part of the protocol. */
enum gap_reason {
    GAP_NONE,
    GAP_EXPIRED,     /* "expired": messages after the cursor are no longer kept */
    GAP_EPOCH,       /* "epoch": the cursor is from another order (restart, failover, foreign) */
    GAP_AHEAD,       /* "ahead": the cursor is beyond the newest message */
    GAP_NO_POSITION, /* "no_position": the cursor says nothing about this channel */
};
const char *gap_reason_str(enum gap_reason r);

enum catch_up_from { FROM_NOW, FROM_POSITION, FROM_LAST_N };

struct catch_up {
    /* in */
    enum catch_up_from from;
    struct position since; /* FROM_POSITION */
    uint32_t last_n;       /* FROM_LAST_N */
    uint32_t max_messages; /* page limits; at least one message is given whatever its size */
    size_t max_bytes;      /* of payload */
    /* out */
    struct position start;   /* position before the first message of this page */
    struct position head;    /* newest position of the channel */
    enum gap_reason gap;     /* said at most once, on the first page after it happened */
    struct position lost_to; /* with GAP_EXPIRED: what is lost ends here (== start) */
    struct msg **msgs;       /* counted references, array owned by the op */
    uint32_t count;
    bool complete; /* nothing after this page but live messages */
};

struct bus_member {
    uint64_t client;
    char *user;            /* NULL = anonymous; owned by the op */
    const char *transport; /* constant: "sse", "ws", "poll" */
    uint64_t since_ms;     /* out, wall clock */
    bool passing;          /* its coming and going is not told: long polls do so all the time */
};

/* One more local listener: the port gets all later messages of the channel. Every join that was
 * submitted is ended by one leave, whatever it answered. */
struct bus_join {
    struct bus_op op;
    char *channel; /* owned by the op, malloc */
    struct bus_member member;
    struct catch_up cu;
    uint64_t serial; /* the bus's own */
};

/* The next page for a listener that joined; no change of interest. */
struct bus_page {
    struct bus_op op;
    char *channel;
    struct catch_up cu;
};

struct bus_leave {
    struct bus_op op;
    char *channel;
    uint64_t client;
};

/* Reads without listening. reverse: newest first, `since` is then an upper bound (exclusive).  */
struct bus_history {
    struct bus_op op;
    char *channel;
    bool reverse;
    struct catch_up cu;
};

struct bus_clear {
    struct bus_op op;
    char *channel;
    uint32_t removed; /* out */
};

struct bus_channel_info {
    char *name; /* owned by the op that carries it */
    uint32_t subscribers;
    uint32_t messages; /* kept */
    struct position head;
};

/* Occupied channels (with at least one subscriber) whose name starts with prefix, sorted by name,
 * after `after`. */
struct bus_channels {
    struct bus_op op;
    char *prefix; /* NULL = all */
    char *after;  /* NULL = from the first */
    uint32_t limit;
    struct bus_channel_info *info; /* out, array owned by the op */
    uint32_t count;
    bool more;
};

/* ERR_NOT_FOUND when nobody listens and nothing is kept. */
struct bus_channel_get {
    struct bus_op op;
    char *channel;
    struct bus_channel_info info;
};

/* ERR_UNAVAILABLE is not used; a namespace without presence answers ERR_NOT_FOUND. */
struct bus_presence {
    struct bus_op op;
    char *channel;
    uint32_t limit;
    struct bus_member *member; /* out, array owned by the op, oldest first; users owned too */
    uint32_t count;
    uint32_t total;
};

/* What a port hears without having asked. */
enum bus_event_kind { BUS_EVENT_MESSAGE, BUS_EVENT_JOIN, BUS_EVENT_LEAVE, BUS_EVENT_GAP };
struct bus_event {
    enum bus_event_kind kind;
    struct msg *msg;      /* MESSAGE; borrowed during the call */
    struct slice channel; /* the others; borrowed */
    /* JOIN, LEAVE (namespaces with join_leave) */
    struct bus_member member;
    uint32_t subscribers; /* after the change */
    /* GAP: between the last message and the next something is lost, or the order was lost and
     * another begins. Only backends that share a server have it. */
    enum gap_reason gap;
    struct position since;   /* of the last message before the gap */
    struct position resumed; /* the next message is the one after this */
};

/* The table is borrowed and immutable. */
enum err bus_new_memory(const struct ns_table *ns, struct bus **out) MUST_CHECK;
/* The order and the history are in Redis, for all processes that name the same prefix there. */
struct bus_redis_options {
    const struct redis_target *target; /* borrowed */
    struct tls_ctx *tls;               /* borrowed; NULL when nothing uses TLS */
    const char *prefix;                /* borrowed; of all keys and pub/sub channels */
    uint64_t connect_timeout_ms;
    uint64_t command_timeout_ms;
    uint64_t linger_ms; /* how long a channel stays subscribed after its last listener */
    size_t max_reply_bytes;
    uint64_t max_message_bytes; /* largest payload, so that a page of history fits a reply */
};
enum err bus_new_redis(const struct ns_table *ns, const struct bus_redis_options *o,
                       struct bus **out) MUST_CHECK;
/* Can messages be delivered now? Else *why is a constant text. Any thread. The memory bus always
 * can. */
bool bus_is_ready(const struct bus *b, const char **why);
/* Gives the bus its loop (its inbox and timers); before any port submits, on the loop's thread or
 * before that runs. Without a loop (tests): bus_inbox() is drained and bus_timers() advanced by
 * hand. */
enum err bus_attach(struct bus *b, struct loop *l) MUST_CHECK;
void bus_detach(struct bus *b);
struct mailbox *bus_inbox(struct bus *b);
struct timer_wheel *bus_timers(struct bus *b);
/* All ports must be closed and drained. */
void bus_free(struct bus *b);

/* At start, before threads run. `deliver` runs when the port's mailbox is drained. At most 64. */
enum err bus_port_new(struct bus *b, void (*deliver)(void *ctx, const struct bus_event *ev),
                      void *ctx, struct bus_port **out) MUST_CHECK;
struct mailbox *bus_port_mailbox(struct bus_port *p); /* the worker's loop attaches it */
void bus_port_free(struct bus_port *p); /* after the threads have ended: what was asked comes
                                         * home through done, events are dropped */

/* Gives the op to the bus; op->kind, op->done and the inputs are set. Never fails: errors come
 * back through done. */
void bus_submit(struct bus_port *p, struct bus_op *op);
/* Frees an op with everything it owns (for `done` callbacks). */
void bus_op_free(struct bus_op *op);
/* Zeroed, with kind, done and ctx set; aborts when memory is used up. */
struct bus_publish *bus_publish_new(void (*done)(struct bus_op *), void *ctx);
struct bus_join *bus_join_new(void (*done)(struct bus_op *), void *ctx);
struct bus_page *bus_page_new(void (*done)(struct bus_op *), void *ctx);
struct bus_leave *bus_leave_new(void (*done)(struct bus_op *), void *ctx);
struct bus_history *bus_history_new(void (*done)(struct bus_op *), void *ctx);
struct bus_clear *bus_clear_new(void (*done)(struct bus_op *), void *ctx);
struct bus_channels *bus_channels_new(void (*done)(struct bus_op *), void *ctx);
struct bus_channel_get *bus_channel_get_new(void (*done)(struct bus_op *), void *ctx);
struct bus_presence *bus_presence_new(void (*done)(struct bus_op *), void *ctx);

#endif
