/* record.c: a message as it stands in Redis; lineage.c: the epochs of its channel. */
#include "../../src/bus/lineage.h"
#include "../../src/bus/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

static struct msg *new_msg(const struct msg_draft *d)
{
    struct msg *m;
    assert_int_equal(msg_new(d, &m), ERR_OK);
    return m;
}

/* As the publish script puts it together. */
static struct slice record_text(const char *head, const struct msg *m, char *out, size_t max)
{
    size_t n = (size_t)snprintf(out, max, "%s ", head);
    assert_true(n + record_body_max(m) <= max);
    return slice_of(out, n + record_write_body(out + n, m));
}

static void assert_slice(struct slice got, struct slice want)
{
    assert_int_equal(got.len, want.len);
    if (want.len)
        assert_memory_equal(got.ptr, want.ptr, want.len);
}

static void expect_round_trip(const struct msg_draft *d)
{
    char bytes[4096];
    struct msg *m = new_msg(d), *back;
    struct record r;
    struct slice text = record_text("7 1234567890123 1760000000123 6", m, bytes, sizeof bytes);
    assert_int_equal(record_parse(text, &r), ERR_OK);
    assert_int_equal(r.pos.epoch, 7);
    assert_int_equal(r.pos.offset, 1234567890123);
    assert_int_equal(r.time_ms, 1760000000123);
    assert_int_equal(r.previous_epoch, 6);
    assert_int_equal(record_message(&r, d->channel, &back), ERR_OK);
    assert_int_equal(back->pos.offset, 1234567890123);
    assert_int_equal(back->time_ms, 1760000000123);
    assert_int_equal(back->kind, d->kind);
    assert_int_equal(back->client, d->client);
    assert_int_equal(back->exclude_client, d->exclude_client);
    assert_slice(back->channel, d->channel);
    assert_slice(back->payload, d->payload);
    assert_slice(back->content_type, d->content_type);
    assert_slice(back->event, d->event);
    assert_slice(back->user, d->user);
    msg_unref(m);
    msg_unref(back);
}

static void test_a_message_comes_back_as_it_was(void **state)
{
    (void)state;
    expect_round_trip(&(struct msg_draft){
        .channel = SLICE("chat:a"), .payload = SLICE("{\"a\":1}"), .kind = MSG_JSON});
    expect_round_trip(&(struct msg_draft){
        .channel = SLICE("a"), .payload = SLICE_NONE, .kind = MSG_TEXT, .event = SLICE("tick")});
    expect_round_trip(&(struct msg_draft){.channel = SLICE("a"),
                                          .payload = SLICE("\0\n 1 2 3\xff \n\n"),
                                          .kind = MSG_BINARY,
                                          .content_type = SLICE("image/png; a=\"b c\""),
                                          .event = SLICE("an event with blanks"),
                                          .user = SLICE("user 1 2 3"),
                                          .client = UINT64_MAX,
                                          .exclude_client = true});
}

static void test_what_is_no_record_is_refused(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "",           "x",        "1",         "1 2",
        "1 2 3",      "0 2 3 1 ", "1 0 3 1 ",  "1 -2 3 1 ",
        "1 2 3 x",    "1  2 3 1", "+1 2 3 1 ", "1073741824 2 3 1",
        "1 2 3 1e3 ", " 1 2 3 1", "clear 5",   "1 18446744073709551615 3 1",
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct record r;
        assert_int_equal(record_parse(slice_str(heads[i]), &r), ERR_SYNTAX);
    }
    static const char *const bodies[] = {
        "",
        "j",
        "j + 0000000000000000 0 0 0", /* no end of line */
        "x + 0000000000000000 0 0 0\n",
        "jj + 0000000000000000 0 0 0\n",
        "j ++ 0000000000000000 0 0 0\n",
        "j + 000000000000000 0 0 0\n",
        "j + 000000000000000G 0 0 0\n",
        "j + 0000000000000000 0 0\n",
        "j + 0000000000000000 1 0 0\n", /* longer than there is */
        "j + 0000000000000000 1 1 1\nab",
        "j + 0000000000000000 18446744073709551615 2 0\nab",
        "j + 0000000000000000 a 0 0\n",
        /* what no publisher may say, and no client could take */
        "j + 0000000000000000 0 0 0\n",
        "j + 0000000000000000 0 0 0\n{\"a\":1}}",
        "j + 0000000000000000 0 0 0\n\"\xff\"",
        "t + 0000000000000000 0 0 0\n\xff",
        "t + 0000000000000000 0 4 0\na\nb\n",
        "t + 0000000000000000 0 9 0\ncrier.gap",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        const struct record r = {.pos = {1, 1}, .body = slice_str(bodies[i])};
        struct msg *m;
        assert_int_equal(record_message(&r, SLICE("a"), &m), ERR_SYNTAX);
    }
}

static void test_what_the_script_answers_has_no_body(void **state)
{
    (void)state;
    struct record r;
    assert_int_equal(record_parse(SLICE("5 6 7 5"), &r), ERR_OK);
    assert_int_equal(r.body.len, 0);
}

/* --- lineage --- */

