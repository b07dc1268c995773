/* h1_handover.h - a connection leaves the HTTP library and becomes a stream. */
#ifndef CRIER_H1_HANDOVER_H
#define CRIER_H1_HANDOVER_H

#include "crier/buf.h"
#include "crier/http.h"
#include "crier/relay.h"
#include "crier/stream.h"

struct h1_handover {
    struct conduit c;  /* owned until a stream takes it */
    struct buf unread; /* of the client's, on its way through a relay that was dissolved */
    struct buf unsent; /* to the client */
};

/* The connection under the library's descriptor, which the library goes on to close. ERR_NOMEM: out
 * of descriptors. Released in any case. */
enum err h1_handover_take(struct h1_handover *o, struct relay_set *relays, int fd) MUST_CHECK;
/* Did it come through a relay? Then it is counted there and the library's end is closed like any
 * other. */
bool h1_handover_is_relayed(const struct h1_handover *o);
/* NULL: the stream could not be made, its route has been told. */
struct session *h1_handover_open(struct h1_handover *o, struct stream_set *streams,
                                 struct http_server *server, struct http_stream *st,
                                 bool websocket);
void h1_handover_release(struct h1_handover *o);

#endif
