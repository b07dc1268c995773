/* test_codec.c - base64, percent-encoding, SHA-1 and UTF-8, against published vectors and rules. */
#include "crier/codec.h"
#include "crier/rnd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* --- base64 ----------------------------------------------------------------------------------- */

static const char *const rfc4648[][2] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"\xfb\xff\xbe", "+/++"},
};

static void test_base64_vectors(void **state)
{
    uint8_t out[16];
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof rfc4648 / sizeof *rfc4648; i++) {
        struct slice plain = slice_str(rfc4648[i][0]), text = slice_str(rfc4648[i][1]);
        struct buf b;
        buf_init(&b, 100);
        base64_append(&b, plain);
        assert_true(slice_eq(buf_slice(&b), text));
        assert_int_equal(base64_len(plain.len), text.len);
        assert_int_equal(base64_decode(text, out, &n), ERR_OK);
        assert_true(slice_eq(slice_of(out, n), plain));
        buf_release(&b);
    }
}

static void test_base64_round_trip_of_all_lengths(void **state)
{
    char bytes[100];
    uint8_t out[100];
    size_t n;

    (void)state;
    for (size_t len = 0; len <= sizeof bytes; len++) {
        struct buf b;
        rnd_bytes(bytes, len);
        buf_init(&b, base64_len(len)); /* exactly enough */
        base64_append(&b, slice_of(bytes, len));
        assert_false(b.failed);
        assert_int_equal(base64_decode(buf_slice(&b), out, &n), ERR_OK);
        assert_true(slice_eq(slice_of(out, n), slice_of(bytes, len)));
        buf_release(&b);
    }
}

static void test_base64_has_one_spelling(void **state)
{
    static const char *const bad[] = {
        "Z",        "Zg",   "Zg=",  "Zm8",  "====",     "Z===",   "=Zg=",    "Zg==Zg==",
        "Zm8=Zm8=", "Zh==", "Zm9=", "Z/==", "Zm8 ",     "Zg==\n", "Zm9v\n",  " Zm9v",
        "Zm-v",     "Zm_v", "Zm=v", "Z=9v", "Zm9v====", "Zg=a",   "Zm\xc3v",
    };
    uint8_t out[16];
    size_t n = 77;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(base64_decode(slice_str(bad[i]), out, &n), ERR_SYNTAX);
    assert_int_equal(base64_decode(slice_of("Zm\0v", 4), out, &n), ERR_SYNTAX);
    assert_int_equal(n, 77);
}

/* Of all texts of four characters with padding only those that an encoder makes are read. */
static void test_base64_leftover_bits_must_be_zero(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t out[4];
    size_t n;

    (void)state;
    for (int i = 0; i < 64; i++) {
        char two[4] = {'A', digits[i], '=', '='}, three[4] = {'A', 'A', digits[i], '='};
        assert_int_equal(base64_decode(slice_of(two, 4), out, &n), i % 16 ? ERR_SYNTAX : ERR_OK);
        assert_int_equal(base64_decode(slice_of(three, 4), out, &n), i % 4 ? ERR_SYNTAX : ERR_OK);
    }
}

static void test_base64_that_does_not_fit_leaves_the_buffer(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 7);
    base64_append(&b, SLICE("abcd"));
    assert_true(b.failed);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

/* --- percent ---------------------------------------------------------------------------------- */

static void assert_decodes(struct slice text, bool plus, struct slice expected)
{
    struct buf b;

    buf_init(&b, 100);
    assert_int_equal(percent_decode(text, plus, &b), ERR_OK);
    assert_true(slice_eq(buf_slice(&b), expected));
    buf_release(&b);
}

static void test_percent_decoding(void **state)
{
    (void)state;
    assert_decodes(SLICE(""), false, SLICE(""));
    assert_decodes(SLICE("a%20b+c"), false, SLICE("a b+c"));
    assert_decodes(SLICE("a%20b+c"), true, SLICE("a b c"));
    assert_decodes(SLICE("%2B%2b"), true, SLICE("++"));
    assert_decodes(SLICE("%00%fF%Ff"), false, SLICE("\0\xff\xff"));
    assert_decodes(SLICE("%2525"), false, SLICE("%25"));
}

