/* Commands of a JSON WebSocket client: what each answers, and what each refusal is called. */
#include "hub_fixture.h"

static struct peer *client(int i)
{
    struct peer *p = peer_open(i, &dialect_ws_json, NULL);
    forget(p);
    return p;
}

/* ---- every operation ---- */

static void test_ping(void **state)
{
    (void)state;
    struct peer *p = client(0);
    say(p, "{\"op\":\"ping\",\"ref\":6}");
    say(p, " { \"op\" : \"ping\" , \"unknown\" : [ ] } ");
    expect(p, "{\"op\":\"pong\",\"ref\":6}\n{\"op\":\"pong\"}\n");
}

static void test_subscribe_answers_the_start_and_then_what_follows(void **state)
{
    (void)state;
    publish("few:a", "1");
    publish("few:a", "2");
    struct peer *p = client(0);
    say(p, "{\"op\":\"subscribe\",\"channel\":\"few:a\",\"history\":1,\"ref\":1}");
    run();
    publish("few:a", "3");
    expect(
        p,
        "{\"op\":\"ok\",\"ref\":1,\"channel\":\"few:a\",\"cursor\":\"%s\"}\n"
        "{\"op\":\"message\",\"channel\":\"few:a\",\"id\":\"%s\",\"data\":\"2\",\"time\":%llu}\n"
        "{\"op\":\"message\",\"channel\":\"few:a\",\"id\":\"%s\",\"data\":\"3\",\"time\":%llu}\n",
        cur("few:a", 1), cur("few:a", 2), (unsigned long long)WALL, cur("few:a", 3),
        (unsigned long long)WALL);
}

static void say_since(struct peer *p, const char *op, const char *cursor, const char *more)
{
    char text[256];
    snprintf(text, sizeof(text), "{\"op\":\"%s\",\"channel\":\"few:a\",\"since\":\"%s\"%s}", op,
             cursor, more);
    say(p, text);
}

static void test_subscribe_since_outranks_history_and_says_the_gap(void **state)
{
    (void)state;
    publish_many("few:a", 5);
    struct peer *p = client(0);
    say_since(p, "subscribe", cur("few:a", 5), ",\"history\":3");
    expect(p, "{\"op\":\"ok\",\"channel\":\"few:a\",\"cursor\":\"%s\"}\n", cur("few:a", 5));
    struct peer *q = client(1);
    clear_history("few:a");
    say_since(q, "subscribe", cur("few:a", 4), "");
    expect(q,
           "{\"op\":\"ok\",\"channel\":\"few:a\",\"cursor\":\"%s\"}\n{\"op\":\"gap\","
           "\"channel\":\"few:a\",\"reason\":\"expired\",\"since\":\"%s\",\"cursor\":\"%s\"}\n",
           cur("few:a", 5), cur("few:a", 4), cur("few:a", 5));
    struct peer *r = client(2);
    say_since(r, "subscribe", cur("other", 4), "");
    expect(r,
           "{\"op\":\"ok\",\"channel\":\"few:a\",\"cursor\":\"%s\"}\n{\"op\":\"gap\","
           "\"channel\":\"few:a\",\"reason\":\"no_position\",\"cursor\":\"%s\"}\n",
           cur("few:a", 5), cur("few:a", 5));
}

static void test_unsubscribe_ends_the_messages(void **state)
{
    (void)state;
    struct peer *p = client(0);
    say(p, "{\"op\":\"subscribe\",\"channel\":\"a\",\"ref\":1}");
    say(p, "{\"op\":\"unsubscribe\",\"channel\":\"a\",\"ref\":2}");
    run();
    publish("a", "x");
    expect(p,
           "{\"op\":\"ok\",\"ref\":1,\"channel\":\"a\",\"cursor\":\"%s\"}\n"
           "{\"op\":\"ok\",\"ref\":2,\"channel\":\"a\"}\n",
           cur("a", 0));
    assert_int_equal(p->s.n_subs, 0);
    assert_int_equal(p->s.n_behind, 0);
}

static void expect_published(struct peer *listener, uint64_t offset, const char *from,
                             const char *members)
{
    expect(
        listener,
        "{\"op\":\"message\",\"channel\":\"a\",\"id\":\"%s\",%s,\"time\":%llu,\"client\":\"%s\"}\n",
        cur("a", offset), members, (unsigned long long)WALL, from);
}

