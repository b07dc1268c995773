/* h2_stream.c - one stream of HTTP/2: first a request (h2_exchange.c), then its answer or a session
 * (h2_session.c).
 *
 * nghttp2, the hub and the routes each end things at their own time: stream, session and exchange
 * know each other by pointers that are taken back.
 */
#include "h2_internal.h"

#include "crier/metrics.h"

struct h2_stream *h2_stream_new(struct h2_conn *c, int32_t id)
{
    struct h2_stream *st = pool_try_new(&c->h->stream_pool);
    if (!st)
        return NULL;
    *st = (struct h2_stream){.conn = c, .id = id};
    if (!h2_exchange_new(st)) {
        pool_free(&c->h->stream_pool, st);
        return NULL;
    }
    list_init(&st->node);
    list_push_back(&c->streams, &st->node);
    c->n_streams++;
    metrics_inc(M_H2_STREAMS);
    return st;
}

void h2_stream_closed(struct h2_stream *st)
{
    struct h2_conn *c = st->conn;
    if (st->hs)
        h2_session_lost(st->hs);
    h2_exchange_drop(st);
    if (c->input_stream == st)
        c->input_stream = NULL;
    list_remove(&st->node);
    if (--c->n_streams == 0)
        c->idle_since_ms = loop_now_ms(c->h->loop);
    metrics_dec(M_H2_STREAMS);
    pool_free(&c->h->stream_pool, st);
    h2_conn_touch(c); /* requests may have waited for its answer to go */
}

bool h2_stream_field(struct h2_stream *st, struct slice name, struct slice value)
{
    return !st->x || h2_exchange_field(st->x, name, value);
}

void h2_stream_bad_field(struct h2_stream *st)
{
    if (st->x)
        h2_exchange_bad_field(st->x);
}

void h2_stream_headers_done(struct h2_stream *st, bool end)
{
    st->peer_ended = end;
    h2_exchange_headers_done(st->x, end);
}

bool h2_stream_data(struct h2_stream *st, struct slice bytes)
{
    if (st->hs)
        return h2_session_reads(st->hs) && bytes.len;
    if (st->x)
        h2_exchange_data(st->x, bytes);
    else
        h2_wire_consumed(st, bytes.len);
    return false;
}

void h2_stream_input(struct h2_stream *st, struct slice bytes)
{
    h2_session_input(st->hs, bytes);
}

void h2_stream_peer_ended(struct h2_stream *st)
{
    st->peer_ended = true;
    if (st->hs)
        h2_session_peer_ended(st->hs);
    else if (st->x)
        h2_exchange_peer_ended(st->x);
}

size_t h2_stream_offer(struct h2_stream *st, size_t max, enum h2_after *after)
{
    if (st->hs)
        return h2_session_offer(st->hs, max, after);
    return st->x ? h2_exchange_offer(st->x, max, after) : 0;
}

void h2_stream_take(struct h2_stream *st, size_t n, char *out)
{
    if (st->hs)
        h2_session_take(st->hs, n, out);
    else
        h2_exchange_take(st->x, n, out);
}

bool h2_stream_cuts_request(const struct h2_stream *st)
{
    return st->x && !st->peer_ended;
}

void h2_stream_pools_init(struct h2 *h)
{
    pool_init(&h->stream_pool, sizeof(struct h2_stream));
    h2_exchange_pools_init(h);
    h2_session_pools_init(h);
}

void h2_stream_pools_release(struct h2 *h)
{
    pool_release(&h->stream_pool);
    h2_exchange_pools_release(h);
    h2_session_pools_release(h);
}
