/* interest.c - which ports hear a channel.
 *
 * A count per port and a bit per counted port: publishing walks the bits, so what a message costs
 * depends on how many workers want it and not on how many clients do. The backend hears of the
 * first and of the last listener only.
 */
#include "internal.h"

#include <stdlib.h>

static struct interest *of_node(const struct map_node *n)
{
    return container_of(n, struct interest, node);
}

static struct slice channel_of(const struct map_node *n)
{
    return of_node(n)->channel;
}

void interest_init(struct bus *b)
{
    map_init(&b->interests, channel_of);
}

void interest_release(struct bus *b)
{
    for (struct map_node *n = map_next(&b->interests, NULL), *next; n; n = next) {
        map_remove(&b->interests, n);
        next = map_next(&b->interests, n);
        free(of_node(n));
    }
    map_release(&b->interests);
}

struct interest *interest_get(const struct bus *b, struct slice channel, uint64_t hash)
{
    struct map_node *n = map_get_hashed(&b->interests, channel, hash);
    return n ? of_node(n) : NULL;
}

static struct interest *interest_new(struct bus *b, struct slice channel)
{
    const size_t counts = b->n_ports * sizeof(uint32_t);
    struct interest *i = bus_alloc(sizeof *i + counts + channel.len);
    char *name = (char *)i->count + counts;
    memcpy(name, channel.ptr, channel.len);
    i->channel = slice_of(name, channel.len);
    i->options = bus_ns(b, channel);
    list_init(&i->members);
    map_put(&b->interests, &i->node);
    return i;
}

static void tell_subscribers(struct bus *b, const struct interest *i)
{
    if (b->be->ops->subscribers)
        b->be->ops->subscribers(b->be, i->channel, i->node.hash, i->subscribers);
}

struct interest *interest_add(struct bus *b, struct slice channel, unsigned port)
{
    const uint64_t hash = hash_bytes(channel);
    struct interest *i = interest_get(b, channel, hash);
    bool first = i == NULL;
    if (first)
        i = interest_new(b, channel);
    i->count[port]++;
    i->subscribers++;
    i->ports |= UINT64_C(1) << port;
    if (first)
        b->be->ops->interest(b->be, channel, hash, true);
    tell_subscribers(b, i);
    return i;
}

bool interest_drop(struct bus *b, struct interest *i, unsigned port)
{
    BUG_ON(i->count[port] == 0);
    i->subscribers--;
    if (--i->count[port] == 0)
        i->ports &= ~(UINT64_C(1) << port);
    tell_subscribers(b, i);
    if (i->subscribers > 0)
        return true;
    BUG_ON(!list_is_empty(&i->members)); /* left for another client than it joined for */
    b->be->ops->interest(b->be, i->channel, i->node.hash, false);
    map_remove(&b->interests, &i->node);
    free(i);
    return false;
}

/* The lowest listening port, taken out of *ports; NULL when there is none. */
static struct bus_port *next_port(const struct bus *b, uint64_t *ports)
{
    while (*ports) {
        struct bus_port *p = b->port[__builtin_ctzll(*ports)];
        *ports &= *ports - 1;
        if (p)
            return p;
    }
    return NULL;
}

void interest_post_message(struct bus *b, const struct interest *i, struct msg *m)
{
    uint64_t ports = i->ports;
    for (struct bus_port *p; (p = next_port(b, &ports));)
        port_post_message(p, m);
}

void interest_post_notice(struct bus *b, const struct interest *i, const struct bus_event *ev)
{
    uint64_t ports = i->ports;
    for (struct bus_port *p; (p = next_port(b, &ports));)
        port_post_notice(p, ev);
}
