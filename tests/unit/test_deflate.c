/* test_deflate.c - pieces that stand alone, against RFC 7692's examples, and inflating them again
 * in whatever parts. */
#include "crier/deflate.h"
#include "crier/rnd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <pthread.h>

#define TAIL "\0\0\xff\xff"

static void set_text(struct buf *b, size_t len)
{
    buf_init(b, len);
    for (size_t i = 0; b->len < len; i++)
        buf_append_char(b, (char)('a' + (i * i + i / 7) % 11));
}

static void pack(struct buf *b, struct slice plain, enum deflate_window w)
{
    buf_init(b, SIZE_MAX);
    assert_int_equal(deflate_append(b, plain, w), ERR_OK);
}

/* Inflates all of in, `step` bytes at a time, through `room` bytes. */
static enum err unpack(struct inflater *f, struct slice in, size_t step, size_t room,
                       struct buf *out)
{
    char piece[512];
    assert_true(room <= sizeof(piece));
    while (in.len) {
        struct slice part = slice_of(in.ptr, in.len < step ? in.len : step);
        in = slice_of(in.ptr + part.len, in.len - part.len);
        size_t n;
        do {
            enum err e = inflater_feed(f, &part, piece, room, &n);
            buf_append(out, slice_of(piece, n));
            if (e)
                return e;
        } while (n == room || part.len);
    }
    return ERR_OK;
}

static void assert_unpacks_to(struct inflater *f, struct slice packed, struct slice plain)
{
    for (size_t step = 1; step <= packed.len; step = step * 3 + 1) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        inflater_reset(f);
        assert_int_equal(unpack(f, packed, step, step % 7 + 1, &out), ERR_OK);
        assert_true(inflater_is_between_blocks(f));
        assert_true(slice_eq(buf_slice(&out), plain));
        buf_release(&out);
    }
}

static void test_a_piece_ends_with_the_empty_stored_block(void **state)
{
    static const size_t lens[] = {0, 1, 5, 100, 65535, 65536, 300000};
    struct inflater *f = inflater_try_new();
    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        for (int w = DEFLATE_WIDE; w <= DEFLATE_NARROW; w++) {
            struct buf plain, packed;
            set_text(&plain, lens[i]);
            pack(&packed, buf_slice(&plain), (enum deflate_window)w);
            assert_memory_equal(packed.data + packed.len - DEFLATE_TAIL_BYTES, TAIL,
                                DEFLATE_TAIL_BYTES);
            assert_unpacks_to(f, buf_slice(&packed), buf_slice(&plain));
            buf_release(&plain);
            buf_release(&packed);
        }
    }
    inflater_free(f);
}

static void test_what_nothing_makes_smaller(void **state)
{
    struct inflater *f = inflater_try_new();
    char noise[70000];
    struct buf packed;
    (void)state;
    rnd_bytes(noise, sizeof(noise));
    pack(&packed, slice_of(noise, sizeof(noise)), DEFLATE_WIDE);
    assert_unpacks_to(f, buf_slice(&packed), slice_of(noise, sizeof(noise)));
    buf_release(&packed);
    buf_init(&packed, 100);
    assert_int_equal(deflate_append(&packed, slice_of(noise, 100), DEFLATE_WIDE), ERR_LIMIT);
    assert_int_equal(packed.len, 0);
    buf_release(&packed);
    inflater_free(f);
}

static void test_pieces_do_not_depend_on_each_other(void **state)
{
    struct buf text, first, second, out;
    struct inflater *f = inflater_try_new();
    (void)state;
    set_text(&text, 3000);
    pack(&first, buf_slice(&text), DEFLATE_WIDE);
    pack(&second, buf_slice(&text), DEFLATE_WIDE);
    assert_true(slice_eq(buf_slice(&first), buf_slice(&second)));

    /* Nor does it matter to a stream that they are. */
    buf_append(&first, buf_slice(&second));
    buf_init(&out, SIZE_MAX);
    assert_int_equal(unpack(f, buf_slice(&first), 100, 100, &out), ERR_OK);
    assert_int_equal(out.len, 6000);
    assert_memory_equal(out.data + 3000, text.data, 3000);
    inflater_free(f);
    buf_release(&text);
    buf_release(&first);
    buf_release(&second);
    buf_release(&out);
}

