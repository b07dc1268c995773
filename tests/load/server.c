/* server.c - see server.h. */
#include "server.h"

#include "figures.h"
#include "tls.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OPTIONS_MAX 32

static const char *binary(void)
{
    static char path[PATH_MAX];
    const char *given = getenv("CRIER_BIN");
    if (given)
        return given;
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
    if (n < 0)
        die("/proc/self/exe");
    path[n] = '\0';
    for (int up = 0; up < 2; up++)
        *strrchr(path, '/') = '\0';
    strcat(path, "/crier");
    return path;
}

void pin_to_core(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof(set), &set))
        die("core %d is not ours: two cores are needed, one for the server, one for the load",
            core);
}

_Noreturn static void become_server(const struct server *s, const char *const options[])
{
    const char *argv[OPTIONS_MAX] = {binary(), "serve", "--host",    "127.0.0.1",
                                     "--port", "0",     "--workers", "1"};
    size_t n = 8;
    char port[8], cert[PATH_MAX], key[PATH_MAX];
    if (s->clients_port) {
        const char *files = getenv("LOAD_TLS_FILES");
        snprintf(port, sizeof(port), "%u", s->clients_port);
        snprintf(cert, sizeof(cert), "%s/cert.pem", files ? files : "build/tls");
        snprintf(key, sizeof(key), "%s/key.pem", files ? files : "build/tls");
        const char *tls[] = {"--tls-port", port, "--tls-cert", cert, "--tls-key", key};
        for (size_t i = 0; i < sizeof(tls) / sizeof(tls[0]); i++)
            argv[n++] = tls[i];
    }
    for (size_t i = 0; options && options[i]; i++) {
        if (n == OPTIONS_MAX - 1)
            die("too many options for the server");
        argv[n++] = options[i];
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin_to_core(SERVER_CORE);
    unsetenv("CRIER_BIN"); /* not an option of the server's, so it would refuse it */
    dup2(s->log_fd, STDOUT_FILENO);
    dup2(s->log_fd, STDERR_FILENO);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* 0 until the server has said where it listens. */
static uint16_t port_from_log(const struct server *s)
{
    char log[4096];
    ssize_t n = pread(s->log_fd, log, sizeof(log) - 1, 0);
    log[n > 0 ? n : 0] = '\0';
    const char *line = strstr(log, "event=listening");
    const char *port = line ? strstr(line, " port=") : NULL;
    if (!port || !strchr(port, '\n'))
        return 0;
    return (uint16_t)atoi(port + 6);
}

void server_start(struct server *s, const char *const options[])
{
    s->log_fd = memfd_create("server-log", MFD_CLOEXEC);
    if (s->log_fd < 0)
        die("memfd_create");
    s->clients_port = tls_wanted() ? tls_port() : 0;
    fflush(stdout);
    s->pid = fork();
    if (s->pid < 0)
        die("fork");
    if (s->pid == 0)
        become_server(s, options);
    while (!(s->port = port_from_log(s))) {
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            char log[4096] = "";
            (void)!pread(s->log_fd, log, sizeof(log) - 1, 0);
            errno = 0;
            die("the server did not start:\n%s", log);
        }
        usleep(2000);
    }
    if (!s->clients_port)
        s->clients_port = s->port;
}

void server_stop(struct server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    close(s->log_fd);
}

uint64_t cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t))
        die("the CPU time of process %d", (int)pid);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t memory_bytes(pid_t pid)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        die("%s", path);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "Anonymous: %llu kB", &kib) == 1)
            break;
    fclose(f);
    return kib * 1024;
}
