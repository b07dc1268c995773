/* The Redis backend of the bus: several processes of it and the servers that they share, in one
 * process, without a socket or a clock.
 *
 * A seeded scheduler interleaves publishing, joining, resuming at another process, reading
 * histories, clearing; every step of every command and of every message that pub/sub carries; links
 * that break with what is on them; processes that end; and what befalls servers: restarts that lose
 * nothing, deaths that lose the newest messages, failovers that some notice later than others,
 * flushes, evictions, nights. What listeners are told is judged by redis_judge.h as it comes.
 *
 *   CRIER_SEED=N     only that one       CRIER_ROUNDS=N   so many, from seed 1
 *   CRIER_TRACE=1    says what happens
 *
 * That the judge can fail is shown below. What it finds of losses within the usual rounds, tried by
 * hand: an unaware epoch that is not told (seed 47), epochs after a late loss that are not marked
 * (709), a process that says its newest epoch only (10).
 */
#include "redis_fate.h"

#include "crier/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define ROUNDS 150 /* the same bugs are found, each round takes longer */
#else
#define ROUNDS 1500
#endif
#define STEPS 2500
#define SETTLE_TURNS 400
#define QUIET_TURNS 3
#define TURN_STEPS 3000
#define TICK_MS 250

/* --- the scheduler --- */

static void burst(struct world *w)
{
    unsigned slot = any_slot(w);
    int channel = any_channel(w);
    if (slot == SLOTS || (w->slot[slot].redis->commands == LINK_DOWN && !one_in(w, 8)))
        return;
    for (unsigned n = one_in(w, 15) ? chance(w, 90) : 1 + chance(w, 4); n; n--)
        publish(w, slot, channel);
}

static void come_or_go(struct world *w)
{
    unsigned i = chance(w, w->n_slots);
    for (unsigned k = 0; k < w->n_slots; k++)
        if (!w->slot[k].attached && one_in(w, 2))
            i = k;
    const struct slot *s = &w->slot[i];
    if (!s->bus)
        slot_start(w, i);
    else if (!s->attached && !s->detached && !one_in(w, 8))
        slot_attach(w, i);
    else if (one_in(w, 60))
        slot_detach(w, i);
    else if (!s->attached || one_in(w, 80)) {
        slot_end(w, i);
        w->seen->deaths++;
    }
}

/* What nobody cares for is forgotten. */
static void night(struct world *w)
{
    for (int i = 0; i < 6; i++) {
        pass_time(w, 5 * 3600 * UINT64_C(1000));
        for (int k = 0; k < 60; k++)
            wire_step(w);
    }
    w->seen->nights++;
}

static void rare(struct world *w)
{
    struct slot *s = &w->slot[chance(w, w->n_slots)];
    switch (chance(w, 10)) {
    case 0:
        come_or_go(w);
        break;
    case 1:
        if (one_in(w, 3))
            server_step(w);
        break;
    case 2:
        if (one_in(w, 6))
            clear_channel(w);
        break;
    case 3:
        ghost_step(w);
        break;
    case 4:
        if (one_in(w, 3))
            ask_about(w);
        break;
    case 5:
        pass_time(w, chance(w, 1500));
        break;
    case 6:
        s->deaf = one_in(w, 3);
        s->mute = one_in(w, 6);
        break;
    case 7:
        if (one_in(w, 40))
            flood(w);
        else if (one_in(w, 80))
            night(w);
        break;
    default:
        read_history(w);
    }
}

static void step(struct world *w)
{
    w->step++;
    switch (chance(w, 12)) {
    case 0:
        burst(w);
        break;
    case 1:
        author_step(w, &w->author[chance(w, AUTHORS)]);
        break;
    case 2:
        (void)slot_drain(w, chance(w, w->n_slots), 1 + chance(w, 20));
        break;
    case 3:
        (void)port_drain(w, chance(w, w->n_slots), chance(w, PORTS), 1 + chance(w, 12));
        break;
    case 4:
        (void)listener_step(&w->listener[chance(w, LISTENERS)]);
        break;
    case 5:
        link_step(w);
        break;
    case 6:
        rare(w);
        break;
    case 7:
        pass_time(w, chance(w, 60));
        break;
    default:
        for (unsigned n = chance(w, w->busy); n; n--)
            wire_step(w);
    }
}

/* --- the end of a run --- */

