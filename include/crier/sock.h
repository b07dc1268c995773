/* sock.h - sockets: listening, accepting, connecting, naming. All descriptors are non-blocking and
 * close-on-exec. Any thread. */
#ifndef CRIER_SOCK_H
#define CRIER_SOCK_H

#include "crier/slice.h"

#include <netinet/in.h>
#include <sys/socket.h>

struct sock_addr {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
};

#define SOCK_ADDR_TEXT_BYTES 64 /* "[2001:db8::1]:65535" and its NUL */

/* Resolves a literal or name to at most max addresses ("localhost" gives 127.0.0.1 and ::1 where
 * both exist). ERR_NOT_FOUND when it has none. Blocking: for start-up only. */
enum err sock_resolve(const char *host, uint16_t port, struct sock_addr *out, size_t max,
                      size_t *n) MUST_CHECK;
bool sock_addr_is_loopback(const struct sock_addr *a);
void sock_addr_text(const struct sock_addr *a, char out[SOCK_ADDR_TEXT_BYTES]);
/* SO_REUSEPORT and SO_REUSEADDR set, IPV6_V6ONLY, listening. ERR_EXISTS: another user's process has
 * the port (EADDRINUSE); ERR_IO with errno otherwise. Port 0 in addr: the kernel chooses, and addr
 * is updated. */
enum err sock_listen(struct sock_addr *addr, int backlog, int *fd) MUST_CHECK;
/* True when some socket already listens on that address (probed by a bind without SO_REUSEPORT):
 * with SO_REUSEPORT a second server of the same user would silently share the port. */
bool sock_is_taken(const struct sock_addr *addr);
/* ERR_AGAIN: none waiting. ERR_NOMEM: no descriptors or memory. ERR_IO: try the next one.
 * Sets TCP_NODELAY. */
enum err sock_accept(int listen_fd, int *fd, struct sock_addr *peer) MUST_CHECK;
/* RLIMIT_NOFILE to the hard limit; answers the limit now in force. */
uint64_t sock_raise_descriptor_limit(void);

#endif
