/* ws_session.h - a session that speaks WebSocket, whatever carries its bytes: a socket, a TLS
 * session, a stream of HTTP/2. */
#ifndef CRIER_TRANSPORT_WS_SESSION_H
#define CRIER_TRANSPORT_WS_SESSION_H

#include "crier/hub.h"
#include "crier/ws.h"

/* ctx of the ws is the session. After both sides have said Close and all is written,
 * ops->peer_done is called. */
void ws_session_init(struct ws *ws, struct session *s, struct ws_pool *pool,
                     const struct ws_limits *limits);
/* Bytes from the client. False: they break the protocol; the Close that says so is queued, and the
 * carrier ends its side right after it instead of waiting for the client's. */
bool ws_session_input(struct ws *ws, struct slice bytes) MUST_CHECK;
/* Whoever flushes says so first: a Close waits for the answers to what came before it. */
void ws_session_end_if_due(struct session *s);

#endif
