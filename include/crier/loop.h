/* loop.h - one epoll loop per thread: descriptors, timers, mailboxes, and the end of a turn.
 *
 * A turn: wait; dispatch descriptors; drain attached mailboxes (bounded); fire timers; run the
 * turn hooks in the order they were added. A hook or mailbox that says "more" makes the next turn
 * poll without waiting, so one busy source cannot keep the others out.
 *
 * Everything but loop_stop and mailbox_post belongs to the thread that runs the loop. A watch may
 * be removed in any callback, also for events of this turn that were not dispatched yet: they are
 * dropped. Its memory must live until the end of the turn (see loop_free_later).
 */
#ifndef CRIER_LOOP_H
#define CRIER_LOOP_H

#include "crier/err.h"
#include "crier/list.h"
#include "crier/mailbox.h"
#include "crier/timer.h"

#include <stdint.h>
#include <sys/epoll.h>

struct loop;

struct io_watch {
    int fd;                                             /* not owned; -1 when unused */
    uint32_t events;                                    /* as registered; 0 = not registered */
    void (*ready)(struct io_watch *w, uint32_t events); /* EPOLL* bits */
};

struct loop_hook {
    struct list node;
    bool (*run)(struct loop_hook *h); /* true: there is more to do, do not wait */
};

/* Embedded in objects that are freed at the end of the turn. */
struct loop_corpse {
    struct loop_corpse *next;
    void (*free)(struct loop_corpse *c);
};

enum err loop_new(struct loop **out) MUST_CHECK;
void loop_free(struct loop *l); /* all watches, hooks, mailboxes and timers must be gone */
/* Runs until loop_stop. The calling thread becomes the owner. */
void loop_run(struct loop *l);
/* One turn, waiting at most max_wait_ms. For tests and for loop_run. */
void loop_turn(struct loop *l, uint64_t max_wait_ms);
/* Any thread, and signal-safe. loop_run returns after the turn. */
void loop_stop(struct loop *l);
bool loop_is_owner(const struct loop *l); /* is the calling thread the one that runs it? */

uint64_t loop_now_ms(const struct loop *l); /* monotonic, read once per turn */
struct timer_wheel *loop_timers(struct loop *l);

/* events: EPOLLIN | EPOLLET and so on, never 0 (to pause, unwatch). ERR_NOMEM when the kernel has
 * no watch left, ERR_IO for a descriptor that cannot be watched. */
enum err loop_watch(struct loop *l, struct io_watch *w, uint32_t events) MUST_CHECK;
/* Changes the mask of a registered watch; no call into the kernel when it is the same. */
void loop_rewatch(struct loop *l, struct io_watch *w, uint32_t events);
void loop_unwatch(struct loop *l, struct io_watch *w); /* fine when not registered */

/* Added by a hook, it still runs in the same turn. */
void loop_add_hook(struct loop *l, struct loop_hook *h);
void loop_remove_hook(struct loop *l, struct loop_hook *h);
void loop_free_later(struct loop *l, struct loop_corpse *c);

/* Sets mb->wake; drains it every turn. budget: letters per turn. Letters may have been posted
 * before. Who can still post must be stopped before the loop is freed, detached or not. */
enum err loop_attach(struct loop *l, struct mailbox *mb, unsigned budget) MUST_CHECK;
void loop_detach(struct loop *l, struct mailbox *mb);

#endif
