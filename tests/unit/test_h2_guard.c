/* test_h2_guard.c - what may come on an HTTP/2 connection, frame by frame. */
#include "../../src/transport/h2_guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define NOW 1000000

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING = 6, WINDOW_UPDATE = 8, CONTINUATION };
#define END_STREAM 1

static struct h2_guard guard;
static char bytes[1 << 16];
static size_t n_bytes;
static enum h2_code code;
static enum h2_charge what;

static void begin(void)
{
    h2_guard_init(&guard, NOW);
    memcpy(bytes, PREFACE, H2_PREFACE_BYTES);
    n_bytes = H2_PREFACE_BYTES;
}

static void put(unsigned type, unsigned flags, uint32_t id, size_t len)
{
    unsigned char head[] = {
        (unsigned char)(len >> 16), (unsigned char)(len >> 8), (unsigned char)len,
        (unsigned char)type,        (unsigned char)flags,      (unsigned char)(id >> 24),
        (unsigned char)(id >> 16),  (unsigned char)(id >> 8),  (unsigned char)id};
    memcpy(bytes + n_bytes, head, sizeof(head));
    /* What looks like a frame within a payload is none. */
    memset(bytes + n_bytes + sizeof(head), RST_STREAM, len);
    n_bytes += sizeof(head) + len;
}

static size_t input(size_t from, size_t to)
{
    return h2_guard_input(&guard, slice_of(bytes + from, to - from), NOW, &code, &what);
}

static void all_is_fine(void)
{
    assert_int_equal(input(0, n_bytes), n_bytes);
    assert_int_equal(code, H2_NO_ERROR);
}

static void the_last_frame_is(enum h2_code want)
{
    size_t last = n_bytes;
    put(PING, 0, 0, 8);
    assert_true(input(0, n_bytes) < last);
    assert_int_equal(code, want);
}

static void honest_frames_pass_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 64; piece++) {
        begin();
        put(SETTINGS, 0, 0, 12);
        put(HEADERS, END_STREAM, 1, 30);
        put(HEADERS, 0, 3, 300);
        put(CONTINUATION, 4, 3, 30);
        put(DATA, 0, 3, 1000);
        put(DATA, END_STREAM, 3, 0);
        put(WINDOW_UPDATE, 0, 1, 4);
        put(RST_STREAM, 0, 1, 4);
        put(99, 255, 7, 5);
        for (size_t at = 0; at < n_bytes; at += piece) {
            size_t end = at + piece < n_bytes ? at + piece : n_bytes;
            assert_int_equal(input(at, end), end - at);
            assert_int_equal(code, H2_NO_ERROR);
        }
    }
}

static void the_bytes_before_a_bad_frame_are_fine(void **state)
{
    (void)state;
    begin();
    put(HEADERS, END_STREAM, 1, 10);
    size_t good = n_bytes;
    put(DATA, 0, 1, 10);
    assert_int_equal(input(0, n_bytes), good);
    assert_int_equal(code, H2_STREAM_CLOSED);
}

static void nothing_comes_on_a_stream_that_the_peer_has_ended(void **state)
{
    (void)state;
    static const struct {
        unsigned type, flags;
    } endings[] = {{HEADERS, END_STREAM}, {DATA, END_STREAM}, {RST_STREAM, 0}};
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
        for (unsigned late = DATA; late <= HEADERS; late++) {
            begin();
            if (endings[i].type != HEADERS)
                put(HEADERS, 0, 1, 10);
            put(endings[i].type, endings[i].flags, 1, 4);
            put(WINDOW_UPDATE, 0, 1, 4);
            put(PRIORITY, 0, 1, 5);
            put(RST_STREAM, 0, 1, 4);
            all_is_fine();
            begin();
            guard.skip_bytes = 0;
            n_bytes = 0;
            if (endings[i].type != HEADERS)
                put(HEADERS, 0, 1, 10);
            put(endings[i].type, endings[i].flags, 1, 4);
            put(late, 0, 1, 4);
            the_last_frame_is(H2_STREAM_CLOSED);
        }
}

static void an_id_that_was_skipped_is_not_opened_later(void **state)
{
    (void)state;
    begin();
    put(HEADERS, 0, 5, 10);
    put(HEADERS, 0, 7, 10);
    put(HEADERS, END_STREAM, 5, 10); /* trailers */
    put(HEADERS, 0, 3, 10);
    the_last_frame_is(H2_PROTOCOL_ERROR);
    begin();
    put(HEADERS, 0, 1, 10);
    put(HEADERS, 0, 11, 10);
    put(HEADERS, 0, 21, 10);
    put(HEADERS, 0, 9, 10);
    the_last_frame_is(H2_PROTOCOL_ERROR);
}

