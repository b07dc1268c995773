/* test_link.c - a link against a server that says what the test tells it to, on a UNIX socket in
 * the same loop's thread: what is greeted, what is answered, what ends the connection and how it
 * comes back.
 *
 * Everything the link calls is written down in `story`, and compared as text.
 */
#include "../../src/redis/link.h"

#include "crier/clock.h"
#include "crier/log.h"
#include "crier/sock.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

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

static void link_came_up(struct link *l)
{
    assert_ptr_equal(link_ctx(l), &story);
    assert_true(link_is_up(l));
    ups++;
    buf_append_str(&story, "up;");
    if (on_up)
        on_up();
}

static void link_went_down(struct link *l, const char *why)
{
    assert_false(link_is_up(l));
    downs++;
    buf_printf(&story, "down %s;", why);
    if (on_down)
        on_down();
}

static void link_pushed(struct link *l, const struct reply *r)
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

static void request_done(struct link_request *q, enum err e, const struct reply *r)
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

static enum err ask(struct request *m, int number, const char *text)
{
    struct slice args[] = {SLICE("ECHO"), slice_str(text)};

    m->q = (struct link_request){.done = request_done};
    m->number = number;
    m->answered = false;
    return link_send(lnk, &m->q, args, 2);
}

/* --- the server ------------------------------------------------------------------------------- */

static void listen_on_path(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    memcpy(at.sun_path, path, strlen(path));
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 10), 0);
}

static void stop_listening(void)
{
    if (listener >= 0)
        close(listener);
    listener = -1;
    unlink(path);
}

static void server_close(void)
{
    if (server >= 0)
        close(server);
    server = -1;
}

static void server_listens(void)
{
    ssize_t n;
    char bytes[65536];

    if (server < 0)
        server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (server >= 0 && (n = recv(server, bytes, sizeof bytes, 0)) > 0)
        buf_append(&heard, slice_of(bytes, (size_t)n));
}

#define TURN_UNTIL(cond)                                               \
    for (uint64_t give_up = clock_mono_ms() + PATIENCE_MS; !(cond);) { \
        assert_true(clock_mono_ms() < give_up);                        \
        loop_turn(loop, 4);                                            \
        if (listener >= 0)                                             \
            server_listens();                                          \
    }

static void turn_a_while(void)
{
    for (int i = 0; i < 5; i++) {
        loop_turn(loop, 0);
        server_listens();
    }
}

