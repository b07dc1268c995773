/* msg_internal.h - what the files of src/msg share. */
#ifndef CRIER_MSG_INTERNAL_H
#define CRIER_MSG_INTERNAL_H

#include "crier/msg.h"

/* Is this message compressed at all (msg_configure_packing)? */
bool pack_wants(const struct msg *m);
/* Appends `plain` compressed; false, and b is as before, when that would not be smaller. */
bool pack_append(struct buf *b, enum msg_coding coding, struct slice plain);

/* encode.c: frees what a place of the message holds, or would have held, unless it is borrowed from
 * the plain form's place. */
void encode_free(struct msg *m, enum msg_form form, struct encoded *e);

#endif
