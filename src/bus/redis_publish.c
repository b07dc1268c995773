/* redis_publish.c - publishing, clearing, describing.
 *
 * The script orders the message and stores it before it answers, so the answer is the
 * acknowledgement. What this process listens to itself is delivered from the answer when it is the
 * next of its channel: the copy that pub/sub brings is then old.
 *
 * A publish whose answer was lost with the link may have been carried out; it is answered "away",
 * and the publisher's idempotency key makes its next try safe.
 */
#include "crier/codec.h"
#include "crier/log.h"
#include "record.h"
#include "redis_bus.h"

#include <stdio.h>
#include <stdlib.h>

#define DIGEST_BYTES 8

static enum err outcome(enum err e)
{
    /* Whatever a server says that is no answer, to the publisher it is away. */
    return e == ERR_OK ? ERR_OK : ERR_UNAVAILABLE;
}

/* --- publishing --- */

typedef void published(struct script_call *call, enum err e, const struct reply *r);
static void publish(struct redis_bus *rb, struct bus_publish *op, published *done);
static published on_published_anew;

static void answer(struct redis_bus *rb, struct bus_publish *op, enum err e)
{
    op->op.err = e;
    bus_answer(rb->be.bus, &op->op);
}

static bool parse_position(struct slice text, struct position *out)
{
    struct slice part;
    uint64_t epoch;
    if (!slice_split(&text, ' ', &part) || slice_to_u64(part, CURSOR_EPOCH_MAX, &epoch) ||
        !slice_split(&text, ' ', &part) || slice_to_u64(part, UINT64_MAX - 1, &out->offset))
        return false;
    out->epoch = (uint32_t)epoch;
    return true;
}

static enum err ordered(struct redis_bus *rb, struct bus_publish *op, struct slice text)
{
    struct record r;
    struct lineage line;
    if (record_parse(text, &r) || (r.body.len && lineage_parse(r.body, &line)))
        return ERR_IO;
    op->pos = r.pos;
    witness_note(rb, op->msg->channel, op->msg->channel_hash, r.pos, r.body.len ? &line : NULL);
    msg_order(op->msg, r.pos, r.time_ms);
    struct rchannel *c = rchannel_get(rb, op->msg->channel, op->msg->channel_hash);
    if (c)
        rchannel_published(c, op->msg, r.previous_epoch);
    return ERR_OK;
}

static void take_answer(struct script_call *call, enum err e, const struct reply *r, bool anew)
{
    struct redis_bus *rb = call->rb;
    struct bus_publish *op = call->ctx;
    struct slice text = e ? SLICE_NONE : reply_text(r), rest = text, word;
    if (e) {
        answer(rb, op, outcome(e));
        return;
    }
    slice_split(&rest, ' ', &word);
    if (slice_eq(word, SLICE("conflict"))) {
        e = ERR_CONFLICT;
    } else if (slice_eq(word, SLICE("again")) && !anew) {
        log_warn("redis_order_removed", "channel=%s why=\"the stream was ahead of its order\"",
                 log_quote(op->msg->channel));
        publish(rb, op, on_published_anew); /* finds nothing there */
        return;
    } else if (slice_eq(word, SLICE("repeated"))) {
        op->repeated = true;
        e = parse_position(rest, &op->pos) ? ERR_OK : ERR_IO;
    } else {
        e = ordered(rb, op, text);
    }
    if (e == ERR_IO)
        log_error("redis_bad_reply", "script=publish reply=%s", log_quote(text));
    answer(rb, op, e == ERR_CONFLICT ? e : outcome(e));
}

static void on_published(struct script_call *call, enum err e, const struct reply *r)
{
    take_answer(call, e, r, false);
}

static void on_published_anew(struct script_call *call, enum err e, const struct reply *r)
{
    take_answer(call, e, r, true);
}

