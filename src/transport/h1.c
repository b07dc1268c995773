/* h1.c - HTTP/1.1 through libmicrohttpd (see h1.h).
 *
 * One small daemon serves at most H1_CONNECTIONS_PER_DAEMON connections; each daemon's epoll
 * descriptor is nested in the worker's loop. A request goes: headers checked (NEW) -> body
 * collected (BODY) -> routed (HANDLING) -> answered at once, or suspended until the answer is there
 * (SUSPENDED).
 *
 * libmicrohttpd lets requests through that two parsers read differently (libraries.md), so what it
 * lets us see is refused before anything is done with it, and the connection ends.
 *
 * Detaching a stream: the connection is suspended (which takes it out of libmicrohttpd's epoll
 * set), its socket is duplicated for the stream, a dummy is put in its place, and the connection is
 * resumed to be closed. libmicrohttpd shuts down and closes the dummy; nothing of it remains. The
 * response header is ours then. A WebSocket goes through libmicrohttpd's own upgrade instead,
 * because only that gives us the bytes a client sent along with its request.
 *
 * Over TLS the socket is the clear end of a relay. That is closed like any other, and the stream
 * goes on with what the relay hands out: the TLS session and the bytes that were on their way.
 */
#include "crier/h1.h"

#include "h1_handover.h"
#include "h1_wire.h"

#include "crier/head.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/ws.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* DETACHED: the socket is a stream's now, libmicrohttpd is to close its dummy. ENDED: to be closed
 * without an answer. */
enum phase { NEW, BODY, HANDLING, SUSPENDED, ANSWERED, DETACHED, ENDED };

struct h1_daemon {
    struct h1 *h1;
    struct list node; /* in h1->daemons, the newest first */
    struct MHD_Daemon *mhd;
    struct io_watch w;
    struct timer timer;  /* libmicrohttpd's own deadlines */
    unsigned n;          /* connections inside */
    unsigned moved;      /* of those, the ones that are counted elsewhere: streams, relays */
    struct list resumed; /* in h1->resumed: has connections that were resumed */
};

struct h1 {
    struct loop *loop;
    struct http_server *server;
    struct stream_set *streams;
    struct relay_set *relays;
    unsigned request_timeout_s;
    int dummy; /* put in the place of detached sockets */
    size_t pending;
    bool ending; /* no more requests are taken */
    struct list daemons;
    struct list suspended; /* exchanges */
    struct list resumed;   /* daemons to run at the end of the turn */
    struct loop_hook hook;
};

struct h1_exchange {
    struct http_exchange ex; /* first */
    struct h1_daemon *daemon;
    struct MHD_Connection *conn;
    struct list node; /* in h1->suspended */
    struct io_watch leave;
    struct buf body;
    struct MHD_Response *res;      /* owned, until it is queued */
    struct http_stream *upgrading; /* a WebSocket that the client has not been told of */
    uint64_t content_length;
    uint64_t received; /* of the body */
    int status;
    uint8_t phase;
    bool too_large;
    bool is_1_0; /* HTTP/1.0 */
    bool in_handler;
    char uri[];
};

static struct h1_exchange *x_of(const struct http_exchange *ex)
{
    return (struct h1_exchange *)(uintptr_t)ex;
}

static struct h1 *h1_of(const struct h1_exchange *x)
{
    return x->daemon->h1;
}

/* --- running libmicrohttpd --- */

static void run_daemon(struct h1_daemon *d)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;
    enum MHD_Result waits;
    unsigned rounds = 0;
    list_remove(&d->resumed);
    do {
        (void)MHD_run(d->mhd);
        waits = MHD_get_timeout(d->mhd, &ms);
    } while (waits == MHD_YES && ms == 0 && ++rounds < 4);
    if (waits == MHD_YES)
        timer_set(loop_timers(d->h1->loop), &d->timer, ms ? ms : 1);
    else
        timer_cancel(loop_timers(d->h1->loop), &d->timer);
}

static void on_daemon_ready(struct io_watch *w, uint32_t events)
{
    (void)events;
    run_daemon(container_of(w, struct h1_daemon, w));
}

static void on_daemon_timer(struct timer *t)
{
    run_daemon(container_of(t, struct h1_daemon, timer));
}

