/* test_ws.c - RFC 6455 by byte arrays, in the order of the Autobahn categories 1-7.
 *
 * Every input is fed whole, one byte at a time, and in seeded random pieces; the outcome (all
 * events and the final violation, as one text) must be the same each time, and when it is over the
 * pool must have everything back.
 */
#include "ws_fixture.h"

/* 1: payloads of all lengths */

static void sized(uint8_t first, size_t n, const char *what)
{
    char expected[64];
    char *payload = malloc(n + 1);
    memset(payload, '*', n);
    fresh();
    frame_n(first, slice_of(payload, n));
    buf_clear(&out);
    add_outcome(what, slice_of(payload, n));
    snprintf(expected, sizeof(expected), "%.*s", (int)out.len - 1, out.data);
    outcome(expected);
    free(payload);
}

static void payloads_of_all_lengths(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,    1,    125,  126,   127,   128,   4081,  4082,       4083,
                                   4090, 4095, 4096, 65535, 65536, 65537, 99999, MESSAGE_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        sized(TEXT, sizes[i], "text");
        sized(BINARY, sizes[i], "binary");
    }
}

static void many_messages_in_one_read(void **state)
{
    (void)state;
    fresh();
    frame(TEXT, "one");
    frame_n(BINARY, SLICE("\0\1\2"));
    frame(TEXT, "");
    frame(TEXT, "four");
    outcome("text(one) binary(\\00\\01\\02) text() text(four)");
}

