/* ranges.h - who has which slots: the answer to CLUSTER SLOTS, read. Pure; any thread. */
#ifndef CRIER_REDIS_RANGES_H
#define CRIER_REDIS_RANGES_H

#include "crier/reply.h"

struct slot_range {
    uint16_t first, last; /* first <= last < SLOT_COUNT */
    struct slice host;    /* of the master; borrowed from the reply, or `asked` */
    uint16_t port;
};

/* asked: the host that was asked, for masters that do not know their own. *out is malloc'ed, NULL
 * when n is 0. ERR_SYNTAX: it is not such an answer. ERR_NOMEM. */
enum err ranges_read(const struct reply *r, struct slice asked, struct slot_range **out,
                     size_t *n) MUST_CHECK;

#endif
