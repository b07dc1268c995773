/* test_ws_deflate.c - messages that come with permessage-deflate (RFC 7692), by byte arrays in all
 * kinds of pieces. */
#include "ws_fixture.h"

#include "crier/deflate.h"

enum { RSV1 = 0x40 };

static void begin(void)
{
    fresh();
    deflate = true;
}

/* As a sender leaves it: without the tail. */
static void deflated(struct buf *b, struct slice plain)
{
    buf_init(b, 16 << 20);
    assert_int_equal(deflate_append(b, plain, DEFLATE_WIDE), ERR_OK);
    b->len -= DEFLATE_TAIL_BYTES;
}

static void frame_deflated(uint8_t first, struct slice plain)
{
    struct buf b;
    deflated(&b, plain);
    frame_n(first | RSV1, buf_slice(&b));
    buf_release(&b);
}

/* In frames of n bytes each. */
static void fragments_deflated(uint8_t opcode, struct slice plain, size_t n)
{
    struct buf b;
    deflated(&b, plain);
    for (size_t at = 0; at < b.len; at += n) {
        bool last = b.len - at <= n;
        uint8_t first = (uint8_t)((at ? 0 : opcode | RSV1) | (last ? LAST : 0));
        frame_n(first, slice_of(b.data + at, last ? b.len - at : n));
    }
    buf_release(&b);
}

#define BIN(first, literal) frame_n((first) | RSV1, SLICE(literal))

