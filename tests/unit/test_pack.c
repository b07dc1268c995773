/* Packed forms of a message, unpacked by the libraries' own means and compared with the plain ones.
 */
#include "crier/deflate.h"
#include "crier/msg.h"
#include "crier/rnd.h"
#include "crier/zstd.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

#define ROOM ((size_t)4 << 20)
#define BIG ((size_t)20 << 20)

static const enum msg_form plain_ws[] = {FORM_WS_JSON, FORM_WS_RAW};
static const enum msg_form plain_sse[] = {FORM_SSE_RAW, FORM_SSE_JSON};

static struct msg *make(const char *channel, struct slice payload, enum msg_kind kind)
{
    struct msg *m;
    struct msg_draft d = {
        .channel = slice_str(channel), .payload = payload, .kind = kind, .event = SLICE("e")};
    assert_int_equal(msg_new(&d, &m), ERR_OK);
    msg_order(m, (struct position){.epoch = 5, .offset = 7}, 1760000000123);
    return m;
}

static int set_up(void **state)
{
    (void)state;
    deflate_configure(6, 15);
    msg_configure_packing(0, SLICE_NONE);
    return 0;
}

/* ---- unpacking ---- */

/* Appends what raw DEFLATE says; it must end at a byte boundary, with nothing held back. */
static void inflate_more(z_stream *z, struct slice packed, struct buf *out)
{
    assert_int_equal(buf_reserve(out, ROOM), ERR_OK);
    z->next_in = (Bytef *)(uintptr_t)packed.ptr;
    z->avail_in = (uInt)packed.len;
    z->next_out = (Bytef *)out->data + out->len;
    z->avail_out = (uInt)ROOM;
    int r = inflate(z, Z_SYNC_FLUSH);
    assert_true(r == Z_OK || (r == Z_BUF_ERROR && !packed.len));
    assert_int_equal(z->avail_in, 0);
    assert_true(z->avail_out);
    out->len += ROOM - z->avail_out;
}

static void inflate_all(struct slice packed, int bits, struct buf *out)
{
    z_stream z = {0};
    assert_int_equal(inflateInit2(&z, -bits), Z_OK);
    inflate_more(&z, packed, out);
    inflateEnd(&z);
}

static void unzstd_all(struct slice packed, struct buf *out)
{
    ZSTD_DCtx *d = ZSTD_createDCtx();
    ZSTD_inBuffer in = {packed.ptr, packed.len, 0};
    size_t left = 0;
    assert_false(ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, 23)));
    while (in.pos < in.size) {
        assert_int_equal(buf_reserve(out, ROOM), ERR_OK);
        ZSTD_outBuffer to = {out->data + out->len, ROOM, 0};
        left = ZSTD_decompressStream(d, &to, &in);
        assert_false(ZSTD_isError(left));
        out->len += to.pos;
    }
    assert_int_equal(left, 0); /* a frame has ended */
    ZSTD_freeDCtx(d);
}

static void expect_same(struct slice got, struct slice want)
{
    assert_int_equal(got.len, want.len);
    if (want.len)
        assert_memory_equal(got.ptr, want.ptr, want.len);
}

static size_t header_len(const struct encoded *e)
{
    uint8_t n = (uint8_t)e->bytes[1];
    return n < 126 ? 2 : n == 126 ? 4 : 10;
}

static struct slice whole(const struct encoded *e)
{
    return slice_of(e->bytes, e->len);
}

static struct slice from(const struct encoded *e, size_t n)
{
    return slice_of(e->bytes + n, e->len - n);
}

