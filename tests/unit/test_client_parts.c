/* test_client_parts.c - the parts of the client commands that need no server. */
#include "../../src/app/client_args.h"
#include "../../src/app/client_follow.h"
#include "../../src/app/client_handshake.h"
#include "../../src/app/client_http.h"
#include "../../src/app/client_problem.h"
#include "../../src/app/client_url.h"
#include "crier/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Arguments */

enum { URL, KEY, N_OPTIONS };
static const struct args_option options[N_OPTIONS] = {{"url", "URL", "where"}, {"key", "KEY", ""}};
static const char *value[N_OPTIONS];
static struct args args;

static enum err parse(const char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    return args_parse(&args, options, N_OPTIONS, value, argc, (char **)argv);
}
#define PARSE(...) parse((const char *[]){"publish", __VA_ARGS__, NULL})

static void arguments_and_options_in_any_order(void **state)
{
    (void)state;
    assert_int_equal(PARSE("chan", "--url", "u", "msg", "--key=a=b"), ERR_OK);
    assert_int_equal(args.n_positional, 2);
    assert_string_equal(args.positional[0], "chan");
    assert_string_equal(args.positional[1], "msg");
    assert_string_equal(value[URL], "u");
    assert_string_equal(value[KEY], "a=b");
    assert_int_equal(PARSE("-", "--", "--url", "-x"), ERR_OK);
    assert_int_equal(args.n_positional, 3);
    assert_string_equal(args.positional[0], "-");
    assert_string_equal(args.positional[1], "--url");
    assert_string_equal(args.positional[2], "-x");
    assert_null(value[URL]);
}

static void bad_options_are_named(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--ulr", "x"), ERR_SYNTAX);
    assert_string_equal(args.error, "--ulr: there is no such option");
    assert_int_equal(PARSE("a", "--url"), ERR_SYNTAX);
    assert_string_equal(args.error, "--url: found nothing after it, expected URL");
    assert_int_equal(PARSE("-u", "x"), ERR_SYNTAX);
}

/* Addresses */

static void base(const char *option, const char *expected)
{
    struct buf b;
    buf_init(&b, CLIENT_BASE_URL_MAX_BYTES);
    enum err e = client_base_url(option, &b);
    buf_append_char(&b, 0);
    if (expected) {
        assert_int_equal(e, ERR_OK);
        assert_string_equal(b.data, expected);
    } else {
        assert_int_equal(e, ERR_SYNTAX);
    }
    buf_release(&b);
}

static void the_server_is_found_from_flag_then_environment(void **state)
{
    (void)state;
    unsetenv("CRIER_URL");
    unsetenv("CRIER_PORT");
    unsetenv("PORT");
    base(NULL, "http://localhost:8080");
    setenv("PORT", "3000", 1);
    base(NULL, "http://localhost:3000");
    setenv("CRIER_PORT", "tcp://10.0.0.1:80", 1); /* Kubernetes */
    base(NULL, "http://localhost:3000");
    setenv("CRIER_PORT", "3001", 1);
    base(NULL, "http://localhost:3001");
    setenv("CRIER_URL", "https://push.example.com/", 1);
    base(NULL, "https://push.example.com");
    base("http://other/prefix//", "http://other/prefix");
    base("other:80", NULL);
    base("ws://other", NULL);
    base("http://other?x=1", NULL);
    unsetenv("CRIER_URL");
    unsetenv("CRIER_PORT");
    unsetenv("PORT");
}

static void urls_are_split_as_the_host_header_wants_them(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"http://localhost:8080/ws?channel=a%20b", "localhost:8080", "/ws?channel=a%20b"},
        {"https://push.example.com/p/ws", "push.example.com", "/p/ws"},
        {"http://[::1]:80/ws", "[::1]:80", "/ws"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *host, *target;
        assert_int_equal(http_url_split(cases[i][0], &host, &target), ERR_OK);
        assert_string_equal(host, cases[i][1]);
        assert_string_equal(target, cases[i][2]);
        free(host);
        free(target);
    }
}

/* Following */

static struct follow f;

static void url_is(const char *expected)
{
    char *url = follow_url(&f, "/events", "format", "json");
    assert_string_equal(url, expected);
    free(url);
}

static void history_is_asked_for_once_and_then_the_cursor(void **state)
{
    (void)state;
    char *channels[] = {(char *)"a/b", (char *)"c"};
    follow_init(&f, channels, 2, NULL);
    f.base_url = "http://h";
    url_is("http://h/events?channel=a%2Fb&channel=c&format=json");
    f.history = "5";
    url_is("http://h/events?channel=a%2Fb&channel=c&history=5&format=json");
    follow_set_cursor(&f, SLICE("C~1"));
    url_is("http://h/events?channel=a%2Fb&channel=c&since=C~1&format=json");
    follow_set_cursor(&f, SLICE("")); /* no cursor is no news */
    url_is("http://h/events?channel=a%2Fb&channel=c&since=C~1&format=json");
    follow_release(&f);
}

