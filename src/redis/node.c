/* node.c - one server: greeted, asked who it is, probed.
 *
 * INFO comes before the first command, because identity and the kind of pub/sub must be known, and
 * because a replica that took a write for a moment would be a lie. From then on a tick per second
 * publishes a probe and asks whether the server is still the master of the same history; if not,
 * both links are broken, so identity never changes while a link lives.
 *
 * Proof is kept by the time of sending: a probe that was stuck for two seconds proves nothing about
 * now. Probes of before a link was lost are not counted (probe_valid).
 */
#include "node.h"

#include "advice.h"
#include "crier/clock.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/rnd.h"
#include "endpoint.h"
#include "error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PROBE_NAME_MAX_BYTES 512

static uint64_t now_ms(const struct redis_node *n)
{
    return client_now_ms(n->r);
}

static bool is_in_cluster(const struct redis_node *n)
{
    return n->r->o.target->mode == REDIS_CLUSTER;
}

/* --- commands of the node's own, and flights of all --- */

static void set_state(struct redis_node *n, enum node_state state);

static void flight_done(struct link_request *q, enum err e, const struct reply *reply)
{
    struct flight *f = container_of(q, struct flight, q);
    struct redis_node *n = f->node;
    struct redis *r = n->r;

    client_enter(r);
    n->answered = f->number;
    if (e)
        set_state(n, NODE_AWAY); /* before a caller is told, who may submit again */
    if (e == ERR_CLOSED && !r->closing)
        e = ERR_UNAVAILABLE;
    f->answer(f, e, reply);
    client_leave(r);
}

struct flight *flight_new(struct redis_node *n,
                          void (*answer)(struct flight *f, enum err e, const struct reply *reply))
{
    struct flight *f = pool_try_new(&n->r->flights);

    BUG_ON(!f);
    f->q.done = flight_done;
    f->node = n;
    f->answer = answer;
    return f;
}

void flight_free(struct flight *f)
{
    pool_free(&f->node->r->flights, f);
}

enum err node_send(struct redis_node *n, struct flight *f, const struct slice *arg, size_t n_args)
{
    enum err e =
        link_is_up(n->commands) ? link_send(n->commands, &f->q, arg, n_args) : ERR_UNAVAILABLE;
    if (e)
        flight_free(f);
    else
        f->number = ++n->sent;
    return e;
}

static bool send_words(struct redis_node *n, const struct slice *word, size_t n_words,
                       void (*answer)(struct flight *f, enum err e, const struct reply *reply))
{
    return node_send(n, flight_new(n, answer), word, n_words) == ERR_OK;
}

/* --- state --- */

static bool may_become(enum node_state from, enum node_state to)
{
    switch (to) {
    case NODE_AWAY:
        return true;
    case NODE_ASKED:
        return from == NODE_AWAY || from == NODE_UNFIT;
    case NODE_UNFIT:
    case NODE_SERVING:
        return from == NODE_ASKED;
    }
    return false;
}

bool node_is_proven(const struct redis_node *n)
{
    return n->needed && n->state == NODE_SERVING && !n->deaf_why && !n->cluster_down &&
           link_is_up(n->pushes) && n->proven_ms && now_ms(n) - n->proven_ms < REDIS_PROOF_MS;
}

const char *node_why_not(const struct redis_node *n)
{
    if (n->state == NODE_UNFIT && n->unfit_why)
        return n->unfit_why;
    if (n->state != NODE_SERVING)
        return "a Redis server is not connected";
    if (n->deaf_why || !link_is_up(n->pushes))
        return "a Redis server is not connected for subscriptions";
    if (n->cluster_down)
        return "the Redis Cluster says that it is down";
    return node_is_proven(n) ? NULL : "what is published to a Redis server does not come back";
}

static void update_proven(struct redis_node *n)
{
    bool proven = !n->closed && node_is_proven(n);

    if (proven == n->proven)
        return;
    n->proven = proven;
    n->r->news = true;
    metrics_add(M_REDIS_UP, proven ? 1 : -1);
    if (!proven && !n->closed)
        n->r->topology->look(n->r, n);
    if (proven)
        log_info("redis_delivers", "server=%s rtt_ms=%" PRId64, n->name, n->rtt_ms);
    else if (!n->closed && n->needed && n->state == NODE_SERVING && link_is_up(n->pushes) &&
             !n->deaf_why && !n->cluster_down)
        log_warn("redis_silent", "server=%s why=\"probes do not come back\"", n->name);
}

