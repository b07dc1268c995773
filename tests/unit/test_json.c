/* test_json.c - the JSON grammar at its edges, values found in place, strings in and out. */
#include "crier/codec.h"
#include "crier/json.h"
#include "crier/rnd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static enum err check(const char *text)
{
    return json_check(slice_str(text), false, NULL);
}

/* From a heap block of exactly that size, so that ASan sees a read behind the end. */
static enum err check_exact(struct slice text, bool reject_duplicates, struct json_error *error)
{
    char *copy = malloc(text.len ? text.len : 1);

    assert_non_null(copy);
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    enum err e = json_check(slice_of(copy, text.len), reject_duplicates, error);
    free(copy);
    return e;
}

/* --- the grammar ------------------------------------------------------------------------------ */

static void test_accepts_what_the_grammar_has(void **state)
{
    static const char *const good[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "10",
        "1.0",
        "0.5",
        "1e5",
        "1E+5",
        "1e-05",
        "-0.0e0",
        "123456789012345678901234567890.123456789e99999999", /* large is not wrong */
        "1e999999999999",
        "\"\"",
        "\"a\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\uD83D\\uDE00\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\u0000\"",
        "\"\x7f\"",
        "\"\xe2\x80\xa8\"",
        "[]",
        "{}",
        " [ ] ",
        "\t{\n}\r",
        "[1]",
        "[1,2]",
        "[ 1 , [ ] , { } ]",
        "{\"a\":1}",
        "{ \"a\" : 1 , \"b\" : [ true ] }",
        "{\"\":\"\"}",
        "{\"a\":1,\"a\":2}",
        "[[[[]]]]",
        "\n 1 \n",
        "[\"[\",\"{\",\"]\",\"\\\"\"]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (check(good[i]) != ERR_OK)
            fail_msg("refused: %s", good[i]);
}

static void test_refuses_everything_else(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "tru",
        "NaN",
        "Infinity",
        "-",
        "+1",
        "01",
        "-01",
        "00",
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "0x1",
        "1 2",
        "- 1",
        "1e5.5",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\a\"",
        "\"\\",
        "\"\\u\"",
        "\"\\u123\"",
        "\"\\u123g\"",
        "\"\\U0041\"",
        "\"\t\"",
        "\"\n\"",
        "'a'",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[,]",
        "[1 2]",
        "[1,,2]",
        "[1}",
        "{",
        "}",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1]",
        "{\"a\",\"b\"}",
        "[\"a\":1]",
        "[] []",
        "{}x",
        "\"a\"b",
        "// x\n1",
        "1 /* x */",
        "\f1",
        "\v1",
        "[1]]",
        "\xef\xbb\xbf"
        "1",
        "\xc2\xa0"
        "1",
        "[1]\xc3\xa4",
        "{\"a\":nul}",
        "[tru]",
        "{null:1}",
        "{[]:1}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (check_exact(slice_str(bad[i]), true, NULL) != ERR_SYNTAX)
            fail_msg("not refused: %s", bad[i]);
}

static void test_nul_bytes_are_not_white_space_and_not_text(void **state)
{
    (void)state;
    assert_int_equal(check_exact(slice_of("1\0", 2), false, NULL), ERR_SYNTAX);
    assert_int_equal(check_exact(slice_of("\0", 1), false, NULL), ERR_SYNTAX);
    assert_int_equal(check_exact(slice_of("\"a\0b\"", 5), false, NULL), ERR_SYNTAX);
    assert_int_equal(check_exact(slice_of("\"\\\0\"", 4), false, NULL), ERR_SYNTAX);
    assert_int_equal(check_exact(SLICE_NONE, false, NULL), ERR_SYNTAX);
}

static void test_text_that_is_not_utf8(void **state)
{
    struct json_error error;

    (void)state;
    assert_int_equal(check_exact(SLICE("[\"ab\xc3\"]"), false, &error), ERR_UTF8);
    assert_int_equal(error.offset, 5);
    assert_int_equal(check_exact(SLICE("\"\xed\xa0\x80\""), false, &error), ERR_UTF8);
    assert_int_equal(error.offset, 2);
    assert_int_equal(check_exact(SLICE("\"abc\xe2\x82"), false, &error), ERR_UTF8);
    assert_int_equal(error.offset, 6);
    assert_int_equal(check_exact(SLICE("\"\xf0\x9f\x98\x80\""), false, NULL), ERR_OK);
}

