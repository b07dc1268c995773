/* redis_bus.h - what the files of the Redis backend share.
 *
 *   redis_bus.c       the backend: makes it, hands ops on, looks after time
 *   redis_channel.c   one channel: live messages, holes, what is kept here of it
 *   redis_read.c      reading a channel's stream, once for all listeners that wait
 *   redis_history.c   reading without listening
 *   redis_range.c     what a read brings
 *   redis_publish.c   publishing, clearing, describing
 *   redis_witness.c   what was acknowledged, so that nobody can forget it unnoticed
 *   redis_registry.c  who listens to what in all processes together
 *   redis_call.c      a script call with everything it says, and the names of keys
 *   redis_scripts.c   the Lua
 *
 * All of it belongs to the bus's thread.
 */
#ifndef CRIER_BUS_REDIS_BUS_H
#define CRIER_BUS_REDIS_BUS_H

#include "backend.h"
#include "crier/redis.h"
#include "redis_scripts.h"
#include "tail.h"

#define CACHE_MESSAGES 256u   /* kept here of a channel at most; older ones are read again */
#define PAGE_MESSAGES 256u    /* of a read for listeners */
#define BUFFER_MESSAGES 1024u /* live messages that wait for a read; then it is read again */
/* An unused channel's order is known so long at least. */
#define META_MS (24 * 3600 * UINT64_C(1000))

/* What the order of a channel had: its newest position, and of each epoch before that one offset
 * more than it ended with, newest first. For a server that knows less. */
struct known {
    uint32_t n;
    struct position at[KNOWN_MAX];
};

struct registry;
struct witnesses;

struct redis_bus {
    struct backend be;
    struct redis *redis;          /* owned */
    struct bus_redis_options opt; /* its strings are borrowed */
    char pubsub_suffix[16];       /* pub/sub does not know databases */
    struct map channels;          /* struct rchannel */
    struct list lingering;        /* struct rchannel, the oldest first */
    struct list retry;            /* struct rchannel whose read failed */
    struct list waiters;          /* struct waiter, the oldest first */
    struct witnesses *witnesses;  /* owned */
    struct registry *registry;    /* owned */
    struct timer tick;
    uint64_t swept_ms;
    uint64_t reads;          /* begun for listeners */
    uint32_t reply_messages; /* so many of the largest fit a reply */
    bool attached;
    bool ready; /* as it was last told */
};

enum channel_state {
    CHANNEL_COLD,        /* not subscribed: nothing is known of its order */
    CHANNEL_SUBSCRIBING, /* the server has not confirmed it (again) */
    CHANNEL_SYNCING,     /* subscribed; what was missed is being read */
    CHANNEL_LIVE,        /* the next message is the one after tail.head */
};

/* One channel that is listened to, was until lately, or is being read. */
struct rchannel {
    struct map_node node;
    struct redis_bus *rb;             /* borrowed */
    const struct ns_options *options; /* borrowed */
    struct redis_sub sub;             /* its name is base and the suffix */
    struct tail tail;                 /* head: the last message that was given on */
    uint8_t state;
    bool wanted;          /* somebody listens */
    bool known;           /* tail.head is where the listeners are */
    bool whole;           /* nothing older than the tail is kept anywhere */
    bool full;            /* no memory to keep more */
    bool overflown;       /* the buffer was, so what it held must be read */
    struct list linger;   /* in rb->lingering */
    uint64_t left_ms;     /* when the last listener left */
    uint64_t cared_ms;    /* when the age of META was last renewed */
    struct list in_retry; /* in rb->retry */
    struct list waiting;  /* struct waiter */
    struct read *reading; /* owned; one at a time */
    uint64_t confirmed;   /* number of the last read that said where the order stands */
    uint32_t generation;  /* of the subscription: what was read before it is no use after it */
    struct {
        struct msg *msg; /* counted */
        uint32_t previous_epoch;
        uint64_t since_read; /* rb->reads when it came */
    } * buffer;              /* owned */
    uint32_t n_buffered, buffer_size;
    /* redis_registry.c */
    uint32_t subscribers, told;
    bool telling; /* a call that speaks of it is on its way */
    struct list untold;
    size_t name_len;
    char name[];
};

/* A catch-up that cannot be answered yet. */
struct waiter {
    struct list in_channel, in_bus;
    struct rchannel *channel;
    struct bus_op *op;
    struct catch_up *cu; /* within op */
    uint64_t since_ms;
    uint64_t since_read; /* rb->reads when it came */
};

/* --- calling scripts --- */
#define REDIS_PREFIX_MAX 64
#define REDIS_KEY_MAX (REDIS_PREFIX_MAX + CHANNEL_MAX_BYTES + 32)

/* How long the order of a channel is remembered that nobody uses: twice as long as its messages
 * and its idempotency keys. */
uint64_t redis_bus_meta_ms(const struct ns_options *o);

