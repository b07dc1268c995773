/* redis_registry.c - who listens to what in all processes together.
 *
 * Every process tells how many listeners its channels have: a sorted set of names, so that pages
 * of channels can be had in order, and a hash of counts. Both live as long as the process shows
 * signs of life, so a process that was killed is gone from the counts within ALIVE_MS and from the
 * memory of Redis within LIFE_MS. Changes are told together, a few times a second; a channel that
 * changed back meanwhile is not told at all.
 *
 * What a process has itself it knows better than Redis: answers are its own counts plus those of
 * the others. A flush is seen by the next sign of life: the server does not know the instance any
 * more, or the hash is shorter than it should be. Then everything is told again.
 */
#include "crier/clock.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/rnd.h"
#include "redis_bus.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BEAT_MS 2000
#define ALIVE_MS 7000
#define LIFE_MS 60000
#define TOLD_AT_ONCE 200
#define CALLS_AT_ONCE 16

/* No channel has this name: '#' is not of their alphabet. */
#define TAG SLICE("#")

struct registry {
    struct redis_bus *rb; /* borrowed */
    char id[17];
    char base[REDIS_PREFIX_MAX + 8];
    struct list untold; /* struct rchannel */
    uint64_t beaten_ms;
    uint32_t telling; /* calls on their way */
    bool beating, forget;
    bool known;   /* to the server, by an earlier sign of life */
    bool refused; /* the last sign of life was answered by an error */
};

/* --- telling --- */

void registry_subscribers(struct rchannel *c, uint32_t n)
{
    c->subscribers = n;
    if (c->subscribers != c->told && !list_is_linked(&c->untold))
        list_push_back(&c->rb->registry->untold, &c->untold);
}

void registry_forget(struct rchannel *c)
{
    list_remove(&c->untold);
}

struct told {
    uint32_t n;
    struct rchannel *channel[TOLD_AT_ONCE]; /* borrowed; `telling` keeps them */
};

static void retell(struct rchannel *c, uint32_t before)
{
    c->told = before;
    registry_subscribers(c, c->subscribers);
}

static void on_told(struct script_call *call, enum err e, const struct reply *r)
{
    struct registry *g = call->rb->registry;
    struct told *t = call->ctx;
    (void)r;
    g->telling--;
    for (uint32_t i = 0; i < t->n; i++) {
        struct rchannel *c = t->channel[i];
        c->telling = false;
        if (e) /* not known whether it was told: told again, whatever it is by then */
            retell(c, UINT32_MAX);
        else
            registry_subscribers(c, c->subscribers);
        rchannel_drop_if_unused(c);
    }
    if (e)
        g->forget = true; /* the count of told channels is not known either */
    free(t);
}

static void tell_some(struct registry *g)
{
    struct told *t = bus_alloc(sizeof *t);
    struct script_call *call = script_call_new(
        g->rb, &script_tell, 3 + 2 * TOLD_AT_ONCE,
        2 * REDIS_KEY_MAX + TOLD_AT_ONCE * (CHANNEL_MAX_BYTES + 24) + 128, on_told, t);
    script_call_key(call, TAG, ":names:", slice_str(g->id));
    script_call_key(call, TAG, ":counts:", slice_str(g->id));
    script_call_u64(call, LIFE_MS);
    struct list *it = g->untold.next;
    while (it != &g->untold && t->n < TOLD_AT_ONCE) {
        struct rchannel *c = container_of(it, struct rchannel, untold);
        it = it->next;
        if (c->telling)
            continue; /* in order: when the last word about it has arrived */
        list_remove(&c->untold);
        script_call_text(call, rchannel_name(c));
        script_call_u64(call, c->subscribers);
        c->told = c->subscribers;
        c->telling = true;
        t->channel[t->n++] = c;
    }
    if (t->n == 0) {
        free(call);
        free(t);
        return;
    }
    g->telling++;
    script_call_submit(call);
}

/* --- signs of life --- */

static uint32_t occupied(const struct redis_bus *rb)
{
    uint32_t n = 0;
    for (struct map_node *it = NULL; (it = map_next(&rb->channels, it));)
        n += container_of(it, struct rchannel, node)->subscribers > 0;
    return n;
}

static void tell_everything(struct registry *g)
{
    for (struct map_node *it = NULL; (it = map_next(&g->rb->channels, it));) {
        struct rchannel *c = container_of(it, struct rchannel, node);
        if (!c->telling)
            retell(c, 0);
    }
}

