/* Positions and their text. */
#include "crier/cursor.h"
#include "crier/rnd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
/* cmocka.h wants the first three above */
#include <cmocka.h>

static struct slice format(char out[CURSOR_ENTRY_MAX_BYTES], uint32_t tag, uint32_t epoch,
                           uint64_t offset)
{
    struct position pos = {.epoch = epoch, .offset = offset};
    return slice_of(out, cursor_format(out, tag, pos));
}

static enum err parse(const char *text)
{
    static struct cursor c;
    return cursor_parse(slice_str(text), &c);
}

static void test_exact_text(void **state)
{
    (void)state;
    char t[CURSOR_ENTRY_MAX_BYTES];
    assert_true(slice_eq(format(t, 0, 1, 0), SLICE("AAAAAAAABA")));
    assert_true(slice_eq(format(t, 0xffffff, CURSOR_EPOCH_MAX, 63), SLICE("__________")));
    assert_true(slice_eq(format(t, 1, 2, 64), SLICE("AAABAAAACBA")));
    assert_true(slice_eq(format(t, 1, 2, UINT64_MAX), SLICE("AAABAAAACP__________")));
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        char t[CURSOR_ENTRY_MAX_BYTES];
        struct cursor c;
        uint32_t tag = rnd_below(1u << 24);
        uint32_t epoch = cursor_new_epoch();
        uint64_t offset = rnd_u64() >> rnd_below(64);
        assert_int_equal(cursor_parse(format(t, tag, epoch, offset), &c), ERR_OK);
        assert_int_equal(c.count, 1);
        assert_int_equal(c.entry[0].tag, tag);
        assert_int_equal(c.entry[0].pos.epoch, epoch);
        assert_true(c.entry[0].pos.offset == offset);
    }
}

static void test_each_position_has_one_text(void **state)
{
    (void)state;
    /* whatever parses formats to itself */
    const char *alphabet = "AB9-_~.%";
    for (int i = 0; i < 200000; i++) {
        char text[24], again[CURSOR_ENTRY_MAX_BYTES];
        struct cursor c;
        size_t n = 8 + rnd_below(15);
        for (size_t k = 0; k < n; k++)
            text[k] = alphabet[rnd_below(i % 2 ? 8 : 5)];
        if (cursor_parse(slice_of(text, n), &c) != ERR_OK || c.count != 1)
            continue;
        struct cursor_entry e = c.entry[0];
        assert_true(slice_eq(format(again, e.tag, e.pos.epoch, e.pos.offset), slice_of(text, n)));
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
    assert_int_equal(parse("AAAAAAAABA"), ERR_OK);
    assert_int_equal(parse("AAAAAAAABA~AAAAAAAABB"), ERR_OK);
    assert_int_equal(parse(""), ERR_SYNTAX);
    assert_int_equal(parse("~"), ERR_SYNTAX);
    assert_int_equal(parse("AAAAAAAAB"), ERR_SYNTAX);             /* no offset */
    assert_int_equal(parse("AAAAAAAABA~"), ERR_SYNTAX);           /* empty entry */
    assert_int_equal(parse("~AAAAAAAABA"), ERR_SYNTAX);           /* empty entry */
    assert_int_equal(parse("AAAAAAAABAB"), ERR_SYNTAX);           /* leading zero */
    assert_int_equal(parse("AAAAAAAABB A"), ERR_SYNTAX);          /* blank */
    assert_int_equal(parse("AAAAAAAAB+"), ERR_SYNTAX);            /* other base64 */
    assert_int_equal(parse("AAAABAAABP__________"), ERR_OK);      /* 2^64 - 1 */
    assert_int_equal(parse("AAAABAAABQAAAAAAAAAA"), ERR_SYNTAX);  /* 2^64 */
    assert_int_equal(parse("AAAABAAABBAAAAAAAAAAA"), ERR_SYNTAX); /* 12 digits */
    assert_int_equal(cursor_parse(SLICE("AAAAAAAAB\0"), &(struct cursor){0}), ERR_SYNTAX);
}

static void test_at_most_128_entries(void **state)
{
    (void)state;
    struct buf b;
    static struct cursor c;
    buf_init(&b, 1 << 16);
    for (int i = 0; i < CURSOR_MAX_ENTRIES; i++) {
        if (i)
            buf_append_char(&b, '~');
        cursor_append(&b, (uint32_t)i, (struct position){.epoch = 1, .offset = 5});
    }
    assert_int_equal(cursor_parse(buf_slice(&b), &c), ERR_OK);
    assert_int_equal(c.count, CURSOR_MAX_ENTRIES);
    assert_int_equal(c.entry[127].tag, 127);
    buf_append_str(&b, "~AAAAAAAABA");
    assert_int_equal(cursor_parse(buf_slice(&b), &c), ERR_LIMIT);
    buf_release(&b);
}

static void test_eight_channels_fit_128_bytes(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1024);
    for (int i = 0; i < 8; i++) {
        struct position pos = {.epoch = CURSOR_EPOCH_MAX, .offset = (UINT64_C(1) << 36) - 1};
        if (i)
            buf_append_char(&b, '~');
        cursor_append(&b, cursor_tag(SLICE("x")), pos);
    }
    assert_int_equal(b.len, 127);
    buf_release(&b);
}