/* True when it was packed. */
static bool check_frame(struct msg *m, enum msg_form form, enum msg_coding coding)
{
    const struct encoded *plain = msg_encoded(m, form);
    const struct encoded *packed = msg_encoded(m, msg_form_packed(form, coding));
    struct buf b, out;
    if (packed == plain)
        return false;
    assert_true(packed->len < plain->len);
    assert_int_equal((uint8_t)packed->bytes[0], (uint8_t)plain->bytes[0] | 0x40);
    buf_init(&b, SIZE_MAX / 2);
    buf_init(&out, SIZE_MAX / 2);
    buf_append(&b, from(packed, header_len(packed)));
    buf_append(&b, SLICE("\0\0\xff\xff"));
    inflate_all(buf_slice(&b), coding == CODING_NARROW ? 9 : deflate_window_bits(), &out);
    expect_same(buf_slice(&out), from(plain, header_len(plain)));
    buf_release(&b);
    buf_release(&out);
    return true;
}

static void check_gzip(const struct encoded *plain, const struct encoded *packed)
{
    struct buf out;
    z_stream z = {0};
    size_t id_len = plain->id_len;
    buf_init(&out, SIZE_MAX / 2);
    assert_int_equal(inflateInit2(&z, -15), Z_OK);
    inflate_more(&z, slice_of(packed->bytes, packed->id_len), &out);
    expect_same(buf_slice(&out), slice_of(plain->bytes, id_len));
    inflate_more(&z, from(packed, packed->id_len), &out);
    expect_same(buf_slice(&out), whole(plain));
    /* in any order, with anything between: nothing refers back */
    inflate_more(&z, from(packed, packed->id_len), &out);
    expect_same(slice_of(out.data + plain->len, out.len - plain->len), from(plain, id_len));
    inflateEnd(&z);
    assert_int_equal(packed->plain.crc, crc32_add(0, whole(plain)));
    assert_int_equal(packed->plain.len, plain->len);
    assert_int_equal(packed->rest_plain.crc, crc32_add(0, from(plain, id_len)));
    assert_int_equal(packed->rest_plain.len, plain->len - id_len);
    buf_release(&out);
}

static void check_zstd(const struct encoded *plain, const struct encoded *packed)
{
    struct buf out;
    buf_init(&out, SIZE_MAX / 2);
    unzstd_all(slice_of(packed->bytes, packed->id_len), &out);
    expect_same(buf_slice(&out), slice_of(plain->bytes, plain->id_len));
    unzstd_all(from(packed, packed->id_len), &out);
    expect_same(buf_slice(&out), whole(plain));
    buf_release(&out);
}

static void check_event(struct msg *m, enum msg_form form)
{
    const struct encoded *plain = msg_encoded(m, form);
    check_gzip(plain, msg_encoded(m, msg_form_packed(form, CODING_GZIP)));
    check_zstd(plain, msg_encoded(m, msg_form_packed(form, CODING_ZSTD)));
}

/* How many of its frames were packed. */
static int check_all(const char *channel, struct slice payload, enum msg_kind kind)
{
    struct msg *m = make(channel, payload, kind);
    int packed = 0;
    for (int i = 0; i < 2; i++) {
        packed += check_frame(m, plain_ws[i], CODING_DEFLATE);
        packed += check_frame(m, plain_ws[i], CODING_NARROW);
        check_event(m, plain_sse[i]);
    }
    msg_unref(m);
    return packed;
}

/* ---- tests ---- */

static void fill_json(char *to, size_t n)
{
    static const char piece[] = "{\"price\":1234.5,\"symbol\":\"ABC\",\"note\":\"a\\nb\"},\n";
    for (size_t i = 0; i < n; i++)
        to[i] = piece[i % (sizeof(piece) - 1)];
}

static const size_t sizes[] = {0,    1,     2,     31,    125,   126,   127,   255,    256,   257,
                               1000, 32768, 65500, 65535, 65536, 65791, 65792, 131072, 200000};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void test_whatever_is_packed_unpacks_to_the_plain_form(void **state)
{
    (void)state;
    char *text = malloc(200000), *noise = malloc(200000);
    fill_json(text, 200000);
    rnd_bytes(noise, 200000);
    for (size_t i = 0; i < N_SIZES; i++) {
        int packed = check_all("a", slice_of(text, sizes[i]), MSG_TEXT);
        assert_true(sizes[i] < 256 || packed == 4);
        (void)check_all("a", slice_of(noise, sizes[i]), MSG_BINARY);
    }
    assert_int_equal(check_all("a", SLICE("{\"a\":[1,1,1,1,1,1,1,1,1,1,1,1]}"), MSG_JSON), 4);
    free(text);
    free(noise);
}

