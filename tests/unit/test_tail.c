/* What the memory backend is made of: the tail of a channel, idempotency keys, tombstones. */
#include "../../src/bus/idempotency.h"
#include "../../src/bus/tail.h"
#include "../../src/bus/tombstone.h"
#include "crier/rnd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

#define EPOCH 9

/* Appends n messages, message k with payload of `bytes` bytes at time k. */
static void append(struct tail *s, uint32_t max, unsigned n, size_t bytes)
{
    char payload[64] = {0};
    for (unsigned i = 0; i < n; i++) {
        struct msg_draft d = {.channel = SLICE("a"), .payload = slice_of(payload, bytes)};
        struct position pos = {.epoch = s->head.epoch, .offset = s->head.offset + 1};
        struct msg *m;
        assert_int_equal(msg_new(&d, &m), ERR_OK);
        msg_order(m, pos, 1);
        tail_append(s, m, max, pos.offset);
        msg_unref(m);
    }
}

static struct tail tail_at(uint64_t offset)
{
    struct tail s;
    tail_init(&s, (struct position){.epoch = EPOCH, .offset = offset});
    return s;
}

struct want {
    enum gap_reason gap;
    uint64_t start, first, last; /* first 0: empty */
    bool complete;
};

static void expect(const struct tail *s, struct catch_up cu, bool reverse, struct want w)
{
    assert_int_equal(tail_catch_up(s, &cu, reverse), ERR_OK);
    assert_int_equal(cu.gap, w.gap);
    assert_int_equal(cu.start.offset, w.start);
    assert_int_equal(cu.head.offset, s->head.offset);
    assert_int_equal(cu.complete, w.complete);
    uint64_t distance = w.first < w.last ? w.last - w.first : w.first - w.last;
    assert_int_equal(cu.count, w.first ? distance + 1 : 0);
    for (uint32_t i = 0; i < cu.count; i++) {
        assert_int_equal(cu.msgs[i]->pos.offset, reverse ? w.first - i : w.first + i);
        msg_unref(cu.msgs[i]);
    }
    if (cu.gap == GAP_EXPIRED)
        assert_int_equal(cu.lost_to.offset, w.start);
    free(cu.msgs);
}

/* Where there is one epoch only. */
static void expect_page(const struct tail *s, struct catch_up cu, bool reverse, struct want w)
{
    expect(s, cu, reverse, w);
    assert_int_equal(tail_catch_up(s, &cu, reverse), ERR_OK);
    assert_int_equal(cu.start.epoch, s->head.epoch);
    for (uint32_t i = 0; i < cu.count; i++)
        msg_unref(cu.msgs[i]);
    free(cu.msgs);
}

static struct catch_up since(uint32_t epoch, uint64_t offset)
{
    return (struct catch_up){.from = FROM_POSITION,
                             .since = {.epoch = epoch, .offset = offset},
                             .max_messages = 100,
                             .max_bytes = 100000};
}

static struct catch_up last(uint32_t n)
{
    return (struct catch_up){
        .from = FROM_LAST_N, .last_n = n, .max_messages = 100, .max_bytes = 100000};
}

static struct catch_up now(void)
{
    return (struct catch_up){.from = FROM_NOW, .max_messages = 100, .max_bytes = 100000};
}

static void test_keeps_the_newest_by_count(void **state)
{
    (void)state;
    for (uint32_t max = 0; max < 12; max++) {
        struct tail s = tail_at(0);
        for (unsigned n = 1; n < 40; n++) {
            append(&s, max, 1, 1);
            assert_int_equal(s.head.offset, n);
            assert_int_equal(s.count, n < max ? n : max);
            uint64_t first = n - s.count + 1;
            expect_page(&s, last(100), false,
                        (struct want){GAP_NONE, first - 1, s.count ? first : 0, n, true});
        }
        tail_release(&s);
        assert_null(s.ring);
    }
}

static void test_drops_by_age_and_gives_the_memory_back(void **state)
{
    (void)state;
    struct tail s = tail_at(100);
    append(&s, 50, 20, 1);
    assert_int_equal(tail_oldest_ms(&s), 101);
    tail_expire(&s, 100);
    assert_int_equal(s.count, 20);
    tail_expire(&s, 105);
    assert_int_equal(s.count, 15);
    assert_int_equal(tail_oldest_ms(&s), 106);
    append(&s, 50, 40, 1);
    assert_int_equal(s.count, 50);
    tail_expire(&s, 1000);
    assert_int_equal(s.count, 0);
    assert_null(s.ring);
    assert_int_equal(s.head.offset, 160);
}