static void say(const char *text)
{
    assert_true(server >= 0);
    assert_int_equal(send(server, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Exactly this, and nothing behind it. */
static void hear(const char *text)
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

static void tells(const char *expected)
{
    buf_append_char(&story, '\0');
    assert_string_equal(story.data, expected);
    buf_clear(&story);
}

/* --- around each test ------------------------------------------------------------------------- */

static int setup(void **state)
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
    buf_init(&story, (size_t)1 << 20);
    listen_on_path();
    return 0;
}

static void close_link(void)
{
    link_close(lnk);
}

static int teardown(void **state)
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

static void make_link(enum link_kind kind)
{
    struct link_options o = {
        .kind = kind, .endpoint = &endpoint, .redis = &options, .ops = &ops, .ctx = &story};

    assert_int_equal(link_new(loop, &o, &lnk), ERR_OK);
}

static void open_link(enum link_kind kind)
{
    make_link(kind);
    link_open(lnk);
}

/* A command link that is up, or is again. */
static void come_up(void)
{
    unsigned before = ups;

    if (!lnk)
        open_link(LINK_COMMANDS);
    hear(NAME);
    say("+OK\r\n");
    TURN_UNTIL(ups > before);
}

static void subscribe_up(void)
{
    open_link(LINK_SUBSCRIBE);
    hear("*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$15\r\ncrier-subscribe\r\n");
    say("+OK\r\n");
    TURN_UNTIL(ups == 1);
    tells("up;");
}

/* --- greeting --------------------------------------------------------------------------------- */

static void test_the_whole_greeting_step_by_step(void **state)
{
    struct redis_script a = {.text = "return 1"}, b = {.text = "return 2"};
    struct redis_script *const scripts[] = {&a, &b};

    (void)state;
    endpoint.user = (char *)"bob";
    endpoint.password = (char *)"s3cret";
    endpoint.db = 12;
    options.scripts = scripts;
    options.n_scripts = 2;
    open_link(LINK_COMMANDS);
    hear("*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$6\r\ns3cret\r\n");
    say("+O");
    turn_a_while();
    say("K\r\n");
    hear("*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n");
    say("+OK\r\n");
    hear(NAME);
    say("+OK\r\n");
    hear("*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$8\r\nreturn 1\r\n");
    say("$40\r\n0123456789012345678901234567890123456789\r\n");
    hear("*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$8\r\nreturn 2\r\n");
    assert_int_equal(ups, 0);
    assert_false(link_is_up(lnk));
    say("$40\r\n0123456789012345678901234567890123456789\r\n");
    TURN_UNTIL(ups);
    assert_true(link_is_up(lnk));
    tells("up;");
}

static void test_the_shortest_greeting(void **state)
{
    (void)state;
    come_up();
    tells("up;");
    turn_a_while();
    assert_int_equal(heard.len, 0);
}

static void test_a_subscribe_link_loads_no_scripts(void **state)
{
    struct redis_script a = {.text = "return 1"};
    struct redis_script *const scripts[] = {&a};

    (void)state;
    options.scripts = scripts;
    options.n_scripts = 1;
    subscribe_up();
}

static void test_a_password_alone_and_a_user_alone(void **state)
{
    (void)state;
    endpoint.password = (char *)"s3cret";
    open_link(LINK_COMMANDS);
    hear("*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n");
    link_close(lnk);
    loop_turn(loop, 0);
    server_close();
    endpoint.password = NULL;
    endpoint.user = (char *)"bob";
    open_link(LINK_COMMANDS);
    hear("*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$0\r\n\r\n");
}

static void refuse_greeting(const char *answer, const char *expected)
{
    unsigned before = downs;

    TURN_UNTIL(heard.len > 0);
    buf_clear(&heard);
    say(answer);
    TURN_UNTIL(downs > before);
    tells(expected);
    server_close();
}

static void test_a_refused_login_says_why(void **state)
{
    (void)state;
    endpoint.password = (char *)"s3cret";
    open_link(LINK_COMMANDS);
    refuse_greeting("-WRONGPASS invalid username-password pair or user is disabled.\r\n",
                    "down AUTH: WRONGPASS invalid username-password pair or user is disabled.;");
    refuse_greeting(":1\r\n", "down AUTH: an answer that is none;");
    refuse_greeting("-\r\n", "down AUTH: ;");
    refuse_greeting("-ERR a\001b\r\n", "down AUTH: ERR a?b;");
}

/* Redis repeats arguments it does not know, and cuts long ones: any part of them may be a secret.
 */
static void test_a_refused_login_never_shows_the_password(void **state)
{
    (void)state;
    endpoint.password = (char *)"s3cret";
    open_link(LINK_COMMANDS);
    refuse_greeting("-ERR unknown command `AUTH`, with args beginning with: `s3cr`\r\n",
                    "down AUTH: ERR unknown command `AUTH`;");
    refuse_greeting("-ERR s3cret is wrong\r\n", "down AUTH: an error that repeats the password;");
}

static void test_refused_later(void **state)
{
    struct redis_script a = {.text = "return 1"};
    struct redis_script *const scripts[] = {&a};

    (void)state;
    endpoint.db = 99;
    options.scripts = scripts;
    options.n_scripts = 1;
    open_link(LINK_COMMANDS);
    refuse_greeting("-ERR DB index is out of range\r\n",
                    "down SELECT: ERR DB index is out of range;");
    TURN_UNTIL(heard.len > 0);
    say("+OK\r\n");
    hear("*2\r\n$6\r\nSELECT\r\n$2\r\n99\r\n" NAME);
    say("+OK\r\n");
    refuse_greeting("-LOADING Redis is loading the dataset in memory\r\n",
                    "down SCRIPT LOAD: LOADING Redis is loading the dataset in memory;");
}

static void test_a_server_that_takes_no_name(void **state)
{
    static const char *const answers[] = {"-ERR unknown subcommand 'SETNAME'\r\n",
                                          "-NOPERM no permissions\r\n", "+OK\r\n"};

    (void)state;
    open_link(LINK_COMMANDS);
    for (unsigned i = 0; i < 3; i++) {
        hear(NAME);
        say(answers[i]);
        TURN_UNTIL(ups == i + 1);
        server_close();
        TURN_UNTIL(downs == i + 1);
        tells("up;down closed the connection;");
    }
}

static void test_a_server_that_does_not_want_us(void **state)
{
    (void)state;
    open_link(LINK_COMMANDS);
    refuse_greeting("-NOAUTH Authentication required.\r\n",
                    "down CLIENT SETNAME: NOAUTH Authentication required.;");
    refuse_greeting("-ERR max number of clients reached\r\n",
                    "down CLIENT SETNAME: ERR max number of clients reached;");
    refuse_greeting("-DENIED Redis is running in protected mode\r\n",
                    "down CLIENT SETNAME: DENIED Redis is running in protected mode;");
}

static void test_answers_to_what_was_not_said_yet(void **state)
{
    (void)state;
    endpoint.password = (char *)"s3cret";
    open_link(LINK_COMMANDS);
    refuse_greeting("+OK\r\n+OK\r\n", "down an answer without a request;");
    refuse_greeting("+OK\r\n-ERR bye\r\n", "down says: ERR bye;");
}

static void test_no_greeting_in_time(void **state)
{
    (void)state;
    options.connect_timeout_ms = STALL_MS;
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down no answer to the greeting: timed out after 60 ms;");
}

/* --- commands --------------------------------------------------------------------------------- */

static void test_commands_go_together_and_answers_come_in_order(void **state)
{
    struct request m[3] = {{.then = NULL}};

    (void)state;
    come_up();
    assert_int_equal(link_oldest_ms(lnk), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&m[i], i, (const char *[]){"a", "b", "c"}[i]), ERR_OK);
    assert_int_equal(link_oldest_ms(lnk), loop_now_ms(loop));
    server_listens();
    assert_int_equal(heard.len, 0); /* not before the end of the turn */
    loop_turn(loop, 0);
    server_listens();
    hear(ECHO_("a") ECHO_("b") ECHO_("c"));
    say("$1\r\na\r\n-ERR n");
    turn_a_while();
    tells("up;0 ok a;");
    say("o\r\n$1\r\nc\r\n");
    TURN_UNTIL(m[2].answered);
    tells("1 ok ERR no;2 ok c;");
    assert_int_equal(link_oldest_ms(lnk), 0);
}

static struct request chained;

static void ask_again(void)
{
    if (chained.number < 3)
        assert_int_equal(ask(&chained, chained.number + 1, "x"), ERR_OK);
}

static void test_a_request_from_the_answer_to_another(void **state)
{
    (void)state;
    come_up();
    chained = (struct request){.then = ask_again};
    assert_int_equal(ask(&chained, 1, "x"), ERR_OK);
    for (int i = 0; i < 3; i++) {
        hear(ECHO_("x"));
        say("+x\r\n");
        turn_a_while();
    }
    tells("up;1 ok x;2 ok x;3 ok x;");
}

static void test_as_much_as_may_be_pending(void **state)
{
    static char big[MAX_PENDING];
    struct request m[3] = {{.then = NULL}};

    (void)state;
    memset(big, 'x', sizeof big);
    come_up();
    assert_int_equal(ask(&m[0], 0, "a"), ERR_OK);
    size_t each = m[0].q.bytes;
    assert_int_equal(each, strlen(ECHO_("a")));
    big[MAX_PENDING - 3 * each - 3] = '\0'; /* its length has five digits */
    assert_int_equal(ask(&m[1], 1, big), ERR_OK);
    assert_int_equal(m[1].q.bytes, MAX_PENDING - 2 * each);
    assert_int_equal(ask(&m[2], 2, "b"), ERR_OK);
    assert_int_equal(ask(&chained, 3, "c"), ERR_LIMIT);
    TURN_UNTIL(heard.len == MAX_PENDING);
    assert_int_equal(ask(&chained, 3, "c"), ERR_LIMIT); /* written, but not answered */
    say("+a\r\n");
    TURN_UNTIL(m[0].answered);
    chained.then = NULL;
    assert_int_equal(ask(&chained, 3, "c"), ERR_OK);
    buf_clear(&heard);
    hear(ECHO_("c"));
    say("+a\r\n+b\r\n+c\r\n");
    TURN_UNTIL(chained.answered);
    tells("up;0 ok a;1 ok a;2 ok b;3 ok c;");
}

/* More than a socket takes: the rest waits for the server, and nothing is lost or swapped. */
static void test_a_server_that_reads_slowly(void **state)
{
    enum { N = 60, BYTES = 50000 };
    static struct request m[N];
    static char text[BYTES + 1];
    struct buf sent;

    (void)state;
    options.max_pending_bytes = (size_t)16 << 20;
    come_up();
    buf_init(&sent, (size_t)16 << 20);
    for (int i = 0; i < N; i++) {
        memset(text, 'a' + i % 26, BYTES);
        assert_int_equal(ask(&m[i], i, text), ERR_OK);
        command_append(&sent, (struct slice[]){SLICE("ECHO"), slice_str(text)}, 2);
        if (i % 7 == 0)
            loop_turn(loop, 0); /* full soon: the server does not listen here */
    }
    TURN_UNTIL(heard.len >= sent.len);
    assert_true(slice_eq(buf_slice(&heard), buf_slice(&sent)));
    for (int i = 0; i < N; i++)
        say("+\r\n");
    TURN_UNTIL(m[N - 1].answered);
    assert_int_equal(downs, 0);
    buf_release(&sent);
}

/* --- what ends a connection ------------------------------------------------------------------- */

static void test_a_lost_connection_comes_back(void **state)
{
    struct request m[2] = {{.then = NULL}};

    (void)state;
    come_up();
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask(&m[i], i, "x"), ERR_OK);
    hear(ECHO_("x") ECHO_("x"));
    server_close();
    TURN_UNTIL(downs);
    tells("up;0 unavailable;1 unavailable;down closed the connection;");
    assert_int_equal(link_oldest_ms(lnk), 0);
    come_up();
    assert_int_equal(ask(&m[0], 7, "y"), ERR_OK);
    hear(ECHO_("y"));
    say("+y\r\n");
    TURN_UNTIL(m[0].answered);
    tells("up;7 ok y;");
}

