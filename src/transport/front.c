/* front.c - the front door (see front.h).
 *
 * The head of a connection's first request is peeked at, never consumed, until it is complete and
 * unambiguous (head.h); then whoever gets the connection finds it as it came. A head that is not is
 * answered here, so that no library acts on it. Watching is edge-triggered: what was peeked at
 * stays readable, and only more of it is news.
 *
 * When descriptors run out, accepting pauses for a moment instead of spinning on a readable
 * listener; the kernel's backlog holds the callers meanwhile.
 */
#include "front_internal.h"

#include "crier/log.h"
#include "crier/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void count_closed(struct front *f)
{
    metrics_dec(M_CONNECTIONS);
    (*f->connections)--;
}

static void free_newcomer(struct loop_corpse *c)
{
    struct newcomer *n = container_of(c, struct newcomer, corpse);
    pool_free(&n->front->pool, n);
}

/* The descriptor is in the watch already. */
struct conduit front_conduit(const struct newcomer *n)
{
    return (struct conduit){.fd = n->w.fd, .tls = n->tls};
}

void front_let_go(struct newcomer *n)
{
    struct front *f = n->front;
    n->gone = true;
    front_tls_left(n);
    loop_unwatch(f->loop, &n->w);
    timer_cancel(loop_timers(f->loop), &n->deadline);
    list_remove(&n->node);
    n->corpse.free = free_newcomer;
    loop_free_later(f->loop, &n->corpse);
}

void front_turn_out(struct newcomer *n)
{
    struct conduit c = front_conduit(n);
    front_let_go(n);
    conduit_close(&c);
    count_closed(n->front);
}

static void say_why(struct conduit *c, int status, const char *why)
{
    struct buf body, all;
    size_t done;
    buf_init(&body, 4096);
    buf_init(&all, 8192);
    http_problem_text(&body, status, status == 431 ? "too_large" : "bad_request", why);
    buf_printf(&all, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n", status,
               http_status_text(status));
    buf_printf(&all, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.len);
    buf_append(&all, buf_slice(&body));
    struct iovec iov = {all.data, all.len};
    /* The first bytes on a new connection always find room in the kernel. */
    (void)!conduit_write(c, &iov, 1, &done);
    buf_release(&body);
    buf_release(&all);
}

/* Closing with unread input would reset the connection before the answer is read: that is why it
 * waits for the peer's FIN. */
void front_refuse(struct newcomer *n, int status, const char *why)
{
    struct conduit c = front_conduit(n);
    metrics_inc(M_BAD_AMBIGUOUS);
    if (status)
        say_why(&c, status, why);
    conduit_finish(&c);
    n->phase = REFUSED;
    timer_set(loop_timers(n->front->loop), &n->deadline, FRONT_LINGER_MS);
}

/* Reads and drops what a refused peer still sends. True: it may send more. Bounded, because who
 * sends faster than we read would keep the worker here. */
static bool drain_refused(struct newcomer *n)
{
    ssize_t r;
    while ((r = recv(n->w.fd, n->front->head, HEAD_MAX_BYTES, MSG_DONTWAIT)) > 0) {
        n->dropped += (size_t)r;
        if (n->dropped > FRONT_DROP_MAX_BYTES)
            break;
    }
    if (r < 0 && errno == EAGAIN)
        return true;
    front_turn_out(n);
    return false;
}

static void hand_on(struct newcomer *n, bool http2)
{
    struct front *f = n->front;
    struct sock_addr peer = n->peer;
    front_let_go(n);
    if (http2)
        h2_add_connection(f->h2, (struct conduit){.fd = n->w.fd}, &peer);
    else
        h1_add_connection(f->h1, n->w.fd, &peer);
}

/* True: there is more to wait for. */
static bool look(struct newcomer *n)
{
    struct front *f = n->front;
    const char *why;
    int status;
    ssize_t r = recv(n->w.fd, f->head, HEAD_MAX_BYTES, MSG_PEEK | MSG_DONTWAIT);
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (r <= 0) {
        front_turn_out(n);
        return false;
    }
    enum head_verdict v = head_check(slice_of(f->head, (size_t)r), &status, &why);
    switch (v) {
    case HEAD_MORE:
        return true;
    case HEAD_HTTP1:
    case HEAD_HTTP2:
        hand_on(n, v == HEAD_HTTP2);
        return false;
    default:
        front_refuse(n, v == HEAD_ALIEN ? 0 : status, why);
        return drain_refused(n);
    }
}

static void on_bytes(struct io_watch *w, uint32_t events)
{
    struct newcomer *n = container_of(w, struct newcomer, w);
    if (n->phase == REFUSED)
        (void)drain_refused(n);
    else if (n->over_tls)
        front_tls_ready(n);
    else if (events & (EPOLLERR | EPOLLHUP))
        front_turn_out(n);
    else if (look(n) && n->phase != REFUSED && (events & EPOLLRDHUP))
        front_turn_out(n); /* it left with the head unfinished */
}

static void on_deadline(struct timer *t)
{
    struct newcomer *n = container_of(t, struct newcomer, deadline);
    struct front *f = n->front;
    if (n->over_tls)
        front_tls_late(n);
    front_turn_out(n);
    front_tls_next(f);
}

