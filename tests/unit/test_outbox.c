/* The ring of what one client still has to receive: its inline slot, its gate, what is dropped. */
#include "crier/outbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h wants setjmp, stdarg and stddef */
#include <cmocka.h>

static struct outbox box;

static int set_up(void **state)
{
    (void)state;
    outbox_init(&box, FORM_WS_RAW);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    outbox_release(&box);
    return 0;
}

static struct msg *message(const char *channel, const char *text)
{
    struct msg_draft d = {
        .channel = slice_str(channel), .payload = slice_str(text), .kind = MSG_TEXT};
    struct msg *m;
    assert_int_equal(msg_new(&d, &m), ERR_OK);
    msg_order(m, (struct position){.epoch = 1, .offset = 1}, 1);
    return m;
}

static void push_to(const char *channel, const char *text)
{
    struct msg *m = message(channel, text);
    assert_int_equal(outbox_push_msg(&box, m), ERR_OK);
    msg_unref(m);
}

static void push(const char *text)
{
    push_to("a", text);
}

static void note(const char *text)
{
    assert_int_equal(outbox_push_bytes(&box, slice_str(text), SLICE_NONE), ERR_OK);
}

/* What can be pulled, one after the other: messages without their frame header, notices in <>. */
static void expect(const char *want)
{
    struct buf b;
    struct outbox_item item;
    size_t bytes = 0;
    buf_init(&b, 1 << 16);
    for (uint32_t i = 0; outbox_item(&box, i, &item); i++) {
        if (i)
            buf_append_char(&b, ' ');
        if (item.msg)
            buf_append(&b, slice_of(item.bytes.ptr + 2, item.bytes.len - 2));
        else
            buf_printf(&b, "<%.*s>", (int)item.bytes.len, item.bytes.ptr);
        bytes += item.bytes.len;
    }
    buf_append_char(&b, '\0');
    assert_string_equal(b.data, want);
    assert_true(bytes <= box.bytes);
    buf_release(&b);
}

static void test_one_entry_needs_no_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        push("one");
        assert_int_equal(1u << box.cap_log2, 1);
        assert_int_equal(box.bytes, 5);
        expect("one");
        outbox_pop(&box);
        assert_int_equal(box.count, 0);
        assert_int_equal(box.bytes, 0);
    }
}

static void test_the_second_entry_makes_a_ring_and_the_last_gives_it_back(void **state)
{
    (void)state;
    push("one");
    note("two");
    assert_int_equal(1u << box.cap_log2, 8);
    expect("one <two>");
    outbox_pop(&box);
    assert_int_equal(1u << box.cap_log2, 8);
    expect("<two>");
    outbox_pop(&box);
    assert_int_equal(1u << box.cap_log2, 1);
    push("three");
    assert_int_equal(1u << box.cap_log2, 1);
    expect("three");
}

static void test_a_ring_grows_while_it_is_wrapped(void **state)
{
    (void)state;
    char text[16], want[512] = "";
    for (int i = 0; i < 8; i++)
        push("x");
    for (int i = 0; i < 5; i++)
        outbox_pop(&box);
    assert_int_equal(box.head, 5);
    for (int i = 0; i < 30; i++) {
        snprintf(text, sizeof(text), "m%d", i);
        push(text);
    }
    strcpy(want, "x x x");
    for (int i = 0; i < 30; i++)
        snprintf(want + strlen(want), sizeof(want) - strlen(want), " m%d", i);
    expect(want);
    assert_int_equal(1u << box.cap_log2, 64);
    for (int i = 0; i < 33; i++)
        outbox_pop(&box);
    assert_int_equal(box.bytes, 0);
    assert_int_equal(1u << box.cap_log2, 1);
}

static void test_two_parts_become_one_notice(void **state)
{
    (void)state;
    assert_int_equal(outbox_push_bytes(&box, SLICE("he"), SLICE("ad")), ERR_OK);
    assert_int_equal(outbox_push_bytes(&box, SLICE_NONE, SLICE("tail")), ERR_OK);
    assert_int_equal(outbox_push_bytes(&box, SLICE_NONE, SLICE_NONE), ERR_OK);
    expect("<head> <tail> <>");
    assert_int_equal(box.bytes, 8);
}

static void test_bytes_are_those_of_the_form(void **state)
{
    (void)state;
    outbox_init(&box, FORM_SSE_RAW);
    struct msg *m = message("a", "x");
    assert_int_equal(outbox_push_msg(&box, m), ERR_OK);
    struct outbox_item item;
    assert_true(outbox_item(&box, 0, &item));
    assert_ptr_equal(item.msg, m);
    assert_int_equal(item.bytes.len, box.bytes);
    assert_int_equal(memcmp(item.bytes.ptr + item.enc->id_len, "data: x\n\n", 9), 0);
    assert_int_equal(item.bytes.len, item.enc->id_len + 9);
    msg_unref(m);
}

