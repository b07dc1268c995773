/* bus_fixture.h - a bus with three ports, each of which writes down what it hears, in order, one
 * line per letter. No loop: the test drains and advances by hand. Included by one test at a time.
 */
#ifndef CRIER_TESTS_BUS_FIXTURE_H
#define CRIER_TESTS_BUS_FIXTURE_H

#include "../../src/bus/backend.h"
#include "crier/clock.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

#define PORTS 3
#define WALL UINT64_C(1760000000000)

struct fixture {
    struct ns_table ns;
    struct bus *bus;
    struct bus_port *port[PORTS];
    struct buf heard[PORTS];
    struct position last; /* of the newest answer that carried one */
};

/* ---- writing down ---- */

static struct fixture *fx; /* of the running test */

static inline void line_position(struct buf *b, struct position pos)
{
    buf_printf(b, " %" PRIu64, pos.offset);
    fx->last = pos;
}

static inline void heard_message(struct buf *b, const struct msg *m)
{
    buf_append_str(b, "message ");
    buf_append(b, m->channel);
    line_position(b, m->pos);
    buf_append_char(b, ' ');
    buf_append(b, m->payload);
}

static inline void heard_notice(struct buf *b, const struct bus_event *ev)
{
    buf_append_str(b, ev->kind == BUS_EVENT_JOIN ? "join " : "leave ");
    buf_append(b, ev->channel);
    buf_printf(b, " c%" PRIu64 " %s %s now %u", ev->member.client,
               ev->member.user ? ev->member.user : "-", ev->member.transport, ev->subscribers);
}

static inline void on_deliver(void *ctx, const struct bus_event *ev)
{
    struct buf *b = ctx;
    if (ev->kind == BUS_EVENT_MESSAGE)
        heard_message(b, ev->msg);
    else
        heard_notice(b, ev);
    buf_append_char(b, '\n');
}

static inline struct buf *begin_answer(struct bus_op *op, const char *what)
{
    struct buf *b = op->ctx;
    buf_append_str(b, what);
    if (op->err)
        buf_printf(b, " %s", err_str(op->err));
    return b;
}

static inline void end_answer(struct buf *b, struct bus_op *op)
{
    buf_append_char(b, '\n');
    bus_op_free(op);
}

static inline void on_published(struct bus_op *op)
{
    struct bus_publish *p = container_of(op, struct bus_publish, op);
    struct buf *b = begin_answer(op, p->repeated ? "repeated" : "published");
    if (!op->err)
        line_position(b, p->pos);
    end_answer(b, op);
}

static inline void answer_catch_up(struct buf *b, struct bus_op *op, const struct catch_up *cu)
{
    if (!op->err) {
        buf_printf(b, " %" PRIu64 "..%" PRIu64, cu->start.offset, cu->head.offset);
        if (cu->gap)
            buf_printf(b, " gap %s", gap_reason_str(cu->gap));
        buf_append_str(b, " [");
        for (uint32_t i = 0; i < cu->count; i++)
            buf_printf(b, i ? " %" PRIu64 : "%" PRIu64, cu->msgs[i]->pos.offset);
        buf_append_str(b, cu->complete ? "]" : "] more");
        fx->last = cu->head;
    }
    end_answer(b, op);
}

static inline void on_joined(struct bus_op *op)
{
    struct bus_join *j = container_of(op, struct bus_join, op);
    answer_catch_up(begin_answer(op, "joined"), op, &j->cu);
}

static inline void on_page(struct bus_op *op)
{
    struct bus_page *p = container_of(op, struct bus_page, op);
    answer_catch_up(begin_answer(op, "page"), op, &p->cu);
}

static inline void on_history(struct bus_op *op)
{
    struct bus_history *h = container_of(op, struct bus_history, op);
    answer_catch_up(begin_answer(op, "history"), op, &h->cu);
}

static inline void on_left(struct bus_op *op)
{
    end_answer(begin_answer(op, "left"), op);
}

