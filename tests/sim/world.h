/* world.h - a bus, its hubs and the order in which messages really were put, stepped by hand.
 *
 * The ledger is written when the bus has handled a publish and before anybody can hear of it: the
 * letter is looked at in the inbox, delivered alone, and read while it waits to go home. So the
 * ledger knows at every instant what is ordered and what has been trimmed, without listening.
 */
#ifndef CRIER_TESTS_WORLD_H
#define CRIER_TESTS_WORLD_H

#include "crier/clock.h"
#include "crier/hub.h"
#include "crier/metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WALL UINT64_C(1760000000000)
#define HUBS_MAX 3
#define ERAS_MAX 16
#define CHANNELS 6

static const char *const channel_name[CHANNELS] = {"few:a",  "brief:b", "common",
                                                   "none:d", "big:e",   "chat:f"};

struct entry {
    uint32_t uid;
    uint64_t at_ms;
};

struct ledger {
    struct entry *entry; /* owned; offset 1 is the first */
    size_t n, cap;
    uint64_t cleared_to;
};

struct era {
    uint32_t epoch; /* 0 until something is published */
    struct ledger ledger[CHANNELS];
};

struct world {
    uint64_t random;
    uint64_t seed;
    unsigned step;
    struct ns_table ns;
    struct hub_options opt;
    struct bus *bus;
    struct bus_port *port; /* of publishers that are no client */
    unsigned n_hubs;
    struct hub *hub[HUBS_MAX];
    struct timer_wheel timers[HUBS_MAX];
    uint64_t now_ms;
    struct era era[ERAS_MAX];
    unsigned n_eras;
    uint32_t next_uid;
    char failed[256]; /* the first thing that went wrong */
};

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

static inline void world_fail(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline void world_fail(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (w->failed[0])
        return;
    va_start(ap, fmt);
    vsnprintf(w->failed, sizeof(w->failed), fmt, ap);
    va_end(ap);
}

/* --- the ledger --- */

static inline struct era *era_now(struct world *w)
{
    return &w->era[w->n_eras - 1];
}

static inline struct era *era_of(const struct world *w, uint32_t epoch)
{
    for (unsigned i = 0; epoch && i < w->n_eras; i++)
        if (w->era[i].epoch == epoch)
            return (struct era *)(uintptr_t)&w->era[i];
    return NULL;
}

static inline int channel_index(struct slice name)
{
    for (int i = 0; i < CHANNELS; i++)
        if (slice_eq(name, slice_str(channel_name[i])))
            return i;
    return -1;
}

static inline const struct entry *ledger_at(const struct world *w, int channel, struct position pos)
{
    const struct era *era = era_of(w, pos.epoch);
    if (!era || !pos.offset || pos.offset > era->ledger[channel].n)
        return NULL;
    return &era->ledger[channel].entry[pos.offset - 1];
}

/* Position of a message in the present order; epoch 0 when there is none. */
static inline struct position ledger_find(struct world *w, int channel, uint32_t uid)
{
    const struct ledger *l = &era_now(w)->ledger[channel];
    for (size_t i = l->n; i > 0; i--)
        if (l->entry[i - 1].uid == uid)
            return (struct position){.epoch = era_now(w)->epoch, .offset = i};
    return (struct position){0};
}

static inline struct position ledger_head(struct world *w, int channel)
{
    return (struct position){.epoch = era_now(w)->epoch, .offset = era_now(w)->ledger[channel].n};
}

/* The bus may have given up messages up to this offset. */
static inline uint64_t ledger_trimmed_to(struct world *w, const struct era *era, int channel)
{
    const struct ns_options *o = ns_lookup(&w->ns, slice_str(channel_name[channel]));
    const struct ledger *l = &era->ledger[channel];
    uint64_t to = l->n > o->history_messages ? l->n - o->history_messages : 0;
    to = l->cleared_to > to ? l->cleared_to : to;
    while (to < l->n && l->entry[to].at_ms + o->history_ms <= w->now_ms)
        to++;
    return to;
}

static inline uint32_t uid_of_payload(struct slice payload)
{
    char text[32] = "";
    memcpy(text, payload.ptr, payload.len < 31 ? payload.len : 31);
    unsigned uid = 0;
    return sscanf(text, "{\"n\":%u", &uid) == 1 ? uid : 0;
}

static inline void ledger_add(struct world *w, const struct bus_publish *p)
{
    int channel = channel_index(p->msg->channel);
    struct era *era = era_now(w);
    struct ledger *l = &era->ledger[channel];
    uint32_t uid = uid_of_payload(p->msg->payload);
    if (!era->epoch)
        era->epoch = p->pos.epoch;
    if (p->pos.epoch != era->epoch || p->pos.offset != l->n + 1)
        world_fail(w, "the bus gave %s offset %llu after %zu", channel_name[channel],
                   (unsigned long long)p->pos.offset, l->n);
    if (p->key && ledger_find(w, channel, uid).epoch)
        world_fail(w, "message %u was published again though it has a key", uid);
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->entry = realloc(l->entry, l->cap * sizeof(*l->entry));
        BUG_ON(!l->entry);
    }
    l->entry[l->n++] = (struct entry){.uid = uid, .at_ms = w->now_ms};
}

static inline void ledger_check_repeat(struct world *w, const struct bus_publish *p)
{
    int channel = channel_index(p->msg->channel);
    struct position first = ledger_find(w, channel, uid_of_payload(p->msg->payload));
    if (first.epoch != p->pos.epoch || first.offset != p->pos.offset)
        world_fail(w, "a repeat was answered with another position than the first");
}

