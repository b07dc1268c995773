/* call.c - commands: written for the node they go to, answered, refused.
 *
 * A call is on its way on a link (then a flight carries it), or it waits in a list of the node's or
 * of the topology's, or it is the caller's. Nothing waits for a server that is away: only calls
 * that must not overtake others wait, bounded in bytes, and for no longer than those take.
 *
 * NOSCRIPT (SCRIPT FLUSH, or a failover to a server that never saw the script) is answered with the
 * text. The answers of what was sent before may all be NOSCRIPT, and they are sent again in their
 * order; what is submitted meanwhile is held until the last of them is answered.
 */
#include "client.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "error.h"
#include "node.h"

#include <stdio.h>
#include <stdlib.h>

#define COMMAND_OVERHEAD_BYTES 128 /* EVALSHA, the digest, lengths */
#define ARG_OVERHEAD_BYTES 16
#define SAME_REFUSAL_EVERY_MS 10000

void call_finish(struct redis *r, struct redis_call *c, enum err e, const struct reply *reply)
{
    c->at = NULL;
    if (r->topology->finished)
        r->topology->finished(r, c);
    c->done(c, e, reply);
}

static size_t bytes_of(const struct redis_call *c)
{
    size_t n = COMMAND_OVERHEAD_BYTES;

    for (uint32_t i = 0; i < c->n_args; i++)
        n += c->arg[i].len + ARG_OVERHEAD_BYTES;
    return n;
}

void redis_submit(struct redis *r, struct redis_call *c)
{
    client_enter(r);
    list_init(&c->waiting);
    c->at = NULL;
    c->attempts = 0;
    c->bytes = bytes_of(c);
    if (!r->loop || r->closing)
        c->done(c, ERR_CLOSED, NULL);
    else if (r->topology->submit)
        r->topology->submit(r, c);
    else
        call_send(r, r->topology->node_for(r, c->key), c, CALL_PLAIN);
    client_leave(r);
}

static void hold(struct redis *r, struct redis_node *n, struct redis_call *c)
{
    if (!client_try_hold(r, c)) {
        call_finish(r, c, ERR_LIMIT, NULL);
        return;
    }
    c->at = n;
    list_push_back(&n->held, &c->waiting);
}

static struct redis_call *take_held(struct redis_node *n)
{
    struct list *it = list_pop_front(&n->held);
    if (!it)
        return NULL;
    struct redis_call *c = container_of(it, struct redis_call, waiting);
    client_unhold(n->r, c);
    return c;
}

void call_drop_held(struct redis_node *n, enum err e)
{
    struct redis_call *c;

    n->relearned = 0;
    while ((c = take_held(n)))
        call_finish(n->r, c, e, NULL);
}

static void release_held(struct redis_node *n)
{
    struct redis_call *c;

    if (n->relearned == 0 || n->answered < n->relearned)
        return;
    n->relearned = 0;
    /* One that is sent can be answered NOSCRIPT only later, so this list does not grow again. */
    while ((c = take_held(n)))
        call_send(n->r, n, c, CALL_PLAIN);
}

static void learn_again(struct redis *r, struct redis_node *n, struct redis_call *c, unsigned how)
{
    if (n->relearned == 0)
        n->relearned = n->sent;
    call_send(r, n, c, how | CALL_WITH_TEXT);
}

/* The server's state, not this command, is the reason. */
static void server_cannot(struct redis_node *n, enum error_kind kind)
{
    if (kind == ERROR_NOT_MASTER)
        node_doom(n, "it is not a master");
    if (kind == ERROR_NOT_MASTER || kind == ERROR_CLUSTER_DOWN)
        n->r->topology->look(n->r, n);
}

/* A pipeline of calls is refused for one reason, and they are tried again: it is said once in a
 * while, with a key that shows where to look. */
static void say_refused(struct redis_node *n, enum error_kind kind, struct slice key,
                        struct slice text)
{
    uint64_t now = client_now_ms(n->r);

