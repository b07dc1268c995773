/* test_loop.c - the loop with pipes and threads: what is dispatched, what is dropped, what waits.
 *
 * PATIENCE_MS is how long a wait may take before the test fails; no test sleeps to see a result.
 */
#include "crier/clock.h"
#include "crier/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

/* The reading end of a pipe in a loop. */
struct tap {
    struct io_watch watch;
    struct loop *loop;
    int write_fd;
    unsigned called;
    uint32_t events;
    void (*then)(struct tap *t);
    struct tap *other;
    struct loop_corpse corpse;
};

static struct loop *loop;

static int make_loop(void **state)
{
    (void)state;
    return loop_new(&loop) == ERR_OK ? 0 : -1;
}

static int drop_loop(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void tap_ready(struct io_watch *w, uint32_t events)
{
    struct tap *t = container_of(w, struct tap, watch);

    t->called++;
    t->events = events;
    if (t->then)
        t->then(t);
}

static void tap_open(struct tap *t, uint32_t events)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    *t =
        (struct tap){.watch = {.fd = fds[0], .ready = tap_ready}, .loop = loop, .write_fd = fds[1]};
    if (events)
        assert_int_equal(loop_watch(loop, &t->watch, events), ERR_OK);
}

static void tap_close(struct tap *t)
{
    loop_unwatch(loop, &t->watch);
    close(t->watch.fd);
    close(t->write_fd);
}

static void tap_fill(struct tap *t)
{
    assert_int_equal(write(t->write_fd, "x", 1), 1);
}

/* Turns until *what reaches n. */
static void turn_until(const unsigned *what, unsigned n)
{
    uint64_t give_up = clock_mono_ms() + PATIENCE_MS;

    while (*what < n) {
        assert_true(clock_mono_ms() < give_up);
        loop_turn(loop, PATIENCE_MS);
    }
}

/* --- watches ---------------------------------------------------------------------------------- */

static void test_a_ready_descriptor_is_told_its_events(void **state)
{
    struct tap t;

    (void)state;
    tap_open(&t, EPOLLIN);
    loop_turn(loop, 0);
    assert_int_equal(t.called, 0);
    tap_fill(&t);
    loop_turn(loop, 0);
    assert_int_equal(t.called, 1);
    assert_int_equal(t.events, EPOLLIN);
    loop_turn(loop, 0); /* level-triggered: still there */
    assert_int_equal(t.called, 2);
    tap_close(&t);
}

static void test_rewatch_changes_the_mask(void **state)
{
    struct tap t;

    (void)state;
    tap_open(&t, EPOLLIN);
    tap_fill(&t);
    loop_rewatch(loop, &t.watch, EPOLLIN | EPOLLET);
    loop_turn(loop, 0);
    loop_turn(loop, 0);
    assert_int_equal(t.called, 1);
    loop_rewatch(loop, &t.watch,
                 EPOLLIN | EPOLLET); /* the same: would report again if it was set */
    loop_turn(loop, 0);
    assert_int_equal(t.called, 1);
    loop_rewatch(loop, &t.watch, EPOLLRDHUP | EPOLLET);
    tap_fill(&t);
    loop_turn(loop, 0);
    assert_int_equal(t.called, 1);
    tap_close(&t);
}

static void test_unwatch_is_fine_when_not_registered_or_closed(void **state)
{
    struct tap t;

    (void)state;
    tap_open(&t, 0);
    loop_unwatch(loop, &t.watch);
    assert_int_equal(loop_watch(loop, &t.watch, EPOLLIN), ERR_OK);
    close(t.watch.fd);
    loop_unwatch(loop, &t.watch);
    assert_int_equal(t.watch.events, 0);
    close(t.write_fd);
}

