/* The life of a session: opening with its gaps, catching up, being too slow, closing. Most tests
 * compare the frames that a peer was given, in order. */
#include "hub_fixture.h"

/* ---- opening ---- */

static void test_ready_comes_first_then_gaps_then_messages(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        publish("few:a", "old");
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req[2] = {at_offset("few:a", 1), at_now("b")};
    req[1].no_position = true;
    assert_int_equal(session_open(&p->s, req, 2), ERR_OK);
    submit_text("b", "live"); /* ordered after the joins, before they are answered */
    run();
    struct buf lines;
    buf_init(&lines, 1 << 20);
    frames_as_lines(buf_slice(&p->got), &lines);
    buf_append_char(&lines, '\0');
    static const char *const order[] = {
        "{\"op\":\"ready\"",
        "{\"op\":\"gap\",\"channel\":\"few:a\",\"reason\":\"expired\"",
        "{\"op\":\"gap\",\"channel\":\"b\",\"reason\":\"no_position\",\"cursor\"",
        "{\"op\":\"message\"",
        "{\"op\":\"message\"",
        "{\"op\":\"message\"",
        "{\"op\":\"message\",\"channel\":\"b\""};
    const char *at = lines.data;
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++, at = strchr(at, '\n') + 1)
        assert_int_equal(strncmp(at, order[i], strlen(order[i])), 0);
    assert_int_equal(*at, '\0');
    buf_release(&lines);
}

static void test_an_opening_says_ready_gaps_kept_live(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        publish("few:a", "old");
    struct peer *p = peer_init(0, &dialect_ws_raw);
    struct sub_request req = at_offset("few:a", 3);
    assert_int_equal(session_open(&p->s, &req, 1), ERR_OK);
    submit_text("few:a", "live");
    expect(p, "old\nold\nold\nlive\n");
}

static const char ready_a[] = "{\"op\":\"ready\",\"client\":\"%s\",\"protocol\":\"crier.v1\","
                              "\"cursor\":\"%s\",\"channels\":[{\"channel\":\"%s\",\"cursor\":"
                              "\"%s\"}]}\n";

static void test_nothing_passes_the_gate_before_ready(void **state)
{
    (void)state;
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req = at_now("a");
    assert_int_equal(session_open(&p->s, &req, 1), ERR_OK);
    say(p, "{\"op\":\"ping\"}");
    assert_false(hub_turn(fx->hub));
    assert_int_equal(p->got.len, 0);
    run();
    char want[512];
    snprintf(want, sizeof(want), ready_a, id_of(p), cur("a", 0), "a", cur("a", 0));
    expect(p, "%s{\"op\":\"pong\"}\n", want);
}

static void test_an_opening_without_channels_is_ready_at_once(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, NULL);
    expect(p,
           "{\"op\":\"ready\",\"client\":\"%s\",\"protocol\":\"crier.v1\",\"cursor\":\"\","
           "\"channels\":[]}\n",
           id_of(p));
}

static void test_a_command_channel_that_left_again_does_not_answer_for_the_opening(void **state)
{
    (void)state;
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req = at_now("a");
    assert_int_equal(session_open(&p->s, &req, 1), ERR_OK);
    say(p, "{\"op\":\"subscribe\",\"channel\":\"b\",\"ref\":1}");
    say(p, "{\"op\":\"unsubscribe\",\"channel\":\"b\",\"ref\":2}");
    char want[512];
    run();
    snprintf(want, sizeof(want), ready_a, id_of(p), cur("a", 0), "a", cur("a", 0));
    expect(p,
           "%s{\"op\":\"ok\",\"ref\":1,\"channel\":\"b\",\"cursor\":\"%s\"}\n"
           "{\"op\":\"ok\",\"ref\":2,\"channel\":\"b\"}\n",
           want, cur("b", 0));
}

static void test_an_unsubscribed_channel_of_the_opening_is_not_waited_for(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        publish("few:a", "old");
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req[2] = {at_offset("few:a", 1), at_now("b")};
    assert_int_equal(session_open(&p->s, req, 2), ERR_OK);
    say(p, "{\"op\":\"unsubscribe\",\"channel\":\"few:a\",\"ref\":1}");
    run();
    char want[512];
    snprintf(want, sizeof(want), ready_a, id_of(p), cur("b", 0), "b", cur("b", 0));
    /* with it goes its gap */
    expect(p, "%s{\"op\":\"ok\",\"ref\":1,\"channel\":\"few:a\"}\n", want);
}