static void test_clear_keeps_the_head(void **state)
{
    (void)state;
    struct tail s = tail_at(0);
    append(&s, 10, 6, 1);
    assert_int_equal(tail_clear(&s), 6);
    assert_int_equal(tail_clear(&s), 0);
    expect_page(&s, since(EPOCH, 6), false, (struct want){GAP_NONE, 6, 0, 0, true});
    expect_page(&s, since(EPOCH, 5), false, (struct want){GAP_EXPIRED, 6, 0, 0, true});
    append(&s, 10, 1, 1);
    expect_page(&s, since(EPOCH, 6), false, (struct want){GAP_NONE, 6, 7, 7, true});
    tail_release(&s);
}

/* A backend that could not repair a hole goes on behind it: nothing before may look adjacent. */
static void test_a_hole_empties_the_tail(void **state)
{
    (void)state;
    struct tail s = tail_at(0);
    append(&s, 10, 3, 1);
    struct msg_draft d = {.channel = SLICE("a")};
    struct msg *m;
    assert_int_equal(msg_new(&d, &m), ERR_OK);
    msg_order(m, (struct position){.epoch = EPOCH, .offset = 9}, 1);
    tail_append(&s, m, 10, 1);
    msg_unref(m);
    expect_page(&s, since(EPOCH, 3), false, (struct want){GAP_EXPIRED, 8, 9, 9, true});
    tail_release(&s);
}

static void test_every_gap_and_none(void **state)
{
    (void)state;
    struct tail s = tail_at(10);
    append(&s, 5, 10, 1); /* 16..20 kept */
    expect_page(&s, now(), false, (struct want){GAP_NONE, 20, 0, 0, true});
    expect_page(&s, since(EPOCH, 20), false, (struct want){GAP_NONE, 20, 0, 0, true});
    expect_page(&s, since(EPOCH, 18), false, (struct want){GAP_NONE, 18, 19, 20, true});
    expect_page(&s, since(EPOCH, 15), false, (struct want){GAP_NONE, 15, 16, 20, true});
    expect_page(&s, since(EPOCH, 14), false, (struct want){GAP_EXPIRED, 15, 16, 20, true});
    expect_page(&s, since(EPOCH, 0), false, (struct want){GAP_EXPIRED, 15, 16, 20, true});
    expect_page(&s, since(EPOCH, 21), false, (struct want){GAP_AHEAD, 20, 0, 0, true});
    expect_page(&s, since(EPOCH, UINT64_MAX), false, (struct want){GAP_AHEAD, 20, 0, 0, true});
    expect_page(&s, since(EPOCH + 1, 20), false, (struct want){GAP_EPOCH, 15, 16, 20, true});
    expect_page(&s, since(EPOCH + 1, 99), false, (struct want){GAP_EPOCH, 15, 16, 20, true});
    expect_page(&s, last(0), false, (struct want){GAP_NONE, 20, 0, 0, true});
    expect_page(&s, last(2), false, (struct want){GAP_NONE, 18, 19, 20, true});
    expect_page(&s, last(UINT32_MAX), false, (struct want){GAP_NONE, 15, 16, 20, true});
    tail_release(&s);
}

