/* trim.h - gives memory back to the kernel when a rush of connections is over.
 *
 * What an HTTP library needed for a connection comes from malloc, and malloc keeps what was freed
 * below the top of its heap. After a reconnect storm, or when thousands of long polls have left,
 * that is kilobytes per client. Giving it back walks the heap, so it waits until few connections
 * end, but not for ever. Single owner, no locks.
 */
#ifndef CRIER_TRIM_H
#define CRIER_TRIM_H

#include "crier/timer.h"

#define TRIM_WORTH 256     /* connections must have ended for a trim to be worth its time */
#define TRIM_LOOK_MS 1000  /* how often it is seen whether the rush is over: */
#define TRIM_QUIET 16      /* at most so many ended since the last look */
#define TRIM_LOOKS_MAX 10u /* then it is done in the middle of the rush */

struct trimmer {
    struct timer timer;
    struct timer_wheel *wheel; /* borrowed */
    void (*trim)(void);
    uint64_t ended; /* since the last trim */
    uint64_t seen;  /* of those at the last look */
    unsigned looks;
};

/* trim: trim_malloc, or a test's. */
void trimmer_init(struct trimmer *t, struct timer_wheel *wheel, void (*trim)(void));
void trimmer_release(struct trimmer *t);
/* A connection ended. */
void trimmer_note(struct trimmer *t);
void trim_malloc(void);

#endif