static void test_errors_say_where(void **state)
{
    static const struct {
        const char *text;
        size_t offset;
    } cases[] = {
        {"", 0},         {"  x", 2},   {"[1,]", 3},  {"{\"a\":1,}", 7},  {"{\"a\" 1}", 5},
        {"\"a\tb\"", 2}, {"01", 1},    {"[1] x", 4}, {"\"\\u12x4\"", 5}, {"{\"a\":tru}", 5},
        {"-x", 1},       {"\"abc", 4},
    };
    struct json_error error;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        error = (struct json_error){999, NULL};
        assert_int_equal(json_check(slice_str(cases[i].text), false, &error), ERR_SYNTAX);
        assert_int_equal(error.offset, cases[i].offset);
        assert_non_null(error.what);
    }
    error.offset = 999;
    assert_int_equal(json_check(SLICE("1"), false, &error), ERR_OK);
    assert_int_equal(error.offset, 999);
}

static void nest(struct buf *b, unsigned depth, const char *open, const char *close)
{
    buf_clear(b);
    for (unsigned i = 0; i < depth; i++)
        buf_append_str(b, open);
    buf_append_str(b, "1");
    for (unsigned i = 0; i < depth; i++)
        buf_append_str(b, close);
}

static void test_nesting_is_limited(void **state)
{
    struct json_error error;
    struct buf b;

    (void)state;
    buf_init(&b, 1u << 20);
    nest(&b, JSON_MAX_DEPTH, "[", "]");
    assert_int_equal(json_check(buf_slice(&b), true, NULL), ERR_OK);
    nest(&b, JSON_MAX_DEPTH, "{\"a\":", "}");
    assert_int_equal(json_check(buf_slice(&b), true, NULL), ERR_OK);
    nest(&b, JSON_MAX_DEPTH / 2, "[{\"a\":", "}]");
    assert_int_equal(json_check(buf_slice(&b), true, NULL), ERR_OK);
    nest(&b, JSON_MAX_DEPTH + 1, "[", "]");
    assert_int_equal(json_check(buf_slice(&b), true, &error), ERR_LIMIT);
    assert_int_equal(error.offset, JSON_MAX_DEPTH);
    nest(&b, 100000, "[", "]");
    assert_int_equal(json_check(buf_slice(&b), true, NULL), ERR_LIMIT);
    buf_release(&b);
}

/* A container that was closed counts no more, and the kinds of the outer ones are not mixed up. */
static void test_siblings_do_not_add_to_the_depth(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10000);
    buf_append_str(&b, "[");
    for (int i = 0; i < 300; i++)
        buf_append_str(&b, i % 2 ? "{\"a\":[]}," : "[{}],");
    buf_append_str(&b, "0]");
    assert_int_equal(json_check(buf_slice(&b), true, NULL), ERR_OK);
    b.data[b.len - 1] = '}';
    assert_int_equal(json_check(buf_slice(&b), true, NULL), ERR_SYNTAX);
    buf_release(&b);
}

/* --- duplicates ------------------------------------------------------------------------------- */

static void test_duplicate_members(void **state)
{
    static const char *const twice[] = {
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"b\":2,\"a\":3}",
        "{\"\":1,\"\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"\\n\":1,\"\\u000A\":2}",
        "{\"\\/\":1,\"/\":2}",
        "{\"\xc3\xa4\":1,\"\\u00E4\":2}",
        "{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}",
        "{\"\\ud800\":1,\"\\ufffd\":2}",
        "[{\"a\":1,\"a\":2}]",
        "[{\"b\":1},{\"a\":{},\"a\":[]}]",
        "{\"x\":{\"y\":1},\"x\":1}",
        "{\"x\":[{\"y\":1}],\"x\":1}",
        "{\"a\\u0000b\":1,\"a\\u0000b\":1}",
    };
    static const char *const once[] = {
        "{\"a\":1,\"A\":2}",
        "{\"a\":{\"a\":{\"a\":1}}}",
        "[{\"a\":1},{\"a\":2}]",
        "{\"a\":1,\"a \":2}",
        "{\"a\":\"a\",\"b\":\"a\"}",
        "{\"a\\u0000b\":1,\"a\\u0000c\":1}",
        "{\"a\":1,\"\\\\u0061\":2}",
        /* deeper objects are the payload's business */
        "{\"x\":{\"a\":1,\"a\":2}}",
        "[[{\"a\":1,\"a\":2}]]",
        "[{\"x\":{\"a\":1,\"a\":2}}]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof twice / sizeof *twice; i++) {
        if (check_exact(slice_str(twice[i]), true, NULL) != ERR_EXISTS)
            fail_msg("duplicate not seen: %s", twice[i]);
        assert_int_equal(check(twice[i]), ERR_OK);
    }
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        if (check_exact(slice_str(once[i]), true, NULL) != ERR_OK)
            fail_msg("no duplicate in: %s", once[i]);
}

