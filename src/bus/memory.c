/* memory.c - the backend that orders in this process and promises nothing beyond its end.
 *
 * One random epoch for the life of the bus. A channel exists while somebody listens, a message is
 * kept or an idempotency key is remembered; when it goes, a tombstone keeps its offset, so that
 * (epoch, offset) never means two messages. Everything is answered within the call, which makes
 * the promise of backend.h trivially true.
 *
 * Message times never run backwards, not even when the machine's clock does: clients sort by them.
 */
#include "backend.h"
#include "crier/clock.h"
#include "crier/map.h"
#include "idempotency.h"
#include "tail.h"
#include "tombstone.h"

#include <stdlib.h>

struct memory {
    struct backend be;
    struct map channels; /* struct channel */
    struct tombstones gone;
    uint32_t epoch;
    uint64_t last_time_ms; /* wall clock of the newest message */
};

struct channel {
    struct map_node node;
    struct memory *mem;               /* borrowed */
    const struct ns_options *options; /* borrowed */
    struct tail tail;
    struct keyring keys;
    struct timer expiry; /* of the oldest message or key */
    bool listened;
    bool published; /* since it exists */
    size_t name_len;
    char name[];
};

static struct memory *of_backend(struct backend *be)
{
    return container_of(be, struct memory, be);
}

static struct channel *of_node(const struct map_node *n)
{
    return container_of(n, struct channel, node);
}

static struct slice name_of(const struct map_node *n)
{
    const struct channel *c = of_node(n);
    return slice_of(c->name, c->name_len);
}

static struct timer_wheel *wheel_of(const struct channel *c)
{
    return bus_timers(c->mem->be.bus);
}

static struct channel *channel_get(const struct memory *mem, struct slice name, uint64_t hash)
{
    struct map_node *n = map_get_hashed(&mem->channels, name, hash);
    return n ? of_node(n) : NULL;
}

static struct position resting_position(const struct memory *mem, uint64_t hash)
{
    return (struct position){.epoch = mem->epoch, .offset = tombstones_offset(&mem->gone, hash)};
}

static void channel_expire(struct timer *t);

static struct channel *channel_make(struct memory *mem, struct slice name, uint64_t hash)
{
    struct channel *c = channel_get(mem, name, hash);
    if (c)
        return c;
    c = bus_alloc(sizeof *c + name.len);
    c->mem = mem;
    c->options = bus_ns(mem->be.bus, name);
    memcpy(c->name, name.ptr, name.len);
    c->name_len = name.len;
    tail_init(&c->tail, resting_position(mem, hash));
    keyring_init(&c->keys);
    timer_init(&c->expiry, channel_expire);
    map_put(&mem->channels, &c->node);
    return c;
}

/* The channel has left the map. */
static void channel_free(struct channel *c)
{
    timer_cancel(wheel_of(c), &c->expiry);
    tail_release(&c->tail);
    keyring_release(&c->keys);
    free(c);
}