static bool turn_slot(struct world *w, unsigned i)
{
    bool busy = slot_drain(w, i, 1000);
    struct redis *r = client_of(w, i);
    if (r) {
        busy |= client_turn(r);
        for (unsigned n = 0; n < 100; n++) {
            busy |= client_execute(r);
            busy |= client_answer(r);
            busy |= client_take_request(r);
            busy |= client_hear(r);
        }
    }
    for (unsigned k = 0; k < PORTS; k++)
        busy |= port_drain(w, i, k, 1000);
    return busy;
}

/* Until nothing is on its way any more. */
static bool come_to_rest(struct world *w)
{
    for (int n = 0; n < TURN_STEPS && !w->failed[0]; n++) {
        bool busy = false;
        for (unsigned i = 0; i < w->n_slots; i++)
            busy |= turn_slot(w, i);
        if (!busy)
            return true;
    }
    world_fail(w, "the processes and their servers do not come to rest");
    return false;
}

static void mend(struct world *w)
{
    w->calm = true;
    demote_old(w);
    for (unsigned i = 0; i < w->n_slots; i++) {
        w->slot[i].deaf = w->slot[i].mute = false;
        if (w->slot[i].detached)
            slot_end(w, i);
        if (!w->slot[i].bus)
            slot_start(w, i);
        slot_attach(w, i);
        struct redis *r = client_of(w, i);
        if (r->commands == LINK_DYING || r->commands_life != w->master)
            client_lose_commands(r);
        if (r->pushes == LINK_DYING || r->pushes_life != w->master)
            client_lose_pushes(r);
        link_comes(w, r, false);
        link_comes(w, r, true);
    }
}

static bool settle(struct world *w)
{
    int quiet = 0;
    for (int n = 0; n < SETTLE_TURNS && come_to_rest(w); n++) {
        bool all = w->outstanding == 0;
        for (int i = 0; i < LISTENERS; i++)
            all &= !listener_step(&w->listener[i]) && w->listener[i].state == LIVE;
        for (int i = 0; i < AUTHORS; i++) {
            author_step(w, &w->author[i]);
            all &= !w->author[i].uid;
        }
        quiet = all && w->outstanding == 0 ? quiet + 1 : 0;
        if (quiet == QUIET_TURNS) /* a read that failed is tried again by the tick */
            return true;
        pass_time(w, TICK_MS);
    }
    for (int i = 0; i < LISTENERS; i++)
        if (w->listener[i].state != LIVE)
            world_fail(w, "listener %d of %s at bus %u is %s and stays so", i,
                       channel_name[w->listener[i].channel], w->listener[i].slot,
                       state_name(w->listener[i].state));
    world_fail(w, "%u ops are not answered", w->outstanding);
    return false;
}

/* Losses that are marked in the server's order were said to everyone who went past them. */
static void judge_passed(struct world *w, const struct listener *l)
{
    const struct meta *m = &w->life[w->master].shelf[l->channel].meta;
    for (unsigned i = 0; i < l->n_passed; i++)
        for (int k = 0; k < m->n_line; k++)
            if (m->line[k].lost && m->line[k].epoch == l->passed[i].epoch &&
                m->line[k].last == l->passed[i].offset)
                world_fail(w, "listener %u of %s was never told of the loss after %u,%" PRIu64,
                           l->number, channel_name[l->channel], l->passed[i].epoch,
                           l->passed[i].offset);
}

/* A process knows what it has acknowledged and what it has delivered: if that was lost, it has told
 * the server, who tells everyone. It knows the last epochs of its order; where the server's went on
 * in the same epoch as its own there is no end that could be marked. */
static void judge_told(struct world *w, int channel, struct position pos)
{
    const struct truth *t = &w->truth[channel];
    const struct shelf *s = &w->life[w->master].shelf[channel];
    const struct place head = shelf_head(t, s);
    uint64_t at, end = 0;
    unsigned younger, lost = 0;
    int b = truth_branch(t, pos.epoch), fork = truth_fork(t, b, head, &at);
    for (int i = b; i != fork && i >= 0; i = t->branch[i].parent)
        lost++;
    if (fork < 0 || lost >= KNOWN_MAX || !truth_end(t, fork, head, &end, &younger) || at < end ||
        truth_is_on(t, truth_place(t, pos), head))
        return;
    for (int k = 0; k < s->meta.n_line; k++)
        if (s->meta.line[k].last == end && s->meta.line[k].lost)
            return;
    if (younger <= KNOWN_EPOCHS)
        world_fail(w, "nobody is told that %u,%" PRIu64 " of %s is lost", pos.epoch, pos.offset,
                   channel_name[channel]);
}

