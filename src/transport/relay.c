/* relay.c - bytes between a TLS session and one end of a socketpair (see relay.h).
 *
 * Each direction holds at most a record: nothing is read from one side while the other has not
 * taken what was read before, so a client that does not read stops the library, and a library that
 * does not read stops the client. Both ends of either side are passed on one by one: a client that
 * has said all may still wait for its answer.
 *
 * Relays are found by the number of the clear end, because that is what the library tells of a
 * connection. The number is good until its owner closes it, which it says before (relay_forget);
 * afterwards the kernel may give it to somebody else.
 */
#include "crier/relay.h"

#include "crier/map.h"
#include "crier/metrics.h"
#include "crier/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORDS_PER_TURN 4

struct relay {
    struct relay_set *set;
    struct list node;
    struct map_node by_fd;  /* while clear_fd is known */
    int clear_fd;           /* the other end's number; not owned, -1 when its owner has closed it */
    struct conduit c;       /* owned */
    struct io_watch client; /* of c.fd */
    struct io_watch clear;  /* our end of the pair; owned, -1 when closed */
    struct buf to_clear;    /* decrypted, not taken by the pair */
    struct buf to_client;   /* not taken by the session */
    struct timer timer;     /* the client takes nothing, or lingers */
    bool client_ended;
    bool clear_ended;
    bool blocked;  /* a write to the client said ERR_AGAIN */
    bool finished; /* our end has been said */
    bool ended;
    struct loop_corpse corpse;
};

struct relay_set {
    struct loop *loop;
    _Atomic int64_t *connections;
    uint64_t stall_ms;
    struct list relays;
    struct map by_fd;
    struct pool pool;
    char scratch[RELAY_BYTES];
};

static struct slice fd_key(const struct map_node *node)
{
    const struct relay *r = container_of(node, struct relay, by_fd);
    return slice_of((const char *)&r->clear_fd, sizeof(r->clear_fd));
}

static struct relay *find(const struct relay_set *set, int fd)
{
    struct map_node *n = map_get(&set->by_fd, slice_of((const char *)&fd, sizeof(fd)));
    return n ? container_of(n, struct relay, by_fd) : NULL;
}

static void forget(struct relay *r)
{
    if (r->clear_fd < 0)
        return;
    map_remove(&r->set->by_fd, &r->by_fd);
    r->clear_fd = -1;
}

/* --- life --- */

static void free_relay(struct loop_corpse *corpse)
{
    struct relay *r = container_of(corpse, struct relay, corpse);
    pool_free(&r->set->pool, r);
}

static void close_clear(struct relay *r)
{
    if (r->clear.fd < 0)
        return;
    loop_unwatch(r->set->loop, &r->clear);
    close(r->clear.fd);
    r->clear.fd = -1;
}

/* Everything but the conduit, which is the caller's. */
static void leave(struct relay *r)
{
    struct loop *l = r->set->loop;
    r->ended = true;
    forget(r);
    loop_unwatch(l, &r->client);
    close_clear(r);
    timer_cancel(loop_timers(l), &r->timer);
    list_remove(&r->node);
    buf_release(&r->to_clear);
    buf_release(&r->to_client);
    r->corpse.free = free_relay;
    loop_free_later(l, &r->corpse);
}

static void end(struct relay *r)
{
    if (r->ended)
        return;
    leave(r);
    conduit_close(&r->c);
    metrics_dec(M_CONNECTIONS);
    (*r->set->connections)--;
}

static void on_timer(struct timer *t)
{
    end(container_of(t, struct relay, timer));
}

/* --- what is waited for --- */

static bool set_events(struct loop *l, struct io_watch *w, uint32_t events)
{
    if (!events)
        loop_unwatch(l, w);
    else if (w->events)
        loop_rewatch(l, w, events);
    else
        return loop_watch(l, w, events) == ERR_OK;
    return true;
}

/* A side that has nothing to say to us is not watched at all: one that is gone would report that
 * without end. */
static void watch_again(struct relay *r)
{
    struct loop *l = r->set->loop;
    if (r->ended)
        return;
    bool hear_client = !r->client_ended && (r->finished || !r->to_clear.len);
    bool hear_clear = !r->clear_ended && !r->blocked;
    bool ok = set_events(l, &r->client, conduit_events(&r->c, hear_client, r->blocked));
    if (r->clear.fd >= 0)
        ok &= set_events(l, &r->clear,
                         (hear_clear ? (uint32_t)EPOLLIN : 0) |
                             (r->to_clear.len ? (uint32_t)EPOLLOUT : 0));
    if (!ok)
        end(r);
}

