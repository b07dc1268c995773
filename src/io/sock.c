/* sock.c - sockets as this server wants them.
 *
 * One place decides the flags: every descriptor is non-blocking and close-on-exec from the call
 * that makes it (no window for a fork), listeners share a port between workers, accepted sockets do
 * not wait for more data (Nagle would hold a small event back until the previous one is
 * acknowledged).
 */
#include "crier/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define MAX_HOST_BYTES 256

static enum err open_socket(const struct sock_addr *addr, int *fd)
{
    *fd = socket(addr->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    return *fd < 0 ? ERR_IO : ERR_OK;
}

static bool turn_on(int fd, int level, int option)
{
    int on = 1;

    return setsockopt(fd, level, option, &on, sizeof on) == 0;
}

/* Without V6ONLY "[::]:80" would also take the IPv4 port, or not, as a sysctl decides. */
static bool set_bind_options(int fd, const struct sock_addr *addr)
{
    return turn_on(fd, SOL_SOCKET, SO_REUSEADDR) &&
           (addr->any.sa_family != AF_INET6 || turn_on(fd, IPPROTO_IPV6, IPV6_V6ONLY));
}

/* /etc/hosts often names ::1 on machines whose kernel has no IPv6. */
static bool can_bind(const struct sock_addr *addr)
{
    struct sock_addr probe = *addr;
    int fd;

    probe.v4.sin_port = 0; /* at the same place in sockaddr_in6 */
    if (open_socket(&probe, &fd) != ERR_OK)
        return false;
    bool ok = bind(fd, &probe.any, probe.len) == 0;
    close(fd);
    return ok;
}

static bool same_addr(const struct sock_addr *a, const struct sock_addr *b)
{
    return a->len == b->len && memcmp(&a->any, &b->any, a->len) == 0;
}

static void collect(const struct addrinfo *found, bool literal, struct sock_addr *out, size_t max,
                    size_t *n)
{
    for (*n = 0; found && *n < max; found = found->ai_next) {
        struct sock_addr *a = &out[*n];
        if (found->ai_addrlen > sizeof(struct sockaddr_in6))
            continue;
        memset(a, 0, sizeof *a);
        a->len = found->ai_addrlen;
        memcpy(&a->any, found->ai_addr, found->ai_addrlen);
        bool seen = false;
        for (size_t i = 0; i < *n; i++)
            seen |= same_addr(&out[i], a);
        if (!seen && (literal || !sock_addr_is_loopback(a) || can_bind(a)))
            ++*n;
    }
}

/* "[::1]" is how an address is written in front of a port. */
static bool without_brackets(const char *host, char out[MAX_HOST_BYTES])
{
    size_t len = strlen(host);

    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    if (len >= MAX_HOST_BYTES)
        return false;
    memcpy(out, host, len);
    out[len] = '\0';
    return true;
}

enum err sock_resolve(const char *host, uint16_t port, struct sock_addr *out, size_t max, size_t *n)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char name[MAX_HOST_BYTES], service[8];
    bool literal = true;

    if (!without_brackets(host, name) || name[0] == '\0')
        return ERR_NOT_FOUND;
    snprintf(service, sizeof service, "%u", (unsigned)port);
    int rc = getaddrinfo(name, service, &hints, &found);
    if (rc == EAI_NONAME) {
        literal = false;
        hints.ai_flags = AI_NUMERICSERV;
        rc = getaddrinfo(name, service, &hints, &found);
    }
    if (rc != 0)
        return ERR_NOT_FOUND;
    collect(found, literal, out, max, n);
    freeaddrinfo(found);
    return *n ? ERR_OK : ERR_NOT_FOUND;
}

bool sock_addr_is_loopback(const struct sock_addr *a)
{
    if (a->any.sa_family == AF_INET)
        return ntohl(a->v4.sin_addr.s_addr) >> 24 == 127;
    if (a->any.sa_family != AF_INET6)
        return false;

    const struct in6_addr *ip = &a->v6.sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(ip) || (IN6_IS_ADDR_V4MAPPED(ip) && ip->s6_addr[12] == 127);
}

void sock_addr_text(const struct sock_addr *a, char out[SOCK_ADDR_TEXT_BYTES])
{
    char ip[INET6_ADDRSTRLEN];

    if (a->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->v4.sin_addr, ip, sizeof ip);
        snprintf(out, SOCK_ADDR_TEXT_BYTES, "%s:%u", ip, (unsigned)ntohs(a->v4.sin_port));
    } else if (a->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->v6.sin6_addr, ip, sizeof ip);
        snprintf(out, SOCK_ADDR_TEXT_BYTES, "[%s]:%u", ip, (unsigned)ntohs(a->v6.sin6_port));
    } else {
        snprintf(out, SOCK_ADDR_TEXT_BYTES, "unknown");
    }
}

enum err sock_listen(struct sock_addr *addr, int backlog, int *fd_out)
{
    struct sock_addr bound = {.len = sizeof bound.v6};
    enum err e = ERR_IO;
    int fd;

    if (open_socket(addr, &fd) != ERR_OK)
        return ERR_IO;
    if (!set_bind_options(fd, addr) || !turn_on(fd, SOL_SOCKET, SO_REUSEPORT))
        goto fail;
    if (bind(fd, &addr->any, addr->len) != 0 || listen(fd, backlog) != 0) {
        e = errno == EADDRINUSE ? ERR_EXISTS : ERR_IO;
        goto fail;
    }
    if (getsockname(fd, &bound.any, &bound.len) != 0)
        goto fail;
    *addr = bound;
    *fd_out = fd;
    return ERR_OK;
fail:;
    int saved_errno = errno;
    close(fd);
    errno = saved_errno;
    return e;
}

/* SO_REUSEADDR ignores connections in TIME_WAIT but not a listener. */
bool sock_is_taken(const struct sock_addr *addr)
{
    int fd;

    if (open_socket(addr, &fd) != ERR_OK)
        return false;
    bool taken =
        set_bind_options(fd, addr) && bind(fd, &addr->any, addr->len) != 0 && errno == EADDRINUSE;
    close(fd);
    return taken;
}

static enum err accept_failed(int why)
{
    switch (why) {
    case EAGAIN:
        return ERR_AGAIN;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return ERR_NOMEM;
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
    case EFAULT:
        BUG_ON(why); /* "try the next one" would spin */
    }
    return ERR_IO; /* that connection died in the queue (accept(2), "Error handling") */
}

enum err sock_accept(int listen_fd, int *fd_out, struct sock_addr *peer)
{
    struct sock_addr from = {.len = sizeof from.v6};
    int fd;

    do {
        fd = accept4(listen_fd, &from.any, &from.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return accept_failed(errno);
    /* Fails only when the peer is gone already, which the first read will say. */
    (void)turn_on(fd, IPPROTO_TCP, TCP_NODELAY);
    *fd_out = fd;
    *peer = from;
    return ERR_OK;
}

uint64_t sock_raise_descriptor_limit(void)
{
    struct rlimit limit;

    BUG_ON(getrlimit(RLIMIT_NOFILE, &limit) != 0);
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            limit = raised;
    }
    return limit.rlim_cur;
}
