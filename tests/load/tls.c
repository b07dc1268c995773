/* tls.c - see tls.h. */
#include "tls.h"

#include "figures.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint16_t chosen;

const char *tls_wanted(void)
{
    const char *version = getenv("LOAD_TLS");
    return version && version[0] ? version : NULL;
}

uint16_t tls_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) ||
        getsockname(fd, (struct sockaddr *)&a, &len))
        die("a free port");
    close(fd);
    return chosen = ntohs(a.sin_port);
}

bool tls_is_on(uint16_t port)
{
    return chosen && port == chosen;
}

static SSL_CTX *context(void)
{
    static SSL_CTX *c;
    int version = strcmp(tls_wanted(), "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
    if (c)
        return c;
    c = SSL_CTX_new(TLS_client_method());
    if (!c || !SSL_CTX_set_min_proto_version(c, version) ||
        !SSL_CTX_set_max_proto_version(c, version))
        die("a TLS context");
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    return c;
}

struct tls_client *tls_client_new(int fd, const char *alpn)
{
    unsigned char offer[16];
    int n = snprintf((char *)offer, sizeof(offer), "%c%s", (char)strlen(alpn), alpn);
    SSL *s = SSL_new(context());
    if (!s || !SSL_set_fd(s, fd) || SSL_set_alpn_protos(s, offer, (unsigned)n) ||
        fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK))
        die("a TLS session");
    SSL_set_connect_state(s);
    return (struct tls_client *)s;
}

static SSL *ssl_of(struct tls_client *t)
{
    return (SSL *)t;
}

void tls_client_free(struct tls_client *t)
{
    SSL_free(ssl_of(t));
}

/* Like a result of the kernel's. */
static ssize_t outcome(struct tls_client *t, int n)
{
    if (n > 0)
        return n;
    int why = SSL_get_error(ssl_of(t), n);
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

bool tls_client_shake_hands(struct tls_client *t)
{
    if (outcome(t, SSL_do_handshake(ssl_of(t))) > 0)
        return true;
    if (errno != EAGAIN)
        die("a TLS handshake");
    return false;
}

ssize_t tls_client_recv(struct tls_client *t, void *out, size_t max)
{
    return outcome(t, SSL_read(ssl_of(t), out, (int)max));
}

ssize_t tls_client_send(struct tls_client *t, const void *data, size_t len)
{
    return outcome(t, SSL_write(ssl_of(t), data, (int)len));
}
