/* The bus, the hubs and their sessions in one process, without a socket, a loop or a clock.
 *
 * A seeded scheduler interleaves publishing, joining, leaving, cutting at any byte, resuming on
 * another hub and in another dialect, stalling until the outbox overflows, trimming, restarts, and
 * the draining of every mailbox with small budgets in any order. What each client saw of each
 * channel is judged by history.h.
 *
 *   CRIER_SEED=N     only that one       CRIER_ROUNDS=N   so many, from seed 1
 *
 * That the judge can fail is shown below. That the simulation makes it fail was tried by breaking
 * the product by hand; each of these turned it red, most within the first twenty seeds: a page said
 * to be complete when one message is left; the last message of a page lost; the next page asked for
 * from one further, while messages wait, or while the channels of the request still join; a
 * position moved by a gap that waits in the outbox; a close while opening that keeps the positions
 * behind unsaid gaps; an unanswered channel without the position it was asked for; a slow close
 * that drops the half-sent message, or the notices; an unsubscribe that leaves messages waiting;
 * the id line of one channel sent to a stream of several, or the line of the message before; a live
 * message in a hundred not delivered; a gap not said, or said for nothing; an idempotency key
 * forgotten; a wrong place in the audience's array. Not seen here, but by
 * tests/unit/test_session.c: a position that moves with the first byte of a message, or before the
 * answer of its subscribe fits.
 */
#include "client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define ROUNDS 300 /* the same bugs are found, each round takes twenty times as long */
#else
#define ROUNDS 1000
#endif
#define STEPS 900
#define CLIENTS 6
#define SETTLE_TURNS 20000

struct sim {
    struct world w;
    struct client client[CLIENTS];
};

/* --- the judge can fail --- */

static uint32_t uid_is_offset(const void *ctx, struct position pos)
{
    (void)ctx;
    return pos.epoch == 7 ? (uint32_t)pos.offset : 0;
}

static struct position at(uint64_t offset)
{
    return (struct position){.epoch = 7, .offset = offset};
}

static struct event message(uint64_t offset)
{
    return (struct event){.kind = EV_MSG, .pos = at(offset), .uid = (uint32_t)offset};
}

static struct event start(uint64_t asked, uint64_t told)
{
    struct event e = {.kind = EV_START, .pos = at(told)};
    if (asked)
        e.asked = at(asked);
    return e;
}

static struct event gap(uint64_t since, uint64_t resumed, bool caused)
{
    return (struct event){.kind = EV_GAP,
                          .reason = GAP_EXPIRED,
                          .asked = at(since),
                          .pos = at(resumed),
                          .caused = caused};
}

static void expect_verdict(const struct event *ev, size_t n, const char *want)
{
    struct history h = {0};
    size_t where;
    for (size_t i = 0; i < n; i++)
        history_add(&h, ev[i]);
    const char *got = history_judge(&h, uid_is_offset, NULL, &where);
    assert_string_equal(got ? got : "fine", want);
    history_release(&h);
}
#define EXPECT_VERDICT(want, ...)                               \
    do {                                                        \
        const struct event ev[] = {__VA_ARGS__};                \
        expect_verdict(ev, sizeof(ev) / sizeof(ev[0]), (want)); \
    } while (0)

static const struct event end = {.kind = EV_END};

static struct event head(uint64_t offset)
{
    return (struct event){.kind = EV_HEAD, .pos = at(offset)};
}

static struct event mark(uint64_t offset)
{
    return (struct event){.kind = EV_MARK, .pos = at(offset)};
}

static void test_the_judge_accepts_what_is_right(void **state)
{
    (void)state;
    EXPECT_VERDICT("fine", start(0, 2), message(3), message(4), head(4));
    EXPECT_VERDICT("fine", start(0, 2), message(3), end, start(3, 3), message(4), head(4));
    EXPECT_VERDICT("fine", start(0, 2), end, start(2, 5), gap(2, 5, true), message(6), mark(6));
    EXPECT_VERDICT("fine", start(0, 2), gap(2, 5, true), end, start(2, 6), gap(2, 6, true));
    EXPECT_VERDICT("fine", start(0, 2), gap(2, 5, true), mark(2), mark(5), end, start(5, 5));
}

