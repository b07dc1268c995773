/* test_mailbox.c - order, budget and wake-ups, with one thread and with several posting. */
#include "crier/list.h"
#include "crier/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_POSTERS 4
#define N_LETTERS 5000 /* per poster */

struct letter {
    struct mail mail;
    unsigned poster, number;
};

/* What arrived, in the order it did. */
struct desk {
    struct mailbox box;
    unsigned arrived[64];
    size_t n;
    unsigned wakes;
    unsigned post_on_delivery; /* letters still to be posted from within deliver */
};

static struct letter *letter_new(unsigned poster, unsigned number)
{
    struct letter *l = malloc(sizeof *l);

    assert_non_null(l);
    *l = (struct letter){.poster = poster, .number = number};
    return l;
}

static void post(struct desk *d, unsigned number)
{
    mailbox_post(&d->box, &letter_new(0, number)->mail);
}

static void deliver_to_desk(struct mailbox *mb, struct mail *m)
{
    struct desk *d = mb->owner;
    struct letter *l = container_of(m, struct letter, mail);

    d->arrived[d->n++] = l->number;
    free(l);
    if (d->post_on_delivery) {
        d->post_on_delivery--;
        post(d, 100 + d->post_on_delivery);
    }
}

static void count_wake(struct mailbox *mb)
{
    ((struct desk *)mb->waker)->wakes++;
}

static void desk_init(struct desk *d)
{
    *d = (struct desk){0};
    mailbox_init(&d->box, deliver_to_desk, d);
    d->box.wake = count_wake;
    d->box.waker = d;
}

static void assert_arrived(const struct desk *d, size_t n)
{
    assert_int_equal(d->n, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(d->arrived[i], i);
}

static void test_letters_arrive_in_order(void **state)
{
    struct desk d;

    (void)state;
    desk_init(&d);
    assert_false(mailbox_drain(&d.box, 10));
    for (unsigned i = 0; i < 5; i++)
        post(&d, i);
    assert_false(mailbox_drain(&d.box, 10));
    assert_arrived(&d, 5);
    assert_false(mailbox_drain(&d.box, 10));
    assert_arrived(&d, 5);
    mailbox_release(&d.box);
}

static void test_the_budget_holds_and_what_is_left_stays_ahead(void **state)
{
    struct desk d;

    (void)state;
    desk_init(&d);
    for (unsigned i = 0; i < 5; i++)
        post(&d, i);
    assert_true(mailbox_drain(&d.box, 0));
    assert_arrived(&d, 0);
    assert_true(mailbox_drain(&d.box, 2));
    assert_arrived(&d, 2);
    post(&d, 5);
    post(&d, 6);
    assert_true(mailbox_drain(&d.box, 3));
    assert_arrived(&d, 5);
    assert_false(mailbox_drain(&d.box, 2 + 1));
    assert_arrived(&d, 7);
    mailbox_release(&d.box);
}

static void test_a_budget_that_fits_exactly_leaves_nothing(void **state)
{
    struct desk d;

    (void)state;
    desk_init(&d);
    for (unsigned i = 0; i < 3; i++)
        post(&d, i);
    assert_false(mailbox_drain(&d.box, 3));
    assert_arrived(&d, 3);
    mailbox_release(&d.box);
}

static void test_only_the_letter_that_finds_the_queue_empty_wakes(void **state)
{
    struct desk d;

    (void)state;
    desk_init(&d);
    post(&d, 0);
    post(&d, 1);
    assert_int_equal(d.wakes, 1);
    assert_false(mailbox_drain(&d.box, 10));
    post(&d, 2);
    post(&d, 3);
    assert_int_equal(d.wakes, 2);
    assert_true(mailbox_drain(&d.box, 1));
    /* the queue itself is empty now: 3 sits in the batch */
    post(&d, 4);
    assert_int_equal(d.wakes, 3);
    assert_false(mailbox_drain(&d.box, 10));
    assert_arrived(&d, 5);
    mailbox_release(&d.box);
}

static void test_letters_posted_while_delivering_count(void **state)
{
    struct desk d;

    (void)state;
    desk_init(&d);
    d.post_on_delivery = 30;
    post(&d, 0);
    assert_true(mailbox_drain(&d.box, 10));
    assert_int_equal(d.n, 10);
    assert_true(mailbox_drain(&d.box, 20));
    assert_int_equal(d.n, 30);
    assert_false(mailbox_drain(&d.box, 20));
    assert_int_equal(d.n, 31);
    assert_int_equal(d.arrived[1], 129);
    assert_int_equal(d.arrived[30], 100);
    mailbox_release(&d.box);
}

static void test_no_waker_is_fine(void **state)
{
    struct desk d;

    (void)state;
    desk_init(&d);
    d.box.wake = NULL;
    post(&d, 0);
    assert_false(mailbox_drain(&d.box, 1));
    assert_arrived(&d, 1);
    mailbox_release(&d.box);
}

/* --- several threads -------------------------------------------------------------------------- */

struct office {
    struct mailbox box;
    _Atomic unsigned wakes;
    unsigned next[N_POSTERS]; /* number expected from each */
    unsigned total;
};

struct poster {
    pthread_t thread;
    struct office *office;
    unsigned id;
};

static void deliver_to_office(struct mailbox *mb, struct mail *m)
{
    struct office *o = mb->owner;
    struct letter *l = container_of(m, struct letter, mail);

    assert_int_equal(l->number, o->next[l->poster]);
    o->next[l->poster]++;
    o->total++;
    free(l);
}

static void wake_office(struct mailbox *mb)
{
    atomic_fetch_add(&((struct office *)mb->waker)->wakes, 1);
}

static void *post_many(void *arg)
{
    struct poster *p = arg;

    for (unsigned i = 0; i < N_LETTERS; i++)
        mailbox_post(&p->office->box, &letter_new(p->id, i)->mail);
    return NULL;
}

/* The drainer looks only when it was woken: a wake-up that got lost would leave letters behind and
 * hang here. */
static void test_each_posters_order_holds_and_no_wake_is_lost(void **state)
{
    struct office o = {.total = 0};
    struct poster posters[N_POSTERS];
    unsigned seen_wakes = 0;
    bool more = false;

    (void)state;
    mailbox_init(&o.box, deliver_to_office, &o);
    o.box.wake = wake_office;
    o.box.waker = &o;
    for (unsigned i = 0; i < N_POSTERS; i++) {
        posters[i] = (struct poster){.office = &o, .id = i};
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_many, &posters[i]), 0);
    }
    while (o.total < N_POSTERS * N_LETTERS) {
        unsigned wakes = atomic_load(&o.wakes);
        if (!more && wakes == seen_wakes) {
            sched_yield();
            continue;
        }
        seen_wakes = wakes;
        more = mailbox_drain(&o.box, 100);
    }
    for (unsigned i = 0; i < N_POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(o.next[i], N_LETTERS);
    }
    assert_false(mailbox_drain(&o.box, 1));
    mailbox_release(&o.box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_letters_arrive_in_order),
        cmocka_unit_test(test_the_budget_holds_and_what_is_left_stays_ahead),
        cmocka_unit_test(test_a_budget_that_fits_exactly_leaves_nothing),
        cmocka_unit_test(test_only_the_letter_that_finds_the_queue_empty_wakes),
        cmocka_unit_test(test_letters_posted_while_delivering_count),
        cmocka_unit_test(test_no_waker_is_fine),
        cmocka_unit_test(test_each_posters_order_holds_and_no_wake_is_lost),
    };
    return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
