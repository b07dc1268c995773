/* cluster.c - who has which slot, as CLUSTER SLOTS says and MOVED corrects.
 *
 * The table is asked for every PERIOD_MS, and soon after anything that contradicts it. An owner is
 * believed until the next word about it, whoever said it. Nodes are made when they are named and
 * closed when they have no slot left and no redirection has named them for a while (an ASK names a
 * node before it has slots).
 *
 * Subscriptions follow the slot of their channel, with classic pub/sub too: any node would do
 * there, but so they are where their publishes go. Each master is probed on a channel of a slot
 * that it has.
 *
 * A node on the wrong side of a partition tells an old table; when the cluster does not become
 * whole for UNWHOLE_MS, another node is asked.
 */
#include "cluster.h"

#include "crier/log.h"
#include "crier/rnd.h"
#include "endpoint.h"
#include "error.h"
#include "inquiry.h"
#include "probe.h"
#include "ranges.h"

#include <stdio.h>
#include <stdlib.h>

#define PERIOD_MS 10000
#define UNWHOLE_MS 3000
#define UNWHOLE_PERIOD_MS 1000
#define TICK_MS 20
#define KEEP_NAMED_MS 10000
#define MAX_NODES 1024
#define TAG_TRIES (SLOT_COUNT * 16)

static struct cluster *cluster_of(const struct redis *r)
{
    return r->state;
}

/* --- nodes --- */

static size_t count_nodes(const struct redis *r)
{
    size_t n = 0;

    for (const struct list *it = r->nodes.next; it != &r->nodes; it = it->next)
        n++;
    return n;
}

struct redis_node *cluster_node_at(struct redis *r, struct slice host, uint16_t port)
{
    struct redis_endpoint e;
    struct redis_node *n = NULL;

    list_for_each (it, &r->nodes) {
        struct redis_node *known = container_of(it, struct redis_node, in_client);
        if (endpoint_is_at(&known->endpoint, host, port))
            return known;
    }
    if (count_nodes(r) >= MAX_NODES) {
        log_error("redis_cluster_too_large", "nodes=%d", MAX_NODES);
        return NULL;
    }
    endpoint_make(&e, &r->o.target->endpoint[0], host, port);
    if (node_new(r, &e, &n) != ERR_OK)
        n = NULL;
    else
        n->named_ms = client_now_ms(r);
    endpoint_release(&e);
    return n;
}

/* It may still have to answer MOVED, so it stays for a while; unless it is stuck, for then those
 * who wait for its answers keep others from the new owner. */
static void lose_last_slot(struct redis *r, struct redis_node *n)
{
    n->needed = false;
    n->named_ms = client_now_ms(r);
    if (!node_takes_commands(n))
        node_doom(n, "it is stuck and has lost its slots");
}

void cluster_set_owner(struct redis *r, uint16_t slot, struct redis_node *n)
{
    struct cluster *cl = cluster_of(r);
    struct cluster_slot *s = &cl->slot[slot];
    struct redis_node *old = s->owner;

    if (old == n)
        return;
    s->owner = n;
    cl->changed = true;
    if (old) {
        cl->covered--;
        if (--old->slots == 0)
            lose_last_slot(r, old);
    }
    if (n) {
        if (n->slots++ == 0 && n->state == NODE_UNFIT)
            inquiry_begin(n); /* it was a replica, and may be promoted now */
        n->needed = true;
        cl->covered++;
    }
    detour_begin(r, slot);
    r->news = true;
}

static bool has_slot_of(struct redis *r, const struct redis_node *n, struct slice key)
{
    return cluster_of(r)->slot[slot_of(key)].owner == n;
}