/* Without a new message nobody sees that a server has begun anew (flush, eviction). */
static void judge_heads(struct world *w, bool new_message)
{
    for (int i = 0; i < LISTENERS; i++) {
        const struct listener *l = &w->listener[i];
        const struct truth *t = &w->truth[l->channel];
        struct place head = shelf_head(t, &w->life[w->master].shelf[l->channel]);
        if (!new_message && truth_root(t, l->at.branch) != truth_root(t, head.branch))
            continue;
        if (!place_is(l->at, truth_down(t, head.branch, head.offset)))
            world_fail(w, "listener %u of %s at bus %u never got to the head", l->number,
                       channel_name[l->channel], l->slot);
    }
}

static void finish(struct world *w)
{
    w->step = 0;
    mend(w);
    if (w->failed[0] || !settle(w))
        return;
    if (!w->lossy) /* else only the next message shows what is missing */
        judge_heads(w, false);
    for (int c = 0; c < CHANNELS; c++)
        publish(w, chance(w, w->n_slots), c);
    if (!settle(w))
        return;
    judge_heads(w, true);
    for (int i = 0; i < LISTENERS; i++)
        judge_passed(w, &w->listener[i]);
    for (unsigned i = 0; i < w->n_slots && !w->refuses; i++)
        for (int c = 0; c < CHANNELS; c++)
            judge_told(w, c, w->slot[i].acked[c].pos);
    for (unsigned i = 0; i < UNWOUND && i < w->n_unwound; i++) {
        const struct unwound *u = &w->unwound[i];
        const struct truth *t = &w->truth[u->channel];
        struct place head = shelf_head(t, &w->life[w->master].shelf[u->channel]);
        uint64_t end;
        unsigned younger;
        if (truth_end(t, truth_branch(t, u->resumed.epoch), head, &end, &younger))
            judge_told(w, u->channel, u->pos);
    }
}

/* --- a run --- */

static void world_options(struct world *w)
{
    static const struct {
        const char *ns;
        uint32_t messages;
        uint64_t ms;
    } kept[] = {{"few", 6, 600000},
                {"brief", 80, 1500},
                {"none", 0, 600000},
                {"big", 500, 600000},
                {"tiny", 2, 600000}};
    ns_table_init(&w->ns);
    w->ns.common.history_messages = 60;
    w->ns.common.history_ms = 600000;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        struct ns_options *o = ns_table_entry(&w->ns, slice_str(kept[i].ns));
        o->history_messages = kept[i].messages;
        o->history_ms = kept[i].ms;
    }
    ns_table_entry(&w->ns, SLICE("brief"))->idempotency_ms = 1500;
    ns_table_entry(&w->ns, SLICE("few"))->idempotency_keys = 3;
}

static struct world *world_new(uint64_t seed, struct coverage *seen)
{
    struct world *w = calloc(1, sizeof *w);
    BUG_ON(!w);
    the_world = w;
    w->random = w->seed = seed;
    w->seen = seen;
    w->trace = getenv("CRIER_TRACE") != NULL;
    w->now_ms = 5000;
    clock_fake_wall_ms(WALL + w->now_ms);
    list_init(&w->ghosts);
    world_options(w);
    static const unsigned storm[] = {40, 200, 1000};
    static const unsigned busy[] = {2, 6, 20};
    w->storm = storm[chance(w, 3)];
    w->busy = busy[chance(w, 3)];
    w->refuses = one_in(w, 2);
    w->lossy = one_in(w, 4) ? 30 : 0;
    w->n_active = 1 + chance(w, 3);
    for (unsigned i = 0; i < w->n_active; i++)
        w->active[i] = (int)chance(w, CHANNELS);
    w->n_lives = 1;
    w->life[0].serving = true;
    life_identity(w, &w->life[0]);
    w->n_slots = 2 + chance(w, SLOTS - 1);
    for (unsigned i = 0; i < w->n_slots; i++) {
        slot_start(w, i);
        if (!one_in(w, 4))
            slot_attach(w, i);
    }
    for (unsigned i = 0; i < LISTENERS; i++)
        w->listener[i] =
            (struct listener){.w = w, .number = i, .channel = w->active[chance(w, w->n_active)]};
    return w;
}

