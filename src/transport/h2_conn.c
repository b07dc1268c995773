/* h2_conn.c - one connection of HTTP/2: its bytes, its timers and its end.
 *
 * Everything that happens in a turn is written at its end, in one call. What the kernel does not
 * take is kept (less than one gathering) and nothing more is gathered until it has gone, so a slow
 * peer's bytes stay in the outboxes, where they are judged.
 *
 * One timer per connection serves all its deadlines: it is set to the nearest whenever something
 * has happened, and looks at what is due when it fires.
 */
#include "h2_internal.h"

#include "crier/log.h"
#include "crier/metrics.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define WRITES_PER_TURN 4
#define FLOOD_SAY_MS 1000

static uint64_t now_ms(const struct h2_conn *c)
{
    return loop_now_ms(c->h->loop);
}

void h2_conn_touch(struct h2_conn *c)
{
    if (c->state != H2_CLOSED && !list_is_linked(&c->dirty))
        list_push_back(&c->h->dirty, &c->dirty);
}

static void watch_again(struct h2_conn *c)
{
    loop_rewatch(c->h->loop, &c->w, conduit_events(&c->io, true, c->blocked));
}

/* --- the end --- */

static void set_state(struct h2_conn *c, enum h2_state to)
{
    BUG_ON(to <= (enum h2_state)c->state);
    c->state = (uint8_t)to;
}

static void close_streams(struct h2_conn *c)
{
    struct list *n;
    while ((n = c->streams.next) != &c->streams)
        h2_stream_closed(container_of(n, struct h2_stream, node));
}

static void free_conn(struct loop_corpse *corpse)
{
    free(container_of(corpse, struct h2_conn, corpse));
}

void h2_conn_close(struct h2_conn *c)
{
    struct h2 *h = c->h;
    if (c->state == H2_CLOSED)
        return;
    set_state(c, H2_CLOSED);
    close_streams(c);
    h2_wire_close(c);
    loop_unwatch(h->loop, &c->w);
    timer_cancel(loop_timers(h->loop), &c->timer);
    list_remove(&c->node);
    list_remove(&c->dirty);
    conduit_close(&c->io);
    buf_release(&c->out);
    h->n_conns--;
    metrics_dec(M_H2_CONNECTIONS);
    metrics_dec(M_CONNECTIONS);
    h->server->shared->connections--;
    trimmer_note(&h->streams->trimmer);
    c->corpse.free = free_conn;
    loop_free_later(h->loop, &c->corpse);
}

/* All is said: FIN, and the peer's is awaited for a moment, because closing with unread input would
 * reset the connection and destroy our last bytes. */
static void finish(struct h2_conn *c)
{
    set_state(c, H2_ENDING);
    close_streams(c);
    conduit_finish(&c->io);
    watch_again(c);
    timer_set(loop_timers(c->h->loop), &c->timer, H2_LINGER_MS);
}

/* All are counted, few are named: who floods may come again at once. */
static void say_flood(struct h2_conn *c, const char *flood)
{
    char peer[SOCK_ADDR_TEXT_BYTES];
    uint64_t now = now_ms(c);
    metrics_inc(M_BAD_FLOOD);
    if (c->h->flood_said_ms && now < c->h->flood_said_ms + FLOOD_SAY_MS)
        return;
    c->h->flood_said_ms = now;
    sock_addr_text(&c->peer, peer);
    log_warn("http2_flood", "peer=%s frames=\"%s\"", peer, flood);
}

void h2_conn_fault(struct h2_conn *c, enum h2_code code, const char *flood)
{
    if (c->faulty)
        return;
    c->faulty = true;
    c->fault = (uint8_t)code;
    h2_conn_touch(c);
    if (flood)
        say_flood(c, flood);
}

/* --- deadlines --- */

static uint64_t due_ms(const struct h2_conn *c)
{
    const struct h2_options *o = &c->h->opt;
    uint64_t due = c->pinged_ms ? c->pinged_ms + H2_PONG_MS : c->heard_ms + o->ping_ms;
    uint64_t waiting = h2_exchange_waiting_since(c);
    if (waiting != UINT64_MAX && waiting + o->request_timeout_ms < due)
        due = waiting + o->request_timeout_ms;
    if (!c->n_streams && c->idle_since_ms + o->request_timeout_ms < due)
        due = c->idle_since_ms + o->request_timeout_ms;
    if (c->drain == H2_NOTICE_SENT && c->noticed_ms + H2_DRAIN_MS < due)
        due = c->noticed_ms + H2_DRAIN_MS;
    return due;
}