static void test_a_duplicate_is_pointed_at(void **state)
{
    struct json_error error;

    (void)state;
    assert_int_equal(json_check(SLICE("{\"a\":1, \"b\":2, \"a\":3}"), true, &error), ERR_EXISTS);
    assert_int_equal(error.offset, 15);
}

static void many_members(struct buf *b, unsigned n, unsigned last)
{
    buf_clear(b);
    for (unsigned i = 0; i < n; i++)
        buf_printf(b, "%c\"n%u\":0", i ? ',' : '{', i + 1 == n ? last : i);
    buf_append_str(b, "}");
}

static void test_duplicates_among_many_members(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1u << 20);
    for (unsigned n = 2; n < 20000; n = n < 70 ? n + 1 : n * 3) {
        many_members(&b, n, n - 1);
        assert_int_equal(check_exact(buf_slice(&b), true, NULL), ERR_OK);
        many_members(&b, n, rnd_below(n - 1));
        assert_int_equal(check_exact(buf_slice(&b), true, NULL), ERR_EXISTS);
    }
    buf_release(&b);
}

/* Any change of one byte gives an answer, not a crash; the exact block lets ASan look. */
static void test_damaged_texts(void **state)
{
    static const char text[] =
        "[{\"a\\u00e4\":[1,-2.5e3,\"x\\\\\"],\"b\":{\"c\":null}},true,\"\xe2\x82\xac\"]";
    struct slice whole = SLICE(text), value;
    char copy[sizeof text];

    (void)state;
    assert_int_equal(check(text), ERR_OK);
    for (size_t cut = 0; cut < whole.len; cut++)
        assert_int_not_equal(check_exact(slice_of(text, cut), true, NULL), ERR_OK);
    for (size_t at = 0; at < whole.len; at++) {
        for (unsigned c = 0; c < 256; c++) {
            size_t pos = 0;
            memcpy(copy, text, sizeof text);
            copy[at] = (char)(unsigned char)c;
            if (check_exact(slice_of(copy, whole.len), true, NULL) != ERR_OK)
                continue;
            /* what passed is an array of three or more, or became something else at its start */
            while (json_element(slice_of(copy, whole.len), &pos, &value))
                assert_int_equal(json_check(value, true, NULL), ERR_OK);
            assert_int_equal(pos, whole.len - 1);
        }
    }
}

/* --- finding values --------------------------------------------------------------------------- */

static void assert_member(const char *object, const char *name, const char *expected)
{
    struct slice value = SLICE_NONE;

    assert_true(json_member(slice_str(object), name, &value));
    if (!slice_eq(value, slice_str(expected)))
        fail_msg("%s of %s is %.*s", name, object, (int)value.len, value.ptr);
}

static void test_types(void **state)
{
    (void)state;
    assert_int_equal(json_type_of(SLICE(" {}")), JSON_OBJECT);
    assert_int_equal(json_type_of(SLICE("[]")), JSON_ARRAY);
    assert_int_equal(json_type_of(SLICE("\"x\"")), JSON_STRING);
    assert_int_equal(json_type_of(SLICE("\n-1")), JSON_NUMBER);
    assert_int_equal(json_type_of(SLICE("0")), JSON_NUMBER);
    assert_int_equal(json_type_of(SLICE("true")), JSON_BOOL);
    assert_int_equal(json_type_of(SLICE("false")), JSON_BOOL);
    assert_int_equal(json_type_of(SLICE("null")), JSON_NULL);
}

