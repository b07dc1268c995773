/* probe.c - does a node deliver? What is published on its command link must come back.
 *
 * Proof is kept by the time of sending: a probe that was stuck for two seconds proves nothing about
 * now. Probes of before a link was lost are not counted (probe_valid). The channel may change, with
 * the slots of the node; what has been proven stays proven.
 *
 * A server that takes probes and does not give them back is not to be trusted with subscriptions:
 * the subscribe link is broken, and whoever listened is told that something was lost.
 */
#include "probe.h"

#include "crier/clock.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/rnd.h"
#include "error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 512

static uint64_t now_ms(const struct redis_node *n)
{
    return client_now_ms(n->r);
}

bool probe_is_heard(const struct redis_node *n)
{
    return n->needed && n->state == NODE_SERVING && !n->deaf_why && !n->cluster_down &&
           link_is_up(n->pushes) && n->proven_ms && now_ms(n) - n->proven_ms < REDIS_PROOF_MS;
}

const char *probe_why_not(const struct redis_node *n)
{
    if (n->state == NODE_UNFIT && n->unfit_why)
        return n->unfit_why;
    if (n->state != NODE_SERVING)
        return "a Redis server is not connected";
    if (n->deaf_why || !link_is_up(n->pushes))
        return "a Redis server is not connected for subscriptions";
    if (n->cluster_down)
        return "the Redis Cluster says that it is down";
    if (n->subs_refused && n->probe.state != SUB_ON)
        return "a Redis server refuses subscriptions";
    return probe_is_heard(n) ? NULL : "what is published to a Redis server does not come back";
}

void probe_update(struct redis_node *n)
{
    bool proven = !n->closed && probe_is_heard(n);

    if (proven == n->proven)
        return;
    n->proven = proven;
    n->r->news = true;
    metrics_add(M_REDIS_UP, proven ? 1 : -1);
    if (!proven && !n->closed)
        n->r->topology->look(n->r, n);
    if (proven)
        log_info("redis_delivers", "server=%s rtt_ms=%" PRId64, n->name, n->rtt_ms);
    else if (!n->closed && n->needed && n->state == NODE_SERVING && link_is_up(n->pushes) &&
             !n->deaf_why && !n->cluster_down)
        log_warn("redis_silent", "server=%s why=\"probes do not come back\"", n->name);
}

void probe_forget(struct redis_node *n)
{
    n->proven_ms = n->unheard_ms = 0;
    n->probe_valid = n->probe_last + 1;
    probe_update(n);
}

/* The slowest node's is what somebody has to wait for. */
void probe_tell_rtt(struct redis *r)
{
    int64_t slowest = 0;

    list_for_each (it, &r->nodes) {
        const struct redis_node *n = container_of(it, const struct redis_node, in_client);
        if (n->needed && n->rtt_ms > slowest)
            slowest = n->rtt_ms;
    }
    metrics_add(M_REDIS_RTT, slowest - r->rtt_ms);
    r->rtt_ms = slowest;
}

static void probe_answered(struct flight *f, enum err e, const struct reply *reply)
{
    struct redis_node *n = f->node;
    uint64_t counter = f->probe;

    flight_free(f);
    if (e)
        return;
    if (reply_kind(reply) == REPLY_ERROR) {
        if (error_kind(reply_text(reply)) == ERROR_REDIRECT) {
            n->r->topology->look(n->r, n); /* its slot has moved */
            return;
        }
        metrics_inc(M_REDIS_ERRORS);
        log_warn("redis_probe_refused", "server=%s channel=%s error=%s", n->name,
                 log_quote(slice_str(n->probe_channel)), log_quote(reply_text(reply)));
        return;
    }
    if (counter > n->probe_heard && counter >= n->probe_valid && !n->unheard_ms)
        n->unheard_ms = now_ms(n);
}

void probe_send(struct redis_node *n)
{
    char text[24];

    if (n->probe.state != SUB_ON || n->state != NODE_SERVING)
        return;
    uint64_t counter = ++n->probe_last;
    n->probe_sent[counter % NODE_PROBES] =
        (struct probe_time){.turn_ms = now_ms(n), .clock_ms = clock_mono_ms()};
    snprintf(text, sizeof text, "%" PRIu64, counter);
    struct flight *f = flight_new(n, probe_answered);
    f->probe = counter;
    const struct slice arg[] = {n->sharded ? SLICE("SPUBLISH") : SLICE("PUBLISH"), n->probe.channel,
                                slice_str(text)};
    enum err e = node_send(n, f, arg, 3);
    if (e)
        log_debug("redis_probe_unsent", "server=%s error=%s", n->name, err_str(e));
}

void probe_heard_back(struct redis_node *n, struct slice payload)
{
    uint64_t counter = 0;

    if (slice_to_u64(payload, UINT64_MAX, &counter) != ERR_OK || counter > n->probe_last ||
        counter < n->probe_valid || counter <= n->probe_heard ||
        n->probe_last - counter >= NODE_PROBES)
        return;
    const struct probe_time *sent = &n->probe_sent[counter % NODE_PROBES];
    uint64_t age = now_ms(n) - sent->turn_ms;
    n->probe_heard = counter;
    n->unheard_ms = 0;
    n->proven_ms = sent->turn_ms;
    n->rtt_ms = (int64_t)(clock_mono_ms() - sent->clock_ms);
    probe_tell_rtt(n->r);
    if (age < REDIS_PROOF_MS)
        timer_set(loop_timers(n->r->loop), &n->proof_ends, REDIS_PROOF_MS - age);
    probe_update(n);
}

void probe_is_on(struct redis_node *n)
{
    n->unheard_ms = 0;
    probe_send(n);
}

void probe_proof_ends(struct timer *t)
{
    struct redis_node *n = container_of(t, struct redis_node, proof_ends);

    probe_update(n);
}

void probe_drop(struct redis_node *n)
{
    if (!n->probe_channel)
        return;
    redis_unsubscribe(n->r, &n->probe);
    free(n->probe_channel);
    n->probe_channel = NULL;
}

/* The name is nobody else's: what is heard there was published by this client. */
void probe_aim(struct redis_node *n, struct slice tag)
{
    struct buf b;

    probe_drop(n);
    buf_init(&b, NAME_MAX_BYTES);
    buf_printf(&b, "%sprobe:%016" PRIx64, n->r->o.prefix, rnd_u64());
    if (tag.len)
        buf_printf(&b, "{%.*s}", (int)tag.len, tag.ptr);
    BUG_ON(b.failed);
    n->probe_channel = slice_dup(buf_slice(&b));
    buf_release(&b);
    n->probe = (struct redis_sub){.channel = slice_str(n->probe_channel)};
    list_init(&n->probe.in_node);
    map_put(&n->r->subs, &n->probe.node);
    subs_place(n->r, &n->probe, n);
}

void probe_watch(struct redis_node *n)
{
    uint64_t now = now_ms(n);

    if (!link_is_up(n->pushes) || n->deaf_why)
        return;
    if (n->unheard_ms && now - n->unheard_ms > NODE_DEAF_MS)
        node_deafen(n, "what is published does not come back");
    else if (n->acks.count && now - n->ack_ms > n->r->o.command_timeout_ms)
        node_deafen(n, "subscriptions are not confirmed");
}