static inline void on_cleared(struct bus_op *op)
{
    struct bus_clear *c = container_of(op, struct bus_clear, op);
    struct buf *b = begin_answer(op, "cleared");
    buf_printf(b, " %u", c->removed);
    end_answer(b, op);
}

static inline void line_info(struct buf *b, const struct bus_channel_info *i)
{
    buf_printf(b, " %s(%u,%u,%" PRIu64 ")", i->name, i->subscribers, i->messages, i->head.offset);
}

static inline void on_channel(struct bus_op *op)
{
    struct bus_channel_get *c = container_of(op, struct bus_channel_get, op);
    struct buf *b = begin_answer(op, "channel");
    if (!op->err)
        line_info(b, &c->info);
    end_answer(b, op);
}

static inline void on_channels(struct bus_op *op)
{
    struct bus_channels *c = container_of(op, struct bus_channels, op);
    struct buf *b = begin_answer(op, "channels");
    for (uint32_t i = 0; i < c->count; i++)
        line_info(b, &c->info[i]);
    if (c->more)
        buf_append_str(b, " more");
    end_answer(b, op);
}

static inline void on_presence(struct bus_op *op)
{
    struct bus_presence *p = container_of(op, struct bus_presence, op);
    struct buf *b = begin_answer(op, "presence");
    if (!op->err)
        buf_printf(b, " %u of %u", p->count, p->total);
    for (uint32_t i = 0; i < p->count; i++)
        buf_printf(b, " c%" PRIu64 "/%s/%s", p->member[i].client,
                   p->member[i].user ? p->member[i].user : "-", p->member[i].transport);
    end_answer(b, op);
}

/* ---- asking ---- */

static inline struct msg *new_msg(const char *channel, const char *payload)
{
    struct msg_draft d = {
        .channel = slice_str(channel), .payload = slice_str(payload), .kind = MSG_TEXT};
    struct msg *m;
    assert_int_equal(msg_new(&d, &m), ERR_OK);
    return m;
}

static inline void publish_key(int port, const char *channel, const char *payload, const char *key)
{
    struct bus_publish *p = bus_publish_new(on_published, &fx->heard[port]);
    p->msg = new_msg(channel, payload);
    p->key = key ? slice_dup(slice_str(key)) : NULL;
    bus_submit(fx->port[port], &p->op);
}

static inline void publish(int port, const char *channel, const char *payload)
{
    publish_key(port, channel, payload, NULL);
}

static inline struct catch_up from_now(void)
{
    return (struct catch_up){.from = FROM_NOW, .max_messages = 100, .max_bytes = 1 << 20};
}

static inline struct catch_up from_last(uint32_t n)
{
    return (struct catch_up){
        .from = FROM_LAST_N, .last_n = n, .max_messages = 100, .max_bytes = 1 << 20};
}

static inline struct catch_up from_offset(uint32_t epoch, uint64_t offset)
{
    return (struct catch_up){.from = FROM_POSITION,
                             .since = {.epoch = epoch, .offset = offset},
                             .max_messages = 100,
                             .max_bytes = 1 << 20};
}

static inline void join_as(int port, const char *channel, uint64_t client, const char *user,
                           struct catch_up cu)
{
    struct bus_join *j = bus_join_new(on_joined, &fx->heard[port]);
    j->channel = slice_dup(slice_str(channel));
    j->member.client = client;
    j->member.user = user ? slice_dup(slice_str(user)) : NULL;
    j->member.transport = "ws";
    j->cu = cu;
    bus_submit(fx->port[port], &j->op);
}

static inline void join(int port, const char *channel, struct catch_up cu)
{
    join_as(port, channel, (uint64_t)port + 1, NULL, cu);
}

static inline void leave_as(int port, const char *channel, uint64_t client)
{
    struct bus_leave *l = bus_leave_new(on_left, &fx->heard[port]);
    l->channel = slice_dup(slice_str(channel));
    l->client = client;
    bus_submit(fx->port[port], &l->op);
}

