/* cmd_serve.c - `crier serve`: reads the options, starts everything in order, waits for a signal,
 * stops everything in reverse.
 *
 * start: options -> bus -> workers -> listeners. stop: not ready -> listeners -> clients -> workers
 * -> bus. The main thread only waits for signals; a second one ends the process at once. SIGHUP
 * reads the certificates again.
 */
#include "commands.h"
#include "serve_tls.h"
#include "worker.h"

#include "crier/clock.h"
#include "crier/config.h"
#include "crier/deflate.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/redis.h"
#include "crier/rnd.h"
#include "crier/sock.h"
#include "crier/version.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern char **environ;

#define WORKERS_MAX 64
#define BACKLOG 4096
#define BUS_LETTERS_PER_TURN 4096
#define DESCRIPTORS_RESERVED 128 /* listeners, loops, files, and those just being turned away */
#define URLS_MAX_BYTES 4096      /* of Redis, in the log */

struct server {
    struct config config;
    struct ns_table ns;
    struct hub_options hub_options;
    struct h2_options h2_options;
    struct http_shared shared;
    struct redis_target *redis; /* NULL: the bus is in memory */
    struct tls_ctx *redis_tls;  /* NULL: nothing there uses TLS */
    struct tls_ctx *tls;        /* of our own port; NULL: it has none */
    struct bus *bus;
    struct loop *bus_loop; /* of its own thread; NULL when a worker hosts the bus */
    pthread_t bus_thread;
    size_t n_addrs;
    struct sock_addr addr[FRONT_ADDRS_MAX];
    size_t n_workers;
    struct worker *worker[WORKERS_MAX];
};

static int fail(const char *what, const char *detail)
{
    fprintf(stderr, "crier: %s: %s\n", what, detail);
    return EXIT_FAILED;
}

/* --- options --- */

/* Takes the n addresses behind those there are, but for what was named before: listening twice on
 * one address looks like another program that listens there. */
static void keep_new_addrs(struct server *s, size_t n)
{
    const struct sock_addr *found = s->addr + s->n_addrs;
    for (size_t i = 0; i < n; i++) {
        struct sock_addr one = found[i];
        bool seen = false;
        for (size_t a = 0; a < s->n_addrs && !seen; a++)
            seen = s->addr[a].len == one.len && !memcmp(&s->addr[a].any, &one.any, one.len);
        if (!seen)
            s->addr[s->n_addrs++] = one;
    }
}

static bool resolve_hosts(struct server *s)
{
    struct slice rest = slice_str(s->config.host), one;
    while (slice_split(&rest, ',', &one)) {
        char *host = slice_dup(slice_trim(one));
        size_t n = 0;
        enum err e = sock_resolve(host, s->config.port, s->addr + s->n_addrs,
                                  FRONT_ADDRS_MAX - s->n_addrs, &n);
        free(host);
        if (e)
            return false;
        keep_new_addrs(s, n);
    }
    return s->n_addrs > 0;
}

static bool all_loopback(const struct server *s)
{
    for (size_t i = 0; i < s->n_addrs; i++)
        if (!sock_addr_is_loopback(&s->addr[i]))
            return false;
    return true;
}

static void set_namespaces(struct server *s)
{
    const struct config *c = &s->config;
    struct ns_options *chat;
    ns_table_init(&s->ns);
    chat = ns_table_entry(&s->ns, SLICE("chat"));
    struct ns_options *all[] = {&s->ns.common, chat};
    for (size_t i = 0; i < 2; i++) {
        all[i]->history_messages = (uint32_t)c->history_messages;
        all[i]->history_ms = c->history_ms;
        all[i]->idempotency_ms = c->idempotency_ms;
    }
}

static void set_packing(const struct config *c)
{
    deflate_configure((int)c->deflate_level, (int)c->deflate_window);
    msg_configure_packing(c->pack_threshold_bytes, slice_str(c->plain_namespaces));
}

