/* A chat room: what the others hear agrees with who is there. */
#include "hub_fixture.h"

#include "../../src/bus/internal.h"
#include "../../src/http/http_internal.h"

static struct peer *listener(int i)
{
    struct peer *p = peer_open(i, &dialect_ws_json, "chat:tea");
    forget(p);
    return p;
}

static bool has_heard(struct peer *p, const char *what)
{
    drain(bus_port_mailbox(hub_port(fx->hub)));
    hub_turn(fx->hub);
    struct slice got = buf_slice(&p->got);
    return got.len && memmem(got.ptr, got.len, what, strlen(what));
}

/* As the bus knows it now, whatever waits in its inbox. */
static uint32_t members(void)
{
    struct bus_presence *op = bus_presence_new(on_op_done, NULL);
    op->channel = slice_dup(SLICE("chat:tea"));
    assert_int_equal(presence_list(fx->bus, op), ERR_OK);
    uint32_t total = op->total;
    bus_op_free(&op->op);
    return total;
}

/* The bus is another thread: it may run between any two things that a worker asks of it. */
static void test_who_is_told_of_a_leave_does_not_find_the_leaver(void **state)
{
    (void)state;
    struct peer *p = listener(0);
    struct peer *q = peer_open(1, &dialect_chat_ws, "chat:tea");
    assert_int_equal(members(), 2);
    session_gone(&q->s);
    for (unsigned steps = 0; !has_heard(p, "left the room"); steps++) {
        assert_true(steps < 10);
        mailbox_drain(bus_inbox(fx->bus), 1);
    }
    assert_int_equal(members(), 1);
}

int main(void)
{
    json_init();
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_is_told_of_a_leave_does_not_find_the_leaver,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
