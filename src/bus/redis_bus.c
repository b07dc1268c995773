/* redis_bus.c - the backend that orders in Redis, for all processes that share it.
 *
 * Redis decides the order (one script per publish), keeps the history (one stream per channel) and
 * tells who listens (one pub/sub channel per channel). Every process reads the stream whenever it
 * is not sure that it heard everything, so what a listener gets is the order and nothing else;
 * redis_channel.c is where that is seen.
 *
 * While Redis is away listeners stay and hear nothing, publishes are answered "away" at once, and
 * who joins waits as long as a command may take. Nothing is queued for later.
 */
#include "redis_bus.h"

#include "record.h"

#include <stdio.h>
#include <stdlib.h>

#define TICK_MS 250
#define SWEEP_MS 10000
#define REPLY_SHARE 2 /* a reply may be that much larger than the messages it was asked for */

static struct redis_bus *of_backend(struct backend *be)
{
    return container_of(be, struct redis_bus, be);
}

static struct slice name_of(const struct map_node *n)
{
    return rchannel_name(container_of(n, struct rchannel, node));
}

/* --- from the bus --- */

static void redis_bus_interest(struct backend *be, struct slice channel, uint64_t hash, bool on)
{
    rchannel_want(rchannel_make(of_backend(be), channel, hash), on);
}

static void redis_bus_subscribers(struct backend *be, struct slice channel, uint64_t hash,
                                  uint32_t n)
{
    registry_subscribers(rchannel_make(of_backend(be), channel, hash), n);
}

static void backend_publish(struct backend *be, struct bus_publish *op)
{
    redis_bus_publish(of_backend(be), op);
}

static void backend_catch_up(struct backend *be, struct bus_op *op, struct slice channel,
                             struct catch_up *cu, bool reverse)
{
    struct redis_bus *rb = of_backend(be);
    struct rchannel *c = rchannel_get(rb, channel, hash_bytes(channel));
    (void)reverse; /* only in histories, which say it themselves */
    if (!rb->attached) {
        op->err = ERR_UNAVAILABLE;
        bus_answer(be->bus, op);
    } else if (op->kind == BUS_HISTORY) {
        redis_bus_history(rb, container_of(op, struct bus_history, op));
    } else {
        BUG_ON(!c); /* a page for somebody who never joined */
        read_wait(c, op, cu);
        read_pump(c);
    }
}

static void backend_clear(struct backend *be, struct bus_clear *op)
{
    struct redis_bus *rb = of_backend(be);
    if (rb->attached) {
        redis_bus_clear(rb, op);
    } else {
        op->op.err = ERR_UNAVAILABLE;
        bus_answer(be->bus, &op->op);
    }
}

static void backend_channels(struct backend *be, struct bus_channels *op)
{
    struct redis_bus *rb = of_backend(be);
    if (rb->attached) {
        registry_channels(rb->registry, op);
    } else {
        op->op.err = ERR_UNAVAILABLE;
        bus_answer(be->bus, &op->op);
    }
}

static void backend_channel(struct backend *be, struct bus_channel_get *op)
{
    struct redis_bus *rb = of_backend(be);
    if (rb->attached) {
        registry_channel(rb->registry, op);
    } else {
        op->op.err = ERR_UNAVAILABLE;
        bus_answer(be->bus, &op->op);
    }
}

/* --- from Redis --- */

static struct rchannel *of_sub(struct redis_sub *s)
{
    return container_of(s, struct rchannel, sub);
}

static void on_message(void *ctx, struct redis_sub *s, struct slice payload)
{
    (void)ctx;
    rchannel_message(of_sub(s), payload);
}

static void on_subscribed(void *ctx, struct redis_sub *s)
{
    (void)ctx;
    rchannel_subscribed(of_sub(s));
}

static void on_lost(void *ctx, struct redis_sub *s)
{
    (void)ctx;
    rchannel_lost(of_sub(s));
}

static void on_ready(void *ctx)
{
    struct redis_bus *rb = ctx;
    bool ready = redis_ready(rb->redis);
    bus_set_ready(rb->be.bus, !ready                              ? redis_why_not(rb->redis)
                              : registry_is_refused(rb->registry) ? "Redis refuses to run scripts"
                                                                  : NULL);
    if (ready && !rb->ready)
        witnesses_speak(rb);
    rb->ready = ready;
}

/* --- time --- */

static void retry_reads(struct redis_bus *rb)
{
    struct list failed;
    list_init(&failed);
    list_splice_back(&failed, &rb->retry);
    for (struct list *it; (it = list_pop_front(&failed));)
        read_pump(container_of(it, struct rchannel, in_retry));
}

static void fail_waiters(struct redis_bus *rb, uint64_t now)
{
    while (!list_is_empty(&rb->waiters)) {
        struct waiter *w = container_of(rb->waiters.next, struct waiter, in_bus);
        if (now - w->since_ms < rb->opt.command_timeout_ms)
            return;
        waiter_fail(w);
    }
}

static void cool_lingering(struct redis_bus *rb, uint64_t now)
{
    while (!list_is_empty(&rb->lingering)) {
        struct rchannel *c = container_of(rb->lingering.next, struct rchannel, linger);
        if (now - c->left_ms < rb->opt.linger_ms)
            return;
        rchannel_cool(c);
    }
}

static void on_cared(struct script_call *call, enum err e, const struct reply *r)
{
    (void)call;
    (void)e;
    (void)r;
}