static inline void leave(int port, const char *channel)
{
    leave_as(port, channel, (uint64_t)port + 1);
}

static inline void ask_page(int port, const char *channel, struct catch_up cu)
{
    struct bus_page *p = bus_page_new(on_page, &fx->heard[port]);
    p->channel = slice_dup(slice_str(channel));
    p->cu = cu;
    bus_submit(fx->port[port], &p->op);
}

static inline void ask_history(int port, const char *channel, bool reverse, struct catch_up cu)
{
    struct bus_history *h = bus_history_new(on_history, &fx->heard[port]);
    h->channel = slice_dup(slice_str(channel));
    h->reverse = reverse;
    h->cu = cu;
    bus_submit(fx->port[port], &h->op);
}

static inline void clear(int port, const char *channel)
{
    struct bus_clear *c = bus_clear_new(on_cleared, &fx->heard[port]);
    c->channel = slice_dup(slice_str(channel));
    bus_submit(fx->port[port], &c->op);
}

static inline void ask_channel(int port, const char *channel)
{
    struct bus_channel_get *c = bus_channel_get_new(on_channel, &fx->heard[port]);
    c->channel = slice_dup(slice_str(channel));
    bus_submit(fx->port[port], &c->op);
}

static inline void ask_channels(int port, const char *prefix, const char *after, uint32_t limit)
{
    struct bus_channels *c = bus_channels_new(on_channels, &fx->heard[port]);
    c->prefix = prefix ? slice_dup(slice_str(prefix)) : NULL;
    c->after = after ? slice_dup(slice_str(after)) : NULL;
    c->limit = limit;
    bus_submit(fx->port[port], &c->op);
}

static inline void ask_presence(int port, const char *channel, uint32_t limit)
{
    struct bus_presence *p = bus_presence_new(on_presence, &fx->heard[port]);
    p->channel = slice_dup(slice_str(channel));
    p->limit = limit;
    bus_submit(fx->port[port], &p->op);
}

/* ---- running ---- */

static inline void drain(struct mailbox *mb)
{
    while (mailbox_drain(mb, 100))
        ;
}

static inline void run(void)
{
    drain(bus_inbox(fx->bus));
    for (int i = 0; i < PORTS; i++)
        drain(bus_port_mailbox(fx->port[i]));
}

/* What the port heard since the last time. */
static inline void expect(int port, const char *want)
{
    struct buf *b = &fx->heard[port];
    run();
    assert_false(b->failed);
    buf_append_char(b, '\0');
    assert_string_equal(b->data, want);
    buf_clear(b);
}

static inline void advance(uint64_t ms)
{
    struct timer_wheel *w = bus_timers(fx->bus);
    run();
    timer_wheel_advance(w, w->now_ms + ms);
    run();
}

static inline void open_ports(struct fixture *f)
{
    for (int i = 0; i < PORTS; i++) {
        buf_init(&f->heard[i], 1 << 20);
        assert_int_equal(bus_port_new(f->bus, on_deliver, &f->heard[i], &f->port[i]), ERR_OK);
    }
}

static inline int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    ns_table_init(&f->ns);
    struct ns_options *o = ns_table_entry(&f->ns, SLICE("none"));
    o->history_messages = 0;
    o = ns_table_entry(&f->ns, SLICE("few"));
    o->history_messages = 3;
    o->history_ms = 800;
    o->idempotency_ms = 400;
    o->idempotency_keys = 2;
    o = ns_table_entry(&f->ns, SLICE("quiet"));
    o->presence = true;
    clock_fake_wall_ms(WALL);
    assert_int_equal(bus_new_memory(&f->ns, &f->bus), ERR_OK);
    open_ports(f);
    *state = fx = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < PORTS; i++) {
        if (f->port[i])
            bus_port_free(f->port[i]);
        buf_release(&f->heard[i]);
    }
    bus_free(f->bus);
    clock_fake_wall_ms(0);
    free(f);
    fx = NULL;
    return 0;
}

#endif
