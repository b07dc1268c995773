/* lineage.h - the epochs that a channel's order has gone through.
 *
 * When the server that keeps the order restarts, or another takes over, what it orders from then on
 * is of a new epoch that goes on counting where the old one is known to have got to. A position of
 * the old epoch up to that offset is as good as ever; one beyond it names a message that was lost
 * with the server. So a restart that lost nothing costs nobody a gap, and one that lost something
 * is seen by everyone who had it (Kafka's leader epochs do the same).
 *
 * Those who did not have it are told too: whoever knows of an offset beyond the end of an epoch
 * (because it was acknowledged there, or delivered) says so, and that end is a loss from then on:
 * nobody passes it without a gap.
 */
#ifndef CRIER_BUS_LINEAGE_H
#define CRIER_BUS_LINEAGE_H

#include "crier/cursor.h"

#define LINEAGE_MAX 32

struct lineage {
    uint32_t count;
    struct position ended[LINEAGE_MAX]; /* oldest first: an epoch and its last offset */
    bool lost[LINEAGE_MAX];             /* it had messages after that, and they are gone */
};

/* An epoch that was ended: its last offset. False when it is not known (any more). */
bool lineage_find(const struct lineage *l, uint32_t epoch, uint64_t *last);
/* Is this the end of an epoch that had more? */
bool lineage_is_loss(const struct lineage *l, struct position end);
/* The lowest offset from `offset` on after which something is lost; UINT64_MAX when there is none.
 */
uint64_t lineage_next_loss(const struct lineage *l, uint64_t offset);
/* The newest ended epoch; the oldest is forgotten when there are too many. */
void lineage_add(struct lineage *l, struct position end, bool lost);
/* The epoch that the message of this offset was ordered in, when the present one is `now`. */
uint32_t lineage_epoch_at(const struct lineage *l, uint64_t offset, uint32_t now);
/* "EPOCH:LAST EPOCH:LAST! …", oldest first, none before the one it follows; "!" after a loss.
 * ERR_SYNTAX. */
enum err lineage_parse(struct slice text, struct lineage *out) MUST_CHECK;

#endif
