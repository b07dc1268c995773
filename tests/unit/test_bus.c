/* The bus as its ports see it: most tests compare the lines that a port wrote down. */
#include "bus_fixture.h"
#include "crier/map.h"

#include <pthread.h>
#include <stdio.h>

/* ---- interest and order ---- */

static void test_a_listening_publisher_hears_the_message_before_the_answer(void **state)
{
    (void)state;
    join(0, "a", from_now());
    publish(0, "a", "x");
    publish(0, "a", "y");
    expect(0, "joined 0..0 []\nmessage a 1 x\npublished 1\nmessage a 2 y\npublished 2\n");
}

static void test_only_interested_ports_hear(void **state)
{
    (void)state;
    join(0, "a", from_now());
    join(1, "b", from_now());
    publish(2, "a", "x");
    publish(2, "b", "y");
    expect(0, "joined 0..0 []\nmessage a 1 x\n");
    expect(1, "joined 0..0 []\nmessage b 1 y\n");
    expect(2, "published 1\npublished 1\n");
}

static void test_a_port_hears_until_its_last_listener_left(void **state)
{
    (void)state;
    join_as(0, "a", 10, NULL, from_now());
    join_as(0, "a", 11, NULL, from_now());
    leave_as(0, "a", 10);
    publish(1, "a", "x");
    run();
    leave_as(0, "a", 11);
    publish(1, "a", "y");
    expect(0, "joined 0..0 []\njoined 0..0 []\nleft\nmessage a 1 x\nleft\n");
    join(0, "a", from_offset(fx->last.epoch, 1));
    expect(0, "joined 1..2 [2]\n");
}

static void test_an_answer_stands_at_its_place_among_live_messages(void **state)
{
    (void)state;
    join_as(0, "a", 10, NULL, from_now());
    publish(1, "a", "1");
    run();
    join_as(0, "a", 11, NULL, from_last(5));
    publish(1, "a", "2");
    leave_as(0, "a", 10);
    publish(1, "a", "3");
    expect(0, "joined 0..0 []\nmessage a 1 1\njoined 0..1 [1]\nmessage a 2 2\nleft\n"
              "message a 3 3\n");
}

static void test_pages_follow_an_incomplete_join(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        publish(1, "a", "x");
    run();
    struct catch_up cu = from_last(100);
    cu.max_messages = 2;
    join(0, "a", cu);
    run();
    publish(1, "a", "live");
    cu = from_offset(fx->last.epoch, 2);
    cu.max_messages = 3;
    ask_page(0, "a", cu);
    cu.since.offset = 5;
    ask_page(0, "a", cu);
    expect(0, "joined 0..5 [1 2] more\nmessage a 6 live\npage 2..6 [3 4 5] more\n"
              "page 5..6 [6]\n");
}

static void test_history_reads_without_listening(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        publish(1, "a", "x");
    ask_history(0, "a", false, from_last(2));
    ask_history(0, "a", true, from_now());
    ask_history(0, "none:x", false, from_last(2));
    publish(1, "a", "y");
    expect(0, "history 2..4 [3 4]\nhistory 5..4 [4 3 2 1]\nhistory 0..0 []\n");
}

/* ---- gaps ---- */

static void test_gaps_are_said(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        publish(1, "few:a", "x");
    run();
    uint32_t epoch = fx->last.epoch;
    join(0, "few:a", from_offset(epoch, 2));
    join(0, "few:a", from_offset(epoch, 1));
    join(0, "few:a", from_offset(epoch, 6));
    join(0, "few:a", from_offset(epoch ^ 1, 5));
    expect(0, "joined 2..5 [3 4 5]\n"
              "joined 2..5 gap expired [3 4 5]\n"
              "joined 5..5 gap ahead []\n"
              "joined 2..5 gap epoch [3 4 5]\n");
}