/* A probe goes through a slot that the node has, as everything it serves. */
static void aim_probe(struct redis *r, struct redis_node *n)
{
    char text[16];

    if (n->slots == 0) {
        probe_drop(n);
        return;
    }
    if (n->probe_channel && has_slot_of(r, n, n->probe.channel)) {
        if (!n->proven)
            probe_send(n); /* the last may have come before the node knew of its slots */
        return;
    }
    uint32_t start = rnd_below(1u << 30);
    for (uint32_t i = 0; i < TAG_TRIES; i++) {
        snprintf(text, sizeof text, "%u", (unsigned)(start + i));
        if (has_slot_of(r, n, slice_str(text))) {
            probe_aim(n, slice_str(text));
            return;
        }
    }
}

static void aim_probes(struct redis *r)
{
    list_for_each (it, &r->nodes)
        aim_probe(r, container_of(it, struct redis_node, in_client));
}

static struct redis_node *superfluous(struct redis *r)
{
    list_for_each (it, &r->nodes) {
        struct redis_node *n = container_of(it, struct redis_node, in_client);
        if (n->slots == 0 && client_now_ms(r) - n->named_ms >= KEEP_NAMED_MS)
            return n;
    }
    return NULL;
}

/* --- the table --- */

static void take_table(struct redis *r, const struct slot_range *range, size_t n)
{
    struct cluster *cl = cluster_of(r);
    size_t slot = 0;

    /* In order of slots, which the answer need not have. */
    struct redis_node **owner = calloc(SLOT_COUNT, sizeof(struct redis_node *));
    BUG_ON(!owner);
    for (size_t i = 0; i < n; i++) {
        struct redis_node *node = cluster_node_at(r, range[i].host, range[i].port);
        for (size_t at = range[i].first; at <= range[i].last; at++)
            owner[at] = node;
    }
    for (slot = 0; slot < SLOT_COUNT; slot++)
        cluster_set_owner(r, (uint16_t)slot, owner[slot]);
    free(owner);
    cl->told = true;
}

/* Handlers may run when subscriptions are moved and nodes closed. */
static void follow_table(struct redis *r)
{
    struct cluster *cl = cluster_of(r);
    struct redis_node *n;

    aim_probes(r);
    subs_place_waiting(r);
    if (cl->changed) { /* it looks at every subscription */
        cl->changed = false;
        subs_reroute(r);
    }
    while (cl->running && (n = superfluous(r))) {
        log_info("redis_node_gone", "server=%s", n->name);
        node_close(n);
    }
}

static bool complain(const struct redis_endpoint *from, struct slice why)
{
    char *name = endpoint_name(from);

    log_warn("redis_cluster_useless", "server=%s why=%s", name, log_quote(why));
    free(name);
    return false;
}

/* True when it is worth asking the same node again. */
static bool is_whole(struct redis *r)
{
    struct cluster *cl = cluster_of(r);
    uint64_t now = client_now_ms(r);
    bool ready = redis_ready(r);

    cl->scout.period_ms = ready ? PERIOD_MS : UNWHOLE_PERIOD_MS;
    if (ready) {
        cl->whole_ms = now;
    } else if (now - cl->whole_ms > UNWHOLE_MS) {
        cl->whole_ms = now;
        return false;
    }
    return true;
}

static bool answer(struct redis *r, const struct redis_endpoint *from, const struct reply *reply)
{
    struct cluster *cl = cluster_of(r);
    struct slot_range *range = NULL;
    size_t n = 0, covered = cl->covered;

    if (reply_kind(reply) == REPLY_ERROR)
        return complain(from, reply_text(reply));
    if (ranges_read(reply, slice_str(from->host), &range, &n) != ERR_OK)
        return complain(from, SLICE("its table of slots is not one"));
    if (n == 0) {
        free(range);
        return complain(from, SLICE("it knows of no slots"));
    }
    take_table(r, range, n);
    free(range);
    if (cl->covered != covered)
        log_info("redis_cluster", "slots=%zu nodes=%zu", cl->covered, count_nodes(r));
    follow_table(r);
    return !cl->running || is_whole(r);
}

/* Those who have slots know best; the seeds are for the beginning, and for when all have moved. */
static size_t places(struct redis *r)
{
    return count_nodes(r) + r->o.target->n;
}