/* The order of a channel that somebody listens to must not be forgotten, however quiet it is. */
static void care(struct rchannel *c, uint64_t now)
{
    const uint64_t age = redis_bus_meta_ms(c->options);
    if (c->state != CHANNEL_LIVE || now - c->cared_ms < age / 4)
        return;
    c->cared_ms = now;
    struct script_call *call = script_call_new(c->rb, NULL, 3, REDIS_KEY_MAX + 64, on_cared, NULL);
    script_call_text(call, SLICE("PEXPIRE"));
    script_call_key(call, rchannel_name(c), ":m", SLICE_NONE);
    script_call_u64(call, age);
    script_call_submit(call);
}

static void sweep(struct redis_bus *rb, uint64_t now)
{
    if (now - rb->swept_ms < SWEEP_MS)
        return;
    rb->swept_ms = now;
    for (struct map_node *n = NULL; (n = map_next(&rb->channels, n));) {
        struct rchannel *c = container_of(n, struct rchannel, node);
        rchannel_expire(c);
        care(c, now);
    }
}

static void on_tick(struct timer *t)
{
    struct redis_bus *rb = container_of(t, struct redis_bus, tick);
    uint64_t now = bus_now_ms(rb->be.bus);
    timer_set(bus_timers(rb->be.bus), t, TICK_MS);
    on_ready(rb);
    fail_waiters(rb, now);
    retry_reads(rb);
    cool_lingering(rb, now);
    sweep(rb, now);
    registry_tick(rb->registry, now);
}

/* --- life --- */

static void subscribe_all(struct redis_bus *rb)
{
    for (struct map_node *n = NULL; (n = map_next(&rb->channels, n));) {
        struct rchannel *c = container_of(n, struct rchannel, node);
        if (c->state == CHANNEL_SUBSCRIBING)
            redis_subscribe(rb->redis, &c->sub);
    }
}

static void detach(struct redis_bus *rb)
{
    if (!rb->attached)
        return;
    rb->attached = false;
    timer_cancel(bus_timers(rb->be.bus), &rb->tick);
    redis_detach(rb->redis);
    while (!list_is_empty(&rb->waiters))
        waiter_fail(container_of(rb->waiters.next, struct waiter, in_bus));
}

static enum err backend_attach(struct backend *be, struct loop *l)
{
    struct redis_bus *rb = of_backend(be);
    if (!l) {
        detach(rb);
        return ERR_OK;
    }
    enum err e = redis_attach(rb->redis, l);
    if (e)
        return e;
    rb->attached = true;
    timer_set(bus_timers(be->bus), &rb->tick, TICK_MS);
    subscribe_all(rb);
    return ERR_OK;
}

static void backend_free(struct backend *be)
{
    struct redis_bus *rb = of_backend(be);
    BUG_ON(rb->attached);
    for (struct map_node *n = map_next(&rb->channels, NULL), *next; n; n = next) {
        next = map_next(&rb->channels, n);
        rchannel_free(container_of(n, struct rchannel, node));
    }
    map_release(&rb->channels);
    registry_free(rb->registry);
    witnesses_free(rb->witnesses);
    redis_free(rb->redis);
    free(rb);
}

static enum err open_client(struct redis_bus *rb)
{
    const struct bus_redis_options *o = &rb->opt;
    const struct redis_options ro = {
        .target = o->target,
        .tls = o->tls,
        .connect_timeout_ms = o->connect_timeout_ms,
        .command_timeout_ms = o->command_timeout_ms,
        .max_reply_bytes = o->max_reply_bytes,
        .max_pending_bytes = o->max_reply_bytes,
        .scripts = redis_scripts,
        .n_scripts = n_redis_scripts,
        .prefix = o->prefix,
        .on = {.message = on_message,
               .subscribed = on_subscribed,
               .lost = on_lost,
               .ready = on_ready},
        .ctx = rb,
    };
    for (size_t i = 0; i < n_redis_scripts; i++)
        redis_script_init(redis_scripts[i]);
    enum err e = redis_new(&ro, &rb->redis);
    if (!e)
        e = registry_new(rb, &rb->registry);
    return e ? e : witnesses_new(rb, &rb->witnesses);
}

static void init(struct redis_bus *rb)
{
    const struct bus_redis_options *o = &rb->opt;
    const struct redis_target *t = o->target;
    uint32_t db = t->mode == REDIS_SENTINEL ? t->master.db : t->endpoint[0].db;
    uint64_t fit =
        o->max_reply_bytes / REPLY_SHARE / (o->max_message_bytes + RECORD_OVERHEAD_BYTES);
    rb->reply_messages = fit < 1 ? 1 : fit > UINT32_MAX ? UINT32_MAX : (uint32_t)fit;
    if (db)
        snprintf(rb->pubsub_suffix, sizeof rb->pubsub_suffix, "@%u", db);
    map_init(&rb->channels, name_of);
    list_init(&rb->lingering);
    list_init(&rb->retry);
    list_init(&rb->waiters);
    timer_init(&rb->tick, on_tick);
}

enum err bus_new_redis(const struct ns_table *ns, const struct bus_redis_options *o,
                       struct bus **out)
{
    static const struct backend_ops ops = {
        .free = backend_free,
        .attach = backend_attach,
        .interest = redis_bus_interest,
        .subscribers = redis_bus_subscribers,
        .publish = backend_publish,
        .catch_up = backend_catch_up,
        .clear = backend_clear,
        .channels = backend_channels,
        .channel = backend_channel,
    };
    struct redis_bus *rb = calloc(1, sizeof *rb);
    if (!rb)
        return ERR_NOMEM;
    rb->be.ops = &ops;
    rb->opt = *o;
    init(rb);
    enum err e = open_client(rb);
    if (e) {
        if (rb->redis)
            redis_free(rb->redis);
        registry_free(rb->registry);
        free(rb);
        return e;
    }
    e = bus_new(ns, &rb->be, out);
    if (!e)
        bus_set_ready(*out, "redis: not connected yet");
    return e;
}
