/* redis_witness.c - what was acknowledged, so that nobody can forget it unnoticed.
 *
 * A server that comes back, or one that takes over, may have less than was acknowledged, and it
 * cannot know. Whoever acknowledged it does: the newest position of each channel that this process
 * published to is kept, with the last epochs before it, since a server may have lost an epoch from
 * its beginning; it is said with the next publish and whenever Redis is back. Listeners say theirs
 * with every repair (redis_read.c). The scripts compare, and mark a loss where there is one.
 *
 * Bounded: the channels that were published to last. A loss in another is seen by those who had
 * received it.
 */
#include "redis_range.h"

#include <stdlib.h>

#define WITNESSES_MAX 4096

struct witness {
    struct map_node node;
    struct list by_use;
    struct known known;
    uint32_t name_len;
    char name[];
};

struct witnesses {
    struct redis_bus *rb; /* borrowed */
    struct map channels;  /* struct witness */
    struct list by_use;   /* the oldest first */
};

static struct witness *of_node(const struct map_node *n)
{
    return container_of(n, struct witness, node);
}

static struct slice name_of(const struct map_node *n)
{
    return slice_of(of_node(n)->name, of_node(n)->name_len);
}

enum err witnesses_new(struct redis_bus *rb, struct witnesses **out)
{
    struct witnesses *all = calloc(1, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    all->rb = rb;
    map_init(&all->channels, name_of);
    list_init(&all->by_use);
    *out = all;
    return ERR_OK;
}

static void drop_oldest(struct witnesses *all)
{
    struct witness *w = container_of(list_pop_front(&all->by_use), struct witness, by_use);
    map_remove(&all->channels, &w->node);
    free(w);
}

void witnesses_free(struct witnesses *all)
{
    if (!all)
        return;
    while (!list_is_empty(&all->by_use))
        drop_oldest(all);
    map_release(&all->channels);
    free(all);
}

struct known known_of(struct position head, const struct lineage *line)
{
    struct known k = {.n = head.epoch != 0, .at = {head}};
    for (uint32_t i = line ? line->count : 0; i-- > 0 && k.n && k.n < KNOWN_MAX;) {
        k.at[k.n] = line->ended[i];
        /* An epoch may have begun without a message yet. */
        k.at[k.n++].offset += line->ended[i].offset < head.offset;
    }
    return k;
}

void witness_note(struct redis_bus *rb, struct slice channel, uint64_t hash, struct position pos,
                  const struct lineage *line)
{
    struct witnesses *all = rb->witnesses;
    struct map_node *n = map_get_hashed(&all->channels, channel, hash);
    struct witness *w = n ? of_node(n) : NULL;
    if (!w) {
        if (all->channels.count == WITNESSES_MAX)
            drop_oldest(all);
        w = bus_alloc(sizeof *w + channel.len);
        memcpy(w->name, channel.ptr, channel.len);
        w->name_len = (uint32_t)channel.len;
        list_init(&w->by_use);
        map_put(&all->channels, &w->node);
    }
    if (w->known.n && w->known.at[0].epoch == pos.epoch)
        w->known.at[0] = pos;
    else
        w->known = known_of(pos, line);
    list_remove(&w->by_use);
    list_push_back(&all->by_use, &w->by_use);
}

struct known witness_get(struct redis_bus *rb, struct slice channel, uint64_t hash)
{
    struct map_node *n = map_get_hashed(&rb->witnesses->channels, channel, hash);
    return n ? of_node(n)->known : (struct known){.n = 0};
}

static void on_heard(struct range_call *call, enum err e, struct range *g)
{
    (void)e; /* said again with the next publish, and when Redis is back once more */
    (void)g;
    free(call);
}

void witnesses_speak(struct redis_bus *rb)
{
    list_for_each (it, &rb->witnesses->by_use) {
        struct witness *w = container_of(it, struct witness, by_use);
        struct slice channel = slice_of(w->name, w->name_len);
        struct range_call *call = bus_alloc(sizeof *call);
        call->rb = rb;
        call->options = bus_ns(rb->be.bus, channel);
        call->from = RANGE_NOTHING;
        call->known = w->known;
        call->done = on_heard;
        range_read(call, channel);
    }
}