static void test_what_cannot_be_watched_is_refused(void **state)
{
    struct io_watch file = {.fd = open("/dev/null", O_RDONLY | O_CLOEXEC), .ready = tap_ready};
    struct io_watch nothing = {.fd = -1, .ready = tap_ready};

    (void)state;
    assert_int_equal(loop_watch(loop, &file, EPOLLIN), ERR_IO);
    assert_int_equal(file.events, 0);
    assert_int_equal(loop_watch(loop, &nothing, EPOLLIN), ERR_IO);
    close(file.fd);
}

static void unwatch_other(struct tap *t)
{
    loop_unwatch(t->loop, &t->other->watch);
}

/* Both are ready in one batch; whichever comes first removes the other. */
static void test_an_unwatched_descriptor_loses_its_event_of_the_same_batch(void **state)
{
    struct tap a, b;

    (void)state;
    tap_open(&a, EPOLLIN);
    tap_open(&b, EPOLLIN);
    a.other = &b;
    b.other = &a;
    a.then = b.then = unwatch_other;
    tap_fill(&a);
    tap_fill(&b);
    loop_turn(loop, 0);
    assert_int_equal(a.called + b.called, 1);
    tap_close(&a);
    tap_close(&b);
}

enum { N_PAIRED = 60 };
static struct tap *paired[N_PAIRED]; /* NULL when freed */

static void free_tap(struct loop_corpse *c)
{
    struct tap *t = container_of(c, struct tap, corpse);

    for (int i = 0; i < N_PAIRED; i++)
        if (paired[i] == t)
            paired[i] = NULL;
    free(t);
}

static void bury_other(struct tap *t)
{
    struct tap *other = t->other;

    if (!other)
        return;
    tap_close(other);
    loop_free_later(t->loop, &other->corpse);
    t->other = NULL;
}

/* All are ready at once. Whoever is called closes its partner and leaves it to be freed: of each
 * pair exactly one survives, and nobody that was closed is called. */
static void test_closing_many_in_one_batch_from_any_of_them(void **state)
{
    (void)state;
    for (int i = 0; i < N_PAIRED; i++) {
        paired[i] = malloc(sizeof *paired[i]);
        assert_non_null(paired[i]);
        tap_open(paired[i], EPOLLIN);
        paired[i]->then = bury_other;
        paired[i]->corpse.free = free_tap;
        tap_fill(paired[i]);
    }
    for (int i = 0; i < N_PAIRED; i++)
        paired[i]->other = paired[i ^ 1];
    loop_turn(loop, 0);
    for (int i = 0; i < N_PAIRED; i += 2) {
        assert_true((paired[i] == NULL) != (paired[i + 1] == NULL));
        struct tap *left = paired[i] ? paired[i] : paired[i + 1];
        assert_int_equal(left->called, 1);
        tap_close(left);
        free(left);
    }
}

static void rearm_other(struct tap *t)
{
    t->then = NULL;
    loop_unwatch(t->loop, &t->other->watch);
    assert_int_equal(loop_watch(t->loop, &t->other->watch, EPOLLIN), ERR_OK);
    t->other->then = NULL;
}

/* The old registration's event is dropped, the new one's is not lost. */
static void test_watching_again_in_the_same_batch(void **state)
{
    struct tap a, b;

    (void)state;
    tap_open(&a, EPOLLIN);
    tap_open(&b, EPOLLIN);
    a.other = &b;
    b.other = &a;
    a.then = b.then = rearm_other;
    tap_fill(&a);
    tap_fill(&b);
    loop_turn(loop, 0);
    assert_int_equal(a.called + b.called, 1);
    loop_turn(loop, 0);
    assert_int_equal(a.called + b.called, 3);
    tap_close(&a);
    tap_close(&b);
}

/* --- hooks and corpses ------------------------------------------------------------------------ */

struct counter_hook {
    struct loop_hook hook;
    unsigned ran;
    unsigned more; /* how often it still says so */
    struct loop_hook *removes;
    struct loop_hook *adds; /* once */
    char *trace;            /* where it leaves its letter */
    char letter;
};

