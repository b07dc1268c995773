/* error.h - what kind of refusal an error reply is. Pure; any thread. */
#ifndef CRIER_REDIS_ERROR_H
#define CRIER_REDIS_ERROR_H

#include "crier/slice.h"

enum error_kind {
    ERROR_OTHER,        /* this command is wrong, or forbidden */
    ERROR_NO_SCRIPT,    /* NOSCRIPT */
    ERROR_REDIRECT,     /* MOVED, ASK, TRYAGAIN */
    ERROR_NOT_MASTER,   /* READONLY, MASTERDOWN */
    ERROR_CLUSTER_DOWN, /* CLUSTERDOWN */
    ERROR_PASSING,      /* LOADING, OOM and others: not now */
};

/* Also of an error within a script, however the server's version wraps it. */
enum error_kind error_kind(struct slice text);
static inline bool error_is_passing(enum error_kind k)
{
    return k == ERROR_NOT_MASTER || k == ERROR_CLUSTER_DOWN || k == ERROR_PASSING ||
           k == ERROR_REDIRECT;
}

struct redirect {
    uint16_t slot;
    struct slice host; /* borrowed; empty: the host that said so */
    uint16_t port;
};
/* "MOVED 3999 127.0.0.1:6381", "ASK 3999 ::1:6381". ERR_SYNTAX. */
enum err error_parse_redirect(struct slice text, struct redirect *out) MUST_CHECK;

#endif