static void test_publish_forwards_the_value_as_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *said, *delivered;
    } cases[] = {
        {"\"data\":{\"b\" : 1.50 ,\"a\":[]}", "\"data\":{\"b\" : 1.50 ,\"a\":[]}"},
        {"\"data\":null", "\"data\":null"},
        {"\"data\":\"caf\\u00e9 \\n\"", "\"data\":\"caf\xc3\xa9 \\n\""},
        {"\"data\":\"\"", "\"data\":\"\""},
        {"\"data\":\"AP8=\",\"encoding\":\"base64\"", "\"data\":\"AP8=\",\"encoding\":\"base64\""},
        {"\"data\":1,\"event\":\"tick\"", "\"event\":\"tick\",\"data\":1"},
    };
    struct peer *p = client(0), *q = peer_open(1, &dialect_ws_json, "a");
    forget(q);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "{\"op\":\"publish\",\"channel\":\"a\",%s,\"ref\":3}",
                 cases[i].said);
        say(p, text);
        expect(p, "{\"op\":\"ok\",\"ref\":3,\"channel\":\"a\",\"id\":\"%s\"}\n", cur("a", i + 1));
        expect_published(q, i + 1, id_of(p), cases[i].delivered);
    }
}

static void test_a_key_publishes_once(void **state)
{
    (void)state;
    struct peer *p = client(0);
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":1,\"key\":\"k\"}");
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":1,\"key\":\"k\",\"ref\":2}");
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":2,\"key\":\"k\",\"ref\":3}");
    expect(p,
           "{\"op\":\"ok\",\"channel\":\"a\",\"id\":\"%s\"}\n"
           "{\"op\":\"ok\",\"ref\":2,\"channel\":\"a\",\"id\":\"%s\",\"repeated\":true}\n"
           "{\"op\":\"error\",\"ref\":3,\"code\":\"idempotency_conflict\",\"message\":"
           "\"this key was used for another message\"}\n",
           cur("a", 1), cur("a", 1));
}

static void test_history_gives_envelopes_and_where_to_go_on(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        publish("few:a", i == 1 ? "two" : "x");
    struct peer *p = client(0);
    say_since(p, "history", cur("few:a", 1), ",\"limit\":1,\"ref\":5");
    expect(p,
           "{\"op\":\"ok\",\"ref\":5,\"channel\":\"few:a\",\"messages\":[{\"channel\":\"few:a\","
           "\"id\":\"%s\",\"data\":\"two\",\"time\":%llu}],\"cursor\":\"%s\",\"complete\":false}\n",
           cur("few:a", 2), (unsigned long long)WALL, cur("few:a", 2));
    say_since(p, "history", cur("few:a", 3), "");
    expect(p,
           "{\"op\":\"ok\",\"channel\":\"few:a\",\"messages\":[],\"cursor\":\"%s\","
           "\"complete\":true}\n",
           cur("few:a", 3));
}

static void test_history_backwards_begins_with_the_newest(void **state)
{
    (void)state;
    publish("few:a", "1");
    publish("few:a", "2");
    struct peer *p = client(0);
    say(p, "{\"op\":\"history\",\"channel\":\"few:a\",\"reverse\":true,\"limit\":1}");
    expect(
        p,
        "{\"op\":\"ok\",\"channel\":\"few:a\",\"messages\":[{\"channel\":\"few:a\",\"id\":\"%s\","
        "\"data\":\"2\",\"time\":%llu}],\"cursor\":\"%s\",\"complete\":false}\n",
        cur("few:a", 2), (unsigned long long)WALL, cur("few:a", 2));
}

static void test_presence_names_the_members(void **state)
{
    (void)state;
    struct peer *p = client(0);
    struct peer *q = peer_open(1, &dialect_ws_raw, "chat:x");
    say(p, "{\"op\":\"presence\",\"channel\":\"chat:x\",\"ref\":4}");
    expect(p,
           "{\"op\":\"ok\",\"ref\":4,\"channel\":\"chat:x\",\"members\":[{\"client\":\"%s\","
           "\"transport\":\"ws\",\"since\":%llu}],\"total\":1}\n",
           id_of(q), (unsigned long long)WALL);
    say(p, "{\"op\":\"presence\",\"channel\":\"a\",\"ref\":\"x\"}");
    expect(p, "{\"op\":\"error\",\"ref\":\"x\",\"code\":\"no_presence\",\"message\":"
              "\"this namespace keeps no presence\"}\n");
}

static void test_joins_and_leaves_are_told(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, "chat:x");
    forget(p);
    struct peer *q = peer_open(1, &dialect_ws_raw, "chat:x");
    expect(p, "{\"op\":\"join\",\"channel\":\"chat:x\",\"client\":\"%s\",\"subscribers\":2}\n",
           id_of(q));
    session_gone(&q->s);
    expect(p, "{\"op\":\"leave\",\"channel\":\"chat:x\",\"client\":\"%s\",\"subscribers\":1}\n",
           id_of(q));
}

