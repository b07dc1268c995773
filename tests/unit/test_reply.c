/* test_reply.c - replies out of bytes however they are cut, and what a server may not make us hold.
 */
#include "crier/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX_REPLY_BYTES ((size_t)1 << 20)
#define MAX_ELEMENTS ((size_t)1 << 20)

static struct reply_parser *parser;

static int make_parser(void **state)
{
    (void)state;
    return reply_parser_new(MAX_REPLY_BYTES, &parser) == ERR_OK ? 0 : -1;
}

static int drop_parser(void **state)
{
    (void)state;
    reply_parser_free(parser);
    return 0;
}

static void feed(const char *text)
{
    assert_int_equal(reply_parser_feed(parser, slice_str(text)), ERR_OK);
}

static struct reply *next(void)
{
    struct reply *r = NULL;

    assert_int_equal(reply_parser_next(parser, &r), ERR_OK);
    return r;
}

static void assert_next(enum err expected)
{
    struct reply *r;

    assert_int_equal(reply_parser_next(parser, &r), expected);
}

static void assert_text(const struct reply *r, enum reply_kind kind, const char *text)
{
    assert_int_equal(reply_kind(r), kind);
    assert_true(slice_eq(reply_text(r), slice_str(text)));
}

/* Once it has failed it says the same for ever, whatever comes. */
static void assert_failed(enum err expected)
{
    assert_next(expected);
    assert_int_equal(reply_parser_feed(parser, SLICE("+OK\r\n")), expected);
    assert_next(expected);
}

/* --- what is said ----------------------------------------------------------------------------- */

static void test_every_kind(void **state)
{
    struct reply *r;

    (void)state;
    feed("+OK\r\n-ERR no\r\n:-42\r\n$5\r\na\r\nbc\r\n$-1\r\n*-1\r\n$0\r\n\r\n");
    assert_text(r = next(), REPLY_STATUS, "OK");
    reply_free(r);
    assert_text(r = next(), REPLY_ERROR, "ERR no");
    reply_free(r);
    r = next();
    assert_int_equal(reply_kind(r), REPLY_INTEGER);
    assert_int_equal(reply_integer(r), -42);
    assert_int_equal(reply_text(r).len, 0);
    reply_free(r);
    assert_text(r = next(), REPLY_STRING, "a\r\nbc");
    assert_int_equal(reply_integer(r), 0);
    assert_int_equal(reply_count(r), 0);
    reply_free(r);
    assert_text(r = next(), REPLY_NIL, "");
    reply_free(r);
    assert_text(r = next(), REPLY_NIL, "");
    reply_free(r);
    assert_text(r = next(), REPLY_STRING, "");
    reply_free(r);
    assert_next(ERR_AGAIN);
    assert_false(reply_parser_is_midway(parser));
}

static void test_arrays_and_what_lies_past_their_end(void **state)
{
    (void)state;
    feed("*4\r\n$7\r\nmessage\r\n*2\r\n:1\r\n*0\r\n$-1\r\n+x\r\n");
    struct reply *r = next();
    assert_int_equal(reply_kind(r), REPLY_ARRAY);
    assert_int_equal(reply_count(r), 4);
    assert_text(reply_at(r, 0), REPLY_STRING, "message");
    assert_int_equal(reply_integer(reply_at(reply_at(r, 1), 0)), 1);
    assert_int_equal(reply_kind(reply_at(reply_at(r, 1), 1)), REPLY_ARRAY);
    assert_int_equal(reply_count(reply_at(reply_at(r, 1), 1)), 0);
    assert_int_equal(reply_kind(reply_at(r, 2)), REPLY_NIL);
    assert_text(reply_at(r, 3), REPLY_STATUS, "x");
    assert_int_equal(reply_kind(reply_at(r, 4)), REPLY_NIL);
    assert_int_equal(reply_kind(reply_at(reply_at(r, 9), 9)), REPLY_NIL);
    assert_int_equal(reply_kind(reply_at(reply_at(r, 0), 0)), REPLY_NIL);
    reply_free(r);
}

static void test_cut_anywhere_it_is_the_same(void **state)
{
    const char *text = "*3\r\n$9\r\nsmessage \r\n*2\r\n:12345\r\n-MOVED 1 a:2\r\n$3\r\n\r\n\r\r\n";

    (void)state;
    for (size_t i = 0; text[i]; i++) {
        assert_int_equal(reply_parser_feed(parser, slice_of(text + i, 1)), ERR_OK);
        assert_true(reply_parser_is_midway(parser));
        if (text[i + 1])
            assert_next(ERR_AGAIN);
    }
    struct reply *r = next();
    assert_text(reply_at(r, 0), REPLY_STRING, "smessage ");
    assert_int_equal(reply_integer(reply_at(reply_at(r, 1), 0)), 12345);
    assert_text(reply_at(reply_at(r, 1), 1), REPLY_ERROR, "MOVED 1 a:2");
    assert_text(reply_at(r, 2), REPLY_STRING, "\r\n\r");
    assert_false(reply_parser_is_midway(parser));
    reply_free(r);
}

