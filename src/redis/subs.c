/* subs.c - subscriptions: asked for, confirmed, lost, moved.
 *
 * Each subscription is in one list: of its node's by state (wanted, asked, on), or `nowhere` when
 * no node is known for it. What is wanted goes out at the end of the turn, never more than
 * WINDOW names unconfirmed per link: 100,000 channels come back in some round trips instead of one
 * burst that stalls the loop.
 *
 * Confirmations come in the order of the commands. `asked` has the same order, and n->acks numbers
 * what was sent, so a name that was left and wanted again is not taken for confirmed by the answer
 * to the first time.
 *
 * A server says "sunsubscribe" by itself when a slot moves away. It says the same as an answer; but
 * the answer to a SUNSUBSCRIBE never finds a subscription that is on, because what was asked before
 * it has been answered before it. After a move, what is still on its way is answered MOVED, once
 * more than there are names: MOVED names the slot, and what does not fit is passed over.
 */
#include "crier/log.h"
#include "crier/metrics.h"
#include "error.h"
#include "node.h"
#include "probe.h"
#include "slot.h"

#define CHUNK 256
#define WINDOW 4096
#define RETRY_MS 1000

static bool is_probe(const struct redis_sub *s)
{
    return s->at && s == &s->at->probe;
}

static void tell_lost(struct redis *r, struct redis_sub *s)
{
    if (r->o.on.lost)
        r->o.on.lost(r->o.ctx, s);
}

void subs_place(struct redis *r, struct redis_sub *s, struct redis_node *n)
{
    s->at = n;
    s->state = SUB_WANTED;
    list_remove(&s->in_node);
    list_push_back(n ? &n->wanted : &r->nowhere, &s->in_node);
    r->news = true;
}

void redis_subscribe(struct redis *r, struct redis_sub *s)
{
    BUG_ON(s->state != SUB_NONE);
    list_init(&s->in_node);
    map_put(&r->subs, &s->node);
    subs_place(r, s, r->loop && !r->closing ? r->topology->node_for(r, s->channel) : NULL);
}

static void push_ack(struct redis_node *n, struct redis_sub *s, bool subscribe, bool first)
{
    const struct ack k = {
        .hash = s->node.hash,
        .slot = n->sharded ? slot_of(s->channel) : 0,
        .subscribe = subscribe,
        .first = first,
    };

    if (n->acks.count == 0)
        n->ack_ms = client_now_ms(n->r);
    s->asked = acks_push(&n->acks, k);
}

/* Tells the server, when it knows of s. */
static void unask(struct redis_sub *s)
{
    struct redis_node *n = s->at;

    if (!n || n->closed || s->state < SUB_SENT || !link_is_up(n->pushes))
        return;
    const struct slice arg[] = {n->sharded ? SLICE("SUNSUBSCRIBE") : SLICE("UNSUBSCRIBE"),
                                s->channel};
    if (link_send(n->pushes, NULL, arg, 2) == ERR_OK)
        push_ack(n, s, false, true);
    else
        node_deafen(n, "too much to unsubscribe at once");
}

void redis_unsubscribe(struct redis *r, struct redis_sub *s)
{
    if (s->state == SUB_NONE)
        return;
    unask(s);
    map_remove(&r->subs, &s->node);
    list_remove(&s->in_node);
    s->state = SUB_NONE;
    s->at = NULL;
}

void subs_forget(struct redis *r)
{
    struct map_node *it = NULL;

    while ((it = map_next(&r->subs, it))) {
        struct redis_sub *s = container_of(it, struct redis_sub, node);
        map_remove(&r->subs, it);
        list_remove(&s->in_node);
        s->state = SUB_NONE;
        s->at = NULL;
    }
}

/* --- asking --- */

static bool can_ask(const struct redis_node *n)
{
    return n->state == NODE_SERVING && !n->deaf_why && link_is_up(n->pushes) &&
           client_now_ms(n->r) >= n->subs_retry_ms;
}

static void mark_asked(struct redis_node *n, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct redis_sub *s = container_of(n->wanted.next, struct redis_sub, in_node);
        list_remove(&s->in_node);
        list_push_back(&n->asked, &s->in_node);
        s->state = SUB_SENT;
        push_ack(n, s, true, i == 0);
    }
}

