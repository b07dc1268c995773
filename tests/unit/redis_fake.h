/* redis_fake.h - a Redis server in the test's own thread: enough of one to greet a client, to say
 * who it is, and to pass on what is published. What a test wants otherwise it sets, or answers by
 * `special`. Pumped between the turns of the loop. Included by one test at a time.
 */
#ifndef CRIER_TESTS_REDIS_FAKE_H
#define CRIER_TESTS_REDIS_FAKE_H

#include "crier/codec.h"
#include "crier/reply.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

#define FAKE_CONNS 8
#define FAKE_OUT_BYTES ((size_t)64 << 20)

struct fake;

struct fake_conn {
    struct fake *fake;
    int fd; /* -1: unused */
    struct reply_parser *in;
    struct buf out;
    char **channel; /* subscribed */
    size_t n_channels, channel_cap;
    bool asking;
};

struct fake {
    int listener; /* -1: nobody can connect */
    uint16_t port;
    struct fake_conn conn[FAKE_CONNS];
    struct buf story; /* "COMMAND its arguments;" of what is not greeting, probe or inquiry */

    const char *version, *role, *run_id, *replid;
    const char *info_error; /* of every INFO; NULL: none */
    const char *subscribe_error;
    const char *cluster_slots; /* RESP; NULL: an error */
    const char *cluster_state; /* "ok" */
    const char *master_host;   /* what a sentinel says; NULL: it does not know */
    uint16_t master_port;
    bool stalled;     /* accepts, and reads nothing */
    bool keeps_quiet; /* what is published is not passed on */
    bool no_scripts;  /* EVALSHA is answered NOSCRIPT until an EVAL */
    /* Answers a command in its own way, or says false. */
    bool (*special)(struct fake_conn *c, const struct reply *command);

    unsigned greeted, infos, probes; /* connections that sent CLIENT SETNAME, and so on */
    size_t subscribes;               /* names, in all */
    size_t most_at_once;             /* names of SUBSCRIBEs that came before one was answered */
};

