/* op.c - requests to the bus: making them and freeing them with everything they own.
 *
 * An op is one allocation of the size its kind needs, plus the strings and arrays that its owner
 * and the bus hang on it. Whoever holds the op owns all of that.
 */
#include "backend.h"
#include "crier/log.h"

#include <stdlib.h>

void *bus_alloc(size_t n_bytes)
{
    void *p = calloc(1, n_bytes);
    if (!p) {
        log_error("out_of_memory", "bytes=%zu", n_bytes);
        abort();
    }
    return p;
}

static void free_catch_up(struct catch_up *cu)
{
    for (uint32_t i = 0; i < cu->count; i++)
        msg_unref(cu->msgs[i]);
    free(cu->msgs);
}

static void free_publish(struct bus_op *op)
{
    struct bus_publish *p = container_of(op, struct bus_publish, op);
    msg_unref(p->msg);
    free(p->key);
    free(p);
}

static void free_join(struct bus_op *op)
{
    struct bus_join *j = container_of(op, struct bus_join, op);
    free(j->channel);
    free(j->member.user);
    free_catch_up(&j->cu);
    free(j);
}

static void free_page(struct bus_op *op)
{
    struct bus_page *p = container_of(op, struct bus_page, op);
    free(p->channel);
    free_catch_up(&p->cu);
    free(p);
}

static void free_leave(struct bus_op *op)
{
    struct bus_leave *l = container_of(op, struct bus_leave, op);
    free(l->channel);
    free(l);
}

static void free_history(struct bus_op *op)
{
    struct bus_history *h = container_of(op, struct bus_history, op);
    free(h->channel);
    free_catch_up(&h->cu);
    free(h);
}

static void free_clear(struct bus_op *op)
{
    struct bus_clear *c = container_of(op, struct bus_clear, op);
    free(c->channel);
    free(c);
}

static void free_channels(struct bus_op *op)
{
    struct bus_channels *c = container_of(op, struct bus_channels, op);
    for (uint32_t i = 0; i < c->count; i++)
        free(c->info[i].name);
    free(c->info);
    free(c->prefix);
    free(c->after);
    free(c);
}

static void free_channel_get(struct bus_op *op)
{
    struct bus_channel_get *c = container_of(op, struct bus_channel_get, op);
    free(c->info.name);
    free(c->channel);
    free(c);
}

static void free_presence(struct bus_op *op)
{
    struct bus_presence *p = container_of(op, struct bus_presence, op);
    for (uint32_t i = 0; i < p->count; i++)
        free(p->member[i].user);
    free(p->member);
    free(p->channel);
    free(p);
}

void bus_op_free(struct bus_op *op)
{
    static void (*const free_kind[])(struct bus_op *) = {
        [BUS_PUBLISH] = free_publish,   [BUS_JOIN] = free_join,
        [BUS_PAGE] = free_page,         [BUS_LEAVE] = free_leave,
        [BUS_HISTORY] = free_history,   [BUS_CLEAR] = free_clear,
        [BUS_CHANNELS] = free_channels, [BUS_CHANNEL] = free_channel_get,
        [BUS_PRESENCE] = free_presence,
    };
    BUG_ON(op->kind >= sizeof free_kind / sizeof free_kind[0]);
    free_kind[op->kind](op);
}

#define DEFINE_NEW(name, op_kind)                                           \
    struct name *name##_new(void (*done)(struct bus_op *), void *ctx)       \
    {                                                                       \
        struct name *o = bus_alloc(sizeof *o);                              \
        o->op = (struct bus_op){.kind = op_kind, .done = done, .ctx = ctx}; \
        return o;                                                           \
    }

DEFINE_NEW(bus_publish, BUS_PUBLISH)
DEFINE_NEW(bus_join, BUS_JOIN)
DEFINE_NEW(bus_page, BUS_PAGE)
DEFINE_NEW(bus_leave, BUS_LEAVE)
DEFINE_NEW(bus_history, BUS_HISTORY)
DEFINE_NEW(bus_clear, BUS_CLEAR)
DEFINE_NEW(bus_channels, BUS_CHANNELS)
DEFINE_NEW(bus_channel_get, BUS_CHANNEL)
DEFINE_NEW(bus_presence, BUS_PRESENCE)
