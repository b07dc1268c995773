/* redis.c - life of a client, the end of its turns, readiness.
 *
 * What must not happen under a callback's feet is put off to the end of the turn: breaking links
 * that answered what they cannot have meant, asking for subscriptions, telling that readiness has
 * changed. `news` says that there is such a thing.
 */
#include "client.h"
#include "crier/codec.h"
#include "node.h"
#include "probe.h"

#include <stdlib.h>

static const char identity_mark[] = "identity", publish_mark[] = "publish";
const struct slice redis_arg_identity = {identity_mark, sizeof identity_mark - 1};
const struct slice redis_arg_publish = {publish_mark, sizeof publish_mark - 1};

void redis_script_init(struct redis_script *s)
{
    uint8_t digest[20];

    sha1(slice_str(s->text), digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        s->sha1_hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        s->sha1_hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    s->sha1_hex[40] = '\0';
}

static struct slice sub_key(const struct map_node *node)
{
    return container_of(node, const struct redis_sub, node)->channel;
}

static const struct topology_ops *topology_for(enum redis_mode mode)
{
    switch (mode) {
    case REDIS_SHARDS:
        return &shards_topology;
    case REDIS_SENTINEL:
        return &sentinel_topology;
    case REDIS_CLUSTER:
        return &cluster_topology;
    }
    bug_at(__FILE__, __LINE__, "unknown mode");
}

static const char *why_not(const struct redis *r)
{
    const char *why = r->loop ? r->topology->missing(r) : "the client has no loop";

    for (const struct list *it = r->nodes.next; !why && it != &r->nodes; it = it->next) {
        const struct redis_node *n = container_of(it, const struct redis_node, in_client);
        if (n->needed)
            why = probe_why_not(n);
    }
    return why;
}

const char *redis_why_not(const struct redis *r)
{
    return why_not(r);
}

bool redis_ready(const struct redis *r)
{
    return why_not(r) == NULL;
}

static struct redis_node *first_doomed(struct redis *r)
{
    list_for_each (it, &r->nodes) {
        struct redis_node *n = container_of(it, struct redis_node, in_client);
        if (n->doom_why || n->deaf_why)
            return n;
    }
    return NULL;
}

static void flush_subscriptions(struct redis *r)
{
    list_for_each (it, &r->nodes)
        subs_flush(container_of(it, struct redis_node, in_client));
}

static void tell_ready(struct redis *r)
{
    bool ready = redis_ready(r);

    if (!r->loop || ready == r->was_ready)
        return;
    r->was_ready = ready;
    if (r->o.on.ready)
        r->o.on.ready(r->o.ctx);
}

static bool turn_end(struct loop_hook *h)
{
    struct redis *r = container_of(h, struct redis, turn_end);
    struct redis_node *n;

    if (!r->news)
        return false;
    client_enter(r);
    r->news = false;
    while ((n = first_doomed(r)))
        node_break_doomed(n);
    flush_subscriptions(r);
    tell_ready(r);
    bool more = r->news && r->loop;
    client_leave(r);
    return more;
}

enum err redis_new(const struct redis_options *o, struct redis **out)
{
    struct redis *r = calloc(1, sizeof *r);

    if (!r)
        return ERR_NOMEM;
    r->o = *o;
    if (!r->o.prefix)
        r->o.prefix = "";
    r->topology = topology_for(o->target->mode);
    list_init(&r->nodes);
    list_init(&r->nowhere);
    list_init(&r->turn_end.node);
    r->turn_end.run = turn_end;
    map_init(&r->subs, sub_key);
    pool_init(&r->flights, sizeof(struct flight));
    r->topology->init(r);
    *out = r;
    return ERR_OK;
}

enum err redis_attach(struct redis *r, struct loop *l)
{
    BUG_ON(r->loop);
    r->loop = l;
    r->was_ready = false;
    /* Before the hooks of the links: what is asked for at the end of a turn goes out in it. */
    loop_add_hook(l, &r->turn_end);
    client_enter(r);
    enum err e = r->topology->start(r);
    if (e)
        redis_detach(r);
    client_leave(r);
    return e;
}

void redis_detach(struct redis *r)
{
    if (!r->loop || r->closing)
        return;
    client_enter(r);
    r->closing = true;
    subs_forget(r);
    r->topology->stop(r);
    while (!list_is_empty(&r->nodes))
        node_close(container_of(r->nodes.next, struct redis_node, in_client));
    loop_remove_hook(r->loop, &r->turn_end);
    r->loop = NULL;
    r->closing = false;
    r->news = false;
    client_leave(r);
}

static void really_free(struct redis *r)
{
    subs_forget(r);
    r->topology->release(r);
    map_release(&r->subs);
    pool_release(&r->flights);
    free(r->arg);
    free(r);
}

void redis_free(struct redis *r)
{
    if (!r)
        return;
    BUG_ON(r->loop && !r->closing);
    if (r->depth > 0)
        r->freed = true;
    else
        really_free(r);
}

void client_enter(struct redis *r)
{
    r->depth++;
}

void client_leave(struct redis *r)
{
    if (--r->depth == 0 && r->freed)
        really_free(r);
}

uint64_t client_now_ms(const struct redis *r)
{
    return loop_now_ms(r->loop);
}

bool client_try_hold(struct redis *r, const struct redis_call *c)
{
    if (c->bytes > r->o.max_pending_bytes - r->held_bytes)
        return false;
    r->held_bytes += c->bytes;
    return true;
}

void client_unhold(struct redis *r, const struct redis_call *c)
{
    BUG_ON(c->bytes > r->held_bytes);
    r->held_bytes -= c->bytes;
}
