/* redis_publisher.h - those who publish, once or until it is answered, and who read histories,
 * clear, and ask about channels.
 */
#ifndef CRIER_TESTS_REDIS_PUBLISHER_H
#define CRIER_TESTS_REDIS_PUBLISHER_H

#include "redis_listener.h"

/* --- histories, clearing, asking --- */

static inline void on_history(struct bus_op *op)
{
    struct ask *a = op->ctx;
    const struct bus_history *h = container_of(op, struct bus_history, op);
    struct window v = window_of(a);
    struct place end;
    bool away = is_away(a, op);
    trace_answer(a, op, &h->cu);
    if (!away && !a->w->failed[0]) {
        const char *wrong =
            h->reverse ? judge_back(&v, &h->cu) : judge_page(&v, &h->cu, a->since, &end);
        if (!wrong)
            wrong = judge_fresh(&v, &h->cu, a->head);
        if (!wrong)
            wrong = judge_age(&v, &h->cu, a->now_ms);
        if (wrong)
            world_fail(a->w, "a history of %s at bus %u: %s", channel_name[a->channel], a->slot,
                       wrong);
        a->w->seen->histories++;
    }
    ask_done(a, op);
}

/* Of a process that lives; SLOTS when none does. */
static inline unsigned any_slot(struct world *w)
{
    unsigned s = chance(w, w->n_slots);
    return w->slot[s].bus ? s : SLOTS;
}

static inline struct bus_port *any_port(struct world *w, unsigned slot)
{
    return w->slot[slot].port[chance(w, w->slot[slot].n_ports)];
}

static inline void read_history(struct world *w)
{
    unsigned slot = any_slot(w);
    const struct listener *l = &w->listener[chance(w, LISTENERS)];
    if (slot == SLOTS)
        return;
    int channel = l->known ? l->channel : any_channel(w);
    struct ask *a = ask_new(w, slot, channel);
    struct bus_history *op = bus_history_new(on_history, a);
    op->channel = slice_dup(slice_str(channel_name[channel]));
    op->cu = limits(w);
    op->reverse = one_in(w, 2);
    op->cu.from = l->known && one_in(w, 2) ? FROM_POSITION : one_in(w, 4) ? FROM_NOW : FROM_LAST_N;
    op->cu.since = one_in(w, 3) && l->known ? odd_position(w, l) : l->pos;
    a->since = op->cu.since;
    op->cu.last_n = one_in(w, 3) ? UINT32_MAX : chance(w, 40);
    bus_submit(any_port(w, slot), &op->op);
}

static inline void on_cleared(struct bus_op *op)
{
    struct ask *a = op->ctx;
    (void)is_away(a, op);
    ask_done(a, op);
}

static inline void clear_channel(struct world *w)
{
    unsigned slot = any_slot(w);
    if (slot == SLOTS)
        return;
    int channel = any_channel(w);
    struct bus_clear *op = bus_clear_new(on_cleared, ask_new(w, slot, channel));
    op->channel = slice_dup(slice_str(channel_name[channel]));
    bus_submit(any_port(w, slot), &op->op);
    w->seen->clears++;
}

static inline void check_info(struct ask *a, const struct bus_channel_info *i)
{
    int channel = channel_index(slice_str(i->name));
    if (channel < 0 || (i->head.epoch && truth_place(&a->w->truth[channel], i->head).branch < 0))
        world_fail(a->w, "what is said of %s is not so", i->name);
}

static inline void on_channels(struct bus_op *op)
{
    struct ask *a = op->ctx;
    const struct bus_channels *c = container_of(op, struct bus_channels, op);
    if (!is_away(a, op))
        for (uint32_t i = 0; i < c->count; i++)
            check_info(a, &c->info[i]);
    ask_done(a, op);
}

static inline void on_channel(struct bus_op *op)
{
    struct ask *a = op->ctx;
    if (op->err != ERR_NOT_FOUND && !is_away(a, op))
        check_info(a, &container_of(op, struct bus_channel_get, op)->info);
    ask_done(a, op);
}

