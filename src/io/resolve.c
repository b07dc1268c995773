/* resolve.c - getaddrinfo in a thread of its own per request.
 *
 * The thread may outlive the request, and even the loop: getaddrinfo cannot be interrupted. So the
 * two sides share nothing but a job that is counted, with an eventfd in it that belongs to the job.
 * The thread writes its answer, then the eventfd, then lets go; who cancels just lets go. (A
 * mailbox would not do: whoever posts must be stopped before the loop is freed.)
 *
 * A resolver that hangs must not collect threads: there are at most MAX_THREADS at a time. It
 * caches nothing, because the C library's resolver and the name service decide how long a name
 * holds.
 */
#include "crier/resolve.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_THREADS 64

struct job {
    _Atomic int refs;
    int event_fd;
    uint16_t port;
    char *host; /* owned */
    size_t n;   /* written by the thread before the eventfd, read after it */
    struct sock_addr addr[RESOLVE_MAX_ADDRS];
};

struct resolve {
    struct loop *loop; /* borrowed */
    struct job *job;   /* counted */
    struct io_watch watch;
    void (*done)(void *ctx, const struct sock_addr *addr, size_t n);
    void *ctx; /* borrowed */
    struct loop_corpse corpse;
};

static _Atomic int threads;

static struct job *job_new(const char *host, uint16_t port)
{
    struct job *j = calloc(1, sizeof *j);

    BUG_ON(!j);
    j->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (j->event_fd < 0) {
        free(j);
        return NULL;
    }
    atomic_init(&j->refs, 1);
    j->host = slice_dup(slice_str(host));
    j->port = port;
    return j;
}

static void job_unref(struct job *j)
{
    /* acq_rel: who frees it has seen what the other side did with it */
    if (atomic_fetch_sub_explicit(&j->refs, 1, memory_order_acq_rel) != 1)
        return;
    close(j->event_fd);
    free(j->host);
    free(j);
}

static void work(struct job *j)
{
    uint64_t one = 1;

    if (sock_resolve(j->host, j->port, j->addr, RESOLVE_MAX_ADDRS, &j->n) != ERR_OK)
        j->n = 0;
    BUG_ON(write(j->event_fd, &one, sizeof one) != sizeof one);
}

static void *run_thread(void *arg)
{
    work(arg);
    job_unref(arg);
    /* relaxed: it only counts */
    atomic_fetch_sub_explicit(&threads, 1, memory_order_relaxed);
    return NULL;
}

static bool is_literal(const char *host)
{
    struct in6_addr ip;
    char address[INET6_ADDRSTRLEN];
    size_t skip = host[0] == '[', len = strcspn(host + skip, "%]"); /* a zone may follow */

    if (len >= sizeof address)
        return false;
    memcpy(address, host + skip, len);
    address[len] = '\0';
    return inet_pton(AF_INET, address, &ip) == 1 || inet_pton(AF_INET6, address, &ip) == 1;
}

static enum err start_thread(struct job *j)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;

    if (atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) >= MAX_THREADS) {
        atomic_fetch_sub_explicit(&threads, 1, memory_order_relaxed);
        return ERR_NOMEM;
    }
    atomic_fetch_add_explicit(&j->refs, 1, memory_order_relaxed); /* we hold one ourselves */
    BUG_ON(pthread_attr_init(&attr) != 0);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    /* Signals are for the threads that expect them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, &attr, run_thread, j);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (failed) {
        job_unref(j);
        atomic_fetch_sub_explicit(&threads, 1, memory_order_relaxed);
        return ERR_NOMEM;
    }
    return ERR_OK;
}

static void free_resolve(struct loop_corpse *c)
{
    free(container_of(c, struct resolve, corpse));
}

static void job_ready(struct io_watch *w, uint32_t events)
{
    struct resolve *r = container_of(w, struct resolve, watch);
    struct job *j = r->job;
    uint64_t count;

    (void)events;
    /* The read also orders: what the thread wrote before its write is there. */
    if (read(w->fd, &count, sizeof count) != sizeof count)
        return;
    loop_unwatch(r->loop, w);
    loop_free_later(r->loop, &r->corpse);
    r->done(r->ctx, j->addr, j->n);
    job_unref(j);
}

enum err resolve_start(struct loop *l, const char *host, uint16_t port,
                       void (*done)(void *ctx, const struct sock_addr *addr, size_t n), void *ctx,
                       struct resolve **out)
{
    struct job *j = job_new(host, port);
    struct resolve *r;

    if (!j)
        return ERR_NOMEM;
    r = calloc(1, sizeof *r);
    BUG_ON(!r);
    *r = (struct resolve){.loop = l, .job = j, .done = done, .ctx = ctx};
    r->watch = (struct io_watch){.fd = j->event_fd, .ready = job_ready};
    r->corpse.free = free_resolve;
    if (loop_watch(l, &r->watch, EPOLLIN) != ERR_OK)
        goto fail;
    if (is_literal(host))
        work(j);
    else if (start_thread(j) != ERR_OK)
        goto fail;
    *out = r;
    return ERR_OK;
fail:
    loop_unwatch(l, &r->watch);
    job_unref(j);
    free(r);
    return ERR_NOMEM;
}

void resolve_cancel(struct resolve *r)
{
    loop_unwatch(r->loop, &r->watch);
    job_unref(r->job);
    loop_free_later(r->loop, &r->corpse);
}