static void test_nothing_is_pulled_past_the_gate(void **state)
{
    (void)state;
    note("before");
    assert_int_equal(outbox_push_gate(&box), ERR_OK);
    push("behind");
    expect("<before>");
    outbox_pop(&box);
    expect("");
    assert_int_equal(box.count, 2);
    assert_int_equal(outbox_open_gate(&box, SLICE("ready")), ERR_OK);
    expect("<ready> behind");
    assert_int_equal(box.bytes, 5 + 8);
}

static void test_a_gate_alone_is_filled_in_its_slot(void **state)
{
    (void)state;
    assert_int_equal(outbox_push_gate(&box), ERR_OK);
    assert_int_equal(1u << box.cap_log2, 1);
    expect("");
    assert_int_equal(outbox_open_gate(&box, SLICE("ready")), ERR_OK);
    assert_int_equal(1u << box.cap_log2, 1);
    expect("<ready>");
}

static void test_a_gate_that_opens_with_nothing_goes(void **state)
{
    (void)state;
    assert_int_equal(outbox_push_gate(&box), ERR_OK);
    assert_int_equal(outbox_open_gate(&box, SLICE_NONE), ERR_OK);
    assert_int_equal(box.count, 0);
    push("one");
    assert_int_equal(outbox_push_gate(&box), ERR_OK);
    push("two");
    push("three");
    assert_int_equal(outbox_open_gate(&box, SLICE_NONE), ERR_OK);
    expect("one two three");
    outbox_pop(&box);
    outbox_pop(&box);
    outbox_pop(&box);
    assert_int_equal(1u << box.cap_log2, 1);
}

static void test_dropping_keeps_notices_in_order(void **state)
{
    (void)state;
    push("1");
    note("a");
    push("2");
    assert_int_equal(outbox_push_gate(&box), ERR_OK);
    push("3");
    note("b");
    outbox_drop_messages(&box);
    expect("<a> <b>");
    assert_int_equal(box.bytes, 2);
    outbox_pop(&box);
    push("4");
    expect("<b> 4");
}

static void test_dropping_keeps_what_has_begun(void **state)
{
    (void)state;
    push("half");
    push("whole");
    note("a");
    box.head_sent = 1;
    outbox_drop_messages(&box);
    expect("half <a>");
    assert_int_equal(box.head_sent, 1);
    assert_int_equal(box.bytes, 7);
    outbox_pop(&box);
    assert_int_equal(box.head_sent, 0);
    expect("<a>");
}

static void test_dropping_everything_gives_the_ring_back(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        push("x");
    outbox_drop_messages(&box);
    assert_int_equal(1u << box.cap_log2, 1);
    assert_int_equal(box.bytes, 0);
    push("one");
    outbox_drop_messages(&box);
    assert_int_equal(box.count, 0);
}

static void test_dropping_a_channel_leaves_the_others_and_the_gate(void **state)
{
    (void)state;
    struct msg *of = message("a", "");
    push_to("a", "a1");
    push_to("a", "a2");
    push_to("b", "b1");
    assert_int_equal(outbox_push_gate(&box), ERR_OK);
    push_to("a", "a3");
    push_to("b", "b2");
    box.head_sent = 1;
    outbox_drop_channel(&box, of->channel_hash);
    expect("a1 b1");
    assert_int_equal(outbox_open_gate(&box, SLICE("ready")), ERR_OK);
    expect("a1 b1 <ready> b2");
    msg_unref(of);
}

static void test_references_are_given_back(void **state)
{
    (void)state;
    struct msg *m = message("a", "x");
    for (int i = 0; i < 12; i++)
        assert_int_equal(outbox_push_msg(&box, m), ERR_OK);
    assert_int_equal(m->refs, 13);
    outbox_pop(&box);
    assert_int_equal(m->refs, 12);
    box.head_sent = 1;
    outbox_drop_messages(&box);
    assert_int_equal(m->refs, 2);
    outbox_release(&box);
    assert_int_equal(m->refs, 1);
    msg_unref(m);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(test_one_entry_needs_no_memory),
        T(test_the_second_entry_makes_a_ring_and_the_last_gives_it_back),
        T(test_a_ring_grows_while_it_is_wrapped),
        T(test_two_parts_become_one_notice),
        T(test_bytes_are_those_of_the_form),
        T(test_nothing_is_pulled_past_the_gate),
        T(test_a_gate_alone_is_filled_in_its_slot),
        T(test_a_gate_that_opens_with_nothing_goes),
        T(test_dropping_keeps_notices_in_order),
        T(test_dropping_keeps_what_has_begun),
        T(test_dropping_everything_gives_the_ring_back),
        T(test_dropping_a_channel_leaves_the_others_and_the_gate),
        T(test_references_are_given_back),
    };
    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
