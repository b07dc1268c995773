/* ws_session.h - a session that speaks WebSocket, whatever carries its bytes: a socket, a TLS
 * session, a stream of HTTP/2. */
#ifndef CRIER_TRANSPORT_WS_SESSION_H
#define CRIER_TRANSPORT_WS_SESSION_H

#include "crier/hub.h"
#include "crier/ws.h"

/* What the WebSockets of one worker share. */
struct ws_set {
    struct ws_pool *pool;          /* owned */
    const struct hub_options *opt; /* borrowed */
    struct timer_wheel *timers;    /* borrowed; outlive the hub */
    struct timer slow; /* for the oldest incomplete message; not set when there is none */
    struct ws_limits command_limits; /* of messages that carry JSON commands */
    struct ws_limits raw_limits;     /* of messages that are payloads themselves */
};
struct ws_set *ws_set_new(struct hub *h); /* NULL when memory is used up */
void ws_set_free(struct ws_set *set);     /* no sessions left; NULL is fine */

struct ws_session {
    struct ws ws;
    struct session *s;   /* borrowed */
    uint64_t control_us; /* when the bucket of pings and pongs will be full again */
};

/* `coding` is of what we send; unless it is plain, what the client sends may be compressed. After
 * both sides have said Close and all is written, ops->peer_done is called. */
void ws_session_init(struct ws_session *w, struct session *s, struct ws_set *set,
                     enum msg_coding coding);
void ws_session_release(struct ws_session *w);
/* Bytes from the client. What breaks the rules has queued the Close that says so. */
void ws_session_input(struct ws_session *w, struct ws_set *set, struct slice bytes);
/* The client has said Close, or broken the rules: our side ends right after our own Close, without
 * waiting for anything. */
static inline bool ws_session_is_over(const struct ws_session *w)
{
    return w->ws.stopped;
}
/* Whoever flushes says so first: a Close waits for the answers to what came before it. */
void ws_session_end_if_due(struct session *s);

#endif