static void test_when_all_channels_of_the_opening_left_it_is_ready(void **state)
{
    (void)state;
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req = at_now("a");
    assert_int_equal(session_open(&p->s, &req, 1), ERR_OK);
    say(p, "{\"op\":\"unsubscribe\",\"channel\":\"a\",\"ref\":1}");
    expect(p,
           "{\"op\":\"ready\",\"client\":\"%s\",\"protocol\":\"crier.v1\",\"cursor\":\"\","
           "\"channels\":[]}\n{\"op\":\"ok\",\"ref\":1,\"channel\":\"a\"}\n",
           id_of(p));
}

/* ---- closing while opening ---- */

static void test_a_close_while_opening_keeps_the_notices(void **state)
{
    (void)state;
    struct peer *p = peer_init(0, &dialect_ws_json);
    session_push(&p->s, SLICE("\x81\x06"), SLICE("before"));
    struct sub_request req = at_now("a");
    assert_int_equal(session_open(&p->s, &req, 1), ERR_OK);
    session_push(&p->s, SLICE("\x81\x06"), SLICE("behind"));
    session_close(&p->s, WS_CODE_GOING_AWAY, "shutting down");
    expect(p, "before\nbehind\nclose 1001 shutting down\n");
    assert_true(p->freed);
}

static void test_a_finish_while_opening_keeps_the_notices(void **state)
{
    (void)state;
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req = at_now("a");
    assert_int_equal(session_open(&p->s, &req, 1), ERR_OK);
    session_push(&p->s, SLICE("\x81\x06"), SLICE("behind"));
    session_finish(&p->s);
    session_push(&p->s, SLICE("\x81\x04"), SLICE("late"));
    expect(p, "behind\n");
    assert_true(p->freed);
}

/* A second channel of the opening that the bus has not answered yet: the port's mailbox is drained
 * one letter only. */
static struct peer *half_open(struct sub_request first, struct sub_request second)
{
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req[2] = {first, second};
    assert_int_equal(session_open(&p->s, req, 2), ERR_OK);
    run_bus();
    assert_true(mailbox_drain(bus_port_mailbox(hub_port(fx->hub)), 1));
    assert_int_equal(p->s.opening->pending, 1);
    return p;
}

static void test_the_cursor_of_a_close_while_opening_is_not_beyond_an_unsaid_gap(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        publish("few:a", "old");
    struct peer *p = half_open(at_offset("few:a", 1), at_offset("b", 0));
    session_close_slow(&p->s);
    expect(p, "close 4001 %s~%s\n", cur("few:a", 1), cur("b", 0));
}

static void test_a_channel_that_was_not_answered_keeps_the_position_it_was_asked_for(void **state)
{
    (void)state;
    publish("a", "x");
    struct peer *p = half_open(at_now("b"), at_offset("a", 1));
    session_close_slow(&p->s);
    expect(p, "close 4001 %s~%s\n", cur("b", 0), cur("a", 1));
}

static void test_a_channel_without_a_position_is_not_in_the_cursor(void **state)
{
    (void)state;
    struct peer *p = half_open(at_now("b"), at_now("a"));
    session_close_slow(&p->s);
    expect(p, "close 4001 %s\n", cur("b", 0));
}

/* Takes the first notice, which stands before the gate, while only the first channel is answered.
 */
static struct peer *half_open_with_a_page(struct sub_request first)
{
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req[2] = {first, at_now("z")};
    p->s.page_messages = 2;
    session_push(&p->s, SLICE("\x81\x06"), SLICE("before"));
    p->takes = 0;
    assert_int_equal(session_open(&p->s, req, 2), ERR_OK);
    run_bus();
    assert_true(mailbox_drain(bus_port_mailbox(hub_port(fx->hub)), 1));
    p->takes = SIZE_MAX;
    (void)hub_turn(fx->hub);
    assert_int_equal(p->got.len, 8);
    return p;
}

static unsigned count_lines_with(struct peer *p, const char *what)
{
    struct buf lines;
    unsigned n = 0;
    buf_init(&lines, 1 << 20);
    frames_as_lines(buf_slice(&p->got), &lines);
    buf_append_char(&lines, '\0');
    for (const char *at = lines.data; (at = strstr(at, what)); at++)
        n++;
    buf_release(&lines);
    return n;
}