static void cursors_of_channels_are_joined_in_the_order_of_the_request(void **state)
{
    (void)state;
    char *channels[] = {(char *)"a", (char *)"b"};
    follow_init(&f, channels, 2, "given");
    assert_string_equal(f.cursor, "given");
    follow_set_channel_cursor(&f, SLICE("{\"channel\":\"b\",\"cursor\":\"B1\"}"), true);
    assert_string_equal(f.cursor, "B1");
    follow_set_channel_cursor(&f, SLICE("{\"channel\":\"a\",\"cursor\":\"A1\"}"), true);
    assert_string_equal(f.cursor, "A1~B1");
    follow_set_channel_cursor(&f, SLICE("{\"channel\":\"b\",\"id\":\"B2\",\"data\":1}"), false);
    assert_string_equal(f.cursor, "A1~B2");
    follow_set_channel_cursor(&f, SLICE("{\"channel\":\"b\",\"cursor\":\"B0\"}"), true);
    follow_set_channel_cursor(&f, SLICE("{\"channel\":\"other\",\"id\":\"X\"}"), false);
    assert_string_equal(f.cursor, "A1~B2");
    follow_release(&f);
}

/* What follow_message prints, through a file in place of stdout. */
static void prints(bool json, const char *envelope, const char *expected)
{
    char line[256] = "";
    char *channels[] = {(char *)"a"};
    FILE *file = tmpfile();
    int saved = dup(1);
    assert_non_null(file);
    fflush(stdout);
    dup2(fileno(file), 1);
    follow_init(&f, channels, 1, NULL);
    f.json = json;
    f.remaining = 2;
    bool first = follow_message(&f, slice_str(envelope));
    bool second = follow_message(&f, slice_str(envelope));
    follow_release(&f);
    dup2(saved, 1);
    close(saved);
    rewind(file);
    size_t n = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    assert_true(first);
    assert_false(second);
    assert_int_equal(n, 2 * strlen(expected));
    assert_memory_equal(line, expected, strlen(expected));
}

static void one_message_is_one_line(void **state)
{
    (void)state;
    prints(false, "{\"channel\":\"a\",\"data\":\"h\\u00e9 \\\"x\\\"\"}", "h\xc3\xa9 \"x\"\n");
    prints(false, "{\"channel\":\"a\",\"data\":{\"a\":\n [1, 2]}}", "{\"a\":  [1, 2]}\n");
    prints(false, "{\"channel\":\"a\",\"data\":null}", "null\n");
    prints(true, "{\"channel\":\"a\",\"data\":{\n}}", "{\"channel\":\"a\",\"data\":{ }}\n");
}

static void statuses_worth_another_try(void **state)
{
    (void)state;
    assert_true(client_is_permanent(400));
    assert_true(client_is_permanent(403));
    assert_true(client_is_permanent(301));
    assert_false(client_is_permanent(429));
    assert_false(client_is_permanent(503));
}

/* Handshake */

static void heads_are_read(void **state)
{
    (void)state;
    struct slice head = SLICE("HTTP/1.1 101 Switching Protocols\r\nUPGRADE: websocket\r\n"
                              "Content-Length:  12 \r\nX: first\r\nx: second\r\n\r\n");
    assert_int_equal(client_head_status(head), 101);
    assert_true(slice_eq(client_head_value(head, SLICE("Upgrade")), SLICE("websocket")));
    assert_true(slice_eq(client_head_value(head, SLICE("content-length")), SLICE("12")));
    assert_true(slice_eq(client_head_value(head, SLICE("X")), SLICE("first")));
    assert_int_equal(client_head_value(head, SLICE("Y")).len, 0);
    assert_int_equal(client_head_status(SLICE("SSH-2.0-OpenSSH_9.2\r\n\r\n")), 0);
    assert_int_equal(client_head_status(SLICE("HTTP/1.1 abc\r\n\r\n")), 0);
    assert_int_equal(client_head_status(SLICE("HTTP/1.1 10")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_and_options_in_any_order),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(the_server_is_found_from_flag_then_environment),
        cmocka_unit_test(urls_are_split_as_the_host_header_wants_them),
        cmocka_unit_test(history_is_asked_for_once_and_then_the_cursor),
        cmocka_unit_test(cursors_of_channels_are_joined_in_the_order_of_the_request),
        cmocka_unit_test(one_message_is_one_line),
        cmocka_unit_test(statuses_worth_another_try),
        cmocka_unit_test(heads_are_read),
    };
    json_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