static bool run_counter(struct loop_hook *h)
{
    struct counter_hook *c = container_of(h, struct counter_hook, hook);

    c->ran++;
    if (c->trace)
        strncat(c->trace, &c->letter, 1);
    if (c->removes)
        loop_remove_hook(loop, c->removes);
    if (c->adds)
        loop_add_hook(loop, c->adds);
    c->adds = NULL;
    if (c->more == 0)
        return false;
    c->more--;
    return true;
}

static void test_hooks_run_in_order_after_everything_else(void **state)
{
    char trace[16] = "";
    struct counter_hook a = {.hook.run = run_counter, .trace = trace, .letter = 'a'};
    struct counter_hook b = {.hook.run = run_counter, .trace = trace, .letter = 'b'};

    (void)state;
    loop_add_hook(loop, &a.hook);
    loop_add_hook(loop, &b.hook);
    loop_turn(loop, 0);
    loop_turn(loop, 0);
    assert_string_equal(trace, "abab");
    loop_remove_hook(loop, &a.hook);
    loop_turn(loop, 0);
    assert_string_equal(trace, "ababb");
    loop_remove_hook(loop, &b.hook);
}

static void test_a_hook_may_remove_itself_or_the_next(void **state)
{
    char trace[16] = "";
    struct counter_hook a = {.hook.run = run_counter, .trace = trace, .letter = 'a'};
    struct counter_hook b = {.hook.run = run_counter, .trace = trace, .letter = 'b'};
    struct counter_hook c = {.hook.run = run_counter, .trace = trace, .letter = 'c'};

    (void)state;
    loop_add_hook(loop, &a.hook);
    loop_add_hook(loop, &b.hook);
    loop_add_hook(loop, &c.hook);
    a.removes = &b.hook;
    c.removes = &c.hook;
    loop_turn(loop, 0);
    assert_string_equal(trace, "ac");
    a.removes = NULL;
    loop_turn(loop, 0);
    assert_string_equal(trace, "aca");
    loop_remove_hook(loop, &a.hook);
}

/* The last hook's, too: the next turn may be a long wait away. */
static void test_a_hook_added_by_a_hook_runs_in_the_same_turn(void **state)
{
    char trace[16] = "";
    struct counter_hook a = {.hook.run = run_counter, .trace = trace, .letter = 'a'};
    struct counter_hook b = {.hook.run = run_counter, .trace = trace, .letter = 'b'};
    struct counter_hook c = {.hook.run = run_counter, .trace = trace, .letter = 'c'};

    (void)state;
    loop_add_hook(loop, &a.hook);
    a.adds = &b.hook;
    loop_turn(loop, 0);
    assert_string_equal(trace, "ab");
    loop_remove_hook(loop, &a.hook);
    b.removes = &b.hook;
    b.adds = &c.hook;
    loop_turn(loop, 0);
    assert_string_equal(trace, "abbc");
    loop_remove_hook(loop, &c.hook);
}

/* Nothing is ready and the wait may be endless: only "more" makes the turns come. */
static void test_more_makes_the_next_turn_poll(void **state)
{
    struct counter_hook h = {.hook.run = run_counter, .more = 5};

    (void)state;
    loop_add_hook(loop, &h.hook);
    loop_turn(loop, 0);
    for (unsigned i = 0; i < 5; i++)
        loop_turn(loop, UINT64_MAX);
    assert_int_equal(h.ran, 6);
    assert_int_equal(h.more, 0);
    loop_remove_hook(loop, &h.hook);
}

struct body {
    struct loop_corpse corpse;
    struct body *next;
    unsigned *order;
    unsigned number;
};

static void bury(struct loop_corpse *c)
{
    struct body *b = container_of(c, struct body, corpse);

    assert_int_equal(*b->order, b->number);
    ++*b->order;
    if (b->next)
        loop_free_later(loop, &b->next->corpse);
    free(b);
}

static struct body *body_new(unsigned number, unsigned *order)
{
    struct body *b = malloc(sizeof *b);

    assert_non_null(b);
    *b = (struct body){.corpse.free = bury, .order = order, .number = number};
    return b;
}