static void test_no_page_is_asked_for_while_the_first_waits_behind_the_gate(void **state)
{
    (void)state;
    publish_many("big:a", 5);
    struct peer *p = half_open_with_a_page(at_offset("big:a", 0));
    assert_null(bus_inbox(fx->bus)->head);
    run();
    assert_int_equal(count_lines_with(p, "\"op\":\"message\""), 5);
}

static void
test_an_own_message_does_not_move_the_position_over_what_is_behind_the_gate(void **state)
{
    (void)state;
    publish("big:a", "x");
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req[2] = {at_offset("big:a", 0), at_now("z")};
    assert_int_equal(session_open(&p->s, req, 2), ERR_OK);
    /* Handled between the two joins, as by a bus on another thread. */
    assert_true(mailbox_drain(bus_inbox(fx->bus), 1));
    say(p, "{\"op\":\"publish\",\"channel\":\"big:a\",\"data\":1,\"echo\":false}");
    run_bus();
    struct mailbox *mb = bus_port_mailbox(hub_port(fx->hub));
    assert_true(mailbox_drain(mb, 1)); /* big:a is joined */
    struct mail *answer = mb->batch;   /* z's; what follows is the live message */
    mb->batch = answer->next;
    assert_true(mailbox_drain(mb, 1));
    assert_int_equal(session_find_sub(&p->s, SLICE("big:a"))->pos.offset, 0);
    mailbox_post(mb, answer);
    run();
    assert_int_equal(count_lines_with(p, "\"op\":\"message\""), 1);
}

/* ---- slow clients ---- */

static struct peer *raw_peer(const char *channel)
{
    struct peer *p = peer_open(0, &dialect_ws_raw, channel);
    assert_int_equal(p->got.len, 0);
    return p;
}

static void test_a_slow_client_is_closed_with_the_cursor_of_what_it_was_given(void **state)
{
    (void)state;
    fx->opt.outbox_messages = 4;
    struct peer *p = raw_peer("a");
    publish("a", "one");
    publish("a", "two");
    p->takes = 0;
    for (int i = 0; i < 4; i++)
        publish("a", "waits");
    assert_int_equal(p->s.state, SESSION_OPEN);
    publish("a", "too much");
    assert_int_equal(p->s.state, SESSION_CLOSING);
    p->takes = SIZE_MAX;
    session_mark_dirty(&p->s);
    expect(p, "one\ntwo\nclose 4001 %s\n", cur("a", 2));
}

static void test_a_half_sent_message_is_finished_and_counts(void **state)
{
    (void)state;
    fx->opt.outbox_messages = 3;
    struct peer *p = raw_peer("a");
    p->takes = 3;
    for (int i = 0; i < 4; i++)
        publish("a", "waits");
    assert_int_equal(p->s.state, SESSION_CLOSING);
    assert_int_equal(p->got.len, 3);
    assert_int_equal(p->s.subs->pos.offset, 0);
    p->takes = SIZE_MAX;
    session_mark_dirty(&p->s);
    expect(p, "waits\nclose 4001 %s\n", cur("a", 1));
}

static void test_bytes_are_limited_like_messages(void **state)
{
    (void)state;
    fx->opt.outbox_bytes = 30;
    struct peer *p = raw_peer("a");
    p->takes = 0;
    publish("a", "thirteen bytes"); /* 14 and a header of 2 */
    publish("a", "twelve bytes");   /* 30 in all */
    assert_int_equal(p->s.state, SESSION_OPEN);
    assert_int_equal(p->s.out.bytes, 30);
    publish("a", "");
    assert_int_equal(p->s.state, SESSION_CLOSING);
    p->takes = SIZE_MAX;
    session_mark_dirty(&p->s);
    expect(p, "close 4001 %s\n", cur("a", 0));
}

static void test_notices_of_a_slow_client_are_delivered_before_the_close(void **state)
{
    (void)state;
    fx->opt.outbox_messages = 3;
    struct peer *p = peer_open(0, &dialect_ws_json, "a");
    forget(p);
    p->takes = 0;
    publish("a", "x");
    say(p, "{\"op\":\"ping\",\"ref\":1}");
    publish("a", "x");
    publish("a", "x");
    peer_takes(p, SIZE_MAX);
    expect(p, "{\"op\":\"pong\",\"ref\":1}\nclose 4001 %s\n", cur("a", 0));
}

