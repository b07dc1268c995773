/* redis_client.h - crier/redis.h as a bus sees it, with links that delay, break and come back when
 * the scheduler says so.
 *
 * Each link is FIFO in both directions and knows nothing of the other one. Commands go through
 * three stages: taken (and copied), executed, answered; a link that is lost answers what is on its
 * way "away", and what was not executed by then may still be: now, later (a ghost) or never. Of the
 * subscribe link the server's side is kept too, because what is published goes to whoever was
 * subscribed at that instant, heard of it or not.
 *
 * A link is UP, or DYING: its server is gone, and only what is in its buffers still arrives.
 */
#ifndef CRIER_TESTS_REDIS_CLIENT_H
#define CRIER_TESTS_REDIS_CLIENT_H

#include "redis_lua.h"

enum link_state { LINK_DOWN, LINK_UP, LINK_DYING };
enum sub_state { SUB_NONE, SUB_WANTED, SUB_SENT, SUB_ON };
enum push_kind { PUSH_CONFIRMED, PUSH_MESSAGE, PUSH_ENDED };

struct redis {
    struct redis_options o;
    struct world *w;
    unsigned slot;
    bool attached, closing;
    enum link_state commands, pushes;
    int commands_life, pushes_life;
    char identity[17];           /* of the server at the other end of `commands` */
    struct list calls;           /* struct command; executed ones first */
    struct list subs;            /* redis_sub.in_node */
    struct list requests, heard; /* struct request, struct push */
    struct list subscriptions;   /* struct subscription */
    uint32_t asked;              /* number of the last SUBSCRIBE */
};

static const char identity_mark[] = "identity", publish_mark[] = "publish";
const struct slice redis_arg_identity = {identity_mark, sizeof identity_mark - 1};
const struct slice redis_arg_publish = {publish_mark, sizeof publish_mark - 1};

void redis_script_init(struct redis_script *s)
{
    (void)s; /* the fake server knows scripts by their address */
}

static unsigned slot_being_made;

enum err redis_new(const struct redis_options *o, struct redis **out)
{
    struct redis *r = calloc(1, sizeof *r);
    BUG_ON(!r);
    r->o = *o;
    r->w = the_world;
    r->slot = slot_being_made;
    list_init(&r->calls);
    list_init(&r->subs);
    list_init(&r->requests);
    list_init(&r->heard);
    list_init(&r->subscriptions);
    the_world->slot[r->slot].redis = r;
    *out = r;
    return ERR_OK;
}

enum err redis_attach(struct redis *r, struct loop *l)
{
    (void)l;
    BUG_ON(r->attached);
    r->attached = true;
    return ERR_OK;
}

bool redis_ready(const struct redis *r)
{
    return r->commands == LINK_UP && r->pushes == LINK_UP;
}

const char *redis_why_not(const struct redis *r)
{
    return redis_ready(r) ? NULL : "a link is down";
}

/* --- commands --- */

static inline void *with_bytes(size_t size, size_t n_bytes)
{
    void *p = calloc(1, size + n_bytes);
    BUG_ON(!p);
    return p;
}

static inline struct slice keep_bytes(char **at, struct slice s)
{
    if (s.len)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return slice_of(*at - s.len, s.len);
}

static inline struct slice filled_in(const struct redis *r, struct slice arg)
{
    if (arg.ptr == redis_arg_identity.ptr)
        return slice_of(r->identity, 16);
    return arg.ptr == redis_arg_publish.ptr ? SLICE("PUBLISH") : arg;
}

static inline struct command *command_new(const struct redis *r, struct redis_call *call)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < call->n_args; i++)
        bytes += filled_in(r, call->arg[i]).len;
    struct command *c = with_bytes(sizeof *c + call->n_args * sizeof(struct slice), bytes);
    char *at = (char *)(c->arg + call->n_args);
    for (uint32_t i = 0; i < call->n_args; i++)
        c->arg[i] = keep_bytes(&at, filled_in(r, call->arg[i]));
    c->call = call;
    c->script = call->script;
    c->life = r->commands_life;
    c->at_ms = r->w->now_ms;
    c->n_keys = call->n_keys;
    c->n_args = call->n_args;
    buf_init(&c->reply, 1 << 26);
    return c;
}

