/* greeting.h - what is said on a new connection before it is used: commands one at a time, each
 * answered before the next. No I/O. */
#ifndef CRIER_REDIS_GREETING_H
#define CRIER_REDIS_GREETING_H

#include "crier/redis.h"

struct greeting {
    const struct redis_endpoint *endpoint;
    const char *name; /* of the client, for CLIENT LIST */
    struct redis_script *const *scripts;
    size_t n_scripts;
    unsigned step; /* the one that awaits its answer */
    size_t script;
};

/* What g points to is borrowed until it is over. */
void greeting_begin(struct greeting *g);
/* Appends the next command; false when there is none left (nothing appended). */
bool greeting_next(struct greeting *g, struct buf *out);
/* Takes the answer to it. False with the reason, which never holds a password. */
bool greeting_answered(struct greeting *g, const struct reply *r, char why[REDIS_WHY_BYTES]);

#endif