/* --- stepping --- */

static inline void bus_step_one(struct world *w)
{
    struct mailbox *inbox = bus_inbox(w->bus);
    struct mail *m = inbox->batch ? inbox->batch : inbox->head;
    struct bus_op *op = container_of(m, struct bus_op, mail);
    uint8_t kind = op->kind;
    (void)mailbox_drain(inbox, 1);
    /* the op waits in its port's mailbox now */
    if (kind == BUS_PUBLISH && !op->err) {
        const struct bus_publish *p = container_of(op, struct bus_publish, op);
        if (p->repeated)
            ledger_check_repeat(w, p);
        else
            ledger_add(w, p);
    } else if (kind == BUS_CLEAR) {
        const struct bus_clear *c = container_of(op, struct bus_clear, op);
        struct ledger *l = &era_now(w)->ledger[channel_index(slice_str(c->channel))];
        l->cleared_to = l->n;
    }
}

/* At most n letters; true when any was handled. */
static inline bool bus_step(struct world *w, unsigned n)
{
    struct mailbox *inbox = bus_inbox(w->bus);
    bool any = false;
    for (; n && (inbox->batch || inbox->head); n--, any = true)
        bus_step_one(w);
    return any;
}

static inline void world_pass_time(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    clock_fake_wall_ms(WALL + w->now_ms);
    timer_wheel_advance(bus_timers(w->bus), w->now_ms);
    for (unsigned i = 0; i < w->n_hubs; i++)
        timer_wheel_advance(&w->timers[i], w->now_ms);
}

static inline void world_answered(struct bus_op *op)
{
    bus_op_free(op);
}

static inline void payload_make(struct world *w, struct buf *b, uint32_t uid)
{
    static const char pad[4096] = {0};
    unsigned n = one_in(w, 12) ? chance(w, 3000) : chance(w, 60);
    buf_printf(b, "{\"n\":%u,\"pad\":\"", uid);
    for (unsigned i = 0; i < n; i++)
        buf_append_char(b, (char)(pad[i] + 'a' + (char)(i % 26)));
    buf_append_str(b, "\"}");
}

static inline void world_publish(struct world *w, int channel, const char *key)
{
    struct buf b;
    buf_init(&b, 8192);
    payload_make(w, &b, ++w->next_uid);
    struct msg_draft d = {
        .channel = slice_str(channel_name[channel]), .payload = buf_slice(&b), .kind = MSG_JSON};
    struct bus_publish *p = bus_publish_new(world_answered, NULL);
    BUG_ON(msg_new(&d, &p->msg));
    p->key = key ? slice_dup(slice_str(key)) : NULL;
    bus_submit(w->port, &p->op);
    buf_release(&b);
}

static inline void world_clear(struct world *w, int channel)
{
    struct bus_clear *c = bus_clear_new(world_answered, NULL);
    c->channel = slice_dup(slice_str(channel_name[channel]));
    bus_submit(w->port, &c->op);
}

/* --- beginning and end --- */

static inline void world_options(struct world *w)
{
    static const struct {
        const char *ns;
        uint32_t messages;
        uint64_t ms;
    } kept[] = {{"few", 6, 600000}, {"brief", 80, 1500}, {"none", 0, 600000}, {"big", 250, 600000}};
    ns_table_init(&w->ns);
    w->ns.common.history_messages = 60;
    w->ns.common.history_ms = 600000;
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        struct ns_options *o = ns_table_entry(&w->ns, slice_str(kept[i].ns));
        o->history_messages = kept[i].messages;
        o->history_ms = kept[i].ms;
    }
    w->opt = (struct hub_options){.outbox_bytes = 6000 + chance(w, 40000),
                                  .outbox_messages = 20 + chance(w, 150),
                                  .message_bytes = 65536,
                                  .sse_keepalive_ms = 15000,
                                  .sse_retry_ms = 2000,
                                  .ws_ping_ms = 30000,
                                  .ws_pong_ms = 10000};
}

/* A bus and hubs as after a start of the server: a new order. */
static inline void world_start(struct world *w)
{
    BUG_ON(w->n_eras == ERAS_MAX);
    w->n_eras++;
    BUG_ON(bus_new_memory(&w->ns, &w->bus));
    timer_wheel_advance(bus_timers(w->bus), w->now_ms);
    BUG_ON(bus_port_new(w->bus, NULL, NULL, &w->port));
    for (unsigned i = 0; i < w->n_hubs; i++) {
        timer_wheel_init(&w->timers[i], w->now_ms);
        BUG_ON(hub_new(&w->opt, w->bus, &w->timers[i], &w->hub[i]));
    }
}

/* All sessions are gone. */
static inline void world_stop(struct world *w)
{
    for (unsigned i = 0; i < w->n_hubs; i++) {
        while (hub_turn(w->hub[i]))
            ;
        hub_free(w->hub[i]);
    }
    bus_port_free(w->port);
    bus_free(w->bus);
}

static inline void world_begin(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->random = w->seed = seed;
    w->now_ms = 5000;
    clock_fake_wall_ms(WALL + w->now_ms);
    world_options(w);
    w->n_hubs = 1 + chance(w, HUBS_MAX);
    world_start(w);
}

static inline void world_end(struct world *w)
{
    world_stop(w);
    for (unsigned i = 0; i < w->n_eras; i++)
        for (int c = 0; c < CHANNELS; c++)
            free(w->era[i].ledger[c].entry);
    clock_fake_wall_ms(0);
}

#endif