static void *check_text(void *text)
{
    return check_all("a", slice_str(text), MSG_TEXT) == 4 ? text : NULL;
}

static void test_every_level_and_window_can_be_read(void **state)
{
    (void)state;
    char text[60001] = {0};
    fill_json(text, sizeof(text) - 1);
    for (int level = 1; level <= 9; level += 4)
        for (int bits = 9; bits <= 15; bits++) {
            pthread_t thread; /* a thread's compressor stays what it was made as */
            void *ok;
            deflate_configure(level, bits);
            assert_int_equal(pthread_create(&thread, NULL, check_text, text), 0);
            assert_int_equal(pthread_join(thread, &ok), 0);
            assert_non_null(ok);
        }
}

static void test_what_does_not_get_smaller_stays_as_it_is(void **state)
{
    (void)state;
    char noise[2000];
    rnd_bytes(noise, sizeof(noise));
    struct msg *m = make("a", slice_of(noise, sizeof(noise)), MSG_BINARY);
    assert_ptr_equal(msg_encoded(m, FORM_WS_RAW_DEFLATE), msg_encoded(m, FORM_WS_RAW));
    assert_ptr_equal(msg_encoded(m, FORM_WS_RAW_NARROW), msg_encoded(m, FORM_WS_RAW));
    /* its base64 does */
    assert_ptr_not_equal(msg_encoded(m, FORM_WS_JSON_DEFLATE), msg_encoded(m, FORM_WS_JSON));
    msg_unref(m);
}

/* Stored, a form is longer by its headers: 5 bytes of each block, 9 or 10 of each frame. */
static void expect_stored(struct msg *m)
{
    for (int i = 0; i < 2; i++) {
        assert_ptr_equal(msg_encoded(m, msg_form_packed(plain_ws[i], CODING_DEFLATE)),
                         msg_encoded(m, plain_ws[i]));
        size_t plain = msg_encoded(m, plain_sse[i])->len;
        assert_int_equal(msg_encoded(m, msg_form_packed(plain_sse[i], CODING_GZIP))->len,
                         plain + 10);
        assert_in_range(msg_encoded(m, msg_form_packed(plain_sse[i], CODING_ZSTD))->len, plain + 18,
                        plain + 19);
        check_event(m, plain_sse[i]);
    }
    msg_unref(m);
}

static void expect_packed(struct msg *m)
{
    for (int i = 0; i < 2; i++) {
        assert_ptr_not_equal(msg_encoded(m, msg_form_packed(plain_ws[i], CODING_DEFLATE)),
                             msg_encoded(m, plain_ws[i]));
        size_t plain = msg_encoded(m, plain_sse[i])->len;
        assert_true(msg_encoded(m, msg_form_packed(plain_sse[i], CODING_GZIP))->len < plain);
        assert_true(msg_encoded(m, msg_form_packed(plain_sse[i], CODING_ZSTD))->len < plain);
    }
    msg_unref(m);
}

static void test_small_messages_are_left_alone(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'x', sizeof(text));
    msg_configure_packing(300, SLICE_NONE);
    expect_stored(make("a", slice_of(text, 299), MSG_TEXT));
    expect_packed(make("a", slice_of(text, 300), MSG_TEXT));
}

static void test_namespaces_can_be_left_alone(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'x', sizeof(text));
    struct slice payload = slice_of(text, sizeof(text));
    msg_configure_packing(0, SLICE(" bank ,mail"));
    expect_stored(make("bank:1", payload, MSG_TEXT));
    expect_stored(make("mail:a:b", payload, MSG_TEXT));
    expect_stored(make("mail:", payload, MSG_TEXT));
    expect_packed(make("mails:a", payload, MSG_TEXT));
    expect_packed(make("mail", payload, MSG_TEXT)); /* a name, of no namespace */
    expect_packed(make("Mail:a", payload, MSG_TEXT));
    msg_configure_packing(0, SLICE("bank,"));
    expect_stored(make("mail", payload, MSG_TEXT));
    expect_packed(make("mail:a", payload, MSG_TEXT));
    msg_configure_packing(0, SLICE(""));
    expect_packed(make("mail", payload, MSG_TEXT));
}

