/* worker.c - one thread with its loop, hub, front door and transports.
 *
 * Draining: listeners close, then sessions are told to leave a slice at a time, so that they do not
 * all come back to the next server in the same second; what is left at the deadline is cut. The
 * loop ends when nobody is left.
 */
#include "worker.h"

#include "crier/log.h"

#include <stdlib.h>

#define BUS_LETTERS_PER_TURN 1024
#define DRAIN_TICK_MS 20
#define DRAIN_CLIENTS_PER_MS 2  /* no slower than needed: 2,000 clients a second */
#define DRAIN_SPREAD_PERCENT 70 /* of the drain time; the rest is for flushing */

struct worker {
    struct worker_options opt;
    struct loop *loop;
    struct bus *bus; /* borrowed */
    bool hosts_bus;
    struct hub *hub;
    struct http_server server;
    struct stream_set *streams;
    struct relay_set *relays;
    struct h1 *h1;
    struct h2 *h2;
    struct front *front;
    struct loop_hook flush;
    struct mailbox control;
    struct mail drain_letter;
    struct timer drain_tick;
    uint64_t drain_until_ms;
    size_t drain_slice; /* sessions to send away per tick */
    size_t slice_left;
    pthread_t thread;
    bool started;
};

static bool on_turn_end(struct loop_hook *h)
{
    return hub_turn(container_of(h, struct worker, flush)->hub);
}

/* --- drain --- */

static void send_away(struct session *s, void *ctx)
{
    struct worker *w = ctx;
    if (s->state != SESSION_OPEN || !w->slice_left)
        return;
    w->slice_left--;
    session_close(s, 1001, "shutting down");
}

static void cut_off(struct session *s, void *ctx)
{
    (void)ctx;
    session_gone(s);
}

static void on_drain_tick(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, drain_tick);
    bool late = loop_now_ms(w->loop) >= w->drain_until_ms;
    w->slice_left = w->drain_slice;
    hub_each_session(w->hub, late ? cut_off : send_away, w);
    if (late || (hub_session_count(w->hub) == 0 && h1_pending(w->h1) == 0 &&
                 h2_pending(w->h2) == 0 && relay_pending(w->relays) == 0))
        loop_stop(w->loop);
    else
        timer_set(loop_timers(w->loop), t, DRAIN_TICK_MS);
}

static void drain(struct worker *w)
{
    size_t n = hub_session_count(w->hub);
    uint64_t spread_ms = w->opt.drain_ms * DRAIN_SPREAD_PERCENT / 100;
    if (spread_ms > n / DRAIN_CLIENTS_PER_MS)
        spread_ms = n / DRAIN_CLIENTS_PER_MS;
    w->drain_slice = n * DRAIN_TICK_MS / (spread_ms + 1) + 1;
    w->drain_until_ms = loop_now_ms(w->loop) + w->opt.drain_ms;
    front_close_listeners(w->front);
    h2_drain(w->h2);
    log_info("draining", "clients=%zu spread_ms=%llu", n, (unsigned long long)spread_ms);
    timer_set(loop_timers(w->loop), &w->drain_tick, 0);
}

/* --- letters --- */

/* New certificates, for one worker. */
struct tls_letter {
    struct mail mail;
    struct tls_ctx *ctx; /* counted */
};

static void on_letter(struct mailbox *mb, struct mail *m)
{
    struct worker *w = mb->owner;
    if (m == &w->drain_letter) {
        drain(w);
        return;
    }
    struct tls_letter *l = container_of(m, struct tls_letter, mail);
    front_set_tls(w->front, l->ctx);
    tls_ctx_free(l->ctx);
    free(l);
}

void worker_drain(struct worker *w)
{
    mailbox_post(&w->control, &w->drain_letter);
}

void worker_set_tls(struct worker *w, struct tls_ctx *c)
{
    struct tls_letter *l = calloc(1, sizeof(*l));
    BUG_ON(!l);
    l->ctx = tls_ctx_ref(c);
    mailbox_post(&w->control, &l->mail);
}

/* --- life --- */

