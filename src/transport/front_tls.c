/* front_tls.c - newcomers of the TLS port (see front.h).
 *
 * One that has not sent a byte costs no session. Its first byte says whether it speaks TLS at all;
 * then it shakes hands, at most FRONT_HANDSHAKES_MAX at a time, because a handshake is what costs
 * memory and CPU and its other side is nobody we know. The others wait in the order they came,
 * unread, and each makes the oldest handshake hurry. Everyone's deadline counts from the beginning.
 *
 * The head of the first request is judged like in clear, before an HTTP library sees it; here it
 * has been read and not only peeked at, and goes along.
 */
#include "front_internal.h"

#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/relay.h"

#include <errno.h>
#include <sys/socket.h>

#define TLS_HANDSHAKE_RECORD 0x16

/* --- counting --- */

static void count_failure(enum tls_failure failure)
{
    static const enum metric counter[] = {
        [TLS_FAIL_CLOSED] = M_TLS_FAIL_CLOSED,
        [TLS_FAIL_NOT_TLS] = M_TLS_FAIL_NOT_TLS,
        [TLS_FAIL_VERSION] = M_TLS_FAIL_VERSION,
        [TLS_FAIL_NEGOTIATION] = M_TLS_FAIL_NEGOTIATION,
        [TLS_FAIL_CERTIFICATE] = M_TLS_FAIL_CERTIFICATE,
        [TLS_FAIL_REFUSED] = M_TLS_FAIL_REFUSED,
        [TLS_FAIL_OTHER] = M_TLS_FAIL_OTHER,
    };
    metrics_inc(counter[failure]);
}

static void count_greeted(const struct tls *t)
{
    static const struct {
        const char *cipher;
        enum metric counter;
    } known[] = {
        {"TLS_AES_256_GCM_SHA384", M_TLS13_AES256},
        {"TLS_AES_128_GCM_SHA256", M_TLS13_AES128},
        {"TLS_CHACHA20_POLY1305_SHA256", M_TLS13_CHACHA},
        {"ECDHE-ECDSA-AES256-GCM-SHA384", M_TLS12_ECDSA_AES256},
        {"ECDHE-ECDSA-AES128-GCM-SHA256", M_TLS12_ECDSA_AES128},
        {"ECDHE-ECDSA-CHACHA20-POLY1305", M_TLS12_ECDSA_CHACHA},
        {"ECDHE-RSA-AES256-GCM-SHA384", M_TLS12_RSA_AES256},
        {"ECDHE-RSA-AES128-GCM-SHA256", M_TLS12_RSA_AES128},
        {"ECDHE-RSA-CHACHA20-POLY1305", M_TLS12_RSA_CHACHA},
    };
    if (tls_has_client_certificate(t))
        metrics_inc(M_TLS_CLIENT_CERTIFICATES);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].cipher, tls_cipher(t)) != 0)
            continue;
        metrics_inc(known[i].counter);
        return;
    }
    metrics_inc(M_TLS_OTHER);
}

static void log_greeted(const struct newcomer *n)
{
    char peer[SOCK_ADDR_TEXT_BYTES], subject[TLS_SUBJECT_BYTES];
    if (log_get_level() < LOG_DEBUG)
        return;
    sock_addr_text(&n->peer, peer);
    tls_client_subject(n->tls, subject);
    log_debug("tls_connection",
              "peer=%s protocol=%s cipher=%s alpn=%s resumed=%s kernel=%s client=%s", peer,
              tls_version(n->tls), tls_cipher(n->tls), log_quote(tls_alpn(n->tls)),
              tls_is_resumed(n->tls) ? "yes" : "no", tls_is_in_kernel(n->tls) ? "yes" : "no",
              log_quote(slice_str(subject)));
}

static void log_failed(const struct newcomer *n, const char *why)
{
    char peer[SOCK_ADDR_TEXT_BYTES];
    if (log_get_level() < LOG_DEBUG)
        return;
    sock_addr_text(&n->peer, peer);
    log_debug("tls_handshake_failed", "peer=%s reason=%s", peer, log_quote(slice_str(why)));
}

