/* bare.h - the floor: a process that does nothing but send() the same bytes to its sockets.
 *
 * It runs on the server's core and is measured as the server is. */
#ifndef LOAD_BARE_H
#define LOAD_BARE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bare {
    pid_t pid;
    uint16_t port;
    int orders, answers; /* pipes */
};

/* Accepts n connections and tells each that it is ready, as a client of this kind expects it. */
void bare_start(struct bare *b, size_t n, const char *ready);
/* One message of so many bytes to the connections first, first + step, ...: `count` of them. Only
 * asks for it: read what comes, as from the server, then wait until the loop is done. */
void bare_send(const struct bare *b, const char *message, size_t len, size_t first, size_t step,
               size_t count);
void bare_wait(const struct bare *b);
void bare_stop(struct bare *b);

#endif