/* Resuming only marks a connection: its daemon has to be run. Once per turn, for all that were
 * answered in it. */
static bool run_resumed(struct loop_hook *hook)
{
    struct h1 *h = container_of(hook, struct h1, hook);
    struct list now, *n;
    list_init(&now);
    list_splice_back(&now, &h->resumed);
    bool any = !list_is_empty(&now);
    while ((n = list_pop_front(&now)))
        run_daemon(container_of(n, struct h1_daemon, resumed));
    return any;
}

static void run_later(struct h1_daemon *d)
{
    if (!list_is_linked(&d->resumed))
        list_push_back(&d->h1->resumed, &d->resumed);
}

/* --- refusing what is ambiguous (RFC 9112 6.3, 11.2) --- */

/* 0.9 hands out its lines as they lie in memory; 1.0 refuses such heads itself. */
#define LINES_ARE_IN_PLACE (MHD_VERSION < 0x01000000)

static enum MHD_Result check_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                    size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    h1_check_add(cls, slice_of(name, name_len), slice_of(value, value_len));
    return MHD_YES;
}

/* The front door has checked the first request of a connection; this sees the later ones too. */
static const char *check_request(struct h1_exchange *x, const char *method, const char *version)
{
    struct h1_check c;
    h1_check_init(&c, version, LINES_ARE_IN_PLACE);
    (void)MHD_get_connection_values_n(x->conn, MHD_HEADER_KIND, check_header, &c);
    const char *why = h1_check_end(&c, x->ex.method, x->is_1_0);
    x->content_length = c.framing.body_bytes;
    if (why)
        return why;
    if (!head_is_token(slice_str(method)))
        return "the method must be a token";
    if (head_has_control(slice_str(x->uri)))
        return "the request target has a control character";
    return NULL;
}

/* --- answering --- */

static struct slice get_header(const struct http_exchange *ex, const char *name)
{
    const char *value = NULL;
    size_t n = 0;
    if (MHD_lookup_connection_value_n(x_of(ex)->conn, MHD_HEADER_KIND, name, strlen(name), &value,
                                      &n) != MHD_YES)
        return SLICE_NONE;
    return slice_trim(slice_of(value, n));
}

struct header_walk {
    const char *name;
    void (*each)(void *ctx, struct slice value);
    void *ctx;
};

static enum MHD_Result walk_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   size_t name_len, const char *value, size_t value_len)
{
    struct header_walk *w = cls;
    (void)kind;
    if (slice_eq_nocase(slice_of(name, name_len), slice_str(w->name)))
        w->each(w->ctx, slice_trim(slice_of(value, value_len)));
    return MHD_YES;
}

static void each_header(const struct http_exchange *ex, const char *name,
                        void (*each)(void *ctx, struct slice value), void *ctx)
{
    struct header_walk w = {name, each, ctx};
    (void)MHD_get_connection_values_n(x_of(ex)->conn, MHD_HEADER_KIND, walk_header, &w);
}

static struct MHD_Response *make_response(const struct http_response *res)
{
    enum MHD_ResponseMemoryMode mode =
        res->body_is_static ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_COPY;
    struct MHD_Response *r = MHD_create_response_from_buffer(
        res->body.len, (void *)(uintptr_t)(res->body.len ? res->body.ptr : ""), mode);
    if (!r)
        return NULL;
    bool ok = !res->content_type ||
              MHD_add_response_header(r, "Content-Type", res->content_type) == MHD_YES;
    for (unsigned i = 0; ok && i < res->n_headers; i++)
        ok = MHD_add_response_header(r, res->header[i].name, res->header[i].value) == MHD_YES;
    if (ok && res->close)
        ok = MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    if (ok)
        return r;
    MHD_destroy_response(r);
    return NULL;
}

/* Lets libmicrohttpd call the handler again, with the phase that is set now. */
static void resume(struct h1_exchange *x)
{
    if (x->in_handler)
        return;
    loop_unwatch(h1_of(x)->loop, &x->leave);
    list_remove(&x->node);
    h1_of(x)->pending--;
    MHD_resume_connection(x->conn);
    run_later(x->daemon);
}

