/* hub.c - one worker's sessions: found by id, woken by the bus, written at the end of the turn.
 *
 * Invariant: a session is in `sessions` until it is CLOSED, and from then in `closed` until the end
 * of the turn. A session is in `dirty` when it has something to write and is not waiting for
 * its socket.
 */
#include "hub_internal.h"

#include <stdlib.h>

static struct slice session_key(const struct map_node *n)
{
    const struct session *s = container_of((struct map_node *)(uintptr_t)n, struct session, by_id);
    return slice_of(&s->id, sizeof(s->id));
}

static struct slice audience_key(const struct map_node *n)
{
    const struct audience *a = container_of((struct map_node *)(uintptr_t)n, struct audience, node);
    return slice_of(a->name, a->name_len);
}

static void on_bus_event(void *ctx, const struct bus_event *ev)
{
    struct hub *h = ctx;
    bool message = ev->kind == BUS_EVENT_MESSAGE;
    struct slice channel = message ? ev->msg->channel : ev->channel;
    uint64_t hash = message ? ev->msg->channel_hash : hash_bytes(channel);
    struct audience *a = audience_find(h, channel, hash);
    if (!a)
        return; /* the last listener left while this was on its way */
    if (message)
        audience_deliver(a, ev->msg);
    else if (ev->kind == BUS_EVENT_GAP)
        audience_gap(a, ev);
    else
        audience_presence(a, ev);
}

enum err hub_new(const struct hub_options *opt, struct bus *bus, struct timer_wheel *timers,
                 struct hub **out)
{
    struct hub *h = calloc(1, sizeof(*h));
    if (!h)
        return ERR_NOMEM;
    buf_init(&h->lines, HUB_LINE_BYTES);
    enum err err = buf_reserve(&h->lines, HUB_LINE_BYTES);
    if (!err)
        err = bus_port_new(bus, on_bus_event, h, &h->port);
    if (err) {
        buf_release(&h->lines);
        free(h);
        return err;
    }
    h->opt = opt;
    h->timers = timers;
    map_init(&h->sessions, session_key);
    map_init(&h->audiences, audience_key);
    list_init(&h->dirty);
    list_init(&h->closed);
    pool_init(&h->subs, sizeof(struct sub));
    *out = h;
    return ERR_OK;
}

void hub_free(struct hub *h)
{
    if (!h)
        return;
    BUG_ON(h->sessions.count || !list_is_empty(&h->closed));
    bus_port_free(h->port);
    map_release(&h->sessions);
    map_release(&h->audiences);
    pool_release(&h->subs);
    buf_release(&h->lines);
    free(h);
}

struct bus_port *hub_port(struct hub *h)
{
    return h->port;
}

const struct hub_options *hub_options(const struct hub *h)
{
    return h->opt;
}

struct timer_wheel *hub_timers(struct hub *h)
{
    return h->timers;
}

size_t hub_session_count(const struct hub *h)
{
    return h->sessions.count;
}

struct session *hub_session(struct hub *h, uint64_t id)
{
    struct map_node *n = map_get(&h->sessions, slice_of(&id, sizeof(id)));
    return n ? container_of(n, struct session, by_id) : NULL;
}

void hub_each_session(struct hub *h, void (*fn)(struct session *s, void *ctx), void *ctx)
{
    struct map_node *n = NULL;
    while ((n = map_next(&h->sessions, n)))
        fn(container_of(n, struct session, by_id), ctx);
}

static void free_closed(struct hub *h)
{
    struct list *n;
    while ((n = list_pop_front(&h->closed))) {
        struct session *s = container_of(n, struct session, dirty);
        s->ops->free(s);
    }
}

bool hub_turn(struct hub *h)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &h->dirty);
    unsigned budget = HUB_FLUSH_BUDGET;
    struct list *n;
    while (budget-- && (n = list_pop_front(&now))) {
        struct session *s = container_of(n, struct session, dirty);
        if (s->cut)
            session_gone(s);
        else
            s->ops->flush(s);
    }
    /* What the budget left goes before what became dirty meanwhile. */
    list_splice_back(&now, &h->dirty);
    list_splice_back(&h->dirty, &now);
    free_closed(h);
    return !list_is_empty(&h->dirty);
}

enum err hub_publish(struct hub *h, const struct msg_draft *d, struct slice key,
                     void (*done)(struct bus_op *), void *ctx)
{
    struct msg *m;
    enum err err = msg_new(d, &m);
    if (err)
        return err;
    struct bus_publish *p = bus_publish_new(done, ctx);
    p->msg = m;
    if (key.len)
        p->key = slice_dup(key);
    bus_submit(h->port, &p->op);
    return ERR_OK;
}

struct hub_call *hub_call_new(struct hub *h, const struct session *s, struct slice ref)
{
    struct hub_call *c = calloc(1, sizeof(*c));
    BUG_ON(!c);
    BUG_ON(ref.len > SESSION_REF_BYTES);
    c->hub = h;
    c->session = s ? s->id : 0;
    c->ref_len = (uint8_t)ref.len;
    if (ref.len)
        memcpy(c->ref, ref.ptr, ref.len);
    return c;
}