static void test_a_form_is_packed_once(void **state)
{
    (void)state;
    char text[4000];
    fill_json(text, sizeof(text));
    struct msg *m = make("a", slice_of(text, sizeof(text)), MSG_TEXT);
    const struct encoded *first[FORM_COUNT];
    for (int i = 0; i < FORM_COUNT; i++)
        first[i] = msg_encoded(m, (enum msg_form)i);
    for (int i = 0; i < FORM_COUNT; i++)
        assert_ptr_equal(msg_encoded(m, (enum msg_form)i), first[i]);
    msg_unref(m);
}

static void *ask_for_all(void *arg)
{
    struct msg *m = arg;
    uintptr_t sum = 0;
    for (int i = FORM_COUNT; i-- > 0;)
        sum ^= (uintptr_t)msg_encoded(m, (enum msg_form)i);
    msg_unref(m);
    return (void *)sum;
}

/* Also of forms that are borrowed from each other: the sanitizers see what is freed twice. */
static void test_racing_threads_get_the_same_forms(void **state)
{
    (void)state;
    char text[3000];
    fill_json(text, sizeof(text));
    for (int round = 0; round < 100; round++) {
        msg_configure_packing(round % 2 ? sizeof(text) + 1 : 0, SLICE_NONE);
        struct msg *m = make("a", slice_of(text, sizeof(text)), MSG_TEXT);
        pthread_t thread[4];
        void *got[4];
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, ask_for_all, msg_ref(m)), 0);
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_join(thread[i], &got[i]), 0);
        for (int i = 1; i < 4; i++)
            assert_ptr_equal(got[i], got[0]);
        msg_unref(m);
    }
}

static void test_zstd_of_any_size_needs_no_more_than_browsers_accept(void **state)
{
    (void)state;
    char *text = malloc(BIG);
    struct buf b, out;
    fill_json(text, BIG);
    buf_init(&b, SIZE_MAX / 2);
    buf_init(&out, SIZE_MAX / 2);
    assert_int_equal(zstd_append(&b, slice_of(text, BIG)), ERR_OK);
    assert_true(b.len < BIG / 4);
    unzstd_all(buf_slice(&b), &out);
    expect_same(buf_slice(&out), slice_of(text, BIG));
    buf_clear(&b);
    buf_clear(&out);
    zstd_append_stored(&b, slice_of(text, BIG));
    unzstd_all(buf_slice(&b), &out);
    expect_same(buf_slice(&out), slice_of(text, BIG));
    buf_release(&b);
    buf_release(&out);
    free(text);
}

static void test_zstd_leaves_a_full_buffer_as_it_was(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 20);
    buf_append(&b, SLICE("before"));
    assert_int_equal(zstd_append(&b, SLICE("a text that is too long for it")), ERR_NOMEM);
    assert_false(b.failed);
    zstd_append_stored(&b, SLICE("a text that is too long for it"));
    assert_true(b.failed);
    expect_same(buf_slice(&b), SLICE("before"));
    buf_release(&b);
}

#define T(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_whatever_is_packed_unpacks_to_the_plain_form),
        T(test_every_level_and_window_can_be_read),
        T(test_what_does_not_get_smaller_stays_as_it_is),
        T(test_small_messages_are_left_alone),
        T(test_namespaces_can_be_left_alone),
        T(test_a_form_is_packed_once),
        T(test_racing_threads_get_the_same_forms),
        T(test_zstd_of_any_size_needs_no_more_than_browsers_accept),
        T(test_zstd_leaves_a_full_buffer_as_it_was),
    };
    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