static void drop_if_unused(struct channel *c)
{
    struct tombstones *gone = &c->mem->gone;
    if (c->listened || c->tail.count || !keyring_is_empty(&c->keys))
        return;
    /* A channel that never had a message and rests at the floor comes back there by itself. */
    if (c->published || c->tail.head.offset != tombstones_offset(gone, c->node.hash))
        tombstones_put(gone, c->node.hash, c->tail.head.offset);
    map_remove(&c->mem->channels, &c->node);
    channel_free(c);
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void arm_expiry(struct channel *c)
{
    struct timer_wheel *w = wheel_of(c);
    uint64_t due = UINT64_MAX;
    if (c->tail.count)
        due = add_saturating(tail_oldest_ms(&c->tail), c->options->history_ms);
    if (!keyring_is_empty(&c->keys)) {
        uint64_t key = add_saturating(keyring_oldest_ms(&c->keys), c->options->idempotency_ms);
        due = key < due ? key : due;
    }
    /* Later than it needs to be is wrong, earlier only costs a look. */
    if (due != UINT64_MAX && !(timer_is_set(&c->expiry) && c->expiry.due_ms <= due))
        timer_set(w, &c->expiry, due > w->now_ms ? due - w->now_ms : 0);
}

static void channel_expire(struct timer *t)
{
    struct channel *c = container_of(t, struct channel, expiry);
    uint64_t now = bus_now_ms(c->mem->be.bus);
    if (now >= c->options->history_ms)
        tail_expire(&c->tail, now - c->options->history_ms);
    if (now >= c->options->idempotency_ms)
        keyring_expire(&c->keys, now - c->options->idempotency_ms);
    arm_expiry(c);
    drop_if_unused(c);
}

static void order(struct channel *c, struct msg *m)
{
    struct memory *mem = c->mem;
    const struct ns_options *o = c->options;
    uint64_t now = clock_wall_ms();
    if (now > mem->last_time_ms)
        mem->last_time_ms = now;
    struct position pos = {.epoch = mem->epoch, .offset = c->tail.head.offset + 1};
    msg_order(m, pos, mem->last_time_ms);
    tail_append(&c->tail, m, o->history_ms ? o->history_messages : 0, bus_now_ms(mem->be.bus));
    c->published = true;
    bus_ordered(mem->be.bus, m);
}

static void publish_in(struct channel *c, struct bus_publish *op)
{
    const struct ns_options *o = c->options;
    struct slice key = slice_str(op->key);
    if (op->key) {
        enum err e = keyring_find(&c->keys, key, op->msg->payload, &op->pos);
        op->repeated = e == ERR_OK;
        op->op.err = e == ERR_NOT_FOUND ? ERR_OK : e;
        if (e != ERR_NOT_FOUND)
            return;
    }
    order(c, op->msg);
    op->pos = op->msg->pos;
    if (op->key && o->idempotency_ms && o->idempotency_keys)
        keyring_add(&c->keys, key, op->msg->payload, op->pos, o->idempotency_keys,
                    bus_now_ms(c->mem->be.bus));
}

static void memory_publish(struct backend *be, struct bus_publish *op)
{
    const struct msg *m = op->msg;
    struct channel *c = channel_make(of_backend(be), m->channel, m->channel_hash);
    publish_in(c, op);
    arm_expiry(c);
    drop_if_unused(c);
    bus_answer(be->bus, &op->op);
}

static void memory_interest(struct backend *be, struct slice channel, uint64_t hash, bool on)
{
    /* A listener pins the channel even before its first message: the floor may rise meanwhile,
     * and the listener would see a jump. */
    struct channel *c = channel_make(of_backend(be), channel, hash);
    c->listened = on;
    drop_if_unused(c);
}

static void memory_catch_up(struct backend *be, struct bus_op *op, struct slice channel,
                            struct catch_up *cu, bool reverse)
{
    const struct memory *mem = of_backend(be);
    uint64_t hash = hash_bytes(channel);
    const struct channel *c = channel_get(mem, channel, hash);
    struct tail nothing;
    tail_init(&nothing, resting_position(mem, hash));
    op->err = tail_catch_up(c ? &c->tail : &nothing, cu, reverse);
    bus_answer(be->bus, op);
}

static void memory_clear(struct backend *be, struct bus_clear *op)
{
    struct slice name = slice_str(op->channel);
    struct channel *c = channel_get(of_backend(be), name, hash_bytes(name));
    if (c) {
        op->removed = tail_clear(&c->tail);
        drop_if_unused(c);
    }
    bus_answer(be->bus, &op->op);
}

static void describe(const struct memory *mem, struct bus_channel_info *info)
{
    struct slice name = slice_str(info->name);
    uint64_t hash = hash_bytes(name);
    const struct channel *c = channel_get(mem, name, hash);
    info->messages = c ? c->tail.count : 0;
    info->head = c ? c->tail.head : resting_position(mem, hash);
}

static void memory_channels(struct backend *be, struct bus_channels *op)
{
    for (uint32_t i = 0; i < op->count; i++)
        describe(of_backend(be), &op->info[i]);
    bus_answer(be->bus, &op->op);
}

static void memory_channel(struct backend *be, struct bus_channel_get *op)
{
    describe(of_backend(be), &op->info);
    bus_answer(be->bus, &op->op);
}

static enum err memory_attach(struct backend *be, struct loop *l)
{
    const struct memory *mem = of_backend(be);
    if (l)
        return ERR_OK;
    for (struct map_node *n = NULL; (n = map_next(&mem->channels, n));)
        timer_cancel(bus_timers(be->bus), &of_node(n)->expiry);
    return ERR_OK;
}

static void memory_free(struct backend *be)
{
    struct memory *mem = of_backend(be);
    for (struct map_node *n = map_next(&mem->channels, NULL), *next; n; n = next) {
        map_remove(&mem->channels, n);
        next = map_next(&mem->channels, n);
        channel_free(of_node(n));
    }
    map_release(&mem->channels);
    tombstones_release(&mem->gone);
    free(mem);
}

enum err bus_new_memory(const struct ns_table *ns, struct bus **out)
{
    static const struct backend_ops ops = {
        .free = memory_free,
        .attach = memory_attach,
        .interest = memory_interest,
        .publish = memory_publish,
        .catch_up = memory_catch_up,
        .clear = memory_clear,
        .channels = memory_channels,
        .channel = memory_channel,
    };
    struct memory *mem = calloc(1, sizeof *mem);
    if (!mem)
        return ERR_NOMEM;
    mem->be.ops = &ops;
    mem->epoch = cursor_new_epoch();
    map_init(&mem->channels, name_of);
    enum err e = tombstones_init(&mem->gone, TOMBSTONES_MAX);
    if (e) {
        free(mem);
        return e;
    }
    return bus_new(ns, &mem->be, out);
}
