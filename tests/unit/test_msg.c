/* Messages, the exact bytes of their forms, kinds of bodies, client ids. */
#include "crier/msg.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

static struct msg *make(const struct msg_draft *d)
{
    struct msg *m;
    assert_int_equal(msg_new(d, &m), ERR_OK);
    msg_order(m, (struct position){.epoch = 5, .offset = 7}, 1760000000123);
    return m;
}

static void expect_bytes(const struct encoded *e, struct slice want)
{
    assert_non_null(e);
    assert_int_equal(e->len, want.len);
    assert_memory_equal(e->bytes, want.ptr, want.len);
}

static void expect_form(const struct msg_draft *d, enum msg_form form, struct slice want)
{
    struct msg *m = make(d);
    expect_bytes(msg_encoded(m, form), want);
    msg_unref(m);
}

/* SSE forms begin with the id line, whose length is said. */
static void expect_sse(const struct msg_draft *d, enum msg_form form, struct slice want)
{
    struct msg *m = make(d);
    expect_bytes(msg_encoded(m, form), want);
    assert_int_equal(msg_encoded(m, form)->id_len, sizeof "id: grGdAAAAFH\n" - 1);
    msg_unref(m);
}

static struct msg_draft text(struct slice payload)
{
    return (struct msg_draft){.channel = SLICE("a"), .payload = payload, .kind = MSG_TEXT};
}

static struct msg_draft json(struct slice payload)
{
    return (struct msg_draft){.channel = SLICE("a"), .payload = payload, .kind = MSG_JSON};
}

static struct msg_draft binary(struct slice payload)
{
    return (struct msg_draft){.channel = SLICE("a"), .payload = payload, .kind = MSG_BINARY};
}

static void test_a_message_copies_its_draft(void **state)
{
    (void)state;
    char channel[] = "chat:lobby", payload[] = "hello", type[] = "text/plain", event[] = "e",
         user[] = "ann";
    struct msg_draft d = {
        .channel = slice_str(channel),
        .payload = slice_str(payload),
        .kind = MSG_TEXT,
        .content_type = slice_str(type),
        .event = slice_str(event),
        .user = slice_str(user),
        .client = 3,
        .exclude_client = true,
    };
    struct msg *m = make(&d);
    memset(channel, 0, sizeof channel);
    memset(payload, 0, sizeof payload);
    memset(type, 0, sizeof type);
    memset(event, 0, sizeof event);
    memset(user, 0, sizeof user);
    assert_true(slice_eq(m->channel, SLICE("chat:lobby")));
    assert_true(slice_eq(m->payload, SLICE("hello")));
    assert_true(slice_eq(m->content_type, SLICE("text/plain")));
    assert_true(slice_eq(m->event, SLICE("e")));
    assert_true(slice_eq(m->user, SLICE("ann")));
    assert_int_equal(m->client, 3);
    assert_true(m->exclude_client);
    assert_int_equal(m->channel_tag, cursor_tag(SLICE("chat:lobby")));
    assert_int_equal(m->pos.offset, 7);
    msg_unref(m);
    msg_unref(NULL);
}

static void test_absurd_lengths_are_out_of_memory(void **state)
{
    (void)state;
    struct msg *m = NULL;
    struct msg_draft d = {.channel = SLICE("a"), .payload = {"x", SIZE_MAX - 8}};
    assert_int_equal(msg_new(&d, &m), ERR_NOMEM);
    assert_null(m);
}

