/* server.h - the server under measurement: started on a free port and a core of its own.
 *
 * CPU time is user + system of all its threads, in nanoseconds, from the kernel's clock of that
 * process: what the machine's other tenants do does not count. The load runs on another core.
 * Memory is what the process has of its own (anonymous pages): user memory, without the kernel's
 * socket buffers, and without the pages of libraries, whose share depends on who else runs.
 */
#ifndef LOAD_SERVER_H
#define LOAD_SERVER_H

#include <stdint.h>
#include <sys/types.h>

#define SERVER_CORE 0
#define LOAD_CORE 1

struct server {
    pid_t pid;
    uint16_t port;
    uint16_t clients_port; /* the same, or one for TLS (tls.h) */
    int log_fd;            /* a memfd: whatever the server says never blocks it */
};

/* `crier serve --host 127.0.0.1 --port 0 --workers 1` and the given options (NULL ends them).
 * The binary is $CRIER_BIN, else ../crier beside this program. */
void server_start(struct server *s, const char *const options[]);
void server_stop(struct server *s);

void pin_to_core(int core);
uint64_t cpu_ns(pid_t pid);
uint64_t memory_bytes(pid_t pid);

#endif
