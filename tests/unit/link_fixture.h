/* link_fixture.h - a link and a server that says what the test tells it to, on a UNIX socket in the
 * same loop's thread (or on whatever `listener` is).
 *
 * Everything the link calls is written down in `story`, and compared as text by tells(). Included
 * by one test at a time.
 */
#ifndef CRIER_TESTS_LINK_FIXTURE_H
#define CRIER_TESTS_LINK_FIXTURE_H

#include "../../src/redis/link.h"

#include "crier/clock.h"
#include "crier/log.h"
#include "crier/sock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

#define PATIENCE_MS 20000
#define STALL_MS 60
#define MAX_PENDING ((size_t)64 * 1024)

static struct loop *loop;
static struct link *lnk;
static struct redis_options options;
static struct redis_endpoint endpoint;
static char dir[] = "/tmp/crier-link-XXXXXX", path[64];
static int listener, server; /* -1: none */
static struct buf heard;     /* by the server */
static struct buf story;
static unsigned ups, downs, pushes;
static void (*on_up)(void), (*on_down)(void), (*on_push)(void);

/* --- what the link calls ---------------------------------------------------------------------- */

static inline void link_came_up(struct link *l)
{
    assert_ptr_equal(link_ctx(l), &story);
    assert_true(link_is_up(l));
    ups++;
    buf_append_str(&story, "up;");
    if (on_up)
        on_up();
}

static inline void link_went_down(struct link *l, const char *why)
{
    assert_false(link_is_up(l));
    downs++;
    buf_printf(&story, "down %s;", why);
    if (on_down)
        on_down();
}

static inline void link_pushed(struct link *l, const struct reply *r)
{
    struct slice text = reply_text(reply_kind(r) == REPLY_ARRAY ? reply_at(r, 0) : r);

    (void)l;
    pushes++;
    if (text.len < 100)
        buf_printf(&story, "push %.*s;", (int)text.len, text.ptr);
    if (on_push)
        on_push();
}

static const struct link_ops ops = {
    .up = link_came_up, .down = link_went_down, .push = link_pushed};

struct request {
    struct link_request q;
    int number;
    bool answered;
    void (*then)(void);
};

static inline void request_done(struct link_request *q, enum err e, const struct reply *r)
{
    struct request *m = container_of(q, struct request, q);

    assert_false(m->answered);
    assert_int_equal(r != NULL, e == ERR_OK);
    m->answered = true;
    buf_printf(&story, "%d %s", m->number, err_str(e));
    if (r) {
        buf_append_char(&story, ' ');
        buf_append(&story, reply_text(r));
    }
    buf_append_char(&story, ';');
    if (m->then)
        m->then();
}

static inline enum err ask(struct request *m, int number, const char *text)
{
    struct slice args[] = {SLICE("ECHO"), slice_str(text)};

    m->q = (struct link_request){.done = request_done};
    m->number = number;
    m->answered = false;
    return link_send(lnk, &m->q, args, 2);
}

/* --- the server ------------------------------------------------------------------------------- */

static inline ssize_t plain_read(void *out, size_t max)
{
    return recv(server, out, max, 0);
}

static inline ssize_t plain_write(const void *data, size_t n)
{
    return send(server, data, n, MSG_NOSIGNAL);
}

static ssize_t (*server_reads)(void *out, size_t max) = plain_read;
static ssize_t (*server_writes)(const void *data, size_t n) = plain_write;

static inline void listen_on_path(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    memcpy(at.sun_path, path, strlen(path));
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 10), 0);
}

static inline void stop_listening(void)
{
    if (listener >= 0)
        close(listener);
    listener = -1;
    unlink(path);
}

static inline void server_close(void)
{
    if (server >= 0)
        close(server);
    server = -1;
}

static inline void server_listens(void)
{
    ssize_t n;
    char bytes[65536];

    if (server < 0)
        server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (server >= 0 && (n = server_reads(bytes, sizeof bytes)) > 0)
        buf_append(&heard, slice_of(bytes, (size_t)n));
}

#define TURN_UNTIL(cond)                                               \
    for (uint64_t give_up = clock_mono_ms() + PATIENCE_MS; !(cond);) { \
        assert_true(clock_mono_ms() < give_up);                        \
        loop_turn(loop, 4);                                            \
        if (listener >= 0)                                             \
            server_listens();                                          \
    }

static inline void turn_a_while(void)
{
    for (int i = 0; i < 5; i++) {
        loop_turn(loop, 0);
        server_listens();
    }
}

static inline void say(const char *text)
{
    assert_true(server >= 0);
    assert_int_equal(server_writes(text, strlen(text)), strlen(text));
}

/* Exactly this, and nothing behind it. */
static inline void hear(const char *text)
{
    size_t len = strlen(text);

    TURN_UNTIL(heard.len >= len);
    turn_a_while();
    if (!slice_eq(buf_slice(&heard), slice_str(text)))
        fail_msg("heard: %.*s", (int)heard.len, heard.data);
    buf_clear(&heard);
}

#define NAME "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$5\r\ncrier\r\n"
#define ECHO_(text) "*2\r\n$4\r\nECHO\r\n$1\r\n" text "\r\n"

static inline void tells(const char *expected)
{
    buf_append_char(&story, '\0');
    assert_string_equal(story.data, expected);
    buf_clear(&story);
}

/* --- around each test ------------------------------------------------------------------------- */

static inline int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_ERROR);
    memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
    if (loop_new(&loop) != ERR_OK || !mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/s", dir);
    options = (struct redis_options){.connect_timeout_ms = PATIENCE_MS,
                                     .command_timeout_ms = PATIENCE_MS,
                                     .max_reply_bytes = 4096,
                                     .max_pending_bytes = MAX_PENDING};
    endpoint = (struct redis_endpoint){.path = path};
    lnk = NULL;
    server = -1;
    ups = downs = pushes = 0;
    on_up = on_down = on_push = NULL;
    buf_init(&heard, (size_t)64 << 20);
    buf_init(&story, (size_t)16 << 20);
    listen_on_path();
    return 0;
}

static inline void close_link(void)
{
    link_close(lnk);
}

static inline int teardown(void **state)
{
    (void)state;
    if (lnk)
        link_close(lnk);
    loop_turn(loop, 0);
    loop_free(loop);
    server_close();
    stop_listening();
    rmdir(dir);
    buf_release(&heard);
    buf_release(&story);
    return 0;
}

static inline void make_link(enum link_kind kind)
{
    struct link_options o = {
        .kind = kind, .endpoint = &endpoint, .redis = &options, .ops = &ops, .ctx = &story};

    assert_int_equal(link_new(loop, &o, &lnk), ERR_OK);
}

static inline void open_link(enum link_kind kind)
{
    make_link(kind);
    link_open(lnk);
}

/* A command link that is up, or is again. */
static inline void come_up(void)
{
    unsigned before = ups;

    if (!lnk)
        open_link(LINK_COMMANDS);
    hear(NAME);
    say("+OK\r\n");
    TURN_UNTIL(ups > before);
}

static inline void subscribe_up(void)
{
    open_link(LINK_SUBSCRIBE);
    hear("*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$15\r\ncrier-subscribe\r\n");
    say("+OK\r\n");
    TURN_UNTIL(ups == 1);
    tells("up;");
}

#define link_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
