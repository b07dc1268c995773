/* detour.c - calls that must go elsewhere, and those behind them.
 *
 * A slot that is being moved answers MOVED, ASK or TRYAGAIN. Each such call is sent again, a
 * bounded number of times: at once where the server said, or after a while when that node is not
 * connected yet or the slot is torn between two. From the first one on, what is submitted for the
 * slot is held until nothing of the slot is on its way any more, so it overtakes none of them. That
 * is at most a round trip for each detour, and everybody's own timeouts bound it.
 */
#include "cluster.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "error.h"

#include <stdlib.h>

#define MAX_ATTEMPTS 5
#define LATER_MIN_MS 20

static struct cluster_slot *slot_at(struct redis *r, uint16_t slot)
{
    struct cluster *cl = r->state;

    return &cl->slot[slot];
}

static bool is_running(const struct redis *r)
{
    const struct cluster *cl = r->state;

    return cl->running;
}

void detour_begin(struct redis *r, uint16_t slot)
{
    struct cluster_slot *s = slot_at(r, slot);

    if (s->detour || s->calls == 0)
        return;
    s->detour = calloc(1, sizeof *s->detour);
    BUG_ON(!s->detour);
    list_init(&s->detour->held);
}

void detour_submit(struct redis *r, struct redis_call *c)
{
    c->slot = slot_of(c->key);
    struct cluster_slot *s = slot_at(r, c->slot);

    s->calls++;
    if (!s->detour) {
        call_send(r, s->owner, c, CALL_PLAIN);
    } else if (client_try_hold(r, c)) {
        list_push_back(&s->detour->held, &c->waiting);
        s->detour->n_held++;
    } else {
        call_finish(r, c, ERR_LIMIT, NULL);
    }
}

static struct redis_call *take_held(struct redis *r, struct detour *d)
{
    struct list *it = list_pop_front(&d->held);
    if (!it)
        return NULL;
    struct redis_call *c = container_of(it, struct redis_call, waiting);
    d->n_held--;
    client_unhold(r, c);
    return c;
}

/* Handlers run in between; what they submit for the slot is held too and comes last. */
static void end_detour(struct redis *r, struct cluster_slot *s)
{
    struct detour *d = s->detour;
    struct redis_call *c;

    if (d->releasing)
        return;
    d->releasing = true;
    while ((c = take_held(r, d))) {
        if (is_running(r))
            call_send(r, s->owner, c, CALL_PLAIN);
        else
            call_finish(r, c, ERR_CLOSED, NULL);
    }
    s->detour = NULL;
    free(d);
}

void detour_finished(struct redis *r, struct redis_call *c)
{
    struct cluster_slot *s = slot_at(r, c->slot);

    BUG_ON(s->calls == 0);
    s->calls--;
    if (s->detour && s->calls == s->detour->n_held)
        end_detour(r, s);
}

static bool send_later(struct redis *r, struct redis_call *c)
{
    struct cluster *cl = r->state;

    if (!client_try_hold(r, c))
        return false;
    c->due_ms = client_now_ms(r) + ((uint64_t)LATER_MIN_MS << c->attempts);
    list_push_back(&cl->later, &c->waiting);
    cluster_want_tick(r);
    return true;
}

bool detour_redirect(struct redis *r, struct redis_call *c, struct redis_node *from,
                     const struct reply *why)
{
    struct cluster *cl = r->state;
    struct redirect to;

    if (!cl->running || ++c->attempts > MAX_ATTEMPTS)
        return false;
    metrics_inc(M_REDIS_REDIRECTS);
    detour_begin(r, c->slot);
    scout_hurry(&cl->scout);
    if (reply_is_error(why, "TRYAGAIN"))
        return send_later(r, c);
    if (error_parse_redirect(reply_text(why), &to) != ERR_OK)
        return false;
    struct slice host = to.host.len ? to.host : slice_str(from->endpoint.host);
    struct redis_node *n = cluster_node_at(r, host, to.port);
    if (!n)
        return false;
    bool moved = reply_is_error(why, "MOVED");
    log_debug("redis_redirect", "from=%s to=%s slot=%u %s", from->name, n->name, (unsigned)to.slot,
              moved ? "moved" : "ask");
    n->named_ms = client_now_ms(r);
    if (moved)
        cluster_set_owner(r, to.slot, n);
    if (!node_takes_commands(n))
        return send_later(r, c);
    call_send(r, n, c, moved ? CALL_PLAIN : CALL_ASKING);
    return true;
}

static struct redis_call *take_due(struct redis *r, uint64_t now)
{
    struct cluster *cl = r->state;

    list_for_each (it, &cl->later) {
        struct redis_call *c = container_of(it, struct redis_call, waiting);
        if (c->due_ms > now)
            continue;
        list_remove(it);
        client_unhold(r, c);
        return c;
    }
    return NULL;
}

void detour_tick(struct redis *r)
{
    uint64_t now = client_now_ms(r);
    struct redis_call *c;

    /* One that is sent comes back with a later answer, not within this loop. */
    while (is_running(r) && (c = take_due(r, now)))
        call_send(r, slot_at(r, c->slot)->owner, c, CALL_PLAIN);
}

void detour_stop(struct redis *r)
{
    struct redis_call *c;

    while ((c = take_due(r, UINT64_MAX)))
        call_finish(r, c, ERR_CLOSED, NULL);
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        struct cluster_slot *s = slot_at(r, (uint16_t)i);
        if (s->detour)
            end_detour(r, s);
    }
}