static void welcome(struct listener *l, int fd, const struct sock_addr *peer)
{
    struct front *f = l->front;
    struct newcomer *n = pool_try_new(&f->pool);
    if (!n)
        goto fail;
    n->front = f;
    n->peer = *peer;
    n->w = (struct io_watch){.fd = fd, .ready = on_bytes};
    timer_init(&n->deadline, on_deadline);
    n->over_tls = l->tls;
    n->accepted_ms = loop_now_ms(f->loop);
    buf_init(&n->head, HEAD_MAX_BYTES);
    list_init(&n->turn);
    list_init(&n->node);
    list_push_back(&f->newcomers, &n->node);
    timer_set(loop_timers(f->loop), &n->deadline, f->head_ms);
    /* The request often comes with the connection, which then needs no watch of its own. (Under
     * TLS there is always more to wait for.) */
    if (!l->tls && !look(n))
        return;
    if (!loop_watch(f->loop, &n->w, l->tls ? EPOLLIN : EPOLLIN | EPOLLRDHUP | EPOLLET))
        return;
    metrics_inc(M_ACCEPT_FAILED);
    front_turn_out(n);
    return;
fail:
    metrics_inc(M_ACCEPT_FAILED);
    close(fd);
    count_closed(f);
}

static void pause_accepting(struct front *f)
{
    for (size_t i = 0; i < f->n_listeners; i++)
        loop_unwatch(f->loop, &f->listener[i].w);
    timer_set(loop_timers(f->loop), &f->resume, FRONT_PAUSE_MS);
    metrics_inc(M_ACCEPT_FAILED);
    log_warn("accept_paused", "reason=\"no descriptors or memory left\" for_ms=%d", FRONT_PAUSE_MS);
}

static void on_resume(struct timer *t)
{
    struct front *f = container_of(t, struct front, resume);
    for (size_t i = 0; i < f->n_listeners; i++) {
        struct io_watch *w = &f->listener[i].w;
        if (w->fd >= 0 && !w->events && loop_watch(f->loop, w, EPOLLIN)) {
            timer_set(loop_timers(f->loop), &f->resume, FRONT_PAUSE_MS);
            return;
        }
    }
}

static void on_incoming(struct io_watch *w, uint32_t events)
{
    struct listener *l = container_of(w, struct listener, w);
    struct front *f = l->front;
    struct sock_addr peer;
    int fd;
    (void)events;
    for (int i = 0; i < FRONT_ACCEPTS_PER_TURN; i++) {
        enum err e = sock_accept(w->fd, &fd, &peer);
        if (e == ERR_AGAIN)
            return;
        if (e == ERR_NOMEM) {
            pause_accepting(f);
            return;
        }
        if (e)
            continue;
        metrics_inc(M_CONNECTIONS);
        metrics_inc(M_CONNECTIONS_TOTAL);
        (*f->connections)++;
        welcome(l, fd, &peer);
    }
}

enum err front_new(struct loop *l, struct h1 *h1, struct h2 *h2, struct relay_set *relays,
                   _Atomic int64_t *connections, uint64_t head_ms, struct front **out)
{
    struct front *f = calloc(1, sizeof(*f));
    if (!f)
        return ERR_NOMEM;
    f->loop = l;
    f->h1 = h1;
    f->h2 = h2;
    f->relays = relays;
    f->connections = connections;
    f->head_ms = head_ms;
    timer_init(&f->resume, on_resume);
    list_init(&f->newcomers);
    list_init(&f->waiting);
    list_init(&f->running);
    pool_init(&f->pool, sizeof(struct newcomer));
    *out = f;
    return ERR_OK;
}

void front_set_tls(struct front *f, struct tls_ctx *c)
{
    tls_ctx_free(f->tls);
    f->tls = tls_ctx_ref(c);
}

enum err front_listen(struct front *f, int fd, bool tls)
{
    if (f->n_listeners == FRONT_LISTENERS_MAX)
        return ERR_LIMIT;
    struct listener *l = &f->listener[f->n_listeners++];
    BUG_ON(tls && !f->tls);
    l->front = f;
    l->tls = tls;
    l->w = (struct io_watch){.fd = fd, .ready = on_incoming};
    return loop_watch(f->loop, &l->w, EPOLLIN);
}

void front_close_listeners(struct front *f)
{
    timer_cancel(loop_timers(f->loop), &f->resume);
    for (size_t i = 0; i < f->n_listeners; i++) {
        if (f->listener[i].w.fd < 0)
            continue;
        loop_unwatch(f->loop, &f->listener[i].w);
        close(f->listener[i].w.fd);
        f->listener[i].w.fd = -1;
    }
}

void front_end(struct front *f)
{
    front_close_listeners(f);
    while (!list_is_empty(&f->newcomers))
        front_turn_out(container_of(f->newcomers.next, struct newcomer, node));
}

void front_free(struct front *f)
{
    if (!f)
        return;
    BUG_ON(!list_is_empty(&f->newcomers));
    tls_ctx_free(f->tls);
    pool_release(&f->pool);
    free(f);
}
