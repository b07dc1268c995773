/* clients.h - thousands of clients on one epoll descriptor, and what they have received.
 *
 * Messages are numbers: a payload begins with a decimal number, and what a client has got is known
 * by reading it back from the bytes on the wire. Pings are answered.
 */
#ifndef LOAD_CLIENTS_H
#define LOAD_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum client_kind { CLIENT_SSE, CLIENT_WS, CLIENT_POLL };
const char *client_kind_name(enum client_kind k); /* as /stats calls it */

struct client {
    int fd;
    struct tls_client *tls; /* owned; NULL in clear */
    uint8_t matched;        /* bytes of the marker that is looked for */
    bool asked;             /* the request is sent */
    bool ready;             /* the server has said that the subscription stands */
    bool in_number;
    uint32_t digits, number;
    uint32_t last; /* number received last; 0 = none yet */
};

struct clients {
    enum client_kind kind;
    const char *target;    /* borrowed */
    struct client *client; /* owned */
    size_t n;
    int epoll_fd;
    size_t n_ready;
    uint64_t messages, bytes, pings;
    uint64_t out_of_order; /* numbers that were not their predecessor + 1 */
    size_t lost;           /* connections that the server ended */
    void (*heard)(void *ctx,
                  uint32_t number); /* of every message; may be NULL, set after opening */
    void *ctx;
};

#define CONNECTING_AT_ONCE 64

/* n clients of `target` (a request target; its one %zu, if any, becomes the client's index), all of
 * them ready. At most `at_once` of them are on their way at any time. */
void clients_open(struct clients *cs, enum client_kind kind, uint16_t port, size_t n,
                  const char *target, size_t at_once);
void clients_close(struct clients *cs);
/* Reads what is there; waits for something at most wait_ms. */
void clients_read(struct clients *cs, int wait_ms);
/* Reads until all clients together have received so many messages. */
void clients_await(struct clients *cs, uint64_t messages);

#endif
