/* redis_world.h - everything that one run of sim_redis.c consists of, and its chance and time.
 *
 *   redis_truth.h      what was ordered, for good and for naught
 *   redis_server.h     what servers hold, and what becomes of it
 *   redis_lua.h        the scripts
 *   redis_client.h     crier/redis.h as the bus sees it: commands,
 *   redis_pushes.h     subscriptions; links that delay, break and come back
 *   redis_judge.h      whether what a listener is told is so
 *   redis_listener.h   those who listen and resume
 *   redis_publisher.h  those who publish, read histories, ask
 *   redis_process.h    processes and their time
 *   redis_fate.h       what befalls servers
 *
 * A life is one state of the data that goes its own way: a failover makes a new one out of an old
 * copy while the old one goes on for those who have not noticed. A restart that loses nothing is
 * the same life under another identity.
 */
#ifndef CRIER_TESTS_REDIS_WORLD_H
#define CRIER_TESTS_REDIS_WORLD_H

#include "../../src/bus/redis_scripts.h"
#include "crier/clock.h"
#include "crier/list.h"
#include "crier/loop.h"
#include "crier/redis.h"
#include "crier/rnd.h"
#include "redis_truth.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define WALL UINT64_C(1760000000000)
#define PREFIX "sim:"
#define CHANNELS 6
#define SLOTS 4
#define PORTS 2
#define LIVES 10
#define LISTENERS 9
#define AUTHORS 4
#define INSTANCES 64
#define UNWOUND 64
#define LINE_MAX 33

static const char *const channel_name[CHANNELS] = {"few:a",  "brief:b", "common",
                                                   "none:d", "big:e",   "tiny:f"};

/* --- servers --- */

struct entry {
    int branch;
    uint64_t offset; /* its id is OFFSET-0 */
};

struct stream {
    bool exists;
    struct entry *entry; /* owned */
    size_t n, cap;
    uint64_t last_id;
    uint64_t expire_ms; /* 0 = never */
};

struct ended {
    uint32_t epoch;
    uint64_t last;
    bool lost, unaware; /* "!", "?", as lineage.h has them */
};

struct key {
    char *name, *digest, *at; /* owned */
    uint64_t since;
};

/* The hash; has_order: `offset` is there too. */
struct meta {
    bool exists, has_order;
    uint32_t epoch;
    uint64_t offset, time, care;
    char server[17];
    struct ended line[LINE_MAX];
    int n_line;
    struct key *key; /* owned; the oldest first */
    size_t n_keys;
    uint64_t expire_ms;
};

/* As long as the order was the same one: where it got to. */
struct run {
    uint64_t from, to; /* ticks; `to` is UINT64_MAX while it lasts */
    struct place head;
};

/* What one server has of one channel. */
struct shelf {
    struct meta meta;
    struct stream stream;
    struct run *run; /* owned */
    size_t n_runs;
};

struct instance {
    char id[17];
    bool alive;
    uint64_t score;
    uint32_t count[CHANNELS];
    uint64_t expire_ms;
};

struct life {
    bool serving; /* else its links are dead, though what they carry may still arrive */
    char identity[17];
    struct shelf shelf[CHANNELS];
    struct instance instance[INSTANCES];
};

/* --- processes --- */

struct loop {
    struct timer_wheel wheel;
};

/* From when on a process's commands went to which life. */
struct seat {
    uint64_t tick;
    int life;
};

struct slot {
    struct bus *bus;
    struct redis *redis;
    struct loop loop;
    bool attached, detached;
    unsigned n_ports;
    struct bus_port *port[PORTS];
    struct seat *seat; /* owned */
    size_t n_seats;
    struct bus_redis_options opt;
    unsigned fit;    /* so many messages fit a reply */
    bool deaf, mute; /* a link stands still towards the process */
    struct {
        struct position pos;
        uint64_t tick;
    } acked[CHANNELS]; /* the newest that it has acknowledged to a publisher */
};

enum listener_state { AWAY, JOINING, BEHIND, PAGING, LIVE };

#define PASSED_MAX 40

struct listener {
    struct world *w;
    unsigned number;
    enum listener_state state;
    int channel;
    unsigned slot, port;
    uint64_t client;
    uint32_t serial; /* of the join */
    bool known;      /* pos and at are set */
    struct position pos;
    struct place at;
    unsigned n_passed;
    struct position passed[PASSED_MAX]; /* ends of epochs, passed silently */
    bool is_told;                       /* of a gap of epoch: where it began, where it ended */
    struct position told_since, told;
};