static void test_a_lineage_knows_where_epochs_ended(void **state)
{
    (void)state;
    struct lineage l;
    uint64_t last = 99;
    assert_int_equal(lineage_parse(SLICE("11:5 12:9 "), &l), ERR_OK);
    assert_int_equal(l.count, 2);
    assert_true(lineage_find(&l, 11, &last));
    assert_int_equal(last, 5);
    assert_true(lineage_find(&l, 12, &last));
    assert_int_equal(last, 9);
    assert_false(lineage_find(&l, 13, &last));
    assert_int_equal(lineage_epoch_at(&l, 0, 13), 11);
    assert_int_equal(lineage_epoch_at(&l, 5, 13), 11);
    assert_int_equal(lineage_epoch_at(&l, 6, 13), 12);
    assert_int_equal(lineage_epoch_at(&l, 9, 13), 12);
    assert_int_equal(lineage_epoch_at(&l, 10, 13), 13);
}

static void test_a_lineage_knows_what_was_lost(void **state)
{
    (void)state;
    struct lineage l;
    assert_int_equal(lineage_parse(SLICE("11:5 12:9! 13:20!"), &l), ERR_OK);
    assert_false(lineage_is_loss(&l, (struct position){11, 5}));
    assert_true(lineage_is_loss(&l, (struct position){12, 9}));
    assert_false(lineage_is_loss(&l, (struct position){12, 8}));
    assert_false(lineage_is_loss(&l, (struct position){13, 9}));
    assert_int_equal(lineage_next_loss(&l, 0), 9);
    assert_int_equal(lineage_next_loss(&l, 9), 9);
    assert_int_equal(lineage_next_loss(&l, 10), 20);
    assert_int_equal(lineage_next_loss(&l, 21), UINT64_MAX);
}

/* loss 0: it is aware of all. */
static void expect_unaware(const struct lineage *l, uint32_t epoch, uint64_t offset,
                           struct position want)
{
    struct position loss;
    assert_int_equal(lineage_is_unaware(l, (struct position){epoch, offset}, &loss),
                     want.epoch != 0);
    if (want.epoch) {
        assert_int_equal(loss.epoch, want.epoch);
        assert_int_equal(loss.offset, want.offset);
    }
}

static void test_a_lineage_knows_who_is_unaware_of_a_loss(void **state)
{
    (void)state;
    const struct position none = {0}, first = {11, 5}, second = {13, 9};
    struct lineage l;
    assert_int_equal(lineage_parse(SLICE("10:3 11:5! 12:9? 13:9? 14:20"), &l), ERR_OK);
    expect_unaware(&l, 12, 7, first);
    expect_unaware(&l, 12, 5, first);
    expect_unaware(&l, 13, 9, first);
    expect_unaware(&l, 12, 4, none); /* before it */
    expect_unaware(&l, 10, 3, none);
    expect_unaware(&l, 11, 5, none);
    expect_unaware(&l, 14, 20, none);
    expect_unaware(&l, 15, 21, none);
    /* Two losses: of both, of the second only. */
    assert_int_equal(lineage_parse(SLICE("11:5! 12:9? 13:9!? 14:20? 15:30"), &l), ERR_OK);
    expect_unaware(&l, 14, 20, first);
    expect_unaware(&l, 13, 9, first);
    assert_true(lineage_is_loss(&l, second));
    assert_int_equal(lineage_parse(SLICE("11:5! 12:9 13:9! 14:20? 15:30"), &l), ERR_OK);
    expect_unaware(&l, 14, 20, second);
    expect_unaware(&l, 13, 9, none);
    /* The loss is forgotten: it is told where the reader is. */
    assert_int_equal(lineage_parse(SLICE("12:9? 13:9"), &l), ERR_OK);
    expect_unaware(&l, 12, 8, (struct position){12, 8});
}

static void test_a_lineage_forgets_the_oldest(void **state)
{
    (void)state;
    struct lineage l = {.count = 0};
    uint64_t last;
    for (uint32_t i = 1; i <= LINEAGE_MAX + 1; i++)
        lineage_add(&l, (struct position){.epoch = i, .offset = i}, i % 2);
    assert_int_equal(l.count, LINEAGE_MAX);
    assert_false(lineage_find(&l, 1, &last));
    assert_true(lineage_find(&l, 2, &last));
    assert_true(lineage_find(&l, LINEAGE_MAX + 1, &last));
}

static void test_what_is_no_lineage_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"1",     "1:",   ":1",   "a:1",    "1:b",   "1:2:3",
                                        "1:2 3", "-1:2", "!",    "1:!",    "1:2!!", "1:2?!",
                                        "1:2??", "?",    "1!:2", "1:5 2:4"};
    struct lineage l;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_int_equal(lineage_parse(slice_str(texts[i]), &l), ERR_SYNTAX);
    assert_int_equal(lineage_parse(SLICE_NONE, &l), ERR_OK);
    assert_int_equal(l.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_comes_back_as_it_was),
        cmocka_unit_test(test_what_is_no_record_is_refused),
        cmocka_unit_test(test_what_the_script_answers_has_no_body),
        cmocka_unit_test(test_a_lineage_knows_where_epochs_ended),
        cmocka_unit_test(test_a_lineage_knows_what_was_lost),
        cmocka_unit_test(test_a_lineage_knows_who_is_unaware_of_a_loss),
        cmocka_unit_test(test_a_lineage_forgets_the_oldest),
        cmocka_unit_test(test_what_is_no_lineage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