/* 16..18 in EPOCH, 19..20 in EPOCH + 1: a server went and came back with all it had. */
static void test_an_order_goes_on_in_another_epoch(void **state)
{
    (void)state;
    struct tail s = tail_at(10);
    append(&s, 5, 8, 1);
    tail_new_epoch(&s, EPOCH + 1);
    append(&s, 5, 2, 1);
    assert_int_equal(s.count, 5);
    const struct {
        struct catch_up from;
        struct want want;
        uint32_t epoch; /* of the start */
    } cases[] = {
        {since(EPOCH, 17), {GAP_NONE, 17, 18, 20, true}, EPOCH},
        {since(EPOCH, 18), {GAP_NONE, 18, 19, 20, true}, EPOCH},
        {since(EPOCH + 1, 19), {GAP_NONE, 19, 20, 20, true}, EPOCH + 1},
        {since(EPOCH + 1, 20), {GAP_NONE, 20, 0, 0, true}, EPOCH + 1},
        /* had messages of the old epoch that the new one does not know: they part at 18 */
        {since(EPOCH, 19), {GAP_EPOCH, 18, 19, 20, true}, EPOCH + 1},
        {since(EPOCH, 25), {GAP_EPOCH, 18, 19, 20, true}, EPOCH + 1},
        {since(EPOCH + 1, 21), {GAP_AHEAD, 20, 0, 0, true}, EPOCH + 1},
        /* who was told of a gap stands in the newest epoch */
        {since(EPOCH, 3), {GAP_EXPIRED, 15, 16, 20, true}, EPOCH + 1},
        {since(EPOCH + 1, 15), {GAP_NONE, 15, 16, 20, true}, EPOCH + 1},
        {since(EPOCH + 2, 19), {GAP_EPOCH, 15, 16, 20, true}, EPOCH + 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct catch_up cu = cases[i].from;
        assert_int_equal(tail_catch_up(&s, &cu, false), ERR_OK);
        assert_int_equal(cu.start.epoch, cases[i].epoch);
        for (uint32_t k = 0; k < cu.count; k++)
            msg_unref(cu.msgs[k]);
        free(cu.msgs);
        expect(&s, cases[i].from, false, cases[i].want);
    }
    tail_release(&s);
}

/* The same, but the server that went had more than the one that came. */
static void test_nobody_passes_a_loss_without_a_gap(void **state)
{
    (void)state;
    struct tail s = tail_at(10);
    append(&s, 5, 8, 1);
    tail_new_epoch(&s, EPOCH + 1);
    s.line->mark[0] = LINEAGE_LOST; /* 18 is where EPOCH ends here */
    expect(&s, since(EPOCH, 16), false, (struct want){GAP_NONE, 16, 17, 18, false});
    expect(&s, since(EPOCH, 18), false, (struct want){GAP_EPOCH, 18, 0, 0, true});
    append(&s, 5, 2, 1);
    expect(&s, since(EPOCH, 16), false, (struct want){GAP_NONE, 16, 17, 18, false});
    expect(&s, since(EPOCH, 18), false, (struct want){GAP_EPOCH, 18, 19, 20, true});
    expect(&s, since(EPOCH, 19), false, (struct want){GAP_EPOCH, 18, 19, 20, true});
    expect(&s, since(EPOCH + 1, 18), false, (struct want){GAP_NONE, 18, 19, 20, true});
    expect(&s, since(EPOCH + 1, 19), false, (struct want){GAP_NONE, 19, 20, 20, true});
    expect(&s, since(EPOCH, 3), false, (struct want){GAP_EXPIRED, 15, 16, 18, false});
    expect(&s, last(4), false, (struct want){GAP_NONE, 16, 17, 18, false});
    expect(&s, last(4), true, (struct want){GAP_NONE, 21, 20, 17, true});
    struct catch_up cu = since(EPOCH, 18);
    assert_int_equal(tail_catch_up(&s, &cu, false), ERR_OK);
    assert_int_equal(cu.start.epoch, EPOCH + 1); /* who was told is behind it */
    for (uint32_t k = 0; k < cu.count; k++)
        msg_unref(cu.msgs[k]);
    free(cu.msgs);
    tail_release(&s);
}

/* The loss is found when the order is past it. */
static void test_who_passed_a_loss_before_it_was_found_is_told(void **state)
{
    (void)state;
    struct tail s = tail_at(10);
    append(&s, 50, 8, 1);
    tail_new_epoch(&s, EPOCH + 1);
    append(&s, 50, 2, 1); /* 19, 20 */
    tail_new_epoch(&s, EPOCH + 2);
    s.line->mark[0] = LINEAGE_LOST;
    s.line->mark[1] = LINEAGE_UNAWARE;
    append(&s, 50, 2, 1);
    expect(&s, since(EPOCH + 1, 19), false, (struct want){GAP_EPOCH, 19, 20, 22, true});
    expect(&s, since(EPOCH + 1, 20), false, (struct want){GAP_EPOCH, 20, 21, 22, true});
    expect(&s, since(EPOCH + 2, 20), false, (struct want){GAP_NONE, 20, 21, 22, true});
    expect(&s, since(EPOCH + 2, 19), false, (struct want){GAP_NONE, 19, 20, 22, true});
    expect(&s, since(EPOCH, 17), false, (struct want){GAP_NONE, 17, 18, 18, false});
    struct catch_up cu = since(EPOCH + 1, 20);
    assert_int_equal(tail_catch_up(&s, &cu, false), ERR_OK);
    assert_int_equal(cu.since.epoch, EPOCH); /* from where it was lost */
    assert_int_equal(cu.since.offset, 18);
    assert_int_equal(cu.start.epoch, EPOCH + 2); /* where nobody is told again */
    for (uint32_t k = 0; k < cu.count; k++)
        msg_unref(cu.msgs[k]);
    free(cu.msgs);
    /* An epoch that is gone had it from the one that did not know. */
    lineage_add_stray(s.line, (struct position){EPOCH + 7, 19});
    expect(&s, since(EPOCH + 7, 19), false, (struct want){GAP_EPOCH, 19, 20, 22, true});
    expect(&s, since(EPOCH + 7, 25), false, (struct want){GAP_EPOCH, 19, 20, 22, true});
    expect(&s, since(EPOCH + 7, 15), false, (struct want){GAP_NONE, 15, 16, 18, false});
    assert_int_equal(tail_loss_before(&s, (struct position){EPOCH + 7, 25}).offset, 18);
    tail_release(&s);
}

static void test_the_order_is_adopted(void **state)
{
    (void)state;
    struct tail s = tail_at(10), order;
    append(&s, 50, 2, 1); /* 11, 12 */
    tail_new_epoch(&s, EPOCH + 1);
    append(&s, 50, 2, 1); /* 13, 14 */
    lineage_add_stray(s.line, (struct position){EPOCH + 7, 11});
    tail_init(&order, (struct position){EPOCH + 3, 14});
    struct lineage line;
    assert_int_equal(lineage_parse(SLICE("9:12! 10:14? 11:14"), &line), ERR_OK);
    tail_reset(&order, order.head, &line);
    tail_adopt(&s, &order);
    assert_int_equal(s.head.epoch, EPOCH + 3);
    assert_int_equal(s.count, 4);
    expect(&s, since(EPOCH + 1, 14), false, (struct want){GAP_EPOCH, 14, 0, 0, true});
    expect(&s, since(EPOCH + 2, 14), false, (struct want){GAP_NONE, 14, 0, 0, true});
    expect(&s, since(EPOCH + 3, 13), false, (struct want){GAP_NONE, 13, 14, 14, true});
    expect(&s, since(EPOCH + 7, 12), false, (struct want){GAP_EPOCH, 11, 12, 12, false});
    /* Who got a message of an epoch that is forgotten could not go on from there. */
    assert_int_equal(lineage_parse(SLICE("10:14? 11:14 12:14"), &line), ERR_OK);
    tail_reset(&order, (struct position){EPOCH + 4, 14}, &line);
    tail_adopt(&s, &order);
    assert_int_equal(s.count, 2);
    tail_release(&order);
    tail_release(&s);
}

static void test_what_is_older_is_put_before(void **state)
{
    (void)state;
    struct tail s = tail_at(20), other = tail_at(10);
    append(&s, 100, 1, 1);      /* 21 */
    append(&other, 100, 10, 1); /* 11..20 */
    for (uint64_t offset = 20; offset > 10; offset--) {
        struct catch_up cu = since(EPOCH, offset - 1);
        assert_int_equal(tail_catch_up(&other, &cu, false), ERR_OK);
        assert_true(tail_prepend(&s, cu.msgs[0], offset));
        for (uint32_t k = 0; k < cu.count; k++)
            msg_unref(cu.msgs[k]);
        free(cu.msgs);
    }
    expect_page(&s, since(EPOCH, 10), false, (struct want){GAP_NONE, 10, 11, 21, true});
    assert_int_equal(tail_oldest_ms(&s), 11);
    append(&s, 100, 3, 1);
    expect_page(&s, last(14), false, (struct want){GAP_NONE, 10, 11, 24, true});
    tail_release(&s);
    tail_release(&other);
}

static void test_gaps_when_nothing_is_kept(void **state)
{
    (void)state;
    struct tail s = tail_at(4);
    expect_page(&s, now(), false, (struct want){GAP_NONE, 4, 0, 0, true});
    expect_page(&s, last(3), false, (struct want){GAP_NONE, 4, 0, 0, true});
    expect_page(&s, since(EPOCH, 4), false, (struct want){GAP_NONE, 4, 0, 0, true});
    expect_page(&s, since(EPOCH, 3), false, (struct want){GAP_EXPIRED, 4, 0, 0, true});
    expect_page(&s, since(EPOCH, 5), false, (struct want){GAP_AHEAD, 4, 0, 0, true});
    expect_page(&s, since(1, 4), false, (struct want){GAP_EPOCH, 4, 0, 0, true});
}

static void test_pages_by_messages(void **state)
{
    (void)state;
    struct tail s = tail_at(0);
    append(&s, 100, 10, 1);
    struct catch_up cu = since(EPOCH, 0);
    cu.max_messages = 4;
    expect_page(&s, cu, false, (struct want){GAP_NONE, 0, 1, 4, false});
    cu.since.offset = 4;
    expect_page(&s, cu, false, (struct want){GAP_NONE, 4, 5, 8, false});
    cu.since.offset = 6;
    expect_page(&s, cu, false, (struct want){GAP_NONE, 6, 7, 10, true});
    cu.max_messages = 0; /* at least one, whatever is asked */
    expect_page(&s, cu, false, (struct want){GAP_NONE, 6, 7, 7, false});
    tail_release(&s);
}

static void test_pages_by_bytes(void **state)
{
    (void)state;
    struct tail s = tail_at(0);
    append(&s, 100, 10, 30);
    struct catch_up cu = since(EPOCH, 0);
    cu.max_bytes = 90;
    expect_page(&s, cu, false, (struct want){GAP_NONE, 0, 1, 3, false});
    cu.max_bytes = 89;
    expect_page(&s, cu, false, (struct want){GAP_NONE, 0, 1, 2, false});
    cu.max_bytes = 0;
    expect_page(&s, cu, false, (struct want){GAP_NONE, 0, 1, 1, false});
    cu.max_bytes = SIZE_MAX;
    expect_page(&s, cu, false, (struct want){GAP_NONE, 0, 1, 10, true});
    cu.max_bytes = 29; /* last one, too large for the page: still given, and the page is the end */
    cu.since.offset = 9;
    expect_page(&s, cu, false, (struct want){GAP_NONE, 9, 10, 10, true});
    tail_release(&s);
}

static void test_reading_back(void **state)
{
    (void)state;
    struct tail s = tail_at(10);
    append(&s, 5, 10, 1); /* 16..20 kept */
    expect_page(&s, now(), true, (struct want){GAP_NONE, 21, 20, 16, true});
    expect_page(&s, last(2), true, (struct want){GAP_NONE, 21, 20, 19, true});
    expect_page(&s, since(EPOCH, 19), true, (struct want){GAP_NONE, 19, 18, 16, true});
    expect_page(&s, since(EPOCH, 16), true, (struct want){GAP_NONE, 16, 0, 0, true});
    expect_page(&s, since(EPOCH, 3), true, (struct want){GAP_NONE, 3, 0, 0, true});
    expect_page(&s, since(EPOCH, 21), true, (struct want){GAP_NONE, 21, 20, 16, true});
    expect_page(&s, since(EPOCH, 22), true, (struct want){GAP_AHEAD, 21, 20, 16, true});
    expect_page(&s, since(1, 18), true, (struct want){GAP_EPOCH, 21, 20, 16, true});
    struct catch_up cu = since(EPOCH, 20);
    cu.max_messages = 2;
    expect_page(&s, cu, true, (struct want){GAP_NONE, 20, 19, 18, false});
    cu.since.offset = 18;
    expect_page(&s, cu, true, (struct want){GAP_NONE, 18, 17, 16, true});
    tail_release(&s);
}

static enum err use_key(const struct keyring *k, const char *key, const char *body, uint64_t *at)
{
    struct position pos = {0};
    enum err e = keyring_find(k, slice_str(key), slice_str(body), &pos);
    *at = pos.offset;
    return e;
}

static void add_key(struct keyring *k, const char *key, const char *body, uint64_t offset,
                    uint32_t max)
{
    struct position pos = {.epoch = EPOCH, .offset = offset};
    keyring_add(k, slice_str(key), slice_str(body), pos, max, offset);
}

static void test_keys_find_conflict_and_expire(void **state)
{
    (void)state;
    struct keyring k;
    uint64_t at;
    keyring_init(&k);
    assert_true(keyring_is_empty(&k));
    assert_int_equal(use_key(&k, "k1", "body", &at), ERR_NOT_FOUND);
    add_key(&k, "k1", "body", 1, 10);
    add_key(&k, "", "", 2, 10);
    assert_int_equal(use_key(&k, "k1", "body", &at), ERR_OK);
    assert_int_equal(at, 1);
    assert_int_equal(use_key(&k, "k1", "bodx", &at), ERR_CONFLICT);
    assert_int_equal(use_key(&k, "k1", "body ", &at), ERR_CONFLICT);
    assert_int_equal(use_key(&k, "", "", &at), ERR_OK);
    assert_int_equal(keyring_oldest_ms(&k), 1);
    keyring_expire(&k, 1);
    assert_int_equal(use_key(&k, "k1", "body", &at), ERR_NOT_FOUND);
    assert_int_equal(use_key(&k, "", "", &at), ERR_OK);
    keyring_release(&k);
}

static void test_keys_are_bounded_by_count(void **state)
{
    (void)state;
    struct keyring k;
    uint64_t at;
    keyring_init(&k);
    add_key(&k, "a", "x", 1, 2);
    add_key(&k, "b", "x", 2, 2);
    add_key(&k, "c", "x", 3, 2);
    assert_int_equal(use_key(&k, "a", "x", &at), ERR_NOT_FOUND);
    assert_int_equal(use_key(&k, "b", "x", &at), ERR_OK);
    assert_int_equal(use_key(&k, "c", "x", &at), ERR_OK);
    assert_int_equal(k.by_key.count, 2);
    keyring_release(&k);
}

static void test_tombstones_remember_until_pushed_out(void **state)
{
    (void)state;
    struct tombstones t;
    assert_int_equal(tombstones_init(&t, 4), ERR_OK);
    assert_int_equal(tombstones_offset(&t, 1), 0);
    for (uint64_t h = 1; h <= 4; h++)
        tombstones_put(&t, h, 10 * h);
    assert_int_equal(t.floor, 0);
    assert_int_equal(tombstones_offset(&t, 2), 20);
    tombstones_put(&t, 5, 1);
    assert_int_equal(t.floor, 10);
    assert_int_equal(tombstones_offset(&t, 1), 10); /* forgotten: the floor */
    assert_int_equal(tombstones_offset(&t, 99), 10);
    assert_int_equal(tombstones_offset(&t, 5), 1); /* remembered: below the floor is fine */
    tombstones_put(&t, 2, 25);
    tombstones_put(&t, 2, 7); /* never sinks */
    assert_int_equal(tombstones_offset(&t, 2), 25);
    assert_int_equal(t.count, 4);
    tombstones_release(&t);
}

/* Against an array: the index must survive any sequence of collisions and push-outs. */
static void test_tombstones_against_an_oracle(void **state)
{
    (void)state;
    enum { CAPACITY = 64, HASHES = 200, STEPS = 200000 };
    struct tombstones t;
    uint64_t hash[HASHES], offset[HASHES] = {0}, floor = 0;
    unsigned queue[CAPACITY], n = 0;
    bool known[HASHES] = {false};
    assert_int_equal(tombstones_init(&t, CAPACITY), ERR_OK);
    for (unsigned i = 0; i < HASHES; i++)
        hash[i] = (rnd_u64() << 16) | rnd_below(20); /* few homes: long runs */
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = rnd_below(HASHES);
        assert_int_equal(tombstones_offset(&t, hash[i]), known[i] ? offset[i] : floor);
        if (rnd_below(2))
            continue;
        uint64_t to = tombstones_offset(&t, hash[i]) + rnd_below(3);
        if (!known[i] && n == CAPACITY) {
            unsigned out = queue[0];
            floor = offset[out] > floor ? offset[out] : floor;
            known[out] = false;
            memmove(queue, queue + 1, --n * sizeof queue[0]);
        }
        if (!known[i])
            queue[n++] = i;
        known[i] = true;
        offset[i] = to;
        tombstones_put(&t, hash[i], to);
        assert_int_equal(t.floor, floor);
        assert_int_equal(t.count, n);
    }
    tombstones_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_the_newest_by_count),
        cmocka_unit_test(test_drops_by_age_and_gives_the_memory_back),
        cmocka_unit_test(test_clear_keeps_the_head),
        cmocka_unit_test(test_a_hole_empties_the_tail),
        cmocka_unit_test(test_every_gap_and_none),
        cmocka_unit_test(test_an_order_goes_on_in_another_epoch),
        cmocka_unit_test(test_nobody_passes_a_loss_without_a_gap),
        cmocka_unit_test(test_who_passed_a_loss_before_it_was_found_is_told),
        cmocka_unit_test(test_the_order_is_adopted),
        cmocka_unit_test(test_what_is_older_is_put_before),
        cmocka_unit_test(test_gaps_when_nothing_is_kept),
        cmocka_unit_test(test_pages_by_messages),
        cmocka_unit_test(test_pages_by_bytes),
        cmocka_unit_test(test_reading_back),
        cmocka_unit_test(test_keys_find_conflict_and_expire),
        cmocka_unit_test(test_keys_are_bounded_by_count),
        cmocka_unit_test(test_tombstones_remember_until_pushed_out),
        cmocka_unit_test(test_tombstones_against_an_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