static void respond(struct http_exchange *ex, const struct http_response *res)
{
    struct h1_exchange *x = x_of(ex);
    struct http_response copy = *res;
    copy.close = res->close || ex->server->shared->draining;
    x->res = make_response(&copy);
    x->status = res->status;
    x->phase = x->res ? ANSWERED : ENDED;
    resume(x);
}

static enum MHD_Result queue_answer(struct h1_exchange *x)
{
    enum MHD_Result r = MHD_queue_response(x->conn, (unsigned)x->status, x->res);
    MHD_destroy_response(x->res);
    x->res = NULL;
    return r;
}

static enum MHD_Result refuse(struct h1_exchange *x, int status, const char *code,
                              const char *detail)
{
    struct buf b;
    struct http_response res = {
        .status = status, .content_type = "application/problem+json", .close = true};
    buf_init(&b, 4096);
    http_problem_text(&b, status, code, detail);
    res.body = buf_slice(&b);
    x->res = make_response(&res);
    x->status = status;
    buf_release(&b);
    return x->res ? queue_answer(x) : MHD_NO;
}

/* --- streams --- */

static int connection_fd(const struct h1_exchange *x)
{
    return MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

/* True: the connection is *o's, which is to be released in any case. */
static bool take_connection(struct h1_exchange *x, int fd, struct h1_handover *o,
                            struct http_stream *st)
{
    if (h1_handover_take(o, h1_of(x)->relays, fd)) { /* the client comes again */
        metrics_inc(M_ACCEPT_FAILED);
        st->cancel(st);
        return false;
    }
    if (!h1_handover_is_relayed(o))
        x->daemon->moved++;
    return true;
}

static struct session *open_session(struct h1_exchange *x, struct h1_handover *o,
                                    struct http_stream *st, bool websocket)
{
    return h1_handover_open(o, h1_of(x)->streams, h1_of(x)->server, st, websocket);
}

static void begin_stream(struct h1_exchange *x, struct h1_handover *o,
                         const struct http_response *head, struct http_stream *st)
{
    struct buf b;
    struct session *s = open_session(x, o, st, false);
    if (!s)
        return;
    buf_init(&b, 64 * 1024);
    h1_stream_head(&b, head);
    session_push_framing(s, buf_slice(&b));
    buf_release(&b);
    st->open(st, s);
}

static void detach_stream(struct http_exchange *ex, const struct http_response *head,
                          struct http_stream *st)
{
    struct h1_exchange *x = x_of(ex);
    int fd = connection_fd(x);
    struct h1_handover o;
    BUG_ON(!x->in_handler);
    x->phase = ENDED;
    if (take_connection(x, fd, &o, st)) {
        bool relayed = h1_handover_is_relayed(&o);
        if (!relayed) {
            x->phase = DETACHED;
            MHD_suspend_connection(x->conn);
            BUG_ON(dup2(h1_of(x)->dummy, fd) < 0);
        }
        begin_stream(x, &o, head, st);
        if (!relayed) {
            MHD_resume_connection(x->conn);
            run_later(x->daemon);
        }
    }
    h1_handover_release(&o);
}

static enum http_upgrade get_upgrade(const struct http_exchange *ex)
{
    return x_of(ex)->is_1_0 ? HTTP_UPGRADE_NONE : h1_upgrade_of(ex);
}

static void on_upgraded(void *cls, struct MHD_Connection *conn, void *req_cls, const char *extra,
                        size_t extra_len, MHD_socket sock, struct MHD_UpgradeResponseHandle *urh)
{
    struct h1_exchange *x = cls;
    struct http_stream *st = x->upgrading;
    struct h1_handover o;
    struct session *s;
    (void)conn;
    (void)req_cls;
    x->upgrading = NULL;
    if (take_connection(x, sock, &o, st) && (s = open_session(x, &o, st, true))) {
        (void)fcntl(o.c.fd, F_SETFL, O_RDWR | O_NONBLOCK);
        st->open(st, s);
        stream_input(s, slice_of(extra, extra_len));
        stream_input(s, buf_slice(&o.unread));
    }
    h1_handover_release(&o);
    /* Closes libmicrohttpd's descriptor without shutting the connection down. */
    (void)MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
    run_later(x->daemon);
}

static bool add_upgrade_headers(struct MHD_Response *r, const struct http_response *head,
                                const char *accept)
{
    bool ok = MHD_add_response_header(r, "Upgrade", "websocket") == MHD_YES &&
              MHD_add_response_header(r, "Sec-WebSocket-Accept", accept) == MHD_YES;
    for (unsigned i = 0; ok && i < head->n_headers; i++)
        ok = MHD_add_response_header(r, head->header[i].name, head->header[i].value) == MHD_YES;
    return ok;
}

static void upgrade_websocket(struct http_exchange *ex, const struct http_response *head,
                              struct http_stream *st)
{
    struct h1_exchange *x = x_of(ex);
    char accept[29];
    BUG_ON(ws_accept_key(get_header(ex, "Sec-WebSocket-Key"), accept)); /* get_upgrade said OK */
    x->res = MHD_create_response_for_upgrade(on_upgraded, x);
    if (x->res && !add_upgrade_headers(x->res, head, accept)) {
        MHD_destroy_response(x->res);
        x->res = NULL;
    }
    x->status = 101;
    x->phase = x->res ? ANSWERED : ENDED;
    if (x->res)
        x->upgrading = st;
    else
        st->cancel(st);
    resume(x);
}

static const struct http_exchange_ops exchange_ops = {.header = get_header,
                                                      .each_header = each_header,
                                                      .respond = respond,
                                                      .stream = detach_stream,
                                                      .upgrade = get_upgrade,
                                                      .websocket = upgrade_websocket};

/* --- one request --- */

/* The first the request is heard of: libmicrohttpd gives the target as it was sent. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *conn)
{
    struct h1_daemon *d = cls;
    size_t n = strlen(uri);
    struct h1_exchange *x = calloc(1, sizeof(*x) + n + 1);
    if (!x)
        return NULL; /* the handler ends the connection */
    memcpy(x->uri, uri, n);
    x->daemon = d;
    x->conn = conn;
    x->ex.ops = &exchange_ops;
    x->ex.server = d->h1->server;
    x->leave.fd = -1;
    list_init(&x->node);
    buf_init(&x->body, H1_BODY_MAX_BYTES);
    return x;
}