static void test_members_are_found_raw(void **state)
{
    static const char object[] =
        " { \"a\" : 1.50 ,\"b\":\"x\\\"}\", \"c\" :[ 1, {\"a\":2} ] , \"d\":{\"a\":"
        "\"]\"}\n,\"e\":null, \"f\\\\\":true,\"a\":9 } ";

    (void)state;
    assert_int_equal(check(object), ERR_OK);
    assert_member(object, "a", "1.50"); /* the first of two */
    assert_member(object, "b", "\"x\\\"}\"");
    assert_member(object, "c", "[ 1, {\"a\":2} ]");
    assert_member(object, "d", "{\"a\":\"]\"}");
    assert_member(object, "e", "null");
    assert_member(object, "f\\", "true");
}

static void test_what_is_no_member(void **state)
{
    struct slice value = SLICE("untouched");

    (void)state;
    assert_false(json_member(SLICE("{}"), "a", &value));
    assert_false(json_member(SLICE("{\"ab\":1,\"b\":{\"a\":1},\"\":2}"), "a", &value));
    assert_false(json_member(SLICE("{\"a\":1}"), "", &value));
    assert_false(json_member(SLICE("[\"a\",1]"), "a", &value));
    assert_false(json_member(SLICE("\"a\""), "a", &value));
    assert_false(json_member(SLICE("null"), "a", &value));
    assert_false(json_member(SLICE_NONE, "a", &value));
    assert_true(slice_eq(value, SLICE("untouched")));
    assert_member("{\"\":2}", "", "2");
}

static void test_members_with_escaped_names(void **state)
{
    struct slice value;

    (void)state;
    assert_member("{\"\\u0061b\":1}", "ab", "1");
    assert_member("{\"a\\u0062\":1}", "ab", "1");
    assert_member("{\"\\u0061\\u0062\":1}", "ab", "1");
    assert_member("{\"\\u006A\":1}", "j", "1");
    assert_member("{\"\\u006a\":1}", "j", "1");
    assert_member("{\"a\\/b\\n\\\"\":1}", "a/b\n\"", "1");
    assert_false(json_member(SLICE("{\"\\u0161\":1}"), "a", &value));
    assert_false(json_member(SLICE("{\"\\u1061\":1}"), "a", &value));
    assert_false(json_member(SLICE("{\"\\u0061b\":1}"), "a", &value));
    assert_false(json_member(SLICE("{\"\\\\u0061\":1}"), "a", &value));
    assert_false(json_member(SLICE("{\"\\u0000\":1}"), "", &value));
    assert_false(json_member(SLICE("{\"\\n\":1}"), "n", &value));
}

static void assert_elements(const char *array, const char *const *expected)
{
    struct slice value;
    size_t pos = 0;

    for (; *expected; expected++) {
        assert_true(json_element(slice_str(array), &pos, &value));
        assert_true(slice_eq(value, slice_str(*expected)));
    }
    assert_false(json_element(slice_str(array), &pos, &value));
    assert_false(json_element(slice_str(array), &pos, &value));
}

static void test_elements(void **state)
{
    (void)state;
    assert_elements("[]", (const char *[]){NULL});
    assert_elements(" [ ] ", (const char *[]){NULL});
    assert_elements("[1]", (const char *[]){"1", NULL});
    assert_elements(" [ 1 ,\"a,]\", [2,3] ,{\"b\":[4]}\n, null ] ",
                    (const char *[]){"1", "\"a,]\"", "[2,3]", "{\"b\":[4]}", "null", NULL});
    assert_elements("{\"a\":1}", (const char *[]){NULL});
    assert_elements("1", (const char *[]){NULL});
    assert_elements("", (const char *[]){NULL});
}

/* --- numbers, booleans, strings --------------------------------------------------------------- */

static void test_numbers(void **state)
{
    static const char *const bad[] = {"-1", "-0", "1.0", "1e3", "\"1\"", "null", "true", "[1]", ""};
    uint64_t v = 5;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(json_u64(slice_str(bad[i]), UINT64_MAX, &v), ERR_SYNTAX);
    assert_int_equal(json_u64(SLICE("11"), 10, &v), ERR_RANGE);
    assert_int_equal(json_u64(SLICE("123456789012345678901234567890"), UINT64_MAX, &v), ERR_RANGE);
    assert_int_equal(v, 5);
    assert_int_equal(json_u64(SLICE(" 10\n"), 10, &v), ERR_OK);
    assert_int_equal(v, 10);
}