/* SSUBSCRIBE takes several names only of one slot. */
void subs_flush(struct redis_node *n)
{
    size_t chunk = n->sharded ? 1 : CHUNK;
    struct slice arg[1 + CHUNK];

    if (!can_ask(n))
        return;
    arg[0] = n->sharded ? SLICE("SSUBSCRIBE") : SLICE("SUBSCRIBE");
    while (!list_is_empty(&n->wanted) && n->acks.subscribes < WINDOW) {
        size_t count = 0;
        for (const struct list *it = n->wanted.next; it != &n->wanted && count < chunk;
             it = it->next)
            arg[++count] = container_of(it, const struct redis_sub, in_node)->channel;
        if (link_send(n->pushes, NULL, arg, 1 + count) != ERR_OK)
            return; /* again with the next confirmation, or the next tick */
        mark_asked(n, count);
    }
}

/* --- what the server says --- */

static struct ack pop_ack(struct redis_node *n, struct redis_sub **asked)
{
    uint32_t number;
    struct ack k = acks_pop(&n->acks, &number);

    n->ack_ms = client_now_ms(n->r);
    *asked = NULL;
    if (k.subscribe && !list_is_empty(&n->asked)) {
        struct redis_sub *s = container_of(n->asked.next, struct redis_sub, in_node);
        if (s->asked == number)
            *asked = s; /* else it was left meanwhile */
    }
    if (k.subscribe && !list_is_empty(&n->wanted))
        n->r->news = true; /* the window has room */
    return k;
}

static void confirmed(struct redis_node *n, struct slice channel)
{
    struct redis *r = n->r;
    const struct ack *head = acks_head(&n->acks);
    struct redis_sub *s;

    if (!head || !head->subscribe || head->hash != hash_bytes(channel)) {
        node_deafen(n, "it confirms what it was not asked for");
        return;
    }
    (void)pop_ack(n, &s);
    n->subs_refused = false;
    if (!s)
        return;
    list_remove(&s->in_node);
    list_push_back(&n->on, &s->in_node);
    s->state = SUB_ON;
    if (is_probe(s))
        probe_is_on(n);
    else if (r->o.on.subscribed)
        r->o.on.subscribed(r->o.ctx, s);
}

static void taken_away(struct redis_node *n, struct redis_sub *s)
{
    struct redis *r = n->r;

    log_debug("redis_sub_moved", "server=%s channel=%s", n->name, log_quote(s->channel));
    r->topology->look(r, NULL);
    if (is_probe(s)) {
        s->state = SUB_WANTED; /* nothing to take back at the server */
        probe_drop(n);
        return;
    }
    subs_place(r, s, n->sharded ? NULL : n);
    tell_lost(r, s);
}

static void ended(struct redis_node *n, struct slice channel)
{
    uint64_t hash = hash_bytes(channel);
    struct map_node *found = map_get_hashed(&n->r->subs, channel, hash);
    struct redis_sub *s = found ? container_of(found, struct redis_sub, node) : NULL;
    const struct ack *head = acks_head(&n->acks);

    if (s && s->at == n && s->state == SUB_ON)
        taken_away(n, s);
    else if (head && !head->subscribe && head->hash == hash)
        (void)pop_ack(n, &s);
}

/* An error answers a whole command. Those it asked for are wanted again: a while later, or where
 * the server says they are. */
static void fail_command(struct redis_node *n, bool moved)
{
    struct redis *r = n->r;
    const struct ack *next;

    do {
        struct redis_sub *s;
        (void)pop_ack(n, &s);
        if (s && moved && is_probe(s)) {
            s->state = SUB_WANTED;
            probe_drop(n);
        } else if (s) {
            subs_place(r, s, moved ? NULL : n);
        }
        next = acks_head(&n->acks);
    } while (next && !next->first);
}

static void refused(struct redis_node *n, const struct reply *p)
{
    struct redis *r = n->r;
    const struct ack *head = acks_head(&n->acks);
    enum error_kind kind = error_kind(reply_text(p));
    struct redirect to;

    if (kind == ERROR_REDIRECT && error_parse_redirect(reply_text(p), &to) == ERR_OK) {
        if (!head || head->slot != to.slot)
            return;
        bool subscribe = head->subscribe;
        fail_command(n, true);
        metrics_inc(M_REDIS_REDIRECTS);
        if (subscribe && r->topology->sub_moved)
            r->topology->sub_moved(r, n, p);
        return;
    }
    metrics_inc(M_REDIS_ERRORS);
    log_warn("redis_subscribe_refused", "server=%s error=%s", n->name, log_quote(reply_text(p)));
    if (!head) {
        node_deafen(n, "it refuses what it was not asked for");
        return;
    }
    fail_command(n, false);
    n->subs_refused = true;
    n->subs_retry_ms = client_now_ms(r) + RETRY_MS;
    if (kind == ERROR_CLUSTER_DOWN)
        r->topology->look(r, n);
}