static void the_client_role_takes_unmasked_frames(void **state)
{
    (void)state;
    fresh();
    role = WS_CLIENT;
    frame(TEXT, "Hello");
    assert_memory_equal(in.data, "\x81\x05Hello", 7); /* RFC 6455 5.7 */
    outcome("text(Hello)");
    fresh();
    role = WS_CLIENT;
    RAW("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    fails_at(2, "syntax 1002");
}

static void the_server_role_takes_masked_frames_only(void **state)
{
    (void)state;
    fresh();
    RAW("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"); /* RFC 6455 5.7 */
    outcome("text(Hello)");
    fresh();
    frame(TEXT, "first");
    RAW("\x81\x05Hello");
    fails_at(11 + 2, "text(first) syntax 1002");
    fresh();
    RAW("\x89\x00"); /* also control frames */
    fails_at(2, "syntax 1002");
}

/* 2: ping and pong */

static void pings_and_pongs(void **state)
{
    (void)state;
    char long_payload[127];
    memset(long_payload, '\xfe', sizeof(long_payload));
    fresh();
    frame(PING, "");
    frame(PING, "Hello");
    frame_n(PING, SLICE("\x00\xff\xfe\xfd"));
    frame(PONG, "unsolicited");
    frame(PONG, "");
    frame(TEXT, "x");
    outcome("ping() ping(Hello) ping(\\00\\ff\\fe\\fd) pong(unsolicited) pong() text(x)");
    sized(PING, 125, "ping");
    sized(PONG, 125, "pong");
    for (int opcode = 8; opcode <= 10; opcode++)
        for (size_t n = 126; n <= 127; n++) {
            fresh();
            frame_n((uint8_t)(0x80 | opcode), slice_of(long_payload, n));
            fails_at(2, "syntax 1002");
        }
    fresh();
    RAW("\x89\xff"); /* 64-bit length: refused before the length itself */
    fails_at(2, "syntax 1002");
}

/* 3: reserved bits */

static void reserved_bits_are_refused_at_the_first_byte(void **state)
{
    (void)state;
    static const uint8_t opcodes[] = {TEXT, BINARY, CLOSE, PING, PONG};
    for (uint8_t rsv = 1; rsv <= 7; rsv++)
        for (size_t i = 0; i < sizeof(opcodes); i++) {
            fresh();
            frame(TEXT, "ok");
            frame((uint8_t)(opcodes[i] | rsv << 4), "x");
            fails_at(8 + 1, "text(ok) syntax 1002");
        }
}

/* 4: reserved opcodes */

static void reserved_opcodes_are_refused_at_the_first_byte(void **state)
{
    (void)state;
    static const uint8_t opcodes[] = {3, 4, 5, 6, 7, 11, 12, 13, 14, 15};
    for (size_t i = 0; i < sizeof(opcodes); i++) {
        fresh();
        frame(TEXT, "ok");
        frame(LAST | opcodes[i], "");
        frame(PING, "");
        fails_at(8 + 1, "text(ok) syntax 1002");
    }
}

/* 5: fragmentation */

static void fragments_make_one_message(void **state)
{
    (void)state;
    fresh();
    frame(TEXT_MORE, "frag");
    frame(MORE, "");
    frame(MORE, "men");
    frame(LAST, "ts");
    outcome("text(fragments)");
    fresh();
    frame(BINARY_MORE, "");
    frame(MORE, "");
    frame(LAST, "");
    outcome("binary()");
    fresh();
    frame(TEXT_MORE, "no end");
    outcome("incomplete");
}

static void control_frames_may_stand_between_fragments(void **state)
{
    (void)state;
    fresh();
    frame(TEXT_MORE, "a");
    frame(PING, "1");
    frame(MORE, "b");
    frame(PING, "2");
    frame(PONG, "3");
    frame(LAST, "c");
    frame(TEXT, "d");
    outcome("ping(1) ping(2) pong(3) text(abc) text(d)");
    fresh();
    frame(TEXT_MORE, "a");
    frame_n(CLOSE, SLICE("\x03\xe8"));
    frame(LAST, "b");
    outcome("close 1000()");
}

static void control_frames_may_not_be_fragmented(void **state)
{
    (void)state;
    for (uint8_t opcode = 8; opcode <= 10; opcode++) {
        fresh();
        frame(opcode, "frag");
        frame(LAST, "ment");
        fails_at(1, "syntax 1002");
    }
}

static void continuation_needs_a_message_and_a_message_its_end(void **state)
{
    (void)state;
    fresh();
    frame(LAST, "x");
    fails_at(1, "syntax 1002");
    fresh();
    frame(MORE, "x");
    fails_at(1, "syntax 1002");
    fresh();
    frame(TEXT, "whole");
    frame(LAST, "x");
    fails_at(11 + 1, "text(whole) syntax 1002");
    fresh();
    frame(TEXT_MORE, "a");
    frame(TEXT, "b");
    fails_at(7 + 1, "syntax 1002");
    fresh();
    frame(TEXT_MORE, "a");
    frame(BINARY_MORE, "b");
    fails_at(7 + 1, "syntax 1002");
}

static void too_many_fragments_are_refused(void **state)
{
    (void)state;
    fresh();
    frame(TEXT_MORE, "1");
    for (int i = 2; i < FRAGMENTS_MAX; i++) {
        frame(MORE, "");
        frame(PING, ""); /* is not a fragment */
    }
    size_t bytes = in.len;
    frame(LAST, "n");
    feed(WHOLE);
    assert_non_null(strstr(out.data, "text(1n)"));
    in.len = bytes;
    frame(MORE, "");
    bytes = in.len;
    frame(LAST, "");
    feed(BYTES);
    assert_non_null(strstr(out.data, " limit 1008"));
    assert_int_equal(failed_after, bytes + 1);
}

/* 6: UTF-8 */

static void text(const char *bytes, size_t n)
{
    fresh();
    frame_n(TEXT, slice_of(bytes, n));
}
#define GOOD(literal)                             \
    do {                                          \
        text(literal, sizeof(literal) - 1);       \
        feed(WHOLE);                              \
        assert_memory_equal(out.data, "text", 4); \
        feed(BYTES);                              \
        assert_memory_equal(out.data, "text", 4); \
    } while (0)
/* the n-th byte of the payload is the first that cannot be */
#define BAD(literal, n)                     \
    do {                                    \
        text(literal, sizeof(literal) - 1); \
        fails_at(6 + (n), "utf8 1007");     \
    } while (0)

static void utf8_is_checked_to_the_byte(void **state)
{
    (void)state;
    GOOD("Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!");
    GOOD("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5");
    GOOD("\x00");
    GOOD("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80");
    GOOD("\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd\xf4\x8f\xbf\xbf");
    BAD("\xce\xba\xed\xa0\x80\x65\x64", 4); /* surrogate */
    BAD("a\x80z", 2);                       /* lonely continuation */
    BAD("a\xc0\xafz", 2);                   /* overlong */
    BAD("a\xe0\x80\xafz", 3);
    BAD("a\xf0\x80\x80\xafz", 3);
    BAD("a\xf4\x90\x80\x80z", 3); /* beyond U+10FFFF */
    BAD("a\xf8\x88\x80\x80\x80z", 2);
    BAD("a\xfe", 2);
    BAD("a\xc3(z", 3);
    BAD("a\xe2\x82(z", 4);
    BAD("a\xc3", 2); /* ends within a character */
    BAD("\xf0\x90\x80", 3);
}

static void utf8_goes_across_fragments_and_past_control_frames(void **state)
{
    (void)state;
    fresh();
    frame(TEXT_MORE, "\xce");
    frame(PING, "\xff");
    frame(MORE, "\xba\xe1");
    frame(MORE, "\xbd");
    frame(LAST, "\xb9");
    outcome("ping(\\ff) text(\\ce\\ba\\e1\\bd\\b9)");
    fresh();
    frame(TEXT_MORE, "\xce");
    frame(LAST, "\xce");
    fails_at(7 + 7, "utf8 1007");
    fresh();
    frame(TEXT_MORE, "ok\xce");
    frame(LAST, ""); /* ends within a character, known with the header */
    fails_at(9 + 6, "utf8 1007");
    fresh();
    frame(BINARY_MORE, "\xce");
    frame(LAST, "\xff");
    outcome("binary(\\ce\\ff)");
}

static void bad_utf8_fails_before_the_frame_is_complete(void **state)
{
    (void)state;
    char payload[20000];
    memset(payload, 'x', sizeof(payload));
    payload[10000] = '\xff';
    fresh();
    frame_n(TEXT, slice_of(payload, sizeof(payload)));
    fails_at(8 + 10001, "utf8 1007");
    /* in the second fragment of a message whose end never comes */
    fresh();
    frame(TEXT_MORE, "\xce\xba");
    frame_n(MORE, slice_of(payload + 9990, 20));
    in.len -= 5;
    fails_at(8 + 6 + 11, "utf8 1007");
}

static void state_of_utf8_does_not_leak_into_the_next_message(void **state)
{
    (void)state;
    fresh();
    frame(BINARY, "\xf0\x90");
    frame(TEXT, "a");
    outcome("binary(\\f0\\90) text(a)");
}

/* 7: close */

static void nothing_comes_after_a_close(void **state)
{
    (void)state;
    fresh();
    frame(CLOSE, "");
    frame(TEXT, "late");
    frame(PING, "late");
    frame(CLOSE, "");
    outcome("close 1005()");
    fresh();
    frame_n(CLOSE, SLICE("\x03\xe8going"));
    RAW("\xff\xff garbage");
    outcome("close 1000(going)");
}

static void close_payloads(void **state)
{
    (void)state;
    char reason[126];
    memset(reason, '*', sizeof(reason));
    memcpy(reason, "\x03\xe8", 2);
    fresh();
    frame(CLOSE, "x");
    fails_at(2, "syntax 1002");
    fresh();
    frame_n(CLOSE, slice_of(reason, 125));
    feed(BYTES);
    assert_memory_equal(out.data, "close 1000[123 ", 15);
    fresh();
    frame_n(CLOSE, slice_of(reason, 126));
    fails_at(2, "syntax 1002");
}

static void close_reasons_are_utf8(void **state)
{
    (void)state;
    fresh();
    frame_n(CLOSE, SLICE("\x03\xe8\xce\xba\xe1\xbd\xb9"));
    outcome("close 1000(\\ce\\ba\\e1\\bd\\b9)");
    fresh();
    frame_n(CLOSE, SLICE("\x03\xe8\xce\xba\xed\xa0\x80"));
    fails_at(6 + 6, "utf8 1007");
    fresh();
    frame_n(CLOSE, SLICE("\x03\xe8\xce"));
    fails_at(6 + 3, "utf8 1007");
}

static void close_codes(void **state)
{
    (void)state;
    static const uint16_t good[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011,
                                    1012, 1013, 1014, 3000, 3999, 4000, 4001, 4999};
    static const uint16_t bad[] = {0,    1,    999,  1004, 1005, 1006, 1015,
                                   1016, 1100, 2000, 2999, 5000, 65535};
    char expected[64];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char payload[] = {(char)(good[i] >> 8), (char)good[i], 'r'};
        fresh();
        frame_n(CLOSE, slice_of(payload, sizeof(payload)));
        snprintf(expected, sizeof(expected), "close %u(r)", good[i]);
        outcome(expected);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char payload[] = {(char)(bad[i] >> 8), (char)bad[i], '\xff'};
        fresh();
        frame_n(CLOSE, slice_of(payload, sizeof(payload)));
        fails_at(6 + 2, "syntax 1002");
    }
}