static void test_a_subscription_whose_answer_does_not_fit_is_not_ahead_of_it(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        publish("few:b", "old");
    fx->opt.outbox_messages = 2;
    struct peer *p = peer_open(0, &dialect_ws_json, "a");
    forget(p);
    p->takes = 0;
    publish("a", "x");
    char text[128];
    snprintf(text, sizeof(text), "{\"op\":\"subscribe\",\"channel\":\"few:b\",\"since\":\"%s\"}",
             cur("few:b", 1));
    say(p, text); /* its ok fits, its gap does not */
    run();
    assert_int_equal(p->s.state, SESSION_CLOSING);
    peer_takes(p, SIZE_MAX);
    expect(p, "{\"op\":\"ok\",\"channel\":\"few:b\",\"cursor\":\"%s\"}\nclose 4001 %s~%s\n",
           cur("few:b", 3), cur("a", 0), cur("few:b", 1));
}

static void test_a_cursor_too_long_for_a_close_is_left_out(void **state)
{
    (void)state;
    struct peer *p = peer_init(0, &dialect_ws_json);
    struct sub_request req[13];
    char name[13][16];
    for (int i = 0; i < 13; i++) {
        snprintf(name[i], sizeof(name[i]), "c%d", i);
        req[i] = at_now(name[i]);
    }
    assert_int_equal(session_open(&p->s, req, 13), ERR_OK);
    forget(p);
    session_close_slow(&p->s);
    expect(p, "close 4001 too slow\n");
}

static void test_a_client_that_does_not_take_its_last_notice_is_cut(void **state)
{
    (void)state;
    struct peer *p = raw_peer("a");
    p->takes = 0;
    session_close(&p->s, WS_CODE_GOING_AWAY, "shutting down");
    session_close(&p->s, WS_CODE_POLICY, "the first close counts");
    advance(HUB_CLOSE_FLUSH_MS - 2 * TIMER_TICK_MS);
    assert_false(p->freed);
    advance(3 * TIMER_TICK_MS);
    assert_true(p->freed);
    assert_int_equal(p->got.len, 0);
}

/* ---- positions ---- */

static void expect_tail_cursor(const struct peer *p, const char *want)
{
    struct buf b;
    buf_init(&b, 1000);
    session_tail_cursor(&p->s, &b);
    buf_append_char(&b, '\0');
    assert_string_equal(b.data, want);
    buf_release(&b);
}

static void test_what_waits_of_an_ended_subscription_does_not_move_the_next(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, "a");
    forget(p);
    p->takes = 5; /* the first message stays half sent */
    for (int i = 0; i < 3; i++)
        publish("a", "x");
    say(p, "{\"op\":\"unsubscribe\",\"channel\":\"a\",\"ref\":1}");
    say(p, "{\"op\":\"subscribe\",\"channel\":\"a\",\"ref\":2}");
    run();
    struct sub *sub = session_find_sub(&p->s, SLICE("a"));
    expect_tail_cursor(p, cur("a", 3));
    peer_takes(p, SIZE_MAX);
    assert_int_equal(sub->pos.offset, 3);
    expect(p,
           "{\"op\":\"message\",\"channel\":\"a\",\"id\":\"%s\",\"data\":\"x\",\"time\":%llu}\n"
           "{\"op\":\"ok\",\"ref\":1,\"channel\":\"a\"}\n"
           "{\"op\":\"ok\",\"ref\":2,\"channel\":\"a\",\"cursor\":\"%s\"}\n",
           cur("a", 1), (unsigned long long)WALL, cur("a", 3));
    publish("a", "y");
    assert_int_equal(sub->pos.offset, 4);
}

/* One that takes pages of two messages; the rest is asked for when it has taken them. */
static struct peer *paging_peer(uint64_t since)
{
    struct peer *p = peer_init(0, &dialect_ws_json);
    p->s.page_messages = 2;
    struct sub_request req[2] = {at_offset("big:a", since), at_now("b")};
    assert_int_equal(session_open(&p->s, req, 2), ERR_OK);
    return p;
}

static void test_pages_follow_each_other_and_then_live_messages(void **state)
{
    (void)state;
    publish_many("big:a", 7);
    struct peer *p = paging_peer(0);
    run();
    struct sub *sub = session_find_sub(&p->s, SLICE("big:a"));
    assert_int_equal(p->s.n_behind, 0);
    assert_int_equal(sub->pos.offset, 7);
    publish("big:a", "live");
    assert_int_equal(sub->pos.offset, 8);
}

