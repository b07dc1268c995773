/* Sessions whose stream is coded: gunzipped and unzstd'ed, a client reads what one of plain bytes
 * reads, however its bytes are cut; and a gzip stream is whole when the session said goodbye.
 */
#include "crier/deflate.h"

#include "hub_fixture.h"

#include <zlib.h>
#include <zstd.h>

#define ROOM ((size_t)1 << 20)

/* ---- a dialect of event streams that says the same to everyone ---- */

static void on_ready(struct session *s)
{
    session_push_ready(s, SLICE("event: ready\n\n"));
}

static void on_gap(struct session *s, struct sub *sub, const struct catch_up *cu)
{
    (void)sub;
    (void)cu;
    session_push(s, SLICE("event: gap\n\n"), SLICE_NONE);
}

static void on_closing(struct session *s, uint16_t code, const char *reason)
{
    (void)code;
    session_push(s, SLICE("event: close\ndata: "), slice_str(reason));
    session_push(s, SLICE("\n\n"), SLICE_NONE);
}

static void on_tick(struct session *s)
{
    session_push(s, SLICE(":\n\n"), SLICE_NONE);
}

static const struct dialect events = {.transport = "sse",
                                      .form = FORM_SSE_RAW,
                                      .ready = on_ready,
                                      .gap = on_gap,
                                      .closing = on_closing,
                                      .tick = on_tick};

static struct peer *open_coded(int i, enum msg_coding coding, size_t n_channels)
{
    struct peer *p = peer_init_coded(i, &events, coding);
    struct sub_request req[2] = {at_now("a"), at_now("b")};
    session_push(&p->s, SLICE(": hello\n\n"), SLICE_NONE);
    assert_int_equal(session_open(&p->s, req, n_channels), ERR_OK);
    run();
    return p;
}

/* ---- what they read ---- */

/* Whole: with a trailer that is right, and nothing behind it. */
static void gunzip(struct slice packed, bool whole, struct buf *out)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)packed.ptr, .avail_in = (uInt)packed.len};
    assert_int_equal(inflateInit2(&z, 16 + 15), Z_OK);
    assert_int_equal(buf_reserve(out, ROOM), ERR_OK);
    z.next_out = (Bytef *)out->data;
    z.avail_out = (uInt)ROOM;
    assert_int_equal(inflate(&z, Z_SYNC_FLUSH), whole ? Z_STREAM_END : Z_OK);
    assert_int_equal(z.avail_in, 0);
    out->len = ROOM - z.avail_out;
    inflateEnd(&z);
}

static void unzstd(struct slice packed, struct buf *out)
{
    ZSTD_DCtx *d = ZSTD_createDCtx();
    ZSTD_inBuffer in = {packed.ptr, packed.len, 0};
    assert_int_equal(buf_reserve(out, ROOM), ERR_OK);
    ZSTD_outBuffer to = {out->data, ROOM, 0};
    while (in.pos < in.size)
        assert_false(ZSTD_isError(ZSTD_decompressStream(d, &to, &in)));
    out->len = to.pos;
    ZSTD_freeDCtx(d);
}

static void unpack(const struct peer *p, bool whole, struct buf *out)
{
    buf_init(out, ROOM);
    if (msg_form_coding((enum msg_form)p->s.out.form) == CODING_GZIP)
        gunzip(buf_slice(&p->got), whole, out);
    else if (msg_form_coding((enum msg_form)p->s.out.form) == CODING_ZSTD)
        unzstd(buf_slice(&p->got), out);
    else
        buf_append(out, buf_slice(&p->got));
    buf_append_char(out, '\0');
}

static void expect_text(const struct peer *p, bool whole, const char *want)
{
    struct buf text;
    unpack(p, whole, &text);
    assert_string_equal(text.data, want);
    buf_release(&text);
}

static void expect_like(const struct peer *p, const struct peer *plain)
{
    struct buf want;
    unpack(plain, true, &want);
    expect_text(p, true, want.data);
    buf_release(&want);
}

static void publish_some(unsigned n)
{
    static char text[3000];
    for (unsigned i = 0; i < n; i++) {
        size_t len = (i * 997) % sizeof(text);
        memset(text, 'a' + (int)(i % 26), len);
        text[len] = '\0';
        publish(i % 3 ? "a" : "b", text);
    }
}

/* Lets p have its bytes in pieces of `step`. */
static void take_in_steps(struct peer *p, size_t step)
{
    while (!p->freed)
        peer_takes(p, step);
}

static void check_steps(size_t n_channels, size_t step)
{
    struct peer *p[3];
    for (int i = 0; i < 3; i++) {
        p[i] = open_coded(i, (enum msg_coding)(i == 0 ? CODING_PLAIN : CODING_GZIP + i - 1),
                          n_channels);
        p[i]->takes = 0;
    }
    publish_some(30);
    for (int i = 0; i < 3; i++) {
        session_close(&p[i]->s, 1001, "good night");
        take_in_steps(p[i], step);
    }
    for (int i = 1; i < 3; i++)
        expect_like(p[i], p[0]);
}

/* ---- tests ---- */

static void test_a_coded_stream_says_what_the_plain_one_says(void **state)
{
    (void)state;
    check_steps(1, SIZE_MAX);
}

static void test_so_do_streams_of_several_channels(void **state)
{
    (void)state;
    check_steps(2, SIZE_MAX);
}

