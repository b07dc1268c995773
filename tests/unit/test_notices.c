/* The texts that all dialects share, and the reading of JSON payloads and keys. */
#include "hub_fixture.h"

static struct buf text;

static void expect_text(const char *want)
{
    assert_false(text.failed);
    buf_append_char(&text, '\0');
    assert_string_equal(text.data, want);
    buf_clear(&text);
}

static int set_up_text(void **state)
{
    buf_init(&text, 1 << 20);
    return set_up(state);
}

static int tear_down_text(void **state)
{
    buf_release(&text);
    return tear_down(state);
}

static struct position at(uint64_t offset)
{
    return (struct position){.epoch = fx->epoch, .offset = offset};
}

static const char *format(const char *fmt, ...) PRINTF_LIKE(1, 2);
static const char *format(const char *fmt, ...)
{
    static char out[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(out, sizeof(out), fmt, ap);
    va_end(ap);
    return out;
}

static void test_a_gap_says_since_and_cursor(void **state)
{
    (void)state;
    notice_gap(&text, SLICE("a"), GAP_EPOCH, at(3), at(9));
    expect_text(format("\"channel\":\"a\",\"reason\":\"epoch\",\"since\":\"%s\",\"cursor\":\"%s\"",
                       cur("a", 3), cur("a", 9)));
    notice_gap(&text, SLICE("a"), GAP_NO_POSITION, at(3), at(9));
    expect_text(
        format("\"channel\":\"a\",\"reason\":\"no_position\",\"cursor\":\"%s\"", cur("a", 9)));
}

static void test_ready_names_channels_in_the_order_of_the_request(void **state)
{
    (void)state;
    publish("b", "x");
    struct peer *p = peer_init(0, &dialect_ws_raw);
    struct sub_request req[2] = {at_now("b"), at_now("a")};
    assert_int_equal(session_open(&p->s, req, 2), ERR_OK);
    run();
    notice_ready(&text, &p->s, ",\"more\":1");
    expect_text(
        format("\"client\":\"%s\",\"more\":1,\"cursor\":\"%s~%s\",\"channels\":[{\"channel\":\"b\","
               "\"cursor\":\"%s\"},{\"channel\":\"a\",\"cursor\":\"%s\"}]",
               id_of(p), cur("b", 1), cur("a", 0), cur("b", 1), cur("a", 0)));
}

static void test_ready_is_silent_about_a_subscribe_without_an_answer(void **state)
{
    (void)state;
    struct peer *p = peer_open(0, &dialect_ws_json, "a");
    say(p, "{\"op\":\"subscribe\",\"channel\":\"b\"}");
    notice_ready(&text, &p->s, "");
    expect_text(format("\"client\":\"%s\",\"cursor\":\"%s\",\"channels\":[{\"channel\":\"a\","
                       "\"cursor\":\"%s\"}]",
                       id_of(p), cur("a", 0), cur("a", 0)));
}

static void test_presence_names_members_with_and_without_a_user(void **state)
{
    (void)state;
    char user[] = "an\"na", id[2][CLIENT_ID_BYTES];
    struct bus_member m[2] = {{.client = 77, .transport = "sse", .since_ms = 5},
                              {.client = 78, .transport = "ws", .since_ms = 6, .user = user}};
    struct bus_presence p = {.member = m, .count = 2, .total = 9};
    client_id_text(77, id[0]);
    client_id_text(78, id[1]);
    notice_presence(&text, &p);
    expect_text(format("\"members\":[{\"client\":\"%s\",\"transport\":\"sse\",\"since\":5},"
                       "{\"client\":\"%s\",\"user\":\"an\\\"na\",\"transport\":\"ws\","
                       "\"since\":6}],\"total\":9",
                       id[0], id[1]));
    p.count = p.total = 0;
    notice_presence(&text, &p);
    expect_text("\"members\":[],\"total\":0");
}

static void test_history_without_messages_goes_on_where_it_began(void **state)
{
    (void)state;
    struct catch_up cu = {.start = at(4), .head = at(9)};
    notice_history(&text, SLICE("a"), &cu);
    expect_text(format("\"messages\":[],\"cursor\":\"%s\",\"complete\":false", cur("a", 4)));
    cu = (struct catch_up){.start = at(4), .since = at(2), .complete = true, .gap = GAP_EXPIRED};
    notice_history(&text, SLICE("a"), &cu);
    expect_text(format("\"messages\":[],\"cursor\":\"%s\",\"complete\":true,\"gap\":{"
                       "\"channel\":\"a\",\"reason\":\"expired\",\"since\":\"%s\","
                       "\"cursor\":\"%s\"}",
                       cur("a", 4), cur("a", 2), cur("a", 4)));
}

static void test_history_goes_on_after_its_last_message(void **state)
{
    (void)state;
    struct msg_draft d = {.channel = SLICE("a"), .payload = SLICE("[1]"), .kind = MSG_JSON};
    struct msg *m[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(msg_new(&d, &m[i]), ERR_OK);
        msg_order(m[i], at((uint64_t)i + 5), 7);
    }
    struct catch_up cu = {.start = at(4), .msgs = m, .count = 2, .complete = true};
    notice_history(&text, SLICE("a"), &cu);
    expect_text(format("\"messages\":[{\"channel\":\"a\",\"id\":\"%s\",\"data\":[1],\"time\":7},"
                       "{\"channel\":\"a\",\"id\":\"%s\",\"data\":[1],\"time\":7}],"
                       "\"cursor\":\"%s\",\"complete\":true",
                       cur("a", 5), cur("a", 6), cur("a", 6)));
    msg_unref(m[0]);
    msg_unref(m[1]);
}

/* ---- payloads ---- */

static void expect_payload(const char *data, const char *encoding, enum msg_kind kind,
                           struct slice want)
{
    struct buf scratch;
    struct slice payload;
    enum msg_kind got;
    const char *code, *what;
    buf_init(&scratch, 100);
    assert_int_equal(payload_of_json(slice_str(data), slice_str(encoding), &scratch, &payload, &got,
                                     &code, &what),
                     ERR_OK);
    assert_int_equal(got, kind);
    assert_true(slice_eq(payload, want));
    buf_release(&scratch);
}

static void test_a_json_value_is_its_own_payload_and_a_string_is_text(void **state)
{
    (void)state;
    expect_payload("{\"a\": 1}", NULL, MSG_JSON, SLICE("{\"a\": 1}"));
    expect_payload("null", NULL, MSG_JSON, SLICE("null"));
    expect_payload("\"a\\nb\"", NULL, MSG_TEXT, SLICE("a\nb"));
    expect_payload("\"\"", NULL, MSG_TEXT, SLICE_NONE);
    expect_payload("\"AAEC\"", "\"base64\"", MSG_BINARY, SLICE("\0\1\2"));
    expect_payload("\"\"", "\"base64\"", MSG_BINARY, SLICE_NONE);
}

static void expect_bad_payload(const char *data, const char *encoding, const char *want)
{
    struct buf scratch;
    struct slice payload;
    enum msg_kind kind;
    const char *code = "", *what = "";
    buf_init(&scratch, 10);
    assert_int_not_equal(payload_of_json(slice_str(data), slice_str(encoding), &scratch, &payload,
                                         &kind, &code, &what),
                         ERR_OK);
    assert_string_equal(code, want);
    assert_true(strlen(what) > 10);
    buf_release(&scratch);
}

static void test_bad_payloads(void **state)
{
    (void)state;
    expect_bad_payload("\"longer than ten\"", NULL, "too_large");
    expect_bad_payload("\"AAE\"", "\"base64\"", "bad_encoding");
    expect_bad_payload("\"AAF=\"", "\"base64\"", "bad_encoding");
    expect_bad_payload("[]", "\"base64\"", "bad_encoding");
    expect_bad_payload("\"x\"", "\"\"", "bad_encoding");
    expect_bad_payload("\"x\"", "7", "bad_encoding");
}

static void test_idempotency_keys(void **state)
{
    (void)state;
    char key[130];
    memset(key, 'k', sizeof(key));
    assert_true(idempotency_key_is_valid(slice_of(key, 1)));
    assert_true(idempotency_key_is_valid(slice_of(key, 128)));
    assert_true(idempotency_key_is_valid(SLICE("!~\"\\")));
    assert_false(idempotency_key_is_valid(slice_of(key, 129)));
    assert_false(idempotency_key_is_valid(SLICE_NONE));
    assert_false(idempotency_key_is_valid(SLICE("a b")));
    assert_false(idempotency_key_is_valid(SLICE("a\x7f")));
    assert_false(idempotency_key_is_valid(SLICE("caf\xc3\xa9")));
    assert_false(idempotency_key_is_valid(SLICE("a\0b")));
}

int main(void)
{
    json_init();
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_text, tear_down_text)
    static const struct CMUnitTest tests[] = {
        T(test_a_gap_says_since_and_cursor),
        T(test_ready_names_channels_in_the_order_of_the_request),
        T(test_ready_is_silent_about_a_subscribe_without_an_answer),
        T(test_presence_names_members_with_and_without_a_user),
        T(test_history_without_messages_goes_on_where_it_began),
        T(test_history_goes_on_after_its_last_message),
        T(test_a_json_value_is_its_own_payload_and_a_string_is_text),
        T(test_bad_payloads),
        T(test_idempotency_keys),
    };
    return cmocka_run_group_tests_name("notices", tests, NULL, NULL);
}