static void test_a_server_that_is_not_there_yet(void **state)
{
    (void)state;
    stop_listening();
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs == 3);
    tells("down connect: No such file or directory;down connect: No such file or directory;"
          "down connect: No such file or directory;");
    listen_on_path();
    come_up();
    tells("up;");
}

static void lose_by(const char *text, bool close_then, const char *expected)
{
    struct request m = {.then = NULL};
    unsigned before = downs;

    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    hear(ECHO_("x"));
    if (text)
        say(text);
    if (close_then)
        server_close();
    TURN_UNTIL(downs > before);
    tells(expected);
    server_close();
}

static void test_what_a_server_must_not_say(void **state)
{
    (void)state;
    lose_by("HTTP/1.1 400 Bad Request\r\n", false,
            "up;0 unavailable;down what it says is not RESP;");
    lose_by("*2000000\r\n", false, "up;0 unavailable;down a reply is larger than is allowed;");
    lose_by("+OK\r\n+OK\r\n", false, "up;0 ok OK;down an answer without a request;");
    lose_by("+OK\r\n-ERR idle\r\n", false, "up;0 ok OK;down says: ERR idle;");
    lose_by("$10\r\nabc", true,
            "up;0 unavailable;down closed the connection in the middle of a reply;");
    lose_by(NULL, true, "up;0 unavailable;down closed the connection;");
}