static void set_state(struct redis_node *n, enum node_state state)
{
    if (n->state == state)
        return;
    BUG_ON(!may_become(n->state, state));
    n->state = state;
    update_proven(n);
    if (state == NODE_SERVING)
        n->r->news = true; /* subscriptions may be asked for */
}

bool node_takes_commands(const struct redis_node *n)
{
    if (n->state != NODE_SERVING || n->doom_why)
        return false;
    uint64_t oldest = link_oldest_ms(n->commands), now = now_ms(n);
    return oldest == 0 || now < oldest || now - oldest < NODE_STALL_MS;
}

static void forget_proof(struct redis_node *n)
{
    n->proven_ms = n->unheard_ms = 0;
    n->probe_valid = n->probe_last + 1;
    update_proven(n);
}

void node_doom(struct redis_node *n, const char *why)
{
    n->doom_why = why;
    n->r->news = true;
    set_state(n, NODE_AWAY);
}

void node_deafen(struct redis_node *n, const char *why)
{
    n->deaf_why = why;
    n->r->news = true;
    update_proven(n);
}

static void break_link(struct link *l, const char *why)
{
    if (link_is_up(l))
        link_break(l, why);
}

void node_break_doomed(struct redis_node *n)
{
    const char *doom = n->doom_why, *deaf = n->deaf_why ? n->deaf_why : doom;

    n->doom_why = n->deaf_why = NULL;
    if (doom)
        break_link(n->commands, doom);
    if (!n->closed) /* by a handler */
        break_link(n->pushes, deaf);
}

/* --- probes --- */

/* The slowest node's is what somebody has to wait for. */
static void tell_rtt(struct redis *r)
{
    int64_t slowest = 0;

    list_for_each (it, &r->nodes) {
        const struct redis_node *n = container_of(it, const struct redis_node, in_client);
        if (n->needed && n->rtt_ms > slowest)
            slowest = n->rtt_ms;
    }
    metrics_add(M_REDIS_RTT, slowest - r->rtt_ms);
    r->rtt_ms = slowest;
}

static void probe_answered(struct flight *f, enum err e, const struct reply *reply)
{
    struct redis_node *n = f->node;
    uint64_t counter = f->probe;

    flight_free(f);
    if (e)
        return;
    if (reply_kind(reply) == REPLY_ERROR) {
        metrics_inc(M_REDIS_ERRORS);
        log_warn("redis_probe_refused", "server=%s channel=%s error=%s", n->name,
                 log_quote(slice_str(n->probe_channel)), log_quote(reply_text(reply)));
        return;
    }
    if (counter > n->probe_heard && counter >= n->probe_valid && !n->unheard_ms)
        n->unheard_ms = now_ms(n);
}

static void send_probe(struct redis_node *n)
{
    char text[24];

    if (n->probe.state != SUB_ON || n->state != NODE_SERVING)
        return;
    uint64_t counter = ++n->probe_last;
    n->probe_sent[counter % NODE_PROBES] =
        (struct probe_time){.turn_ms = now_ms(n), .clock_ms = clock_mono_ms()};
    snprintf(text, sizeof text, "%" PRIu64, counter);
    struct flight *f = flight_new(n, probe_answered);
    f->probe = counter;
    const struct slice arg[] = {n->sharded ? SLICE("SPUBLISH") : SLICE("PUBLISH"), n->probe.channel,
                                slice_str(text)};
    enum err e = node_send(n, f, arg, 3);
    if (e)
        log_debug("redis_probe_unsent", "server=%s error=%s", n->name, err_str(e));
}