/* A server that is away has refused nothing: then it is not known. */
static void take_verdict(struct registry *g, enum err e, const struct reply *r)
{
    const bool refused = e != ERR_OK;
    if (refused && !g->refused)
        log_warn("redis_scripts_refused", "reply=%s", log_quote(reply_text(r)));
    else if (!refused && g->refused)
        log_info("redis_scripts_work", "instance=%s", g->id);
    g->refused = refused;
}

/* What forgot us may have forgotten everything (a flush): who listens is told now, and not with the
 * next message. */
static void look_everywhere(struct redis_bus *rb)
{
    for (struct map_node *it = NULL; (it = map_next(&rb->channels, it));)
        rchannel_look_again(container_of(it, struct rchannel, node));
}

static void on_beat(struct script_call *call, enum err e, const struct reply *r)
{
    struct registry *g = call->rb->registry;
    const bool asked_to_forget = g->forget;
    g->beating = false;
    if (r)
        take_verdict(g, e, r);
    if (e)
        return;
    const int64_t n = reply_integer(r), told = n < 0 ? -1 - n : n;
    const bool has_forgotten = n < 0 && g->known;
    const bool quiet = !g->telling && list_is_empty(&g->untold);
    g->known = true;
    g->forget = false;
    if (has_forgotten)
        look_everywhere(g->rb);
    if (asked_to_forget) {
        tell_everything(g);
    } else if (has_forgotten || (quiet && told != (int64_t)occupied(g->rb))) {
        log_info("redis_registry_told_again", "channels=%u", occupied(g->rb));
        g->forget = true; /* with the next sign of life */
        g->beaten_ms = 0;
    }
}

static void beat(struct registry *g, uint64_t now_ms)
{
    if (g->beating || (g->beaten_ms && now_ms - g->beaten_ms < BEAT_MS) ||
        (g->forget && g->telling))
        return;
    g->beaten_ms = now_ms;
    g->beating = true;
    struct script_call *call =
        script_call_new(g->rb, &script_beat, 6, 3 * REDIS_KEY_MAX + 128, on_beat, NULL);
    script_call_key(call, TAG, ":instances", SLICE_NONE);
    script_call_key(call, TAG, ":names:", slice_str(g->id));
    script_call_key(call, TAG, ":counts:", slice_str(g->id));
    script_call_text(call, slice_str(g->id));
    script_call_u64(call, LIFE_MS);
    script_call_u64(call, g->forget);
    script_call_submit(call);
}

bool registry_is_refused(const struct registry *g)
{
    return g->refused;
}

void registry_tick(struct registry *g, uint64_t now_ms)
{
    beat(g, now_ms);
    if (g->forget)
        return;
    while (!list_is_empty(&g->untold) && g->telling < CALLS_AT_ONCE) {
        uint32_t before = g->telling;
        tell_some(g);
        if (g->telling == before)
            break; /* answered at once (away), or all are being told */
    }
}

/* --- asking --- */

static void say_others(struct script_call *call, const struct registry *g)
{
    script_call_text(call, slice_str(g->base));
    script_call_text(call, slice_str(g->id));
    script_call_u64(call, ALIVE_MS);
}

static void on_counted(struct script_call *call, enum err e, const struct reply *r)
{
    struct bus_channel_get *op = call->ctx;
    if (e) {
        op->op.err = ERR_UNAVAILABLE;
        bus_answer(call->rb->be.bus, &op->op);
        return;
    }
    op->info.subscribers += (uint32_t)reply_integer(reply_at(r, 0));
    redis_bus_describe(call->rb, &op->op, &op->info, 1);
}

void registry_channel(struct registry *g, struct bus_channel_get *op)
{
    struct script_call *call =
        script_call_new(g->rb, &script_count, 5, 2 * REDIS_KEY_MAX + 128, on_counted, op);
    script_call_key(call, TAG, ":instances", SLICE_NONE);
    say_others(call, g);
    script_call_text(call, slice_str(op->channel));
    script_call_submit(call);
}

