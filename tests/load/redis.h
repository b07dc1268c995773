/* redis.h - the Redis under measurement: on a free port of loopback, its files in a folder that
 * goes with it.
 *
 * It runs beside the load, not on the server's core, and keeps what operators should keep: an
 * append-only file, written to the disk every second.
 */
#ifndef LOAD_REDIS_H
#define LOAD_REDIS_H

#include <stdint.h>
#include <sys/types.h>

struct redis_server {
    pid_t pid;
    uint16_t port;
    char url[64];
    char folder[64];
};

void redis_start(struct redis_server *r);
void redis_stop(struct redis_server *r);

#endif