static void set_options(struct server *s)
{
    const struct config *c = &s->config;
    set_namespaces(s);
    set_packing(c);
    s->hub_options = (struct hub_options){.outbox_bytes = c->outbox_bytes,
                                          .outbox_messages = (uint32_t)c->outbox_messages,
                                          .message_bytes = c->max_message_bytes,
                                          .sse_keepalive_ms = c->sse_keepalive_ms,
                                          .sse_retry_ms = c->sse_retry_ms,
                                          .ws_ping_ms = c->ws_ping_ms,
                                          .ws_pong_ms = c->ws_pong_ms,
                                          .ws_fragments = c->ws_fragments,
                                          .ws_control_rate = c->ws_control_rate,
                                          .ws_message_ms = c->ws_message_ms};
    s->h2_options = (struct h2_options){.max_streams = (uint32_t)c->h2_max_streams,
                                        .header_list_bytes = (uint32_t)c->h2_header_list_bytes,
                                        .window_bytes = (uint32_t)c->h2_window_bytes,
                                        .ping_ms = c->h2_ping_ms,
                                        .request_timeout_ms = c->request_timeout_ms};
    s->shared.allowed_origins = slice_str(c->allowed_origins);
    if (strcmp(c->sse_codings, "none") != 0)
        s->shared.sse_codings = slice_str(c->sse_codings);
    s->shared.ws_deflate = c->ws_deflate;
    s->shared.loopback_only = all_loopback(s);
    s->shared.message_bytes = c->max_message_bytes;
    s->shared.post_key_secret = rnd_u64();
    s->shared.started_ms = clock_wall_ms();
    s->n_workers = c->workers;
    if (!s->n_workers) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        s->n_workers = cores > 0 ? (size_t)cores : 1;
    }
    if (s->n_workers > WORKERS_MAX)
        s->n_workers = WORKERS_MAX;
}

/* --- Redis --- */

static bool uses_tls(const struct redis_target *t)
{
    bool tls = t->mode == REDIS_SENTINEL && t->master.tls;
    for (size_t i = 0; i < t->n; i++)
        tls = tls || t->endpoint[i].tls;
    return tls;
}

static const char *given(const char *path)
{
    return path[0] ? path : NULL;
}

static int configure_redis_tls(struct server *s)
{
    const struct config *c = &s->config;
    const struct tls_client_options files = {.ca_file = given(c->redis_ca),
                                             .cert_file = given(c->redis_cert),
                                             .key_file = given(c->redis_key)};
    bool files_given = files.ca_file || files.cert_file;
    char why[TLS_WHY_BYTES];
    if (!uses_tls(s->redis) && !files_given)
        return EXIT_DONE;
    if (tls_client_new(&files, &s->redis_tls, why)) {
        fprintf(stderr, "crier: TLS to Redis: %s\n", why);
        return EXIT_USAGE;
    }
    if (!uses_tls(s->redis))
        log_warn("redis_tls_unused", "reason=%s",
                 log_quote(SLICE("no URL of Redis begins with rediss")));
    return EXIT_DONE;
}

static int configure_redis(struct server *s)
{
    char why[REDIS_WHY_BYTES];
    if (!s->config.redis[0])
        return EXIT_DONE;
    if (redis_target_parse(s->config.redis, &s->redis, why)) {
        fprintf(stderr, "crier: --redis: %s\n", why);
        return EXIT_USAGE;
    }
    return configure_redis_tls(s);
}

static enum err new_redis_bus(struct server *s)
{
    const struct config *c = &s->config;
    const struct bus_redis_options o = {.target = s->redis,
                                        .tls = s->redis_tls,
                                        .prefix = c->redis_prefix,
                                        .connect_timeout_ms = c->redis_connect_timeout_ms,
                                        .command_timeout_ms = c->redis_timeout_ms,
                                        .linger_ms = c->redis_linger_ms,
                                        .max_reply_bytes = c->redis_max_reply_bytes,
                                        .max_message_bytes = c->max_message_bytes};
    static const char *const modes[] = {
        [REDIS_SHARDS] = "shards", [REDIS_SENTINEL] = "sentinel", [REDIS_CLUSTER] = "cluster"};
    struct buf urls;
    buf_init(&urls, URLS_MAX_BYTES);
    redis_target_text(s->redis, &urls);
    log_info("bus", "kind=redis mode=%s url=%s prefix=%s",
             s->redis->mode == REDIS_SHARDS && s->redis->n == 1 ? "single" : modes[s->redis->mode],
             log_quote(buf_slice(&urls)), c->redis_prefix);
    buf_release(&urls);
    return bus_new_redis(&s->ns, &o, &s->bus);
}

/* --- start --- */