static void test_messages_go_with_age(void **state)
{
    (void)state;
    publish(1, "few:a", "x");
    advance(400);
    publish(1, "few:a", "y");
    advance(392);
    ask_history(0, "few:a", false, from_last(9));
    advance(8);
    ask_history(0, "few:a", false, from_last(9));
    ask_history(0, "few:a", false, from_offset(fx->last.epoch, 0));
    advance(400);
    ask_history(0, "few:a", false, from_last(9));
    ask_channel(0, "few:a");
    expect(0, "history 0..2 [1 2]\nhistory 1..2 [2]\nhistory 1..2 gap expired [2]\n"
              "history 2..2 []\nchannel not_found\n");
}

static void test_a_quiet_channel_comes_back_without_a_gap(void **state)
{
    (void)state;
    join(0, "few:a", from_now());
    publish(1, "few:a", "x");
    run();
    leave(0, "few:a");
    advance(10000); /* nothing is left of the channel but its tombstone */
    join(0, "few:a", from_offset(fx->last.epoch, 1));
    publish(1, "few:a", "y");
    expect(0, "joined 0..0 []\nmessage few:a 1 x\nleft\njoined 1..1 []\nmessage few:a 2 y\n");
}

static void test_channels_without_history_go_on_counting(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        publish(0, "none:a", "x");
    ask_channel(0, "none:a");
    expect(0, "published 1\npublished 2\npublished 3\nchannel not_found\n");
    join(0, "none:a", from_offset(fx->last.epoch, 2));
    join(0, "none:a", from_offset(fx->last.epoch, 3));
    publish(1, "none:a", "y");
    expect(0, "joined 3..3 gap expired []\njoined 3..3 []\nmessage none:a 4 y\n");
}

static void publish_many(const char *prefix, unsigned n)
{
    char name[64];
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "none:%s%u", prefix, i);
        publish(1, name, "x");
        if (i % 1000 == 0)
            run();
    }
    run();
    buf_clear(&fx->heard[1]);
}

static void test_a_forgotten_channel_starts_at_the_floor(void **state)
{
    (void)state;
    join(0, "pinned", from_now());
    for (int i = 0; i < 7; i++)
        publish(2, "none:first", "x");
    publish(2, "none:second", "x");
    run();
    publish_many("more", 65534);
    publish(2, "none:new", "x"); /* 65,537th: pushes out "first", and comes from before that */
    publish(2, "none:newer", "x");
    publish(2, "none:first", "x");
    publish(2, "pinned", "x");
    expect(0, "joined 0..0 []\nmessage pinned 1 x\n");
    expect(2, "published 1\npublished 2\npublished 3\npublished 4\npublished 5\npublished 6\n"
              "published 7\npublished 1\n"
              "published 1\npublished 8\npublished 8\npublished 1\n");
    leave(0, "pinned");
    publish(2, "pinned", "y"); /* its history keeps it */
    expect(2, "published 2\n");
}

static void test_a_silent_channel_that_left_below_the_floor_returns_there(void **state)
{
    (void)state;
    join(0, "none:silent", from_now());
    for (int i = 0; i < 7; i++)
        publish(2, "none:first", "x");
    run();
    publish_many("more", 65536); /* floor 7 */
    leave(0, "none:silent");
    join(0, "none:silent", from_offset(fx->last.epoch, 0));
    expect(0, "joined 0..0 []\nleft\njoined 0..0 []\n");
}

static void test_times_never_run_backwards(void **state)
{
    (void)state;
    static const uint64_t clock[] = {WALL + 5, WALL + 3, WALL + 9};
    static const uint64_t want[] = {WALL + 5, WALL + 5, WALL + 9};
    struct msg *m[3];
    for (int i = 0; i < 3; i++) {
        struct bus_publish *p = bus_publish_new(on_published, &fx->heard[0]);
        m[i] = p->msg = new_msg("a", "x");
        msg_ref(m[i]);
        bus_submit(fx->port[0], &p->op);
        clock_fake_wall_ms(clock[i]);
        run();
    }
    for (int i = 0; i < 3; i++) {
        assert_true(m[i]->time_ms == want[i]);
        msg_unref(m[i]);
    }
}

