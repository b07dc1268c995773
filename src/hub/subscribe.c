/* subscribe.c - joining channels, catching up in pages, leaving.
 *
 * A subscription joins the bus at once and becomes live (part of the audience) with the page that
 * the bus calls complete. Because answers and live messages share one FIFO, the next live message
 * is exactly the one after that page: nothing is merged, nothing is compared.
 *
 * Pages bypass the outbox's limits (their size is bounded by themselves) and the next one is asked
 * for only when the client has taken the last.
 */
#include "hub_internal.h"

#include "crier/metrics.h"

#include <stdlib.h>

struct slice sub_channel(const struct sub *sub)
{
    return slice_of(sub->audience->name, sub->audience->name_len);
}

struct sub *session_find_sub(struct session *s, struct slice channel)
{
    for (struct sub *sub = s->subs; sub; sub = sub->next)
        if (slice_eq(sub_channel(sub), channel))
            return sub;
    return NULL;
}

static enum err sub_new(struct session *s, struct slice channel, struct sub **out)
{
    struct hub *h = s->hub;
    struct sub *sub = pool_try_new(&h->subs);
    if (!sub)
        return ERR_NOMEM;
    sub->audience = audience_take(h, channel);
    if (!sub->audience) {
        pool_free(&h->subs, sub);
        return ERR_NOMEM;
    }
    sub->session = s;
    sub->place = SUB_NOT_LIVE;
    sub->paging = true;
    sub->serial = ++h->next_serial;
    struct sub **at = &s->subs;
    while (*at)
        at = &(*at)->next;
    *at = sub;
    s->n_subs++;
    s->n_behind++;
    *out = sub;
    return ERR_OK;
}

static void sub_free(struct session *s, struct sub *sub)
{
    struct sub **at = &s->subs;
    while (*at != sub)
        at = &(*at)->next;
    *at = sub->next;
    s->n_subs--;
    if (sub->place == SUB_NOT_LIVE)
        s->n_behind--;
    audience_remove(sub->audience, sub);
    audience_drop(s->hub, sub->audience);
    pool_free(&s->hub->subs, sub);
}

/* A subscription, unless it was ended since; the session too. */
static struct sub *sub_of_call(const struct hub_call *c, struct slice channel)
{
    struct session *s = hub_session(c->hub, c->session);
    struct sub *sub = s ? session_find_sub(s, channel) : NULL;
    return sub && sub->serial == c->serial ? sub : NULL;
}

static enum err go_live(struct sub *sub)
{
    enum err e = audience_add(sub->audience, sub);
    if (!e)
        sub->session->n_behind--;
    return e;
}

bool session_is_waiting(const struct session *s, const struct sub *sub)
{
    struct outbox_item item;
    BUG_ON(s->opening);
    for (uint32_t i = 0; outbox_item(&s->out, i, &item); i++)
        if (item.msg && item.msg->channel_hash == sub->audience->node.hash)
            return true;
    return false;
}

void sub_pass_over(struct sub *sub, const struct msg *m)
{
    const struct session *s = sub->session;
    /* A half-sent entry may have an id line of all positions: it must look the same when its rest
     * is sent. */
    bool half_sent = s->n_subs > 1 && s->out.head_sent;
    if (!s->opening && !half_sent && !session_is_waiting(sub->session, sub))
        sub->pos = m->pos;
}

/* Pushes a page's messages; the session is cut when memory is used up. */
static void take_page(struct sub *sub, const struct catch_up *cu)
{
    struct session *s = sub->session;
    if (s->state != SESSION_OPEN || s->cut)
        return;
    enum err e = ERR_OK;
    uint32_t pushed = 0;
    for (uint32_t i = 0; i < cu->count && !e; i++) {
        if (session_is_excluded(s, cu->msgs[i])) {
            sub_pass_over(sub, cu->msgs[i]);
        } else {
            e = outbox_push_msg(&s->out, cu->msgs[i]);
            pushed++;
        }
    }
    sub->paging = false;
    if (!e && cu->complete)
        e = go_live(sub);
    if (e)
        s->cut = true;
    session_mark_dirty(s);
    if (!pushed && !cu->complete) /* nothing to write, so no write will ask for the next page */
        session_continue(s);
}

/* History was trimmed faster than this client read. */
static void fell_behind(struct sub *sub, const struct catch_up *cu)
{
    metrics_inc(M_RESUMED_GAP);
    /* The position stays until the next message goes out: a cursor over several channels may be
     * written before the notice, and must not be beyond a gap that was not said. */
    sub->session->dialect->gap(sub->session, sub, cu);
}