static void test_a_client_that_takes_nothing_is_given_one_page(void **state)
{
    (void)state;
    publish_many("big:a", 7);
    struct peer *p = paging_peer(0);
    p->takes = 0;
    run();
    assert_int_equal(p->s.out.count, 3); /* ready and one page */
    assert_int_equal(p->s.n_behind, 1);
    publish("big:a", "not live yet");
    assert_int_equal(p->s.out.count, 3);
    peer_takes(p, SIZE_MAX);
    assert_int_equal(p->s.n_behind, 0);
    assert_int_equal(session_find_sub(&p->s, SLICE("big:a"))->pos.offset, 8);
}

/* Takes what waits first, n entries of it. */
static void peer_takes_entries(struct peer *p, uint32_t n)
{
    struct outbox_item item;
    size_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(outbox_item(&p->s.out, i, &item));
        bytes += item.bytes.len;
    }
    peer_takes(p, bytes);
}

static void test_a_page_is_asked_for_when_the_last_was_taken(void **state)
{
    (void)state;
    publish_many("big:a", 7);
    struct peer *p = paging_peer(0);
    p->takes = 0;
    run();
    clear_history("big:a");
    peer_takes_entries(p, 2);
    /* Else the gap would stand behind the second message, and survive it in a slow client. */
    assert_int_equal(p->s.n_behind, 1);
    assert_int_equal(p->s.out.count, 1);
    peer_takes_entries(p, 1);
    assert_int_equal(p->s.n_behind, 0);
}

static void test_falling_behind_moves_no_cursor_before_it_is_said(void **state)
{
    (void)state;
    publish_many("big:a", 7);
    struct peer *p = paging_peer(0);
    p->takes = 0;
    run();
    clear_history("big:a");
    publish("b", "x");
    peer_takes_entries(p, 3); /* ready and the page; b's message is before the gap */
    assert_int_equal(session_find_sub(&p->s, SLICE("big:a"))->pos.offset, 2);
    forget(p);
    session_close_slow(&p->s);
    p->takes = SIZE_MAX;
    session_mark_dirty(&p->s);
    expect(p,
           "{\"op\":\"gap\",\"channel\":\"big:a\",\"reason\":\"expired\",\"since\":\"%s\","
           "\"cursor\":\"%s\"}\nclose 4001 %s~%s\n",
           cur("big:a", 2), cur("big:a", 7), cur("big:a", 2), cur("b", 0));
}

static void test_the_cursor_is_what_was_taken_the_tail_cursor_what_waits_too(void **state)
{
    (void)state;
    struct peer *p = raw_peer("a");
    publish("a", "one");
    p->takes = 0;
    publish("a", "two");
    struct buf b;
    buf_init(&b, 100);
    session_cursor(&p->s, &b);
    assert_true(slice_eq(buf_slice(&b), slice_str(cur("a", 1))));
    buf_release(&b);
    expect_tail_cursor(p, cur("a", 2));
}

/* ---- raw ---- */

static void test_raw_says_a_gap_by_closing(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        publish("few:a", "old");
    struct peer *p = peer_init(0, &dialect_ws_raw);
    struct sub_request req = at_offset("few:a", 1);
    assert_int_equal(session_open(&p->s, &req, 1), ERR_OK);
    expect(p, "close 4003 gap expired %s\n", cur("few:a", 3));
    assert_true(p->freed);
}

/* ---- commands in flight ---- */

static void test_reading_pauses_at_the_limit_and_goes_on_at_half(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, NULL);
    for (int i = 0; i < HUB_COMMANDS_IN_FLIGHT; i++) {
        assert_true(session_wants_reading(&p->s));
        say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":1}");
    }
    assert_false(session_wants_reading(&p->s));
    run_bus();
    struct mailbox *mb = bus_port_mailbox(hub_port(fx->hub));
    for (int i = 0; i < HUB_COMMANDS_IN_FLIGHT / 2; i++) {
        assert_int_equal(p->resumed, 0);
        assert_true(mailbox_drain(mb, 1));
    }
    assert_int_equal(p->resumed, 0);
    (void)mailbox_drain(mb, 1);
    assert_int_equal(p->resumed, 1);
    run();
    assert_int_equal(p->resumed, 1);
    assert_int_equal(p->s.in_flight, 0);
}

