/* test_head.c - which first requests are let in, byte by byte. */
#include "crier/head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define GET "GET /events?channel=a HTTP/1.1\r\n"
#define HOST "Host: h\r\n"

static int status;
static const char *why;

static enum head_verdict check(const char *bytes)
{
    return head_check(slice_str(bytes), &status, &why);
}

static void good(const char *bytes)
{
    enum head_verdict v = check(bytes);
    if (v == HEAD_BAD)
        print_error("refused with %d (%s): %s\n", status, why, bytes);
    assert_int_equal(v, HEAD_HTTP1);
}

static void bad(int want, struct slice bytes)
{
    enum head_verdict v = head_check(bytes, &status, &why);
    if (v != HEAD_BAD || status != want)
        print_error("verdict %d, status %d: %.*s\n", v, status, (int)bytes.len, bytes.ptr);
    assert_int_equal(v, HEAD_BAD);
    assert_int_equal(status, want);
    assert_non_null(why);
}

static void what_honest_clients_send_is_let_in(void **state)
{
    (void)state;
    good(GET HOST "\r\n");
    good(GET HOST "Accept: */*\r\nUser-Agent: curl/7.88.1\r\nX-Empty:\r\nX-Tab:\ta\tb \r\n\r\n");
    good("GET / HTTP/1.0\r\n\r\n");
    good("\r\n" GET HOST "\r\n");
    good("POST /publish?channel=a HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    good("POST /publish HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n");
    good("GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
    good("GET http://h/ HTTP/1.1\r\n" HOST "\r\n");
    good("OPTIONS * HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.1\r\n"); /* the next one follows */
    good("M-SEARCH / HTTP/1.1\r\n" HOST "\r\n");
    good(GET HOST "X-Bytes: \xc3\xa9\xff\r\n\r\n");
}

static void what_two_parsers_could_read_differently_is_refused(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\ncontent-length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1 1\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\vchunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n",
        GET HOST "Content-Length: 5\r\n\r\n",
        GET HOST "Transfer-Encoding: chunked\r\n\r\n",
        GET "\r\n",
        GET HOST HOST "\r\n",
        GET HOST " folded: line\r\n\r\n",
        GET HOST "\tfolded: line\r\n\r\n",
        GET " Host: h\r\n\r\n",
        GET HOST "no colon\r\n\r\n",
        GET HOST ": no name\r\n\r\n",
        GET HOST "a b: c\r\n\r\n",
        GET HOST "a(b): c\r\n\r\n",
        GET HOST "\x7f: c\r\n\r\n",
        GET HOST "a: b\rc\r\n\r\n",
        GET HOST "a: \x01\r\n\r\n",
        GET "Host: h\n\r\n",
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET  / HTTP/1.1\r\n" HOST "\r\n",
        "GET / HTTP/1.1 \r\n" HOST "\r\n",
        "GET /a b HTTP/1.1\r\n" HOST "\r\n",
        "GET /\x01 HTTP/1.1\r\n" HOST "\r\n",
        "GET\t/ HTTP/1.1\r\n" HOST "\r\n",
        "G{T / HTTP/1.1\r\n" HOST "\r\n",
        "GET /\r\n" HOST "\r\n",
        "GET / http/1.1\r\n" HOST "\r\n",
        "\n" GET HOST "\r\n",
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        bad(400, slice_str(heads[i]));
    bad(400, SLICE(GET HOST "a: b\0c\r\n\r\n"));
    bad(400, SLICE(GET HOST "a\0b: c\r\n\r\n"));
    bad(505, slice_str("GET / HTTP/3.7\r\n" HOST "\r\n"));
}

/* A verdict never depends on how the bytes were cut: nothing is refused or let in too early. */
static void every_prefix_waits_for_more_or_is_refused_rightly(void **state)
{
    static const char head[] = "POST /p HTTP/1.1\r\n" HOST "Content-Length: 5\r\nX: y\r\n\r\n";
    (void)state;
    for (size_t n = 0; n < sizeof(head) - 1; n++)
        assert_int_equal(head_check(slice_of(head, n), &status, &why), HEAD_MORE);
    good(head);
}

static void the_http2_preface_is_known(void **state)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    (void)state;
    for (size_t n = 3; n < sizeof(preface) - 1; n++)
        assert_int_equal(head_check(slice_of(preface, n), &status, &why), HEAD_MORE);
    assert_int_equal(check(preface), HEAD_HTTP2);
    bad(505, slice_str("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"));
}

static void what_is_not_meant_as_http_is_not_answered(void **state)
{
    (void)state;
    assert_int_equal(check("INVALID CONNECTION PREFACE\r\n\r\n"), HEAD_ALIEN);
    assert_int_equal(check("*1\r\n$4\r\nPING\r\n"), HEAD_ALIEN);
    assert_int_equal(check("\x16\x03\x01\r\n"), HEAD_ALIEN);
    assert_int_equal(check("INVALID"), HEAD_MORE);
    bad(400, slice_str("GET\r\n"));
    bad(400, slice_str("\r\n\r\n"));
    bad(400, slice_str("hello HTTP/1.1\r\n"));
}

static void a_head_without_end_is_cut_at_its_limit(void **state)
{
    (void)state;
    char *head = malloc(HEAD_MAX_BYTES);
    memset(head, 'a', HEAD_MAX_BYTES);
    memcpy(head, GET HOST "X: ", sizeof(GET HOST "X: ") - 1);
    assert_int_equal(head_check(slice_of(head, HEAD_MAX_BYTES - 1), &status, &why), HEAD_MORE);
    bad(431, slice_of(head, HEAD_MAX_BYTES));
    free(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_honest_clients_send_is_let_in),
        cmocka_unit_test(what_two_parsers_could_read_differently_is_refused),
        cmocka_unit_test(every_prefix_waits_for_more_or_is_refused_rightly),
        cmocka_unit_test(the_http2_preface_is_known),
        cmocka_unit_test(what_is_not_meant_as_http_is_not_answered),
        cmocka_unit_test(a_head_without_end_is_cut_at_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