static void on_left(struct io_watch *w, uint32_t events)
{
    struct h1_exchange *x = container_of(w, struct h1_exchange, leave);
    /* Half-closed is how a client looks that left, and one that has said all and still listens (nc
     * -N). The second is worth an answer that is on its way, not a long wait. */
    uint32_t left = EPOLLHUP | EPOLLERR | (x->ex.waits_long ? (uint32_t)EPOLLRDHUP : 0);
    if (!(events & left))
        return;
    x->phase = ENDED;
    if (x->ex.abandoned)
        x->ex.abandoned(&x->ex);
    x->ex.abandoned = NULL;
    resume(x);
}

/* libmicrohttpd stops watching a suspended connection, so a client that leaves would stay
 * until the timeout. Watch the socket ourselves; edge-triggered, because the half-closed state
 * persists and a level-triggered event would spin the loop. */
static void suspend(struct h1_exchange *x)
{
    struct h1 *h = h1_of(x);
    x->phase = SUSPENDED;
    MHD_suspend_connection(x->conn);
    list_push_back(&h->suspended, &x->node);
    h->pending++;
    x->leave = (struct io_watch){.fd = connection_fd(x), .ready = on_left};
    if (loop_watch(h->loop, &x->leave, EPOLLRDHUP | EPOLLET))
        log_warn("unwatched_request", "reason=\"no descriptors or memory left\"");
}

static enum MHD_Result handle(struct h1_exchange *x)
{
    if (x->too_large)
        return refuse(x, 413, "too_large", "the body is larger than 1 MiB");
    h1_split_target(slice_str(x->uri), &x->ex.path, &x->ex.query);
    x->ex.body = buf_slice(&x->body);
    x->phase = HANDLING;
    x->in_handler = true;
    http_handle(&x->ex);
    /* To suspend and resume costs more than all the rest of a publish. */
    if (x->phase == HANDLING && x->ex.server->settle)
        x->ex.server->settle(x->ex.server);
    x->in_handler = false;
    switch (x->phase) {
    case ANSWERED:
        return queue_answer(x);
    case HANDLING:
        suspend(x);
        return MHD_YES;
    case DETACHED:
        return MHD_YES; /* suspended and resumed: the handler is called once more and says no */
    default:
        return MHD_NO;
    }
}

