/* bare.c - see bare.h. */
#include "bare.h"

#include "figures.h"
#include "server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGE_MAX_BYTES 65536

struct order {
    size_t len, first, step, count;
};

static int accept_one(int listener, const char *ready)
{
    char request[2048];
    int on = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0 || recv(fd, request, sizeof(request), 0) <= 0)
        die("accept");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (send(fd, ready, strlen(ready), MSG_NOSIGNAL) < 0)
        die("send");
    return fd;
}

static void obey(const struct order *o, const char *message, const int *fd, size_t n)
{
    size_t at = o->first;
    for (size_t i = 0; i < o->count; i++, at = (at + o->step) % n)
        if (send(fd[at], message, o->len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)o->len)
            die("bare send");
}

_Noreturn static void become_bare(int listener, int orders, int answers, size_t n,
                                  const char *ready)
{
    static char message[MESSAGE_MAX_BYTES];
    struct order o;
    int *fd = calloc(n, sizeof(int));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin_to_core(SERVER_CORE);
    for (size_t i = 0; i < n; i++)
        fd[i] = accept_one(listener, ready);
    while (read(orders, &o, sizeof(o)) == sizeof(o)) {
        if (read(orders, message, o.len) != (ssize_t)o.len)
            break;
        obey(&o, message, fd, n);
        if (write(answers, "", 1) != 1)
            break;
    }
    _exit(0);
}

void bare_start(struct bare *b, size_t n, const char *ready)
{
    int orders[2], answers[2], listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    if (pipe(orders) || pipe(answers) || bind(listener, (struct sockaddr *)&a, len) ||
        listen(listener, 1024) || getsockname(listener, (struct sockaddr *)&a, &len))
        die("the bare loop");
    fflush(stdout);
    b->port = ntohs(a.sin_port);
    b->pid = fork();
    if (b->pid < 0)
        die("fork");
    if (b->pid == 0)
        become_bare(listener, orders[0], answers[1], n, ready);
    close(listener);
    close(orders[0]);
    close(answers[1]);
    b->orders = orders[1];
    b->answers = answers[0];
}

void bare_send(const struct bare *b, const char *message, size_t len, size_t first, size_t step,
               size_t count)
{
    const struct order o = {len, first, step, count};
    if (len > MESSAGE_MAX_BYTES || write(b->orders, &o, sizeof(o)) != sizeof(o) ||
        write(b->orders, message, len) != (ssize_t)len)
        die("an order to the bare loop");
}

void bare_wait(const struct bare *b)
{
    char done;
    if (read(b->answers, &done, 1) != 1)
        die("the bare loop has ended");
}

void bare_stop(struct bare *b)
{
    kill(b->pid, SIGKILL);
    waitpid(b->pid, NULL, 0);
    close(b->orders);
    close(b->answers);
}
