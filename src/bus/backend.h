/* backend.h - who orders messages and keeps their tail: this process (memory.c), or a server that
 * several processes share.
 *
 * The bus knows ports, interest and presence; a backend knows epochs, offsets and stored messages.
 * They meet in two directions, both on the bus's thread:
 *
 * down: the bus hands an op to the backend, which answers it by bus_answer, within the call or at
 *     any time later. Until then the op, its strings and its message are the backend's to read.
 * up: bus_ordered, once per message, in the order of the channel.
 *
 * The promise that makes the workers simple is the backend's to keep. At the instant it answers a
 * catch-up (join or page) with `complete`:
 *   - every message up to cu->head that the audience must get has been given to bus_ordered, and
 *   - the next message it gives to bus_ordered for this channel is the one after cu->head.
 * A backend whose live messages and stored messages arrive on two ways therefore repairs its own
 * holes (by reading what is stored) before it answers. If what was lost cannot be had any more,
 * it says bus_gap and goes on.
 */
#ifndef CRIER_BUS_BACKEND_H
#define CRIER_BUS_BACKEND_H

#include "crier/bus.h"

struct backend;

struct backend_ops {
    /* Frees the backend, and by bus_op_free the ops that it has not answered. */
    void (*free)(struct backend *be);
    /* The bus has got its loop, before the first op: open links. NULL: the loop is going away,
     * bus_timers() is its wheel for the last time: cancel timers and close links. */
    enum err (*attach)(struct backend *be, struct loop *l);
    /* First listener of a channel (on), or none any more. Said before the join that caused it and
     * after the leave; a backend may linger over the latter. While on, all messages of the channel
     * are given to bus_ordered; otherwise they may be. */
    void (*interest)(struct backend *be, struct slice channel, uint64_t hash, bool on);
    /* Somebody joined or left: n listen now. Between interest on and off. NULL: not wanted. */
    void (*subscribers)(struct backend *be, struct slice channel, uint64_t hash, uint32_t n);
    /* Orders op->msg: msg_order, bus_ordered, then bus_answer, so a publisher that listens hears
     * its message before the answer. ERR_CONFLICT, ERR_UNAVAILABLE, ERR_NOMEM. */
    void (*publish)(struct backend *be, struct bus_publish *op);
    /* Fills the outputs of `cu`, which lies within `op`. */
    void (*catch_up)(struct backend *be, struct bus_op *op, struct slice channel,
                     struct catch_up *cu, bool reverse);
    void (*clear)(struct backend *be, struct bus_clear *op);
    /* Fills `messages` and `head` of the channels of the op by their names, and adds subscribers
     * (and for `channels` also channels) that other processes have. Their own are there already. */
    void (*channels)(struct backend *be, struct bus_channels *op);
    void (*channel)(struct backend *be, struct bus_channel_get *op);
};

/* First member of every backend. */
struct backend {
    const struct backend_ops *ops;
    struct bus *bus; /* borrowed */
};

/* Makes a bus on top of a backend, which it owns from then on (also when it fails). */
enum err bus_new(const struct ns_table *ns, struct backend *be, struct bus **out) MUST_CHECK;
const struct ns_options *bus_ns(const struct bus *b, struct slice channel);

/* A message was ordered: posted to every port that listens to its channel. */
void bus_ordered(struct bus *b, struct msg *m);
/* What is given next does not follow what was given last: told to every port that listens. */
void bus_gap(struct bus *b, struct slice channel, enum gap_reason why, struct position since,
             struct position resumed);
/* NULL: messages are delivered. Else a constant text. */
void bus_set_ready(struct bus *b, const char *why_not);
/* op->err and the outputs are set: takes the op and posts it back to its port. */
void bus_answer(struct bus *b, struct bus_op *op);

/* Monotonic, as of this turn of the loop; what the wheel says when there is no loop. */
uint64_t bus_now_ms(const struct bus *b);
/* Zeroed memory for the small fixed things of the bus; aborts when there is none. */
void *bus_alloc(size_t n_bytes);

#endif
