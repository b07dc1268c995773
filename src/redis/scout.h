/* scout.h - asks one question again and again, of whoever of several servers answers: where is the
 * master, who has which slots.
 *
 * One link is kept to the server that answered last; the next is tried when it does not answer
 * within SCOUT_PATIENCE_MS, is lost, or answers what is of no use. Loop's thread only.
 */
#ifndef CRIER_REDIS_SCOUT_H
#define CRIER_REDIS_SCOUT_H

#include "client.h"
#include "link.h"

#define SCOUT_PATIENCE_MS 1000 /* to connect, greet and answer */
#define SCOUT_LEAST_MS 200     /* between two questions */

struct scout_ops {
    size_t (*places)(struct redis *r); /* how many there are to ask now */
    /* Fills out with a copy of the i-th, i < places(r). */
    void (*place)(struct redis *r, size_t i, struct redis_endpoint *out);
    /* An answer, may be an error reply. False: it is of no use, ask another. May stop the scout. */
    bool (*answer)(struct redis *r, const struct redis_endpoint *from, const struct reply *reply);
};

enum scout_state {
    SCOUT_STOPPED,
    SCOUT_OPENING,
    SCOUT_ASKED,
    SCOUT_RESTING, /* until the next question; the link is up */
    SCOUT_PAUSED,  /* nobody has answered; no link */
};

struct scout {       /* embedded in the topology's state */
    struct redis *r; /* borrowed, as the next two */
    const struct scout_ops *ops;
    const struct slice *question;
    size_t n_words;
    uint64_t period_ms;

    struct redis_options options; /* of the links: the client's without scripts */
    struct redis_endpoint place;  /* owned; where the link leads */
    struct link *link;            /* owned */
    struct link_request q;
    struct timer timer;
    enum scout_state state;
    bool again;          /* something happened after the question */
    size_t next, failed; /* failed: since the last answer */
    unsigned rounds;
    uint64_t asked_ms;
};

void scout_init(struct scout *s, struct redis *r, const struct scout_ops *ops,
                const struct slice *question, size_t n_words, uint64_t period_ms);
void scout_start(struct scout *s);
void scout_stop(struct scout *s);  /* fine when stopped; from its callbacks too */
void scout_hurry(struct scout *s); /* asks soon */

#endif