/* Lengths */

static void an_announced_length_over_the_limit_is_refused_at_once(void **state)
{
    (void)state;
    fresh();
    RAW("\x82\xff\x00\x00\x00\x00\x00\x01\x86\xa1"); /* 100001, neither key nor payload */
    fails_at(10, "limit 1009");
    fresh();
    RAW("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff");
    fails_at(10, "limit 1009");
}

static void the_limit_is_over_all_fragments(void **state)
{
    (void)state;
    char *payload = calloc(1, MESSAGE_MAX);
    fresh();
    frame_n(BINARY_MORE, slice_of(payload, MESSAGE_MAX - 1));
    size_t first = in.len;
    frame(LAST, "x");
    feed(WHOLE);
    assert_memory_equal(out.data, "binary[100000 ", 14);
    in.len = first;
    frame(LAST, "xy");
    fails_at(first + 2, "limit 1009");
    in.len = first;
    frame(LAST, "x");
    frame(TEXT, "the next message begins at zero");
    feed(WHOLE);
    assert_non_null(strstr(out.data, "text(the next"));
    free(payload);
}

static void lengths_must_be_in_their_shortest_form(void **state)
{
    (void)state;
    fresh();
    RAW("\x82\xfe\x00\x7d");
    fails_at(4, "syntax 1002");
    fresh();
    RAW("\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff");
    fails_at(10, "syntax 1002");
    fresh();
    RAW("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"); /* top bit */
    fails_at(10, "syntax 1002");
}

