/* tail.h - the recent tail of one channel: counted message references in offset order.
 *
 * The kept messages are always the last `count` of the order, without holes, so a message is found
 * by subtraction. Bounded by count here and by age through tail_expire; no timers of its own.
 * Single owner.
 */
#ifndef CRIER_BUS_TAIL_H
#define CRIER_BUS_TAIL_H

#include "crier/bus.h"

struct tail_entry {
    struct msg *msg; /* counted */
    uint64_t at_ms;  /* monotonic, when it was appended */
};

struct tail {
    struct tail_entry *ring; /* owned; NULL when nothing is kept */
    uint32_t capacity;       /* 0 or a power of two */
    uint32_t first, count;
    struct position head; /* newest position, kept or not */
};

void tail_init(struct tail *s, struct position head);
void tail_release(struct tail *s);
/* The message after head, ordered already: head becomes its position. Keeps at most max_messages;
 * when there is no memory to grow, the oldest goes earlier. */
void tail_append(struct tail *s, struct msg *m, uint32_t max_messages, uint64_t now_ms);
/* Drops what was appended at or before the given time. */
void tail_expire(struct tail *s, uint64_t up_to_ms);
/* Drops everything, keeps head; answers how many there were. */
uint32_t tail_clear(struct tail *s);
/* Time of the oldest kept message; only when count > 0. */
uint64_t tail_oldest_ms(const struct tail *s);
/* Answers a catch-up. ERR_NOMEM. */
enum err tail_catch_up(const struct tail *s, struct catch_up *cu, bool reverse) MUST_CHECK;

#endif
