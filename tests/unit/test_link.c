/* test_link.c - a link to a server that behaves: how it is greeted, how commands and answers go,
 * what a subscribe link does.
 */
#include "link_fixture.h"

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
        link_test(test_everything_is_pushed),
        link_test(test_commands_of_a_subscribe_link),
        link_test(test_silence_is_fine_half_a_push_is_not),
        link_test(test_a_flood_is_read_in_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
