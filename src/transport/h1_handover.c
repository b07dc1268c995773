/* h1_handover.c - a connection leaves the HTTP library and becomes a stream (see h1_handover.h).
 *
 * In clear the socket is duplicated: the library closes its number, ours lives on. Behind a relay
 * the library's descriptor is the clear end of a pair; the relay is dissolved, and what was on its
 * way goes first.
 */
#include "h1_handover.h"

#include "crier/metrics.h"

#include <fcntl.h>

enum err h1_handover_take(struct h1_handover *o, struct relay_set *relays, int fd)
{
    buf_init(&o->unread, RELAY_IN_TRANSIT_BYTES);
    buf_init(&o->unsent, RELAY_IN_TRANSIT_BYTES);
    if (relay_dissolve(relays, fd, &o->c, &o->unread, &o->unsent))
        return ERR_OK;
    o->c = (struct conduit){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    return o->c.fd < 0 ? ERR_NOMEM : ERR_OK;
}

bool h1_handover_is_relayed(const struct h1_handover *o)
{
    return o->c.tls != NULL;
}

struct session *h1_handover_open(struct h1_handover *o, struct stream_set *streams,
                                 struct http_server *server, struct http_stream *st, bool websocket)
{
    struct session *s;
    if (stream_open(streams, o->c, st->dialect, st->coding, websocket, &s)) {
        metrics_inc(M_ACCEPT_FAILED);
        metrics_dec(M_CONNECTIONS);
        server->shared->connections--;
        st->cancel(st);
        return NULL;
    }
    if (o->unread.failed || o->unsent.failed)
        session_cut(s);
    if (o->unsent.len)
        session_push_framing(s, buf_slice(&o->unsent));
    return s;
}

void h1_handover_release(struct h1_handover *o)
{
    buf_release(&o->unread);
    buf_release(&o->unsent);
}