static enum MHD_Result take_body(struct h1_exchange *x, const char *data, size_t *size)
{
    x->received += *size;
    if (x->received > H1_DISCARD_MAX_BYTES)
        return MHD_NO;
    if (!x->too_large)
        buf_append(&x->body, slice_of(data, *size));
    if (x->body.failed) {
        metrics_inc(M_BAD_TOO_LARGE);
        x->too_large = true;
        buf_release(&x->body);
    }
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result begin(struct h1_exchange *x, const char *method, const char *version)
{
    x->ex.method = h1_method_of(method);
    x->is_1_0 = strcmp(version, "HTTP/1.0") == 0;
    const char *why = check_request(x, method, version);
    if (why) {
        metrics_inc(M_BAD_AMBIGUOUS);
        return refuse(x, 400, "bad_request", why);
    }
    if (x->content_length > H1_DISCARD_MAX_BYTES) {
        metrics_inc(M_BAD_TOO_LARGE);
        return refuse(x, 413, "too_large", "the body is larger than 1 MiB");
    }
    x->phase = BODY;
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **req_cls)
{
    struct h1_exchange *x = *req_cls;
    (void)cls;
    (void)conn;
    (void)url;
    if (!x || (x->phase < HANDLING && h1_of(x)->ending))
        return MHD_NO;
    switch (x->phase) {
    case NEW:
        return begin(x, method, version);
    case BODY:
        return *size ? take_body(x, data, size) : handle(x);
    case ANSWERED:
        return queue_answer(x);
    default:
        return MHD_NO;
    }
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **req_cls,
                         enum MHD_RequestTerminationCode why)
{
    struct h1_exchange *x = *req_cls;
    (void)cls;
    (void)conn;
    (void)why;
    if (!x)
        return;
    *req_cls = NULL;
    BUG_ON(list_is_linked(&x->node));
    if (x->upgrading)
        x->upgrading->cancel(x->upgrading);
    if (x->res)
        MHD_destroy_response(x->res);
    http_exchange_release(&x->ex);
    buf_release(&x->body);
    free(x);
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **socket_cls,
                          enum MHD_ConnectionNotificationCode what)
{
    struct h1_daemon *d = cls;
    (void)socket_cls;
    if (what != MHD_CONNECTION_NOTIFY_CLOSED)
        return;
    relay_forget(d->h1->relays,
                 MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    d->n--;
    trimmer_note(&d->h1->streams->trimmer);
    if (d->moved) { /* one that lives on as a stream, and is counted there */
        d->moved--;
        return;
    }
    metrics_dec(M_CONNECTIONS);
    d->h1->server->shared->connections--;
}

/* --- daemons --- */

PRINTF_LIKE(2, 0) static void on_mhd_log(void *cls, const char *fmt, va_list ap)
{
    char text[256];
    (void)cls;
    if (log_get_level() < LOG_DEBUG)
        return;
    vsnprintf(text, sizeof(text), fmt, ap);
    log_debug("libmicrohttpd", "text=%s", log_quote(slice_trim(slice_str(text))));
}

static struct MHD_Daemon *start_mhd(struct h1_daemon *d)
{
    unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem strict[] = {
#if MHD_VERSION >= 0x01000000
        {MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1, NULL},
#else
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
#endif
        {MHD_OPTION_END, 0, NULL}
    };
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, d, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)H1_CONNECTION_MEMORY_BYTES,
        MHD_OPTION_CONNECTION_LIMIT, 2u * H1_CONNECTIONS_PER_DAEMON, MHD_OPTION_CONNECTION_TIMEOUT,
        d->h1->request_timeout_s, MHD_OPTION_URI_LOG_CALLBACK, on_uri, d,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, d, MHD_OPTION_ARRAY, strict, MHD_OPTION_END);
}

