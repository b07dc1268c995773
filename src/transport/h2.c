/* h2.c - HTTP/2 through nghttp2 (see h2.h, and h2_internal.h for the division of labour).
 *
 * nghttp2 is a machine of frames without a socket: bytes go in, callbacks say what they mean, and
 * frames come out. DATA is not copied through it: it says how much may go now, and we put the
 * frame's header and the bytes of the outbox into what is written.
 *
 * It does not judge: what the peer may do too often, or not at all though nghttp2 lets it, has been
 * looked at before (h2_guard.c).
 */
#include "h2_internal.h"

#include "crier/clock.h"
#include "crier/log.h"
#include "crier/metrics.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RESPONSE_FIELDS_MAX (HTTP_HEADERS_MAX + 4)
#define CONNECTION_WINDOW_MIN 65535 /* RFC 9113 6.9.2: it cannot be lowered */

static uint64_t now_ms(const struct h2_conn *c)
{
    return loop_now_ms(c->h->loop);
}

static struct h2_stream *stream_of(nghttp2_session *ng, int32_t id)
{
    return nghttp2_session_get_stream_user_data(ng, id);
}

static int charge(struct h2_conn *c, enum h2_charge what)
{
    if (h2_guard_charge(&c->guard, what, now_ms(c)))
        return 0;
    h2_conn_fault(c, H2_ENHANCE_YOUR_CALM, h2_guard_name(what));
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* --- what comes in --- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
    if (f->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct h2_stream *st = h2_stream_new(user, f->hd.stream_id);
    if (!st)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    return nghttp2_session_set_stream_user_data(ng, f->hd.stream_id, st);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct h2_stream *st = stream_of(ng, f->hd.stream_id);
    (void)flags;
    (void)user;
    if (!st || f->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0; /* trailers say nothing here */
    return h2_stream_field(st, slice_of(name, name_len), slice_of(value, value_len))
               ? 0
               : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* Without this nghttp2 would drop the field and go on. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name,
                             size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                             void *user)
{
    struct h2_stream *st = stream_of(ng, f->hd.stream_id);
    (void)name;
    (void)name_len;
    (void)value;
    (void)value_len;
    (void)flags;
    (void)user;
    if (st)
        h2_stream_bad_field(st);
    return 0;
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
    struct h2_stream *st = stream_of(ng, f->hd.stream_id);
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (f->hd.type == NGHTTP2_PING && (f->hd.flags & NGHTTP2_FLAG_ACK))
        h2_conn_pong(user);
    if (f->hd.type == NGHTTP2_DATA && f->data.padlen && f->hd.length == f->data.padlen && !end)
        return charge(user, H2_EMPTY_DATA);
    if (!st || (f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS))
        return 0;
    if (f->hd.type == NGHTTP2_HEADERS && f->headers.cat == NGHTTP2_HCAT_REQUEST)
        h2_stream_headers_done(st, end);
    else if (end)
        h2_stream_peer_ended(st);
    return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *user)
{
    struct h2_conn *c = user;
    struct h2_stream *st = stream_of(ng, id);
    (void)flags;
    /* The connection's window is everyone's: nobody holds it while a stream waits. */
    int r = nghttp2_session_consume_connection(ng, len);
    if (r || !st || !h2_stream_data(st, slice_of(data, len)))
        return r;
    c->input_stream = st;
    c->input = slice_of(data, len);
    return NGHTTP2_ERR_PAUSE;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
    struct h2_stream *st = stream_of(ng, id);
    (void)code;
    (void)user;
    if (st)
        h2_stream_closed(st);
    return 0;
}

enum err h2_wire_input(struct h2_conn *c, struct slice bytes, size_t *taken)
{
    BUG_ON(c->h->busy);
    c->h->busy = true;
    ssize_t r = nghttp2_session_mem_recv(c->ng, (const uint8_t *)bytes.ptr, bytes.len);
    c->h->busy = false;
    if (r >= 0) {
        *taken = (size_t)r;
        return ERR_OK;
    }
    if (r == NGHTTP2_ERR_FLOODED)
        h2_conn_fault(c, H2_ENHANCE_YOUR_CALM, "unsent answers");
    log_debug("http2_error", "why=\"%s\"", nghttp2_strerror((int)r));
    return ERR_SYNTAX;
}

/* --- what goes out --- */

static void gather(struct h2_gather *out, const void *bytes, size_t n)
{
    BUG_ON(out->len + n > sizeof(out->bytes));
    memcpy(out->bytes + out->len, bytes, n);
    out->len += n;
}

static ssize_t read_data(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    struct h2_conn *c = user;
    struct h2_stream *st = source->ptr;
    enum h2_after after = H2_MORE;
    (void)ng;
    (void)id;
    (void)buf;
    if (c->h->out.len >= H2_GATHER_BYTES)
        return NGHTTP2_ERR_PAUSE; /* the next write goes on here */
    size_t n = h2_stream_offer(st, max, &after);
    c->cut = n == max && after == H2_MORE;
    if (!n && after == H2_MORE) {
        st->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (after != H2_MORE)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (after == H2_REST) { /* nghttp2 frees what it keeps for a stream that has more to say */
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        st->resting = true;
    }
    return (ssize_t)n;
}

static int send_data(nghttp2_session *ng, nghttp2_frame *f, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *user)
{
    struct h2_conn *c = user;
    struct h2_gather *out = &c->h->out;
    (void)ng;
    BUG_ON(f->data.padlen); /* nobody asked for padding */
    gather(out, head, 9);
    BUG_ON(out->len + n > sizeof(out->bytes));
    h2_stream_take(source->ptr, n, out->bytes + out->len);
    out->len += n;
    c->took_ms = now_ms(c);
    if (!h2_guard_sent(&c->guard, n, c->cut, now_ms(c)))
        h2_conn_fault(c, H2_ENHANCE_YOUR_CALM, h2_guard_name(H2_TINY_WINDOW));
    return 0;
}

/* A reset is the peer's fault unless it is how we end something ourselves. */
static bool is_fault(uint32_t code)
{
    return code != NGHTTP2_NO_ERROR && code != NGHTTP2_CANCEL;
}

static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
    struct h2_conn *c = user;
    bool has_body = f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS;
    if (f->hd.type == NGHTTP2_RST_STREAM && is_fault(f->rst_stream.error_code))
        (void)charge(c, H2_RESET);
    if (!has_body || !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct h2_stream *st = stream_of(ng, f->hd.stream_id);
    /* Answered before the request was all there: what follows of it is not wanted (8.1). */
    if (st && h2_stream_cuts_request(st))
        return nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, f->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

enum err h2_wire_gather(struct h2_conn *c)
{
    struct h2_gather *out = &c->h->out;
    const uint8_t *bytes;
    ssize_t n = 0;
    BUG_ON(c->h->busy);
    c->h->busy = true;
    while (out->len < H2_GATHER_BYTES && (n = nghttp2_session_mem_send(c->ng, &bytes)) > 0)
        gather(out, bytes, (size_t)n);
    c->h->busy = false;
    return n < 0 ? ERR_NOMEM : ERR_OK;
}

bool h2_wire_is_over(const struct h2_conn *c)
{
    return !nghttp2_session_want_read(c->ng) && !nghttp2_session_want_write(c->ng);
}

/* --- verbs --- */

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

/* One that the next answer will not say again: not worth a place in the peer's memory and ours. */
static nghttp2_nv passing_field(const char *name, const char *value)
{
    nghttp2_nv nv = field(name, value);
    nv.flags = NGHTTP2_NV_FLAG_NO_INDEX;
    return nv;
}

static void http_date(char out[64])
{
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(out, 64, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

enum err h2_wire_respond(struct h2_stream *st, const struct http_response *res, int status,
                         bool with_length, bool with_body)
{
    nghttp2_nv nv[RESPONSE_FIELDS_MAX];
    nghttp2_data_provider body = {.source.ptr = st, .read_callback = read_data};
    char code[16], date[64], length[32];
    size_t n = 0;
    snprintf(code, sizeof(code), "%d", status);
    snprintf(length, sizeof(length), "%zu", res->body.len);
    http_date(date);
    nv[n++] = field(":status", code);
    nv[n++] = passing_field("date", date);
    if (res->content_type)
        nv[n++] = field("content-type", res->content_type);
    if (with_length)
        nv[n++] = passing_field("content-length", length);
    for (unsigned i = 0; i < res->n_headers; i++)
        if (!slice_eq_nocase(slice_str(res->header[i].name), SLICE("Upgrade"))) /* 8.2.2 */
            nv[n++] = field(res->header[i].name, res->header[i].value);
    int r = nghttp2_submit_response(st->conn->ng, st->id, nv, n, with_body ? &body : NULL);
    h2_conn_touch(st->conn);
    return r ? ERR_NOMEM : ERR_OK;
}

/* What these queue may fail for memory only, and then nghttp2 says so at the next write. */
static void queued(struct h2_conn *c, int r)
{
    if (r == NGHTTP2_ERR_NOMEM)
        log_warn("http2_memory", "reason=\"out of memory\"");
    h2_conn_touch(c);
}

void h2_wire_wake(struct h2_stream *st)
{
    const nghttp2_data_provider body = {.source.ptr = st, .read_callback = read_data};
    nghttp2_session *ng = st->conn->ng;
    if (st->resting)
        queued(st->conn, nghttp2_submit_data(ng, NGHTTP2_FLAG_END_STREAM, st->id, &body));
    else if (st->deferred)
        queued(st->conn, nghttp2_session_resume_data(ng, st->id));
    st->resting = st->deferred = false;
}

void h2_wire_reset(struct h2_stream *st, bool refused)
{
    queued(st->conn, nghttp2_submit_rst_stream(st->conn->ng, NGHTTP2_FLAG_NONE, st->id,
                                               refused ? NGHTTP2_REFUSED_STREAM : NGHTTP2_CANCEL));
}

bool h2_wire_has_window(const struct h2_stream *st)
{
    return nghttp2_session_get_stream_remote_window_size(st->conn->ng, st->id) > 0;
}

void h2_wire_consumed(struct h2_stream *st, size_t n)
{
    if (n)
        queued(st->conn, nghttp2_session_consume_stream(st->conn->ng, st->id, n));
}

void h2_wire_ping(struct h2_conn *c)
{
    queued(c, nghttp2_submit_ping(c->ng, NGHTTP2_FLAG_NONE, NULL));
}

void h2_wire_goaway(struct h2_conn *c, enum h2_code code)
{
    queued(c, nghttp2_session_terminate_session(c->ng, code));
}

void h2_wire_shutdown_notice(struct h2_conn *c)
{
    queued(c, nghttp2_submit_shutdown_notice(c->ng));
}

void h2_wire_last_goaway(struct h2_conn *c)
{
    queued(c, nghttp2_submit_goaway(c->ng, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(c->ng),
                                    NGHTTP2_NO_ERROR, NULL, 0));
}

static int submit_settings(const struct h2_conn *c)
{
    const struct h2_options *o = &c->h->opt;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->max_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, o->header_list_bytes},
        /* Browsers that see it do not fall back: it holds for every path that takes WebSockets. */
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
    };
    uint32_t window =
        o->window_bytes > CONNECTION_WINDOW_MIN ? o->window_bytes : CONNECTION_WINDOW_MIN;
    int r = nghttp2_submit_settings(c->ng, NGHTTP2_FLAG_NONE, settings,
                                    sizeof(settings) / sizeof(settings[0]));
    if (!r)
        r = nghttp2_session_set_local_window_size(c->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)window);
    return r;
}

enum err h2_wire_open(struct h2_conn *c)
{
    if (nghttp2_session_server_new2(&c->ng, c->h->callbacks, c, c->h->option))
        return ERR_NOMEM;
    if (!submit_settings(c))
        return ERR_OK;
    h2_wire_close(c);
    return ERR_NOMEM;
}

void h2_wire_close(struct h2_conn *c)
{
    nghttp2_session_del(c->ng);
    c->ng = NULL;
}

/* --- life --- */

static enum err make_library_objects(struct h2 *h)
{
    nghttp2_session_callbacks *cb;
    if (nghttp2_session_callbacks_new(&h->callbacks) || nghttp2_option_new(&h->option))
        return ERR_NOMEM;
    cb = h->callbacks;
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    /* Windows are given back by us, when bytes have been read. */
    nghttp2_option_set_no_auto_window_update(h->option, 1);
    /* It would keep closed streams for a priority tree that hardly anyone uses. */
    nghttp2_option_set_no_closed_streams(h->option, 1);
    return ERR_OK;
}

static void delete_library_objects(struct h2 *h)
{
    nghttp2_session_callbacks_del(h->callbacks);
    nghttp2_option_del(h->option);
}

enum err h2_new(struct loop *l, struct http_server *server, struct stream_set *streams,
                const struct h2_options *opt, struct h2 **out)
{
    struct h2 *h = calloc(1, sizeof(*h));
    if (!h)
        return ERR_NOMEM;
    if (make_library_objects(h)) {
        delete_library_objects(h);
        free(h);
        return ERR_NOMEM;
    }
    h->loop = l;
    h->server = server;
    h->streams = streams;
    h->opt = *opt;
    list_init(&h->conns);
    list_init(&h->dirty);
    h2_stream_pools_init(h);
    h->hook.run = h2_conn_run_dirty;
    loop_add_hook(l, &h->hook);
    *out = h;
    return ERR_OK;
}

void h2_end(struct h2 *h)
{
    struct list *n;
    while ((n = h->conns.next) != &h->conns)
        h2_conn_close(container_of(n, struct h2_conn, node));
}

void h2_free(struct h2 *h)
{
    if (!h)
        return;
    BUG_ON(!list_is_empty(&h->conns));
    h2_stream_pools_release(h);
    loop_remove_hook(h->loop, &h->hook);
    delete_library_objects(h);
    free(h);
}

void h2_drain(struct h2 *h)
{
    h->draining = true;
    list_for_each (it, &h->conns)
        h2_conn_drain(container_of(it, struct h2_conn, node));
}

size_t h2_pending(const struct h2 *h)
{
    return h->draining ? h->n_conns : h->pending;
}
