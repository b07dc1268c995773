/* loop.c - one epoll loop.
 *
 * Waking: `state` says whether the owner may be asleep in epoll_wait. Who has news sets it to
 * NOTIFIED, and only who finds it ASLEEP pays for a write to the eventfd. The owner goes to sleep
 * only by a compare-and-swap from AWAKE, so news that came while it worked (also from itself, also
 * from a signal handler) makes the next wait poll instead. The eventfd is edge-triggered: each
 * write is an event of its own, so it is never read.
 *
 * Removing: an unwatched descriptor can still have an event in the batch that is being dispatched;
 * unwatch blanks it there. Hooks and mailboxes are walked with a cursor in the loop, which a
 * removal moves on.
 *
 * It does not own descriptors and never frees a watch.
 */
#include "crier/loop.h"

#include "crier/clock.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BATCH_EVENTS 256

enum loop_state { AWAKE, ASLEEP, NOTIFIED };

struct attachment {
    struct list node;
    struct mailbox *mb; /* borrowed */
    unsigned budget;
};

struct loop {
    int epoll_fd;
    int event_fd;
    _Atomic int state;
    _Atomic bool stopping;
    _Atomic(const void *) owner; /* thread_mark of the thread that runs it */
    bool more;                   /* something said there is more to do: do not wait */
    struct timer_wheel timers;   /* its now_ms is the loop's */
    struct list hooks, mailboxes;
    struct list *hook_cursor, *mailbox_cursor; /* what is visited next */
    struct loop_corpse *corpses, **corpse_tail;
    int n_events, next_event; /* of the batch that is being dispatched */
    struct epoll_event batch[BATCH_EVENTS];
};

/* Its address names the thread: comparing it needs no system call. */
static _Thread_local char thread_mark;

static bool init_descriptors(struct loop *l)
{
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    return l->epoll_fd >= 0 && l->event_fd >= 0 &&
           epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->event_fd, &ev) == 0;
}

static void close_descriptors(struct loop *l)
{
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    if (l->event_fd >= 0)
        close(l->event_fd);
}

enum err loop_new(struct loop **out)
{
    struct loop *l = calloc(1, sizeof *l);

    BUG_ON(!l);
    if (!init_descriptors(l)) {
        close_descriptors(l);
        free(l);
        return ERR_NOMEM;
    }
    timer_wheel_init(&l->timers, clock_mono_ms());
    list_init(&l->hooks);
    list_init(&l->mailboxes);
    l->hook_cursor = &l->hooks;
    l->mailbox_cursor = &l->mailboxes;
    l->corpse_tail = &l->corpses;
    atomic_init(&l->state, AWAKE);
    atomic_init(&l->stopping, false);
    atomic_init(&l->owner, NULL);
    *out = l;
    return ERR_OK;
}

static void bury_corpses(struct loop *l)
{
    while (l->corpses) {
        struct loop_corpse *c = l->corpses;
        l->corpses = c->next;
        if (!l->corpses)
            l->corpse_tail = &l->corpses;
        c->free(c); /* may add another */
    }
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    bury_corpses(l);
    BUG_ON(!list_is_empty(&l->hooks) || !list_is_empty(&l->mailboxes) || l->timers.count);
    close_descriptors(l);
    free(l);
}

/* Any thread, any signal handler: one atomic exchange, at most one write. */
static void notify(struct loop *l)
{
    /* acq_rel: whoever takes the state afterwards sees what was done before (a flag set; the
     * letters have their own lock). */
    if (atomic_exchange_explicit(&l->state, NOTIFIED, memory_order_acq_rel) != ASLEEP)
        return;

    int saved_errno = errno;
    uint64_t one = 1;
    ssize_t n = write(l->event_fd, &one, sizeof one);
    /* EAGAIN needs 2^64 - 2 writes; nothing else can fail on an eventfd that is open. */
    BUG_ON(n != sizeof one);
    errno = saved_errno;
}

void loop_stop(struct loop *l)
{
    atomic_store_explicit(&l->stopping, true, memory_order_release);
    notify(l);
}

static void become_owner(struct loop *l)
{
    /* relaxed: a thread only ever asks whether it stored its own mark itself */
    if (atomic_load_explicit(&l->owner, memory_order_relaxed) != &thread_mark)
        atomic_store_explicit(&l->owner, &thread_mark, memory_order_relaxed);
}

bool loop_is_owner(const struct loop *l)
{
    return atomic_load_explicit(&l->owner, memory_order_relaxed) == &thread_mark;
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->timers.now_ms;
}

struct timer_wheel *loop_timers(struct loop *l)
{
    return &l->timers;
}

enum err loop_watch(struct loop *l, struct io_watch *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    BUG_ON(w->events != 0 || events == 0);
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, w->fd, &ev) != 0)
        return errno == ENOMEM || errno == ENOSPC ? ERR_NOMEM : ERR_IO;
    w->events = events;
    return ERR_OK;
}

void loop_rewatch(struct loop *l, struct io_watch *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    BUG_ON(w->events == 0 || events == 0);
    if (events == w->events)
        return;
    BUG_ON(epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) != 0);
    w->events = events;
}

void loop_unwatch(struct loop *l, struct io_watch *w)
{
    if (w->events == 0)
        return;
    /* A library may have closed its descriptor already; the kernel forgot it then. */
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL) != 0)
        BUG_ON(errno != EBADF && errno != ENOENT);
    w->events = 0;
    for (int i = l->next_event; i < l->n_events; i++)
        if (l->batch[i].data.ptr == w)
            l->batch[i].data.ptr = NULL;
}

