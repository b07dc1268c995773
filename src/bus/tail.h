/* tail.h - the recent tail of one channel: counted message references in offset order.
 *
 * The kept messages are always the last `count` of the order, without holes, so a message is found
 * by subtraction. Bounded by count here and by age through tail_expire; no timers of its own.
 * Single owner.
 */
#ifndef CRIER_BUS_TAIL_H
#define CRIER_BUS_TAIL_H

#include "crier/bus.h"
#include "lineage.h"

struct tail_entry {
    struct msg *msg; /* counted */
    uint64_t at_ms;  /* monotonic, when it was appended */
};

struct tail {
    struct tail_entry *ring; /* owned; NULL when nothing is kept */
    uint32_t capacity;       /* 0 or a power of two */
    uint32_t first, count;
    struct position head; /* newest position, kept or not */
    struct lineage *line; /* owned; NULL while the head's epoch is the only one */
};

void tail_init(struct tail *s, struct position head);
void tail_release(struct tail *s);
/* The message after head, ordered already: head becomes its position. Keeps at most max_messages;
 * when there is no memory to grow, the oldest goes earlier. */
void tail_append(struct tail *s, struct msg *m, uint32_t max_messages, uint64_t now_ms);
/* The next message continues the order in another epoch, and nothing was lost. */
void tail_new_epoch(struct tail *s, uint32_t epoch);
/* Where the order stands according to somebody who knows: drops what is kept. */
void tail_reset(struct tail *s, struct position head, const struct lineage *line);
/* The listeners at head have had all that there is, and were told all that is to be told: they are
 * in the newest epoch. `order` says which that is, and which there were; what is kept stays. */
void tail_adopt(struct tail *s, const struct tail *order);
/* A message before the oldest one kept (or at head when nothing is); at_ms as it should have been.
 * False when there is no memory for it. */
bool tail_prepend(struct tail *s, struct msg *m, uint64_t at_ms);
/* The position of an offset up to head. Where one epoch ends and another begins it is the end. */
struct position tail_position(const struct tail *s, uint64_t offset);
/* The same, but there it is the beginning: what comes next is of that epoch. */
struct position tail_position_before_next(const struct tail *s, uint64_t offset);
/* Can a reader go on from there? GAP_NONE, or GAP_EPOCH, GAP_AHEAD. *common is the newest position
 * that it is known to share with the order, epoch 0 when none is. */
enum gap_reason tail_judge(const struct tail *s, struct position p, struct position *common);
/* What a gap is said to begin with: p itself, or the loss that was found when p had been given. */
struct position tail_loss_before(const struct tail *s, struct position p);
/* Drops what was appended at or before the given time. */
void tail_expire(struct tail *s, uint64_t up_to_ms);
/* Drops everything, keeps head; answers how many there were. */
uint32_t tail_clear(struct tail *s);
/* Drops what has this offset or a lower one. */
void tail_drop_to(struct tail *s, uint64_t offset);
/* Time of the oldest kept message; only when count > 0. */
uint64_t tail_oldest_ms(const struct tail *s);
/* Answers a catch-up. ERR_NOMEM. */
enum err tail_catch_up(const struct tail *s, struct catch_up *cu, bool reverse) MUST_CHECK;

#endif