static int compare_names(const void *a, const void *b)
{
    const struct bus_channel_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* One entry per name; what is said of a name twice is added up. */
static uint32_t merge(struct bus_channel_info *info, uint32_t n)
{
    uint32_t kept = 0;
    qsort(info, n, sizeof *info, compare_names);
    for (uint32_t i = 0; i < n; i++) {
        if (kept && strcmp(info[kept - 1].name, info[i].name) == 0) {
            info[kept - 1].subscribers += info[i].subscribers;
            free(info[i].name);
        } else {
            info[kept++] = info[i];
        }
    }
    return kept;
}

/* Others than crier can write there too. */
static bool is_channel(struct slice name)
{
    const char *why;
    if (channel_check(name, &why) == ERR_OK)
        return true;
    metrics_inc(M_REDIS_BAD_RECORDS);
    log_warn("redis_bad_name", "name=%s why=\"%s\"", log_quote(name), why);
    return false;
}

/* Who asked relies on it, and an answer may not be one to this question. */
static bool is_asked_for(const struct bus_channels *op, struct slice name)
{
    const struct slice after = slice_str(op->after);
    const size_t common = name.len < after.len ? name.len : after.len;
    const int order = common ? memcmp(name.ptr, after.ptr, common) : 0;
    return slice_starts_with(name, slice_str(op->prefix)) &&
           (order > 0 || (order == 0 && name.len > after.len));
}

static void on_listed(struct script_call *call, enum err e, const struct reply *r)
{
    struct bus_channels *op = call->ctx;
    if (e) {
        op->op.err = ERR_UNAVAILABLE;
        bus_answer(call->rb->be.bus, &op->op);
        return;
    }
    const uint32_t theirs = (uint32_t)reply_count(r) / 2;
    struct bus_channel_info *info = bus_alloc((op->count + theirs + 1) * sizeof *info);
    uint32_t n = op->count;
    memcpy(info, op->info, op->count * sizeof *info);
    for (uint32_t i = 0; i < theirs; i++) {
        const struct slice name = reply_text(reply_at(r, 2 * i));
        if (is_channel(name) && is_asked_for(op, name))
            info[n++] = (struct bus_channel_info){
                .name = slice_dup(name),
                .subscribers = (uint32_t)reply_integer(reply_at(r, 2 * i + 1))};
    }
    n = merge(info, n);
    op->more = op->more || n > op->limit;
    for (uint32_t i = op->limit; i < n; i++)
        free(info[i].name);
    free(op->info);
    op->info = info;
    op->count = n < op->limit ? n : op->limit;
    redis_bus_describe(call->rb, &op->op, op->info, op->count);
}

/* Bounds as ZRANGEBYLEX wants them: "[from", "(from", "(to", "+". */
static void say_bounds(struct script_call *call, const struct bus_channels *op)
{
    const struct slice prefix = slice_str(op->prefix), after = slice_str(op->after);
    char text[CHANNEL_MAX_BYTES + 2];
    bool exclusive = after.len && (!prefix.len || strcmp(op->after, op->prefix) >= 0);
    const struct slice from = exclusive ? after : prefix;
    text[0] = exclusive ? '(' : '[';
    memcpy(text + 1, from.ptr ? from.ptr : "", from.len);
    script_call_text(call, from.len ? slice_of(text, from.len + 1) : SLICE("-"));
    text[0] = '(';
    memcpy(text + 1, prefix.ptr ? prefix.ptr : "", prefix.len);
    text[prefix.len + 1] = '\x7f'; /* after every byte of a channel name */
    script_call_text(call, prefix.len ? slice_of(text, prefix.len + 2) : SLICE("+"));
}

void registry_channels(struct registry *g, struct bus_channels *op)
{
    if (slice_str(op->prefix).len > CHANNEL_MAX_BYTES - 1 ||
        slice_str(op->after).len > CHANNEL_MAX_BYTES) {
        redis_bus_describe(g->rb, &op->op, op->info, op->count); /* no name is that long */
        return;
    }
    struct script_call *call = script_call_new(
        g->rb, &script_list, 7, 2 * REDIS_KEY_MAX + 2 * CHANNEL_MAX_BYTES + 128, on_listed, op);
    script_call_key(call, TAG, ":instances", SLICE_NONE);
    say_others(call, g);
    say_bounds(call, op);
    script_call_u64(call, op->limit + 1);
    script_call_submit(call);
}

/* --- life --- */

enum err registry_new(struct redis_bus *rb, struct registry **out)
{
    struct registry *g = calloc(1, sizeof *g);
    if (!g)
        return ERR_NOMEM;
    g->rb = rb;
    list_init(&g->untold);
    snprintf(g->id, sizeof g->id, "%016" PRIx64, rnd_u64());
    snprintf(g->base, sizeof g->base, "%s{#}", rb->opt.prefix);
    *out = g;
    return ERR_OK;
}

void registry_free(struct registry *g)
{
    free(g);
}
