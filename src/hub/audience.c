/* audience.c - who listens to one channel on this worker.
 *
 * An array of subscriptions, because fan-out walks it for every message; each subscription knows
 * its place, so leaving is O(1). Delivery only appends to outboxes and never closes or frees a
 * session under the walk: a session in trouble is marked and dealt with at the end of the turn.
 */
#include "hub_internal.h"

#include "crier/metrics.h"

#include <stdlib.h>

struct audience *audience_find(struct hub *h, struct slice channel, uint64_t hash)
{
    struct map_node *n = map_get_hashed(&h->audiences, channel, hash);
    return n ? container_of(n, struct audience, node) : NULL;
}

struct audience *audience_take(struct hub *h, struct slice channel)
{
    struct audience *a = audience_find(h, channel, hash_bytes(channel));
    if (!a) {
        a = calloc(1, sizeof(*a) + channel.len);
        if (!a)
            return NULL;
        a->name_len = (uint16_t)channel.len;
        memcpy(a->name, channel.ptr, channel.len);
        a->tag = cursor_tag(channel);
        map_put(&h->audiences, &a->node);
    }
    a->n_subs++;
    return a;
}

void audience_drop(struct hub *h, struct audience *a)
{
    BUG_ON(!a->n_subs);
    if (--a->n_subs)
        return;
    map_remove(&h->audiences, &a->node);
    free(a->live);
    free(a);
}

enum err audience_add(struct audience *a, struct sub *sub)
{
    if (a->n_live == a->cap) {
        uint32_t cap = a->cap ? a->cap * 2 : 1;
        struct sub **live = realloc(a->live, cap * sizeof(struct sub *));
        if (!live)
            return ERR_NOMEM;
        a->live = live;
        a->cap = cap;
    }
    sub->place = a->n_live;
    a->live[a->n_live++] = sub;
    return ERR_OK;
}

void audience_remove(struct audience *a, struct sub *sub)
{
    if (sub->place == SUB_NOT_LIVE)
        return;
    struct sub *last = a->live[--a->n_live];
    a->live[sub->place] = last;
    last->place = sub->place;
    sub->place = SUB_NOT_LIVE;
}

void audience_deliver(struct audience *a, struct msg *m)
{
    for (uint32_t i = 0; i < a->n_live; i++) {
        struct sub *sub = a->live[i];
        if (session_is_excluded(sub->session, m))
            sub_pass_over(sub, m);
        else
            session_deliver(sub, m);
    }
}

void audience_presence(struct audience *a, const struct bus_event *ev)
{
    for (uint32_t i = 0; i < a->n_live; i++) {
        struct session *s = a->live[i]->session;
        if (s->state == SESSION_OPEN && s->dialect->presence)
            s->dialect->presence(s, ev);
    }
}

/* Those that still catch up hear of it from their next page. */
void audience_gap(struct audience *a, const struct bus_event *ev)
{
    const struct catch_up cu = {
        .since = ev->since, .start = ev->resumed, .head = ev->resumed, .gap = ev->gap};
    for (uint32_t i = 0; i < a->n_live; i++) {
        struct session *s = a->live[i]->session;
        if (s->state != SESSION_OPEN || s->quiet || s->cut)
            continue;
        metrics_inc(M_GAPS);
        s->dialect->gap(s, a->live[i], &cu);
        session_mark_dirty(s);
    }
}