static void world_free(struct world *w)
{
    for (unsigned i = 0; i < w->n_slots; i++) {
        slot_end(w, i);
        free(w->slot[i].seat);
    }
    if (w->outstanding)
        world_fail(w, "%u ops were never answered", w->outstanding);
    for (int i = 0; i < w->n_lives; i++) {
        links_die(w, i);
        life_release(&w->life[i]);
    }
    life_release(&w->replica);
    for (int i = 0; i < CHANNELS; i++)
        truth_release(&w->truth[i]);
    clock_fake_wall_ms(0);
}

static bool run_seed(uint64_t seed, struct coverage *seen, char *why, size_t size)
{
    struct world *w = world_new(seed, seen);
    for (int i = 0; i < STEPS && !w->failed[0]; i++)
        step(w);
    unsigned failed_at = w->step;
    if (!w->failed[0])
        finish(w);
    world_free(w);
    snprintf(why, size, "CRIER_SEED=%" PRIu64 " step %u: %s", seed, w->step ? failed_at : 0,
             w->failed);
    bool fine = !w->failed[0];
    free(w);
    return fine;
}

/* --- the judge can fail --- */

/* Channel "common" of one life: 7 got to 5, the server came back with 3 of them and went on as 9,
 * to 6; what is kept begins after 2. */
struct hand {
    struct world w;
    struct window v;
};

static struct position at(uint32_t epoch, uint64_t offset)
{
    return (struct position){.epoch = epoch, .offset = offset};
}

static void hand_order(struct hand *h, int branch, uint64_t offset, bool kept)
{
    struct truth *t = &h->w.truth[h->v.channel];
    char text[16];
    snprintf(text, sizeof text, "n%" PRIu64, 100 * (uint64_t)branch + offset);
    struct place p = truth_add(t, branch, slice_str(text), (uint32_t)(100 * branch + (int)offset),
                               WALL + h->w.now_ms, ++h->w.tick);
    if (kept)
        stream_add(&h->w.life[0].shelf[h->v.channel].stream, p, 60);
}

static struct hand *hand_new(void)
{
    struct hand *h = calloc(1, sizeof *h);
    BUG_ON(!h);
    the_world = &h->w;
    world_options(&h->w);
    h->v = (struct window){.w = &h->w, .channel = 2};
    struct truth *t = &h->w.truth[h->v.channel];
    (void)truth_grow(t, 7, -1, 0, 1);
    for (uint64_t i = 1; i <= 5; i++)
        hand_order(h, 0, i, i == 3);
    (void)truth_grow(t, 9, 0, 3, ++h->w.tick);
    for (uint64_t i = 4; i <= 6; i++)
        hand_order(h, 1, i, true);
    struct shelf *s = &h->w.life[0].shelf[h->v.channel];
    s->meta = (struct meta){.exists = true, .has_order = true, .epoch = 9, .offset = 6};
    h->w.n_lives = 1;
    h->w.n_slots = 1;
    shelf_note(&h->w, s, h->v.channel);
    h->w.slot[0].seat = calloc(1, sizeof(struct seat));
    BUG_ON(!h->w.slot[0].seat);
    h->w.slot[0].n_seats = 1;
    h->v.from = ++h->w.tick;
    return h;
}

static void hand_free(struct hand *h)
{
    free(h->w.slot[0].seat);
    life_release(&h->w.life[0]);
    truth_release(&h->w.truth[h->v.channel]);
    free(h);
}

static struct msg *hand_message(uint32_t epoch, uint64_t offset, unsigned uid)
{
    char text[16];
    snprintf(text, sizeof text, "n%u ", uid);
    struct msg_draft d = {
        .channel = slice_str(channel_name[2]), .payload = slice_str(text), .kind = MSG_TEXT};
    struct msg *m;
    BUG_ON(msg_new(&d, &m));
    msg_order(m, at(epoch, offset), WALL);
    return m;
}

static void expect_message(const struct hand *h, struct position from, struct position pos,
                           unsigned uid, const char *want)
{
    struct msg *m = hand_message(pos.epoch, pos.offset, uid);
    const char *got = judge_message(&h->v, truth_place(truth_of(&h->v), from), m);
    assert_string_equal(got ? got : "fine", want);
    msg_unref(m);
}

static void expect_gap(const struct hand *h, enum gap_reason why, struct position since,
                       struct position resumed, const char *want)
{
    const char *got = judge_gap(&h->v, why, since, resumed);
    assert_string_equal(got ? got : "fine", want);
}

