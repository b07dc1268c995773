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
#include "crier/front.h"

#include "crier/head.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct listener {
    struct io_watch w;
    struct front *front;
};

/* Accepted, has not sent a whole head yet; or was refused and is being said goodbye to. */
struct newcomer {
    struct io_watch w;
    struct timer deadline;
    struct list node;
    struct front *front;
    struct sock_addr peer;
    bool refused;
    size_t dropped; /* bytes a refused one sent on */
    struct loop_corpse corpse;
};

struct front {
    struct loop *loop;
    struct h1 *h1;
    struct h2 *h2;
    _Atomic int64_t *connections;
    uint64_t head_ms;
    struct timer resume;
    struct list newcomers;
    struct pool pool;
    size_t n_listeners;
    struct listener listener[FRONT_LISTENERS_MAX];
    char head[HEAD_MAX_BYTES];
};

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

/* No longer ours; the descriptor is the caller's. */
static void let_go(struct newcomer *n)
{
    struct front *f = n->front;
    loop_unwatch(f->loop, &n->w);
    timer_cancel(loop_timers(f->loop), &n->deadline);
    list_remove(&n->node);
    n->corpse.free = free_newcomer;
    loop_free_later(f->loop, &n->corpse);
}

static void turn_out(struct newcomer *n)
{
    let_go(n);
    close(n->w.fd);
    count_closed(n->front);
}

/* Answers, and waits a moment for the peer's FIN: closing with unread input would reset the
 * connection before the answer is read. */
static void refuse(struct newcomer *n, int status, const char *why)
{
    struct buf body, all;
    metrics_inc(M_BAD_AMBIGUOUS);
    buf_init(&body, 4096);
    buf_init(&all, 8192);
    http_problem_text(&body, status, status == 431 ? "too_large" : "bad_request", why);
    buf_printf(&all, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n", status,
               http_status_text(status));
    buf_printf(&all, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.len);
    buf_append(&all, buf_slice(&body));
    /* The first bytes on a new connection always find room in the kernel. */
    (void)send(n->w.fd, all.data, all.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(n->w.fd, SHUT_WR);
    buf_release(&body);
    buf_release(&all);
    n->refused = true;
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
    turn_out(n);
    return false;
}

static void hand_on(struct newcomer *n, bool http2)
{
    struct front *f = n->front;
    struct sock_addr peer = n->peer;
    let_go(n);
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
        turn_out(n);
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
        refuse(n, status, why);
        return drain_refused(n);
    }
}

static void on_bytes(struct io_watch *w, uint32_t events)
{
    struct newcomer *n = container_of(w, struct newcomer, w);
    if (n->refused)
        (void)drain_refused(n);
    else if (events & (EPOLLERR | EPOLLHUP))
        turn_out(n);
    else if (look(n) && !n->refused && (events & EPOLLRDHUP))
        turn_out(n); /* it left with the head unfinished */
}

static void on_deadline(struct timer *t)
{
    turn_out(container_of(t, struct newcomer, deadline));
}

static void welcome(struct front *f, int fd, const struct sock_addr *peer)
{
    struct newcomer *n = pool_try_new(&f->pool);
    if (!n)
        goto fail;
    n->front = f;
    n->peer = *peer;
    n->w = (struct io_watch){.fd = fd, .ready = on_bytes};
    timer_init(&n->deadline, on_deadline);
    list_init(&n->node);
    list_push_back(&f->newcomers, &n->node);
    timer_set(loop_timers(f->loop), &n->deadline, f->head_ms);
    /* The request often comes with the connection, which then needs no watch of its own. */
    if (!look(n) || !loop_watch(f->loop, &n->w, EPOLLIN | EPOLLRDHUP | EPOLLET))
        return;
    metrics_inc(M_ACCEPT_FAILED);
    turn_out(n);
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
    struct front *f = container_of(w, struct listener, w)->front;
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
        welcome(f, fd, &peer);
    }
}

enum err front_new(struct loop *l, struct h1 *h1, struct h2 *h2, _Atomic int64_t *connections,
                   uint64_t head_ms, struct front **out)
{
    struct front *f = calloc(1, sizeof(*f));
    if (!f)
        return ERR_NOMEM;
    f->loop = l;
    f->h1 = h1;
    f->h2 = h2;
    f->connections = connections;
    f->head_ms = head_ms;
    timer_init(&f->resume, on_resume);
    list_init(&f->newcomers);
    pool_init(&f->pool, sizeof(struct newcomer));
    *out = f;
    return ERR_OK;
}

enum err front_listen(struct front *f, int fd)
{
    if (f->n_listeners == FRONT_LISTENERS_MAX)
        return ERR_LIMIT;
    struct listener *l = &f->listener[f->n_listeners++];
    l->front = f;
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

void front_free(struct front *f)
{
    struct list *n;
    if (!f)
        return;
    front_close_listeners(f);
    while ((n = f->newcomers.next) != &f->newcomers) {
        struct newcomer *c = container_of(n, struct newcomer, node);
        loop_unwatch(f->loop, &c->w);
        timer_cancel(loop_timers(f->loop), &c->deadline);
        list_remove(&c->node);
        close(c->w.fd);
        count_closed(f);
        pool_free(&f->pool, c);
    }
    pool_release(&f->pool);
    free(f);
}