/* The pool */

static void send(struct ws *ws, struct slice bytes)
{
    uint16_t code;
    const char *why;
    assert_int_equal(ws_input(ws, bytes, &code, &why), ERR_OK);
}

static void nothing_is_held_after_a_complete_message(void **state)
{
    (void)state;
    struct ws ws;
    static const size_t sizes[] = {0, 1, 125, 4000, 5000, 70000};
    char *payload = calloc(1, 70000);
    fresh();
    connection = &ws;
    ws_init(&ws, WS_SERVER, pool, &events, &limits, &out);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        buf_clear(&in);
        frame_n(BINARY_MORE, slice_of(payload, sizes[i]));
        frame(LAST, "x");
        frame_n(BINARY, slice_of(payload, sizes[i]));
        /* every prefix that is not whole frames holds one; the whole holds none */
        for (size_t cut = 1; cut < in.len; cut += 1 + in.len / 13) {
            send(&ws, slice_of(in.data, cut));
            send(&ws, slice_of(in.data + cut, in.len - cut));
            assert_null(ws.partial);
            assert_int_equal(ws_pool_held(pool), 0);
        }
        send(&ws, slice_of(in.data, 1));
        assert_int_equal(ws_pool_held(pool), 1);
        send(&ws, slice_of(in.data + 1, in.len - 1));
        assert_int_equal(ws_pool_held(pool), 0);
    }
    ws_release(&ws);
    free(payload);
}

/* Contexts wander between connections that are in the middle of something. */
static void interleaved_connections_do_not_mix(void **state)
{
    (void)state;
    enum { N = 40 };
    struct ws ws[N];
    size_t at[N] = {0}, done = 0;
    fresh();
    frame(TEXT_MORE, "\xce");
    frame(PING, "p");
    frame(LAST, "\xba");
    frame(BINARY, "end");
    buf_clear(&out);
    for (int i = 0; i < N; i++)
        ws_init(&ws[i], WS_SERVER, pool, &events, &limits, &out);
    while (done < N) {
        uint32_t i = next_random() % N;
        size_t n = 1 + next_random() % 5;
        if (at[i] == in.len)
            continue;
        n = n < in.len - at[i] ? n : in.len - at[i];
        send(&ws[i], slice_of(in.data + at[i], n));
        at[i] += n;
        done += at[i] == in.len;
    }
    assert_int_equal(ws_pool_held(pool), 0);
    size_t texts = 0;
    buf_append_char(&out, 0);
    for (const char *c = out.data; (c = strstr(c, "text(\\ce\\ba)")); c++)
        texts++;
    assert_int_equal(texts, N);
    for (int i = 0; i < N; i++)
        ws_release(&ws[i]);
}

static void a_connection_that_leaves_mid_frame_does_not_spoil_its_context(void **state)
{
    (void)state;
    struct ws ws;
    fresh();
    frame(TEXT_MORE, "unfinished \xce");
    frame(LAST, "never comes");
    for (size_t cut = 1; cut < in.len; cut++) {
        fresh();
        frame(TEXT_MORE, "unfinished \xce");
        frame(LAST, "never comes");
        ws_init(&ws, WS_SERVER, pool, &events, &limits, &out);
        uint16_t code;
        const char *why;
        enum err e = ws_input(&ws, slice_of(in.data, cut), &code, &why);
        assert_true(e == ERR_OK || e == ERR_UTF8);
        ws_release(&ws);
        assert_int_equal(ws_pool_held(pool), 0);
        fresh();
        frame(TEXT, "clean");
        feed(WHOLE);
        assert_string_equal(out.data, "text(clean)");
    }
}

