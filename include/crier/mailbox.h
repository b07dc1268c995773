/* mailbox.h - the only way threads talk: a FIFO of owned letters. The only mutex of the product.
 *
 * Any thread posts; one thread drains. Letters from one poster arrive in the order they were
 * posted. When the queue was empty, `wake` is called (from the posting thread, after the letter is
 * in): a loop's mailbox writes its eventfd there, or just marks the loop when the poster is the
 * owner. Who posts gives the letter away; who drains owns it.
 */
#ifndef CRIER_MAILBOX_H
#define CRIER_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct mail {
    struct mail *next;
};

struct mailbox {
    pthread_mutex_t lock;
    struct mail *head, **tail; /* under lock */
    struct mail *batch;        /* taken out, being delivered; drainer only */
    void (*deliver)(struct mailbox *mb, struct mail *m); /* on the drainer's thread; takes m */
    void (*wake)(struct mailbox *mb);                    /* any thread; may be NULL */
    void *owner;                                         /* borrowed, for deliver */
    void *waker;                                         /* borrowed, for wake */
};

void mailbox_init(struct mailbox *mb, void (*deliver)(struct mailbox *, struct mail *),
                  void *owner);
void mailbox_release(struct mailbox *mb); /* must be empty */
void mailbox_post(struct mailbox *mb, struct mail *m);
/* Delivers at most `budget` letters; true when there is more. Letters posted meanwhile count. */
bool mailbox_drain(struct mailbox *mb, unsigned budget);

#endif
