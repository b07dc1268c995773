/* front_internal.h - what front.c and front_tls.c share. */
#ifndef CRIER_TRANSPORT_FRONT_INTERNAL_H
#define CRIER_TRANSPORT_FRONT_INTERNAL_H

#include "crier/buf.h"
#include "crier/front.h"
#include "crier/head.h"
#include "crier/pool.h"

struct listener {
    struct io_watch w;
    struct front *front;
    bool tls;
};

/* GREETING: nothing of TLS has been looked at. WAITING: for its turn to shake hands. REFUSED: has
 * been answered and is being said goodbye to. */
enum newcomer_phase { GREETING, WAITING, SHAKING, HEAD, REFUSED };

/* Accepted, has not sent a whole head yet; or was refused. */
struct newcomer {
    struct io_watch w;
    struct timer deadline;
    struct list node;
    struct list turn; /* in front->waiting or front->running */
    struct front *front;
    struct tls *tls; /* owned; NULL in clear */
    struct buf head; /* decrypted, not complete */
    struct sock_addr peer;
    uint64_t accepted_ms, shaking_since_ms;
    uint8_t phase;  /* enum newcomer_phase */
    bool hurried;   /* its handshake has less time */
    bool over_tls;  /* came on the TLS port */
    bool gone;      /* no longer ours */
    size_t dropped; /* bytes a refused one sent on */
    struct loop_corpse corpse;
};

struct front {
    struct loop *loop;
    struct h1 *h1;
    struct h2 *h2;
    struct relay_set *relays;
    struct tls_ctx *tls; /* counted; NULL: no TLS */
    _Atomic int64_t *connections;
    uint64_t head_ms;
    struct timer resume;
    struct list newcomers;
    struct list waiting; /* for a handshake, in the order they came */
    struct list running; /* handshakes that may have their whole time, the oldest first */
    unsigned shaking, n_waiting;
    unsigned hurried; /* of those that shake hands */
    struct pool pool;
    size_t n_listeners;
    struct listener listener[FRONT_LISTENERS_MAX];
    char head[HEAD_MAX_BYTES];
};

/* --- front.c --- */

struct conduit front_conduit(const struct newcomer *n);
/* No longer ours; the conduit is the caller's. */
void front_let_go(struct newcomer *n);
/* Closes it. */
void front_turn_out(struct newcomer *n);
/* Answers (status 0: nothing), and waits a moment for the peer's FIN. */
void front_refuse(struct newcomer *n, int status, const char *why);

/* --- front_tls.c --- */

/* Something has happened to a newcomer of the TLS port that was not refused. */
void front_tls_ready(struct newcomer *n);
/* It goes, for whatever reason. */
void front_tls_left(struct newcomer *n);
/* Begins the handshakes that waited for room. */
void front_tls_next(struct front *f);
/* Its time is over. */
void front_tls_late(const struct newcomer *n);

#endif
