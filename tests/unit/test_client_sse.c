/* test_client_sse.c - event streams as WHATWG HTML 9.2.6 and web-platform-tests have them.
 *
 * Every stream is fed whole and byte by byte; the outcome must be the same.
 */
#include "../../src/app/client_sse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct buf out;
static struct sse_parser parser;
static bool stop_at_first;

static void on_event(void *ctx, const struct sse_event *e)
{
    assert_ptr_equal(ctx, &out);
    buf_printf(&out, "%.*s[%.*s]#%.*s ", (int)e->type.len, e->type.ptr, (int)e->data.len,
               e->data.len ? e->data.ptr : "", (int)e->last_id.len,
               e->last_id.len ? e->last_id.ptr : "");
    if (stop_at_first)
        sse_stop(&parser);
}

static void feed(struct slice stream, size_t piece)
{
    buf_clear(&out);
    sse_init(&parser, 1000, on_event, &out);
    for (size_t at = 0; at < stream.len; at += piece) {
        size_t n = piece < stream.len - at ? piece : stream.len - at;
        if (sse_feed(&parser, slice_of(stream.ptr + at, n)) != ERR_OK)
            buf_append_str(&out, "too long ");
    }
    if (parser.retry_ms)
        buf_printf(&out, "retry=%llu ", (unsigned long long)parser.retry_ms);
    sse_release(&parser);
    if (out.len > 0)
        out.len--;
    buf_append_char(&out, 0);
}

static void gives_n(struct slice stream, const char *expected)
{
    feed(stream, stream.len);
    assert_string_equal(out.data, expected);
    feed(stream, 1);
    assert_string_equal(out.data, expected);
    feed(stream, 2);
    assert_string_equal(out.data, expected);
}
#define GIVES(literal, expected) gives_n(SLICE(literal), expected)

static void fields(void **state)
{
    (void)state;
    GIVES("data: one\n\n", "message[one]#");
    GIVES("data:one\ndata: two\ndata:  three\n\n", "message[one\ntwo\n three]#");
    GIVES("event: news\ndata: x\n\ndata: y\n\n", "news[x]# message[y]#");
    GIVES("data\n\n", "message[]#");
    GIVES("data\ndata\n\n", "message[\n]#");
    GIVES("data:\n\n", "message[]#");
    GIVES(":comment\ndata: x\n: other\n\n", "message[x]#");
    GIVES("Data: no\nda ta: no\nunknown: no\ndata : no\ndata: yes\n\n", "message[yes]#");
    GIVES("event: a\nevent: b\ndata: x\n\n", "b[x]#");
    GIVES("event: a\nevent\ndata: x\n\n", "message[x]#");
}

static void line_ends(void **state)
{
    (void)state;
    GIVES("data: a\r\rdata: b\r\n\r\ndata: c\n\n", "message[a]# message[b]# message[c]#");
    GIVES("data: a\rdata: b\ndata: c\r\n\n", "message[a\nb\nc]#");
    GIVES("data: a\n\rdata: b\n\n", "message[a]# message[b]#");
}

static void an_event_without_data_or_without_an_end_is_not_reported(void **state)
{
    (void)state;
    GIVES("event: x\n\ndata: a\n\n", "message[a]#");
    GIVES("data: a\n", "");
    GIVES("data: a\n\ndata: b", "message[a]#");
    GIVES("\n\n\n", "");
}

static void ids(void **state)
{
    (void)state;
    GIVES("id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", "message[a]#1 message[b]#1 message[c]#");
    GIVES("id: 1\n\ndata: a\n\n", "message[a]#1"); /* an id alone counts */
    GIVES("id: 1\ndata: a\n\nid: 2\0x\ndata: b\n\n", "message[a]#1 message[b]#1");
    GIVES("id: a:b\ndata: x\n\n", "message[x]#a:b");
}

static void retries(void **state)
{
    (void)state;
    GIVES("retry: 2000\n", "retry=2000");
    GIVES("retry: 2000\nretry: 1x\nretry: -1\nretry:\nretry: 1.5\nretry:  7\n", "retry=2000");
    GIVES("retry:5\nretry: 99999999999999999999999\n", "retry=5");
}

static void a_byte_order_mark_only_at_the_start(void **state)
{
    (void)state;
    GIVES("\xef\xbb\xbf"
          "data: a\n\n\xef\xbb\xbf"
          "data: b\n\ndata: c\n\n",
          "message[a]# message[c]#");
    GIVES("\xef\xbb"
          "data: a\n\ndata: b\n\n",
          "message[b]#");
    GIVES("\xef\xbb\xbf\xef\xbb\xbf"
          "data: a\n\ndata: b\n\n",
          "message[b]#");
}

static void too_long_lines_and_events_end_it(void **state)
{
    (void)state;
    char stream[4000];
    memset(stream, 'x', sizeof(stream));
    feed(slice_of(stream, 1001), 1001);
    assert_string_equal(out.data, "too long");
    for (size_t i = 0; i + 100 <= sizeof(stream); i += 100) {
        memcpy(stream + i, "data:", 5);
        stream[i + 99] = '\n';
    }
    feed(slice_of(stream, sizeof(stream)), sizeof(stream));
    assert_string_equal(out.data, "too long");
}

static void stopping_in_the_callback_is_the_end(void **state)
{
    (void)state;
    stop_at_first = true;
    GIVES("data: a\n\ndata: b\n\nretry: 5\n", "message[a]#");
    stop_at_first = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields),
        cmocka_unit_test(line_ends),
        cmocka_unit_test(an_event_without_data_or_without_an_end_is_not_reported),
        cmocka_unit_test(ids),
        cmocka_unit_test(retries),
        cmocka_unit_test(a_byte_order_mark_only_at_the_start),
        cmocka_unit_test(too_long_lines_and_events_end_it),
        cmocka_unit_test(stopping_in_the_callback_is_the_end),
    };
    buf_init(&out, 1 << 16);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_release(&out);
    return failed;
}