static void raise_descriptors(struct server *s)
{
    uint64_t limit = sock_raise_descriptor_limit();
    uint64_t clients = limit > 2 * DESCRIPTORS_RESERVED ? limit - DESCRIPTORS_RESERVED : limit / 2;
    if (s->config.max_connections && s->config.max_connections < clients)
        clients = s->config.max_connections;
    s->shared.max_connections = (int64_t)clients;
    log_info("descriptors", "limit=%llu clients=%llu", (unsigned long long)limit,
             (unsigned long long)clients);
}

static void *run_bus(void *arg)
{
    loop_run(arg);
    return NULL;
}

static enum err new_memory_bus(struct server *s)
{
    log_info("bus", "kind=memory");
    return bus_new_memory(&s->ns, &s->bus);
}

static enum err start_bus(struct server *s)
{
    enum err e = s->redis ? new_redis_bus(s) : new_memory_bus(s);
    s->shared.bus = s->bus;
    if (e || s->n_workers == 1)
        return e;
    e = loop_new(&s->bus_loop);
    if (!e)
        e = bus_attach(s->bus, s->bus_loop);
    return e;
}

static enum err start_workers(struct server *s)
{
    struct worker_options opt = {.hub = &s->hub_options,
                                 .h2 = &s->h2_options,
                                 .request_timeout_ms = s->config.request_timeout_ms,
                                 .drain_ms = s->config.drain_ms,
                                 .tls = s->tls,
                                 .shared = &s->shared};
    for (size_t i = 0; i < s->n_workers; i++) {
        enum err e = worker_new(&opt, s->bus, s->n_workers == 1, &s->worker[i]);
        if (e)
            return e;
    }
    return ERR_OK;
}

static int listen_on(struct server *s, struct sock_addr *addr, bool tls)
{
    char text[SOCK_ADDR_TEXT_BYTES];
    sock_addr_text(addr, text);
    if ((tls || s->config.port) && sock_is_taken(addr))
        return fail(text, tls ? "another program listens there already; choose another --tls-port"
                              : "another program listens there already; choose another --port");
    for (size_t i = 0; i < s->n_workers; i++) {
        int fd;
        if (sock_listen(addr, BACKLOG, &fd))
            return fail(text, strerror(errno));
        if (worker_listen(s->worker[i], fd, tls))
            return fail(text, "cannot watch the listening socket");
    }
    return EXIT_DONE;
}

static struct sock_addr tls_addr(const struct server *s, size_t i)
{
    struct sock_addr addr = s->addr[i];
    addr.v4.sin_port = htons(s->config.tls_port);
    return addr;
}

static int listen_all(struct server *s)
{
    int code = EXIT_DONE;
    for (size_t i = 0; i < s->n_addrs && !code; i++) {
        if (s->config.port == 0 && i > 0) /* the port the kernel chose for the first address */
            s->addr[i].v4.sin_port = s->addr[0].v4.sin_port; /* same place in sockaddr_in6 */
        code = listen_on(s, &s->addr[i], false);
    }
    for (size_t i = 0; i < s->n_addrs && s->tls && !code; i++) {
        struct sock_addr addr = tls_addr(s, i);
        code = listen_on(s, &addr, true);
    }
    return code;
}

static void say_listening_on(const struct server *s, const struct sock_addr *addr,
                             const char *scheme)
{
    char host[SOCK_ADDR_TEXT_BYTES], url[SOCK_ADDR_TEXT_BYTES];
    sock_addr_text(addr, url);
    snprintf(host, sizeof(host), "%s", url);
    char *colon = strrchr(host, ':');
    *colon = '\0';
    log_info("listening", "host=%s port=%s workers=%zu version=%s url=%s://%s/", host, colon + 1,
             s->n_workers, CRIER_VERSION, scheme, url);
}

static void say_listening(const struct server *s)
{
    for (size_t i = 0; i < s->n_addrs; i++)
        say_listening_on(s, &s->addr[i], "http");
    for (size_t i = 0; i < s->n_addrs && s->tls; i++) {
        struct sock_addr addr = tls_addr(s, i);
        say_listening_on(s, &addr, "https");
    }
}

static enum err start_threads(struct server *s)
{
    if (s->bus_loop && pthread_create(&s->bus_thread, NULL, run_bus, s->bus_loop))
        return ERR_NOMEM;
    for (size_t i = 0; i < s->n_workers; i++)
        if (worker_start(s->worker[i]))
            return ERR_NOMEM;
    return ERR_OK;
}

/* --- stop --- */

static void on_second_interrupt(int sig)
{
    (void)sig;
    _exit(EXIT_FAILED);
}

