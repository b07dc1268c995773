/* presence.c - who is in a channel, for namespaces that want to know.
 *
 * A member is known from the moment its join was submitted and seen from the moment the join was
 * answered, because a backend may take its time and a leave may overtake it. A client that joins
 * a channel several times is one member until it has left as often.
 *
 * A member lingering after its connection is gone is not decided here: whoever joined for it leaves
 * for it.
 */
#include "crier/clock.h"
#include "internal.h"

#include <stdlib.h>

struct member_key {
    const struct interest *interest;
    uint64_t client;
};

struct member {
    struct map_node node;
    struct list seen; /* in interest->members once joined */
    struct interest *interest;
    struct member_key key;
    uint32_t joins;
    bool joined;
    bool passing;
    uint64_t serial; /* of the join that brings it */
    uint64_t since_ms;
    const char *transport;
    char *user; /* owned; NULL = anonymous */
};

static struct member *of_node(const struct map_node *n)
{
    return container_of(n, struct member, node);
}

static struct slice key_of(const struct map_node *n)
{
    return slice_of(&of_node(n)->key, sizeof(struct member_key));
}

void presence_init(struct bus *b)
{
    map_init(&b->members, key_of);
}

void presence_free(struct member *m)
{
    if (m)
        free(m->user);
    free(m);
}

static void take_out(struct bus *b, struct member *m)
{
    map_remove(&b->members, &m->node);
    list_remove(&m->seen);
    if (m->joined)
        m->interest->n_members--;
}

void presence_release(struct bus *b)
{
    for (struct map_node *n = map_next(&b->members, NULL), *next; n; n = next) {
        take_out(b, of_node(n));
        next = map_next(&b->members, n);
        presence_free(of_node(n));
    }
    map_release(&b->members);
}

static struct member *find(const struct bus *b, const struct interest *i, uint64_t client)
{
    const struct member_key key = {.interest = i, .client = client};
    struct map_node *n = map_get(&b->members, slice_of(&key, sizeof key));
    return n ? of_node(n) : NULL;
}

void presence_expect(struct bus *b, struct interest *i, struct bus_join *op)
{
    if (!i->options->presence && !i->options->join_leave)
        return;
    op->serial = ++b->next_serial;
    struct member *m = find(b, i, op->member.client);
    if (m) {
        m->joins++;
        return;
    }
    m = bus_alloc(sizeof *m);
    list_init(&m->seen);
    m->interest = i;
    m->key = (struct member_key){.interest = i, .client = op->member.client};
    m->joins = 1;
    m->serial = op->serial;
    m->transport = op->member.transport;
    m->passing = op->member.passing;
    m->user = op->member.user ? slice_dup(slice_str(op->member.user)) : NULL;
    map_put(&b->members, &m->node);
}

struct member *presence_expected(struct bus *b, struct bus_join *op)
{
    struct slice channel = slice_str(op->channel);
    op->member.since_ms = clock_wall_ms();
    struct interest *i = op->serial ? interest_get(b, channel, hash_bytes(channel)) : NULL;
    struct member *m = i ? find(b, i, op->member.client) : NULL;
    if (!m || op->op.err)
        return NULL;
    if (m->joined) {
        op->member.since_ms = m->since_ms;
        return NULL;
    }
    m->since_ms = op->member.since_ms;
    return m->serial == op->serial ? m : NULL;
}

static void tell(struct bus *b, const struct interest *i, const struct member *m,
                 enum bus_event_kind kind)
{
    const struct bus_event ev = {
        .kind = kind,
        .channel = i->channel,
        .member = {.client = m->key.client,
                   .user = m->user,
                   .transport = m->transport,
                   .since_ms = m->since_ms},
        .subscribers = i->subscribers,
    };
    if (i->options->join_leave && !m->passing)
        interest_post_notice(b, i, &ev);
}

void presence_join(struct bus *b, struct member *m)
{
    m->joined = true;
    m->interest->n_members++;
    list_push_back(&m->interest->members, &m->seen);
    tell(b, m->interest, m, BUS_EVENT_JOIN);
}

struct member *presence_leave(struct bus *b, struct interest *i, uint64_t client)
{
    struct member *m = find(b, i, client);
    if (!m || --m->joins > 0)
        return NULL;
    take_out(b, m);
    if (m->joined)
        return m;
    presence_free(m);
    return NULL;
}

void presence_tell_leave(struct bus *b, const struct interest *i, const struct member *m)
{
    tell(b, i, m, BUS_EVENT_LEAVE);
}

static void copy_out(struct bus_member *out, const struct member *m)
{
    *out = (struct bus_member){
        .client = m->key.client,
        .user = m->user ? slice_dup(slice_str(m->user)) : NULL,
        .transport = m->transport,
        .since_ms = m->since_ms,
    };
}

enum err presence_list(struct bus *b, struct bus_presence *op)
{
    struct slice channel = slice_str(op->channel);
    if (!bus_ns(b, channel)->presence)
        return ERR_NOT_FOUND;
    const struct interest *i = interest_get(b, channel, hash_bytes(channel));
    op->total = i ? i->n_members : 0;
    uint32_t n = op->limit < op->total ? op->limit : op->total;
    if (n == 0)
        return ERR_OK;
    op->member = calloc(n, sizeof *op->member);
    if (!op->member)
        return ERR_NOMEM;
    list_for_each (it, &i->members) {
        if (op->count == n)
            break;
        copy_out(&op->member[op->count++], container_of(it, struct member, seen));
    }
    return ERR_OK;
}