/* ---- refusals ---- */

struct refusal {
    const char *said, *code;
};

static void expect_refusals(const struct refusal *r, size_t n)
{
    struct peer *p = client(0);
    for (size_t i = 0; i < n; i++) {
        char want[128];
        struct buf lines;
        say(p, r[i].said);
        buf_init(&lines, 65536);
        frames_as_lines(buf_slice(&p->got), &lines);
        assert_int_equal(lines.len, 0); /* not before the end of the turn */
        run();
        frames_as_lines(buf_slice(&p->got), &lines);
        buf_append_char(&lines, '\0');
        snprintf(want, sizeof(want), "{\"op\":\"error\",\"ref\":7,\"code\":\"%s\",\"message\":\"",
                 r[i].code);
        if (strncmp(lines.data, want, strlen(want)) != 0)
            fail_msg("%s answered %s", r[i].said, lines.data);
        assert_string_equal(strchr(lines.data, '\n'), "\n");
        buf_release(&lines);
        buf_clear(&p->got);
    }
    assert_int_equal(p->s.in_flight, 0);
    assert_int_equal(p->s.n_subs, 0);
}

#define C "\"channel\":\"a\",\"ref\":7"
static void test_every_refusal_has_its_code_and_the_ref(void **state)
{
    (void)state;
    static const struct refusal r[] = {
        {"{\"ref\":7}", "bad_op"},
        {"{\"op\":7,\"ref\":7}", "bad_op"},
        {"{\"op\":\"shout\",\"ref\":7}", "unknown_op"},
        {"{\"op\":\"auth\",\"token\":\"x\",\"ref\":7}", "auth_not_configured"},
        {"{\"op\":\"subscribe\",\"ref\":7}", "missing_channel"},
        {"{\"op\":\"unsubscribe\",\"ref\":7}", "missing_channel"},
        {"{\"op\":\"publish\",\"data\":1,\"ref\":7}", "missing_channel"},
        {"{\"op\":\"history\",\"ref\":7}", "missing_channel"},
        {"{\"op\":\"presence\",\"ref\":7}", "missing_channel"},
        {"{\"op\":\"subscribe\",\"channel\":5,\"ref\":7}", "bad_channel"},
        {"{\"op\":\"subscribe\",\"channel\":\"\",\"ref\":7}", "bad_channel"},
        {"{\"op\":\"subscribe\",\"channel\":\"a b\",\"ref\":7}", "bad_channel"},
        {"{\"op\":\"subscribe\",\"since\":\"x\"," C "}", "bad_cursor"},
        {"{\"op\":\"subscribe\",\"since\":5," C "}", "bad_cursor"},
        {"{\"op\":\"subscribe\",\"history\":-1," C "}", "bad_history"},
        {"{\"op\":\"subscribe\",\"history\":100001," C "}", "bad_history"},
        {"{\"op\":\"subscribe\",\"history\":\"5\"," C "}", "bad_history"},
        {"{\"op\":\"unsubscribe\"," C "}", "not_subscribed"},
        {"{\"op\":\"publish\"," C "}", "bad_body"},
        {"{\"op\":\"publish\",\"data\":1,\"event\":7," C "}", "bad_event"},
        {"{\"op\":\"publish\",\"data\":1,\"event\":\"crier.x\"," C "}", "bad_event"},
        {"{\"op\":\"publish\",\"data\":1,\"key\":\"\"," C "}", "bad_key"},
        {"{\"op\":\"publish\",\"data\":1,\"key\":\"a b\"," C "}", "bad_key"},
        {"{\"op\":\"publish\",\"data\":1,\"key\":7," C "}", "bad_key"},
        {"{\"op\":\"publish\",\"data\":1,\"echo\":0," C "}", "bad_parameter"},
        {"{\"op\":\"publish\",\"data\":\"%\",\"encoding\":\"base64\"," C "}", "bad_encoding"},
        {"{\"op\":\"publish\",\"data\":1,\"encoding\":\"base64\"," C "}", "bad_encoding"},
        {"{\"op\":\"publish\",\"data\":\"x\",\"encoding\":\"hex\"," C "}", "bad_encoding"},
        {"{\"op\":\"history\",\"limit\":0," C "}", "bad_limit"},
        {"{\"op\":\"history\",\"limit\":1001," C "}", "bad_limit"},
        {"{\"op\":\"history\",\"reverse\":\"yes\"," C "}", "bad_parameter"},
        {"{\"op\":\"history\",\"since\":\"x\"," C "}", "bad_cursor"},
        {"{\"op\":\"presence\",\"limit\":0," C "}", "bad_limit"},
    };
    expect_refusals(r, sizeof(r) / sizeof(r[0]));
}