void node_heard(struct redis_node *n, struct slice payload)
{
    uint64_t counter = 0;

    if (slice_to_u64(payload, UINT64_MAX, &counter) != ERR_OK || counter > n->probe_last ||
        counter < n->probe_valid || counter <= n->probe_heard ||
        n->probe_last - counter >= NODE_PROBES)
        return;
    const struct probe_time *sent = &n->probe_sent[counter % NODE_PROBES];
    uint64_t age = now_ms(n) - sent->turn_ms;
    n->probe_heard = counter;
    n->unheard_ms = 0;
    n->proven_ms = sent->turn_ms;
    n->rtt_ms = (int64_t)(clock_mono_ms() - sent->clock_ms);
    tell_rtt(n->r);
    if (age < REDIS_PROOF_MS)
        timer_set(loop_timers(n->r->loop), &n->proof_ends, REDIS_PROOF_MS - age);
    update_proven(n);
}

void node_probe_on(struct redis_node *n)
{
    n->unheard_ms = 0;
    send_probe(n);
}

static void proof_ends(struct timer *t)
{
    struct redis_node *n = container_of(t, struct redis_node, proof_ends);

    update_proven(n);
}

void node_drop_probe(struct redis_node *n)
{
    if (!n->probe_channel)
        return;
    redis_unsubscribe(n->r, &n->probe);
    free(n->probe_channel);
    n->probe_channel = NULL;
}

/* The name is nobody else's: what is heard there was published by this client. */
void node_set_probe(struct redis_node *n, struct slice tag)
{
    struct buf b;

    node_drop_probe(n);
    buf_init(&b, PROBE_NAME_MAX_BYTES);
    buf_printf(&b, "%sprobe:%016" PRIx64, n->r->o.prefix, rnd_u64());
    if (tag.len)
        buf_printf(&b, "{%.*s}", (int)tag.len, tag.ptr);
    BUG_ON(b.failed);
    n->probe_channel = slice_dup(buf_slice(&b));
    buf_release(&b);
    n->probe = (struct redis_sub){.channel = slice_str(n->probe_channel)};
    list_init(&n->probe.in_node);
    map_put(&n->r->subs, &n->probe.node);
    subs_place(n->r, &n->probe, n);
}

/* --- who is it --- */

