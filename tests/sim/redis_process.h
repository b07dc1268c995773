/* redis_process.h - processes with a bus each: they start, let go of their loop, end; their time
 * passes and their links come and go.
 */
#ifndef CRIER_TESTS_REDIS_PROCESS_H
#define CRIER_TESTS_REDIS_PROCESS_H

#include "redis_publisher.h"
#include "redis_pushes.h"

/* --- processes --- */

static struct ear ear_of[SLOTS][PORTS];

static inline void slot_options(struct world *w, struct slot *s)
{
    static const uint64_t linger[] = {0, 300, 5000}, timeout[] = {600, 3000, 10000};
    static const unsigned fit[] = {1, 3, 20, 2000};
    static const struct redis_endpoint endpoint = {.port = 6379};
    static const struct redis_target target = {
        .mode = REDIS_SHARDS, .n = 1, .endpoint = (struct redis_endpoint *)(uintptr_t)&endpoint};
    s->opt = (struct bus_redis_options){.target = &target,
                                        .prefix = PREFIX,
                                        .connect_timeout_ms = 1000,
                                        .command_timeout_ms = timeout[chance(w, 3)],
                                        .linger_ms = linger[chance(w, 3)],
                                        .max_message_bytes = 744};
    s->fit = fit[chance(w, 4)];
    s->opt.max_reply_bytes = (size_t)s->fit * 2 * (744 + 256);
}

static inline void slot_start(struct world *w, unsigned i)
{
    struct slot *s = &w->slot[i];
    slot_options(w, s);
    s->detached = false;
    memset(s->acked, 0, sizeof s->acked);
    timer_wheel_init(&s->loop.wheel, w->now_ms);
    slot_being_made = i;
    BUG_ON(bus_new_redis(&w->ns, &s->opt, &s->bus));
    s->n_ports = 1 + chance(w, PORTS);
    for (unsigned k = 0; k < s->n_ports; k++) {
        ear_of[i][k] = (struct ear){w, i, k};
        BUG_ON(bus_port_new(s->bus, on_event, &ear_of[i][k], &s->port[k]));
    }
    trace(w, "bus %u starts", i);
}

/* The backend keeps its client to itself; the client knows its slot. */
static inline void slot_attach(struct world *w, unsigned i)
{
    struct slot *s = &w->slot[i];
    if (s->bus && !s->attached && !s->detached) {
        timer_wheel_advance(&s->loop.wheel, w->now_ms);
        BUG_ON(bus_attach(s->bus, &s->loop));
        s->attached = true;
    }
}

static inline void slot_detach(struct world *w, unsigned i)
{
    struct slot *s = &w->slot[i];
    if (!s->attached)
        return;
    trace(w, "bus %u detaches", i);
    bus_detach(s->bus);
    s->attached = false;
    s->detached = true;
}

static inline void slot_end(struct world *w, unsigned i)
{
    struct slot *s = &w->slot[i];
    if (!s->bus)
        return;
    slot_detach(w, i);
    listeners_cut(w, i);
    for (unsigned k = 0; k < s->n_ports; k++)
        bus_port_free(s->port[k]);
    trace(w, "bus %u ends", i);
    bus_free(s->bus);
    s->bus = NULL;
    s->redis = NULL;
}

static inline bool slot_drain(struct world *w, unsigned i, unsigned n)
{
    struct mailbox *mb = w->slot[i].bus ? bus_inbox(w->slot[i].bus) : NULL;
    return mb && (mb->batch || mb->head) && (mailbox_drain(mb, n), true);
}

static inline bool port_drain(struct world *w, unsigned i, unsigned k, unsigned n)
{
    struct slot *s = &w->slot[i];
    struct mailbox *mb = s->bus && k < s->n_ports ? bus_port_mailbox(s->port[k]) : NULL;
    return mb && (mb->batch || mb->head) && (mailbox_drain(mb, n), true);
}

/* --- time --- */

static inline void slot_time(struct world *w, unsigned i)
{
    struct slot *s = &w->slot[i];
    if (!s->bus)
        return;
    if (s->redis && s->redis->attached)
        client_time(s->redis);
    timer_wheel_advance(bus_timers(s->bus), w->now_ms);
}

static inline void pass_time(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    clock_fake_wall_ms(WALL + w->now_ms);
    for (unsigned i = 0; i < w->n_slots; i++) {
        if (w->slot[i].bus)
            timer_wheel_tell_time(bus_timers(w->slot[i].bus), w->now_ms);
        if (w->calm || !one_in(w, 4)) /* timers of a busy loop are late */
            slot_time(w, i);
    }
}

/* --- links --- */

static inline struct redis *client_of(struct world *w, unsigned i)
{
    struct redis *r = w->slot[i].redis;
    return r && r->attached ? r : NULL;
}

static inline void link_comes(struct world *w, struct redis *r, bool pushes)
{
    int life = w->master;
    /* a process that has not noticed the failover, for a while */
    if (!w->calm && w->life[r->commands_life].serving && one_in(w, 3))
        life = r->commands_life;
    if (r->commands == LINK_UP && r->commands_life != life && !w->calm)
        w->seen->mixed++;
    if (pushes)
        client_connect_pushes(r, life);
    else
        client_connect_commands(r, life);
}

static inline void link_step(struct world *w)
{
    for (unsigned i = 0; i < 2 * w->n_slots; i++) {
        struct redis *r = client_of(w, i / 2);
        bool pushes = i % 2;
        enum link_state state = !r ? LINK_UP : pushes ? r->pushes : r->commands;
        if (r && state == LINK_DOWN && one_in(w, 3))
            link_comes(w, r, pushes);
        else if (r && (state == LINK_DYING ? one_in(w, 4) : one_in(w, w->storm)))
            (pushes ? client_lose_pushes : client_lose_commands)(r);
    }
}

static inline void wire_step(struct world *w)
{
    struct redis *r = client_of(w, chance(w, w->n_slots));
    unsigned n = one_in(w, 4) ? 1 + chance(w, 40) : 1 + chance(w, 3);
    if (!r)
        return;
    bool (*const step[])(struct redis *) = {client_execute,      client_answer, client_turn,
                                            client_take_request, client_hear,   client_execute,
                                            client_answer,       client_hear};
    bool (*what)(struct redis *) = step[chance(w, 8)];
    const struct slot *s = &w->slot[r->slot];
    if ((s->deaf && what == client_hear) || (s->mute && what == client_answer))
        return;
    while (n-- && what(r))
        ;
}

#endif