static void test_what_is_no_command_has_no_ref(void **state)
{
    (void)state;
    static const char *const said[] = {"",
                                       "{",
                                       "[1]",
                                       "\"ping\"",
                                       "{\"op\":\"ping\"} {}",
                                       "null",
                                       "\xff",
                                       "{\"op\":\"ping\",\"op\":\"ping\"}"};
    struct peer *p = client(0);
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        say(p, said[i]);
        run();
        assert_true(p->got.len > 40);
        assert_int_equal(memcmp(p->got.data + 2, "{\"op\":\"error\",\"code\":\"bad_json\"", 31), 0);
        buf_clear(&p->got);
    }
    assert_int_equal(p->s.state, SESSION_OPEN);
}

#define DIGITS_60 "123456789012345678901234567890123456789012345678901234567890"
static void test_a_ref_comes_back_as_it_was(void **state)
{
    (void)state;
    /* the quotes count: 64 bytes fit, 65 do not */
    static const char *const good[] = {"0", "-1.5e3", "\"\"", "\"a\\u0041 \\\"\"",
                                       "\"" DIGITS_60 "12\""};
    static const char *const bad[] = {"null", "{}", "[1]", "true", "\"" DIGITS_60 "123\""};
    struct peer *p = client(0);
    char text[256];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        snprintf(text, sizeof(text), "{\"op\":\"ping\",\"ref\":%s}", good[i]);
        say(p, text);
        expect(p, "{\"op\":\"pong\",\"ref\":%s}\n", good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "{\"op\":\"ping\",\"ref\":%s}", bad[i]);
        say(p, text);
        expect(p, "{\"op\":\"error\",\"code\":\"bad_ref\",\"message\":"
                  "\"ref must be a string or a number of at most 64 bytes\"}\n");
    }
}

static void test_a_payload_over_the_limit_is_refused(void **state)
{
    (void)state;
    fx->opt.message_bytes = 10;
    struct peer *p = client(0);
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":\"0123456789\"}");
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":\"0123456789a\"}");
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":[1,2,3,4,5]}");
    const char too_large[] = "{\"op\":\"error\",\"code\":\"too_large\",\"message\":"
                             "\"data is larger than a message may be\"}\n";
    expect(p, "%s%s{\"op\":\"ok\",\"channel\":\"a\",\"id\":\"%s\"}\n", too_large, too_large,
           cur("a", 1));
}

static void test_binary_is_not_accepted(void **state)
{
    (void)state;
    struct peer *p = client(0);
    dialect_ws_json.received(&p->s, true, SLICE("{\"op\":\"ping\"}"));
    expect(p, "close 1003 binary frames are not accepted in format=json\n");
    assert_true(p->freed);
}

static void test_a_channel_is_subscribed_once(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, "a");
    forget(p);
    say(p, "{\"op\":\"subscribe\",\"channel\":\"a\",\"ref\":1}");
    run();
    expect(p, "{\"op\":\"error\",\"ref\":1,\"code\":\"already_subscribed\",\"message\":"
              "\"this connection listens to that channel already\"}\n");
    publish("a", "x");
    assert_int_equal(p->s.n_subs, 1);
    assert_true(p->got.len > 0);
}

static void test_a_connection_listens_to_128_channels(void **state)
{
    (void)state;
    struct peer *p = client(0);
    char text[64];
    for (int i = 0; i <= CURSOR_MAX_ENTRIES; i++) {
        snprintf(text, sizeof(text), "{\"op\":\"subscribe\",\"channel\":\"c%d\",\"ref\":%d}", i, i);
        assert_int_equal(p->s.n_subs, i);
        if (i == CURSOR_MAX_ENTRIES)
            forget(p);
        say(p, text);
        run();
    }
    expect(p, "{\"op\":\"error\",\"ref\":128,\"code\":\"too_many_channels\",\"message\":"
              "\"a WebSocket may listen to 128 channels\"}\n");
    say(p, "{\"op\":\"unsubscribe\",\"channel\":\"c5\"}");
    say(p, "{\"op\":\"subscribe\",\"channel\":\"c128\"}");
    expect(p,
           "{\"op\":\"ok\",\"channel\":\"c5\"}\n"
           "{\"op\":\"ok\",\"channel\":\"c128\",\"cursor\":\"%s\"}\n",
           cur("c128", 0));
}