static void a_callback_may_stop_the_connection(void **state)
{
    (void)state;
    fresh();
    frame(TEXT, "one");
    frame(PING, "two");
    frame(TEXT_MORE, "th\xce");
    frame(PONG, "four");
    frame(LAST, "\xbaree");
    stop_on = "text";
    outcome("text(one)");
    stop_on = "pong";
    outcome("text(one) ping(two) pong(four)");
    /* what it left half-read is not in the way of the next */
    fresh();
    frame(TEXT, "clean");
    outcome("text(clean)");
}

/* Handshake, codes, client frames */

static void accept_key(void **state)
{
    (void)state;
    char key[29];
    assert_int_equal(ws_accept_key(SLICE("dGhlIHNhbXBsZSBub25jZQ=="), key), ERR_OK);
    assert_string_equal(key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="); /* RFC 6455 1.3 */
    assert_int_equal(ws_accept_key(SLICE(""), key), ERR_SYNTAX);
    assert_int_equal(ws_accept_key(SLICE("dGhlIHNhbXBsZSBub25jZQ="), key), ERR_SYNTAX);
    assert_int_equal(ws_accept_key(SLICE("dGhlIHNhbXBsZSBub25jZTEy"), key), ERR_SYNTAX);
    assert_int_equal(ws_accept_key(SLICE("dGhlIHNhbXBsZSBub25j!Q=="), key), ERR_SYNTAX);
    assert_int_equal(ws_accept_key(SLICE("dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSA="), key),
                     ERR_SYNTAX);
}

static void client_frames_are_masked_and_understood(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536};
    char *payload = malloc(65536), again[64];
    memset(payload, 'y', 65536);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fresh();
        ws_client_frame(&in, WS_TEXT, slice_of(payload, sizes[i]));
        ws_client_frame(&in, WS_CLOSE, SLICE("\x03\xe8"));
        buf_clear(&out);
        add_outcome("text", slice_of(payload, sizes[i]));
        snprintf(again, sizeof(again), "%.*sclose 1000()", (int)out.len, out.data);
        outcome(again);
    }
    struct buf small;
    buf_init(&small, 10);
    ws_client_frame(&small, WS_TEXT, SLICE("longer than that"));
    assert_true(small.failed);
    assert_int_equal(small.len, 0);
    buf_release(&small);
    free(payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payloads_of_all_lengths),
        cmocka_unit_test(many_messages_in_one_read),
        cmocka_unit_test(the_client_role_takes_unmasked_frames),
        cmocka_unit_test(the_server_role_takes_masked_frames_only),
        cmocka_unit_test(pings_and_pongs),
        cmocka_unit_test(reserved_bits_are_refused_at_the_first_byte),
        cmocka_unit_test(reserved_opcodes_are_refused_at_the_first_byte),
        cmocka_unit_test(fragments_make_one_message),
        cmocka_unit_test(control_frames_may_stand_between_fragments),
        cmocka_unit_test(control_frames_may_not_be_fragmented),
        cmocka_unit_test(continuation_needs_a_message_and_a_message_its_end),
        cmocka_unit_test(too_many_fragments_are_refused),
        cmocka_unit_test(utf8_is_checked_to_the_byte),
        cmocka_unit_test(utf8_goes_across_fragments_and_past_control_frames),
        cmocka_unit_test(bad_utf8_fails_before_the_frame_is_complete),
        cmocka_unit_test(state_of_utf8_does_not_leak_into_the_next_message),
        cmocka_unit_test(nothing_comes_after_a_close),
        cmocka_unit_test(close_payloads),
        cmocka_unit_test(close_reasons_are_utf8),
        cmocka_unit_test(close_codes),
        cmocka_unit_test(an_announced_length_over_the_limit_is_refused_at_once),
        cmocka_unit_test(the_limit_is_over_all_fragments),
        cmocka_unit_test(lengths_must_be_in_their_shortest_form),
        cmocka_unit_test(nothing_is_held_after_a_complete_message),
        cmocka_unit_test(interleaved_connections_do_not_mix),
        cmocka_unit_test(a_connection_that_leaves_mid_frame_does_not_spoil_its_context),
        cmocka_unit_test(a_callback_may_stop_the_connection),
        cmocka_unit_test(accept_key),
        cmocka_unit_test(client_frames_are_masked_and_understood),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
