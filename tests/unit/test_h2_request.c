/* test_h2_request.c - which header fields make a request. */
#include "../../src/transport/h2_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct h2_request req;
static struct h2_target target;
static int status;

/* "name=value" per line; the first '=' divides. */
static const char *check(const char *fields)
{
    struct slice rest = slice_str(fields), line, name;
    h2_request_init(&req, 4096);
    while (slice_split(&rest, '\n', &line)) {
        (void)slice_split(&line, '=', &name);
        assert_true(h2_request_add(&req, name, line));
    }
    return h2_request_check(&req, &target, &status);
}

static void good(const char *fields)
{
    const char *why = check(fields);
    if (why)
        print_error("refused (%s): %s\n", why, fields);
    assert_null(why);
    h2_request_release(&req);
}

static void bad(int want, const char *fields)
{
    const char *why = check(fields);
    if (!why)
        print_error("taken: %s\n", fields);
    assert_non_null(why);
    assert_int_equal(status, want);
    h2_request_release(&req);
}

#define REST ":scheme=http\n:authority=h:80"

static void honest_requests_are_taken_apart(void **state)
{
    (void)state;
    assert_null(check(":method=GET\n:path=/a?b=c?d\n" REST "\naccept=*/*"));
    assert_int_equal(target.method, HTTP_GET);
    assert_true(slice_eq(target.path, SLICE("/a")));
    assert_true(slice_eq(target.query, SLICE("b=c?d")));
    assert_false(target.takes_body || target.websocket);
    assert_true(slice_eq(h2_request_get(&req, "Accept"), SLICE("*/*")));
    assert_null(h2_request_get(&req, "cookie").ptr);
    h2_request_release(&req);
    assert_null(check(":method=POST\n:path=/p\n" REST "\ncontent-length=12"));
    assert_int_equal(target.method, HTTP_POST);
    assert_true(target.takes_body);
    assert_int_equal(target.content_length, 12);
    h2_request_release(&req);
    good(":method=GET\n:path=/\n:scheme=https\nhost=h");
    good(":method=GET\n:path=/\n" REST "\nhost=H:80");
    good(":method=OPTIONS\n:path=*\n" REST);
    good(":method=M-SEARCH\n:path=/\n" REST);
    good(":method=GET\n:path=/\n" REST "\ncookie=a=b\ncookie=c=d");
    good(":method=GET\n:path=/\n" REST "\ncontent-length=0");
}

static void a_websocket_is_a_get_with_a_stream(void **state)
{
    (void)state;
    assert_null(check(":method=CONNECT\n:protocol=websocket\n:path=/ws?channel=a\n" REST));
    assert_true(target.websocket);
    assert_int_equal(target.method, HTTP_GET);
    assert_true(slice_eq(target.path, SLICE("/ws")));
    h2_request_release(&req);
    bad(501, ":method=CONNECT\n:protocol=connect-udp\n:path=/\n" REST);
    bad(501, ":method=CONNECT\n:authority=h:80");
    bad(400, ":method=CONNECT\n:protocol=websocket\n:path=/ws\n:scheme=http");
}

static void what_http1_would_refuse_is_refused(void **state)
{
    (void)state;
    bad(400, ":method=G T\n:path=/\n" REST);
    bad(400, ":method=GET\n:path=x\n" REST);
    bad(400, ":method=GET\n:path=\n" REST);
    bad(400, ":method=GET\n:path=*\n" REST);
    bad(400, ":method=GET\n:path=http://h/\n" REST);
    bad(400, ":method=GET\n:path=/a b\n" REST);
    bad(400, ":method=GET\n:path=/a\tb\n" REST);
    bad(400, ":method=GET\n:path=/\x01\n" REST);
    bad(400, ":method=GET\n:path=/#x\n" REST);
    bad(400, ":method=GET\n:path=/\n:scheme=ftp\n:authority=h");
    bad(400, ":method=GET\n:path=/\n:authority=h");
    bad(400, ":method=GET\n:path=/\n:scheme=http");
    bad(400, ":method=GET\n:path=/\n" REST "\nhost=other");
    bad(400, ":method=GET\n:path=/\nhost=a\nhost=a\n:scheme=http");
    bad(400, ":method=GET\n:path=/\n:scheme=http\n:authority=user@h");
    bad(400, ":method=GET\n:path=/\n" REST "\ncontent-length=1");
    bad(400, ":method=POST\n:path=/\n" REST "\ncontent-length=-1");
    bad(400, ":method=POST\n:path=/\n" REST "\ncontent-length=1\ncontent-length=1");
    bad(400, ":method=POST\n:path=/\n" REST "\ntransfer-encoding=chunked\ncontent-length=1");
    bad(400, ":method=GET\n:path=/\n" REST "\nx y=1");
    bad(400, ":method=GET\n:path=/\n" REST "\nx=\x7f");
    bad(400, "x=y");
}

static void the_list_is_bounded(void **state)
{
    (void)state;
    char value[2000];
    memset(value, 'v', sizeof(value));
    h2_request_init(&req, 4096);
    for (int i = 0; i < 8; i++)
        assert_true(h2_request_add(&req, SLICE("x"), slice_of(value, sizeof(value))));
    assert_true(req.too_large);
    assert_true(req.fields.len <= 4096);
    assert_false(h2_request_add(&req, SLICE("x"), slice_of(value, sizeof(value))));
    assert_non_null(h2_request_check(&req, &target, &status));
    assert_int_equal(status, 431);
    h2_request_release(&req);
}

static void many_small_fields_are_bounded_too(void **state)
{
    (void)state;
    h2_request_init(&req, 4096);
    for (int i = 0; i < 4096 / 33; i++)
        assert_true(h2_request_add(&req, SLICE("x"), SLICE("")));
    assert_false(req.too_large);
    assert_true(h2_request_add(&req, SLICE("x"), SLICE("")));
    assert_true(req.too_large);
    h2_request_release(&req);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_requests_are_taken_apart),
        cmocka_unit_test(a_websocket_is_a_get_with_a_stream),
        cmocka_unit_test(what_http1_would_refuse_is_refused),
        cmocka_unit_test(the_list_is_bounded),
        cmocka_unit_test(many_small_fields_are_bounded_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