/* RFC 7692 7.2.3.1 - 7.2.3.5, each with the tail that a receiver appends. */
static void test_examples_of_rfc7692(void **state)
{
    static const struct {
        struct slice packed;
        const char *plain;
    } examples[] = {
        {SLICE("\xf2\x48\xcd\xc9\xc9\x07\x00" TAIL), "Hello"},
        {SLICE("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00" TAIL), "Hello"},
        {SLICE("\xf3\x48\xcd\xc9\xc9\x07\x00\x00" TAIL), "Hello"},
        {SLICE("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00" TAIL), "Hello"},
        {SLICE("\x00" TAIL), ""},
        {SLICE("\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00" TAIL), "HelloHello"},
    };
    struct inflater *f = inflater_try_new();
    (void)state;
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
        assert_unpacks_to(f, examples[i].packed, slice_str(examples[i].plain));
    inflater_free(f);
}

static void test_what_is_not_deflate(void **state)
{
    static const struct slice bad[] = {
        SLICE("\x07"),                 /* BTYPE 11 */
        SLICE("\x00\x05\x00\x05\x00"), /* NLEN is not LEN's complement */
        SLICE("\x02\x82\x10\x00"),     /* a distance to before the beginning */
    };
    struct inflater *f = inflater_try_new();
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf out;
        buf_init(&out, 1000);
        inflater_reset(f);
        assert_int_equal(unpack(f, bad[i], 1, 10, &out), ERR_SYNTAX);
        buf_release(&out);
    }
    inflater_free(f);
}

static void test_what_ends_within_a_block_is_seen(void **state)
{
    static const struct slice cut[] = {
        SLICE(TAIL), /* LEN 00 FF, and no more */
        SLICE("\xf2\x48\xcd\xc9" TAIL), SLICE("\x00\x20\x00\xdf\xff" TAIL),
        SLICE("\xf3\x48\xcd\xc9\xc9\x07\x00" TAIL), /* nothing after the final block */
    };
    struct inflater *f = inflater_try_new();
    (void)state;
    for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
        struct buf out;
        buf_init(&out, 1000);
        inflater_reset(f);
        enum err e = unpack(f, cut[i], 2, 10, &out);
        assert_true(e == ERR_SYNTAX || (e == ERR_OK && !inflater_is_between_blocks(f)));
        buf_release(&out);
    }
    inflater_free(f);
}

/* What a bomb inflates to is the caller's to bound: no call gives more than there is room. */
static void test_a_bomb_comes_in_pieces(void **state)
{
    struct inflater *f = inflater_try_new();
    struct buf zeros, bomb;
    char piece[100];
    size_t total = 0, n;
    (void)state;
    buf_init(&zeros, 1 << 20);
    assert_int_equal(buf_reserve(&zeros, 1 << 20), ERR_OK);
    memset(zeros.data, 0, 1 << 20);
    pack(&bomb, slice_of(zeros.data, 1 << 20), DEFLATE_WIDE);
    assert_true(bomb.len < 1100);
    struct slice in = buf_slice(&bomb);
    do {
        assert_int_equal(inflater_feed(f, &in, piece, sizeof(piece), &n), ERR_OK);
        total += n;
    } while (n == sizeof(piece) || in.len);
    assert_int_equal(total, 1 << 20);
    inflater_free(f);
    buf_release(&zeros);
    buf_release(&bomb);
}

/* 9 bits: no distance may be longer than what the smallest window that we agree on holds. What was
 * said 600 bytes ago is said again. */
static void test_narrow_looks_back_at_most_512_bytes(void **state)
{
    struct buf plain, wide, narrow;
    char noise[600];
    (void)state;
    rnd_bytes(noise, sizeof(noise));
    buf_init(&plain, 1200);
    buf_append(&plain, slice_of(noise, sizeof(noise)));
    buf_append(&plain, slice_of(noise, sizeof(noise)));
    pack(&wide, buf_slice(&plain), DEFLATE_WIDE);
    pack(&narrow, buf_slice(&plain), DEFLATE_NARROW);
    assert_true(wide.len < 700);
    assert_true(narrow.len > 1200);
    buf_release(&plain);
    buf_release(&wide);
    buf_release(&narrow);
}