static void test_a_reply_that_is_too_large(void **state)
{
    struct request m = {.then = NULL};
    char text[5000];

    (void)state;
    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    hear(ECHO_("x"));
    memset(text, 'x', sizeof text);
    memcpy(text, "$9999\r\n", 7);
    text[sizeof text - 1] = '\0';
    say(text);
    TURN_UNTIL(downs);
    tells("up;0 unavailable;down a reply is larger than is allowed;");
}

/* A whole command fills the socket; the answer cannot be its. */
static void test_an_answer_before_the_question(void **state)
{
    static char text[(size_t)4 << 20];
    struct request m = {.then = NULL};

    (void)state;
    memset(text, 'x', sizeof text - 1);
    options.max_pending_bytes = sizeof text * 2;
    come_up();
    assert_int_equal(ask(&m, 0, text), ERR_OK);
    loop_turn(loop, 0);
    say("+early\r\n");
    loop_turn(loop, 0);
    tells("up;0 unavailable;down an answer without a request;");
}

static struct loop_hook meddler;

static bool say_bye(struct loop_hook *h)
{
    say("-ERR bye\r\n");
    server_close();
    loop_remove_hook(loop, h);
    return false;
}

/* Between our read and our write the server says why it leaves: the failed write must not hide
 * it. */
