/* redis_pushes.h - the other half of redis_client.h: subscriptions, what is published to them, and
 * the links coming and going.
 */
#ifndef CRIER_TESTS_REDIS_PUSHES_H
#define CRIER_TESTS_REDIS_PUSHES_H

#include "redis_client.h"

/* To the server: SUBSCRIBE or UNSUBSCRIBE. */
struct request {
    struct list in_link;
    bool subscribe;
    uint32_t number;
    struct slice channel; /* owned, behind it */
};

/* From the server. */
struct push {
    struct list in_link;
    enum push_kind kind;
    uint32_t number;
    struct slice channel, payload; /* owned, behind it */
};

/* What the server knows of a subscribe link. */
struct subscription {
    struct list in_link;
    uint32_t number;
    struct slice channel; /* owned, behind it */
};

/* --- subscriptions --- */

static inline struct redis_sub *sub_of(struct list *it)
{
    return container_of(it, struct redis_sub, in_node);
}

void redis_subscribe(struct redis *r, struct redis_sub *s)
{
    BUG_ON(s->state != SUB_NONE);
    list_init(&s->in_node);
    list_push_back(&r->subs, &s->in_node);
    s->state = SUB_WANTED;
}

static inline void send_request(struct redis *r, bool subscribe, struct slice channel)
{
    struct request *q = with_bytes(sizeof *q, channel.len);
    char *at = (char *)(q + 1);
    q->subscribe = subscribe;
    q->number = r->asked;
    q->channel = keep_bytes(&at, channel);
    list_push_back(&r->requests, &q->in_link);
}

void redis_unsubscribe(struct redis *r, struct redis_sub *s)
{
    if (s->state == SUB_NONE)
        return;
    if (s->state >= SUB_SENT && r->pushes == LINK_UP)
        send_request(r, false, s->channel);
    list_remove(&s->in_node);
    s->state = SUB_NONE;
}

/* The end of a turn: what is wanted is asked for. */
static inline bool client_turn(struct redis *r)
{
    bool any = false;
    if (r->pushes != LINK_UP)
        return false;
    list_for_each (it, &r->subs) {
        struct redis_sub *s = sub_of(it);
        if (s->state != SUB_WANTED)
            continue;
        s->asked = ++r->asked;
        s->state = SUB_SENT;
        send_request(r, true, s->channel);
        any = true;
    }
    return any;
}

static inline void push_new(struct redis *r, enum push_kind kind, uint32_t number,
                            struct slice channel, struct slice payload)
{
    struct push *p = with_bytes(sizeof *p, channel.len + payload.len);
    char *at = (char *)(p + 1);
    p->kind = kind;
    p->number = number;
    p->channel = keep_bytes(&at, channel);
    p->payload = keep_bytes(&at, payload);
    list_push_back(&r->heard, &p->in_link);
}

static inline struct subscription *subscription_of(struct redis *r, struct slice channel)
{
    list_for_each (it, &r->subscriptions) {
        struct subscription *s = container_of(it, struct subscription, in_link);
        if (slice_eq(s->channel, channel))
            return s;
    }
    return NULL;
}

static inline void subscription_end(struct subscription *s)
{
    if (!s)
        return;
    list_remove(&s->in_link);
    free(s);
}

/* The server takes the oldest request. */
static inline bool client_take_request(struct redis *r)
{
    struct list *it = r->pushes == LINK_UP ? list_pop_front(&r->requests) : NULL;
    if (!it)
        return false;
    struct request *q = container_of(it, struct request, in_link);
    subscription_end(subscription_of(r, q->channel));
    r->w->tick++;
    if (q->subscribe) {
        struct subscription *s = with_bytes(sizeof *s, q->channel.len);
        char *at = (char *)(s + 1);
        s->number = q->number;
        s->channel = keep_bytes(&at, q->channel);
        list_push_back(&r->subscriptions, &s->in_link);
        push_new(r, PUSH_CONFIRMED, q->number, q->channel, SLICE_NONE);
    }
    free(q);
    return true;
}

static void client_publish(struct world *w, int life, struct slice channel, struct slice payload)
{
    for (unsigned i = 0; i < w->n_slots; i++) {
        struct redis *r = w->slot[i].redis;
        if (!r || r->pushes != LINK_UP || r->pushes_life != life)
            continue;
        const struct subscription *s = subscription_of(r, channel);
        bool lost = w->lossy && !w->calm && one_in(w, w->lossy);
        if (s && !lost)
            push_new(r, PUSH_MESSAGE, s->number, channel, payload);
    }
}

static inline struct redis_sub *find_sub(struct redis *r, struct slice channel)
{
    list_for_each (it, &r->subs)
        if (slice_eq(sub_of(it)->channel, channel))
            return sub_of(it);
    return NULL;
}

static inline void take_push(struct redis *r, const struct push *p)
{
    struct redis_sub *s = find_sub(r, p->channel);
    if (!s || s->asked != p->number)
        return; /* left meanwhile */
    if (p->kind == PUSH_CONFIRMED && s->state == SUB_SENT) {
        s->state = SUB_ON;
        r->o.on.subscribed(r->o.ctx, s);
    } else if (p->kind == PUSH_MESSAGE && s->state == SUB_ON) {
        r->o.on.message(r->o.ctx, s, p->payload);
    } else if (p->kind == PUSH_ENDED && s->state == SUB_ON) {
        s->state = SUB_WANTED;
        r->o.on.lost(r->o.ctx, s);
    }
}