static void test_the_first_word_of_an_error(void **state)
{
    (void)state;
    feed("-MOVED 3999 127.0.0.1:6381\r\n-LOADING\r\n+MOVED 1 x\r\n*1\r\n-MOVED 1 y\r\n");
    struct reply *r = next();
    assert_true(reply_is_error(r, "MOVED"));
    assert_false(reply_is_error(r, "MOVE"));
    assert_false(reply_is_error(r, "ASK"));
    reply_free(r);
    assert_true(reply_is_error(r = next(), "LOADING"));
    reply_free(r);
    assert_false(reply_is_error(r = next(), "MOVED"));
    reply_free(r);
    assert_false(reply_is_error(r = next(), "MOVED"));
    assert_true(reply_is_error(reply_at(r, 0), "MOVED"));
    reply_free(r);
}

static void test_freed_in_the_middle_of_a_reply(void **state)
{
    (void)state;
    feed("*3\r\n$1\r\na\r\n*2\r\n:1\r\n$100\r\nab");
    assert_next(ERR_AGAIN);
    assert_true(reply_parser_is_midway(parser));
}

/* --- what is not RESP ------------------------------------------------------------------------- */

static void test_garbage(void **state)
{
    (void)state;
    feed("HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_failed(ERR_SYNTAX);
}

static void test_bad_lengths(void **state)
{
    static const char *const texts[] = {
        "$x\r\n",  "$-2\r\n", "*x\r\n", "*-2\r\n",
        ":1x\r\n", "$\r\n",   ":\r\n",  "*1\r\n$99999999999999999999\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        reply_parser_free(parser);
        make_parser(NULL);
        feed(texts[i]);
        assert_failed(ERR_SYNTAX);
    }
}

static void test_what_came_before_the_garbage_is_still_given(void **state)
{
    (void)state;
    feed("+OK\r\nrubbish");
    reply_free(next());
    assert_failed(ERR_SYNTAX);
}

/* hiredis 0.14 knows none of these, 1.x all. */
static void test_resp3_is_not_spoken(void **state)
{
    static const char *const texts[] = {"%1\r\n+a\r\n+b\r\n", "~1\r\n+a\r\n",    ">1\r\n+a\r\n",
                                        ",1.5\r\n",           "#t\r\n",          "_\r\n",
                                        "(123\r\n",           "=5\r\ntxt:a\r\n", "*1\r\n%0\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        reply_parser_free(parser);
        make_parser(NULL);
        feed(texts[i]);
        assert_failed(ERR_SYNTAX);
    }
}

/* --- bounds ----------------------------------------------------------------------------------- */

static void fill(size_t bytes)
{
    char block[4096];

    memset(block, 'x', sizeof block);
    while (bytes > 0) {
        size_t n = bytes < sizeof block ? bytes : sizeof block;
        assert_int_equal(reply_parser_feed(parser, slice_of(block, n)), ERR_OK);
        bytes -= n;
        if (bytes > 0)
            assert_next(ERR_AGAIN);
    }
}

/* "$1048564\r\n…\r\n" is exactly as long as is allowed. */
static void test_the_largest_reply(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        feed("$1048564\r\n");
        fill(1048564);
        assert_next(ERR_AGAIN);
        feed("\r\n+OK\r\n");
        struct reply *r = next();
        assert_int_equal(reply_text(r).len, 1048564);
        reply_free(r);
        reply_free(next());
        assert_next(ERR_AGAIN);
    }
}

static void test_a_reply_that_does_not_end(void **state)
{
    (void)state;
    feed("$999999999\r\n");
    fill(MAX_REPLY_BYTES - 12);
    assert_next(ERR_AGAIN);
    feed("x");
    assert_failed(ERR_LIMIT);
}

static void test_a_whole_reply_that_is_too_large(void **state)
{
    (void)state;
    feed("$1048565\r\n");
    fill(1048565);
    feed("\r\n");
    assert_failed(ERR_LIMIT);
}

static void test_bytes_nobody_asks_about(void **state)
{
    static char many[MAX_REPLY_BYTES + 1];

    (void)state;
    memset(many, '\n', sizeof many);
    assert_int_equal(reply_parser_feed(parser, slice_of(many, sizeof many)), ERR_OK);
    assert_int_equal(reply_parser_feed(parser, SLICE("+")), ERR_LIMIT);
    assert_failed(ERR_LIMIT);
}

/* Announcing costs the server a line and would cost us eight bytes for each. */
static void test_an_array_announced_too_long(void **state)
{
    char text[32];

    (void)state;
    snprintf(text, sizeof text, "*%zu\r\n", MAX_ELEMENTS + 1);
    feed(text);
    assert_failed(ERR_LIMIT);
}

static void test_arrays_in_arrays_count_together(void **state)
{
    char text[64];

    (void)state;
    snprintf(text, sizeof text, "*2\r\n*%zu\r\n", MAX_ELEMENTS - 2);
    feed(text);
    assert_next(ERR_AGAIN);
    reply_parser_free(parser);
    make_parser(NULL);
    snprintf(text, sizeof text, "*2\r\n*%zu\r\n", MAX_ELEMENTS - 1);
    feed(text);
    assert_failed(ERR_LIMIT);
}