static void on_page(struct bus_op *op)
{
    struct bus_page *p = container_of(op, struct bus_page, op);
    struct hub_call *c = op->ctx;
    struct sub *sub = sub_of_call(c, slice_str(p->channel));
    if (sub) {
        if (p->cu.gap && sub->session->state == SESSION_OPEN)
            fell_behind(sub, &p->cu);
        take_page(sub, &p->cu);
    }
    free(c);
    bus_op_free(op);
}

/* The pages of all channels together take half of the outbox at most, so that live messages of one
 * channel do not find it filled by the past of the others. */
static void limit_page(const struct session *s, struct catch_up *cu)
{
    const struct hub_options *o = s->hub->opt;
    uint32_t n = s->n_subs ? s->n_subs : 1;
    if (s->opening && s->opening->pending > n)
        n = s->opening->pending; /* the others are about to join */
    cu->max_messages = s->page_messages;
    cu->max_bytes = HUB_PAGE_BYTES;
    if (s->dialect->passing)
        return; /* answered with the first page */
    if (cu->max_messages > o->outbox_messages / 2 / n)
        cu->max_messages = o->outbox_messages / 2 / n;
    if (cu->max_bytes > o->outbox_bytes / 2 / n)
        cu->max_bytes = o->outbox_bytes / 2 / n;
    /* The bus gives at least one message whatever the limits. */
}

static void ask_page(struct sub *sub)
{
    struct session *s = sub->session;
    struct hub_call *c = hub_call_new(s->hub, s, SLICE_NONE);
    c->serial = sub->serial;
    struct bus_page *p = bus_page_new(on_page, c);
    p->channel = slice_dup(sub_channel(sub));
    p->cu.from = FROM_POSITION;
    p->cu.since = sub->pos;
    limit_page(s, &p->cu);
    sub->paging = true;
    bus_submit(s->hub->port, &p->op);
}

/* Not while messages of the last page wait: the gap that the next may bring must not stand behind
 * them. A slow client's messages are dropped, its notices stay, and a client that goes on from the
 * gap would miss them. */
void session_continue(struct session *s)
{
    if (!s->n_behind || s->opening || s->state != SESSION_OPEN ||
        s->out.count > HUB_PAGE_MESSAGES / 4)
        return;
    for (struct sub *sub = s->subs; sub; sub = sub->next)
        if (sub->place == SUB_NOT_LIVE && !sub->paging && !session_is_waiting(sub->session, sub))
            ask_page(sub);
}

/* --- joining --- */

static void note_gap(struct session *s, struct sub *sub, const struct catch_up *cu)
{
    struct opening_gap *g = &s->opening->gap[s->opening->n_gaps++];
    *g = (struct opening_gap){sub, cu->since, cu->start, cu->gap};
}

static void end_opening(struct session *s)
{
    if (s->state == SESSION_OPEN)
        s->dialect->ready(s);
    free(s->opening);
    s->opening = NULL;
    session_continue(s);
}

static void joined(struct sub *sub, struct bus_join *j, const struct hub_call *c, bool opening)
{
    struct session *s = sub->session;
    sub->joined = true;
    if (j->cu.from == FROM_POSITION || j->cu.gap)
        metrics_inc(j->cu.gap ? M_RESUMED_GAP : M_RESUMED);
    if (s->state != SESSION_OPEN)
        return;
    if (opening) {
        if (j->cu.gap)
            note_gap(s, sub, &j->cu);
    } else {
        s->dialect->subscribed(s, sub_channel(sub), &j->cu, slice_of(c->ref, c->ref_len));
        if (j->cu.gap)
            s->dialect->gap(s, sub, &j->cu);
        if (s->state != SESSION_OPEN)
            return; /* they did not fit: it is still where it was */
    }
    sub->pos = j->cu.start;
    take_page(sub, &j->cu);
    if (opening && --s->opening->pending == 0)
        end_opening(s);
}

/* A subscription of the request ends before all of the request is answered. */
static void opening_forget(struct session *s, const struct sub *sub)
{
    struct opening *o = s->opening;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < o->n_gaps; i++)
        if (o->gap[i].sub != sub)
            o->gap[kept++] = o->gap[i];
    o->n_gaps = kept;
    if (sub->opening && !sub->joined)
        o->pending--;
}

static void leave(struct session *s, struct sub *sub, void (*done)(struct bus_op *), void *ctx)
{
    /* Also while the join is on its way: the inbox is a FIFO, the leave comes after it. */
    struct bus_leave *l = bus_leave_new(done, ctx);
    l->channel = slice_dup(sub_channel(sub));
    l->client = s->id;
    if (s->opening)
        opening_forget(s, sub);
    sub_free(s, sub);
    bus_submit(s->hub->port, &l->op);
    if (s->opening && s->opening->pending == 0)
        end_opening(s);
}

static void on_left(struct bus_op *op)
{
    bus_op_free(op);
}

void session_leave_all(struct session *s)
{
    while (s->subs)
        leave(s, s->subs, on_left, NULL);
}

