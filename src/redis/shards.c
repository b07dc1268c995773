/* shards.c - n independent servers, a key on one of them by rendezvous hashing.
 *
 * Nothing is asked and nothing learnt: a server that is away takes its keys along until it is back,
 * because another one would not have their history.
 */
#include "shards.h"

#include "node.h"
#include "probe.h"
#include "slot.h"

#include <stdlib.h>

struct shard_set {
    struct redis_node **node; /* owned array; the nodes are the client's */
    uint64_t *hash;           /* owned */
    size_t n;                 /* of the target; 0 nodes while stopped */
    bool running;
};

static uint64_t mix(uint64_t z) /* splitmix64 */
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t shards_hash(struct slice text)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (unsigned char)text.ptr[i]) * 0x100000001b3u;
    return mix(h);
}

size_t shards_pick(struct slice key, const uint64_t *hash, size_t n)
{
    uint64_t of_key = n > 1 ? shards_hash(slot_tag(key)) : 0;
    uint64_t best_weight = 0;
    size_t best = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t weight = mix(of_key ^ hash[i]);
        /* Two equal weights are two equal hashes: the same server named twice. */
        if (i == 0 || weight > best_weight) {
            best = i;
            best_weight = weight;
        }
    }
    return best;
}

static uint64_t hash_of_endpoint(const struct redis_endpoint *e)
{
    struct buf b;

    buf_init(&b, 4096);
    redis_endpoint_text(e, &b);
    buf_printf(&b, "/%u", (unsigned)e->db);
    uint64_t hash = shards_hash(buf_slice(&b));
    buf_release(&b);
    return hash;
}

static void shards_init(struct redis *r)
{
    const struct redis_target *t = r->o.target;
    struct shard_set *set = calloc(1, sizeof *set);

    BUG_ON(!set || t->n == 0);
    set->n = t->n;
    set->node = calloc(t->n, sizeof(struct redis_node *));
    set->hash = calloc(t->n, sizeof *set->hash);
    BUG_ON(!set->node || !set->hash);
    for (size_t i = 0; i < t->n; i++)
        set->hash[i] = hash_of_endpoint(&t->endpoint[i]);
    r->state = set;
}

static void shards_release(struct redis *r)
{
    struct shard_set *set = r->state;

    free(set->node);
    free(set->hash);
    free(set);
}

static enum err shards_start(struct redis *r)
{
    struct shard_set *set = r->state;

    for (size_t i = 0; i < set->n; i++) {
        enum err e = node_new(r, &r->o.target->endpoint[i], &set->node[i]);
        if (e)
            return e;
        set->node[i]->needed = true;
        probe_aim(set->node[i], SLICE_NONE);
    }
    set->running = true;
    subs_place_waiting(r);
    return ERR_OK;
}

static void shards_stop(struct redis *r)
{
    struct shard_set *set = r->state;

    set->running = false;
}

static struct redis_node *shards_node_for(struct redis *r, struct slice key)
{
    struct shard_set *set = r->state;

    return set->running ? set->node[shards_pick(key, set->hash, set->n)] : NULL;
}

static void shards_look(struct redis *r, struct redis_node *n)
{
    (void)r; /* there is nobody to ask */
    (void)n;
}

static const char *shards_missing(const struct redis *r)
{
    (void)r;
    return NULL;
}

const struct topology_ops shards_topology = {
    .init = shards_init,
    .release = shards_release,
    .start = shards_start,
    .stop = shards_stop,
    .node_for = shards_node_for,
    .look = shards_look,
    .missing = shards_missing,
};
