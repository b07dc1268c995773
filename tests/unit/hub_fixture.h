/* hub_fixture.h - a bus, one hub and peers that are sessions without a socket: each takes as many
 * bytes as the test lets it and keeps them. No loop: the test drains and advances by hand.
 * Included by one test at a time.
 */
#ifndef CRIER_TESTS_HUB_FIXTURE_H
#define CRIER_TESTS_HUB_FIXTURE_H

#include "crier/clock.h"
#include "crier/dialects.h"
#include "crier/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

#define WALL UINT64_C(1760000000000)
#define PEERS 4

struct peer {
    struct session s;
    struct buf got; /* bytes that the transport took, as they came */
    size_t takes;   /* of the bytes offered, from now on */
    unsigned resumed;
    bool freed;
};

struct fixture {
    struct ns_table ns;
    struct hub_options opt;
    struct bus *bus;
    struct hub *hub;
    struct timer_wheel timers;
    struct peer peer[PEERS];
    uint32_t epoch;
    bool published; /* the answer of the last publish has come */
    char cursors[8][32];
    unsigned n_cursors;
    char id[CLIENT_ID_BYTES];
};

static struct fixture *fx; /* of the running test */

/* ---- running ---- */

static inline void drain(struct mailbox *mb)
{
    while (mailbox_drain(mb, 100))
        ;
}

static inline void run_bus(void)
{
    drain(bus_inbox(fx->bus));
}

/* Until nobody has anything to do. */
static inline void run(void)
{
    bool more = true;
    while (more) {
        run_bus();
        drain(bus_port_mailbox(hub_port(fx->hub)));
        more = hub_turn(fx->hub) || bus_inbox(fx->bus)->head;
    }
}

static inline void advance(uint64_t ms)
{
    run();
    timer_wheel_advance(bus_timers(fx->bus), bus_timers(fx->bus)->now_ms + ms);
    timer_wheel_advance(&fx->timers, fx->timers.now_ms + ms);
    run();
}

/* ---- peers ---- */

static inline struct peer *peer_of(struct session *s)
{
    return container_of(s, struct peer, s);
}

static inline size_t peer_take(struct peer *p, const struct iovec *iov, int n)
{
    size_t taken = 0;
    for (int i = 0; i < n && p->takes; i++) {
        size_t k = iov[i].iov_len < p->takes ? iov[i].iov_len : p->takes;
        buf_append(&p->got, slice_of(iov[i].iov_base, k));
        taken += k;
        p->takes -= p->takes == SIZE_MAX ? 0 : k;
    }
    return taken;
}

static inline void peer_flush(struct session *s)
{
    struct peer *p = peer_of(s);
    struct iovec iov[16];
    size_t n;
    do {
        n = peer_take(p, iov, session_iov(s, iov, 16, SIZE_MAX));
        if (n)
            session_advance(s, n);
    } while (n);
    if (s->state == SESSION_CLOSING && !s->out.count)
        session_gone(s);
}

static inline void peer_resumed(struct session *s)
{
    peer_of(s)->resumed++;
}

static inline void peer_free(struct session *s)
{
    peer_of(s)->freed = true;
}

static const struct session_ops peer_ops = {
    .flush = peer_flush, .resume_reading = peer_resumed, .free = peer_free};

static inline struct peer *peer_init_coded(int i, const struct dialect *d, enum msg_coding coding)
{
    struct peer *p = &fx->peer[i];
    memset(p, 0, sizeof(*p));
    buf_init(&p->got, 1 << 22);
    p->takes = SIZE_MAX;
    session_init(&p->s, fx->hub, &peer_ops, d, coding);
    return p;
}

static inline struct peer *peer_init(int i, const struct dialect *d)
{
    return peer_init_coded(i, d, CODING_PLAIN);
}

/* Lets a peer that stopped take n more bytes. */
static inline void peer_takes(struct peer *p, size_t n)
{
    p->takes = n;
    session_mark_dirty(&p->s);
    run();
}

static inline struct sub_request at_now(const char *channel)
{
    return (struct sub_request){.channel = slice_str(channel), .from.from = FROM_NOW};
}

static inline struct sub_request at_offset(const char *channel, uint64_t offset)
{
    return (struct sub_request){
        .channel = slice_str(channel),
        .from = {.from = FROM_POSITION, .since = {.epoch = fx->epoch, .offset = offset}}};
}

/* A client of one channel from now on, everything answered. */
static inline struct peer *peer_open(int i, const struct dialect *d, const char *channel)
{
    struct peer *p = peer_init(i, d);
    struct sub_request req = at_now(channel);
    assert_int_equal(session_open(&p->s, &req, channel ? 1 : 0), ERR_OK);
    run();
    return p;
}

static inline void say(struct peer *p, const char *text)
{
    p->s.dialect->received(&p->s, false, slice_str(text));
}

/* ---- what they got ---- */