/* An answer up to 9,6 with the messages after `start` up to `last`. */
static void expect_page(const struct hand *h, struct catch_up cu, uint64_t last, const char *want)
{
    struct msg *msgs[8];
    struct place end;
    cu.msgs = msgs;
    cu.head = at(9, 6);
    cu.max_messages = 8;
    cu.max_bytes = 1 << 20;
    cu.lost_to = cu.start;
    for (uint64_t i = cu.start.offset + 1; i <= last; i++)
        msgs[cu.count++] = hand_message(i > 3 ? 9 : 7, i, (unsigned)(i > 3 ? 100 + i : i));
    const char *got = judge_page(&h->v, &cu, cu.since, &end);
    assert_string_equal(got ? got : "fine", want);
    for (uint32_t i = 0; i < cu.count; i++)
        msg_unref(msgs[i]);
}

static void test_the_judge_accepts_what_is_so(void **state)
{
    struct hand *h = hand_new();
    (void)state;
    expect_message(h, at(7, 2), at(7, 3), 3, "fine");
    expect_message(h, at(7, 3), at(9, 4), 104, "fine");
    expect_message(h, at(9, 3), at(9, 4), 104, "fine");
    expect_gap(h, GAP_EPOCH, at(7, 5), at(9, 3), "fine");
    expect_gap(h, GAP_EPOCH, at(7, 3), at(9, 3), "fine"); /* more of 7 was lost there */
    expect_gap(h, GAP_EPOCH, at(8, 1), at(7, 2), "fine"); /* never heard of */
    expect_gap(h, GAP_EPOCH, at(9, 4), at(9, 4), "fine"); /* found when it was past it */
    expect_gap(h, GAP_EXPIRED, at(7, 1), at(7, 2), "fine");
    expect_gap(h, GAP_AHEAD, at(9, 9), at(9, 6), "fine");
    assert_null(judge_late_gap(&h->v, at(7, 3), at(9, 5)));
    expect_page(h, (struct catch_up){.from = FROM_NOW, .start = at(9, 6), .complete = true}, 6,
                "fine");
    expect_page(h, (struct catch_up){.from = FROM_POSITION, .since = at(7, 3), .start = at(7, 3)},
                5, "fine");
    expect_page(h, (struct catch_up){.from = FROM_LAST_N, .last_n = 40, .start = at(7, 2)}, 4,
                "fine");
    hand_free(h);
}

static void test_the_judge_sees_what_is_wrong(void **state)
{
    struct hand *h = hand_new();
    (void)state;
    expect_message(h, at(9, 4), at(9, 6), 106, "a message is missing");
    expect_message(h, at(9, 5), at(9, 4), 104, "a message twice, or late");
    expect_message(h, at(7, 4), at(9, 5), 105, "a message of another order without a gap");
    expect_message(h, at(9, 4), at(9, 5), 5, "another message than the one at that position");
    expect_message(h, at(9, 6), at(9, 7), 107, "a message with a position that was never given");
    const struct catch_up from_lost = {
        .from = FROM_POSITION, .since = at(7, 5), .start = at(9, 5), .complete = true};
    expect_page(h, from_lost, 6, "an answer that begins elsewhere than asked, without a gap");
    const struct catch_up from_4 = {
        .from = FROM_POSITION, .since = at(9, 4), .start = at(9, 4), .complete = true};
    expect_page(h, from_4, 5, "complete, and yet not at the head");
    expect_page(h, (struct catch_up){.from = FROM_POSITION, .since = at(9, 4), .start = at(9, 4)},
                4, "neither a message nor the end");
    expect_page(h, (struct catch_up){.from = FROM_LAST_N, .last_n = 2, .start = at(9, 5)}, 6,
                "too few of the last messages");
    expect_page(h, (struct catch_up){.from = FROM_LAST_N, .last_n = 1, .start = at(9, 4)}, 6,
                "more of the last messages than asked for");
    expect_page(h, (struct catch_up){.from = FROM_NOW, .start = at(9, 5), .complete = true}, 6,
                "now is not now");
    hand_free(h);
}

static void test_the_judge_sees_gaps_that_lie(void **state)
{
    struct hand *h = hand_new();
    (void)state;
    expect_gap(h, GAP_EPOCH, at(7, 2), at(9, 3), "a gap without cause");
    expect_gap(h, GAP_AHEAD, at(7, 5), at(9, 3), "a gap without cause");
    expect_gap(h, GAP_EPOCH, at(7, 5), at(9, 4), "a gap that goes on elsewhere than it must");
    expect_gap(h, GAP_EPOCH, at(7, 5), at(7, 2), "a gap that goes on elsewhere than it must");
    expect_gap(h, GAP_EPOCH, at(8, 1), at(7, 3), "a gap that goes on elsewhere than it must");
    expect_gap(h, GAP_EXPIRED, at(7, 2), at(9, 4), "a gap over what could be had");
    expect_gap(h, GAP_EXPIRED, at(9, 4), at(9, 4), "an expired gap that leads nowhere");
    expect_gap(h, GAP_EPOCH, at(7, 5), at(8, 1), "a gap that ends nowhere");
    assert_string_equal(judge_late_gap(&h->v, at(9, 4), at(9, 5)),
                        "a late gap where no epoch ended");
    hand_free(h);
}

