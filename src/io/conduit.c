/* conduit.c - the bytes of one connection (see conduit.h).
 *
 * In clear a conduit is its socket: one recv, one send or sendmsg. It keeps no bytes of its own and
 * watches nothing; that is for whoever speaks the protocol.
 */
#include "crier/conduit.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static enum err result(ssize_t r, size_t *n)
{
    if (r >= 0) {
        *n = (size_t)r;
        return ERR_OK;
    }
    return errno == EAGAIN || errno == EINTR ? ERR_AGAIN : ERR_IO;
}

enum err conduit_read(struct conduit *c, void *out, size_t max, size_t *n)
{
    ssize_t r;
    BUG_ON(c->tls);
    do
        r = recv(c->fd, out, max, MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    return r == 0 ? ERR_CLOSED : result(r, n);
}

enum err conduit_write(struct conduit *c, const struct iovec *iov, int n_iov, size_t *n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n_iov};
    ssize_t r;
    BUG_ON(c->tls);
    do /* one part is the rule, and send has less to copy and check */
        r = n_iov == 1 ? send(c->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                       : sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    return result(r, n);
}

uint32_t conduit_events(const struct conduit *c, bool reading, bool blocked)
{
    (void)c;
    return (reading ? (uint32_t)EPOLLIN : 0) | (blocked ? (uint32_t)EPOLLOUT : 0);
}

bool conduit_has_more(const struct conduit *c)
{
    (void)c;
    return false;
}

void conduit_finish(struct conduit *c)
{
    (void)shutdown(c->fd, SHUT_WR);
}

void conduit_close(struct conduit *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}
