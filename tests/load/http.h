/* http.h - one keep-alive HTTP/1.1 connection, blocking: enough to publish and to ask for /stats.
 */
#ifndef LOAD_HTTP_H
#define LOAD_HTTP_H

#include <stddef.h>
#include <stdint.h>

struct http {
    int fd;
    char answer[8192]; /* body of the last answer, cut to this, as a string */
};

/* Connected to 127.0.0.1; each from another source address than the last, because one address has
 * only 28,000 ports and closed connections hold theirs for a minute. */
int tcp_connect(uint16_t port);

void http_open(struct http *h, uint16_t port);
void http_close(struct http *h);
void http_send(struct http *h, const char *method, const char *target, const char *body,
               size_t body_len);
int http_receive(struct http *h); /* the status; fills h->answer */
/* Both; anything but 200 ends the program. */
void http_post(struct http *h, const char *target, const char *body, size_t body_len);
/* The decimal number behind `"member":` in the answer to GET /stats. */
long stats_number(struct http *h, const char *member);
/* Asks for /stats until the number is there. */
void stats_wait(struct http *h, const char *member, long value);

#endif