/* Nobody is dropped: sessions keep the certificate they began with. Files that are no good leave
 * the old ones in force. */
static void reload_tls(struct server *s)
{
    char why[TLS_WHY_BYTES];
    struct tls_ctx *fresh;
    if (serve_tls_load(&s->config, &fresh, why)) {
        metrics_inc(M_TLS_RELOADS_FAILED);
        log_error("tls_reload_failed", "reason=%s consequence=\"the old certificates stay\"",
                  log_quote(slice_str(why)));
        return;
    }
    for (size_t i = 0; i < s->n_workers; i++)
        worker_set_tls(s->worker[i], fresh);
    tls_ctx_free(s->tls);
    s->tls = fresh;
    metrics_inc(M_TLS_RELOADS);
    log_info("tls_reloaded", "cert=%s", log_quote(slice_str(s->config.tls_cert)));
}

static void wait_for_signal(struct server *s, const sigset_t *set)
{
    int sig = 0;
    while (sigwait(set, &sig) || sig == SIGHUP)
        if (sig == SIGHUP)
            reload_tls(s);
    log_info("stopping", "signal=%s", sig == SIGINT ? "SIGINT" : "SIGTERM");
    /* Ctrl-C twice is a person who does not want to wait; supervisors may repeat SIGTERM. */
    signal(SIGINT, on_second_interrupt);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, set, NULL);
}

static void stop(struct server *s)
{
    s->shared.draining = true;
    for (size_t i = 0; i < s->n_workers; i++)
        worker_drain(s->worker[i]);
    for (size_t i = 0; i < s->n_workers; i++)
        worker_join(s->worker[i]);
    if (s->bus_loop) {
        loop_stop(s->bus_loop);
        pthread_join(s->bus_thread, NULL);
        bus_detach(s->bus);
    }
    for (size_t i = 0; i < s->n_workers; i++)
        worker_free(s->worker[i]);
    bus_free(s->bus);
    if (s->bus_loop)
        loop_free(s->bus_loop);
    log_info("stopped", "published=%lld", (long long)metrics_get(M_PUBLISHED));
}

static int serve(struct server *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    if (s->tls)
        sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before threads: they inherit it */
    signal(SIGPIPE, SIG_IGN);
    raise_descriptors(s);
    enum err e = start_bus(s);
    if (!e)
        e = start_workers(s);
    if (e) {
        log_error("start_failed", "error=%s", err_str(e));
        return fail("start", "out of memory or descriptors");
    }
    int code = listen_all(s);
    if (code)
        return code;
    if (start_threads(s))
        return fail("start", "no more threads can be made");
    say_listening(s);
    wait_for_signal(s, &set);
    stop(s);
    return EXIT_DONE;
}

static int configure_tls(struct server *s)
{
    char why[TLS_WHY_BYTES];
    if (!s->config.tls_port || !serve_tls_load(&s->config, &s->tls, why))
        return EXIT_DONE;
    fprintf(stderr, "crier: TLS: %s\n", why);
    return EXIT_USAGE;
}

static int configure(struct server *s, int argc, char **argv)
{
    struct config_error why;
    enum log_level level;
    if (config_load(&s->config, argc, argv, environ, &why)) {
        fprintf(stderr, "crier: %s\n", why.text);
        return EXIT_USAGE;
    }
    if (!log_level_parse(slice_str(s->config.log_level), &level))
        log_set_level(level);
    if (!resolve_hosts(s)) {
        fprintf(stderr, "crier: --host %s: no such address\n", s->config.host);
        return EXIT_USAGE;
    }
    set_options(s);
    if (!s->shared.loopback_only && !s->config.insecure) {
        fprintf(
            stderr,
            "crier: --host %s is not loopback, and no keys are configured: everyone who reaches "
            "it could read and publish. Say --insecure if that is what you want.\n",
            s->config.host);
        return EXIT_USAGE;
    }
    int code = configure_tls(s);
    return code ? code : configure_redis(s);
}

static void release(struct server *s)
{
    tls_ctx_free(s->redis_tls);
    tls_ctx_free(s->tls);
    redis_target_free(s->redis);
    config_release(&s->config);
}

int cmd_serve(int argc, char **argv)
{
    static struct server s;
    int code = configure(&s, argc, argv);
    if (!code)
        code = serve(&s);
    /* What failed in the middle of its start may have threads, which read all this. */
    if (code != EXIT_FAILED)
        release(&s);
    return code;
}