static void arm(struct h2_conn *c)
{
    uint64_t now = now_ms(c), due = due_ms(c);
    if (c->state == H2_OPEN)
        timer_set(loop_timers(c->h->loop), &c->timer, due > now ? due - now : 0);
}

static void last_goaway(struct h2_conn *c)
{
    if (c->drain != H2_NOTICE_SENT)
        return;
    c->drain = H2_LAST_GOAWAY;
    h2_wire_last_goaway(c);
}

static void on_timer(struct timer *t)
{
    struct h2_conn *c = container_of(t, struct h2_conn, timer);
    const struct h2_options *o = &c->h->opt;
    uint64_t now = now_ms(c);
    if (c->state != H2_OPEN || (c->pinged_ms && now >= c->pinged_ms + H2_PONG_MS)) {
        if (c->state == H2_OPEN)
            metrics_inc(M_DEAD_CLOSED);
        h2_conn_close(c);
        return;
    }
    if (now >= o->request_timeout_ms)
        h2_exchange_reset_late(c, now - o->request_timeout_ms);
    if (!c->n_streams && now >= c->idle_since_ms + o->request_timeout_ms)
        h2_wire_goaway(c, H2_NO_ERROR);
    if (!c->pinged_ms && now >= c->heard_ms + o->ping_ms) {
        c->pinged_ms = now;
        h2_wire_ping(c);
    }
    if (now >= c->noticed_ms + H2_DRAIN_MS)
        last_goaway(c);
    h2_conn_touch(c); /* writes, and sets the timer again */
}

/* --- writing --- */

/* True when the kernel took all of it; the rest is kept. */
static bool write_bytes(struct h2_conn *c, struct slice bytes)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes.ptr, .iov_len = bytes.len};
    size_t n = 0;
    enum err e = conduit_write(&c->io, &iov, 1, &n);
    if (e && e != ERR_AGAIN) {
        h2_conn_close(c);
        return false;
    }
    if (!e && n == bytes.len) {
        buf_release(&c->out);
        return true;
    }
    if (c->out.len)
        buf_consume(&c->out, n);
    else
        buf_append(&c->out, slice_of(bytes.ptr + n, bytes.len - n));
    if (c->out.failed) {
        h2_conn_close(c);
        return false;
    }
    c->blocked = true;
    watch_again(c);
    return false;
}

static bool write_round(struct h2_conn *c)
{
    struct h2_gather *out = &c->h->out;
    if (c->out.len && !write_bytes(c, buf_slice(&c->out)))
        return false;
    out->len = 0;
    if (h2_wire_gather(c)) {
        h2_conn_close(c);
        return false;
    }
    if (out->len && !write_bytes(c, slice_of(out->bytes, out->len)))
        return false;
    return out->len > 0;
}

void h2_conn_write(struct h2_conn *c)
{
    int rounds = 0;
    if (c->state != H2_OPEN || c->blocked)
        return;
    if (c->fault) {
        h2_wire_goaway(c, (enum h2_code)c->fault);
        c->fault = H2_NO_ERROR; /* said */
    }
    while (write_round(c))
        if (++rounds == WRITES_PER_TURN) { /* others wait too */
            h2_conn_touch(c);
            return;
        }
    if (c->state != H2_OPEN || c->blocked)
        return;
    if (h2_wire_is_over(c))
        finish(c);
}

/* --- reading --- */

/* Bytes go in piece by piece: what belongs to a WebSocket is read between two of them. */
static void feed(struct h2_conn *c, struct slice bytes)
{
    while (bytes.len && c->state == H2_OPEN && !c->faulty) {
        size_t n = 0;
        c->input_stream = NULL;
        if (h2_wire_input(c, bytes, &n)) {
            h2_conn_fault(c, H2_PROTOCOL_ERROR, NULL);
            return;
        }
        bytes = slice_of(bytes.ptr + n, bytes.len - n);
        if (c->input_stream && c->input_stream->hs)
            h2_stream_input(c->input_stream, c->input);
    }
}

static void take_input(struct h2_conn *c, struct slice bytes)
{
    enum h2_code code;
    enum h2_charge what = H2_CHARGES;
    size_t fine = h2_guard_input(&c->guard, bytes, now_ms(c), &code, &what);
    feed(c, slice_of(bytes.ptr, fine));
    if (code)
        h2_conn_fault(c, code, code == H2_ENHANCE_YOUR_CALM ? h2_guard_name(what) : NULL);
}