static void skipping_for_ever_needs_no_more_memory(void **state)
{
    (void)state;
    begin();
    for (uint32_t i = 0; i < 500; i++)
        put(HEADERS, END_STREAM, 4 * i + 1, 10);
    put(HEADERS, 0, 3, 10); /* forgotten: nghttp2 ignores it */
    all_is_fine();
}

static void floods_are_seen(void **state)
{
    (void)state;
    static const struct {
        unsigned type, len, burst;
        enum h2_charge what;
    } floods[] = {{DATA, 0, 100, H2_EMPTY_DATA},
                  {PRIORITY, 5, 600, H2_PRIORITY},
                  {RST_STREAM, 4, 600, H2_RESET},
                  {SETTINGS, 0, 50, H2_SETTINGS},
                  {PING, 8, 100, H2_PING},
                  {WINDOW_UPDATE, 4, 2000, H2_WINDOW_UPDATE},
                  {CONTINUATION, 9, 50, H2_CONTINUATION}};
    for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
        begin();
        for (unsigned n = 0; n < floods[i].burst; n++) {
            put(floods[i].type, 0, 1, floods[i].len);
            if (floods[i].type == CONTINUATION) /* not too many in a row */
                put(HEADERS, 0, 1, 1);
        }
        all_is_fine();
        n_bytes = 0;
        put(floods[i].type, 0, 1, floods[i].len);
        assert_int_equal(input(0, n_bytes), 0);
        assert_int_equal(code, H2_ENHANCE_YOUR_CALM);
        assert_int_equal(what, floods[i].what);
        assert_non_null(h2_guard_name(what));
    }
}

static void a_header_needs_few_continuations(void **state)
{
    (void)state;
    begin();
    for (int request = 0; request < 5; request++) {
        put(HEADERS, 0, 1, 16);
        for (int i = 0; i < 8; i++)
            put(CONTINUATION, 0, 1, 16);
    }
    all_is_fine();
    n_bytes = 0;
    put(CONTINUATION, 0, 1, 16);
    assert_int_equal(input(0, n_bytes), 0);
    assert_int_equal(code, H2_ENHANCE_YOUR_CALM);
    assert_int_equal(what, H2_CONTINUATION);
}

static void time_forgives(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 100; i++)
        assert_true(h2_guard_charge(&guard, H2_PING, NOW));
    assert_false(h2_guard_charge(&guard, H2_PING, NOW));
    assert_false(h2_guard_charge(&guard, H2_PING, NOW + 99));
    assert_true(h2_guard_charge(&guard, H2_PING, NOW + 100)); /* ten a second */
    assert_false(h2_guard_charge(&guard, H2_PING, NOW + 100));
    for (int i = 0; i < 100; i++)
        assert_true(h2_guard_charge(&guard, H2_PING, NOW + 3600000));
    assert_false(h2_guard_charge(&guard, H2_PING, NOW + 3600000));
}

static void what_we_caused_is_forgiven(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 100000; i++) {
        assert_true(h2_guard_sent(&guard, 100, false, NOW));
        assert_true(h2_guard_charge(&guard, H2_WINDOW_UPDATE, NOW));
        assert_true(h2_guard_charge(&guard, H2_WINDOW_UPDATE, NOW));
        assert_true(h2_guard_charge(&guard, H2_PING, NOW));
    }
}

static void windows_end_somewhere_but_not_every_time_at_once(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 100000; i++) { /* 64 KiB */
        assert_true(h2_guard_sent(&guard, 1, true, NOW));
        assert_true(h2_guard_sent(&guard, 16384, false, NOW));
    }
    for (int i = 0; i < 200; i++)
        assert_true(h2_guard_sent(&guard, 1, true, NOW));
    assert_false(h2_guard_sent(&guard, 1, true, NOW));
    assert_true(h2_guard_sent(&guard, 1, true, NOW + 50));
    for (int i = 0; i < 1000; i++)
        assert_true(h2_guard_sent(&guard, 1, false, NOW)); /* small, but all there is */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_frames_pass_however_they_are_cut),
        cmocka_unit_test(the_bytes_before_a_bad_frame_are_fine),
        cmocka_unit_test(nothing_comes_on_a_stream_that_the_peer_has_ended),
        cmocka_unit_test(an_id_that_was_skipped_is_not_opened_later),
        cmocka_unit_test(skipping_for_ever_needs_no_more_memory),
        cmocka_unit_test(floods_are_seen),
        cmocka_unit_test(a_header_needs_few_continuations),
        cmocka_unit_test(time_forgives),
        cmocka_unit_test(windows_end_somewhere_but_not_every_time_at_once),
        cmocka_unit_test(what_we_caused_is_forgiven),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