static void heard(struct redis_node *n, struct slice channel, struct slice payload)
{
    struct redis *r = n->r;
    struct map_node *found = map_get(&r->subs, channel);
    struct redis_sub *s = found ? container_of(found, struct redis_sub, node) : NULL;

    if (!s || s->at != n || s->state != SUB_ON)
        return; /* left, and the server does not know yet */
    if (is_probe(s))
        probe_heard_back(n, payload);
    else
        r->o.on.message(r->o.ctx, s, payload);
}

void subs_push(struct redis_node *n, const struct reply *p)
{
    if (reply_kind(p) == REPLY_ERROR) {
        refused(n, p);
        return;
    }
    if (reply_kind(p) != REPLY_ARRAY || reply_count(p) != 3)
        return;
    struct slice what = reply_text(reply_at(p, 0)), channel = reply_text(reply_at(p, 1));
    if (slice_eq(what, SLICE("message")) || slice_eq(what, SLICE("smessage")))
        heard(n, channel, reply_text(reply_at(p, 2)));
    else if (slice_eq(what, SLICE("subscribe")) || slice_eq(what, SLICE("ssubscribe")))
        confirmed(n, channel);
    else if (slice_eq(what, SLICE("unsubscribe")) || slice_eq(what, SLICE("sunsubscribe")))
        ended(n, channel);
}

/* --- moving --- */

/* Handlers run in between, and may close n, or leave or forget any subscription. */
static void lose(struct redis_node *n, struct list *losing)
{
    struct redis *r = n->r;
    struct list *it;

    while ((it = list_pop_front(losing))) {
        struct redis_sub *s = container_of(it, struct redis_sub, in_node);
        subs_place(r, s, n->closed ? r->topology->node_for(r, s->channel) : n);
        if (!is_probe(s))
            tell_lost(r, s);
    }
}

/* Takes what is not on to its next node silently, and what is on into `losing`. */
static void unsettle(struct redis_node *n, struct list *losing)
{
    struct list silent;
    struct list *it;

    acks_release(&n->acks);
    list_init(&silent);
    list_splice_back(&silent, &n->asked);
    list_splice_back(&silent, &n->wanted);
    while ((it = list_pop_front(&silent))) {
        struct redis_sub *s = container_of(it, struct redis_sub, in_node);
        subs_place(n->r, s, n->closed ? n->r->topology->node_for(n->r, s->channel) : n);
    }
    list_init(losing);
    list_splice_back(losing, &n->on);
    list_for_each (on, losing)
        container_of(on, struct redis_sub, in_node)->state = SUB_WANTED;
}

void subs_link_lost(struct redis_node *n)
{
    struct list losing;

    n->subs_retry_ms = 0;
    unsettle(n, &losing);
    lose(n, &losing);
}

void subs_leave(struct redis_node *n)
{
    subs_link_lost(n);
}

void subs_place_waiting(struct redis *r)
{
    struct list waiting;
    struct list *it;

    list_init(&waiting);
    list_splice_back(&waiting, &r->nowhere);
    while ((it = list_pop_front(&waiting))) {
        struct redis_sub *s = container_of(it, struct redis_sub, in_node);
        subs_place(r, s, r->topology->node_for(r, s->channel));
    }
}

void subs_reroute(struct redis *r)
{
    struct list losing;
    struct list *it;

    list_init(&losing);
    for (struct map_node *m = NULL; (m = map_next(&r->subs, m));) {
        struct redis_sub *s = container_of(m, struct redis_sub, node);
        struct redis_node *to = r->topology->node_for(r, s->channel);
        if (s->at == to || is_probe(s))
            continue;
        bool was_on = s->state == SUB_ON;
        unask(s);
        subs_place(r, s, to);
        if (was_on) {
            list_remove(&s->in_node);
            list_push_back(&losing, &s->in_node);
        }
    }
    while ((it = list_pop_front(&losing))) {
        struct redis_sub *s = container_of(it, struct redis_sub, in_node);
        /* asked again: a handler may have changed the topology */
        subs_place(r, s, r->topology->node_for(r, s->channel));
        tell_lost(r, s);
    }
}