static void test_envelope_with_and_without_optional_members(void **state)
{
    (void)state;
    struct msg_draft d = json(SLICE("{\"x\": [1,2.50]}"));
    expect_form(&d, FORM_ENVELOPE,
                SLICE("{\"channel\":\"a\",\"id\":\"grGdAAAAFH\",\"data\":{\"x\": [1,2.50]},"
                      "\"time\":1760000000123}"));
    d.event = SLICE("tick \"1\"");
    d.user = SLICE("ann\\e");
    d.client = 0xdeadbeefcafe1234;
    expect_form(&d, FORM_ENVELOPE,
                SLICE("{\"channel\":\"a\",\"id\":\"grGdAAAAFH\",\"event\":\"tick \\\"1\\\"\","
                      "\"data\":{\"x\": [1,2.50]},\"time\":1760000000123,"
                      "\"user\":\"ann\\\\e\",\"client\":\"cN6tvu_K_hI0\"}"));
}

static void test_envelope_of_text_and_binary(void **state)
{
    (void)state;
    struct msg_draft d = text(SLICE("say \"hi\"\r\n\\\x01\xc3\xa9"));
    expect_form(&d, FORM_ENVELOPE,
                SLICE("{\"channel\":\"a\",\"id\":\"grGdAAAAFH\","
                      "\"data\":\"say \\\"hi\\\"\\r\\n\\\\\\u0001\xc3\xa9\","
                      "\"time\":1760000000123}"));
    d = binary(SLICE("\x00\xff\xfe!"));
    expect_form(&d, FORM_ENVELOPE,
                SLICE("{\"channel\":\"a\",\"id\":\"grGdAAAAFH\",\"data\":\"AP/+IQ==\","
                      "\"encoding\":\"base64\",\"time\":1760000000123}"));
    d = text(SLICE_NONE);
    expect_form(&d, FORM_ENVELOPE,
                SLICE("{\"channel\":\"a\",\"id\":\"grGdAAAAFH\",\"data\":\"\","
                      "\"time\":1760000000123}"));
}

