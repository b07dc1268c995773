/* worker.h - one thread with its loop, hub, front door and transports. */
#ifndef CRIER_APP_WORKER_H
#define CRIER_APP_WORKER_H

#include "crier/bus.h"
#include "crier/front.h"
#include "crier/http.h"
#include "crier/hub.h"

#include <pthread.h>

struct worker_options {
    const struct hub_options *hub; /* borrowed */
    const struct h2_options *h2;   /* borrowed */
    uint64_t request_timeout_ms;
    uint64_t drain_ms;
    struct tls_ctx *tls;        /* borrowed; NULL: no TLS */
    struct http_shared *shared; /* borrowed */
};

struct worker;

/* The worker's part of the bus is made here; `host_bus` also gives the bus this worker's loop. */
enum err worker_new(const struct worker_options *opt, struct bus *bus, bool host_bus,
                    struct worker **out) MUST_CHECK;
/* Takes a listening descriptor; before worker_start. */
enum err worker_listen(struct worker *w, int fd, bool tls) MUST_CHECK;
enum err worker_start(struct worker *w) MUST_CHECK;
/* Any thread: stop accepting, send everyone away within the drain time, then end. */
void worker_drain(struct worker *w);
/* Any thread: handshakes that begin from here on are with these certificates; counted by it. */
void worker_set_tls(struct worker *w, struct tls_ctx *c);
/* Waits for the end of the thread. */
void worker_join(struct worker *w);
void worker_free(struct worker *w);

#endif