struct script_call {
    struct redis_call call;
    struct redis_bus *rb; /* borrowed */
    void *ctx;            /* the caller's */
    /* As redis_call.done; the script_call is freed afterwards. */
    void (*done)(struct script_call *c, enum err e, const struct reply *r);
    size_t used, size; /* of the bytes behind the arguments */
    struct slice arg[];
};
/* Room for n arguments of so many bytes together; numbers take up to 21. script is NULL for a
 * command, whose name is the first argument then. */
struct script_call *
script_call_new(struct redis_bus *rb, struct redis_script *script, size_t n_args, size_t n_bytes,
                void (*done)(struct script_call *, enum err, const struct reply *), void *ctx);
/* Keys first; the first of them decides the node. */
void script_call_key(struct script_call *c, struct slice channel, const char *suffix,
                     struct slice more);
void script_call_pubsub(struct script_call *c, struct slice channel);
void script_call_text(struct script_call *c, struct slice text);
void script_call_u64(struct script_call *c, uint64_t v);
/* Filled in when the command is written (redis.h). */
void script_call_constant(struct script_call *c, struct slice redis_arg);
/* A message's body. */
void script_call_body(struct script_call *c, const struct msg *m);
#define KNOWN_BYTES (32u * KNOWN_MAX)
void script_call_known(struct script_call *c, const struct known *k);
void script_call_submit(struct script_call *c);

struct slice rchannel_name(const struct rchannel *c);
struct rchannel *rchannel_get(const struct redis_bus *rb, struct slice name, uint64_t hash);
struct rchannel *rchannel_make(struct redis_bus *rb, struct slice name, uint64_t hash);
/* Frees it when nobody needs it: call it last. */
void rchannel_drop_if_unused(struct rchannel *c);
void rchannel_free(struct rchannel *c);
void rchannel_want(struct rchannel *c, bool on);
/* No longer subscribed; nothing of it is known here any more. */
void rchannel_cool(struct rchannel *c);
void rchannel_subscribed(struct rchannel *c);
void rchannel_lost(struct rchannel *c);
/* A live channel may have missed something, or its order may be gone: the truth is in the stream.
 */
void rchannel_look_again(struct rchannel *c);
void rchannel_message(struct rchannel *c, struct slice text);
/* The next message of the order: kept and given to the bus. */
void rchannel_accept(struct rchannel *c, struct msg *m);
/* A message that the publish script has just ordered; true when it was the next one. */
bool rchannel_published(struct rchannel *c, struct msg *m, uint32_t previous_epoch);
/* Everything up to tail.head was given on: the channel is live, and what waited is. */
void rchannel_synced(struct rchannel *c);
void rchannel_expire(struct rchannel *c);

/* --- reading --- */
/* A listener's catch-up that cannot be answered now. */
void read_wait(struct rchannel *c, struct bus_op *op, struct catch_up *cu);
/* Answers what can be answered and begins the read that is needed next. */
void read_pump(struct rchannel *c);
void read_fail_waiters(struct rchannel *c);
void waiter_fail(struct waiter *w);
/* Reads without listening. */
void redis_bus_history(struct redis_bus *rb, struct bus_history *op);

/* --- publishing and the rest --- */
void redis_bus_publish(struct redis_bus *rb, struct bus_publish *op);
void redis_bus_clear(struct redis_bus *rb, struct bus_clear *op);
/* Fills messages and head of n infos, then answers op. */
void redis_bus_describe(struct redis_bus *rb, struct bus_op *op, struct bus_channel_info *info,
                        uint32_t n);

/* --- what was given out --- */
enum err witnesses_new(struct redis_bus *rb, struct witnesses **out) MUST_CHECK;
void witnesses_free(struct witnesses *w); /* NULL is fine */
/* line may be NULL. */
struct known known_of(struct position head, const struct lineage *line);
/* This position was acknowledged to a publisher. line: what the server said of the epochs before
 * it, which it does only when it was not asked about the same epoch. */
void witness_note(struct redis_bus *rb, struct slice channel, uint64_t hash, struct position pos,
                  const struct lineage *line);
/* The newest of the channel. */
struct known witness_get(struct redis_bus *rb, struct slice channel, uint64_t hash);
/* Redis is back: says of every channel what was acknowledged. */
void witnesses_speak(struct redis_bus *rb);

/* --- registry --- */
enum err registry_new(struct redis_bus *rb, struct registry **out) MUST_CHECK;
void registry_free(struct registry *g);
void registry_subscribers(struct rchannel *c, uint32_t n);
void registry_forget(struct rchannel *c); /* before the channel is freed */
/* The server delivers, but does not carry out what a publish needs (no memory, no permission). */
bool registry_is_refused(const struct registry *g);
void registry_tick(struct registry *g, uint64_t now_ms);
void registry_channels(struct registry *g, struct bus_channels *op);
void registry_channel(struct registry *g, struct bus_channel_get *op);

#endif