/* --- the head --- */

static void hand_on(struct newcomer *n, struct slice bytes)
{
    struct front *f = n->front;
    struct sock_addr peer = n->peer;
    int fd;
    loop_unwatch(f->loop, &n->w); /* the relay watches the same descriptor */
    if (relay_open(f->relays, front_conduit(n), bytes, &fd)) {
        metrics_inc(M_ACCEPT_FAILED);
        front_turn_out(n);
        return;
    }
    front_let_go(n);
    h1_add_relayed(f->h1, fd, &peer);
}

static void judge(struct newcomer *n, struct slice bytes)
{
    const char *why;
    int status;
    enum head_verdict v = head_check(bytes, &status, &why);
    switch (v) {
    case HEAD_MORE:
        return;
    case HEAD_HTTP1:
        hand_on(n, bytes);
        return;
    case HEAD_HTTP2:
        front_refuse(n, 505, "HTTP/2 over TLS is agreed on by ALPN; this connection did not");
        return;
    default:
        front_refuse(n, v == HEAD_ALIEN ? 0 : status, why);
    }
}

/* A whole head usually comes with one read, and is then never copied. */
static bool read_head(struct newcomer *n)
{
    struct front *f = n->front;
    struct conduit c = front_conduit(n);
    size_t got;
    enum err e = conduit_read(&c, f->head, HEAD_MAX_BYTES - n->head.len, &got);
    if (e == ERR_AGAIN)
        return false;
    if (e) {
        front_turn_out(n);
        return false;
    }
    struct slice bytes = slice_of(f->head, got);
    bool first = n->head.len == 0;
    if (!first) {
        buf_append(&n->head, bytes);
        bytes = buf_slice(&n->head);
    }
    judge(n, bytes);
    if (first && !n->gone && n->phase == HEAD)
        buf_append(&n->head, bytes);
    if (!n->gone && n->head.failed)
        front_turn_out(n);
    return !n->gone && n->phase == HEAD && conduit_has_more(&c);
}

/* --- the handshake --- */

/* What is counted goes with the phase. */
static void set_phase(struct newcomer *n, enum newcomer_phase to)
{
    struct front *f = n->front;
    list_remove(&n->turn);
    if (n->phase == SHAKING) {
        f->shaking--;
        f->hurried -= n->hurried;
        metrics_dec(M_TLS_SHAKING);
    } else if (n->phase == WAITING) {
        f->n_waiting--;
        metrics_dec(M_TLS_WAITING);
    }
    n->phase = (uint8_t)to;
    if (to == SHAKING) {
        f->shaking++;
        n->shaking_since_ms = loop_now_ms(f->loop);
        list_push_back(&f->running, &n->turn);
        metrics_inc(M_TLS_SHAKING);
    } else if (to == WAITING) {
        f->n_waiting++;
        list_push_back(&f->waiting, &n->turn);
        metrics_inc(M_TLS_WAITING);
    }
}

static void watch_again(struct newcomer *n)
{
    struct conduit c = front_conduit(n);
    uint32_t events = conduit_events(&c, true, false);
    if (n->phase == SHAKING && tls_wants_write(n->tls))
        events = EPOLLOUT;
    loop_rewatch(n->front->loop, &n->w, events);
}

/* What ALPN has agreed on is taken at its word: a preface that is none is HTTP/2's to refuse. */
static void hand_on_http2(struct newcomer *n)
{
    struct front *f = n->front;
    struct conduit c = front_conduit(n);
    struct sock_addr peer = n->peer;
    loop_unwatch(f->loop, &n->w); /* it watches the same descriptor */
    front_let_go(n);
    h2_add_connection(f->h2, c, &peer);
}

static uint64_t ms_left(const struct front *f, uint64_t since_ms, uint64_t all_ms)
{
    uint64_t had_ms = loop_now_ms(f->loop) - since_ms;
    return had_ms < all_ms ? all_ms - had_ms : 0;
}