static inline void ask_about(struct world *w)
{
    unsigned slot = any_slot(w);
    if (slot == SLOTS)
        return;
    int channel = any_channel(w);
    if (one_in(w, 2)) {
        struct bus_channels *op = bus_channels_new(on_channels, ask_new(w, slot, channel));
        op->limit = 1 + chance(w, 8);
        bus_submit(any_port(w, slot), &op->op);
    } else {
        struct bus_channel_get *op = bus_channel_get_new(on_channel, ask_new(w, slot, channel));
        op->channel = slice_dup(slice_str(channel_name[channel]));
        bus_submit(any_port(w, slot), &op->op);
    }
}

/* --- publishing --- */

static inline void check_published(struct ask *a, const struct bus_publish *p)
{
    const struct truth *t = &a->w->truth[a->channel];
    const struct node *n = truth_node(t, truth_place(t, p->pos));
    if (!n)
        world_fail(a->w, "a publish was answered with a position that was never given");
    else if (n->uid != a->uid)
        world_fail(a->w, "a publish was answered with the position of another message");
    else if (p->repeated && !a->has_key)
        world_fail(a->w, "a publish without a key was repeated");
    a->w->seen->repeats += p->repeated;
    struct slot *s = &a->w->slot[a->slot];
    if (n && !p->repeated && n->tick > s->acked[a->channel].tick) {
        s->acked[a->channel].pos = p->pos;
        s->acked[a->channel].tick = n->tick;
    }
}

static inline void on_published(struct bus_op *op)
{
    struct ask *a = op->ctx;
    struct world *w = a->w;
    const struct bus_publish *p = container_of(op, struct bus_publish, op);
    if (!op->err) {
        check_published(a, p);
    } else if (op->err == ERR_CONFLICT) {
        w->seen->conflicts++;
        if (!a->a || !a->a->other_body)
            world_fail(w, "a conflict with itself");
    } else {
        (void)is_away(a, op);
        w->seen->refused++;
    }
    trace(w, "bus %u answers the publisher of %u: %s %u,%" PRIu64, a->slot, a->uid,
          op->err       ? err_str(op->err)
          : p->repeated ? "repeated"
                        : "published",
          p->pos.epoch, p->pos.offset);
    if (a->a) {
        a->a->asked = false;
        if (op->err != ERR_UNAVAILABLE && !one_in(w, 4))
            a->a->uid = 0; /* else once more, for the sake of it */
    }
    ask_done(a, op);
}

static inline struct msg *make_message(struct world *w, int channel, uint32_t uid)
{
    char text[512];
    unsigned pad = uid % 11 == 0 ? 400 : uid % 23;
    int n = snprintf(text, sizeof text, "n%u %0*u", uid, (int)pad, 0u);
    struct msg_draft d = {.channel = slice_str(channel_name[channel]),
                          .payload = slice_of(text, (size_t)n),
                          .kind = MSG_TEXT};
    struct msg *m;
    (void)w;
    BUG_ON(msg_new(&d, &m));
    return m;
}

/* Odd ones have a key. */
static inline uint32_t next_uid(struct world *w, bool with_key)
{
    w->next_uid += (w->next_uid & 1) == with_key ? 2 : 1;
    return w->next_uid;
}

static inline void publish(struct world *w, unsigned slot, int channel)
{
    struct ask *a = ask_new(w, slot, channel);
    struct bus_publish *op = bus_publish_new(on_published, a);
    a->uid = next_uid(w, false);
    op->msg = make_message(w, channel, a->uid);
    w->seen->published++;
    bus_submit(any_port(w, slot), &op->op);
}

/* An author says one thing until it is answered, wherever. */
static inline void author_step(struct world *w, struct author *au)
{
    unsigned slot = any_slot(w);
    if (slot == SLOTS || au->asked)
        return;
    if (!au->uid) {
        if (w->calm)
            return;
        *au = (struct author){.uid = next_uid(w, true), .channel = any_channel(w)};
        snprintf(au->key, sizeof au->key, "k%u", au->uid);
    } else if (one_in(w, 20) && !w->calm) {
        au->uid = next_uid(w, true);
        au->other_body = true;
    }
    struct ask *a = ask_new(w, slot, au->channel);
    struct bus_publish *op = bus_publish_new(on_published, a);
    a->a = au;
    a->uid = au->uid;
    a->has_key = true;
    op->msg = make_message(w, au->channel, au->uid);
    op->key = slice_dup(slice_str(au->key));
    au->asked = true;
    w->seen->published++;
    bus_submit(any_port(w, slot), &op->op);
}

#endif