/* --- from the client --- */

/* How much of it needs no more care. */
static size_t send_clear(struct relay *r, struct slice bytes)
{
    ssize_t n = send(r->clear.fd, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return (size_t)n;
    /* Who reads no more may still have said something: only its own end counts. */
    return errno == EAGAIN || errno == EINTR ? 0 : bytes.len;
}

/* True when nothing waits any more. */
static bool deliver_rest(struct relay *r)
{
    if (!r->to_clear.len)
        return true;
    buf_consume(&r->to_clear, send_clear(r, buf_slice(&r->to_clear)));
    if (r->to_clear.len)
        return false;
    buf_release(&r->to_clear);
    return true;
}

static void client_said_all(struct relay *r)
{
    r->client_ended = true;
    if (r->finished)
        end(r);
    else
        (void)shutdown(r->clear.fd, SHUT_WR);
}

static void pump_in(struct relay *r)
{
    struct relay_set *set = r->set;
    size_t n;
    do {
        if (r->client_ended || (!r->finished && !deliver_rest(r)))
            return;
        enum err e = conduit_read(&r->c, set->scratch, sizeof(set->scratch), &n);
        if (e == ERR_CLOSED)
            client_said_all(r);
        else if (e && e != ERR_AGAIN)
            end(r);
        if (e)
            return;
        if (r->finished)
            continue; /* closing with unread input would reset the connection */
        size_t taken = send_clear(r, slice_of(set->scratch, n));
        if (taken < n)
            buf_append(&r->to_clear, slice_of(set->scratch + taken, n - taken));
    } while (!r->to_clear.failed && conduit_has_more(&r->c));
    if (r->to_clear.failed)
        end(r);
}

/* --- to the client --- */

/* False: it takes no more for now, or is gone. */
static bool write_client(struct relay *r, struct slice bytes, size_t *done)
{
    struct iovec iov = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    enum err e = conduit_write(&r->c, &iov, bytes.len ? 1 : 0, done);
    if (e && e != ERR_AGAIN) {
        end(r);
        return false;
    }
    r->blocked = e == ERR_AGAIN || *done < bytes.len;
    *done += conduit_commit(&r->c);
    if (r->blocked)
        timer_set(loop_timers(r->set->loop), &r->timer, r->set->stall_ms);
    else
        timer_cancel(loop_timers(r->set->loop), &r->timer);
    return !r->blocked;
}

static bool write_rest(struct relay *r)
{
    size_t done;
    bool all = write_client(r, buf_slice(&r->to_client), &done);
    if (r->ended)
        return false;
    buf_consume(&r->to_client, done);
    if (all)
        buf_release(&r->to_client);
    return all;
}

/* All that was written to the clear end has been sent. */
static void finish(struct relay *r)
{
    close_clear(r);
    conduit_finish(&r->c);
    r->finished = true;
    if (r->client_ended)
        end(r);
    else
        timer_set(loop_timers(r->set->loop), &r->timer, RELAY_LINGER_MS);
}

static void pump_out(struct relay *r)
{
    struct relay_set *set = r->set;
    size_t done;
    if (r->finished || (r->blocked && !write_rest(r)))
        return;
    for (int i = 0; i < RECORDS_PER_TURN; i++) {
        ssize_t n = recv(r->clear.fd, set->scratch, sizeof(set->scratch), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            r->clear_ended = true;
            finish(r);
            return;
        }
        if (write_client(r, slice_of(set->scratch, (size_t)n), &done))
            continue;
        if (!r->ended && done < (size_t)n)
            buf_append(&r->to_client, slice_of(set->scratch + done, (size_t)n - done));
        if (!r->ended && r->to_client.failed)
            end(r);
        return;
    }
}

/* --- events --- */

static void on_client(struct io_watch *w, uint32_t events)
{
    struct relay *r = container_of(w, struct relay, client);
    events = conduit_ready(&r->c, events);
    if (events & EPOLLOUT)
        pump_out(r);
    if (!r->ended && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        pump_in(r);
    /* Gone in both directions, and nothing is being read that would say so. */
    if (!r->ended && (events & (EPOLLHUP | EPOLLERR)) && r->to_clear.len)
        end(r);
    watch_again(r);
}

static void on_clear(struct io_watch *w, uint32_t events)
{
    struct relay *r = container_of(w, struct relay, clear);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        pump_out(r);
    if (!r->ended && !r->finished && (events & EPOLLOUT))
        pump_in(r);
    watch_again(r);
}

/* --- opening and dissolving --- */

static enum err make_pair(int fd[2])
{
    int bytes = RELAY_KERNEL_BYTES;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd))
        return ERR_NOMEM;
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    return ERR_OK;
}