static void test_sse_raw_splits_at_cr_lf_and_crlf(void **state)
{
    (void)state;
#define ID "id: grGdAAAAFH\n"
    static const struct {
        struct slice payload, want;
    } cases[] = {
        {SLICE("one"), SLICE(ID "data: one\n\n")},
        {SLICE(""), SLICE(ID "data: \n\n")},
        {SLICE("a\nb"), SLICE(ID "data: a\ndata: b\n\n")},
        {SLICE("a\rb"), SLICE(ID "data: a\ndata: b\n\n")},
        {SLICE("a\r\nb"), SLICE(ID "data: a\ndata: b\n\n")},
        {SLICE("a\n\rb"), SLICE(ID "data: a\ndata: \ndata: b\n\n")},
        {SLICE("a\r\r\nb"), SLICE(ID "data: a\ndata: \ndata: b\n\n")},
        {SLICE("a\n"), SLICE(ID "data: a\ndata: \n\n")},
        {SLICE("a\r"), SLICE(ID "data: a\ndata: \n\n")},
        {SLICE("\r\n"), SLICE(ID "data: \ndata: \n\n")},
        {SLICE(" a: \0b"), SLICE(ID "data:  a: \0b\n\n")},
        {SLICE("x\nid: 9\nevent: y\n\nz"),
         SLICE(ID "data: x\ndata: id: 9\ndata: event: y\ndata: \ndata: z\n\n")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct msg_draft d = text(cases[i].payload);
        expect_sse(&d, FORM_SSE_RAW, cases[i].want);
    }
}

static void test_sse_raw_event_and_binary(void **state)
{
    (void)state;
    struct msg_draft d = json(SLICE("[1]"));
    d.event = SLICE(" tick");
    expect_sse(&d, FORM_SSE_RAW, SLICE(ID "event:  tick\ndata: [1]\n\n"));
    d = binary(SLICE("\x00\xff\xfe!"));
    expect_sse(&d, FORM_SSE_RAW, SLICE(ID "data: AP/+IQ==\n\n"));
}

static void test_sse_json_is_the_envelope_without_event_line(void **state)
{
    (void)state;
    struct msg_draft d = json(SLICE("{\r\n\"x\":\n1}"));
    d.event = SLICE("tick");
    expect_sse(&d, FORM_SSE_JSON,
               SLICE(ID "data: {\"channel\":\"a\",\"id\":\"grGdAAAAFH\",\"event\":\"tick\","
                        "\"data\":{\ndata: \"x\":\ndata: 1},\"time\":1760000000123}\n\n"));
}

static void test_ws_json_is_one_unmasked_text_frame(void **state)
{
    (void)state;
    struct msg_draft d = json(SLICE("1"));
    expect_form(&d, FORM_WS_JSON,
                SLICE("\x81\x4e{\"op\":\"message\",\"channel\":\"a\",\"id\":\"grGdAAAAFH\","
                      "\"data\":1,\"time\":1760000000123}"));
}

static void test_ws_raw_is_a_text_or_binary_frame(void **state)
{
    (void)state;
    struct msg_draft d = text(SLICE("hi"));
    expect_form(&d, FORM_WS_RAW, SLICE("\x81\x02hi"));
    d = json(SLICE("{}"));
    expect_form(&d, FORM_WS_RAW, SLICE("\x81\x02{}"));
    d = binary(SLICE("\x00"));
    expect_form(&d, FORM_WS_RAW, SLICE("\x82\x01\x00"));
    d = binary(SLICE_NONE);
    expect_form(&d, FORM_WS_RAW, SLICE("\x82\x00"));
}

static void test_large_messages_have_exact_sizes(void **state)
{
    (void)state;
    const size_t n = 70000;
    char *bytes = malloc(n);
    assert_non_null(bytes);
    memset(bytes, 'x', n);
    struct msg_draft d = text(slice_of(bytes, n));
    struct msg *m = make(&d);
    assert_int_equal(msg_encoded(m, FORM_WS_RAW)->len, n + 10);
    assert_int_equal(msg_encoded(m, FORM_SSE_RAW)->len, n + strlen(ID "data: \n\n"));
    size_t envelope = msg_encoded(m, FORM_ENVELOPE)->len;
    assert_int_equal(msg_encoded(m, FORM_WS_JSON)->len,
                     10 + envelope + strlen("\"op\":\"message\","));
    msg_unref(m);
    free(bytes);
}

static void test_frame_header_lengths(void **state)
{
    (void)state;
    static const struct {
        uint64_t len;
        struct slice want;
    } cases[] = {
        {0, SLICE("\x81\x00")},
        {125, SLICE("\x81\x7d")},
        {126, SLICE("\x81\x7e\x00\x7e")},
        {65535, SLICE("\x81\x7e\xff\xff")},
        {65536, SLICE("\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t h[10];
        size_t n = ws_frame_header(h, 1, cases[i].len);
        assert_true(slice_eq(slice_of(h, n), cases[i].want));
    }
}

static void test_a_form_is_made_once(void **state)
{
    (void)state;
    struct msg_draft d = text(SLICE("hi"));
    struct msg *m = make(&d);
    for (enum msg_form f = 0; f < FORM_COUNT; f++)
        assert_ptr_equal(msg_encoded(m, f), msg_encoded(m, f));
    msg_unref(m);
}

struct race {
    struct msg *msg;
    pthread_barrier_t *start;
    const struct encoded *seen[FORM_COUNT];
};

static void *run_race(void *arg)
{
    struct race *r = arg;
    pthread_barrier_wait(r->start);
    for (enum msg_form f = 0; f < FORM_COUNT; f++)
        r->seen[f] = msg_encoded(r->msg, f);
    return NULL;
}

static void test_racing_threads_get_the_same_form(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct msg_draft d = text(SLICE("race"));
        struct msg *m = make(&d);
        pthread_barrier_t start;
        pthread_t thread[4];
        struct race race[4];
        pthread_barrier_init(&start, NULL, 4);
        for (int i = 0; i < 4; i++) {
            race[i] = (struct race){.msg = msg_ref(m), .start = &start};
            assert_int_equal(pthread_create(&thread[i], NULL, run_race, &race[i]), 0);
        }
        for (int i = 0; i < 4; i++)
            pthread_join(thread[i], NULL);
        for (int i = 1; i < 4; i++)
            for (enum msg_form f = 0; f < FORM_COUNT; f++)
                assert_ptr_equal(race[i].seen[f], race[0].seen[f]);
        for (int i = 0; i < 5; i++)
            msg_unref(m);
        pthread_barrier_destroy(&start);
    }
}

static enum err event(struct slice s)
{
    const char *why = NULL;
    enum err e = msg_event_check(s, &why);
    assert_int_equal(e != ERR_OK, why != NULL);
    return e;
}

static void test_event_names(void **state)
{
    (void)state;
    char long_name[65];
    memset(long_name, 'e', sizeof long_name);
    assert_int_equal(event(SLICE("price change")), ERR_OK);
    assert_int_equal(event(SLICE("caf\xc3\xa9 \xc2\xa0")), ERR_OK);
    assert_int_equal(event(SLICE("crier")), ERR_OK);
    assert_int_equal(event(slice_of(long_name, 64)), ERR_OK);
    assert_int_equal(event(slice_of(long_name, 65)), ERR_SYNTAX);
    assert_int_equal(event(SLICE_NONE), ERR_SYNTAX);
    assert_int_equal(event(SLICE("crier.ready")), ERR_SYNTAX);
    assert_int_equal(event(SLICE("a\nb")), ERR_SYNTAX);
    assert_int_equal(event(SLICE("a\rb")), ERR_SYNTAX);
    assert_int_equal(event(SLICE("a\0b")), ERR_SYNTAX);
    assert_int_equal(event(SLICE("a\x7f")), ERR_SYNTAX);
    assert_int_equal(event(SLICE("a\xc2\x85")), ERR_SYNTAX);
    assert_int_equal(event(SLICE("a\xff")), ERR_SYNTAX);
}

/* The kind, or -1 when it is refused. */
static int kind(struct slice type, struct slice body)
{
    enum msg_kind k = MSG_BINARY;
    size_t offset = 99;
    const char *what = NULL;
    enum err e = msg_kind_of(type, body, &k, &offset, &what);
    if (e == ERR_OK)
        return (int)k;
    assert_int_equal(e, ERR_SYNTAX);
    assert_non_null(what);
    assert_in_range(offset, 0, body.len);
    return -1;
}

static void test_declared_json_must_be_json(void **state)
{
    (void)state;
    assert_int_equal(kind(SLICE("application/json"), SLICE("42")), MSG_JSON);
    assert_int_equal(kind(SLICE(" Application/JSON ; charset=utf-8"), SLICE("{}")), MSG_JSON);
    assert_int_equal(kind(SLICE("application/vnd.x+json"), SLICE("[1]")), MSG_JSON);
    assert_int_equal(kind(SLICE("application/json"), SLICE("{\"a\":")), -1);
    assert_int_equal(kind(SLICE("application/json"), SLICE_NONE), -1);
    assert_int_equal(kind(SLICE("application/cloud+json"), SLICE("no")), -1);
    assert_int_equal(kind(SLICE("application/json"), SLICE("\"\xff\"")), -1);
}

static void test_text_is_text_when_it_is_utf8(void **state)
{
    (void)state;
    assert_int_equal(kind(SLICE("text/plain"), SLICE("{\"a\":1}")), MSG_TEXT);
    assert_int_equal(kind(SLICE("TEXT/html; charset=x"), SLICE("<p>")), MSG_TEXT);
    assert_int_equal(kind(SLICE("text/plain"), SLICE("\xff")), MSG_BINARY);
    assert_int_equal(kind(SLICE("text/plain"), SLICE_NONE), MSG_TEXT);
}

static void test_undeclared_bodies_are_looked_at(void **state)
{
    (void)state;
    const struct slice form = SLICE("application/x-www-form-urlencoded");
    assert_int_equal(kind(SLICE_NONE, SLICE(" \n{\"a\":1} ")), MSG_JSON);
    assert_int_equal(kind(form, SLICE("[1,2]")), MSG_JSON);
    assert_int_equal(kind(form, SLICE("{\"a\":")), MSG_TEXT);
    assert_int_equal(kind(form, SLICE("42")), MSG_TEXT);
    assert_int_equal(kind(form, SLICE("a=b")), MSG_TEXT);
    assert_int_equal(kind(SLICE_NONE, SLICE_NONE), MSG_TEXT);
    assert_int_equal(kind(SLICE_NONE, SLICE("\xfe")), MSG_BINARY);
}

static void test_all_else_is_binary(void **state)
{
    (void)state;
    assert_int_equal(kind(SLICE("application/octet-stream"), SLICE("abc")), MSG_BINARY);
    assert_int_equal(kind(SLICE("image/png"), SLICE("{}")), MSG_BINARY);
    assert_int_equal(kind(SLICE("jsonp"), SLICE("{}")), MSG_BINARY);
}

static void test_client_ids(void **state)
{
    (void)state;
    static const struct {
        uint64_t id;
        const char *text;
    } cases[] = {
        {0, "cAAAAAAAAAAA"},
        {1, "cAAAAAAAAAAB"},
        {0xdeadbeefcafe1234, "cN6tvu_K_hI0"},
        {UINT64_MAX, "cP__________"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[CLIENT_ID_BYTES];
        uint64_t id = 5;
        client_id_text(cases[i].id, out);
        assert_string_equal(out, cases[i].text);
        assert_int_equal(client_id_parse(slice_str(out), &id), ERR_OK);
        assert_true(id == cases[i].id);
    }
    uint64_t id;
    assert_int_equal(client_id_parse(SLICE_NONE, &id), ERR_SYNTAX);
    assert_int_equal(client_id_parse(SLICE("cAAAAAAAAAA"), &id), ERR_SYNTAX);
    assert_int_equal(client_id_parse(SLICE("cAAAAAAAAAAAA"), &id), ERR_SYNTAX);
    assert_int_equal(client_id_parse(SLICE("xAAAAAAAAAAA"), &id), ERR_SYNTAX);
    assert_int_equal(client_id_parse(SLICE("cAAAAAAAAAA+"), &id), ERR_SYNTAX);
    assert_int_equal(client_id_parse(SLICE("cAAAAAAAAAA\0"), &id), ERR_SYNTAX);
    assert_int_equal(client_id_parse(SLICE("cQAAAAAAAAAA"), &id), ERR_SYNTAX); /* 2^64 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_copies_its_draft),
        cmocka_unit_test(test_absurd_lengths_are_out_of_memory),
        cmocka_unit_test(test_envelope_with_and_without_optional_members),
        cmocka_unit_test(test_envelope_of_text_and_binary),
        cmocka_unit_test(test_sse_raw_splits_at_cr_lf_and_crlf),
        cmocka_unit_test(test_sse_raw_event_and_binary),
        cmocka_unit_test(test_sse_json_is_the_envelope_without_event_line),
        cmocka_unit_test(test_ws_json_is_one_unmasked_text_frame),
        cmocka_unit_test(test_ws_raw_is_a_text_or_binary_frame),
        cmocka_unit_test(test_large_messages_have_exact_sizes),
        cmocka_unit_test(test_frame_header_lengths),
        cmocka_unit_test(test_a_form_is_made_once),
        cmocka_unit_test(test_racing_threads_get_the_same_form),
        cmocka_unit_test(test_event_names),
        cmocka_unit_test(test_declared_json_must_be_json),
        cmocka_unit_test(test_text_is_text_when_it_is_utf8),
        cmocka_unit_test(test_undeclared_bodies_are_looked_at),
        cmocka_unit_test(test_all_else_is_binary),
        cmocka_unit_test(test_client_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