static void shake_hands(struct newcomer *n)
{
    struct front *f = n->front;
    enum err e = tls_handshake(n->tls);
    if (e == ERR_AGAIN)
        return;
    if (e) {
        count_failure(tls_failure(n->tls));
        log_failed(n, tls_why(n->tls));
        front_turn_out(n);
        return;
    }
    set_phase(n, HEAD);
    /* It may have been made to hurry. */
    timer_set(loop_timers(f->loop), &n->deadline, ms_left(f, n->accepted_ms, f->head_ms));
    count_greeted(n->tls);
    log_greeted(n);
    if (slice_eq(tls_alpn(n->tls), slice_str("h2")))
        hand_on_http2(n);
}

static void begin(struct newcomer *n)
{
    if (tls_accept(n->front->tls, n->w.fd, &n->tls)) {
        metrics_inc(M_ACCEPT_FAILED);
        front_turn_out(n);
        return;
    }
    set_phase(n, SHAKING);
}

static void hurry(struct newcomer *n)
{
    struct front *f = n->front;
    uint64_t left_ms = ms_left(f, n->shaking_since_ms, FRONT_HANDSHAKE_MS);
    uint64_t whole_ms = ms_left(f, n->accepted_ms, f->head_ms);
    list_remove(&n->turn);
    n->hurried = true;
    f->hurried++;
    timer_set(loop_timers(f->loop), &n->deadline, left_ms < whole_ms ? left_ms : whole_ms);
}

/* For each one that waits, the oldest handshake gets less time: else a few dozen connections per
 * second that say nothing more would keep everybody out. */
static void hurry_oldest(struct front *f)
{
    while (f->hurried < f->n_waiting && !list_is_empty(&f->running))
        hurry(container_of(f->running.next, struct newcomer, turn));
}

static void wait_for_turn(struct newcomer *n)
{
    set_phase(n, WAITING);
    loop_unwatch(n->front->loop, &n->w);
}

/* They are only watched: their bytes are read in turns of their own. */
void front_tls_next(struct front *f)
{
    while (f->shaking < FRONT_HANDSHAKES_MAX && !list_is_empty(&f->waiting)) {
        struct newcomer *n = container_of(f->waiting.next, struct newcomer, turn);
        begin(n);
        if (!n->gone && loop_watch(f->loop, &n->w, EPOLLIN)) {
            metrics_inc(M_ACCEPT_FAILED);
            front_turn_out(n);
        }
    }
    hurry_oldest(f);
}

static void look_at_first_byte(struct newcomer *n)
{
    unsigned char first;
    ssize_t r = recv(n->w.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (r <= 0) {
        front_turn_out(n); /* many look whether a port is open */
    } else if (first == TLS_HANDSHAKE_RECORD) {
        if (n->front->shaking < FRONT_HANDSHAKES_MAX)
            begin(n);
        else
            wait_for_turn(n);
    } else {
        count_failure(TLS_FAIL_NOT_TLS);
        log_failed(n, "does not speak TLS");
        if (first >= 'A' && first <= 'Z')
            front_refuse(n, 400, "this port speaks TLS; the address must begin with https or wss");
        else
            front_turn_out(n);
    }
}

void front_tls_ready(struct newcomer *n)
{
    struct front *f = n->front;
    if (n->phase == GREETING)
        look_at_first_byte(n);
    if (!n->gone && n->phase == SHAKING)
        shake_hands(n);
    if (!n->gone && n->phase == HEAD)
        while (read_head(n))
            ;
    if (!n->gone && (n->phase == SHAKING || n->phase == HEAD) && n->w.events)
        watch_again(n);
    front_tls_next(f);
}

void front_tls_left(struct newcomer *n)
{
    set_phase(n, GREETING);
    buf_release(&n->head);
}

void front_tls_late(const struct newcomer *n)
{
    if (n->phase == HEAD || n->phase == REFUSED)
        return;
    metrics_inc(M_TLS_FAIL_TIMEOUT);
    log_failed(n, "it took too long");
}