static void test_percent_bad_escapes_are_refused_and_append_nothing(void **state)
{
    static const char *const bad[] = {"%", "%2", "a%", "%zz", "%2g", "%g2", "% 20", "%%20", "ok%2"};
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    buf_append_str(&b, "x");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(percent_decode(slice_str(bad[i]), true, &b), ERR_SYNTAX);
    /* the digits lie behind the end of the slice */
    assert_int_equal(percent_decode(slice_of("%20", 2), true, &b), ERR_SYNTAX);
    assert_int_equal(percent_decode(slice_of("%20", 1), true, &b), ERR_SYNTAX);
    assert_true(slice_eq(buf_slice(&b), SLICE("x")));
    buf_release(&b);
}

static void test_percent_limit(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 3);
    assert_int_equal(percent_decode(SLICE("%61%62%63"), false, &b), ERR_OK);
    assert_int_equal(percent_decode(SLICE("d"), false, &b), ERR_LIMIT);
    assert_true(slice_eq(buf_slice(&b), SLICE("abc")));
    buf_release(&b);
}

static void test_percent_encoding_escapes_all_but_unreserved(void **state)
{
    char all[256];
    struct buf b, back;

    (void)state;
    buf_init(&b, 1000);
    buf_init(&back, 1000);
    percent_append(&b, SLICE("aZ09-._~/ +%\xc3\x84"));
    assert_true(slice_eq(buf_slice(&b), SLICE("aZ09-._~%2F%20%2B%25%C3%84")));
    for (int i = 0; i < 256; i++)
        all[i] = (char)(unsigned char)i;
    buf_clear(&b);
    percent_append(&b, slice_of(all, 256));
    assert_int_equal(b.len, 66 + 3 * 190);
    assert_int_equal(percent_decode(buf_slice(&b), true, &back), ERR_OK);
    assert_true(slice_eq(buf_slice(&back), slice_of(all, 256)));
    buf_release(&b);
    buf_release(&back);
}

/* --- SHA-1 ------------------------------------------------------------------------------------ */

static void assert_sha1(struct slice bytes, const char *expected)
{
    uint8_t out[20];
    char hex[41];

    sha1(bytes, out);
    for (int i = 0; i < 20; i++)
        snprintf(hex + 2 * i, 3, "%02x", out[i]);
    assert_string_equal(hex, expected);
}

