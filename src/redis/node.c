/* node.c - one server: its links, and what is on its way to it.
 *
 * The state is the command link's (away, asked who it is, unfit, serving); whether the subscribe
 * link is there too shows in the proof (probe.c). A link is broken at the end of the turn only, so
 * that nobody's callback loses what it stands on; until then no command is taken.
 */
#include "node.h"

#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/rnd.h"
#include "endpoint.h"
#include "inquiry.h"
#include "probe.h"

#include <stdlib.h>

static uint64_t now_ms(const struct redis_node *n)
{
    return client_now_ms(n->r);
}

/* --- commands on their way --- */

static void flight_done(struct link_request *q, enum err e, const struct reply *reply)
{
    struct flight *f = container_of(q, struct flight, q);
    struct redis_node *n = f->node;
    struct redis *r = n->r;

    client_enter(r);
    n->answered = f->number;
    if (e)
        node_set_state(n, NODE_AWAY); /* before a caller is told, who may submit again */
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

void node_set_state(struct redis_node *n, enum node_state state)
{
    if (n->state == state)
        return;
    BUG_ON(!may_become(n->state, state));
    n->state = state;
    probe_update(n);
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

void node_doom(struct redis_node *n, const char *why)
{
    n->doom_why = why;
    n->r->news = true;
    node_set_state(n, NODE_AWAY);
}

void node_deafen(struct redis_node *n, const char *why)
{
    n->deaf_why = why;
    n->r->news = true;
    probe_update(n);
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

/* --- the tick --- */

static void ticked(struct timer *t)
{
    struct redis_node *n = container_of(t, struct redis_node, tick);

    client_enter(n->r);
    timer_set(loop_timers(n->r->loop), &n->tick, REDIS_PROBE_MS);
    if (n->state == NODE_UNFIT)
        inquiry_begin(n);
    if (n->state == NODE_SERVING) {
        probe_send(n);
        inquiry_tick(n);
        probe_watch(n);
    }
    if (!list_is_empty(&n->wanted))
        n->r->news = true;
    probe_update(n);
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
    inquiry_begin(n);
    client_leave(n->r);
}

static void commands_down(struct link *l, const char *why)
{
    struct redis_node *n = link_ctx(l);
    struct redis *r = n->r;

    client_enter(r);
    log_debug("redis_down", "server=%s link=commands why=%s", n->name, log_quote(slice_str(why)));
    n->doom_why = NULL;
    node_set_state(n, NODE_AWAY);
    probe_forget(n);
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
    probe_forget(n);
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
    timer_init(&n->proof_ends, probe_proof_ends);
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
    n->corpse.free = bury;
    loop_free_later(r->loop, &n->corpse);
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
    node_set_state(n, NODE_AWAY);
    probe_drop(n);
    probe_update(n);
    probe_tell_rtt(r);
    link_close(n->pushes);
    link_close(n->commands);
    /* After the links, which may still use the endpoint: they are freed in this order. */
    n->corpse.free = bury;
    loop_free_later(l, &n->corpse);
    call_drop_held(n, r->closing ? ERR_CLOSED : ERR_UNAVAILABLE);
    subs_leave(n);
    client_leave(r);
}