static bool hook_sees_no_burial(struct loop_hook *h)
{
    struct counter_hook *c = container_of(h, struct counter_hook, hook);

    c->ran++;
    assert_int_equal(*(unsigned *)(void *)c->trace, 0);
    return false;
}

static void test_corpses_go_after_the_hooks_in_order_and_may_add_more(void **state)
{
    unsigned order = 0;
    struct counter_hook h = {.hook.run = hook_sees_no_burial, .trace = (char *)&order};
    struct body *first = body_new(0, &order), *second = body_new(1, &order);

    (void)state;
    loop_add_hook(loop, &h.hook);
    first->next = body_new(2, &order);
    loop_free_later(loop, &first->corpse);
    loop_free_later(loop, &second->corpse);
    loop_turn(loop, 0);
    assert_int_equal(h.ran, 1);
    assert_int_equal(order, 3);
    loop_remove_hook(loop, &h.hook);
}

static void test_freeing_the_loop_frees_what_waits(void **state)
{
    unsigned order = 0;

    (void)state;
    loop_free_later(loop, &body_new(0, &order)->corpse);
    loop_free(loop);
    assert_int_equal(order, 1);
    assert_int_equal(loop_new(&loop), ERR_OK);
    loop_free(NULL);
}

/* --- timers ----------------------------------------------------------------------------------- */

struct bell {
    struct timer timer;
    unsigned rang;
    uint64_t rang_ms;
};

static void ring(struct timer *t)
{
    struct bell *a = container_of(t, struct bell, timer);

    a->rang++;
    a->rang_ms = loop_now_ms(loop);
}

static void test_a_timer_ends_the_wait(void **state)
{
    struct bell a = {.rang = 0};

    (void)state;
    loop_turn(loop, 0);
    uint64_t set_at = loop_now_ms(loop);
    timer_init(&a.timer, ring);
    timer_set(loop_timers(loop), &a.timer, 30);
    turn_until(&a.rang, 1);
    assert_int_equal(a.rang, 1);
    assert_true(a.rang_ms >= set_at + 30);
}

static struct bell late;

static void set_late_alarm(struct tap *t)
{
    loop_unwatch(t->loop, &t->watch);
    timer_set(loop_timers(loop), &late.timer, 60000);
}

/* After a wait the wheel knows the time before anything is dispatched. */
static void test_a_delay_counts_from_this_turn(void **state)
{
    struct tap t;

    (void)state;
    late = (struct bell){.rang = 0};
    timer_init(&late.timer, ring);
    tap_open(&t, EPOLLIN);
    t.then = set_late_alarm;
    uint64_t before = clock_mono_ms();
    while (clock_mono_ms() < before + 50)
        sched_yield();
    tap_fill(&t);
    turn_until(&t.called, 1);
    assert_true(late.timer.due_ms >= before + 50 + 60000);
    timer_cancel(loop_timers(loop), &late.timer);
    tap_close(&t);
}

/* --- mailboxes and threads -------------------------------------------------------------------- */

struct desk {
    struct mailbox box;
    unsigned arrived;
    unsigned repost; /* letters that are posted again when they arrive */
    bool detach;
};

static void deliver(struct mailbox *mb, struct mail *m)
{
    struct desk *d = mb->owner;

    d->arrived++;
    if (d->detach)
        loop_detach(loop, mb);
    if (d->repost) {
        d->repost--;
        mailbox_post(mb, m);
        return;
    }
    free(m);
}

static void desk_open(struct desk *d, unsigned budget)
{
    *d = (struct desk){0};
    mailbox_init(&d->box, deliver, d);
    assert_int_equal(loop_attach(loop, &d->box, budget), ERR_OK);
    loop_turn(loop, 0); /* attaching asks for one turn; have it behind us */
}

static void desk_close(struct desk *d)
{
    loop_detach(loop, &d->box);
    mailbox_release(&d->box);
}

static void post_letter(struct desk *d)
{
    struct mail *m = malloc(sizeof *m);

    assert_non_null(m);
    mailbox_post(&d->box, m);
}

