/* slot.h - which part of a key decides where it lies, and Redis Cluster's slot of it. Any thread.
 */
#ifndef CRIER_REDIS_SLOT_H
#define CRIER_REDIS_SLOT_H

#include "crier/slice.h"

#define SLOT_COUNT 16384

/* What stands between the first { and the next }, unless that is nothing: then all of the key. */
struct slice slot_tag(struct slice key);
uint16_t slot_of(struct slice key); /* of the tag; < SLOT_COUNT */

#endif
