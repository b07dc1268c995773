/* conduit.c - the bytes of one connection, in clear or over TLS (see conduit.h).
 *
 * In clear every operation is one call into the kernel. Over TLS what waits in parts is copied
 * into a record's length first: a record costs 22 bytes and a system call of its own, and a small
 * event in each would cost more than the copy.
 */
#include "crier/conduit.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD_BYTES 16384

/* --- in clear --------------------------------------------------------------------------------- */

static enum err outcome(ssize_t r, size_t *n)
{
    *n = r > 0 ? (size_t)r : 0;
    if (r >= 0)
        return ERR_OK;
    return errno == EAGAIN || errno == EINTR ? ERR_AGAIN : ERR_IO;
}

static enum err clear_read(int fd, void *out, size_t max, size_t *n)
{
    ssize_t r = recv(fd, out, max, MSG_DONTWAIT);

    return r == 0 ? ERR_CLOSED : outcome(r, n);
}

static enum err clear_write(int fd, const struct iovec *iov, int n_iov, size_t *n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n_iov};
    ssize_t r;

    do /* one part is the rule, and send has less to copy and check */
        r = n_iov == 1 ? send(fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                       : sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    return outcome(r, n);
}

/* --- over TLS --------------------------------------------------------------------------------- */

/* A place in the parts that are to be written. */
struct cursor {
    const struct iovec *iov;
    int n;
    size_t at; /* in the first */
};

static void skip(struct cursor *c, size_t n)
{
    while (n && c->n) {
        size_t here = c->iov[0].iov_len - c->at, step = n < here ? n : here;
        c->at += step;
        n -= step;
        if (c->at == c->iov[0].iov_len) {
            c->iov++;
            c->n--;
            c->at = 0;
        }
    }
}

/* The bytes of the next record: where they are when they are together, else copied. */
static struct slice next_record(struct cursor c, char *gathered)
{
    size_t len = 0;

    if (c.n == 1 || c.iov[0].iov_len - c.at >= RECORD_BYTES)
        return slice_of((const char *)c.iov[0].iov_base + c.at, c.iov[0].iov_len - c.at);
    while (c.n && len < RECORD_BYTES) {
        size_t here = c.iov[0].iov_len - c.at, room = RECORD_BYTES - len;
        size_t step = here < room ? here : room;
        memcpy(gathered + len, (const char *)c.iov[0].iov_base + c.at, step);
        len += step;
        skip(&c, step);
    }
    return slice_of(gathered, len);
}

static enum err tls_write_all(struct tls *t, const struct iovec *iov, int n_iov, size_t *n)
{
    struct cursor c = {iov, n_iov, 0};
    char gathered[RECORD_BYTES];
    size_t written;
    enum err e = tls_write(t, NULL, 0, &written); /* what is committed */

    while (e == ERR_OK && c.n) {
        struct slice bytes = c.iov[0].iov_len ? next_record(c, gathered) : SLICE_NONE;
        e = tls_write(t, bytes.ptr, bytes.len, &written);
        *n += written;
        if (written)
            skip(&c, written);
        else if (e == ERR_OK)
            c.iov++, c.n--; /* an empty part */
    }
    return *n ? ERR_OK : e;
}

/* --- either ----------------------------------------------------------------------------------- */

enum err conduit_read(struct conduit *c, void *out, size_t max, size_t *n)
{
    return c->tls ? tls_read(c->tls, out, max, n) : clear_read(c->fd, out, max, n);
}

enum err conduit_write(struct conduit *c, const struct iovec *iov, int n_iov, size_t *n)
{
    *n = 0;
    if (c->tls)
        return tls_write_all(c->tls, iov, n_iov, n);
    return n_iov ? clear_write(c->fd, iov, n_iov, n) : ERR_OK;
}

size_t conduit_commit(struct conduit *c)
{
    return c->tls ? tls_commit(c->tls) : 0;
}

uint32_t conduit_events(const struct conduit *c, bool reading, bool blocked)
{
    uint32_t in = EPOLLIN, out = EPOLLOUT;

    if (c->tls && tls_read_wants_write(c->tls))
        in |= EPOLLOUT;
    if (c->tls && tls_write_wants_read(c->tls))
        out = EPOLLIN;
    return (reading ? in : 0) | (blocked ? out : 0);
}

uint32_t conduit_ready(const struct conduit *c, uint32_t events)
{
    uint32_t means = events & ~(uint32_t)(EPOLLIN | EPOLLOUT);
    bool crossed_in = c->tls && tls_read_wants_write(c->tls);
    bool crossed_out = c->tls && tls_write_wants_read(c->tls);

    if (events & (EPOLLIN | (crossed_in ? EPOLLOUT : 0u)))
        means |= EPOLLIN;
    if (events & (crossed_out ? EPOLLIN : EPOLLOUT))
        means |= EPOLLOUT;
    return means;
}

bool conduit_has_more(const struct conduit *c)
{
    return c->tls && tls_has_more(c->tls);
}

void conduit_finish(struct conduit *c)
{
    if (c->tls)
        tls_finish(c->tls);
    (void)shutdown(c->fd, SHUT_WR);
}

void conduit_close(struct conduit *c)
{
    if (c->tls)
        tls_close(c->tls);
    if (c->fd >= 0)
        close(c->fd);
    *c = (struct conduit){.fd = -1};
}
