/* mailbox.c - a FIFO between threads.
 *
 * The drainer takes the whole queue under one lock and delivers it without one; what the budget
 * leaves stays in `batch`, ahead of anything posted later, so the order holds.
 *
 * Only the letter that finds the queue empty wakes the drainer: whoever posted before is about to
 * wake it, or it has not looked yet. The wake comes after the unlock, so that the woken thread does
 * not run straight into the lock.
 */
#include "crier/mailbox.h"

#include "crier/err.h"

void mailbox_init(struct mailbox *mb, void (*deliver)(struct mailbox *, struct mail *), void *owner)
{
    *mb = (struct mailbox){.deliver = deliver, .owner = owner};
    BUG_ON(pthread_mutex_init(&mb->lock, NULL) != 0);
    mb->tail = &mb->head;
}

void mailbox_release(struct mailbox *mb)
{
    BUG_ON(mb->head || mb->batch);
    pthread_mutex_destroy(&mb->lock);
}

void mailbox_post(struct mailbox *mb, struct mail *m)
{
    m->next = NULL;
    pthread_mutex_lock(&mb->lock);
    void (*wake)(struct mailbox *) = mb->head ? NULL : mb->wake;
    *mb->tail = m;
    mb->tail = &m->next;
    pthread_mutex_unlock(&mb->lock);
    if (wake)
        wake(mb);
}

static struct mail *take_queue(struct mailbox *mb)
{
    pthread_mutex_lock(&mb->lock);
    struct mail *queue = mb->head;
    mb->head = NULL;
    mb->tail = &mb->head;
    pthread_mutex_unlock(&mb->lock);
    return queue;
}

bool mailbox_drain(struct mailbox *mb, unsigned budget)
{
    for (; budget > 0; budget--) {
        if (!mb->batch)
            mb->batch = take_queue(mb);
        if (!mb->batch)
            return false;
        struct mail *m = mb->batch;
        mb->batch = m->next; /* before the letter is given away */
        mb->deliver(mb, m);
    }
    if (!mb->batch)
        mb->batch = take_queue(mb);
    return mb->batch != NULL;
}
