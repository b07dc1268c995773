/* stream.h - the recent tail of one channel: counted message references in offset order.
 *
 * The kept messages are always the last `count` of the order, without holes, so a message is found
 * by subtraction. Bounded by count here and by age through stream_expire; no timers of its own.
 * Single owner.
 */
#ifndef CRIER_BUS_STREAM_H
#define CRIER_BUS_STREAM_H

#include "crier/bus.h"

struct stream_entry {
    struct msg *msg; /* counted */
    uint64_t at_ms;  /* monotonic, when it was appended */
};

struct stream {
    struct stream_entry *ring; /* owned; NULL when nothing is kept */
    uint32_t capacity;         /* 0 or a power of two */
    uint32_t first, count;
    struct position head; /* newest position, kept or not */
};

void stream_init(struct stream *s, struct position head);
void stream_release(struct stream *s);
/* The message after head, ordered already: head becomes its position. Keeps at most max_messages;
 * when there is no memory to grow, the oldest goes earlier. */
void stream_append(struct stream *s, struct msg *m, uint32_t max_messages, uint64_t now_ms);
/* Drops what was appended at or before the given time. */
void stream_expire(struct stream *s, uint64_t up_to_ms);
/* Drops everything, keeps head; answers how many there were. */
uint32_t stream_clear(struct stream *s);
/* Time of the oldest kept message; only when count > 0. */
uint64_t stream_oldest_ms(const struct stream *s);
/* Answers a catch-up. ERR_NOMEM. */
enum err stream_catch_up(const struct stream *s, struct catch_up *cu, bool reverse) MUST_CHECK;

#endif
