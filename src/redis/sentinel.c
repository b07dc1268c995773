/* sentinel.c - one master, wherever the sentinels say it is.
 *
 * They are asked every second over one link, instead of being listened to: a question that is
 * answered is proof, a +switch-master that did not come is not. A new address is moved to at once,
 * and what was on its way to the old one is answered: it may be alive, alone, and about to lose
 * what it takes. That the new one is a master is for the node to find out.
 *
 * One sentinel is believed; there is no vote. But when its master cannot serve for UNFIT_MS the
 * next one is asked: a sentinel on the wrong side of a partition would name the old one for ever.
 */
#include "crier/log.h"
#include "endpoint.h"
#include "node.h"
#include "probe.h"
#include "scout.h"

#include <stdlib.h>

#define PERIOD_MS 1000
#define UNFIT_MS 3000
#define MAX_HOST_BYTES 255

struct sentinel {
    struct scout scout;
    struct slice question[3];
    struct redis_node *master; /* the client's; NULL: nobody has named one */
    uint64_t fit_ms;           /* when it was serving last, or the sentinel changed */
};

static size_t places(struct redis *r)
{
    return r->o.target->n;
}

static void place(struct redis *r, size_t i, struct redis_endpoint *out)
{
    endpoint_copy(out, &r->o.target->endpoint[i]);
}

static void move_to(struct redis *r, struct slice host, uint16_t port)
{
    struct sentinel *s = r->state;
    struct redis_node *old = s->master, *new;
    struct redis_endpoint e;

    endpoint_make(&e, &r->o.target->master, host, port);
    enum err err = node_new(r, &e, &new);
    endpoint_release(&e);
    if (err)
        return; /* asked and tried again in a second */
    log_info("redis_master", "name=%s server=%s before=%s",
             log_quote(slice_str(r->o.target->master_name)), new->name, old ? old->name : "none");
    new->needed = true;
    probe_aim(new, SLICE_NONE);
    s->master = new;
    s->fit_ms = client_now_ms(r);
    subs_place_waiting(r);
    if (old)
        node_close(old);
}

static bool complain(const struct redis *r, const struct redis_endpoint *from, struct slice why)
{
    char *name = endpoint_name(from);

    log_warn("redis_sentinel_useless", "sentinel=%s name=%s why=%s", name,
             log_quote(slice_str(r->o.target->master_name)), log_quote(why));
    free(name);
    return false;
}

/* True when it is worth asking the same sentinel again. */
static bool is_fit(struct redis *r)
{
    struct sentinel *s = r->state;
    uint64_t now = client_now_ms(r);

    if (s->master->state == NODE_SERVING) {
        s->fit_ms = now;
    } else if (now - s->fit_ms > UNFIT_MS) {
        s->fit_ms = now;
        return false;
    }
    return true;
}

static bool answer(struct redis *r, const struct redis_endpoint *from, const struct reply *reply)
{
    struct sentinel *s = r->state;
    uint64_t port = 0;

    if (reply_kind(reply) == REPLY_ERROR)
        return complain(r, from, reply_text(reply));
    if (reply_kind(reply) == REPLY_NIL)
        return complain(r, from, SLICE("it does not know this master"));
    struct slice host = reply_text(reply_at(reply, 0));
    if (host.len == 0 || host.len > MAX_HOST_BYTES || memchr(host.ptr, '\0', host.len) ||
        slice_to_u64(reply_text(reply_at(reply, 1)), UINT16_MAX, &port) != ERR_OK || port == 0)
        return complain(r, from, SLICE("its answer is not an address"));
    if (s->master && endpoint_is_at(&s->master->endpoint, host, (uint16_t)port))
        return is_fit(r);
    move_to(r, host, (uint16_t)port);
    return true;
}

static void sentinel_init(struct redis *r)
{
    static const struct scout_ops ops = {.places = places, .place = place, .answer = answer};
    struct sentinel *s = calloc(1, sizeof *s);

    BUG_ON(!s);
    s->question[0] = SLICE("SENTINEL");
    s->question[1] = SLICE("GET-MASTER-ADDR-BY-NAME");
    s->question[2] = slice_str(r->o.target->master_name);
    scout_init(&s->scout, r, &ops, s->question, 3, PERIOD_MS);
    r->state = s;
}

static void sentinel_release(struct redis *r)
{
    free(r->state);
}

static enum err sentinel_start(struct redis *r)
{
    struct sentinel *s = r->state;

    scout_start(&s->scout);
    return ERR_OK;
}

static void sentinel_stop(struct redis *r)
{
    struct sentinel *s = r->state;

    scout_stop(&s->scout);
    s->master = NULL;
}

static struct redis_node *sentinel_node_for(struct redis *r, struct slice key)
{
    struct sentinel *s = r->state;

    (void)key;
    return s->master;
}

static void sentinel_look(struct redis *r, struct redis_node *n)
{
    struct sentinel *s = r->state;

    (void)n;
    scout_hurry(&s->scout);
}

static const char *sentinel_missing(const struct redis *r)
{
    const struct sentinel *s = r->state;

    return s->master ? NULL : "no Redis sentinel has named a master";
}

const struct topology_ops sentinel_topology = {
    .init = sentinel_init,
    .release = sentinel_release,
    .start = sentinel_start,
    .stop = sentinel_stop,
    .node_for = sentinel_node_for,
    .look = sentinel_look,
    .missing = sentinel_missing,
};