static void test_booleans(void **state)
{
    bool v = false;

    (void)state;
    assert_int_equal(json_bool(SLICE(" true "), &v), ERR_OK);
    assert_true(v);
    assert_int_equal(json_bool(SLICE("null"), &v), ERR_SYNTAX);
    assert_int_equal(json_bool(SLICE("\"true\""), &v), ERR_SYNTAX);
    assert_int_equal(json_bool(SLICE("1"), &v), ERR_SYNTAX);
    assert_true(v);
    assert_int_equal(json_bool(SLICE("false"), &v), ERR_OK);
    assert_false(v);
}

static void assert_decodes(struct slice json, struct slice expected)
{
    struct buf b;

    assert_int_equal(json_check(json, false, NULL), ERR_OK);
    buf_init(&b, expected.len + 1);
    buf_append_str(&b, "<");
    assert_int_equal(json_string_decode(json, &b), ERR_OK);
    if (b.len - 1 != expected.len || memcmp(b.data + 1, expected.ptr, expected.len) != 0)
        fail_msg("%.*s gives %.*s", (int)json.len, json.ptr, (int)b.len, b.data);
    buf_release(&b);
}

#define FFFD "\xef\xbf\xbd"

static void test_strings_are_decoded(void **state)
{
    (void)state;
    assert_decodes(SLICE("\"\""), SLICE(""));
    assert_decodes(SLICE(" \"plain \xc3\xa4\" "), SLICE("plain \xc3\xa4"));
    assert_decodes(SLICE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), SLICE("\"\\/\b\f\n\r\t"));
    assert_decodes(SLICE("\"a\\u0000b\""), SLICE("a\0b"));
    assert_decodes(SLICE("\"\\u00e4\\u20AC\\uD83D\\ude00\""),
                   SLICE("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"));
    assert_decodes(SLICE("\"\\\\u0041\""), SLICE("\\u0041"));
}

/* RFC 8259 8.2: the grammar allows half a surrogate pair. It costs that character, not the message.
 */
static void test_half_a_surrogate_pair_becomes_a_replacement_character(void **state)
{
    (void)state;
    assert_decodes(SLICE("\"\\ud800\""), SLICE(FFFD));
    assert_decodes(SLICE("\"\\udfff\""), SLICE(FFFD));
    assert_decodes(SLICE("\"a\\uD83Db\""), SLICE("a" FFFD "b"));
    assert_decodes(SLICE("\"\\uDE00\\uD83D\""), SLICE(FFFD FFFD));
    assert_decodes(SLICE("\"\\ud83d\\ud83d\\ude00\""), SLICE(FFFD "\xf0\x9f\x98\x80"));
    assert_decodes(SLICE("\"\\ud83d\\u0041\""), SLICE(FFFD "A"));
    assert_decodes(SLICE("\"\\ud83d\\n\\ude00\""), SLICE(FFFD "\n" FFFD));
    assert_decodes(SLICE("\"\\ud83d\\\\ude00\""), SLICE(FFFD "\\ude00"));
    assert_decodes(SLICE("\"\\\\ud800\\ud800\\u0000\""), SLICE("\\ud800" FFFD "\0"));
}

