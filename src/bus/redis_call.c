/* redis_call.c - a script call with everything it says, in one allocation.
 *
 * What is said must stay until the answer is there, because a call may be sent again to another
 * node. The bytes are written once, here, and copied once more, into the link's output.
 */
#include "record.h"
#include "redis_bus.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBER_BYTES 21

struct script_call *
script_call_new(struct redis_bus *rb, struct redis_script *script, size_t n_args, size_t n_bytes,
                void (*done)(struct script_call *, enum err, const struct reply *), void *ctx)
{
    const size_t fixed = sizeof(struct script_call) + n_args * sizeof(struct slice);
    struct script_call *c = malloc(fixed + n_bytes);
    BUG_ON(!c);
    memset(c, 0, sizeof *c);
    c->call.script = script;
    c->rb = rb;
    c->done = done;
    c->ctx = ctx;
    c->used = fixed;
    c->size = fixed + n_bytes;
    return c;
}

uint64_t redis_bus_meta_ms(const struct ns_options *o)
{
    uint64_t ms = META_MS;
    if (ms < 2 * o->history_ms)
        ms = 2 * o->history_ms;
    return ms < 2 * o->idempotency_ms ? 2 * o->idempotency_ms : ms;
}

static char *room(struct script_call *c, size_t n)
{
    BUG_ON(n > c->size - c->used);
    return (char *)c + c->used;
}

static void took(struct script_call *c, size_t n)
{
    c->arg[c->call.n_args++] = slice_of((char *)c + c->used, n);
    c->used += n;
}

static char *put(char *at, struct slice s)
{
    if (s.len)
        memcpy(at, s.ptr, s.len);
    return at + s.len;
}

/* The channel as hash tag: all keys of a channel are in one slot. Neither the prefix nor a channel
 * has braces. */
static char *put_base(char *at, const struct redis_bus *rb, struct slice channel)
{
    at = put(at, slice_str(rb->opt.prefix));
    *at++ = '{';
    at = put(at, channel);
    *at++ = '}';
    return at;
}

void script_call_key(struct script_call *c, struct slice channel, const char *suffix,
                     struct slice more)
{
    BUG_ON(channel.len > CHANNEL_MAX_BYTES);
    char *start = room(c, REDIS_KEY_MAX + more.len);
    char *at = put_base(start, c->rb, channel);
    at = put(at, slice_str(suffix));
    at = put(at, more);
    took(c, (size_t)(at - start));
    c->call.n_keys++;
    if (!c->call.key.len)
        c->call.key = c->arg[c->call.n_args - 1];
}

void script_call_pubsub(struct script_call *c, struct slice channel)
{
    char *start = room(c, REDIS_KEY_MAX);
    char *at = put_base(start, c->rb, channel);
    at = put(at, slice_str(c->rb->pubsub_suffix));
    took(c, (size_t)(at - start));
}

void script_call_text(struct script_call *c, struct slice text)
{
    put(room(c, text.len), text);
    took(c, text.len);
}

void script_call_u64(struct script_call *c, uint64_t v)
{
    int n = snprintf(room(c, NUMBER_BYTES), NUMBER_BYTES, "%" PRIu64, v);
    took(c, (size_t)n);
}

void script_call_constant(struct script_call *c, struct slice redis_arg)
{
    c->arg[c->call.n_args++] = redis_arg;
}

void script_call_body(struct script_call *c, const struct msg *m)
{
    took(c, record_write_body(room(c, record_body_max(m)), m));
}

void script_call_known(struct script_call *c, const struct known *k)
{
    char *start = room(c, KNOWN_BYTES), *at = start;
    for (uint32_t i = 0; i < k->n; i++)
        at += snprintf(at, KNOWN_BYTES - (size_t)(at - start), "%s%" PRIu32 ":%" PRIu64,
                       i ? " " : "", k->at[i].epoch, k->at[i].offset);
    took(c, (size_t)(at - start));
}

static void on_done(struct redis_call *call, enum err e, const struct reply *r)
{
    struct script_call *c = container_of(call, struct script_call, call);
    c->done(c, e, r);
    free(c);
}

void script_call_submit(struct script_call *c)
{
    c->call.arg = c->arg;
    c->call.done = on_done;
    redis_submit(c->rb->redis, &c->call);
}