/* Letters keep their order: they are only delivered earlier than at the end of the turn. */
static void settle(struct http_server *server)
{
    struct worker *w = container_of(server, struct worker, server);
    (void)mailbox_drain(bus_inbox(w->bus), BUS_LETTERS_PER_TURN);
    (void)mailbox_drain(bus_port_mailbox(hub_port(w->hub)), BUS_LETTERS_PER_TURN);
}

static enum err assemble(struct worker *w, struct bus *bus)
{
    const struct worker_options *o = &w->opt;
    enum err e = loop_new(&w->loop);
    if (!e && w->hosts_bus)
        e = bus_attach(bus, w->loop);
    if (!e)
        e = hub_new(o->hub, bus, loop_timers(w->loop), &w->hub);
    if (!e)
        e = loop_attach(w->loop, bus_port_mailbox(hub_port(w->hub)), BUS_LETTERS_PER_TURN);
    if (!e)
        e = loop_attach(w->loop, &w->control, 8);
    if (!e)
        e = stream_set_new(w->loop, w->hub, &o->shared->connections, &w->streams);
    if (e)
        return e;
    /* Before the transports' hooks: what is flushed here may answer requests there. */
    w->flush.run = on_turn_end;
    loop_add_hook(w->loop, &w->flush);
    w->server = (struct http_server){
        .hub = w->hub, .shared = o->shared, .settle = w->hosts_bus ? settle : NULL};
    e = relay_set_new(w->loop, &o->shared->connections, o->request_timeout_ms, &w->relays);
    if (!e)
        e = h1_new(w->loop, &w->server, w->streams, w->relays, o->request_timeout_ms, &w->h1);
    if (!e)
        e = h2_new(w->loop, &w->server, w->streams, o->h2, &w->h2);
    if (!e)
        e = front_new(w->loop, w->h1, w->h2, w->relays, &o->shared->connections,
                      o->request_timeout_ms, &w->front);
    if (!e && o->tls)
        front_set_tls(w->front, o->tls);
    return e;
}

enum err worker_new(const struct worker_options *opt, struct bus *bus, bool host_bus,
                    struct worker **out)
{
    struct worker *w = calloc(1, sizeof(*w));
    if (!w)
        return ERR_NOMEM;
    w->opt = *opt;
    w->bus = bus;
    w->hosts_bus = host_bus;
    mailbox_init(&w->control, on_letter, w);
    timer_init(&w->drain_tick, on_drain_tick);
    enum err e = assemble(w, bus);
    if (e) {
        free(w);
        return e;
    }
    *out = w;
    return ERR_OK;
}

enum err worker_listen(struct worker *w, int fd, bool tls)
{
    return front_listen(w->front, fd, tls);
}

/* On the worker's own thread, because everything it ends belongs to it. */
static void end_everything(struct worker *w)
{
    hub_each_session(w->hub, cut_off, w);
    front_end(w->front);
    h1_free(w->h1);
    h2_end(w->h2);
    relay_set_end(w->relays);
    /* Streams are freed, and answers to what was asked of the bus are taken home. */
    loop_turn(w->loop, 0);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    loop_run(w->loop);
    end_everything(w);
    return NULL;
}

enum err worker_start(struct worker *w)
{
    if (pthread_create(&w->thread, NULL, run, w))
        return ERR_NOMEM;
    w->started = true;
    return ERR_OK;
}

void worker_join(struct worker *w)
{
    if (w->started)
        pthread_join(w->thread, NULL);
    w->started = false;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    timer_cancel(loop_timers(w->loop), &w->drain_tick);
    loop_remove_hook(w->loop, &w->flush);
    loop_detach(w->loop, &w->control);
    loop_detach(w->loop, bus_port_mailbox(hub_port(w->hub)));
    mailbox_release(&w->control);
    /* First: what Redis has not answered comes home with an error only then. */
    if (w->hosts_bus)
        bus_detach(w->bus);
    hub_free(w->hub);
    front_free(w->front);
    h2_free(w->h2);
    relay_set_free(w->relays);
    stream_set_free(w->streams);
    loop_free(w->loop);
    free(w);
}
