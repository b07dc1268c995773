/* inquiry.c - who is a server, and is it still?
 *
 * INFO comes before the first command, because identity and the kind of pub/sub must be known, and
 * because a replica that took a write for a moment would be a lie. From then on it is asked every
 * second whether it is still the master of the same history; if not, both links are broken, so
 * identity never changes while a link lives.
 *
 * Where INFO is forbidden the node serves all the same, without an identity.
 */
#include "inquiry.h"

#include "advice.h"
#include "crier/log.h"
#include "error.h"
#include "probe.h"

#include <stdio.h>

static bool is_in_cluster(const struct redis_node *n)
{
    return n->r->o.target->mode == REDIS_CLUSTER;
}

static bool send_words(struct redis_node *n, const struct slice *word, size_t n_words,
                       void (*answer)(struct flight *f, enum err e, const struct reply *reply))
{
    return node_send(n, flight_new(n, answer), word, n_words) == ERR_OK;
}

static void unfit(struct redis_node *n, const char *why)
{
    if (n->unfit_why != why)
        log_warn("redis_unfit", "server=%s why=\"%s\"", n->name, why);
    n->unfit_why = why;
    node_set_state(n, NODE_UNFIT);
    n->r->topology->look(n->r, n);
}

static void serve(struct redis_node *n, const char identity[INFO_IDENTITY_BYTES])
{
    bool listens = !list_is_empty(&n->on) || !list_is_empty(&n->asked);

    /* The subscribe link has survived what the command link has not: it may lead elsewhere. */
    if (listens && memcmp(n->identity, identity, sizeof n->identity) != 0)
        node_deafen(n, "the server is another than before");
    memcpy(n->identity, identity, sizeof n->identity);
    n->unfit_why = NULL;
    node_set_state(n, NODE_SERVING);
    log_info("redis_up", "server=%s identity=%.16s pubsub=%s", n->name, n->identity,
             n->sharded ? "sharded" : "classic");
    probe_send(n);
}

static void save_points_told(struct flight *f, enum err e, const struct reply *reply)
{
    struct redis_node *n = f->node;

    flight_free(f);
    /* CONFIG is often forbidden: then nothing is known and nothing said. */
    if (e == ERR_OK && reply_kind(reply) == REPLY_ARRAY && reply_count(reply) == 2)
        advice_on_save_points(n->name, reply_text(reply_at(reply, 1)));
}

static void advise(struct redis_node *n, const struct server_info *info)
{
    static const struct slice ask[] = {{"CONFIG", 6}, {"GET", 3}, {"save", 4}};

    if (n->advised)
        return;
    n->advised = true;
    advice_on_server(n->name, info, is_in_cluster(n));
    if (info->has_aof && !info->aof)
        (void)send_words(n, ask, 3, save_points_told);
}

static void take_info(struct redis_node *n, struct slice text)
{
    struct server_info info;
    char identity[INFO_IDENTITY_BYTES];

    info_parse(text, &info);
    if (info.loading) {
        unfit(n, "a Redis server is loading its data");
        return;
    }
    if (info.has_role && !info.is_master) {
        unfit(n, "a Redis server is a replica");
        return;
    }
    info_identity(&info, identity);
    snprintf(n->replid, sizeof n->replid, "%.*s", (int)info.replid.len, info.replid.ptr);
    n->blind = false;
    n->sharded = is_in_cluster(n) && info.version >= INFO_VERSION(7, 0);
    advise(n, &info);
    serve(n, identity);
}

static void serve_blindly(struct redis_node *n, struct slice why)
{
    char identity[INFO_IDENTITY_BYTES];

    log_warn("redis_info_refused",
             "server=%s error=%s consequence=\"a restart or failover may go unnoticed\"", n->name,
             log_quote(why));
    memset(identity, '0', sizeof identity);
    n->blind = true;
    n->sharded = false;
    serve(n, identity);
}

static void info_told(struct flight *f, enum err e, const struct reply *reply)
{
    struct redis_node *n = f->node;

    flight_free(f);
    if (e || n->state != NODE_ASKED)
        return;
    if (reply_kind(reply) == REPLY_STRING)
        take_info(n, reply_text(reply));
    else if (error_is_passing(error_kind(reply_text(reply))))
        unfit(n, "a Redis server cannot serve now");
    else
        serve_blindly(n, reply_text(reply));
}

void inquiry_begin(struct redis_node *n)
{
    node_set_state(n, NODE_ASKED);
    if (!send_words(n, &SLICE("INFO"), 1, info_told))
        node_doom(n, "INFO could not be sent");
}

static void role_told(struct flight *f, enum err e, const struct reply *reply)
{
    struct redis_node *n = f->node;
    struct server_info info;

    flight_free(f);
    n->asking_role = false;
    if (e || n->state != NODE_SERVING || reply_kind(reply) != REPLY_STRING)
        return;
    info_parse(reply_text(reply), &info);
    if (info.has_role && !info.is_master) {
        node_doom(n, "it is not a master any more");
        n->r->topology->look(n->r, n);
    } else if (!slice_eq(info.replid, slice_str(n->replid))) {
        node_doom(n, "its replication id has changed");
    }
}

static void ask_role(struct redis_node *n)
{
    static const struct slice ask[] = {{"INFO", 4}, {"replication", 11}};

    if (!n->blind && !n->asking_role)
        n->asking_role = send_words(n, ask, 2, role_told);
}

static void cluster_told(struct flight *f, enum err e, const struct reply *reply)
{
    struct redis_node *n = f->node;

    flight_free(f);
    n->asking_cluster = false;
    if (e || n->state != NODE_SERVING || reply_kind(reply) != REPLY_STRING)
        return;
    struct slice text = reply_text(reply);
    bool down = memmem(text.ptr, text.len, "cluster_state:fail", 18) != NULL;
    if (down == n->cluster_down)
        return;
    n->cluster_down = down;
    if (down)
        log_warn("redis_cluster_down", "server=%s", n->name);
    probe_update(n);
    n->r->topology->look(n->r, n);
}

/* Probes pass through a node that refuses every command, in a part of the cluster that lost its
 * majority. */
static void ask_cluster(struct redis_node *n)
{
    static const struct slice ask[] = {{"CLUSTER", 7}, {"INFO", 4}};

    if (is_in_cluster(n) && !n->asking_cluster)
        n->asking_cluster = send_words(n, ask, 2, cluster_told);
}

void inquiry_tick(struct redis_node *n)
{
    ask_role(n);
    ask_cluster(n);
}