static void test_last_words_are_read_after_a_failed_write(void **state)
{
    struct request m = {.then = NULL};

    (void)state;
    come_up();
    meddler = (struct loop_hook){.run = say_bye};
    loop_add_hook(loop, &meddler);
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    TURN_UNTIL(downs);
    tells("up;0 unavailable;down says: ERR bye;");
}

/* --- stalls ----------------------------------------------------------------------------------- */

static void test_no_answer_in_time(void **state)
{
    struct request m[2] = {{.then = NULL}};

    (void)state;
    options.command_timeout_ms = STALL_MS;
    come_up();
    assert_int_equal(ask(&m[0], 0, "x"), ERR_OK);
    assert_int_equal(ask(&m[1], 1, "x"), ERR_OK);
    TURN_UNTIL(downs);
    buf_append_char(&story, '\0');
    assert_non_null(strstr(story.data, "up;0 unavailable;1 unavailable;down no answer after "));
}

static void test_half_an_answer(void **state)
{
    struct request m = {.then = NULL};

    (void)state;
    options.command_timeout_ms = STALL_MS;
    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    hear(ECHO_("x"));
    say("$10\r\nab");
    TURN_UNTIL(downs);
    buf_append_char(&story, '\0');
    assert_non_null(strstr(story.data, "up;0 unavailable;down no whole answer after "));
}

/* There is always a request on its way, and each is answered in time. */
static void test_a_busy_link_does_not_time_out(void **state)
{
    struct request m[2] = {{.then = NULL}};
    uint64_t start;

    (void)state;
    options.command_timeout_ms = STALL_MS;
    come_up();
    start = loop_now_ms(loop);
    assert_int_equal(ask(&m[0], 0, "x"), ERR_OK);
    for (unsigned i = 1; loop_now_ms(loop) < start + 5 * STALL_MS; i++) {
        struct request *last = &m[(i - 1) % 2];
        assert_int_equal(ask(&m[i % 2], 0, "x"), ERR_OK);
        loop_turn(loop, 0); /* it is written */
        say("+x\r\n");
        TURN_UNTIL(last->answered);
        assert_int_not_equal(link_oldest_ms(lnk), 0);
    }
    assert_int_equal(downs, 0);
    link_close(lnk); /* the last request is ours */
}

static void ignore_event(struct io_watch *w, uint32_t events)
{
    (void)w;
    (void)events;
}

/* The answer is here, but so much else is that this turn does not come to it: then the time is over
 * and the server is not to blame. */
static void test_an_answer_that_we_did_not_read_in_time(void **state)
{
    enum { N = 600 };
    static struct io_watch busy[N];
    struct request m = {.then = NULL};

    (void)state;
    options.command_timeout_ms = STALL_MS;
    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    hear(ECHO_("x"));
    for (int i = 0; i < N; i++) {
        busy[i] = (struct io_watch){.fd = eventfd(1, EFD_CLOEXEC), .ready = ignore_event};
        assert_int_equal(loop_watch(loop, &busy[i], EPOLLIN), ERR_OK);
    }
    say("+x\r\n");
    uint64_t late = m.q.sent_ms + 2 * STALL_MS;
    while (clock_mono_ms() < late)
        sched_yield();
    loop_turn(loop, 0);
    tells("up;0 ok x;");
    for (int i = 0; i < N; i++) {
        loop_unwatch(loop, &busy[i]);
        close(busy[i].fd);
    }
}

/* --- subscribe links -------------------------------------------------------------------------- */