static void place(struct redis *r, size_t i, struct redis_endpoint *out)
{
    list_for_each (it, &r->nodes) {
        if (i-- == 0) {
            endpoint_copy(out, &container_of(it, struct redis_node, in_client)->endpoint);
            return;
        }
    }
    endpoint_copy(out, &r->o.target->endpoint[i]);
}

/* --- the tick, which runs while something waits for it --- */

void cluster_want_tick(struct redis *r)
{
    struct cluster *cl = cluster_of(r);

    if (!timer_is_set(&cl->tick))
        timer_set(loop_timers(r->loop), &cl->tick, TICK_MS);
}

static void ticked(struct timer *t)
{
    struct cluster *cl = container_of(t, struct cluster, tick);
    struct redis *r = cl->scout.r;

    client_enter(r);
    if (cl->sub_moved) {
        cl->sub_moved = false;
        aim_probes(r);
        subs_place_waiting(r);
    }
    detour_tick(r);
    if (cl->running && (cl->sub_moved || !list_is_empty(&cl->later)))
        cluster_want_tick(r);
    client_leave(r);
}

/* Placed with the next tick: two nodes that name each other would send a name around for ever, so
 * at least not as fast as they answer. */
static void cluster_sub_moved(struct redis *r, struct redis_node *from, const struct reply *why)
{
    struct cluster *cl = cluster_of(r);
    struct redirect to;

    scout_hurry(&cl->scout);
    if (error_parse_redirect(reply_text(why), &to) != ERR_OK)
        return;
    struct slice host = to.host.len ? to.host : slice_str(from->endpoint.host);
    struct redis_node *n = cluster_node_at(r, host, to.port);
    if (n) {
        n->named_ms = client_now_ms(r);
        cluster_set_owner(r, to.slot, n);
    }
    cl->sub_moved = true;
    cluster_want_tick(r);
}

/* --- life --- */

static void cluster_init(struct redis *r)
{
    static const struct scout_ops ops = {.places = places, .place = place, .answer = answer};
    static const struct slice question[] = {{"CLUSTER", 7}, {"SLOTS", 5}};
    struct cluster *cl = calloc(1, sizeof *cl);

    BUG_ON(!cl);
    list_init(&cl->later);
    timer_init(&cl->tick, ticked);
    scout_init(&cl->scout, r, &ops, question, 2, UNWHOLE_PERIOD_MS);
    r->state = cl;
}

static void cluster_release(struct redis *r)
{
    free(r->state);
}

static enum err cluster_start(struct redis *r)
{
    struct cluster *cl = cluster_of(r);

    cl->running = true;
    cl->whole_ms = client_now_ms(r);
    scout_start(&cl->scout);
    return ERR_OK;
}

static void cluster_stop(struct redis *r)
{
    struct cluster *cl = cluster_of(r);

    cl->running = cl->told = cl->changed = cl->sub_moved = false;
    scout_stop(&cl->scout);
    timer_cancel(loop_timers(r->loop), &cl->tick);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        cl->slot[slot].owner = NULL;
    cl->covered = 0;
    detour_stop(r);
}

static struct redis_node *cluster_node_for(struct redis *r, struct slice key)
{
    return cluster_of(r)->slot[slot_of(key)].owner;
}

static void cluster_look(struct redis *r, struct redis_node *n)
{
    (void)n;
    scout_hurry(&cluster_of(r)->scout);
}

static const char *cluster_missing(const struct redis *r)
{
    const struct cluster *cl = cluster_of(r);

    if (!cl->told)
        return "no node of the Redis Cluster has answered";
    return cl->covered == SLOT_COUNT ? NULL : "slots of the Redis Cluster have no server";
}

const struct topology_ops cluster_topology = {
    .init = cluster_init,
    .release = cluster_release,
    .start = cluster_start,
    .stop = cluster_stop,
    .node_for = cluster_node_for,
    .look = cluster_look,
    .missing = cluster_missing,
    .submit = detour_submit,
    .redirect = detour_redirect,
    .finished = detour_finished,
    .sub_moved = cluster_sub_moved,
};
