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
 * nobody passes it without a gap. Who passed it before that was known is somewhere in a later epoch
 * that had begun by then; these are ended too, and marked: whoever comes from one is told.
 */
#ifndef CRIER_BUS_LINEAGE_H
#define CRIER_BUS_LINEAGE_H

#include "crier/cursor.h"

#define LINEAGE_MAX 32
#define LINEAGE_STRAYS_MAX 8

/* Marks of an ended epoch; it may have both ("!?"). */
#define LINEAGE_LOST 1u    /* "!": it had messages after that, and they are gone */
#define LINEAGE_UNAWARE 2u /* "?": who stands in it may not know of the loss before it */

struct lineage {
    uint32_t count;
    struct position ended[LINEAGE_MAX]; /* oldest first: an epoch and its last offset */
    uint8_t mark[LINEAGE_MAX];
    /* Epochs that the order does not know any more, and how far they were the same: what a server
     * began and then lost altogether. Known only to who had heard of them. */
    uint32_t n_strays;
    struct position stray[LINEAGE_STRAYS_MAX];
};

/* An epoch that was ended, or is a stray: its last offset in this order. False when it is not known
 * (any more). */
bool lineage_find(const struct lineage *l, uint32_t epoch, uint64_t *last);
/* Only a stray. */
bool lineage_is_stray(const struct lineage *l, uint32_t epoch, uint64_t *last);
/* Is this the end of an epoch that had more? */
bool lineage_is_loss(const struct lineage *l, struct position end);
/* The lowest offset from `offset` on after which something is lost; UINT64_MAX when there is none.
 */
uint64_t lineage_next_loss(const struct lineage *l, uint64_t offset);
/* The newest ended epoch; the oldest is forgotten when there are too many. */
void lineage_add(struct lineage *l, struct position end, uint8_t mark);
/* The oldest is forgotten when there are too many. */
void lineage_add_stray(struct lineage *l, struct position common);
/* Is that a position whose reader may have passed losses that nobody told it of? Then the first of
 * them, or p itself when that is forgotten. */
bool lineage_is_unaware(const struct lineage *l, struct position p, struct position *loss);
/* The epoch that the message of this offset was ordered in, when the present one is `now`. */
uint32_t lineage_epoch_at(const struct lineage *l, uint64_t offset, uint32_t now);
/* "EPOCH:LAST EPOCH:LAST! EPOCH:LAST!? …", oldest first, none before the one it follows.
 * ERR_SYNTAX. */
enum err lineage_parse(struct slice text, struct lineage *out) MUST_CHECK;

#endif