static void test_letters_of_the_owner_do_not_wait(void **state)
{
    struct desk d;

    (void)state;
    desk_open(&d, 100);
    post_letter(&d);
    loop_turn(loop, UINT64_MAX); /* would hang */
    assert_int_equal(d.arrived, 1);
    d.repost = 3;
    post_letter(&d);
    while (d.arrived < 5)
        loop_turn(loop, UINT64_MAX);
    desk_close(&d);
}

static void test_letters_from_before_the_attach_are_delivered(void **state)
{
    struct desk d = {.arrived = 0};

    (void)state;
    loop_turn(loop, 0);
    mailbox_init(&d.box, deliver, &d);
    post_letter(&d);
    assert_int_equal(loop_attach(loop, &d.box, 10), ERR_OK);
    loop_turn(loop, UINT64_MAX);
    assert_int_equal(d.arrived, 1);
    desk_close(&d);
}

static void test_a_mailbox_gets_its_budget_per_turn(void **state)
{
    struct desk d;

    (void)state;
    desk_open(&d, 3);
    for (int i = 0; i < 7; i++)
        post_letter(&d);
    loop_turn(loop, UINT64_MAX);
    assert_int_equal(d.arrived, 3);
    loop_turn(loop, UINT64_MAX);
    assert_int_equal(d.arrived, 6);
    loop_turn(loop, UINT64_MAX);
    assert_int_equal(d.arrived, 7);
    desk_close(&d);
}

static void test_a_mailbox_may_be_detached_while_it_delivers(void **state)
{
    struct desk a, b;

    (void)state;
    desk_open(&a, 10);
    desk_open(&b, 10);
    a.detach = true;
    post_letter(&a);
    post_letter(&b);
    loop_turn(loop, 0);
    assert_int_equal(a.arrived, 1);
    assert_int_equal(b.arrived, 1);
    assert_null(a.box.wake);
    post_letter(&a);
    loop_turn(loop, 0);
    assert_int_equal(a.arrived, 1);
    assert_false(mailbox_drain(&a.box, 9));
    mailbox_release(&a.box);
    desk_close(&b);
}

static void *post_one(void *desk)
{
    post_letter(desk);
    return NULL;
}

static void test_a_letter_from_another_thread_ends_the_wait(void **state)
{
    struct desk d;

    (void)state;
    desk_open(&d, 10);
    for (unsigned i = 1; i <= 50; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, post_one, &d), 0);
        while (d.arrived < i)
            loop_turn(loop, UINT64_MAX);
        pthread_join(thread, NULL);
    }
    desk_close(&d);
}

/* Two loops that answer each other as fast as they can: each lost wake-up would be the end. */
struct side {
    struct mailbox box;
    struct loop *loop;
    struct side *peer;
    unsigned left;
};

static void answer(struct mailbox *mb, struct mail *m)
{
    struct side *s = mb->owner;

    assert_true(loop_is_owner(s->loop));
    assert_false(loop_is_owner(s->peer->loop));
    if (s->left == 0) {
        free(m);
        loop_stop(s->loop);
        loop_stop(s->peer->loop);
        return;
    }
    s->left--;
    mailbox_post(&s->peer->box, m);
}

static void *run_side(void *side)
{
    loop_run(((struct side *)side)->loop);
    return NULL;
}

static void side_open(struct side *s, struct side *peer, struct loop *l)
{
    *s = (struct side){.loop = l, .peer = peer, .left = 3000};
    mailbox_init(&s->box, answer, s);
    assert_int_equal(loop_attach(l, &s->box, 10), ERR_OK);
}

