/* test_ws_offer.c - Sec-WebSocket-Extensions: what is taken, what is declined, what is broken. */
#include "../../src/http/ws_offer.h"

#include "crier/deflate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TAKEN "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

static void assert_offer(const char *header, enum msg_coding coding, const char *answer)
{
    struct ws_offer o;
    if (ws_offer_choose(slice_str(header), &o) || o.coding != coding || strcmp(o.answer, answer))
        fail_msg("\"%s\": coding %d, answer \"%s\"", header, (int)o.coding, o.answer);
}

static void test_taken(void **state)
{
    static const char *const offers[] = {
        "permessage-deflate",
        "PerMessage-Deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate;client_max_window_bits=8",
        "permessage-deflate ;\tclient_max_window_bits = \"15\" ",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits=\"1\\0\"",
        " , ,permessage-deflate,, ",
        "x-webkit-deflate-frame, permessage-deflate",
        ("foo; bar=baz; qux=\"a\\b\"; bar, permessage-deflate, permessage-deflate; "
         "server_max_window_bits=9"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
        assert_offer(offers[i], CODING_DEFLATE, TAKEN);
}

static void test_windows(void **state)
{
    (void)state;
    assert_offer("permessage-deflate; server_max_window_bits=15", CODING_DEFLATE,
                 TAKEN "; server_max_window_bits=15");
    assert_offer("permessage-deflate; server_max_window_bits=14", CODING_NARROW,
                 TAKEN "; server_max_window_bits=14");
    assert_offer("permessage-deflate; server_max_window_bits=\"9\"; client_max_window_bits",
                 CODING_NARROW, TAKEN "; server_max_window_bits=9");
    deflate_configure(6, 12);
    assert_offer("permessage-deflate; server_max_window_bits=12", CODING_DEFLATE,
                 TAKEN "; server_max_window_bits=12");
    assert_offer("permessage-deflate; server_max_window_bits=11", CODING_NARROW,
                 TAKEN "; server_max_window_bits=11");
    deflate_configure(6, 15);
}

static void test_declined(void **state)
{
    static const char *const offers[] = {
        "",
        " , ",
        "x-webkit-deflate-frame",
        "permessage-bzip2; a=b",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8", /* zlib cannot */
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=99999999999999999999999",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=abc",
        ("permessage-deflate; client_max_window_bits="
         "\"1000000000000000000000000000000000000000000000000\""),
    };
    (void)state;
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
        assert_offer(offers[i], CODING_PLAIN, "");
}

static void test_the_first_good_one_of_several(void **state)
{
    (void)state;
    assert_offer("permessage-deflate; server_max_window_bits=8, permessage-deflate", CODING_DEFLATE,
                 TAKEN);
    assert_offer("permessage-deflate; server_max_window_bits=10, permessage-deflate", CODING_NARROW,
                 TAKEN "; server_max_window_bits=10");
    assert_offer("permessage-deflate; nonsense, permessage-deflate; server_max_window_bits=7, "
                 "permessage-deflate; client_max_window_bits",
                 CODING_DEFLATE, TAKEN);
}

static void test_broken(void **state)
{
    static const char *const broken[] = {
        ";",
        "=",
        "permessage-deflate;",
        "permessage-deflate; ;",
        "permessage-deflate; a=",
        "permessage-deflate; a=\"",
        "permessage-deflate; a=\"\"",
        "permessage-deflate; a=\"b",
        "permessage-deflate; a=\"b\\",
        "permessage-deflate; a=\"b c\"",
        "permessage-deflate; a=\"b\"c",
        "permessage-deflate permessage-deflate",
        "permessage-deflate; a b",
        "permessage-deflate; =1",
        "permessage deflate",
        "permessage-deflate, \"quoted\"",
        "permessage-deflate; a==b",
        "permessage-deflate/1",
        "permessage-deflate; \x01",
        "p\xc3\xa4",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        struct ws_offer o;
        if (ws_offer_choose(slice_str(broken[i]), &o) != ERR_SYNTAX)
            fail_msg("\"%s\"", broken[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),    cmocka_unit_test(test_windows),
        cmocka_unit_test(test_declined), cmocka_unit_test(test_the_first_good_one_of_several),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