static void unfit(struct redis_node *n, const char *why)
{
    if (n->unfit_why != why)
        log_warn("redis_unfit", "server=%s why=\"%s\"", n->name, why);
    n->unfit_why = why;
    set_state(n, NODE_UNFIT);
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
    set_state(n, NODE_SERVING);
    log_info("redis_up", "server=%s identity=%.16s pubsub=%s", n->name, n->identity,
             n->sharded ? "sharded" : "classic");
    send_probe(n);
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

static void ask_info(struct redis_node *n)
{
    set_state(n, NODE_ASKED);
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
    update_proven(n);
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

/* --- the tick --- */

static void watch_pushes(struct redis_node *n)
{
    uint64_t now = now_ms(n);

    if (!link_is_up(n->pushes) || n->deaf_why)
        return;
    if (n->unheard_ms && now - n->unheard_ms > NODE_DEAF_MS)
        node_deafen(n, "what is published does not come back");
    else if (n->acks.count && now - n->ack_ms > n->r->o.command_timeout_ms)
        node_deafen(n, "subscriptions are not confirmed");
}

static void ticked(struct timer *t)
{
    struct redis_node *n = container_of(t, struct redis_node, tick);

    client_enter(n->r);
    timer_set(loop_timers(n->r->loop), &n->tick, REDIS_PROBE_MS);
    if (n->state == NODE_UNFIT)
        ask_info(n);
    if (n->state == NODE_SERVING) {
        send_probe(n);
        ask_role(n);
        ask_cluster(n);
        watch_pushes(n);
    }
    if (!list_is_empty(&n->wanted))
        n->r->news = true;
    update_proven(n);
    client_leave(n->r);
}

/* --- links --- */

static void commands_up(struct link *l)
{
    struct redis_node *n = link_ctx(l);

    client_enter(n->r);
    if (n->was_up)
        metrics_inc(M_REDIS_RECONNECTS);
    n->was_up = true;
    n->asking_role = n->asking_cluster = n->cluster_down = false;
    link_hurry(n->pushes);
    ask_info(n);
    client_leave(n->r);
}

static void commands_down(struct link *l, const char *why)
{
    struct redis_node *n = link_ctx(l);
    struct redis *r = n->r;

    client_enter(r);
    log_debug("redis_down", "server=%s link=commands why=%s", n->name, log_quote(slice_str(why)));
    n->doom_why = NULL;
    set_state(n, NODE_AWAY);
    forget_proof(n);
    r->topology->look(r, n);
    call_drop_held(n, ERR_UNAVAILABLE);
    client_leave(r);
}

static void pushes_up(struct link *l)
{
    struct redis_node *n = link_ctx(l);

    if (n->pushes_was_up)
        metrics_inc(M_REDIS_RECONNECTS);
    n->pushes_was_up = true;
    n->r->news = true;
    link_hurry(n->commands);
}

static void pushes_down(struct link *l, const char *why)
{
    struct redis_node *n = link_ctx(l);
    struct redis *r = n->r;

    client_enter(r);
    log_debug("redis_down", "server=%s link=pushes why=%s", n->name, log_quote(slice_str(why)));
    n->deaf_why = NULL;
    forget_proof(n);
    r->topology->look(r, n);
    subs_link_lost(n);
    client_leave(r);
}

static void pushes_push(struct link *l, const struct reply *p)
{
    struct redis_node *n = link_ctx(l);
    struct redis *r = n->r;

    client_enter(r);
    subs_push(n, p);
    client_leave(r);
}

static enum err make_link(struct redis_node *n, enum link_kind kind, struct link **out)
{
    static const struct link_ops command_ops = {.up = commands_up, .down = commands_down};
    static const struct link_ops push_ops = {
        .up = pushes_up, .down = pushes_down, .push = pushes_push};
    const struct link_options o = {
        .kind = kind,
        .endpoint = &n->endpoint,
        .redis = &n->r->o,
        .ops = kind == LINK_COMMANDS ? &command_ops : &push_ops,
        .ctx = n,
    };
    return link_new(n->r->loop, &o, out);
}

/* --- life --- */

static void bury(struct loop_corpse *c)
{
    struct redis_node *n = container_of(c, struct redis_node, corpse);

    endpoint_release(&n->endpoint);
    acks_release(&n->acks);
    free(n->name);
    free(n);
}

enum err node_new(struct redis *r, const struct redis_endpoint *e, struct redis_node **out)
{
    struct redis_node *n = calloc(1, sizeof *n);

    BUG_ON(!n);
    n->r = r;
    endpoint_copy(&n->endpoint, e);
    n->name = endpoint_name(e);
    list_init(&n->held);
    list_init(&n->wanted);
    list_init(&n->asked);
    list_init(&n->on);
    list_init(&n->probe.in_node);
    timer_init(&n->tick, ticked);
    timer_init(&n->proof_ends, proof_ends);
    enum err err = make_link(n, LINK_COMMANDS, &n->commands);
    if (err)
        goto fail;
    err = make_link(n, LINK_SUBSCRIBE, &n->pushes);
    if (err)
        goto fail;
    list_push_back(&r->nodes, &n->in_client);
    timer_set(loop_timers(r->loop), &n->tick, rnd_below(REDIS_PROBE_MS));
    link_open(n->commands);
    link_open(n->pushes);
    *out = n;
    return ERR_OK;
fail:
    if (n->commands)
        link_close(n->commands);
    loop_free_later(r->loop, &n->corpse);
    n->corpse.free = bury;
    return err;
}

void node_close(struct redis_node *n)
{
    struct redis *r = n->r;
    struct loop *l = r->loop;

    BUG_ON(n->closed);
    client_enter(r);
    n->closed = true;
    list_remove(&n->in_client);
    timer_cancel(loop_timers(l), &n->tick);
    timer_cancel(loop_timers(l), &n->proof_ends);
    set_state(n, NODE_AWAY);
    node_drop_probe(n);
    update_proven(n);
    link_close(n->pushes);
    link_close(n->commands);
    /* After the links, which may still use the endpoint: they are freed in this order. */
    n->corpse.free = bury;
    loop_free_later(l, &n->corpse);
    call_drop_held(n, r->closing ? ERR_CLOSED : ERR_UNAVAILABLE);
    subs_leave(n);
    client_leave(r);
}