/* ---- idempotency ---- */

static void test_a_repeated_key_publishes_once(void **state)
{
    (void)state;
    join(0, "few:a", from_now());
    publish_key(1, "few:a", "x", "k");
    publish_key(1, "few:a", "x", "k");
    publish_key(2, "few:a", "other", "k");
    publish_key(1, "few:b", "x", "k");
    publish(1, "few:a", "x");
    expect(0, "joined 0..0 []\nmessage few:a 1 x\nmessage few:a 2 x\n");
    expect(1, "published 1\nrepeated 1\npublished 1\npublished 2\n");
    expect(2, "published conflict\n");
}

static void test_keys_are_forgotten_by_age_and_count(void **state)
{
    (void)state;
    publish_key(1, "few:a", "x", "k");
    advance(392);
    publish_key(1, "few:a", "x", "k");
    advance(8);
    publish_key(1, "few:a", "other", "k");
    expect(1, "published 1\nrepeated 1\npublished 2\n");
    publish_key(1, "few:a", "x", "k2");
    publish_key(1, "few:a", "x", "k3");
    publish_key(1, "few:a", "other", "k");
    expect(1, "published 3\npublished 4\npublished 5\n");
}

/* Found by the model: the timer stood for the older message, and the key waited for it. */
static void test_a_key_goes_before_an_older_message(void **state)
{
    (void)state;
    publish(1, "few:a", "x");
    advance(96);
    publish_key(1, "few:a", "x", "k");
    advance(400);
    publish_key(1, "few:a", "other", "k");
    ask_history(1, "few:a", false, from_last(9));
    expect(1, "published 1\npublished 2\npublished 3\nhistory 0..3 [1 2 3]\n");
}

static void test_a_key_outlives_its_message(void **state)
{
    (void)state;
    publish_key(1, "none:a", "x", "k");
    publish_key(1, "none:a", "x", "k");
    clear(1, "none:a");
    publish_key(1, "none:a", "x", "k");
    expect(1, "published 1\nrepeated 1\ncleared 0\nrepeated 1\n");
}

/* ---- presence ---- */

static void test_joins_and_leaves_are_told(void **state)
{
    (void)state;
    join_as(0, "chat:r", 10, "ann", from_now());
    join_as(1, "chat:r", 20, NULL, from_now());
    run();
    leave_as(0, "chat:r", 10);
    expect(0, "joined 0..0 []\njoin chat:r c10 ann ws now 1\njoin chat:r c20 - ws now 2\nleft\n");
    expect(1, "joined 0..0 []\njoin chat:r c20 - ws now 2\nleave chat:r c10 ann ws now 1\n");
}

static void test_a_port_that_still_listens_is_told_of_its_own_leaves(void **state)
{
    (void)state;
    join_as(0, "chat:r", 10, NULL, from_now());
    join_as(0, "chat:r", 11, NULL, from_now());
    leave_as(0, "chat:r", 10);
    expect(0, "joined 0..0 []\njoin chat:r c10 - ws now 1\njoined 0..0 []\n"
              "join chat:r c11 - ws now 2\nleave chat:r c10 - ws now 1\nleft\n");
}

static void test_presence_lists_the_oldest_first(void **state)
{
    (void)state;
    ask_presence(2, "chat:r", 10);
    for (uint64_t c = 10; c < 14; c++)
        join_as(0, "chat:r", c, c % 2 ? "bob" : NULL, from_now());
    ask_presence(2, "chat:r", 10);
    ask_presence(2, "chat:r", 2);
    leave_as(0, "chat:r", 10);
    ask_presence(2, "chat:r", 2);
    ask_presence(2, "chat:r", 0);
    ask_presence(2, "news", 10);
    expect(2, "presence 0 of 0\n"
              "presence 4 of 4 c10/-/ws c11/bob/ws c12/-/ws c13/bob/ws\n"
              "presence 2 of 4 c10/-/ws c11/bob/ws\n"
              "presence 2 of 3 c11/bob/ws c12/-/ws\n"
              "presence 0 of 3\n"
              "presence not_found\n");
}