/* ---- order ---- */

static void test_pipelined_commands_are_answered_in_order(void **state)
{
    (void)state;
    struct peer *p = client(0);
    say(p, "{\"op\":\"subscribe\",\"channel\":\"a\",\"ref\":1}");
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":1,\"ref\":2}");
    say(p, "{\"op\":\"unsubscribe\",\"channel\":\"a\",\"ref\":3}");
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":2,\"ref\":4}");
    say(p, "{\"op\":\"subscribe\",\"channel\":\"a\",\"ref\":5}");
    say(p, "{\"op\":\"history\",\"channel\":\"b\",\"ref\":6}");
    say(p, "{\"op\":\"publish\",\"channel\":\"a\",\"data\":3,\"ref\":7}");
    expect(p,
           "{\"op\":\"ok\",\"ref\":1,\"channel\":\"a\",\"cursor\":\"%s\"}\n"
           "{\"op\":\"ok\",\"ref\":2,\"channel\":\"a\",\"id\":\"%s\"}\n"
           "{\"op\":\"ok\",\"ref\":3,\"channel\":\"a\"}\n"
           "{\"op\":\"ok\",\"ref\":4,\"channel\":\"a\",\"id\":\"%s\"}\n"
           "{\"op\":\"ok\",\"ref\":5,\"channel\":\"a\",\"cursor\":\"%s\"}\n"
           "{\"op\":\"ok\",\"ref\":6,\"channel\":\"b\",\"messages\":[],\"cursor\":\"%s\","
           "\"complete\":true}\n"
           "{\"op\":\"message\",\"channel\":\"a\",\"id\":\"%s\",\"data\":3,\"time\":%llu,"
           "\"client\":\"%s\"}\n"
           "{\"op\":\"ok\",\"ref\":7,\"channel\":\"a\",\"id\":\"%s\"}\n",
           cur("a", 0), cur("a", 1), cur("a", 2), cur("a", 2), cur("b", 0), cur("a", 3),
           (unsigned long long)WALL, id_of(p), cur("a", 3));
}

static void test_raw_publishes_what_it_is_sent(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_raw, "a"), *q = peer_open(1, &dialect_ws_json, "a");
    forget(q);
    dialect_ws_raw.received(&p->s, false, SLICE("{\"n\":1}"));
    dialect_ws_raw.received(&p->s, false, SLICE("{\"n\""));
    dialect_ws_raw.received(&p->s, true, SLICE("{\"n\":1}"));
    const unsigned long long t = WALL;
    expect(
        q,
        "{\"op\":\"message\",\"channel\":\"a\",\"id\":\"%s\",\"data\":{\"n\":1},\"time\":%llu,"
        "\"client\":\"%s\"}\n"
        "{\"op\":\"message\",\"channel\":\"a\",\"id\":\"%s\",\"data\":\"{\\\"n\\\"\",\"time\":%llu,"
        "\"client\":\"%s\"}\n"
        "{\"op\":\"message\",\"channel\":\"a\",\"id\":\"%s\",\"data\":\"eyJuIjoxfQ==\","
        "\"encoding\":\"base64\",\"time\":%llu,\"client\":\"%s\"}\n",
        cur("a", 1), t, id_of(p), cur("a", 2), t, id_of(p), cur("a", 3), t, id_of(p));
    expect(p, "{\"n\":1}\n{\"n\"\nopcode 2 {\"n\":1}\n");
}

int main(void)
{
    json_init();
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(test_ping),
        T(test_subscribe_answers_the_start_and_then_what_follows),
        T(test_subscribe_since_outranks_history_and_says_the_gap),
        T(test_unsubscribe_ends_the_messages),
        T(test_publish_forwards_the_value_as_it_is),
        T(test_a_key_publishes_once),
        T(test_history_gives_envelopes_and_where_to_go_on),
        T(test_history_backwards_begins_with_the_newest),
        T(test_presence_names_the_members),
        T(test_joins_and_leaves_are_told),
        T(test_every_refusal_has_its_code_and_the_ref),
        T(test_what_is_no_command_has_no_ref),
        T(test_a_ref_comes_back_as_it_was),
        T(test_a_payload_over_the_limit_is_refused),
        T(test_binary_is_not_accepted),
        T(test_a_channel_is_subscribed_once),
        T(test_a_connection_listens_to_128_channels),
        T(test_pipelined_commands_are_answered_in_order),
        T(test_raw_publishes_what_it_is_sent),
    };
    return cmocka_run_group_tests_name("ws_commands", tests, NULL, NULL);
}