void loop_add_hook(struct loop *l, struct loop_hook *h)
{
    list_push_back(&l->hooks, &h->node);
    /* Added by the last hook of a turn, it is still of this turn: what it has to do must not wait
     * for the next event. (Between turns the cursor means nothing.) */
    if (l->hook_cursor == &l->hooks)
        l->hook_cursor = &h->node;
}

static void remove_under_cursor(struct list *node, struct list **cursor)
{
    if (*cursor == node)
        *cursor = node->next;
    list_remove(node);
}

void loop_remove_hook(struct loop *l, struct loop_hook *h)
{
    remove_under_cursor(&h->node, &l->hook_cursor);
}

void loop_free_later(struct loop *l, struct loop_corpse *c)
{
    c->next = NULL;
    *l->corpse_tail = c;
    l->corpse_tail = &c->next;
}

static void wake_loop(struct mailbox *mb)
{
    notify(mb->waker);
}

/* `wake` is read by whoever posts, so it changes only under the mailbox's lock. */
static void set_waker(struct mailbox *mb, struct loop *l)
{
    pthread_mutex_lock(&mb->lock);
    if (l)
        mb->waker = l;
    mb->wake = l ? wake_loop : NULL;
    pthread_mutex_unlock(&mb->lock);
}

enum err loop_attach(struct loop *l, struct mailbox *mb, unsigned budget)
{
    struct attachment *a = malloc(sizeof *a);

    if (!a)
        return ERR_NOMEM;
    *a = (struct attachment){.mb = mb, .budget = budget};
    list_push_back(&l->mailboxes, &a->node);
    set_waker(mb, l);
    notify(l); /* letters that came before the loop did */
    return ERR_OK;
}

void loop_detach(struct loop *l, struct mailbox *mb)
{
    set_waker(mb, NULL);
    list_for_each (it, &l->mailboxes) {
        struct attachment *a = container_of(it, struct attachment, node);
        if (a->mb == mb) {
            remove_under_cursor(&a->node, &l->mailbox_cursor);
            free(a);
            return;
        }
    }
}

/* now_ms is as old as the turn; what the turn took is taken off the wait. */
static uint64_t until_next_timer(const struct loop *l)
{
    uint64_t next = timer_wheel_next_ms(&l->timers);

    if (next == 0 || next == UINT64_MAX)
        return next;
    uint64_t taken = clock_mono_ms() - l->timers.now_ms;
    return next > taken ? next - taken : 0;
}

/* How long to wait; puts the loop to sleep officially when it is not 0. */
static int prepare_wait(struct loop *l, uint64_t max_wait_ms)
{
    uint64_t wait = l->more ? 0 : until_next_timer(l);
    int awake = AWAKE;

    if (wait > max_wait_ms)
        wait = max_wait_ms;
    if (wait == 0)
        return 0;
    if (!atomic_compare_exchange_strong_explicit(&l->state, &awake, ASLEEP, memory_order_acq_rel,
                                                 memory_order_acquire))
        return 0;
    if (wait == UINT64_MAX)
        return -1;
    return wait > INT_MAX ? INT_MAX : (int)wait;
}

static void wait_for_events(struct loop *l, uint64_t max_wait_ms)
{
    int timeout = prepare_wait(l, max_wait_ms);
    int n = epoll_wait(l->epoll_fd, l->batch, BATCH_EVENTS, timeout);

    BUG_ON(n < 0 && errno != EINTR);
    /* Before anything is drained: news after this point sets NOTIFIED again. */
    atomic_exchange_explicit(&l->state, AWAKE, memory_order_acq_rel);
    l->n_events = n < 0 ? 0 : n;
    l->more = false;
    timer_wheel_tell_time(&l->timers, clock_mono_ms());
}

static void dispatch_events(struct loop *l)
{
    for (l->next_event = 0; l->next_event < l->n_events;) {
        struct epoll_event *ev = &l->batch[l->next_event++];
        struct io_watch *w = ev->data.ptr;
        if (w) /* neither the eventfd nor unwatched meanwhile */
            w->ready(w, ev->events);
    }
    l->n_events = l->next_event = 0;
}

static void drain_mailboxes(struct loop *l)
{
    l->mailbox_cursor = l->mailboxes.next;
    while (l->mailbox_cursor != &l->mailboxes) {
        struct attachment *a = container_of(l->mailbox_cursor, struct attachment, node);
        l->mailbox_cursor = a->node.next;
        l->more |= mailbox_drain(a->mb, a->budget); /* may detach: `a` is not touched again */
    }
}

static void run_hooks(struct loop *l)
{
    l->hook_cursor = l->hooks.next;
    while (l->hook_cursor != &l->hooks) {
        struct loop_hook *h = container_of(l->hook_cursor, struct loop_hook, node);
        l->hook_cursor = h->node.next;
        l->more |= h->run(h);
    }
}

void loop_turn(struct loop *l, uint64_t max_wait_ms)
{
    become_owner(l);
    wait_for_events(l, max_wait_ms);
    dispatch_events(l);
    drain_mailboxes(l);
    timer_wheel_advance(&l->timers, l->timers.now_ms);
    run_hooks(l);
    bury_corpses(l);
}

void loop_run(struct loop *l)
{
    do {
        loop_turn(l, UINT64_MAX);
        /* acquire: what was written before loop_stop is seen after loop_run */
    } while (!atomic_exchange_explicit(&l->stopping, false, memory_order_acquire));
}