/* The client reads the oldest push. */
static inline bool client_hear(struct redis *r)
{
    struct list *it = r->pushes == LINK_DOWN ? NULL : list_pop_front(&r->heard);
    if (!it)
        return false;
    r->w->tick++;
    take_push(r, container_of(it, struct push, in_link));
    free(container_of(it, struct push, in_link));
    return true;
}

/* The server takes one subscription away, as it does when a slot moves. */
static inline void client_kick(struct redis *r)
{
    struct list *it = r->pushes == LINK_UP ? list_pop_front(&r->subscriptions) : NULL;
    if (!it)
        return;
    struct subscription *s = container_of(it, struct subscription, in_link);
    push_new(r, PUSH_ENDED, s->number, s->channel, SLICE_NONE);
    free(s);
    r->w->seen->kicked++;
}

static inline void drop_pushes(struct redis *r)
{
    struct list *it;
    while ((it = list_pop_front(&r->requests)))
        free(container_of(it, struct request, in_link));
    while ((it = list_pop_front(&r->heard)))
        free(container_of(it, struct push, in_link));
    while ((it = list_pop_front(&r->subscriptions)))
        free(container_of(it, struct subscription, in_link));
}

static inline void client_lose_pushes(struct redis *r)
{
    struct world *w = r->w;
    if (r->pushes == LINK_DOWN)
        return;
    for (unsigned n = chance(w, 8); n; n--)
        (void)client_hear(r);
    trace(w, "bus %u loses its subscribe link to L%d", r->slot, r->pushes_life);
    w->seen->links_lost++;
    r->pushes = LINK_DOWN;
    drop_pushes(r);
    for (struct list *it = r->subs.next, *next; it != &r->subs; it = next) {
        struct redis_sub *s = sub_of(it);
        bool was_on = s->state == SUB_ON;
        next = it->next;
        s->state = SUB_WANTED;
        if (was_on)
            r->o.on.lost(r->o.ctx, s);
    }
    r->o.on.ready(r->o.ctx);
}

/* --- links --- */

static inline void take_seat(struct world *w, unsigned slot, int life)
{
    struct slot *s = &w->slot[slot];
    if (s->n_seats && s->seat[s->n_seats - 1].life == life)
        return;
    s->seat = realloc(s->seat, (s->n_seats + 1) * sizeof *s->seat);
    BUG_ON(!s->seat);
    s->seat[s->n_seats++] = (struct seat){.tick = ++w->tick, .life = life};
}

static inline void client_connect_commands(struct redis *r, int life)
{
    struct world *w = r->w;
    if (!r->attached || r->commands != LINK_DOWN)
        return;
    trace(w, "bus %u connects its command link to L%d", r->slot, life);
    bool another = memcmp(r->identity, w->life[life].identity, sizeof r->identity) != 0;
    r->commands = LINK_UP;
    r->commands_life = life;
    memcpy(r->identity, w->life[life].identity, sizeof r->identity);
    take_seat(w, r->slot, life);
    r->o.on.ready(r->o.ctx);
    if (another) /* who is heard may still be the one of before */
        client_lose_pushes(r);
}

static inline void client_connect_pushes(struct redis *r, int life)
{
    if (!r->attached || r->pushes != LINK_DOWN)
        return;
    trace(r->w, "bus %u connects its subscribe link to L%d", r->slot, life);
    r->pushes = LINK_UP;
    r->pushes_life = life;
    r->o.on.ready(r->o.ctx);
}

void redis_detach(struct redis *r)
{
    struct list *it;
    if (!r->attached)
        return;
    r->closing = true;
    while ((it = list_pop_front(&r->subs)))
        sub_of(it)->state = SUB_NONE;
    drop_pushes(r);
    r->pushes = LINK_DOWN;
    r->commands = LINK_DOWN;
    answer_all(r, ERR_CLOSED);
    BUG_ON(!list_is_empty(&r->calls));
    r->attached = r->closing = false;
}

void redis_free(struct redis *r)
{
    BUG_ON(r->attached || !list_is_empty(&r->calls) || !list_is_empty(&r->subs));
    r->w->slot[r->slot].redis = NULL;
    free(r);
}

/* The server of a life is gone from one instant to the next. */
static inline void links_die(struct world *w, int life)
{
    for (unsigned i = 0; i < w->n_slots; i++) {
        struct redis *r = w->slot[i].redis;
        if (r && r->commands == LINK_UP && r->commands_life == life)
            r->commands = LINK_DYING;
        if (r && r->pushes == LINK_UP && r->pushes_life == life)
            r->pushes = LINK_DYING;
    }
    for (struct list *it = w->ghosts.next, *next; it != &w->ghosts; it = next) {
        next = it->next;
        if (command_of(it)->life == life)
            command_free(command_of(it));
    }
}

/* A ghost is carried out, or its server finds that nobody is there. */
static inline void ghost_step(struct world *w)
{
    if (list_is_empty(&w->ghosts))
        return;
    struct command *c = command_of(w->ghosts.next);
    if (w->life[c->life].serving && !one_in(w, 4)) {
        server_execute(w, c->life, c);
        w->seen->ghosts++;
    }
    command_free(c);
}

/* A command that is not answered in time costs the link. */
static inline void client_time(struct redis *r)
{
    if (!list_is_empty(&r->calls) && r->commands != LINK_DOWN &&
        r->w->now_ms - command_of(r->calls.next)->at_ms > r->o.command_timeout_ms)
        client_lose_commands(r);
}

#endif