static void test_two_loops_play_ping_pong(void **state)
{
    struct side a, b;
    struct loop *other;
    pthread_t thread;

    (void)state;
    assert_int_equal(loop_new(&other), ERR_OK);
    side_open(&a, &b, loop);
    side_open(&b, &a, other);
    mailbox_post(&a.box, malloc(sizeof(struct mail)));
    assert_int_equal(pthread_create(&thread, NULL, run_side, &b), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    assert_int_equal(a.left + b.left, 0);
    loop_detach(loop, &a.box);
    loop_detach(other, &b.box);
    mailbox_release(&a.box);
    mailbox_release(&b.box);
    loop_free(other);
}

/* --- stopping --------------------------------------------------------------------------------- */

static void *stop_it(void *l)
{
    loop_stop(l);
    return NULL;
}

static void test_stop_from_another_thread(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, stop_it, loop), 0);
        loop_run(loop);
        pthread_join(thread, NULL);
    }
}

static void test_stop_before_run_is_not_forgotten(void **state)
{
    (void)state;
    loop_stop(loop);
    loop_run(loop);
    assert_true(loop_is_owner(loop));
}

static void stop_on_signal(int number)
{
    (void)number;
    loop_stop(loop);
}

static void stop_by_signal(struct timer *t)
{
    (void)t;
    raise(SIGUSR1);
}

static void *signal_main(void *main_thread)
{
    pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
    return NULL;
}

static void test_stop_from_a_signal_handler(void **state)
{
    struct sigaction act = {.sa_handler = stop_on_signal}, before;
    struct timer t;
    pthread_t thread, self = pthread_self();

    (void)state;
    assert_int_equal(sigaction(SIGUSR1, &act, &before), 0);
    timer_init(&t, stop_by_signal);
    timer_set(loop_timers(loop), &t, 10);
    loop_run(loop);
    assert_int_equal(pthread_create(&thread, NULL, signal_main, &self), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &before, NULL);
}

static void *ask_owner(void *is_owner)
{
    *(bool *)is_owner = loop_is_owner(loop);
    return NULL;
}

static void test_the_owner_is_who_turns(void **state)
{
    pthread_t thread;
    bool other = true;

    (void)state;
    assert_false(loop_is_owner(loop));
    loop_turn(loop, 0);
    assert_true(loop_is_owner(loop));
    assert_int_equal(pthread_create(&thread, NULL, ask_owner, &other), 0);
    pthread_join(thread, NULL);
    assert_false(other);
}

#define loop_test(f) cmocka_unit_test_setup_teardown(f, make_loop, drop_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        loop_test(test_a_ready_descriptor_is_told_its_events),
        loop_test(test_rewatch_changes_the_mask),
        loop_test(test_unwatch_is_fine_when_not_registered_or_closed),
        loop_test(test_what_cannot_be_watched_is_refused),
        loop_test(test_an_unwatched_descriptor_loses_its_event_of_the_same_batch),
        loop_test(test_closing_many_in_one_batch_from_any_of_them),
        loop_test(test_watching_again_in_the_same_batch),
        loop_test(test_hooks_run_in_order_after_everything_else),
        loop_test(test_a_hook_may_remove_itself_or_the_next),
        loop_test(test_a_hook_added_by_a_hook_runs_in_the_same_turn),
        loop_test(test_more_makes_the_next_turn_poll),
        loop_test(test_corpses_go_after_the_hooks_in_order_and_may_add_more),
        loop_test(test_freeing_the_loop_frees_what_waits),
        loop_test(test_a_timer_ends_the_wait),
        loop_test(test_a_delay_counts_from_this_turn),
        loop_test(test_letters_of_the_owner_do_not_wait),
        loop_test(test_letters_from_before_the_attach_are_delivered),
        loop_test(test_a_mailbox_gets_its_budget_per_turn),
        loop_test(test_a_mailbox_may_be_detached_while_it_delivers),
        loop_test(test_a_letter_from_another_thread_ends_the_wait),
        loop_test(test_two_loops_play_ping_pong),
        loop_test(test_stop_from_another_thread),
        loop_test(test_stop_before_run_is_not_forgotten),
        loop_test(test_stop_from_a_signal_handler),
        loop_test(test_the_owner_is_who_turns),
    };
    alarm(120); /* what hangs is a failure */
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
