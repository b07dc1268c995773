/* redis_fate.h - what befalls servers, as the scheduler says. */
#ifndef CRIER_TESTS_REDIS_FATE_H
#define CRIER_TESTS_REDIS_FATE_H

#include "redis_process.h"

/* A process that is not simulated publishes. */
static inline void publish_outside(struct world *w, int channel, unsigned n)
{
    const struct ns_options *o = options_of(w, channel);
    const struct slice none = SLICE("0");
    const bool kept = o->history_messages && o->history_ms;
    const struct redis from = {.w = w, .commands_life = w->master};
    char meta[48], stream[48], fresh[16], keep[16], age[24], pubsub[48], body[64];
    snprintf(meta, sizeof meta, PREFIX "{%s}:m", channel_name[channel]);
    snprintf(stream, sizeof stream, PREFIX "{%s}:s", channel_name[channel]);
    snprintf(pubsub, sizeof pubsub, PREFIX "{%s}", channel_name[channel]);
    snprintf(keep, sizeof keep, "%u", o->history_messages);
    snprintf(age, sizeof age, "%" PRIu64, o->history_ms);
    while (n--) {
        snprintf(fresh, sizeof fresh, "%u", cursor_new_epoch());
        snprintf(body, sizeof body, "t + 0000000000000000 0 0 0\nn%u ", next_uid(w, false));
        const struct slice arg[] = {slice_str(meta),
                                    slice_str(kept ? stream : meta),
                                    slice_of(w->life[w->master].identity, 16),
                                    slice_str(fresh),
                                    slice_str(keep),
                                    slice_str(age),
                                    SLICE("86400000"),
                                    redis_arg_publish,
                                    slice_str(pubsub),
                                    slice_str(body),
                                    SLICE_NONE,
                                    none,
                                    none};
        struct redis_call call = {.script = &script_publish, .n_keys = kept ? 2 : 1};
        call.arg = kept ? arg : arg + 1;
        call.n_args = kept ? 13 : 12;
        struct command *c = command_new(&from, &call);
        list_init(&c->in_link);
        server_execute(w, w->master, c);
        command_free(c);
    }
}

/* More than a process buffers, more than it keeps. */
static inline void flood(struct world *w)
{
    static const unsigned many[] = {100, 300, 700, 1300};
    struct redis *r = client_of(w, chance(w, w->n_slots));
    if (r && one_in(w, 2)) { /* while one of them reads */
        client_lose_pushes(r);
        client_connect_pushes(r, w->master);
        (void)client_turn(r);
        while (client_take_request(r) || client_hear(r))
            ;
    }
    publish_outside(w, any_channel(w), many[chance(w, 4)]);
    for (unsigned n = chance(w, 1500); r && n; n--)
        (void)client_hear(r);
    w->seen->floods++;
}

static inline void restart(struct world *w)
{
    w->tick++;
    links_die(w, w->master);
    life_identity(w, &w->life[w->master]);
    trace(w, "L%d restarts", w->master);
    w->seen->restarts++;
}

/* As many times as no epoch is remembered. */
static inline void restart_often(struct world *w)
{
    int channel = any_channel(w);
    for (unsigned n = 30 + chance(w, 6); n; n--) {
        publish_outside(w, channel, chance(w, 3));
        restart(w);
    }
}

static inline void kill_master(struct world *w)
{
    int old = w->master;
    if (!world_promote(w))
        return;
    links_die(w, old);
    w->life[old].serving = false;
    w->seen->kills++;
}

static inline void fail_over(struct world *w)
{
    if (one_in(w, 3))
        world_replicate(w); /* nothing is lost */
    if (world_promote(w))
        w->seen->failovers++;
}

/* An old master is told that it is none, and drops who has not noticed. */
static inline void demote_old(struct world *w)
{
    for (int i = 0; i < w->n_lives; i++) {
        if (i == w->master || !w->life[i].serving || (!one_in(w, 3) && !w->calm))
            continue;
        links_die(w, i);
        w->life[i].serving = false;
        trace(w, "L%d is no master any more", i);
    }
}

static inline void evict(struct world *w)
{
    int channel = any_channel(w);
    bool meta = one_in(w, 2);
    world_evict(w, channel, meta, !meta || one_in(w, 2));
    w->seen->evictions++;
}

static inline void server_step(struct world *w)
{
    struct redis *r = client_of(w, chance(w, w->n_slots));
    switch (chance(w, 14)) {
    case 0:
        if (one_in(w, 8))
            restart_often(w);
        else
            restart(w);
        break;
    case 1:
        kill_master(w);
        break;
    case 2:
    case 3:
        fail_over(w);
        break;
    case 4:
        if (one_in(w, 3)) {
            world_flush(w);
            w->seen->flushes++;
        }
        break;
    case 5:
    case 6:
        evict(w);
        break;
    case 7:
    case 8:
        demote_old(w);
        break;
    case 9:
        if (r)
            client_kick(r);
        break;
    default:
        world_replicate(w);
    }
}

#endif