static inline size_t frame_size(struct slice b, size_t *header)
{
    const uint8_t *u = (const uint8_t *)b.ptr;
    size_t len = u[1];
    *header = 2;
    if (len == 126) {
        *header = 4;
        len = (size_t)u[2] << 8 | u[3];
    } else if (len == 127) {
        *header = 10;
        len = 0;
        for (int i = 2; i < 10; i++)
            len = len << 8 | u[i];
    }
    assert_true(b.len >= *header + len);
    return *header + len;
}

/* One line per frame; a Close as "close CODE REASON". */
static inline void frames_as_lines(struct slice b, struct buf *out)
{
    while (b.len) {
        size_t header, n = frame_size(b, &header);
        unsigned opcode = (unsigned char)b.ptr[0] & 15;
        assert_int_equal((unsigned char)b.ptr[0] & 0xf0, 0x80);
        if (opcode == WS_CLOSE && n > header) {
            buf_printf(out, "close %u ",
                       (unsigned)(uint8_t)b.ptr[header] << 8 | (uint8_t)b.ptr[header + 1]);
            header += 2;
        } else if (opcode != WS_TEXT) {
            buf_printf(out, opcode == WS_CLOSE ? "close" : "opcode %u ", opcode);
        }
        buf_append(out, slice_of(b.ptr + header, n - header));
        buf_append_char(out, '\n');
        b = slice_of(b.ptr + n, b.len - n);
    }
}

/* Cursor text of an offset; good for the next eight calls. */
static inline const char *cur(const char *channel, uint64_t offset)
{
    char *text = fx->cursors[fx->n_cursors++ % 8];
    struct position pos = {.epoch = fx->epoch, .offset = offset};
    text[cursor_format(text, cursor_tag(slice_str(channel)), pos)] = '\0';
    return text;
}

static inline const char *id_of(const struct peer *p)
{
    client_id_text(p->s.id, fx->id);
    return fx->id;
}

/* Everything since the last time, as lines. */
static inline void expect(struct peer *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline void expect(struct peer *p, const char *fmt, ...)
{
    static char want[1 << 20]; /* enough for any test */
    struct buf lines;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(want, sizeof(want), fmt, ap);
    va_end(ap);
    run();
    buf_init(&lines, 1 << 22);
    frames_as_lines(buf_slice(&p->got), &lines);
    buf_append_char(&lines, '\0');
    assert_false(p->got.failed || lines.failed);
    assert_string_equal(lines.data, want);
    buf_release(&lines);
    buf_clear(&p->got);
}

static inline void forget(struct peer *p)
{
    run();
    buf_clear(&p->got);
}

/* ---- other parties ---- */

static inline void on_published_done(struct bus_op *op)
{
    struct bus_publish *p = container_of(op, struct bus_publish, op);
    assert_int_equal(op->err, ERR_OK);
    fx->epoch = p->pos.epoch;
    fx->published = true;
    bus_op_free(op);
}

/* Given to the bus; nothing has run yet. */
static inline void submit_text(const char *channel, const char *text)
{
    struct msg_draft d = {
        .channel = slice_str(channel), .payload = slice_str(text), .kind = MSG_TEXT};
    assert_int_equal(hub_publish(fx->hub, &d, SLICE_NONE, on_published_done, NULL), ERR_OK);
}

static inline void publish(const char *channel, const char *text)
{
    submit_text(channel, text);
    run();
}

static inline void publish_many(const char *channel, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        submit_text(channel, "x");
    run();
}

static inline void on_op_done(struct bus_op *op)
{
    bus_op_free(op);
}

static inline void clear_history(const char *channel)
{
    struct bus_clear *c = bus_clear_new(on_op_done, NULL);
    c->channel = slice_dup(slice_str(channel));
    bus_submit(hub_port(fx->hub), &c->op);
    run();
}

/* ---- set up ---- */

static inline int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    ns_table_init(&f->ns);
    struct ns_options *o = ns_table_entry(&f->ns, SLICE("few"));
    o->history_messages = 3;
    o = ns_table_entry(&f->ns, SLICE("big"));
    o->history_messages = 1000;
    f->opt = (struct hub_options){.outbox_bytes = 1 << 20,
                                  .outbox_messages = 1000,
                                  .message_bytes = 65536,
                                  .sse_keepalive_ms = 15000,
                                  .sse_retry_ms = 2000,
                                  .ws_ping_ms = 30000,
                                  .ws_pong_ms = 10000};
    clock_fake_wall_ms(WALL);
    timer_wheel_init(&f->timers, 1000);
    assert_int_equal(bus_new_memory(&f->ns, &f->bus), ERR_OK);
    assert_int_equal(hub_new(&f->opt, f->bus, &f->timers, &f->hub), ERR_OK);
    *state = fx = f;
    publish("warm:up", "to learn the epoch");
    assert_true(f->published);
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < PEERS; i++)
        if (f->peer[i].s.hub)
            session_gone(&f->peer[i].s);
    run();
    for (int i = 0; i < PEERS; i++)
        buf_release(&f->peer[i].got);
    assert_int_equal(hub_session_count(f->hub), 0);
    hub_free(f->hub);
    bus_free(f->bus);
    clock_fake_wall_ms(0);
    free(f);
    fx = NULL;
    return 0;
}

#endif