/* ---- the end ---- */

static void test_answers_for_a_client_that_left_go_nowhere(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, "a");
    say(p, "{\"op\":\"subscribe\",\"channel\":\"b\"}");
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":1}");
    say(p, "{\"op\":\"history\",\"channel\":\"a\"}");
    say(p, "{\"op\":\"presence\",\"channel\":\"chat:a\"}");
    say(p, "{\"op\":\"unsubscribe\",\"channel\":\"a\"}");
    session_gone(&p->s);
    session_gone(&p->s);
    run();
    assert_true(p->freed);
    assert_int_equal(hub_session_count(fx->hub), 0);
}

static void test_a_silent_websocket_is_pinged_and_then_dropped(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, NULL);
    session_timer(&p->s, fx->opt.ws_ping_ms);
    forget(p);
    advance(20000);
    session_heard(&p->s);
    advance(29000);
    expect(p, "%s", "");
    advance(1500);
    expect(p, "opcode 9 \n");
    advance(9000);
    assert_false(p->freed);
    advance(1500);
    assert_true(p->freed);
}

static void test_one_that_answers_pings_stays(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, NULL);
    session_timer(&p->s, fx->opt.ws_ping_ms);
    for (int i = 0; i < 10; i++) {
        advance(fx->opt.ws_ping_ms + 100);
        session_heard(&p->s);
    }
    assert_int_equal(p->s.state, SESSION_OPEN);
}

static void test_an_excluded_publisher_does_not_hear_itself_live(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_raw, "a");
    struct peer *q = peer_open(1, &dialect_ws_json, NULL);
    struct peer *r = peer_open(2, &dialect_ws_json, "a");
    forget(q);
    forget(r);
    say(r, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":\"x\",\"echo\":false}");
    expect(r, "{\"op\":\"ok\",\"channel\":\"a\",\"id\":\"%s\"}\n", cur("a", 1));
    expect(p, "x\n");
    expect(q, "%s", "");
}

int main(void)
{
    json_init();
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(test_ready_comes_first_then_gaps_then_messages),
        T(test_an_opening_says_ready_gaps_kept_live),
        T(test_nothing_passes_the_gate_before_ready),
        T(test_an_opening_without_channels_is_ready_at_once),
        T(test_a_command_channel_that_left_again_does_not_answer_for_the_opening),
        T(test_an_unsubscribed_channel_of_the_opening_is_not_waited_for),
        T(test_when_all_channels_of_the_opening_left_it_is_ready),
        T(test_a_close_while_opening_keeps_the_notices),
        T(test_a_finish_while_opening_keeps_the_notices),
        T(test_the_cursor_of_a_close_while_opening_is_not_beyond_an_unsaid_gap),
        T(test_a_channel_that_was_not_answered_keeps_the_position_it_was_asked_for),
        T(test_a_channel_without_a_position_is_not_in_the_cursor),
        T(test_no_page_is_asked_for_while_the_first_waits_behind_the_gate),
        T(test_an_own_message_does_not_move_the_position_over_what_is_behind_the_gate),
        T(test_a_slow_client_is_closed_with_the_cursor_of_what_it_was_given),
        T(test_a_half_sent_message_is_finished_and_counts),
        T(test_bytes_are_limited_like_messages),
        T(test_notices_of_a_slow_client_are_delivered_before_the_close),
        T(test_a_subscription_whose_answer_does_not_fit_is_not_ahead_of_it),
        T(test_a_cursor_too_long_for_a_close_is_left_out),
        T(test_a_client_that_does_not_take_its_last_notice_is_cut),
        T(test_what_waits_of_an_ended_subscription_does_not_move_the_next),
        T(test_pages_follow_each_other_and_then_live_messages),
        T(test_a_client_that_takes_nothing_is_given_one_page),
        T(test_a_page_is_asked_for_when_the_last_was_taken),
        T(test_falling_behind_moves_no_cursor_before_it_is_said),
        T(test_the_cursor_is_what_was_taken_the_tail_cursor_what_waits_too),
        T(test_raw_says_a_gap_by_closing),
        T(test_reading_pauses_at_the_limit_and_goes_on_at_half),
        T(test_answers_for_a_client_that_left_go_nowhere),
        T(test_a_silent_websocket_is_pinged_and_then_dropped),
        T(test_one_that_answers_pings_stays),
        T(test_an_excluded_publisher_does_not_hear_itself_live),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