/* What a process had delivered and its server, after a loss, had not. */
struct unwound {
    int channel;
    struct position pos, resumed;
};

struct author {
    uint32_t uid; /* 0: has nothing to say */
    int channel;
    bool asked; /* the answer is on its way */
    bool other_body;
    char key[24];
};

struct coverage {
    unsigned msgs, published, refused, repeats, conflicts, resumed, joined, pages, histories;
    unsigned gap[GAP_NO_POSITION + 1], live_gaps, late_gaps;
    unsigned restarts, failovers, kills, flushes, evictions, clears, deaths, ghosts, floods;
    unsigned links_lost, kicked, failed_joins, nights, mixed;
};

struct world {
    uint64_t random, seed, tick, now_ms;
    uint64_t rnd; /* what the product is given */
    unsigned step;
    bool calm, trace;
    struct ns_table ns;
    struct truth truth[CHANNELS];
    struct life life[LIVES];
    int n_lives, master;
    struct life replica; /* what the next master will know */
    struct list ghosts;  /* struct command whose client has given up */
    unsigned n_slots;
    struct slot slot[SLOTS];
    struct listener listener[LISTENERS];
    struct author author[AUTHORS];
    struct unwound unwound[UNWOUND];
    unsigned n_unwound; /* in all; the newest are remembered */
    unsigned storm;     /* a link is lost about once in so many looks */
    bool refuses;       /* servers refuse a command now and then */
    unsigned lossy;     /* pub/sub drops one in so many without a word; 0 = none */
    unsigned busy;      /* how much moves on the links in a step, at most */
    unsigned n_active;  /* channels that most is done with */
    int active[CHANNELS];
    uint32_t next_uid;
    uint64_t next_client;
    unsigned outstanding; /* ops that were not answered */
    struct coverage *seen;
    char failed[320];
};

static struct world *the_world;

/* --- chance --- */

/* splitmix64: any seed is as good as any other. */
static inline uint64_t chance_u64(struct world *w)
{
    uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline unsigned chance(struct world *w, unsigned n)
{
    return (unsigned)(chance_u64(w) % n);
}

static inline bool one_in(struct world *w, unsigned n)
{
    return chance(w, n) == 0;
}

/* In place of the kernel's: epochs are never the same twice, and the same in every run of a seed.
 */
void rnd_bytes(void *out, size_t n)
{
    memset(out, 0x5a, n);
}

uint64_t rnd_u64(void)
{
    uint64_t n = ++the_world->rnd;
    return n * UINT64_C(0x2545f4914f6cdd1d); /* odd, so the low bits differ as well */
}

uint32_t rnd_below(uint32_t n)
{
    return chance(the_world, n);
}

/* --- what went wrong --- */

static inline void world_fail(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline void world_fail(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (w->failed[0])
        return;
    va_start(ap, fmt);
    vsnprintf(w->failed, sizeof w->failed, fmt, ap);
    va_end(ap);
}

static inline void trace(const struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline void trace(const struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (!w->trace)
        return;
    va_start(ap, fmt);
    printf("%6u %8" PRIu64 " ", w->step, w->now_ms);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

/* --- names --- */

static inline int channel_index(struct slice name)
{
    for (int i = 0; i < CHANNELS; i++)
        if (slice_eq(name, slice_str(channel_name[i])))
            return i;
    return -1;
}

static inline const struct ns_options *options_of(const struct world *w, int channel)
{
    return ns_lookup(&w->ns, slice_str(channel_name[channel]));
}

static inline int any_channel(struct world *w)
{
    return one_in(w, 12) ? (int)chance(w, CHANNELS) : w->active[chance(w, w->n_active)];
}

/* --- the loop of a process, as far as a bus needs one --- */

struct timer_wheel *loop_timers(struct loop *l)
{
    return &l->wheel;
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->wheel.now_ms;
}

enum err loop_attach(struct loop *l, struct mailbox *mb, unsigned budget)
{
    (void)l; /* the scheduler drains it */
    (void)mb;
    (void)budget;
    return ERR_OK;
}

void loop_detach(struct loop *l, struct mailbox *mb)
{
    (void)l;
    (void)mb;
}

#endif