/* What the connection has otherwise stays: it is better off with it than with a new one, which
 * could not subscribe to anything. */
static void not_joined(struct sub *sub, const struct hub_call *c, bool opening)
{
    struct session *s = sub->session;
    if (opening) {
        session_close(s, 1013, "the message bus is away, try later");
    } else if (s->state == SESSION_OPEN) {
        leave(s, sub, on_left, NULL);
        s->dialect->not_subscribed(s, slice_of(c->ref, c->ref_len));
    }
}

static void on_join(struct bus_op *op, bool opening)
{
    struct bus_join *j = container_of(op, struct bus_join, op);
    struct hub_call *c = op->ctx;
    struct sub *sub = sub_of_call(c, slice_str(j->channel));
    struct session *s = hub_session(c->hub, c->session);
    if (s && !opening)
        session_command_done(s);
    if (!j->cu.gap)
        j->cu.gap = (enum gap_reason)c->gap;
    if (sub && op->err)
        not_joined(sub, c, opening);
    else if (sub)
        joined(sub, j, c, opening);
    else if (s && !opening &&
             s->state == SESSION_OPEN) /* unsubscribed since: answered all the same */
        s->dialect->subscribed(s, slice_str(j->channel), &j->cu, slice_of(c->ref, c->ref_len));
    free(c);
    bus_op_free(op);
}

static void on_join_opening(struct bus_op *op)
{
    on_join(op, true);
}

static void on_join_command(struct bus_op *op)
{
    on_join(op, false);
}

static void join(struct session *s, struct sub *sub, const struct sub_request *req,
                 struct slice ref, void (*done)(struct bus_op *))
{
    struct hub_call *c = hub_call_new(s->hub, s, ref);
    c->serial = sub->serial;
    struct bus_join *j = bus_join_new(done, c);
    j->channel = slice_dup(req->channel);
    j->member.client = s->id;
    j->member.passing = s->dialect->passing;
    j->member.transport = s->dialect->transport;
    j->cu = req->from;
    limit_page(s, &j->cu);
    if (req->no_position) {
        j->cu.from = FROM_NOW;
        j->cu.since = (struct position){0};
        c->gap = GAP_NO_POSITION;
    }
    if (j->cu.from == FROM_POSITION)
        sub->pos = j->cu.since; /* until the bus answers, it is where it says it is */
    bus_submit(s->hub->port, &j->op);
}

enum err session_open(struct session *s, const struct sub_request *req, size_t n)
{
    if (outbox_push_gate(&s->out))
        return ERR_NOMEM;
    s->opening = calloc(1, sizeof(*s->opening) + n * sizeof(s->opening->gap[0]));
    if (!s->opening)
        return ERR_NOMEM;
    s->opening->pending = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        struct sub *sub;
        enum err e = sub_new(s, req[i].channel, &sub);
        if (e)
            return e;
        sub->opening = true;
        join(s, sub, &req[i], SLICE_NONE, on_join_opening);
    }
    if (n == 0)
        end_opening(s);
    return ERR_OK;
}

enum err session_subscribe(struct session *s, const struct sub_request *req, struct slice ref)
{
    if (session_find_sub(s, req->channel))
        return ERR_EXISTS;
    struct sub *sub;
    enum err e = sub_new(s, req->channel, &sub);
    if (e)
        return e;
    session_command_sent(s);
    join(s, sub, req, ref, on_join_command);
    return ERR_OK;
}

static void on_left_by_command(struct bus_op *op)
{
    struct bus_leave *l = container_of(op, struct bus_leave, op);
    struct hub_call *c = op->ctx;
    struct session *s = hub_session(c->hub, c->session);
    if (s)
        session_command_done(s);
    if (s && s->state == SESSION_OPEN)
        s->dialect->unsubscribed(s, slice_str(l->channel), slice_of(c->ref, c->ref_len));
    free(c);
    bus_op_free(op);
}

/* The entry that is half sent is a message of this subscription. */
static bool head_is_of(const struct session *s, const struct sub *sub)
{
    struct outbox_item item;
    return s->out.head_sent && outbox_item(&s->out, 0, &item) && item.msg &&
           item.msg->channel_hash == sub->audience->node.hash;
}

enum err session_unsubscribe(struct session *s, struct slice channel, struct slice ref)
{
    struct sub *sub = session_find_sub(s, channel);
    if (!sub)
        return ERR_NOT_FOUND;
    session_command_sent(s);
    /* What waits would move the position of a later subscription to the same channel. */
    s->head_left = s->head_left || head_is_of(s, sub);
    outbox_drop_channel(&s->out, sub->audience->node.hash);
    leave(s, sub, on_left_by_command, hub_call_new(s->hub, s, ref));
    return ERR_OK;
}