/* One after the other is not together. */
static void test_the_count_begins_anew_with_each_reply(void **state)
{
    (void)state;
    reply_parser_free(parser);
    assert_int_equal(reply_parser_new((size_t)8 << 20, &parser), ERR_OK);
    for (size_t i = 0; i < 2; i++) {
        feed("*700000\r\n");
        for (size_t n = 0; n < 700000; n += 100) {
            char block[301] = "";
            for (size_t k = 0; k < 100; k++)
                memcpy(block + 3 * k, "+\r\n", 3);
            assert_next(ERR_AGAIN);
            feed(block);
        }
        struct reply *r = next();
        assert_int_equal(reply_count(r), 700000);
        reply_free(r);
    }
}

static void test_nesting(void **state)
{
    (void)state;
    feed("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:7\r\n");
    struct reply *r = next();
    const struct reply *in = r;
    while (reply_kind(in) == REPLY_ARRAY)
        in = reply_at(in, 0);
    assert_int_equal(reply_integer(in), 7);
    reply_free(r);
    feed("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:7\r\n");
    assert_failed(ERR_LIMIT);
}

static void test_a_line_that_does_not_end(void **state)
{
    static const char *const starts[] = {"+", "$1", "*1\r\n-", ":1"};

    (void)state;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        reply_parser_free(parser);
        make_parser(NULL);
        feed(starts[i]);
        fill(64 * 1024 - 2);
        assert_next(ERR_AGAIN);
        feed("1234");
        assert_failed(ERR_LIMIT);
    }
}

/* --- commands --------------------------------------------------------------------------------- */

static void test_a_command_on_the_wire(void **state)
{
    static const char big[1234];
    struct slice args[] = {SLICE("SET"), SLICE("a b\r\n"), SLICE_NONE};
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    command_append(&b, args, 3);
    assert_true(slice_eq(buf_slice(&b), SLICE("*3\r\n$3\r\nSET\r\n$5\r\na b\r\n\r\n$0\r\n\r\n")));
    assert_int_equal(command_bytes(args, 3), b.len);
    buf_clear(&b);
    struct slice ten[10];
    for (size_t i = 0; i < 10; i++)
        ten[i] = SLICE("x");
    ten[9] = slice_of(big, sizeof big);
    command_append(&b, ten, 10);
    assert_int_equal(command_bytes(ten, 10), b.len);
    assert_memory_equal(b.data, "*10\r\n$1\r\nx\r\n", 12);
    assert_memory_equal(b.data + b.len - 2 - 1234 - 7, "$1234\r\n", 7);
    buf_release(&b);
}

static void test_a_command_that_does_not_fit_leaves_nothing(void **state)
{
    struct slice args[] = {SLICE("PING"), SLICE("hello")};
    struct buf b;

    (void)state;
    buf_init(&b, command_bytes(args, 2) + 1);
    command_append(&b, args, 2);
    assert_false(b.failed);
    size_t before = b.len;
    command_append(&b, args, 2);
    assert_true(b.failed);
    assert_int_equal(b.len, before);
    buf_release(&b);
}

/* What we write is RESP too. */
static void test_a_command_read_back(void **state)
{
    struct slice args[] = {SLICE("EVALSHA"), SLICE("\0\1\2"), SLICE("")};
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    command_append(&b, args, 3);
    assert_int_equal(reply_parser_feed(parser, buf_slice(&b)), ERR_OK);
    struct reply *r = next();
    for (size_t i = 0; i < 3; i++)
        assert_true(slice_eq(reply_text(reply_at(r, i)), args[i]));
    reply_free(r);
    buf_release(&b);
}

#define parser_test(f) cmocka_unit_test_setup_teardown(f, make_parser, drop_parser)

int main(void)
{
    const struct CMUnitTest tests[] = {
        parser_test(test_every_kind),
        parser_test(test_arrays_and_what_lies_past_their_end),
        parser_test(test_cut_anywhere_it_is_the_same),
        parser_test(test_the_first_word_of_an_error),
        parser_test(test_freed_in_the_middle_of_a_reply),
        parser_test(test_garbage),
        parser_test(test_bad_lengths),
        parser_test(test_what_came_before_the_garbage_is_still_given),
        parser_test(test_resp3_is_not_spoken),
        parser_test(test_the_largest_reply),
        parser_test(test_a_reply_that_does_not_end),
        parser_test(test_a_whole_reply_that_is_too_large),
        parser_test(test_bytes_nobody_asks_about),
        parser_test(test_an_array_announced_too_long),
        parser_test(test_arrays_in_arrays_count_together),
        parser_test(test_the_count_begins_anew_with_each_reply),
        parser_test(test_nesting),
        parser_test(test_a_line_that_does_not_end),
        parser_test(test_a_command_on_the_wire),
        parser_test(test_a_command_that_does_not_fit_leaves_nothing),
        parser_test(test_a_command_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