static void test_sha1_vectors(void **state)
{
    (void)state;
    assert_sha1(SLICE_NONE, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_sha1(SLICE("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    /* RFC 6455 1.3 */
    assert_sha1(SLICE("dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11"),
                "b37a4f2cc0624f1690f64606cf385945b2bec4ea");
}

/* --- UTF-8 ------------------------------------------------------------------------------------ */

/* The bytes of a code point as RFC 3629 section 3 lays them out, also of those it forbids. */
static size_t encode(uint32_t cp, size_t n, char out[4])
{
    static const uint32_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = n; i-- > 1; cp >>= 6)
        out[i] = (char)(unsigned char)(0x80 | (cp & 0x3f));
    out[0] = (char)(unsigned char)(n == 1 ? cp : lead[n] | cp);
    return n;
}

static size_t shortest(uint32_t cp)
{
    return cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
}

/* Every value in every length that can hold it: only the shortest form of a scalar value is UTF-8.
 */
static void test_utf8_exactly_the_scalar_values_in_their_shortest_form(void **state)
{
    static const uint32_t ends[] = {0, 0x80, 0x800, 0x10000, 0x200000};
    char text[4];

    (void)state;
    for (size_t n = 1; n <= 4; n++) {
        for (uint32_t cp = 0; cp < ends[n]; cp++) {
            bool scalar = cp <= 0x10ffff && (cp < 0xd800 || cp > 0xdfff);
            bool good = scalar && shortest(cp) == n;
            encode(cp, n, text);
            if (utf8_is_valid(slice_of(text, n)) != good)
                fail_msg("U+%04X in %zu bytes", cp, n);
        }
    }
}

static void test_utf8_bytes_that_never_start_a_character(void **state)
{
    (void)state;
    for (unsigned c = 0x80; c < 0x100; c++) {
        char byte = (char)(unsigned char)c;
        struct utf8 u;
        utf8_init(&u);
        bool may_start = c >= 0xc2 && c <= 0xf4;
        assert_int_equal(utf8_feed(&u, slice_of(&byte, 1)), may_start ? ERR_OK : ERR_UTF8);
        assert_int_equal(utf8_is_complete(&u), !may_start);
    }
}

/* Each text with the index of the byte that must be refused at once. */
static void test_utf8_fails_at_the_first_byte_that_cannot_continue(void **state)
{
    static const struct {
        const char *text;
        size_t bad;
    } cases[] = {
        {"\xed\xa0\x80", 1},          /* surrogate */
        {"\xe0\x9f\xbf", 1},          /* overlong */
        {"\xf0\x8f\xbf\xbf", 1},      /* overlong */
        {"\xf4\x90\x80\x80", 1},      /* past U+10FFFF */
        {"\xc1\xbf", 0},              /* overlong ASCII */
        {"ab\xc3(", 3},               /* not continued */
        {"\xe2\x82\xac\xe2\x82x", 5}, /* not continued */
        {"\xf0\x9f\x98\xc3", 3},      /* a new start inside */
        {"12345678\x80", 8},          /* right after a fast word */
        {"1234567\xff", 7},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct utf8 u;
        utf8_init(&u);
        for (size_t at = 0; at < cases[i].bad; at++)
            assert_int_equal(utf8_feed(&u, slice_of(cases[i].text + at, 1)), ERR_OK);
        assert_int_equal(utf8_feed(&u, slice_of(cases[i].text + cases[i].bad, 1)), ERR_UTF8);
        utf8_init(&u);
        assert_int_equal(utf8_feed(&u, slice_str(cases[i].text)), ERR_UTF8);
    }
}

static void test_utf8_cut_anywhere(void **state)
{
    static const char text[] = "a\xc3\xa4 \xe2\x82\xac long enough for a word \xf0\x9f\x98\x80z";
    struct slice all = SLICE(text);

    (void)state;
    for (size_t first = 0; first <= all.len; first++) {
        for (size_t second = first; second <= all.len; second++) {
            struct utf8 u;
            utf8_init(&u);
            assert_int_equal(utf8_feed(&u, slice_of(all.ptr, first)), ERR_OK);
            bool boundary = first == all.len || ((unsigned char)all.ptr[first] & 0xc0) != 0x80;
            assert_int_equal(utf8_is_complete(&u), boundary);
            assert_int_equal(utf8_feed(&u, slice_of(all.ptr + first, second - first)), ERR_OK);
            assert_int_equal(utf8_feed(&u, slice_of(all.ptr + second, all.len - second)), ERR_OK);
            assert_true(utf8_is_complete(&u));
        }
    }
}

static void test_utf8_that_ends_too_early_is_not_valid(void **state)
{
    (void)state;
    assert_true(utf8_is_valid(SLICE_NONE));
    assert_true(utf8_is_valid(SLICE("\0")));
    assert_false(utf8_is_valid(SLICE("\xc3")));
    assert_false(utf8_is_valid(SLICE("abc\xe2\x82")));
    assert_false(utf8_is_valid(SLICE("\xf0\x9f\x98")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_vectors),
        cmocka_unit_test(test_base64_round_trip_of_all_lengths),
        cmocka_unit_test(test_base64_has_one_spelling),
        cmocka_unit_test(test_base64_leftover_bits_must_be_zero),
        cmocka_unit_test(test_base64_that_does_not_fit_leaves_the_buffer),
        cmocka_unit_test(test_percent_decoding),
        cmocka_unit_test(test_percent_bad_escapes_are_refused_and_append_nothing),
        cmocka_unit_test(test_percent_limit),
        cmocka_unit_test(test_percent_encoding_escapes_all_but_unreserved),
        cmocka_unit_test(test_sha1_vectors),
        cmocka_unit_test(test_utf8_exactly_the_scalar_values_in_their_shortest_form),
        cmocka_unit_test(test_utf8_bytes_that_never_start_a_character),
        cmocka_unit_test(test_utf8_fails_at_the_first_byte_that_cannot_continue),
        cmocka_unit_test(test_utf8_cut_anywhere),
        cmocka_unit_test(test_utf8_that_ends_too_early_is_not_valid),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