static void drop_input(struct h2_conn *c, size_t n)
{
    c->dropped += n;
    if (c->dropped > H2_DROP_MAX_BYTES)
        h2_conn_close(c);
}

static void on_readable(struct h2_conn *c)
{
    size_t n = 0;
    enum err e = conduit_read(&c->io, c->h->in, H2_READ_BYTES, &n);
    if (e == ERR_AGAIN) {
        watch_again(c);
        return;
    }
    if (e) {
        h2_conn_close(c);
        return;
    }
    c->heard_ms = now_ms(c);
    c->pinged_ms = 0;
    if (c->state == H2_ENDING || c->faulty)
        drop_input(c, n);
    else
        take_input(c, slice_of(c->h->in, n));
    h2_conn_touch(c);
}

static void on_ready(struct io_watch *w, uint32_t events)
{
    struct h2_conn *c = container_of(w, struct h2_conn, w);
    uint32_t ready = conduit_ready(&c->io, events);
    if (ready & EPOLLOUT) {
        c->blocked = false;
        watch_again(c);
        h2_conn_touch(c);
    }
    if ((ready & EPOLLIN) || (events & (EPOLLHUP | EPOLLERR)))
        on_readable(c);
}

/* --- the end of a turn --- */

static void look_after(struct h2_conn *c)
{
    if (conduit_has_more(&c->io))
        on_readable(c);
    h2_exchange_handle_ready(c);
    h2_conn_write(c);
    if (c->state == H2_OPEN)
        arm(c);
    if (c->state != H2_CLOSED && conduit_has_more(&c->io))
        h2_conn_touch(c);
}

bool h2_conn_run_dirty(struct loop_hook *hook)
{
    struct h2 *h = container_of(hook, struct h2, hook);
    struct list now, *n;
    list_init(&now);
    list_splice_back(&now, &h->dirty);
    while ((n = list_pop_front(&now)))
        look_after(container_of(n, struct h2_conn, dirty));
    bool more = h->left || !list_is_empty(&h->dirty);
    h->left = false;
    return more;
}

/* --- drain --- */

/* A PING's answer shows that the first GOAWAY has arrived: what was sent before it is here. */
void h2_conn_pong(struct h2_conn *c)
{
    last_goaway(c);
}

void h2_conn_drain(struct h2_conn *c)
{
    if (c->state != H2_OPEN || c->drain != H2_NOT_DRAINING)
        return;
    c->drain = H2_NOTICE_SENT;
    c->noticed_ms = now_ms(c);
    h2_wire_shutdown_notice(c);
    h2_wire_ping(c);
}

/* --- life --- */

static void set_options(int fd)
{
    unsigned timeout_ms = STREAM_USER_TIMEOUT_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

static struct h2_conn *conn_new(struct h2 *h, struct conduit io, const struct sock_addr *peer)
{
    struct h2_conn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->h = h;
    c->io = io;
    c->w = (struct io_watch){.fd = io.fd, .ready = on_ready};
    c->peer = *peer;
    timer_init(&c->timer, on_timer);
    list_init(&c->node);
    list_init(&c->dirty);
    list_init(&c->streams);
    list_init(&c->waiting);
    list_init(&c->ready);
    h2_guard_init(&c->guard, now_ms(c));
    buf_init(&c->out, sizeof(h->out.bytes));
    c->heard_ms = c->idle_since_ms = now_ms(c);
    if (!h2_wire_open(c) && !loop_watch(h->loop, &c->w, conduit_events(&c->io, true, false)))
        return c;
    if (c->ng)
        h2_wire_close(c);
    list_remove(&c->dirty);
    free(c);
    return NULL;
}

void h2_add_connection(struct h2 *h, struct conduit io, const struct sock_addr *peer)
{
    struct h2_conn *c = conn_new(h, io, peer);
    if (!c) {
        metrics_inc(M_ACCEPT_FAILED);
        metrics_dec(M_CONNECTIONS);
        h->server->shared->connections--;
        conduit_close(&io);
        return;
    }
    set_options(io.fd);
    list_push_back(&h->conns, &c->node);
    h->n_conns++;
    metrics_inc(M_H2_CONNECTIONS);
    if (h->draining)
        h2_conn_drain(c);
    h2_conn_touch(c);
}