static void test_the_judge_sees_what_is_wrong(void **state)
{
    (void)state;
    struct event other = message(3);
    other.uid = 4;
    struct event foreign = message(3);
    foreign.pos.epoch = 8;
    EXPECT_VERDICT("a message is missing", start(0, 2), message(3), message(5));
    EXPECT_VERDICT("a message is missing", start(0, 2), message(4));
    EXPECT_VERDICT("a message twice, or late", start(0, 2), message(3), message(3));
    EXPECT_VERDICT("a message is missing", start(0, 2), message(4), message(3));
    EXPECT_VERDICT("a message twice, or late", start(0, 2), message(3), message(4), message(3));
    EXPECT_VERDICT("another message than the one at that position", start(0, 2), other);
    EXPECT_VERDICT("the epoch changed silently", start(0, 2), foreign);
    EXPECT_VERDICT("the last messages never came", start(0, 2), message(3), head(4));
    EXPECT_VERDICT("a message outside of a subscription", start(0, 2), end, message(3));
    EXPECT_VERDICT("a message twice, or late", start(0, 2), message(3), message(4), end,
                   start(4, 4), message(4));
}

static void test_the_judge_sees_gaps_that_lie(void **state)
{
    (void)state;
    EXPECT_VERDICT("a silent gap: messages before it was said", start(0, 2), end, start(2, 5),
                   message(6));
    EXPECT_VERDICT("a message is missing", start(0, 2), end, start(2, 2), message(6));
    EXPECT_VERDICT("a gap without cause", start(0, 2), gap(2, 5, false));
    EXPECT_VERDICT("an expired gap that goes nowhere", start(0, 2), gap(2, 2, true));
    EXPECT_VERDICT("the gap does not begin where the client is", start(0, 2), message(3),
                   gap(2, 5, true));
    EXPECT_VERDICT("the gap ends elsewhere than the subscription starts", start(0, 2), end,
                   start(2, 5), gap(2, 4, true));
    EXPECT_VERDICT("a cursor from the server that is not where the client is", start(0, 2),
                   message(3), mark(4));
    EXPECT_VERDICT("the last messages never came", start(0, 2), end, start(2, 5), head(5));
}

/* --- the scheduler --- */

static void burst(struct sim *m)
{
    struct world *w = &m->w;
    int channel = (int)chance(w, CHANNELS);
    bool one_channel = one_in(w, 2);
    for (unsigned n = one_in(w, 15) ? chance(w, 120) : 1 + chance(w, 6); n; n--)
        world_publish(w, one_channel ? channel : (int)chance(w, CHANNELS), NULL);
}

static void drain_hub(struct sim *m)
{
    struct world *w = &m->w;
    struct hub *h = w->hub[chance(w, w->n_hubs)];
    (void)mailbox_drain(bus_port_mailbox(hub_port(h)), 1 + chance(w, 12));
    if (!one_in(w, 3))
        (void)hub_turn(h);
}

static void client_turn(struct sim *m)
{
    struct client *cl = &m->client[chance(&m->w, CLIENTS)];
    client_unblock(cl);
    client_read(cl, one_in(&m->w, 3) ? chance(&m->w, 40) : chance(&m->w, 20000));
}

/* The server ends a session, often one whose channels are answered in part. */
static void end_session(struct sim *m, struct client *cl)
{
    struct world *w = &m->w;
    (void)bus_step(w, 1 + chance(w, 300));
    (void)mailbox_drain(bus_port_mailbox(hub_port(w->hub[cl->hub])), 1 + chance(w, 30));
    if (cl->conn && one_in(w, 2))
        session_close(&cl->conn->s, WS_CODE_GOING_AWAY, "shutting down");
    else if (cl->conn)
        session_close_slow(&cl->conn->s);
}