static void test_what_is_no_string_is_not_decoded(void **state)
{
    static const char *const bad[] = {"1",  "null", "[]",     "{}",       "",
                                      "\"", "\"a",  "\"\\\"", "[\"\\n\"]"};
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(json_string_decode(slice_str(bad[i]), &b), ERR_SYNTAX);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

static void test_a_string_that_does_not_fit(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 3);
    assert_int_equal(json_string_decode(SLICE("\"abcd\""), &b), ERR_LIMIT);
    assert_int_equal(json_string_decode(SLICE("\"abc\\n\""), &b), ERR_LIMIT);
    assert_int_equal(json_string_decode(SLICE("\"abc\\ud800\""), &b), ERR_LIMIT);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void assert_written(struct slice text, struct slice expected)
{
    struct buf b;

    buf_init(&b, 1000);
    json_append_string(&b, text);
    if (!slice_eq(buf_slice(&b), expected))
        fail_msg("wrote %.*s", (int)b.len, b.data);
    assert_int_equal(json_check(buf_slice(&b), true, NULL), ERR_OK);
    buf_release(&b);
}

static void test_strings_are_escaped_where_they_must_be(void **state)
{
    (void)state;
    assert_written(SLICE_NONE, SLICE("\"\""));
    assert_written(SLICE("plain / text \x7f"), SLICE("\"plain / text \x7f\""));
    assert_written(SLICE("\"\\"), SLICE("\"\\\"\\\\\""));
    assert_written(SLICE("\b\f\n\r\t"), SLICE("\"\\b\\f\\n\\r\\t\""));
    assert_written(SLICE("\0\x01\x1f\x20"), SLICE("\"\\u0000\\u0001\\u001f \""));
    assert_written(SLICE("\xc3\xa4\xe2\x80\xa8\xe2\x80\xa9\xf0\x9f\x98\x80"),
                   SLICE("\"\xc3\xa4\xe2\x80\xa8\xe2\x80\xa9\xf0\x9f\x98\x80\""));
}

static void test_bytes_that_are_not_utf8_are_replaced(void **state)
{
    (void)state;
    assert_written(SLICE("a\xff"
                         "b"),
                   SLICE("\"a" FFFD "b\""));
    assert_written(SLICE("\x80\x80"), SLICE("\"" FFFD FFFD "\""));
    assert_written(SLICE("\xe2\x82"), SLICE("\"" FFFD "\""));
    assert_written(SLICE("\xe2\x82x\xe2\x82\xac"), SLICE("\"" FFFD "x\xe2\x82\xac\""));
    assert_written(SLICE("\xe2\x82\"\x82\""), SLICE("\"" FFFD "\\\"" FFFD "\\\"\""));
    assert_written(SLICE("\xed\xa0\x80"), SLICE("\"" FFFD FFFD FFFD "\""));
    assert_written(SLICE("\xf0\x9f\xf0\x9f\x98\x80"), SLICE("\"" FFFD "\xf0\x9f\x98\x80\""));
    assert_written(SLICE("\n\xc3\n"), SLICE("\"\\n" FFFD "\\n\""));
}

static void test_any_bytes_come_out_as_a_string_that_reads_back(void **state)
{
    char bytes[64];

    (void)state;
    for (int round = 0; round < 3000; round++) {
        size_t len = rnd_below(sizeof bytes);
        rnd_bytes(bytes, len);
        for (size_t i = 0; i < len; i++)
            if (round % 2)
                bytes[i] = (char)(bytes[i] & 0x7f);
        struct buf json, back;
        buf_init(&json, 1000);
        buf_init(&back, 1000);
        json_append_string(&json, slice_of(bytes, len));
        assert_int_equal(json_check(buf_slice(&json), true, NULL), ERR_OK);
        assert_int_equal(json_string_decode(buf_slice(&json), &back), ERR_OK);
        if (utf8_is_valid(slice_of(bytes, len)))
            assert_true(slice_eq(buf_slice(&back), slice_of(bytes, len)));
        else
            assert_non_null(memmem(back.data, back.len, FFFD, 3));
        buf_release(&json);
        buf_release(&back);
    }
}

static int start_json(void **state)
{
    (void)state;
    json_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts_what_the_grammar_has),
        cmocka_unit_test(test_refuses_everything_else),
        cmocka_unit_test(test_nul_bytes_are_not_white_space_and_not_text),
        cmocka_unit_test(test_text_that_is_not_utf8),
        cmocka_unit_test(test_errors_say_where),
        cmocka_unit_test(test_nesting_is_limited),
        cmocka_unit_test(test_siblings_do_not_add_to_the_depth),
        cmocka_unit_test(test_duplicate_members),
        cmocka_unit_test(test_a_duplicate_is_pointed_at),
        cmocka_unit_test(test_duplicates_among_many_members),
        cmocka_unit_test(test_damaged_texts),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_members_are_found_raw),
        cmocka_unit_test(test_what_is_no_member),
        cmocka_unit_test(test_members_with_escaped_names),
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_booleans),
        cmocka_unit_test(test_strings_are_decoded),
        cmocka_unit_test(test_half_a_surrogate_pair_becomes_a_replacement_character),
        cmocka_unit_test(test_what_is_no_string_is_not_decoded),
        cmocka_unit_test(test_a_string_that_does_not_fit),
        cmocka_unit_test(test_strings_are_escaped_where_they_must_be),
        cmocka_unit_test(test_bytes_that_are_not_utf8_are_replaced),
        cmocka_unit_test(test_any_bytes_come_out_as_a_string_that_reads_back),
    };
    return cmocka_run_group_tests_name("json", tests, start_json, NULL);
}