/* 64 bits of SHA-1: two bodies under one key are to be told apart, not protected. */
static void digest_of(struct slice payload, char out[2 * DIGEST_BYTES + 1])
{
    uint8_t sum[20];
    sha1(payload, sum);
    for (size_t i = 0; i < DIGEST_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
}

static void publish(struct redis_bus *rb, struct bus_publish *op, published *done)
{
    const struct msg *m = op->msg;
    const struct ns_options *o = bus_ns(rb->be.bus, m->channel);
    const struct slice key = o->idempotency_ms ? slice_str(op->key) : SLICE_NONE;
    const struct known known = witness_get(rb, m->channel, m->channel_hash);
    const size_t fixed = 4 * REDIS_KEY_MAX + 256 + KNOWN_BYTES;
    struct script_call *c =
        script_call_new(rb, &script_publish, 15, fixed + key.len + record_body_max(m), done, op);
    script_call_key(c, m->channel, ":m", SLICE_NONE);
    if (o->history_messages && o->history_ms)
        script_call_key(c, m->channel, ":s", SLICE_NONE);
    script_call_constant(c, redis_arg_identity);
    script_call_u64(c, cursor_new_epoch());
    script_call_u64(c, o->history_messages);
    script_call_u64(c, o->history_ms);
    script_call_u64(c, redis_bus_meta_ms(o));
    script_call_constant(c, redis_arg_publish);
    script_call_pubsub(c, m->channel);
    script_call_body(c, m);
    script_call_known(c, &known);
    script_call_u64(c, o->idempotency_ms);
    script_call_u64(c, o->idempotency_keys);
    if (key.len) {
        char digest[2 * DIGEST_BYTES + 1];
        digest_of(m->payload, digest);
        script_call_text(c, key);
        script_call_text(c, slice_str(digest));
    }
    script_call_submit(c);
}

void redis_bus_publish(struct redis_bus *rb, struct bus_publish *op)
{
    if (!rb->attached)
        answer(rb, op, ERR_UNAVAILABLE);
    else
        publish(rb, op, on_published);
}

/* --- clearing --- */

static void on_cleared(struct script_call *call, enum err e, const struct reply *r)
{
    struct bus_clear *op = call->ctx;
    struct slice name = slice_str(op->channel);
    struct rchannel *c = rchannel_get(call->rb, name, hash_bytes(name));
    op->op.err = outcome(e);
    if (!e) {
        op->removed = (uint32_t)reply_integer(reply_at(r, 0));
        if (c && op->removed)
            rchannel_message(c, reply_text(reply_at(r, 1)));
    }
    bus_answer(call->rb->be.bus, &op->op);
}

void redis_bus_clear(struct redis_bus *rb, struct bus_clear *op)
{
    struct slice channel = slice_str(op->channel);
    struct script_call *c =
        script_call_new(rb, &script_clear, 4, 3 * REDIS_KEY_MAX, on_cleared, op);
    script_call_key(c, channel, ":m", SLICE_NONE);
    script_call_key(c, channel, ":s", SLICE_NONE);
    script_call_constant(c, redis_arg_publish);
    script_call_pubsub(c, channel);
    script_call_submit(c);
}

/* --- describing --- */

struct description {
    struct bus_op *op;
    uint32_t pending;
    enum err err;
};

struct description_of_one {
    struct description *all;
    struct bus_channel_info *info;
};

static void described(struct redis_bus *rb, struct description *d)
{
    if (--d->pending)
        return;
    d->op->err = d->err;
    bus_answer(rb->be.bus, d->op);
    free(d);
}

static void on_described(struct script_call *call, enum err e, const struct reply *r)
{
    struct description_of_one *one = call->ctx;
    uint64_t epoch = 0, offset = 0;
    if (!e && (slice_to_u64(reply_text(reply_at(r, 0)), CURSOR_EPOCH_MAX, &epoch) ||
               slice_to_u64(reply_text(reply_at(r, 1)), UINT64_MAX, &offset)))
        e = ERR_IO;
    if (e) {
        one->all->err = ERR_UNAVAILABLE;
    } else {
        one->info->head = (struct position){.epoch = (uint32_t)epoch, .offset = offset};
        one->info->messages = (uint32_t)reply_integer(reply_at(r, 2));
    }
    described(call->rb, one->all);
    free(one);
}

static void describe_one(struct redis_bus *rb, struct description *d, struct bus_channel_info *info)
{
    struct slice channel = slice_str(info->name);
    struct description_of_one *one = bus_alloc(sizeof *one);
    *one = (struct description_of_one){.all = d, .info = info};
    struct script_call *c =
        script_call_new(rb, &script_describe, 3, 2 * REDIS_KEY_MAX + 32, on_described, one);
    script_call_key(c, channel, ":m", SLICE_NONE);
    script_call_key(c, channel, ":s", SLICE_NONE);
    script_call_u64(c, bus_ns(rb->be.bus, channel)->history_ms);
    script_call_submit(c);
}

void redis_bus_describe(struct redis_bus *rb, struct bus_op *op, struct bus_channel_info *info,
                        uint32_t n)
{
    struct description *d = bus_alloc(sizeof *d);
    *d = (struct description){.op = op, .pending = n + 1};
    for (uint32_t i = 0; i < n; i++)
        describe_one(rb, d, &info[i]);
    described(rb, d); /* the one that keeps it while calls answer at once */
}