/* --- the simulation --- */

/* Whatever sleeps that long, an order that somebody listens to is not forgotten. */
static void test_a_quiet_channel_keeps_its_order(void **state)
{
    struct coverage seen = {0};
    struct world *w = world_new(1, &seen);
    (void)state;
    mend(w);
    assert_true(settle(w));
    for (int c = 0; c < CHANNELS; c++)
        publish(w, 0, c);
    for (int i = 0; i < 60; i++) {
        pass_time(w, 3600 * UINT64_C(1000));
        assert_true(settle(w));
    }
    for (int i = 0; i < LISTENERS; i++) {
        const struct shelf *s = &w->life[w->master].shelf[w->listener[i].channel];
        assert_int_equal(s->meta.epoch, w->listener[i].pos.epoch);
    }
    assert_int_equal(seen.live_gaps, 0);
    world_free(w);
    assert_string_equal(w->failed, "");
    free(w);
}

/* A simulation in which something never happens proves nothing about it. */
static void expect_all_happened(const struct coverage *seen)
{
    assert_true(seen->msgs && seen->resumed && seen->pages && seen->histories && seen->repeats);
    assert_true(seen->gap[GAP_EXPIRED] && seen->gap[GAP_EPOCH]);
    /* the rarest: not within the fewer rounds of a sanitizer */
    assert_true(seen->gap[GAP_AHEAD] || seen->published < 1000000);
    assert_true(seen->live_gaps && seen->late_gaps && seen->failed_joins && seen->conflicts);
    assert_true(seen->restarts && seen->kills && seen->failovers && seen->flushes);
    assert_true(seen->evictions && seen->clears && seen->ghosts && seen->mixed && seen->kicked);
    assert_true(seen->deaths && seen->floods && seen->nights);
}

static void test_listeners_are_told_what_is_so_whatever_befalls_redis(void **state)
{
    (void)state;
    const char *one = getenv("CRIER_SEED"), *rounds = getenv("CRIER_ROUNDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t n = one ? 1 : rounds ? strtoull(rounds, NULL, 10) : ROUNDS;
    struct coverage seen = {0};
    char why[512];
    for (uint64_t seed = first; seed < first + n; seed++)
        if (!run_seed(seed, &seen, why, sizeof why))
            fail_msg("%s", why);
    print_message("%u messages of %u published, %u joins (%u resumed, %u failed), %u pages, "
                  "%u histories, gaps %u expired %u epoch %u ahead %u live %u late, %u refused, "
                  "%u repeats, %u conflicts\n",
                  seen.msgs, seen.published, seen.joined, seen.resumed, seen.failed_joins,
                  seen.pages, seen.histories, seen.gap[GAP_EXPIRED], seen.gap[GAP_EPOCH],
                  seen.gap[GAP_AHEAD], seen.live_gaps, seen.late_gaps, seen.refused, seen.repeats,
                  seen.conflicts);
    print_message("%u restarts, %u kills, %u failovers, %u flushes, %u evictions, %u clears, "
                  "%u links lost, %u kicked, %u mixed, %u ghosts, %u deaths of processes\n",
                  seen.restarts, seen.kills, seen.failovers, seen.flushes, seen.evictions,
                  seen.clears, seen.links_lost, seen.kicked, seen.mixed, seen.ghosts, seen.deaths);
    print_message("%u floods, %u nights\n", seen.floods, seen.nights);
    if (n >= ROUNDS)
        expect_all_happened(&seen);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_judge_accepts_what_is_so),
        cmocka_unit_test(test_the_judge_sees_what_is_wrong),
        cmocka_unit_test(test_the_judge_sees_gaps_that_lie),
        cmocka_unit_test(test_a_quiet_channel_keeps_its_order),
        cmocka_unit_test(test_listeners_are_told_what_is_so_whatever_befalls_redis),
    };
    log_set_level(LOG_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests_name("sim_redis", tests, NULL, NULL);
}