static void test_presence_without_notices(void **state)
{
    (void)state;
    join_as(0, "quiet:r", 10, NULL, from_now());
    ask_presence(0, "quiet:r", 9);
    leave_as(0, "quiet:r", 10);
    ask_presence(0, "quiet:r", 9);
    expect(0, "joined 0..0 []\npresence 1 of 1 c10/-/ws\nleft\npresence 0 of 0\n");
}

static void test_a_client_that_joins_twice_is_one_member(void **state)
{
    (void)state;
    join_as(1, "chat:r", 10, NULL, from_now());
    join_as(1, "chat:r", 10, NULL, from_now());
    leave_as(1, "chat:r", 10);
    ask_presence(0, "chat:r", 9);
    leave_as(1, "chat:r", 10);
    ask_presence(0, "chat:r", 9);
    expect(0, "presence 1 of 1 c10/-/ws\npresence 0 of 0\n");
    expect(1, "joined 0..0 []\njoin chat:r c10 - ws now 1\njoined 0..0 []\nleft\nleft\n");
}

/* ---- questions about channels ---- */

static void test_channel_info_and_clear(void **state)
{
    (void)state;
    ask_channel(0, "a");
    publish(0, "a", "x");
    publish(0, "a", "x");
    ask_channel(0, "a");
    clear(0, "a");
    ask_channel(0, "a");
    join(0, "a", from_now());
    ask_channel(0, "a");
    publish(0, "a", "y");
    expect(0, "channel not_found\npublished 1\npublished 2\nchannel a(0,2,2)\ncleared 2\n"
              "channel not_found\njoined 2..2 []\nchannel a(1,0,2)\nmessage a 3 y\n"
              "published 3\n");
}