static void come_or_go(struct sim *m)
{
    struct client *cl = &m->client[chance(&m->w, CLIENTS)];
    if (!cl->open) {
        client_connect(cl);
        if (one_in(&m->w, 6))
            end_session(m, cl);
    } else if (one_in(&m->w, 4)) {
        client_cut(cl);
    } else {
        client_command(cl);
    }
}

static void restart(struct sim *m)
{
    struct world *w = &m->w;
    if (w->n_eras == ERAS_MAX)
        return;
    for (int i = 0; i < CLIENTS; i++)
        client_cut(&m->client[i]);
    world_stop(w);
    world_start(w);
    m->client[0].seen->restarts++;
}

static void rare(struct sim *m)
{
    struct world *w = &m->w;
    switch (chance(w, 16)) {
    case 0:
        if (one_in(w, 4))
            restart(m);
        break;
    case 1:
        world_clear(w, (int)chance(w, CHANNELS));
        break;
    case 2:
        world_pass_time(w, chance(w, 4000));
        break;
    case 6:
        end_session(m, &m->client[chance(w, CLIENTS)]);
        break;
    case 3:
    case 4:
    case 5:
        m->client[chance(w, CLIENTS)].laziness = one_in(w, 2) ? 1 : 1 + chance(w, 60);
        break;
    default:
        world_pass_time(w, chance(w, 100));
    }
}

static void step(struct sim *m)
{
    struct world *w = &m->w;
    w->step++;
    switch (chance(w, 10)) {
    case 0:
    case 1:
        burst(m);
        break;
    case 2:
    case 3:
        (void)bus_step(w, 1 + chance(w, 20));
        break;
    case 4:
    case 5:
    case 6:
        drain_hub(m);
        break;
    case 7:
        client_turn(m);
        break;
    case 8:
        come_or_go(m);
        break;
    default:
        rare(m);
    }
}

/* --- the end of a run --- */