static void examples_of_the_rfc(void **state)
{
    (void)state;
    begin();
    BIN(TEXT, "\xf2\x48\xcd\xc9\xc9\x07\x00");
    BIN(TEXT, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00");         /* a stored block */
    BIN(TEXT, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00");                     /* BFINAL */
    BIN(TEXT, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"); /* two blocks */
    BIN(TEXT_MORE, "\xf2\x48\xcd");                                    /* two fragments */
    frame_n(LAST, SLICE("\xc9\xc9\x07\x00"));
    BIN(TEXT, "\x00");   /* empty */
    BIN(BINARY, "\x00"); /* empty */
    frame(TEXT, "plain");
    outcome("text(Hello) text(Hello) text(Hello) text(Hello) text(Hello) text() binary() "
            "text(plain)");
}

static void several_final_blocks_in_a_message(void **state)
{
    (void)state;
    begin();
    BIN(BINARY, "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07"
                "\x00");
    BIN(TEXT, "\x03\x00\x03\x00\x03\x00\x00");
    outcome("binary(HelloHelloHello) text()");
}

static void a_message_knows_nothing_of_the_one_before(void **state)
{
    (void)state;
    begin();
    frame_deflated(TEXT, SLICE("Hello"));
    /* RFC 7692 7.2.3.2: with context takeover this would say Hello again. */
    BIN(TEXT, "\xf2\x00\x11\x00\x00");
    outcome("text(Hello) syntax 1007");
}

static void payloads_of_all_lengths_and_cuts(void **state)
{
    static const size_t sizes[] = {1, 2, 125, 126, 4095, 4096, 4097, 8192, 65536, MESSAGE_MAX};
    char *text = malloc(MESSAGE_MAX), *noise = malloc(MESSAGE_MAX);
    (void)state;
    for (size_t i = 0; i < MESSAGE_MAX; i++) {
        text[i] = (char)('a' + i / 3 % 17);
        noise[i] = (char)next_random();
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct slice one = slice_of(text, sizes[i]), two = slice_of(noise, sizes[i]);
        begin();
        frame_deflated(TEXT, one);
        frame_deflated(BINARY, two);
        fragments_deflated(BINARY_MORE, two, sizes[i] / 30 + 1);
        buf_clear(&out);
        add_outcome("text", one);
        add_outcome("binary", two);
        add_outcome("binary", two);
        char *want = strndup(out.data, out.len - 1);
        outcome(want);
        free(want);
    }
    free(text);
    free(noise);
}

static void control_frames_may_stand_between_fragments(void **state)
{
    (void)state;
    begin();
    BIN(TEXT_MORE, "\xf2");
    frame(PING, "a");
    frame(MORE, "");
    frame_n(MORE, SLICE("\x48\xcd\xc9"));
    frame(PONG, "b");
    frame_n(MORE, SLICE("\xc9\x07"));
    frame_n(LAST, SLICE("\x00"));
    outcome("ping(a) pong(b) text(Hello)");
    begin();
    BIN(TEXT_MORE, "\xf2\x48\xcd\xc9\xc9\x07\x00");
    frame(LAST, "");
    outcome("text(Hello)");
}

static void the_bit_stands_on_the_first_frame_only(void **state)
{
    (void)state;
    static const uint8_t control[] = {CLOSE, PING, PONG};
    begin();
    BIN(TEXT_MORE, "\xf2\x48");
    size_t n = in.len + 1;
    BIN(LAST, "\xcd\xc9\xc9\x07\x00");
    fails_at(n, "syntax 1002");
    begin();
    frame(TEXT_MORE, "plain");
    n = in.len + 1;
    BIN(LAST, "\x00");
    fails_at(n, "syntax 1002");
    for (size_t i = 0; i < sizeof(control); i++) {
        begin();
        frame(control[i] | RSV1, "");
        fails_at(1, "syntax 1002");
    }
    begin();
    frame(0x83 | RSV1, "");
    fails_at(1, "syntax 1002");
}

static void other_bits_stay_reserved(void **state)
{
    (void)state;
    for (uint8_t rsv = 0x10; rsv <= 0x70; rsv = (uint8_t)(rsv + 0x10)) {
        if (rsv == RSV1)
            continue;
        begin();
        frame(TEXT | rsv, "");
        fails_at(1, "syntax 1002");
    }
    begin();
    deflate = false;
    BIN(TEXT, "\x00");
    fails_at(1, "syntax 1002");
}

static void what_does_not_inflate_is_1007(void **state)
{
    (void)state;
    static const struct slice broken[] = {
        SLICE("\x07"),                 /* BTYPE 11 */
        SLICE("\x00\x05\x00\x05\x00"), /* NLEN */
        SLICE(""),                     /* not even the header of the empty block */
        SLICE("\xf2\x48\xcd"),         /* ends within a block */
        SLICE("\x00\x20\x00\xdf\xff"), /* a stored block that takes the tail */
        SLICE("\xf3\x48\xcd\xc9\xc9\x07\x00"),
        SLICE("\xf2\x48\xcd\xc9\xc9\x07\x00\x07"),
    };
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        begin();
        frame_n(BINARY | RSV1, broken[i]);
        frame(TEXT, "never");
        outcome("syntax 1007");
    }
}

static void it_fails_at_the_broken_byte(void **state)
{
    (void)state;
    begin();
    BIN(TEXT_MORE, "\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x07 and more that nobody reads");
    fails_at(2 + 4 + 12, "syntax 1007");
}

static void utf8_is_checked_as_it_is_inflated(void **state)
{
    (void)state;
    struct buf b;
    begin();
    frame_deflated(TEXT, SLICE("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"));
    frame_deflated(BINARY, SLICE("\xff\xfe"));
    frame_deflated(TEXT, SLICE("\xce"));
    outcome("text(\\ce\\ba\\e1\\bd\\b9\\cf\\83\\ce\\bc\\ce\\b5) binary(\\ff\\fe) utf8 1007");
    /* Before the message is complete; each character in a block, and so a frame, of its own. */
    begin();
    deflated(&b, SLICE("ok"));
    frame_n(TEXT_MORE | RSV1, slice_of(b.data, b.len));
    buf_release(&b);
    frame_n(MORE, SLICE("\x00\x00\xff\xff")); /* ends the empty block that `deflated` began */
    size_t n = in.len + 2 + 4 + 6;
    frame_n(MORE, SLICE("\x00\x02\x00\xfd\xff\xffzzzz"));
    fails_at(n, "utf8 1007");
}

static void the_limit_is_on_what_is_inflated(void **state)
{
    (void)state;
    char *zeros = calloc(1, MESSAGE_MAX + 1), *noise = malloc(MESSAGE_MAX + 1);
    for (size_t i = 0; i <= MESSAGE_MAX; i++)
        noise[i] = (char)next_random();
    begin();
    frame_deflated(BINARY, slice_of(zeros, MESSAGE_MAX));
    frame_deflated(BINARY, slice_of(noise, MESSAGE_MAX)); /* longer than the limit on the wire */
    buf_clear(&out);
    add_outcome("binary", slice_of(zeros, MESSAGE_MAX));
    add_outcome("binary", slice_of(noise, MESSAGE_MAX));
    char *want = strndup(out.data, out.len - 1);
    outcome(want);
    free(want);
    begin();
    frame_deflated(BINARY, slice_of(zeros, MESSAGE_MAX + 1));
    outcome("limit 1009");
    begin();
    frame_deflated(BINARY, slice_of(noise, MESSAGE_MAX + 1));
    outcome("limit 1009");
    begin();
    fragments_deflated(BINARY_MORE, slice_of(noise, MESSAGE_MAX + 1), 5000);
    outcome("limit 1009");
    free(zeros);
    free(noise);
}

/* What is more than anything that could fit is refused before a byte of it is there. */
static void an_announced_giant_is_refused_at_once(void **state)
{
    (void)state;
    begin();
    RAW("\xc2\xff\x00\x00\x00\x00\x00\x03\x11\x41"); /* 2 * MESSAGE_MAX + 1024 + 1 */
    fails_at(10, "limit 1009");
    begin();
    RAW("\xc2\xff\x00\x00\x00\x00\x00\x03\x11\x40");
    outcome("incomplete");
    begin();
    RAW("\x42\xff\x00\x00\x00\x00\x00\x03\x11\x40\x00\x00\x00\x00");
    for (size_t left = 2 * MESSAGE_MAX + 1024, n; left; left -= n) {
        n = left < 5 ? left : 5;
        raw("\x00\x00\x00\xff\xff", n); /* empty blocks without end */
    }
    size_t n = in.len + 2;
    frame_n(LAST, SLICE("\x00"));
    fails_at(n, "limit 1009");
}

/* A bomb is not inflated beyond the limit, and what it was inflated into is not kept. */
static void a_bomb_costs_no_more_than_the_limit(void **state)
{
    (void)state;
    char *zeros = calloc(1, 8 << 20);
    struct ws ws;
    uint16_t code;
    const char *why;
    begin();
    frame_deflated(BINARY, slice_of(zeros, 8 << 20));
    assert_true(in.len < 10000);
    outcome("limit 1009");
    ws_init(&ws, WS_SERVER, pool, &events, &limits, &out);
    ws.deflate = true;
    assert_int_equal(ws_input(&ws, buf_slice(&in), &code, &why), ERR_LIMIT);
    assert_null(ws.partial);
    ws_release(&ws);
    free(zeros);
}

static void an_inflater_is_lent_only_within_a_compressed_message(void **state)
{
    (void)state;
    enum { N = 12 };
    struct ws ws[N];
    uint16_t code;
    const char *why;
    begin();
    BIN(TEXT_MORE, "\xf2\x48\xcd");
    size_t cut = in.len;
    frame_n(LAST, SLICE("\xc9\xc9\x07\x00"));
    frame(TEXT_MORE, "plain");
    buf_clear(&out);
    for (int i = 0; i < N; i++) {
        ws_init(&ws[i], WS_SERVER, pool, &events, &limits, &out);
        ws[i].deflate = true;
        assert_int_equal(ws_input(&ws[i], slice_of(in.data, 2), &code, &why), ERR_OK);
        assert_int_equal(ws_pool_inflaters(pool), i);
        assert_int_equal(ws_input(&ws[i], slice_of(in.data + 2, cut - 2), &code, &why), ERR_OK);
        assert_int_equal(ws_pool_inflaters(pool), i + 1);
    }
    for (int i = 0; i < N; i += 2) {
        assert_int_equal(ws_input(&ws[i], slice_of(in.data + cut, in.len - cut), &code, &why),
                         ERR_OK);
        assert_non_null(ws[i].partial); /* within the plain one */
    }
    assert_int_equal(ws_pool_inflaters(pool), N / 2);
    for (int i = 0; i < N; i++)
        ws_release(&ws[i]);
    assert_int_equal(ws_pool_inflaters(pool), 0);
    assert_int_equal(ws_pool_held(pool), 0);
}

static void who_began_first_is_known(void **state)
{
    (void)state;
    struct ws ws[3];
    uint16_t code;
    const char *why;
    uint64_t since = 0;
    fresh();
    frame(TEXT, "whole");
    size_t whole = in.len;
    frame(TEXT_MORE, "part");
    assert_null(ws_pool_oldest(pool, &since));
    for (int i = 0; i < 3; i++) {
        ws_init(&ws[i], WS_SERVER, pool, &events, &limits, &out);
        ws_pool_tell_time(pool, (uint64_t)(1000 + i));
        assert_int_equal(ws_input(&ws[i], slice_of(in.data, 1), &code, &why), ERR_OK);
    }
    assert_ptr_equal(ws_pool_oldest(pool, &since), &ws[0]);
    assert_int_equal(since, 1000);
    /* What begins after a whole message begins then, though nothing was given back between. */
    ws_pool_tell_time(pool, 2000);
    assert_int_equal(ws_input(&ws[0], slice_of(in.data + 1, in.len - 1), &code, &why), ERR_OK);
    assert_ptr_equal(ws_pool_oldest(pool, &since), &ws[1]);
    assert_int_equal(since, 1001);
    /* A control frame in the middle does not begin it again. */
    assert_int_equal(ws_input(&ws[1], slice_of(in.data + 1, whole - 1), &code, &why), ERR_OK);
    assert_ptr_equal(ws_pool_oldest(pool, &since), &ws[2]);
    ws_stop(&ws[2]);
    assert_ptr_equal(ws_pool_oldest(pool, &since), &ws[0]);
    assert_int_equal(since, 2000);
    ws_pool_tell_time(pool, 3000);
    assert_int_equal(ws_input(&ws[0], SLICE("\x89\x80\0\0\0\0"), &code, &why), ERR_OK);
    assert_ptr_equal(ws_pool_oldest(pool, &since), &ws[0]);
    assert_int_equal(since, 2000);
    ws_begin_again(&ws[0]);
    assert_ptr_equal(ws_pool_oldest(pool, &since), &ws[0]);
    assert_int_equal(since, 3000);
    for (int i = 0; i < 3; i++)
        ws_release(&ws[i]);
    assert_null(ws_pool_oldest(pool, &since));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_rfc),
        cmocka_unit_test(several_final_blocks_in_a_message),
        cmocka_unit_test(a_message_knows_nothing_of_the_one_before),
        cmocka_unit_test(payloads_of_all_lengths_and_cuts),
        cmocka_unit_test(control_frames_may_stand_between_fragments),
        cmocka_unit_test(the_bit_stands_on_the_first_frame_only),
        cmocka_unit_test(other_bits_stay_reserved),
        cmocka_unit_test(what_does_not_inflate_is_1007),
        cmocka_unit_test(it_fails_at_the_broken_byte),
        cmocka_unit_test(utf8_is_checked_as_it_is_inflated),
        cmocka_unit_test(the_limit_is_on_what_is_inflated),
        cmocka_unit_test(an_announced_giant_is_refused_at_once),
        cmocka_unit_test(a_bomb_costs_no_more_than_the_limit),
        cmocka_unit_test(an_inflater_is_lent_only_within_a_compressed_message),
        cmocka_unit_test(who_began_first_is_known),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