static void test_so_they_do_byte_by_byte(void **state)
{
    (void)state;
    check_steps(2, 1);
}

static void test_so_they_do_in_odd_pieces(void **state)
{
    (void)state;
    check_steps(2, 7);
}

static void test_each_event_can_be_read_when_it_was_sent(void **state)
{
    (void)state;
    struct peer *p = open_coded(0, CODING_GZIP, 1), *q = open_coded(1, CODING_ZSTD, 1);
    char want[512];
    int n = snprintf(want, sizeof(want), ": hello\n\nevent: ready\n\n");
    expect_text(p, false, want);
    for (unsigned i = 1; i < 4; i++) {
        publish("a", "x");
        n += snprintf(want + n, sizeof(want) - (size_t)n, "id: %s\ndata: x\n\n", cur("a", i));
        expect_text(p, false, want);
        expect_text(q, false, want);
    }
}

static void test_what_frames_the_stream_is_not_of_it(void **state)
{
    (void)state;
    struct peer *p = peer_init_coded(0, &events, CODING_GZIP);
    session_push_framing(&p->s, SLICE("HTTP/1.1 200 OK\r\n\r\n"));
    session_push(&p->s, SLICE(": hello\n\n"), SLICE_NONE);
    run();
    assert_memory_equal(p->got.data, "HTTP/1.1 200 OK\r\n\r\n\x1f\x8b", 21);
    buf_consume(&p->got, 19);
    session_finish(&p->s);
    run();
    expect_text(p, true, ": hello\n\n");
}

static void test_a_session_that_said_nothing_ends_as_an_empty_stream(void **state)
{
    (void)state;
    struct peer *p = peer_init_coded(0, &events, CODING_GZIP);
    session_finish(&p->s);
    run();
    assert_int_equal(p->got.len, 20);
    expect_text(p, true, "");
}

static void test_the_trailer_of_a_slow_client_sums_up_what_it_was_sent(void **state)
{
    (void)state;
    fx->opt.outbox_messages = 3;
    struct peer *p = open_coded(0, CODING_GZIP, 2), *q = open_coded(1, CODING_PLAIN, 2);
    /* both have begun the first message, whose rest is sent; the others are dropped */
    p->takes = q->takes = 7;
    publish_some(6);
    assert_int_equal(p->s.state, SESSION_CLOSING);
    assert_int_equal(q->s.state, SESSION_CLOSING);
    take_in_steps(p, 5);
    take_in_steps(q, SIZE_MAX);
    expect_like(p, q);
}

static void test_a_stream_that_is_cut_has_no_trailer(void **state)
{
    (void)state;
    struct peer *p = open_coded(0, CODING_GZIP, 1);
    session_cut(&p->s);
    session_close(&p->s, 1001, "");
    run();
    expect_text(p, false, ": hello\n\nevent: ready\n\n");
}

static void test_keep_alives_are_coded(void **state)
{
    (void)state;
    struct peer *p = open_coded(0, CODING_GZIP, 1), *q = open_coded(1, CODING_ZSTD, 1);
    session_timer(&p->s, 100);
    session_timer(&q->s, 100);
    advance(1000);
    expect_text(p, false, ": hello\n\nevent: ready\n\n:\n\n");
    expect_text(q, false, ": hello\n\nevent: ready\n\n:\n\n");
}

/* A message that is passed over moves a position that stands in an id line which is half sent. */
static void test_a_half_sent_id_line_stays_as_it_is(void **state)
{
    (void)state;
    struct peer *p = open_coded(0, CODING_GZIP, 2);
    publish("a", "heard");
    size_t before = p->got.len;
    p->takes = 0;
    publish("a", "half sent");
    peer_takes(p, 20);
    assert_int_equal(p->got.len, before + 20);
    for (int i = 0; i < 70; i++) {
        struct msg_draft d = {.channel = SLICE("b"),
                              .payload = SLICE("own"),
                              .kind = MSG_TEXT,
                              .client = p->s.id,
                              .exclude_client = true};
        assert_int_equal(hub_publish(fx->hub, &d, SLICE_NONE, on_published_done, NULL), ERR_OK);
        run();
    }
    peer_takes(p, SIZE_MAX);
    session_finish(&p->s);
    run();
    char want[512];
    snprintf(want, sizeof(want),
             ": hello\n\nevent: ready\n\nid: %s~%s\ndata: heard\n\nid: %s~%s\ndata: half sent\n\n",
             cur("a", 1), cur("b", 0), cur("a", 2), cur("b", 0));
    expect_text(p, true, want);
}

static int set_up_coding(void **state)
{
    deflate_configure(6, 15);
    msg_configure_packing(100, SLICE_NONE);
    return set_up(state);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up_coding, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_coded_stream_says_what_the_plain_one_says),
        T(test_so_do_streams_of_several_channels),
        T(test_so_they_do_byte_by_byte),
        T(test_so_they_do_in_odd_pieces),
        T(test_each_event_can_be_read_when_it_was_sent),
        T(test_what_frames_the_stream_is_not_of_it),
        T(test_a_session_that_said_nothing_ends_as_an_empty_stream),
        T(test_the_trailer_of_a_slow_client_sums_up_what_it_was_sent),
        T(test_a_stream_that_is_cut_has_no_trailer),
        T(test_keep_alives_are_coded),
        T(test_a_half_sent_id_line_stays_as_it_is),
    };
    return cmocka_run_group_tests_name("coding", tests, NULL, NULL);
}