enum err relay_open(struct relay_set *set, struct conduit c, struct slice first, int *fd)
{
    int pair[2];
    struct relay *r = pool_try_new(&set->pool);
    if (!r || make_pair(pair)) {
        pool_free(&set->pool, r);
        return ERR_NOMEM;
    }
    r->set = set;
    r->c = c;
    r->client = (struct io_watch){.fd = c.fd, .ready = on_client};
    r->clear = (struct io_watch){.fd = pair[0], .ready = on_clear};
    r->clear_fd = pair[1];
    list_init(&r->node);
    timer_init(&r->timer, on_timer);
    buf_init(&r->to_clear, 2 * RELAY_BYTES); /* `first`, or one record */
    buf_init(&r->to_client, RELAY_BYTES);
    list_push_back(&set->relays, &r->node);
    map_put(&set->by_fd, &r->by_fd);
    buf_append(&r->to_clear, first);
    *fd = pair[1];
    (void)deliver_rest(r);
    if (conduit_has_more(&r->c))
        pump_in(r);
    watch_again(r); /* what fails from here on, the owner of the clear end sees as its end */
    return ERR_OK;
}

void relay_forget(struct relay_set *set, int fd)
{
    struct relay *r = find(set, fd);
    if (r)
        forget(r);
}

static void drain(int fd, char *scratch, struct buf *into)
{
    ssize_t n;
    while (!into->failed && (n = recv(fd, scratch, RELAY_BYTES, MSG_DONTWAIT)) > 0)
        buf_append(into, slice_of(scratch, (size_t)n));
}

bool relay_dissolve(struct relay_set *set, int fd, struct conduit *c, struct buf *unread,
                    struct buf *unsent)
{
    struct relay *r = find(set, fd);
    size_t done;
    if (!r)
        return false;
    drain(fd, set->scratch, unread);
    buf_append(unread, buf_slice(&r->to_clear));
    buf_append(unsent, buf_slice(&r->to_client));
    drain(r->clear.fd, set->scratch, unsent);
    /* Nearly always the client takes at once what there is. A failure the stream sees by itself. */
    struct iovec iov = {unsent->data, unsent->len};
    if (!unsent->failed) {
        (void)!conduit_write(&r->c, &iov, unsent->len ? 1 : 0, &done);
        buf_consume(unsent, done + conduit_commit(&r->c));
    }
    *c = r->c;
    leave(r);
    return true;
}

size_t relay_pending(struct relay_set *set)
{
    size_t n = 0;
    for (struct list *it = set->relays.next, *next; it != &set->relays; it = next) {
        struct relay *r = container_of(it, struct relay, node);
        next = it->next;
        pump_out(r);
        watch_again(r);
        n += !r->ended && r->blocked;
    }
    return n;
}

/* --- the set --- */

enum err relay_set_new(struct loop *l, _Atomic int64_t *connections, uint64_t stall_ms,
                       struct relay_set **out)
{
    struct relay_set *set = calloc(1, sizeof(*set));
    if (!set)
        return ERR_NOMEM;
    set->loop = l;
    set->connections = connections;
    set->stall_ms = stall_ms;
    list_init(&set->relays);
    map_init(&set->by_fd, fd_key);
    pool_init(&set->pool, sizeof(struct relay));
    *out = set;
    return ERR_OK;
}

void relay_set_end(struct relay_set *set)
{
    struct list *n;
    (void)relay_pending(set); /* the last answers */
    while ((n = set->relays.next) != &set->relays)
        end(container_of(n, struct relay, node));
}

void relay_set_free(struct relay_set *set)
{
    if (!set)
        return;
    BUG_ON(!list_is_empty(&set->relays));
    map_release(&set->by_fd);
    pool_release(&set->pool);
    free(set);
}