static bool turn_everything(struct sim *m)
{
    struct world *w = &m->w;
    bool busy = bus_step(w, 1000);
    for (unsigned i = 0; i < w->n_hubs; i++) {
        busy |= bus_port_mailbox(hub_port(w->hub[i]))->head != NULL;
        busy |= mailbox_drain(bus_port_mailbox(hub_port(w->hub[i])), 1000);
        busy |= hub_turn(w->hub[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        struct client *cl = &m->client[i];
        cl->laziness = 1;
        busy |= !cl->open || cl->net.len || (cl->conn && cl->conn->blocked) || cl->n_pending;
        if (!cl->open)
            client_connect(cl);
        client_unblock(cl);
        client_read(cl, SIZE_MAX);
    }
    return busy;
}

static bool settle(struct sim *m)
{
    for (int i = 0; i < SETTLE_TURNS && !m->w.failed[0]; i++)
        if (!turn_everything(m) && !turn_everything(m) && !turn_everything(m))
            return true;
    return false;
}

struct judged {
    const struct world *w;
    int channel;
};

static uint32_t uid_in_ledger(const void *ctx, struct position pos)
{
    const struct judged *of = ctx;
    const struct entry *e = ledger_at(of->w, of->channel, pos);
    return e ? e->uid : 0;
}

static void judge_client(struct client *cl)
{
    for (int c = 0; c < CHANNELS; c++) {
        size_t where;
        struct listening *l = &cl->ch[c];
        struct judged of = {cl->w, c};
        if (l->on != l->wanted)
            world_fail(cl->w, "client %u wants %s but does not get it, or the reverse", cl->number,
                       channel_name[c]);
        history_add(&l->history, (struct event){.kind = EV_HEAD, .pos = ledger_head(cl->w, c)});
        const char *wrong = history_judge(&l->history, uid_in_ledger, &of, &where);
        if (wrong)
            history_print(&l->history, where);
        if (wrong)
            world_fail(cl->w, "client %u, %s, event %zu (offset %llu): %s", cl->number,
                       channel_name[c], where, (unsigned long long)l->history.ev[where].pos.offset,
                       wrong);
    }
}

static void finish(struct sim *m)
{
    struct world *w = &m->w;
    w->step = 0;
    if (!w->failed[0] && !settle(m))
        world_fail(w, "the world does not come to rest");
    for (int c = 0; c < CHANNELS; c++)
        world_publish(w, c, NULL);
    if (!w->failed[0] && !settle(m))
        world_fail(w, "the world does not come to rest after the last messages");
    for (int i = 0; i < CLIENTS && !w->failed[0]; i++)
        judge_client(&m->client[i]);
}

static bool run_seed(uint64_t seed, struct coverage *seen, char *why, size_t size)
{
    struct sim *m = calloc(1, sizeof(*m));
    BUG_ON(!m);
    world_begin(&m->w, seed);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_init(&m->client[i], &m->w, i, seen);
    for (int i = 0; i < STEPS && !m->w.failed[0]; i++)
        step(m);
    unsigned failed_at = m->w.step;
    finish(m);
    bool fine = !m->w.failed[0];
    snprintf(why, size, "CRIER_SEED=%llu step %u: %s", (unsigned long long)seed,
             m->w.step ? failed_at : 0, m->w.failed);
    for (int i = 0; i < CLIENTS; i++)
        client_cut(&m->client[i]);
    world_end(&m->w);
    for (int i = 0; i < CLIENTS; i++)
        client_release(&m->client[i]);
    free(m);
    return fine;
}

/* A simulation in which something never happens proves nothing about it. */
static void expect_all_happened(const struct coverage *seen)
{
    print_message("%u messages, %u resumed, %u slow, gaps %u expired (%u late) %u epoch "
                  "%u no_position, %u short writes, %u cut in a frame, %u repeats, %u restarts\n",
                  seen->msgs, seen->resumed, seen->slow, seen->gap[GAP_EXPIRED], seen->mid_gaps,
                  seen->gap[GAP_EPOCH], seen->gap[GAP_NO_POSITION], seen->short_writes,
                  seen->cut_mid_frame, seen->repeats, seen->restarts);
    assert_true(seen->msgs && seen->resumed && seen->moved && seen->retalked && seen->slow);
    assert_true(seen->gap[GAP_EXPIRED] && seen->gap[GAP_EPOCH] && seen->gap[GAP_NO_POSITION]);
    assert_true(seen->mid_gaps && seen->short_writes && seen->cut_mid_frame && seen->own_ids);
    assert_true(seen->coded[CODING_GZIP] && seen->coded[CODING_ZSTD] && seen->whole);
    assert_true(seen->repeats && seen->restarts && seen->commands);
}

static void test_every_client_hears_every_message_once_in_order_or_of_the_gap(void **state)
{
    (void)state;
    const char *one = getenv("CRIER_SEED"), *rounds = getenv("CRIER_ROUNDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t n = one ? 1 : rounds ? strtoull(rounds, NULL, 10) : ROUNDS;
    struct coverage seen = {0};
    char why[512];
    for (uint64_t seed = first; seed < first + n; seed++)
        if (!run_seed(seed, &seen, why, sizeof(why)))
            fail_msg("%s", why);
    if (n >= ROUNDS)
        expect_all_happened(&seen);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_judge_accepts_what_is_right),
        cmocka_unit_test(test_the_judge_sees_what_is_wrong),
        cmocka_unit_test(test_the_judge_sees_gaps_that_lie),
        cmocka_unit_test(test_every_client_hears_every_message_once_in_order_or_of_the_gap),
    };
    json_init();
    dialects_init();
    return cmocka_run_group_tests_name("sim_delivery", tests, NULL, NULL);
}