static void test_tags_are_the_same_for_ever(void **state)
{
    (void)state;
    /* Clients keep cursors over restarts and upgrades: this must never change. */
    assert_int_equal(cursor_tag(SLICE("a")), 0x82b19d);
    assert_int_equal(cursor_tag(SLICE("chat:lobby")), 0xf448f4);
    assert_true(cursor_tag(SLICE("a")) < 1u << 24);
}

static struct cursor make(const uint32_t *tags, size_t n)
{
    struct cursor c = {.count = n};
    for (size_t i = 0; i < n; i++)
        c.entry[i] = (struct cursor_entry){.tag = tags[i], .pos = {.epoch = 1, .offset = i + 1}};
    return c;
}

/* Offset found, or 0. */
static uint64_t find(const struct cursor *c, struct slice channel, size_t i, size_t n)
{
    struct position pos = {0};
    enum err e = cursor_find(c, channel, i, n, &pos);
    assert_int_equal(e, pos.offset ? ERR_OK : ERR_NOT_FOUND);
    return pos.offset;
}

static void test_entries_are_found_by_place_then_by_tag(void **state)
{
    (void)state;
    const uint32_t a = cursor_tag(SLICE("a")), b = cursor_tag(SLICE("b"));
    struct cursor c = make((uint32_t[]){a, b}, 2);
    assert_int_equal(find(&c, SLICE("a"), 0, 2), 1);
    assert_int_equal(find(&c, SLICE("b"), 1, 2), 2);
    assert_int_equal(find(&c, SLICE("b"), 0, 2), 2); /* other order */
    assert_int_equal(find(&c, SLICE("a"), 0, 1), 1); /* a channel less */
    assert_int_equal(find(&c, SLICE("a"), 2, 3), 1); /* a channel more */
    assert_int_equal(find(&c, SLICE("c"), 2, 3), 0);
}

static void test_a_shared_tag_is_told_apart_by_place_only(void **state)
{
    (void)state;
    const uint32_t a = cursor_tag(SLICE("a")), b = cursor_tag(SLICE("b"));
    struct cursor c = make((uint32_t[]){a, b, a}, 3);
    assert_int_equal(find(&c, SLICE("a"), 0, 3), 1);
    assert_int_equal(find(&c, SLICE("a"), 2, 3), 3);
    assert_int_equal(find(&c, SLICE("a"), 1, 3), 0); /* ambiguous */
    assert_int_equal(find(&c, SLICE("a"), 0, 2), 0); /* ambiguous */
    assert_int_equal(find(&c, SLICE("b"), 0, 2), 2);
}

static void test_epoch_0_is_no_position(void **state)
{
    (void)state;
    struct cursor c;
    char t[CURSOR_ENTRY_MAX_BYTES];
    assert_int_equal(cursor_parse(format(t, cursor_tag(SLICE("a")), 0, 9), &c), ERR_OK);
    assert_int_equal(find(&c, SLICE("a"), 0, 1), 0);
}

static void test_epochs_are_random_and_in_range(void **state)
{
    (void)state;
    uint32_t ored = 0, first = cursor_new_epoch();
    bool differ = false;
    for (int i = 0; i < 1000; i++) {
        uint32_t e = cursor_new_epoch();
        assert_in_range(e, 1, CURSOR_EPOCH_MAX);
        ored |= e;
        differ |= e != first;
    }
    assert_int_equal(ored, CURSOR_EPOCH_MAX);
    assert_true(differ);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_text),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_each_position_has_one_text),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_at_most_128_entries),
        cmocka_unit_test(test_eight_channels_fit_128_bytes),
        cmocka_unit_test(test_tags_are_the_same_for_ever),
        cmocka_unit_test(test_entries_are_found_by_place_then_by_tag),
        cmocka_unit_test(test_a_shared_tag_is_told_apart_by_place_only),
        cmocka_unit_test(test_epoch_0_is_no_position),
        cmocka_unit_test(test_epochs_are_random_and_in_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