static void test_channels_are_listed_in_order_and_pages(void **state)
{
    (void)state;
    static const char *const names[] = {"d", "b:2", "b:10", "a", "b:1", "c", "b"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        join(0, names[i], from_now());
    join(1, "b", from_now());
    publish(2, "b", "x");
    publish(2, "empty", "x"); /* not occupied */
    run();
    buf_clear(&fx->heard[2]);
    ask_channels(2, NULL, NULL, 10);
    ask_channels(2, NULL, NULL, 3);
    ask_channels(2, NULL, "b:1", 2);
    ask_channels(2, NULL, "c", 1);
    ask_channels(2, "b:", NULL, 3);
    ask_channels(2, "b:", "b:10", 3);
    ask_channels(2, "x", NULL, 3);
    expect(2, "channels a(1,0,0) b(2,1,1) b:1(1,0,0) b:10(1,0,0) b:2(1,0,0) c(1,0,0) d(1,0,0)\n"
              "channels a(1,0,0) b(2,1,1) b:1(1,0,0) more\n"
              "channels b:10(1,0,0) b:2(1,0,0) more\n"
              "channels d(1,0,0)\n"
              "channels b:1(1,0,0) b:10(1,0,0) b:2(1,0,0)\n"
              "channels b:2(1,0,0)\n"
              "channels\n");
}

/* ---- ports ---- */

static void test_freeing_a_port_drops_what_is_queued(void **state)
{
    (void)state;
    join(0, "chat:a", from_now());
    run();
    publish(1, "chat:a", "x");
    drain(bus_inbox(fx->bus)); /* message and answer wait in the ports */
    publish(0, "chat:a", "y"); /* waits in the bus */
    bus_port_free(fx->port[0]);
    fx->port[0] = NULL;
    drain(bus_port_mailbox(fx->port[1]));
    publish(1, "chat:a", "z"); /* a port that went without leaving is passed over */
    drain(bus_inbox(fx->bus));
    drain(bus_port_mailbox(fx->port[1]));
    buf_append_char(&fx->heard[1], '\0');
    assert_string_equal(fx->heard[1].data, "published 1\npublished 3\n");
}

static void test_at_most_64_ports(void **state)
{
    (void)state;
    struct bus_port *port[64] = {NULL};
    for (int i = PORTS; i < 64; i++)
        assert_int_equal(bus_port_new(fx->bus, on_deliver, &fx->heard[0], &port[i]), ERR_OK);
    assert_int_equal(bus_port_new(fx->bus, on_deliver, NULL, &port[0]), ERR_LIMIT);
    for (int i = PORTS; i < 64; i++)
        bus_port_free(port[i]);
}

static void test_gap_reasons_have_names(void **state)
{
    (void)state;
    assert_string_equal(gap_reason_str(GAP_NONE), "none");
    assert_string_equal(gap_reason_str(GAP_EXPIRED), "expired");
    assert_string_equal(gap_reason_str(GAP_EPOCH), "epoch");
    assert_string_equal(gap_reason_str(GAP_AHEAD), "ahead");
    assert_string_equal(gap_reason_str(GAP_NO_POSITION), "no_position");
}

/* ---- a backend that takes its time ---- */

struct slow {
    struct backend be;
    struct bus_op *held[8];
    size_t n;
    struct buf told; /* of interest */
};

static struct slow *slow;

static void slow_free(struct backend *be)
{
    (void)be;
    for (size_t i = 0; i < slow->n; i++)
        bus_op_free(slow->held[i]);
    buf_release(&slow->told);
    free(slow);
    slow = NULL;
}

static enum err slow_attach(struct backend *be, struct loop *l)
{
    (void)be;
    (void)l;
    return ERR_OK;
}

static void slow_interest(struct backend *be, struct slice channel, uint64_t hash, bool on)
{
    (void)be;
    assert_true(hash == hash_bytes(channel));
    buf_append_char(&slow->told, on ? '+' : '-');
    buf_append(&slow->told, channel);
}

static void slow_publish(struct backend *be, struct bus_publish *op)
{
    (void)be;
    slow->held[slow->n++] = &op->op;
}

static void slow_catch_up(struct backend *be, struct bus_op *op, struct slice channel,
                          struct catch_up *cu, bool reverse)
{
    (void)be;
    (void)channel;
    (void)cu;
    (void)reverse;
    slow->held[slow->n++] = op;
}

/* Answers the oldest held op. */
static void slow_answer(enum err e)
{
    struct bus_op *op = slow->held[0];
    memmove(slow->held, slow->held + 1, --slow->n * sizeof slow->held[0]);
    op->err = e;
    bus_answer(fx->bus, op);
}

static int set_up_slow(void **state)
{
    static const struct backend_ops ops = {.free = slow_free,
                                           .attach = slow_attach,
                                           .interest = slow_interest,
                                           .publish = slow_publish,
                                           .catch_up = slow_catch_up};
    struct fixture *f = calloc(1, sizeof *f);
    slow = calloc(1, sizeof *slow);
    assert_true(f && slow);
    ns_table_init(&f->ns);
    slow->be.ops = &ops;
    buf_init(&slow->told, 1000);
    assert_int_equal(bus_new(&f->ns, &slow->be, &f->bus), ERR_OK);
    open_ports(f);
    *state = fx = f;
    return 0;
}

static void expect_told(const char *want)
{
    run();
    assert_true(slice_eq(buf_slice(&slow->told), slice_str(want)));
    buf_clear(&slow->told);
}

static void test_the_backend_hears_of_the_first_and_last_listener(void **state)
{
    (void)state;
    join(0, "a", from_now());
    join(1, "a", from_now());
    join(1, "b", from_now());
    expect_told("+a+b");
    leave(0, "a");
    expect_told("");
    leave(1, "a");
    expect_told("-a");
    join(1, "a", from_now());
    expect_told("+a");
}

static void test_a_member_is_seen_when_its_join_is_answered(void **state)
{
    (void)state;
    join_as(0, "chat:r", 10, NULL, from_now());
    ask_presence(1, "chat:r", 9);
    expect(1, "presence 0 of 0\n");
    slow_answer(ERR_OK);
    ask_presence(1, "chat:r", 9);
    expect(0, "joined 0..0 [] more\njoin chat:r c10 - ws now 1\n");
    expect(1, "presence 1 of 1 c10/-/ws\n");
}

static void test_a_failed_join_brings_no_member_and_is_left(void **state)
{
    (void)state;
    join_as(0, "chat:r", 10, NULL, from_now());
    run();
    slow_answer(ERR_UNAVAILABLE);
    ask_presence(0, "chat:r", 9);
    leave_as(0, "chat:r", 10);
    expect_told("+chat:r-chat:r");
    expect(0, "joined unavailable\npresence 0 of 0\nleft\n");
}

static void test_a_leave_overtakes_its_join(void **state)
{
    (void)state;
    join_as(0, "chat:r", 10, NULL, from_now());
    leave_as(0, "chat:r", 10);
    join_as(0, "chat:r", 10, NULL, from_now());
    run();
    slow_answer(ERR_OK); /* of the join that has been left */
    ask_presence(0, "chat:r", 9);
    expect(0, "left\njoined 0..0 [] more\npresence 0 of 0\n");
    slow_answer(ERR_OK);
    expect(0, "joined 0..0 [] more\njoin chat:r c10 - ws now 1\n");
}

static void test_unanswered_ops_end_with_the_backend(void **state)
{
    (void)state;
    join(0, "a", from_now());
    publish(1, "a", "x");
    run();
    assert_int_equal(slow->n, 2);
}

/* ---- with loops and threads ---- */

struct worker {
    struct loop *loop;
    struct bus_port *port;
    unsigned published, answered, heard;
    unsigned expect; /* messages to hear */
    bool left;
    uint64_t last;
    pthread_t thread;
};

enum { WORKERS = 3, EACH = 500 };

static void worker_check_end(struct worker *w);

static void worker_deliver(void *ctx, const struct bus_event *ev)
{
    struct worker *w = ctx;
    assert_int_equal(ev->kind, BUS_EVENT_MESSAGE);
    assert_true(ev->msg->pos.offset == w->last + 1);
    assert_non_null(msg_encoded(ev->msg, FORM_ENVELOPE));
    w->last = ev->msg->pos.offset;
    w->heard++;
    worker_check_end(w);
}

static void worker_left(struct bus_op *op)
{
    struct worker *w = op->ctx;
    w->left = true;
    bus_op_free(op);
    loop_stop(w->loop);
}

static void worker_publish(struct worker *w);

static void worker_published(struct bus_op *op)
{
    struct worker *w = op->ctx;
    struct bus_publish *p = container_of(op, struct bus_publish, op);
    assert_int_equal(op->err, ERR_OK);
    assert_true(p->pos.offset <= w->last); /* heard before it was answered */
    bus_op_free(op);
    w->answered++;
    if (w->published < EACH)
        worker_publish(w);
    worker_check_end(w);
}

static void worker_publish(struct worker *w)
{
    struct bus_publish *p = bus_publish_new(worker_published, w);
    p->msg = new_msg("a", "payload");
    w->published++;
    bus_submit(w->port, &p->op);
}

static void worker_joined(struct bus_op *op)
{
    struct worker *w = op->ctx;
    struct bus_join *j = container_of(op, struct bus_join, op);
    assert_true(j->cu.complete && j->cu.gap == GAP_NONE);
    w->last = j->cu.head.offset;
    w->heard = (unsigned)j->cu.head.offset; /* of those before, there is nothing to hear */
    bus_op_free(op);
    for (int i = 0; i < 8; i++)
        worker_publish(w);
}

static void worker_check_end(struct worker *w)
{
    if (w->heard < w->expect || w->answered < EACH)
        return;
    struct bus_leave *l = bus_leave_new(worker_left, w);
    l->channel = slice_dup(SLICE("a"));
    l->client = 1;
    w->expect = UINT32_MAX;
    bus_submit(w->port, &l->op);
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    struct bus_join *j = bus_join_new(worker_joined, w);
    j->channel = slice_dup(SLICE("a"));
    j->member.client = 1;
    j->member.transport = "ws";
    j->cu = from_now();
    bus_submit(w->port, &j->op);
    loop_run(w->loop);
    return NULL;
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void test_threads_hear_one_order(void **state)
{
    (void)state;
    struct ns_table ns;
    struct bus *bus;
    struct loop *bus_loop;
    struct worker w[WORKERS] = {0};
    pthread_t bus_thread;
    ns_table_init(&ns);
    assert_int_equal(loop_new(&bus_loop), ERR_OK);
    assert_int_equal(bus_new_memory(&ns, &bus), ERR_OK);
    assert_int_equal(bus_attach(bus, bus_loop), ERR_OK);
    for (int i = 0; i < WORKERS; i++) {
        w[i].expect = WORKERS * EACH;
        assert_int_equal(loop_new(&w[i].loop), ERR_OK);
        assert_int_equal(bus_port_new(bus, worker_deliver, &w[i], &w[i].port), ERR_OK);
        assert_int_equal(loop_attach(w[i].loop, bus_port_mailbox(w[i].port), 64), ERR_OK);
    }
    assert_int_equal(pthread_create(&bus_thread, NULL, run_loop, bus_loop), 0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&w[i].thread, NULL, run_worker, &w[i]), 0);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(w[i].thread, NULL);
    loop_stop(bus_loop);
    pthread_join(bus_thread, NULL);
    for (int i = 0; i < WORKERS; i++) {
        assert_true(w[i].left);
        assert_int_equal(w[i].last, WORKERS * EACH);
        loop_detach(w[i].loop, bus_port_mailbox(w[i].port));
        bus_port_free(w[i].port);
        loop_free(w[i].loop);
    }
    bus_detach(bus);
    loop_free(bus_loop); /* checks that no timer of ours is left in it */
    bus_free(bus);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define SLOW(f) cmocka_unit_test_setup_teardown(f, set_up_slow, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_listening_publisher_hears_the_message_before_the_answer),
        TEST(test_only_interested_ports_hear),
        TEST(test_a_port_hears_until_its_last_listener_left),
        TEST(test_an_answer_stands_at_its_place_among_live_messages),
        TEST(test_pages_follow_an_incomplete_join),
        TEST(test_history_reads_without_listening),
        TEST(test_gaps_are_said),
        TEST(test_messages_go_with_age),
        TEST(test_a_quiet_channel_comes_back_without_a_gap),
        TEST(test_channels_without_history_go_on_counting),
        TEST(test_a_forgotten_channel_starts_at_the_floor),
        TEST(test_a_silent_channel_that_left_below_the_floor_returns_there),
        TEST(test_times_never_run_backwards),
        TEST(test_a_repeated_key_publishes_once),
        TEST(test_keys_are_forgotten_by_age_and_count),
        TEST(test_a_key_goes_before_an_older_message),
        TEST(test_a_key_outlives_its_message),
        TEST(test_joins_and_leaves_are_told),
        TEST(test_a_port_that_still_listens_is_told_of_its_own_leaves),
        TEST(test_presence_lists_the_oldest_first),
        TEST(test_presence_without_notices),
        TEST(test_a_client_that_joins_twice_is_one_member),
        TEST(test_channel_info_and_clear),
        TEST(test_channels_are_listed_in_order_and_pages),
        TEST(test_freeing_a_port_drops_what_is_queued),
        TEST(test_at_most_64_ports),
        TEST(test_gap_reasons_have_names),
        SLOW(test_the_backend_hears_of_the_first_and_last_listener),
        SLOW(test_a_member_is_seen_when_its_join_is_answered),
        SLOW(test_a_failed_join_brings_no_member_and_is_left),
        SLOW(test_a_leave_overtakes_its_join),
        SLOW(test_unanswered_ops_end_with_the_backend),
        cmocka_unit_test(test_threads_hear_one_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