static inline void command_free(struct command *c)
{
    list_remove(&c->in_link);
    buf_release(&c->reply);
    free(c);
}

/* What a server or the client itself may say in place of carrying it out. */
static inline enum err refusal(struct world *w)
{
    if (w->calm || !w->refuses || !one_in(w, 300))
        return ERR_OK;
    static const enum err say[] = {ERR_UNAVAILABLE, ERR_UNAVAILABLE, ERR_LIMIT, ERR_IO};
    return say[chance(w, 4)];
}

void redis_submit(struct redis *r, struct redis_call *call)
{
    enum err e = !r->attached || r->closing ? ERR_CLOSED
                 : r->commands == LINK_DOWN ? ERR_UNAVAILABLE
                                            : refusal(r->w);
    if (e) {
        call->done(call, e, NULL);
        return;
    }
    list_push_back(&r->calls, &command_new(r, call)->in_link);
}

static inline struct command *command_of(struct list *it)
{
    return container_of(it, struct command, in_link);
}

/* The oldest one that the server has not seen yet. */
static inline struct command *first_taken(struct redis *r)
{
    list_for_each (it, &r->calls)
        if (!command_of(it)->executed)
            return command_of(it);
    return NULL;
}

/* True when there was something to do, as in what follows. */
static inline bool client_execute(struct redis *r)
{
    struct command *c = first_taken(r);
    if (!c || r->commands != LINK_UP)
        return false;
    server_execute(r->w, r->commands_life, c);
    return true;
}

static inline struct reply *parse_reply(struct slice text)
{
    struct reply_parser *p;
    struct reply *reply = NULL;
    BUG_ON(reply_parser_new(1 << 26, &p));
    BUG_ON(reply_parser_feed(p, text) || reply_parser_next(p, &reply));
    BUG_ON(reply_parser_is_midway(p));
    reply_parser_free(p);
    return reply;
}

static inline bool client_answer(struct redis *r)
{
    if (list_is_empty(&r->calls) || !command_of(r->calls.next)->executed)
        return false;
    struct command *c = command_of(r->calls.next);
    struct reply *reply = c->reply.len ? parse_reply(buf_slice(&c->reply)) : NULL;
    struct redis_call *call = c->call;
    r->w->tick++;
    command_free(c);
    call->done(call, reply ? ERR_OK : ERR_IO, reply);
    if (reply)
        reply_free(reply);
    return true;
}

/* What was on its way may be carried out, now or later. */
static inline void abandon(struct redis *r, struct command *c, bool later)
{
    struct world *w = r->w;
    list_remove(&c->in_link);
    c->call = NULL;
    if (later && w->life[c->life].serving) {
        list_push_back(&w->ghosts, &c->in_link);
        return;
    }
    command_free(c);
}

static inline void answer_all(struct redis *r, enum err e)
{
    struct list on_way;
    list_init(&on_way);
    list_splice_back(&on_way, &r->calls);
    bool later = one_in(r->w, 3) && !r->w->calm;
    while (!list_is_empty(&on_way)) {
        struct command *c = command_of(on_way.next);
        struct redis_call *call = c->call;
        abandon(r, c, later && !c->executed);
        call->done(call, e, NULL);
    }
}

static inline void client_lose_commands(struct redis *r)
{
    struct world *w = r->w;
    if (r->commands == LINK_DOWN)
        return;
    for (unsigned n = chance(w, 4); n; n--)
        (void)client_execute(r);
    for (unsigned n = chance(w, 4); n; n--)
        (void)client_answer(r);
    trace(w, "bus %u loses its command link to L%d", r->slot, r->commands_life);
    w->seen->links_lost++;
    r->commands = LINK_DOWN;
    answer_all(r, ERR_UNAVAILABLE);
    r->o.on.ready(r->o.ctx);
}

#endif
