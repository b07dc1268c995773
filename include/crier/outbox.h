/* outbox.h - what one client still has to receive: a ring of references in delivery order.
 *
 * The hub appends, the transport pulls; neither knows the other. Entries are messages (sent in the
 * outbox's form, by reference) or blobs (notices, made for one client; or, outside of the stream's
 * coding, what frames it: the head of HTTP/1.1, header and trailer of gzip). Bytes are counted in
 * the form this client gets, so the limit is what would go on the wire. Memory is held only while
 * something waits; a single waiting entry needs none. Single owner, no locks.
 */
#ifndef CRIER_OUTBOX_H
#define CRIER_OUTBOX_H

#include "crier/msg.h"

#include <sys/uio.h>

/* Bytes for one client, immutable, freed with the entry. */
struct blob {
    uint32_t len;
    char bytes[];
};

struct outbox {
    union {
        uintptr_t one;   /* the entry, while there is room for one */
        uintptr_t *ring; /* owned */
    };
    uint64_t bytes; /* of all entries, sent part included */
    uint32_t head, count;
    uint32_t head_sent; /* bytes of the first entry that are already written */
    uint8_t cap_log2;   /* of the entries there is room for */
    uint8_t form;       /* enum msg_form */
};

void outbox_init(struct outbox *o, enum msg_form form);
void outbox_release(struct outbox *o);
/* Takes a reference of its own. ERR_NOMEM. */
enum err outbox_push_msg(struct outbox *o, struct msg *m) MUST_CHECK;
/* Copies the two parts behind each other into one blob. ERR_NOMEM. */
enum err outbox_push_bytes(struct outbox *o, struct slice a, struct slice b) MUST_CHECK;
/* The same for bytes that frame the stream. */
enum err outbox_push_framing(struct outbox *o, struct slice bytes) MUST_CHECK;
/* An empty place that stops the pulling until it is filled (once). */
enum err outbox_push_gate(struct outbox *o) MUST_CHECK;
enum err outbox_open_gate(struct outbox *o, struct slice bytes) MUST_CHECK;
/* Removes the gate and every message that has not begun to be sent; notices stay. */
void outbox_drop_messages(struct outbox *o);
/* Removes every message of the channel that has not begun to be sent. */
void outbox_drop_channel(struct outbox *o, uint64_t channel_hash);

/* One entry as the transport sees it. */
struct outbox_item {
    struct msg *msg;           /* borrowed; NULL for a blob */
    const struct encoded *enc; /* of the message, borrowed */
    struct slice bytes;        /* the whole entry */
    bool framing;
};
/* The i-th entry from the head; false at the end and at a gate. */
bool outbox_item(const struct outbox *o, uint32_t i, struct outbox_item *out);
/* Removes the first entry. */
void outbox_pop(struct outbox *o);

#endif
