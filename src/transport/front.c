/* front.c - the front door (see front.h).
 *
 * The first bytes are peeked at, never consumed, so whoever gets the connection finds it as it
 * came. When descriptors run out, accepting pauses for a moment instead of spinning on a readable
 * listener; the kernel's backlog holds the callers meanwhile.
 */
#include "crier/front.h"

#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/pool.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct listener {
    struct io_watch w;
    struct front *front;
};

/* Accepted, has not said anything yet. */
struct silent {
    struct io_watch w;
    struct timer deadline;
    struct list node;
    struct front *front;
    struct sock_addr peer;
    struct loop_corpse corpse;
};

struct front {
    struct loop *loop;
    struct h1 *h1;
    _Atomic int64_t *connections;
    uint64_t first_byte_ms;
    struct timer resume;
    struct list silent;
    struct pool pool;
    size_t n_listeners;
    struct listener listener[FRONT_LISTENERS_MAX];
};

static void count_closed(struct front *f)
{
    metrics_dec(M_CONNECTIONS);
    (*f->connections)--;
}

static void free_silent(struct loop_corpse *c)
{
    struct silent *s = container_of(c, struct silent, corpse);
    pool_free(&s->front->pool, s);
}

/* No longer ours; the descriptor is the caller's. */
static void silent_end(struct silent *s)
{
    struct front *f = s->front;
    loop_unwatch(f->loop, &s->w);
    timer_cancel(loop_timers(f->loop), &s->deadline);
    list_remove(&s->node);
    s->corpse.free = free_silent;
    loop_free_later(f->loop, &s->corpse);
}

/* Something can be read: 1 when the connection was handed on or closed, 0 to wait on. */
static int decide(struct front *f, int fd, const struct sock_addr *peer)
{
    char first;
    ssize_t r = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (r > 0) {
        h1_add_connection(f->h1, fd, peer);
        return 1;
    }
    if (r < 0)
        return 0;
    close(fd);
    count_closed(f);
    return 1;
}

static void on_first_bytes(struct io_watch *w, uint32_t events)
{
    struct silent *s = container_of(w, struct silent, w);
    int fd = s->w.fd;
    struct front *f = s->front;
    struct sock_addr peer = s->peer;
    silent_end(s);
    if (events & (EPOLLERR | EPOLLHUP) || !decide(f, fd, &peer)) {
        close(fd);
        count_closed(f);
    }
}

static void on_deadline(struct timer *t)
{
    struct silent *s = container_of(t, struct silent, deadline);
    int fd = s->w.fd;
    struct front *f = s->front;
    silent_end(s);
    close(fd);
    count_closed(f);
}

static void wait_for_first_bytes(struct front *f, int fd, const struct sock_addr *peer)
{
    struct silent *s = pool_try_new(&f->pool);
    if (!s)
        goto fail;
    s->front = f;
    s->peer = *peer;
    s->w = (struct io_watch){.fd = fd, .ready = on_first_bytes};
    timer_init(&s->deadline, on_deadline);
    list_init(&s->node);
    if (loop_watch(f->loop, &s->w, EPOLLIN)) {
        pool_free(&f->pool, s);
        goto fail;
    }
    list_push_back(&f->silent, &s->node);
    timer_set(loop_timers(f->loop), &s->deadline, f->first_byte_ms);
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
        if (!decide(f, fd, &peer))
            wait_for_first_bytes(f, fd, &peer);
    }
}

enum err front_new(struct loop *l, struct h1 *h1, _Atomic int64_t *connections,
                   uint64_t first_byte_ms, struct front **out)
{
    struct front *f = calloc(1, sizeof(*f));
    if (!f)
        return ERR_NOMEM;
    f->loop = l;
    f->h1 = h1;
    f->connections = connections;
    f->first_byte_ms = first_byte_ms;
    timer_init(&f->resume, on_resume);
    list_init(&f->silent);
    pool_init(&f->pool, sizeof(struct silent));
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
    while ((n = f->silent.next) != &f->silent) {
        struct silent *s = container_of(n, struct silent, node);
        loop_unwatch(f->loop, &s->w);
        timer_cancel(loop_timers(f->loop), &s->deadline);
        list_remove(&s->node);
        close(s->w.fd);
        count_closed(f);
        pool_free(&f->pool, s);
    }
    pool_release(&f->pool);
    free(f);
}