    if (n->refused_kind == (int)kind && now - n->refused_ms < SAME_REFUSAL_EVERY_MS)
        return;
    n->refused_kind = (int)kind;
    n->refused_ms = now;
    log_warn("redis_refused", "server=%s key=%s error=%s", n->name, log_quote(key),
             log_quote(text));
}

static void refused(struct redis *r, struct flight *f, const struct reply *reply)
{
    struct redis_node *n = f->node;
    struct redis_call *c = f->call;
    enum error_kind kind = error_kind(reply_text(reply));

    if (kind == ERROR_NO_SCRIPT && c->script && !(f->how & CALL_WITH_TEXT)) {
        learn_again(r, n, c, f->how);
        return;
    }
    if (kind == ERROR_REDIRECT && r->topology->redirect && r->topology->redirect(r, c, n, reply))
        return;
    metrics_inc(M_REDIS_ERRORS);
    say_refused(n, kind, c->key, reply_text(reply));
    server_cannot(n, kind);
    call_finish(r, c, error_is_passing(kind) ? ERR_UNAVAILABLE : ERR_IO, reply);
}

static void answered(struct flight *f, enum err e, const struct reply *reply)
{
    struct redis_node *n = f->node;
    struct redis *r = n->r;

    f->call->at = NULL;
    if (e == ERR_OK && reply_kind(reply) == REPLY_ERROR)
        refused(r, f, reply);
    else
        call_finish(r, f->call, e, reply);
    flight_free(f);
    if (!n->closed)
        release_held(n);
}

static struct slice *room_for(struct redis *r, size_t n)
{
    if (n > r->arg_cap) {
        free(r->arg);
        r->arg = malloc(n * sizeof *r->arg);
        BUG_ON(!r->arg);
        r->arg_cap = n;
    }
    return r->arg;
}

static struct slice filled_in(const struct redis_node *n, struct slice arg)
{
    if (arg.ptr == redis_arg_identity.ptr)
        return slice_of(n->identity, sizeof n->identity);
    if (arg.ptr == redis_arg_publish.ptr)
        return n->sharded ? SLICE("SPUBLISH") : SLICE("PUBLISH");
    return arg;
}

/* digits: of n_keys; holds 11. */
static size_t write_out(struct redis_node *n, const struct redis_call *c, unsigned how,
                        char digits[11], struct slice *out)
{
    size_t at = 0;

    if (c->script) {
        bool text = how & CALL_WITH_TEXT;
        out[at++] = text ? SLICE("EVAL") : SLICE("EVALSHA");
        out[at++] = slice_str(text ? c->script->text : c->script->sha1_hex);
        snprintf(digits, 11, "%u", (unsigned)c->n_keys);
        out[at++] = slice_str(digits);
    }
    for (uint32_t i = 0; i < c->n_args; i++)
        out[at++] = filled_in(n, c->arg[i]);
    return at;
}

static void ignore_answer(struct flight *f, enum err e, const struct reply *reply)
{
    (void)e;
    (void)reply;
    flight_free(f);
}

void call_send(struct redis *r, struct redis_node *n, struct redis_call *c, unsigned how)
{
    char digits[11];

    if (!n || !node_takes_commands(n)) {
        call_finish(r, c, ERR_UNAVAILABLE, NULL);
        return;
    }
    if (n->relearned && c->script && !(how & CALL_WITH_TEXT)) {
        hold(r, n, c);
        return;
    }
    enum err e = ERR_OK;
    if (how & CALL_ASKING)
        e = node_send(n, flight_new(n, ignore_answer), &SLICE("ASKING"), 1);
    if (e == ERR_OK) {
        struct slice *arg = room_for(r, c->n_args + 3);
        size_t n_args = write_out(n, c, how, digits, arg);
        struct flight *f = flight_new(n, answered);
        f->call = c;
        f->how = how;
        c->at = n;
        e = node_send(n, f, arg, n_args);
    }
    if (e)
        call_finish(r, c, e, NULL);
}