static void test_everything_is_pushed(void **state)
{
    (void)state;
    subscribe_up();
    say("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
        "-ERR only SUBSCRIBE\r\n");
    TURN_UNTIL(pushes == 3);
    tells("push subscribe;push message;push ERR only SUBSCRIBE;");
}

static void test_commands_of_a_subscribe_link(void **state)
{
    static char big[MAX_PENDING];

    (void)state;
    subscribe_up();
    memset(big, 'x', sizeof big);
    assert_int_equal(link_send(lnk, NULL, (struct slice[]){SLICE("PING")}, 1), ERR_OK);
    assert_int_equal(link_send(lnk, NULL, &(struct slice){big, sizeof big - 10}, 1), ERR_LIMIT);
    hear("*1\r\n$4\r\nPING\r\n");
    /* Nobody answers them, so what is written does not count any more. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(link_send(lnk, NULL, &(struct slice){big, sizeof big - 100}, 1), ERR_OK);
        TURN_UNTIL(heard.len > sizeof big - 100);
        buf_clear(&heard);
    }
    assert_int_equal(downs, 0);
}

static void test_silence_is_fine_half_a_push_is_not(void **state)
{
    uint64_t start;

    (void)state;
    options.command_timeout_ms = STALL_MS;
    subscribe_up();
    assert_int_equal(link_send(lnk, NULL, (struct slice[]){SLICE("PING")}, 1), ERR_OK);
    start = loop_now_ms(loop);
    TURN_UNTIL(loop_now_ms(loop) >= start + 3 * STALL_MS);
    say("+PONG\r\n");
    TURN_UNTIL(pushes == 1);
    assert_int_equal(downs, 0);
    say("*3\r\n$7\r\nmess");
    TURN_UNTIL(downs);
    buf_append_char(&story, '\0');
    assert_non_null(strstr(story.data, "push PONG;down no whole answer after "));
}

/* A flood is read in parts, so that it does not keep the rest of the loop waiting. */
static void test_a_flood_is_read_in_parts(void **state)
{
    enum { READ_PER_TURN = 256 * 1024, ONE_READ = 16 * 1024 };
    static char block[(size_t)1 << 20];
    int room = sizeof block;
    size_t each = strlen("+x\r\n");

    (void)state;
    subscribe_up();
    for (size_t at = 0; at < sizeof block; at += each)
        memcpy(block + at, "+x\r\n", each);
    (void)setsockopt(server, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    ssize_t n = send(server, block, sizeof block, MSG_NOSIGNAL);
    assert_true(n > 0);
    unsigned all = (unsigned)((size_t)n / each);
    loop_turn(loop, 0);
    assert_true(pushes <= (READ_PER_TURN + ONE_READ) / each);
    TURN_UNTIL(pushes == all);
    assert_int_equal(downs, 0);
}

/* --- break, hurry, close ---------------------------------------------------------------------- */

static void break_link(void)
{
    link_break(lnk, "told to");
}

static void test_broken_in_every_state(void **state)
{
    struct request m = {.then = NULL};

    (void)state;
    make_link(LINK_COMMANDS);
    break_link(); /* nothing to break */
    link_hurry(lnk);
    link_open(lnk);
    break_link();
    loop_turn(loop, 0);
    tells("");
    TURN_UNTIL(heard.len > 0); /* greeting */
    break_link();
    tells("down told to;");
    break_link();
    tells("");
    server_close();
    buf_clear(&heard);
    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    break_link();
    tells("up;0 unavailable;down told to;");
    server_close();
    server_listens(); /* the command was not written */
    come_up();
    tells("up;");
}

static void test_broken_from_its_callbacks(void **state)
{
    struct request m[2] = {{.then = break_link}, {.then = NULL}};

    (void)state;
    on_up = break_link;
    on_down = break_link;
    open_link(LINK_COMMANDS);
    hear(NAME);
    say("+OK\r\n+never read\r\n");
    TURN_UNTIL(downs);
    tells("up;down told to;");
    on_up = NULL;
    server_close();
    come_up();
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask(&m[i], i, "x"), ERR_OK);
    hear(ECHO_("x") ECHO_("x"));
    say("+a\r\n+b\r\n");
    TURN_UNTIL(downs == 2);
    tells("up;0 ok a;1 unavailable;down told to;");
}

static void test_broken_from_a_push(void **state)
{
    (void)state;
    subscribe_up();
    on_push = break_link;
    say("+a\r\n+b\r\n");
    TURN_UNTIL(downs);
    tells("push a;down told to;");
}

/* Twenty waits of most of a second on average, were it not for the hurry. */
static void test_hurry(void **state)
{
    (void)state;
    stop_listening();
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs == 6);
    uint64_t start = clock_mono_ms();
    for (unsigned i = 7; i <= 26; i++) {
        link_hurry(lnk);
        TURN_UNTIL(downs == i);
    }
    assert_true(clock_mono_ms() - start < 5000);
}