static inline void fake_listen(struct fake *f)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    socklen_t len = sizeof at;
    int on = 1;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(f->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    assert_int_equal(bind(f->listener, (const struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(f->listener, FAKE_CONNS), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&at, &len), 0);
    f->port = ntohs(at.sin_port);
}

static inline void fake_open(struct fake *f)
{
    *f = (struct fake){
        .version = "7.0.15",
        .role = "master",
        .run_id = "1111111111111111111111111111111111111111",
        .replid = "2222222222222222222222222222222222222222",
        .cluster_state = "ok",
    };
    buf_init(&f->story, 1 << 20);
    for (size_t i = 0; i < FAKE_CONNS; i++)
        f->conn[i].fd = -1;
    fake_listen(f);
}

static inline void fake_drop(struct fake_conn *c)
{
    if (c->fd < 0)
        return;
    close(c->fd);
    c->fd = -1;
    reply_parser_free(c->in);
    buf_release(&c->out);
    for (size_t i = 0; i < c->n_channels; i++)
        free(c->channel[i]);
    free(c->channel);
    c->channel = NULL;
    c->n_channels = c->channel_cap = 0;
}

/* Breaks all connections; `deaf`: only those that subscribe. */
static inline void fake_drop_all(struct fake *f, bool deaf)
{
    for (size_t i = 0; i < FAKE_CONNS; i++)
        if (!deaf || f->conn[i].n_channels > 0)
            fake_drop(&f->conn[i]);
}

static inline void fake_unlisten(struct fake *f)
{
    if (f->listener >= 0)
        close(f->listener);
    f->listener = -1;
}

static inline void fake_close(struct fake *f)
{
    fake_drop_all(f, false);
    fake_unlisten(f);
    buf_release(&f->story);
}

/* --- answers --- */

static inline void fake_say(struct fake_conn *c, const char *resp)
{
    buf_append_str(&c->out, resp);
}

static inline void fake_say_bulk(struct fake_conn *c, struct slice s)
{
    buf_printf(&c->out, "$%zu\r\n", s.len);
    buf_append(&c->out, s);
    buf_append_str(&c->out, "\r\n");
}

static inline void fake_say_sub(struct fake_conn *c, const char *what, struct slice channel)
{
    fake_say(c, "*3\r\n");
    fake_say_bulk(c, slice_str(what));
    fake_say_bulk(c, channel);
    buf_printf(&c->out, ":%zu\r\n", c->n_channels);
}

static inline struct slice fake_word(const struct reply *command, size_t i)
{
    return reply_text(reply_at(command, i));
}

static inline bool fake_is(const struct reply *command, const char *name)
{
    return slice_eq_nocase(fake_word(command, 0), slice_str(name));
}

static inline size_t fake_find(const struct fake_conn *c, struct slice channel)
{
    size_t i = 0;

    while (i < c->n_channels && !slice_eq(slice_str(c->channel[i]), channel))
        i++;
    return i;
}

static inline void fake_subscribe(struct fake_conn *c, const char *what, struct slice channel)
{
    if (c->n_channels == c->channel_cap) {
        c->channel_cap = c->channel_cap ? 2 * c->channel_cap : 16;
        c->channel = realloc(c->channel, c->channel_cap * sizeof *c->channel);
    }
    c->channel[c->n_channels++] = slice_dup(channel);
    fake_say_sub(c, what, channel);
}

static inline void fake_unsubscribe(struct fake_conn *c, const char *what, struct slice channel)
{
    size_t i = fake_find(c, channel);

    if (i < c->n_channels) {
        free(c->channel[i]);
        c->channel[i] = c->channel[--c->n_channels];
    }
    fake_say_sub(c, what, channel);
}

/* As a server does whose slot has gone: to everybody, unasked. */
static inline void fake_take_away(struct fake *f, struct slice channel)
{
    for (size_t i = 0; i < FAKE_CONNS; i++) {
        struct fake_conn *c = &f->conn[i];
        if (c->fd >= 0 && fake_find(c, channel) < c->n_channels)
            fake_unsubscribe(c, "sunsubscribe", channel);
    }
}

static inline unsigned fake_publish(struct fake *f, bool sharded, struct slice channel,
                                    struct slice payload)
{
    unsigned heard = 0;

    for (size_t i = 0; i < FAKE_CONNS && !f->keeps_quiet; i++) {
        struct fake_conn *c = &f->conn[i];
        if (c->fd < 0 || fake_find(c, channel) == c->n_channels)
            continue;
        fake_say(c, "*3\r\n");
        fake_say_bulk(c, slice_str(sharded ? "smessage" : "message"));
        fake_say_bulk(c, channel);
        fake_say_bulk(c, payload);
        heard++;
    }
    return heard;
}

/* --- commands --- */

static inline bool fake_names_probe(struct slice s)
{
    return memmem(s.ptr, s.len, "probe:", 6) != NULL;
}

/* Without the probe's channel, and not at all when that is all there is. */
static inline void fake_note(struct fake *f, const struct reply *command)
{
    size_t n = reply_count(command), noted = 0;

    for (size_t i = 1; i < n; i++)
        noted += !fake_names_probe(fake_word(command, i));
    if ((n > 1 && noted == 0) || fake_is(command, "PUBLISH") || fake_is(command, "SPUBLISH"))
        return;
    for (size_t i = 0; i < n; i++) {
        if (fake_names_probe(fake_word(command, i)))
            continue;
        if (i > 0)
            buf_append_char(&f->story, ' ');
        buf_append(&f->story, fake_word(command, i));
    }
    buf_append_char(&f->story, ';');
}

static inline void fake_info(struct fake_conn *c)
{
    const struct fake *f = c->fake;
    char text[1024];

    if (f->info_error) {
        buf_printf(&c->out, "-%s\r\n", f->info_error);
        return;
    }
    snprintf(text, sizeof text,
             "redis_version:%s\r\nrun_id:%s\r\nrole:%s\r\nmaster_replid:%s\r\nloading:0\r\n"
             "aof_enabled:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
             f->version, f->run_id, f->role, f->replid);
    fake_say_bulk(c, slice_str(text));
}

static inline void fake_cluster(struct fake_conn *c, const struct reply *command)
{
    const struct fake *f = c->fake;
    char text[64];

    if (slice_eq(fake_word(command, 1), SLICE("INFO"))) {
        snprintf(text, sizeof text, "cluster_state:%s\r\n", f->cluster_state);
        fake_say_bulk(c, slice_str(text));
    } else {
        fake_say(c, f->cluster_slots ? f->cluster_slots
                                     : "-ERR This instance has cluster support disabled\r\n");
    }
}

static inline void fake_sentinel(struct fake_conn *c)
{
    char port[8];

    if (!c->fake->master_host) {
        fake_say(c, "*-1\r\n");
        return;
    }
    snprintf(port, sizeof port, "%u", (unsigned)c->fake->master_port);
    fake_say(c, "*2\r\n");
    fake_say_bulk(c, slice_str(c->fake->master_host));
    fake_say_bulk(c, slice_str(port));
}

static inline void fake_pubsub(struct fake_conn *c, const struct reply *command)
{
    struct fake *f = c->fake;
    bool sharded = fake_is(command, "SSUBSCRIBE") || fake_is(command, "SUNSUBSCRIBE");
    bool on = fake_is(command, "SUBSCRIBE") || fake_is(command, "SSUBSCRIBE");
    bool probe = fake_names_probe(fake_word(command, 1));

    fake_note(f, command);
    if (on && f->subscribe_error && !probe) {
        buf_printf(&c->out, "-%s\r\n", f->subscribe_error);
        return;
    }
    for (size_t i = 1; i < reply_count(command); i++) {
        if (on)
            fake_subscribe(c, sharded ? "ssubscribe" : "subscribe", fake_word(command, i));
        else
            fake_unsubscribe(c, sharded ? "sunsubscribe" : "unsubscribe", fake_word(command, i));
        f->subscribes += on;
    }
}

static inline void fake_eval(struct fake_conn *c, const struct reply *command)
{
    struct fake *f = c->fake;

    fake_note(f, command);
    if (fake_is(command, "EVAL"))
        f->no_scripts = false;
    fake_say(c, f->no_scripts ? "-NOSCRIPT No matching script.\r\n" : ":1\r\n");
}

static inline void fake_command(struct fake_conn *c, const struct reply *command)
{
    struct fake *f = c->fake;

    if (f->special && f->special(c, command))
        return;
    if (fake_is(command, "INFO")) {
        f->infos++;
        fake_info(c);
    } else if (fake_is(command, "CLIENT")) {
        f->greeted++;
        fake_say(c, "+OK\r\n");
    } else if (fake_is(command, "SCRIPT")) {
        fake_say_bulk(c, SLICE("sha"));
    } else if (fake_is(command, "CLUSTER")) {
        fake_cluster(c, command);
    } else if (fake_is(command, "SENTINEL")) {
        fake_sentinel(c);
    } else if (fake_is(command, "EVAL") || fake_is(command, "EVALSHA")) {
        fake_eval(c, command);
    } else if (fake_is(command, "PUBLISH") || fake_is(command, "SPUBLISH")) {
        f->probes += fake_names_probe(fake_word(command, 1));
        fake_note(f, command);
        buf_printf(&c->out, ":%u\r\n",
                   fake_publish(f, fake_is(command, "SPUBLISH"), fake_word(command, 1),
                                fake_word(command, 2)));
    } else if (memmem(fake_word(command, 0).ptr, fake_word(command, 0).len, "SUBSCRIBE", 9)) {
        fake_pubsub(c, command);
    } else {
        fake_note(f, command);
        fake_say(c, "+OK\r\n");
    }
}

/* --- bytes --- */

static inline void fake_accept(struct fake *f)
{
    for (size_t i = 0; i < FAKE_CONNS && f->listener >= 0; i++) {
        struct fake_conn *c = &f->conn[i];
        if (c->fd >= 0)
            continue;
        int fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        *c = (struct fake_conn){.fake = f, .fd = fd};
        buf_init(&c->out, FAKE_OUT_BYTES);
        assert_int_equal(reply_parser_new((size_t)16 << 20, &c->in), ERR_OK);
    }
}

static inline void fake_read(struct fake_conn *c)
{
    char bytes[65536];
    ssize_t n;
    size_t before = c->fake->subscribes;

    while (c->fd >= 0 && (n = recv(c->fd, bytes, sizeof bytes, 0)) >= 0) {
        struct reply *command;
        if (n == 0) {
            fake_drop(c);
            return;
        }
        assert_int_equal(reply_parser_feed(c->in, slice_of(bytes, (size_t)n)), ERR_OK);
        while (c->fd >= 0 && reply_parser_next(c->in, &command) == ERR_OK) {
            fake_command(c, command);
            reply_free(command);
        }
    }
    if (c->fake->subscribes - before > c->fake->most_at_once)
        c->fake->most_at_once = c->fake->subscribes - before;
}

static inline void fake_write(struct fake_conn *c)
{
    while (c->fd >= 0 && c->out.len > 0) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        buf_consume(&c->out, (size_t)n);
    }
}

static inline void fake_pump(struct fake *f)
{
    fake_accept(f);
    for (size_t i = 0; i < FAKE_CONNS && !f->stalled; i++) {
        if (f->conn[i].fd >= 0)
            fake_read(&f->conn[i]);
        if (f->conn[i].fd >= 0)
            fake_write(&f->conn[i]);
    }
}

#endif