static void test_stored_blocks_say_the_same(void **state)
{
    static const size_t lens[] = {0, 1, 65535, 65536, 131070, 200000};
    struct inflater *f = inflater_try_new();
    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct buf plain, stored;
        set_text(&plain, lens[i]);
        buf_init(&stored, SIZE_MAX);
        deflate_append_stored(&stored, buf_slice(&plain));
        assert_int_equal(stored.len, lens[i] + 5 * ((lens[i] + 65534) / 65535));
        if (lens[i])
            assert_unpacks_to(f, buf_slice(&stored), buf_slice(&plain));
        buf_release(&plain);
        buf_release(&stored);
    }
    inflater_free(f);
}

static void test_crc32(void **state)
{
    struct slice digits = SLICE("123456789"), rest = SLICE(" and the rest");
    (void)state;
    assert_int_equal(crc32_add(0, digits), 0xcbf43926);
    assert_int_equal(crc32_add(0, SLICE_NONE), 0);
    assert_int_equal(crc32_join(0xcbf43926, crc32_add(0, rest), rest.len),
                     crc32_add(crc32_add(0, digits), rest));
    assert_int_equal(crc32_join(0xcbf43926, 0, 0), 0xcbf43926);
}

static void *pack_in_thread(void *arg)
{
    struct buf *out = arg;
    for (int i = 0; i < 100; i++) {
        buf_clear(out);
        if (deflate_append(out, SLICE("each thread has its own"), (enum deflate_window)(i & 1)))
            break;
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t thread[4];
    struct buf out[4];
    (void)state;
    for (int i = 0; i < 4; i++) {
        buf_init(&out[i], 1000);
        assert_int_equal(pthread_create(&thread[i], NULL, pack_in_thread, &out[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_true(slice_eq(buf_slice(&out[i]), buf_slice(&out[0])));
        assert_true(out[i].len > 0);
    }
    for (int i = 0; i < 4; i++)
        buf_release(&out[i]);
}

static void *pack_far_apart(void *arg)
{
    static char plain[12000];
    if (!plain[0]) {
        rnd_bytes(plain, sizeof(plain) / 2);
        memcpy(plain + sizeof(plain) / 2, plain, sizeof(plain) / 2);
    }
    return deflate_append(arg, slice_of(plain, sizeof(plain)), DEFLATE_WIDE) ? arg : NULL;
}

/* Last: it stays. In new threads, which have no compressor yet. */
static void test_the_window_is_as_configured(void **state)
{
    struct buf packed[2];
    (void)state;
    assert_int_equal(deflate_window_bits(), 15);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        buf_init(&packed[i], SIZE_MAX);
        assert_int_equal(pthread_create(&thread, NULL, pack_far_apart, &packed[i]), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        deflate_configure(1, 12);
    }
    assert_int_equal(deflate_window_bits(), 12);
    assert_in_range(packed[0].len, 6000, 6200);
    assert_in_range(packed[1].len, 12000, 12100);
    buf_release(&packed[0]);
    buf_release(&packed[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_piece_ends_with_the_empty_stored_block),
        cmocka_unit_test(test_what_nothing_makes_smaller),
        cmocka_unit_test(test_pieces_do_not_depend_on_each_other),
        cmocka_unit_test(test_examples_of_rfc7692),
        cmocka_unit_test(test_what_is_not_deflate),
        cmocka_unit_test(test_what_ends_within_a_block_is_seen),
        cmocka_unit_test(test_a_bomb_comes_in_pieces),
        cmocka_unit_test(test_narrow_looks_back_at_most_512_bytes),
        cmocka_unit_test(test_stored_blocks_say_the_same),
        cmocka_unit_test(test_crc32),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_the_window_is_as_configured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