static void hurry_link(void)
{
    link_hurry(lnk);
}

static void test_hurry_from_the_callbacks_of_a_loss(void **state)
{
    struct request m = {.then = hurry_link};

    (void)state;
    on_down = hurry_link;
    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    server_close();
    TURN_UNTIL(downs);
    buf_clear(&heard);
    TURN_UNTIL(heard.len > 0);
    link_hurry(lnk); /* not waiting: nothing happens */
    hear(NAME);
    tells("up;0 unavailable;down closed the connection;");
}

static void test_closed_in_every_state(void **state)
{
    struct request m[2] = {{.then = NULL}};

    (void)state;
    make_link(LINK_COMMANDS);
    link_close(lnk);
    open_link(LINK_COMMANDS);
    link_close(lnk);
    link_close(lnk);
    loop_turn(loop, 0);
    open_link(LINK_COMMANDS);
    TURN_UNTIL(heard.len > 0);
    link_close(lnk);
    loop_turn(loop, 0);
    server_close();
    buf_clear(&heard);
    lnk = NULL;
    come_up();
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask(&m[i], i, "x"), ERR_OK);
    link_close(lnk);
    assert_false(link_is_up(lnk));
    tells("up;0 closed;1 closed;");
    loop_turn(loop, 0);
    lnk = NULL;
}

static void test_closed_from_up(void **state)
{
    (void)state;
    on_up = close_link;
    open_link(LINK_COMMANDS);
    hear(NAME);
    say("+OK\r\n+more\r\n");
    TURN_UNTIL(ups);
    tells("up;");
    lnk = NULL;
}

static void test_closed_from_down(void **state)
{
    (void)state;
    on_down = close_link;
    come_up();
    server_close();
    TURN_UNTIL(downs);
    tells("up;down closed the connection;");
    lnk = NULL;
}

static void test_closed_from_a_push(void **state)
{
    (void)state;
    on_push = close_link;
    subscribe_up();
    say("+a\r\n+b\r\n");
    TURN_UNTIL(pushes);
    tells("push a;");
    lnk = NULL;
}

static void test_closed_from_an_answer(void **state)
{
    struct request m[3] = {{.then = close_link}, {.then = close_link}, {.then = close_link}};

    (void)state;
    come_up();
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&m[i], i, "x"), ERR_OK);
    hear(ECHO_("x") ECHO_("x") ECHO_("x"));
    say("+a\r\n+b\r\n");
    TURN_UNTIL(m[2].answered);
    tells("up;0 ok a;1 closed;2 closed;");
    lnk = NULL;
}

static void test_closed_while_a_loss_is_told(void **state)
{
    struct request m[3] = {{.then = NULL}, {.then = close_link}, {.then = close_link}};

    (void)state;
    come_up();
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&m[i], i, "x"), ERR_OK);
    server_close();
    TURN_UNTIL(m[2].answered);
    tells("up;0 unavailable;1 unavailable;2 closed;"); /* and no "down" */
    lnk = NULL;
}

/* --- TCP -------------------------------------------------------------------------------------- */

static void listen_tcp(const char *host)
{
    struct sock_addr a;
    size_t n;

    stop_listening();
    assert_int_equal(sock_resolve(host, 0, &a, 1, &n), ERR_OK);
    assert_int_equal(sock_listen(&a, 10, &listener), ERR_OK);
    endpoint = (struct redis_endpoint){.host = (char *)"localhost", .port = ntohs(a.v4.sin_port)};
}

