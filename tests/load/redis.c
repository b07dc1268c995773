/* redis.c - see redis.h. */
#include "redis.h"

#include "figures.h"
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG "redis.log"

static int loopback_socket(uint16_t port, struct sockaddr_in *a)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return fd;
}

/* Nobody else takes it until Redis does: it is not given out again so soon. */
static uint16_t free_port(void)
{
    struct sockaddr_in a;
    socklen_t len = sizeof(a);
    int fd = loopback_socket(0, &a);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || getsockname(fd, (struct sockaddr *)&a, &len))
        die("no free port");
    close(fd);
    return ntohs(a.sin_port);
}

_Noreturn static void become_redis(const struct redis_server *r)
{
    char port[8];
    snprintf(port, sizeof(port), "%u", r->port);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin_to_core(LOAD_CORE);
    execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir",
           r->folder, "--save", "", "--appendonly", "yes", "--logfile", LOG, (char *)NULL);
    fprintf(stderr, "cannot run redis-server: %s\n", strerror(errno));
    _exit(127);
}

static void await_redis(const struct redis_server *r)
{
    static const char pong[] = "+PONG\r\n";
    for (;;) {
        char answer[sizeof(pong)] = "";
        struct sockaddr_in a;
        int fd = loopback_socket(r->port, &a);
        bool serves = !connect(fd, (struct sockaddr *)&a, sizeof(a)) &&
                      send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6 &&
                      recv(fd, answer, sizeof(pong) - 1, MSG_WAITALL) > 0 && !strcmp(answer, pong);
        close(fd);
        if (serves)
            return;
        if (waitpid(r->pid, NULL, WNOHANG) == r->pid) {
            errno = 0;
            die("Redis did not start, see %s/" LOG, r->folder);
        }
        usleep(2000);
    }
}

void redis_start(struct redis_server *r)
{
    snprintf(r->folder, sizeof(r->folder), "/tmp/crier-load-redis.XXXXXX");
    if (!mkdtemp(r->folder))
        die("%s", r->folder);
    r->port = free_port();
    snprintf(r->url, sizeof(r->url), "redis://127.0.0.1:%u", r->port);
    fflush(stdout);
    r->pid = fork();
    if (r->pid < 0)
        die("fork");
    if (r->pid == 0)
        become_redis(r);
    await_redis(r);
}

void redis_stop(struct redis_server *r)
{
    char remove[128];
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
    snprintf(remove, sizeof(remove), "rm -rf %s", r->folder);
    if (system(remove))
        die("%s", remove);
}
