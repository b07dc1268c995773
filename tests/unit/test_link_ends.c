/* test_link_ends.c - how a link is lost and comes back, how it is broken, hurried and closed from
 * anywhere.
 */
#include "link_fixture.h"

#include "crier/clock.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

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

static char logged[8192];
static int log_fd, real_stderr;

static void log_to_file(void)
{
    log_set_level(LOG_INFO);
    log_fd = memfd_create("log", MFD_CLOEXEC);
    real_stderr = dup(STDERR_FILENO);
    assert_true(log_fd >= 0 && real_stderr >= 0);
    assert_int_equal(dup2(log_fd, STDERR_FILENO), STDERR_FILENO);
}

static void read_log(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    log_set_level(LOG_ERROR);
    ssize_t n = pread(log_fd, logged, sizeof logged - 1, 0);
    assert_true(n >= 0);
    logged[n] = '\0';
    close(log_fd);
}

static unsigned count_in_log(const char *words)
{
    unsigned n = 0;

    for (const char *at = logged; (at = strstr(at, words)); at++)
        n++;
    return n;
}

/* The same trouble again and again is one line; a link that was up is always worth one. */
static void test_what_is_logged(void **state)
{
    char expected[200];

    (void)state;
    endpoint.user = (char *)"bob";
    endpoint.password = (char *)"s3cret";
    log_to_file();
    open_link(LINK_COMMANDS);
    for (unsigned i = 1; i <= 3; i++) {
        TURN_UNTIL(heard.len > 0);
        buf_clear(&heard);
        say("-WRONGPASS \"bob\" unknown\r\n");
        TURN_UNTIL(downs == i);
        server_close();
    }
    for (unsigned i = 1; i <= 2; i++) {
        TURN_UNTIL(heard.len > 0);
        buf_clear(&heard);
        say("+OK\r\n");
        hear(NAME);
        say("+OK\r\n");
        TURN_UNTIL(ups == i);
        server_close();
        TURN_UNTIL(downs == 3 + i);
    }
    read_log();
    snprintf(expected, sizeof expected,
             "level=warn event=redis_link_down endpoint=\"%s\" kind=commands "
             "why=\"AUTH: WRONGPASS \\\"bob\\\" unknown\"\n",
             path);
    assert_int_equal(count_in_log(expected), 1);
    snprintf(expected, sizeof expected,
             "level=info event=redis_link_up endpoint=\"%s\" kind=commands\n", path);
    assert_int_equal(count_in_log(expected), 2);
    assert_int_equal(count_in_log("why=\"closed the connection\""), 2);
    assert_int_equal(count_in_log("\n"), 5);
    assert_int_equal(count_in_log("s3cret"), 0);
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
    /* Longer than this thread may have to wait for a busy machine. */
    enum { TIMEOUT_MS = 2000 };
    struct request m[2] = {{.then = NULL}};
    uint64_t start;

    (void)state;
    options.command_timeout_ms = TIMEOUT_MS;
    come_up();
    start = loop_now_ms(loop);
    assert_int_equal(ask(&m[0], 0, "x"), ERR_OK);
    for (unsigned i = 1; loop_now_ms(loop) < start + TIMEOUT_MS + TIMEOUT_MS / 4; i++) {
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        link_test(test_a_lost_connection_comes_back),
        link_test(test_a_server_that_is_not_there_yet),
        link_test(test_what_a_server_must_not_say),
        link_test(test_a_reply_that_is_too_large),
        link_test(test_an_answer_before_the_question),
        link_test(test_last_words_are_read_after_a_failed_write),
        link_test(test_what_is_logged),
        link_test(test_no_answer_in_time),
        link_test(test_half_an_answer),
        link_test(test_a_busy_link_does_not_time_out),
        link_test(test_an_answer_that_we_did_not_read_in_time),
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
