/* link.h - one connection to one Redis server (or sentinel): opens it, greets, pipelines commands,
 * takes answers and pushes, and opens it again when it is lost, with backoff and full jitter.
 *
 * Greeting, each answer awaited: AUTH, SELECT (both only where the endpoint says so), CLIENT
 * SETNAME (an error is ignored), SCRIPT LOAD of every script (command links). Loop's thread only.
 */
#ifndef CRIER_REDIS_LINK_H
#define CRIER_REDIS_LINK_H

#include "crier/redis.h"

struct link;

/* Backoff: uniform in [0, min(LINK_BACKOFF_MAX_MS, LINK_BACKOFF_MIN_MS << attempts)], at least 10
 * ms. */
#define LINK_BACKOFF_MIN_MS 50
#define LINK_BACKOFF_MAX_MS 2000

enum link_kind {
    LINK_COMMANDS,  /* every answer belongs to a request, in order */
    LINK_SUBSCRIBE, /* after the greeting every reply goes to `push` */
};

/* Memory of the caller; lives until done. */
struct link_request {
    struct link_request *next;
    uint64_t sent_ms;
    size_t bytes; /* of the command */
    /* ERR_OK with the answer, which may be an error reply; ERR_UNAVAILABLE (reply NULL) when the
     * link was lost or the command timeout was over; ERR_CLOSED when link_close was called. */
    void (*done)(struct link_request *q, enum err e, const struct reply *r);
};

struct link_ops {
    void (*up)(struct link *l);                          /* greeted */
    void (*down)(struct link *l, const char *why);       /* was up, or an attempt failed; after all
                                                          * requests were answered; will try again */
    void (*push)(struct link *l, const struct reply *r); /* LINK_SUBSCRIBE */
};

struct link_options {
    enum link_kind kind;
    const struct redis_endpoint *endpoint; /* borrowed; must not change while the link exists */
    const struct redis_options *redis;     /* borrowed: tls, timeouts, limits, scripts */
    const struct link_ops *ops;
    void *ctx; /* link_ctx gives it back */
};

enum err link_new(struct loop *l, const struct link_options *o, struct link **out) MUST_CHECK;
void link_open(struct link *l); /* begins at once */
/* Requests are answered ERR_CLOSED; `down` is not called. Freed at the end of the turn: may be
 * called from any of its callbacks. */
void link_close(struct link *l);
void *link_ctx(const struct link *l);
bool link_is_up(const struct link *l);
/* Breaks the connection as if it had been lost (requests ERR_UNAVAILABLE, `down`), and begins
 * again. */
void link_break(struct link *l, const char *why);
/* Begins a waiting attempt at once. */
void link_hurry(struct link *l);

/* Appends a command; written at the end of the turn, together. Only while up. Takes the request,
 * which is NULL on subscribe links. ERR_LIMIT: max_pending_bytes would be passed, nothing was
 * taken. Slices equal to the redis_arg_ constants must have been replaced already. */
enum err link_send(struct link *l, struct link_request *q, const struct slice *arg,
                   size_t n) MUST_CHECK;
/* Monotonic time when the oldest request that is not answered was sent; 0 when there is none. */
uint64_t link_oldest_ms(const struct link *l);

#endif