static void talk_over_tcp(void)
{
    struct request m = {.then = NULL};

    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    hear(ECHO_("x"));
    say("+x\r\n");
    TURN_UNTIL(m.answered);
    server_close();
    TURN_UNTIL(downs);
    tells("up;0 ok x;down closed the connection;");
}

/* "localhost" has an address that nobody listens on, where there is IPv6. */
static void test_every_address_of_a_name_is_tried(void **state)
{
    struct sock_addr all[4];
    size_t n;

    (void)state;
    listen_tcp("127.0.0.1");
    talk_over_tcp();
    assert_int_equal(sock_resolve("localhost", 1, all, 4, &n), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        if (all[i].any.sa_family != AF_INET6)
            continue;
        link_close(lnk);
        lnk = NULL;
        downs = 0;
        listen_tcp("::1");
        talk_over_tcp();
    }
}

static void test_nobody_listens(void **state)
{
    (void)state;
    listen_tcp("127.0.0.1");
    stop_listening();
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down connect: Connection refused;");
}

/* The queue of a listener that accepts nobody is full: packets are swallowed, as by a firewall. */
static void test_connecting_takes_too_long(void **state)
{
    enum { N = 8 };
    struct sock_addr a;
    int queued[N];
    size_t n;

    (void)state;
    stop_listening();
    options.connect_timeout_ms = STALL_MS;
    assert_int_equal(sock_resolve("127.0.0.1", 0, &a, 1, &n), ERR_OK);
    int full;
    assert_int_equal(sock_listen(&a, 0, &full), ERR_OK);
    for (int i = 0; i < N; i++) {
        queued[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(queued[i], &a.any, a.len);
    }
    endpoint = (struct redis_endpoint){.host = (char *)"127.0.0.1", .port = ntohs(a.v4.sin_port)};
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down connecting: timed out after 60 ms;");
    for (int i = 0; i < N; i++)
        close(queued[i]);
    close(full);
}

#define link_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        link_test(test_the_whole_greeting_step_by_step),
        link_test(test_the_shortest_greeting),
        link_test(test_a_subscribe_link_loads_no_scripts),
        link_test(test_a_password_alone_and_a_user_alone),
        link_test(test_a_refused_login_says_why),
        link_test(test_a_refused_login_never_shows_the_password),
        link_test(test_refused_later),
        link_test(test_a_server_that_takes_no_name),
        link_test(test_a_server_that_does_not_want_us),
        link_test(test_answers_to_what_was_not_said_yet),
        link_test(test_no_greeting_in_time),
        link_test(test_commands_go_together_and_answers_come_in_order),
        link_test(test_a_request_from_the_answer_to_another),
        link_test(test_as_much_as_may_be_pending),
        link_test(test_a_server_that_reads_slowly),
        link_test(test_a_lost_connection_comes_back),
        link_test(test_a_server_that_is_not_there_yet),
        link_test(test_what_a_server_must_not_say),
        link_test(test_a_reply_that_is_too_large),
        link_test(test_an_answer_before_the_question),
        link_test(test_last_words_are_read_after_a_failed_write),
        link_test(test_no_answer_in_time),
        link_test(test_half_an_answer),
        link_test(test_a_busy_link_does_not_time_out),
        link_test(test_an_answer_that_we_did_not_read_in_time),
        link_test(test_everything_is_pushed),
        link_test(test_commands_of_a_subscribe_link),
        link_test(test_silence_is_fine_half_a_push_is_not),
        link_test(test_a_flood_is_read_in_parts),
        link_test(test_broken_in_every_state),
        link_test(test_broken_from_its_callbacks),
        link_test(test_broken_from_a_push),
        link_test(test_hurry),
        link_test(test_hurry_from_the_callbacks_of_a_loss),
        link_test(test_closed_in_every_state),
        link_test(test_closed_from_up),
        link_test(test_closed_from_down),
        link_test(test_closed_from_a_push),
        link_test(test_closed_from_an_answer),
        link_test(test_closed_while_a_loss_is_told),
        link_test(test_every_address_of_a_name_is_tried),
        link_test(test_nobody_listens),
        link_test(test_connecting_takes_too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