static void daemon_free(struct h1_daemon *d)
{
    loop_unwatch(d->h1->loop, &d->w);
    timer_cancel(loop_timers(d->h1->loop), &d->timer);
    if (d->mhd)
        MHD_stop_daemon(d->mhd);
    list_remove(&d->node);
    list_remove(&d->resumed);
    free(d);
}

static struct h1_daemon *daemon_new(struct h1 *h)
{
    struct h1_daemon *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->h1 = h;
    list_init(&d->node);
    list_init(&d->resumed);
    timer_init(&d->timer, on_daemon_timer);
    d->mhd = start_mhd(d);
    if (!d->mhd)
        goto fail;
    d->w.fd = MHD_get_daemon_info(d->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    d->w.ready = on_daemon_ready;
    if (loop_watch(h->loop, &d->w, EPOLLIN))
        goto fail;
    list_push_front(&h->daemons, &d->node);
    return d;
fail:
    daemon_free(d);
    return NULL;
}

static struct h1_daemon *daemon_with_room(struct h1 *h)
{
    list_for_each (it, &h->daemons) {
        struct h1_daemon *d = container_of(it, struct h1_daemon, node);
        if (d->n < H1_CONNECTIONS_PER_DAEMON)
            return d;
    }
    return daemon_new(h);
}

/* False: the descriptor is closed. */
static bool add(struct h1 *h, int fd, const struct sock_addr *peer, bool counted_elsewhere)
{
    struct h1_daemon *d = daemon_with_room(h);
    if (!d) {
        close(fd);
        return false;
    }
    d->n++;
    d->moved += counted_elsewhere;
    if (MHD_add_connection(d->mhd, fd, &peer->any, peer->len) != MHD_YES) {
        /* It has closed the descriptor, and told nobody. */
        d->n--;
        d->moved -= counted_elsewhere;
        return false;
    }
    run_later(d);
    return true;
}

void h1_add_connection(struct h1 *h, int fd, const struct sock_addr *peer)
{
    if (add(h, fd, peer, false))
        return;
    metrics_inc(M_ACCEPT_FAILED);
    metrics_dec(M_CONNECTIONS);
    h->server->shared->connections--;
}

void h1_add_relayed(struct h1 *h, int fd, const struct sock_addr *peer)
{
    if (add(h, fd, peer, true))
        return;
    relay_forget(h->relays, fd);
    metrics_inc(M_ACCEPT_FAILED);
}

size_t h1_pending(const struct h1 *h)
{
    return h->pending;
}

enum err h1_new(struct loop *l, struct http_server *server, struct stream_set *streams,
                struct relay_set *relays, uint64_t request_timeout_ms, struct h1 **out)
{
    struct h1 *h = calloc(1, sizeof(*h));
    int pair[2];
    if (!h)
        return ERR_NOMEM;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
        free(h);
        return ERR_NOMEM;
    }
    close(pair[1]);
    h->dummy = pair[0];
    h->loop = l;
    h->server = server;
    h->streams = streams;
    h->relays = relays;
    h->request_timeout_s = (unsigned)((request_timeout_ms + 999) / 1000);
    list_init(&h->daemons);
    list_init(&h->suspended);
    list_init(&h->resumed);
    h->hook.run = run_resumed;
    loop_add_hook(l, &h->hook);
    *out = h;
    return ERR_OK;
}

/* libmicrohttpd aborts when it is stopped with suspended connections. Running it to resume them
 * must not suspend others. */
static void end_suspended(struct h1 *h)
{
    struct list *n;
    h->ending = true;
    while ((n = h->suspended.next) != &h->suspended) {
        struct h1_exchange *x = container_of(n, struct h1_exchange, node);
        x->phase = ENDED;
        if (x->ex.abandoned)
            x->ex.abandoned(&x->ex);
        x->ex.abandoned = NULL;
        resume(x);
    }
    list_for_each (it, &h->daemons) {
        struct h1_daemon *d = container_of(it, struct h1_daemon, node);
        run_daemon(d);
    }
}

void h1_free(struct h1 *h)
{
    struct list *n;
    if (!h)
        return;
    end_suspended(h);
    while ((n = h->daemons.next) != &h->daemons)
        daemon_free(container_of(n, struct h1_daemon, node));
    loop_remove_hook(h->loop, &h->hook);
    close(h->dummy);
    free(h);
}
