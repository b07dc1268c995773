/* http.c - see http.h. */
#include "http.h"

#include "figures.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define SOURCE_ADDRESSES 200
#define STATS_PAUSE_US 20000

int tcp_connect(uint16_t port)
{
    static uint32_t turn;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET};
    if (fd < 0)
        die("socket");
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % SOURCE_ADDRESSES);
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)))
        die("bind to 127.0.0.x");
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)))
        die("connect");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

void http_open(struct http *h, uint16_t port)
{
    h->fd = tcp_connect(port);
}

void http_close(struct http *h)
{
    close(h->fd);
}

void http_send(struct http *h, const char *method, const char *target, const char *body,
               size_t body_len)
{
    char head[512];
    int n = snprintf(head, sizeof(head),
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", method,
                     target, body_len);
    struct iovec iov[2] = {{head, (size_t)n}, {(void *)(uintptr_t)body, body_len}};
    size_t whole = (size_t)n + body_len;
    while (whole) {
        ssize_t r = writev(h->fd, iov, 2);
        if (r <= 0)
            die("writing a request");
        whole -= (size_t)r;
        for (int i = 0; i < 2; i++) {
            size_t part = (size_t)r < iov[i].iov_len ? (size_t)r : iov[i].iov_len;
            iov[i].iov_base = (char *)iov[i].iov_base + part;
            iov[i].iov_len -= part;
            r -= (ssize_t)part;
        }
    }
}

int http_receive(struct http *h)
{
    static char text[1 << 17];
    size_t len = 0;
    char *body = NULL;
    size_t body_len = 0;
    while (!body || len < (size_t)(body - text) + body_len) {
        ssize_t r = recv(h->fd, text + len, sizeof(text) - 1 - len, 0);
        if (r <= 0)
            die("reading an answer");
        len += (size_t)r;
        text[len] = '\0';
        body = strstr(text, "\r\n\r\n");
        if (!body)
            continue;
        body += 4;
        const char *length = strcasestr(text, "\r\ncontent-length:");
        body_len = length ? strtoul(length + 17, NULL, 10) : 0;
    }
    snprintf(h->answer, sizeof(h->answer), "%s", body);
    return atoi(text + 9);
}

void http_post(struct http *h, const char *target, const char *body, size_t body_len)
{
    http_send(h, "POST", target, body, body_len);
    int status = http_receive(h);
    if (status != 200)
        die("POST %s was answered %d: %s", target, status, h->answer);
}

long stats_number(struct http *h, const char *member)
{
    char name[64];
    snprintf(name, sizeof(name), "\"%s\":", member);
    http_send(h, "GET", "/stats", "", 0);
    if (http_receive(h) != 200)
        die("GET /stats: %s", h->answer);
    const char *at = strstr(h->answer, name);
    if (!at)
        die("no %s in /stats: %s", name, h->answer);
    return strtol(at + strlen(name), NULL, 10);
}

void stats_wait(struct http *h, const char *member, long value)
{
    while (stats_number(h, member) != value)
        usleep(STATS_PAUSE_US);
}
