/* hub.h - the audience: which sessions of this worker listen to which channel.
 *
 * One hub per worker, owned by the worker's thread, no locks. A session is one client on one
 * transport; a dialect is the syntax it is spoken to in (SSE events, WebSocket JSON, poll answer
 * ...). Live messages and answers come from the bus through one FIFO (bus.h), so a session that is
 * told "ok" gets exactly what follows.
 *
 * Life of a session: the transport allocates and inits it; session_open_* subscribes; then OPEN ->
 * CLOSING (a last notice is being flushed) -> CLOSED. A closed session is freed by its transport
 * (ops->free) at the end of the turn, never under a callback.
 */
#ifndef CRIER_HUB_H
#define CRIER_HUB_H

#include "crier/bus.h"
#include "crier/list.h"
#include "crier/map.h"
#include "crier/outbox.h"
#include "crier/pool.h"
#include "crier/timer.h"

struct hub;
struct session;
struct sub;

/* Limits and times; immutable after start. */
struct hub_options {
    uint64_t outbox_bytes;
    uint32_t outbox_messages;
    uint64_t message_bytes; /* of one published payload */
    uint64_t sse_keepalive_ms;
    uint64_t sse_retry_ms;
    uint64_t ws_ping_ms;
    uint64_t ws_pong_ms;
    uint32_t ws_fragments;    /* of one message; then 1008 */
    uint32_t ws_control_rate; /* pings and pongs of a client per second; then 1008 */
    uint64_t ws_message_ms;   /* from a message's first byte to its last; then 1008 */
};

#define HUB_COMMANDS_IN_FLIGHT 64 /* per session; reading pauses at it, goes on at half */
#define HUB_CLOSE_FLUSH_MS 10000  /* to write the last notice; then the client is cut */
#define HUB_FLUSH_BUDGET 512      /* sessions written per turn */
#define HUB_PAGE_MESSAGES 256
#define HUB_PAGE_BYTES (256 * 1024)

enum session_state { SESSION_OPEN, SESSION_CLOSING, SESSION_CLOSED };

/* The transport below a session. */
struct session_ops {
    /* Something is waiting (or the session is closing): write. At the end of a turn. */
    void (*flush)(struct session *s);
    /* The outbox is full: write now what the client takes, end nothing (session_cut at most).
     * NULL where that makes no sense. */
    void (*relieve)(struct session *s);
    /* Reading was paused by in_flight and may go on; may be NULL. */
    void (*resume_reading)(struct session *s);
    /* Both sides of a WebSocket have said Close and everything is written; carriers of WebSockets
     * only. */
    void (*peer_done)(struct session *s);
    /* The session is CLOSED and unlinked from everything: release descriptors and memory. */
    void (*free)(struct session *s);
};

/* The syntax above a session. Functions push to the session's outbox. */
struct dialect {
    const char *transport; /* "sse", "ws", "poll": for presence */
    uint8_t form;          /* enum msg_form of its messages */
    bool passing;          /* comes and goes with each request: that is told to nobody */
    /* The subscriptions of the request are all answered (session_opening has the gaps):
     * the text that opens the gate of the outbox. */
    void (*ready)(struct session *s);
    /* Answer to session_subscribe: pushed before the messages that follow. */
    void (*subscribed)(struct session *s, struct slice channel, const struct catch_up *cu,
                       struct slice ref);
    void (*unsubscribed)(struct session *s, struct slice channel, struct slice ref);
    /* The other answer to session_subscribe: the bus is away, there is no subscription; NULL where
     * nobody subscribes later. */
    void (*not_subscribed)(struct session *s, struct slice ref);
    void (*gap)(struct session *s, struct sub *sub, const struct catch_up *cu);
    /* The last notice: code and reason as WebSocket closes have them. */
    void (*closing)(struct session *s, uint16_t code, const char *reason);
    /* The session's timer fired. */
    void (*tick)(struct session *s);
    void (*presence)(struct session *s, const struct bus_event *ev); /* may be NULL */
    /* A whole message from the client; may be NULL. */
    void (*received)(struct session *s, bool binary, struct slice payload);
    /* The session is about to be CLOSED, its subscriptions still stand; may be NULL. */
    void (*gone)(struct session *s);
};

/* One subscription. */
struct sub {
    struct sub *next;          /* in the session, in the order of subscribing */
    struct session *session;   /* borrowed */
    struct audience *audience; /* borrowed; counted by it */
    struct position pos;       /* of the last message handed to the transport; epoch 0 = none yet */
    uint32_t place;            /* in the audience's array; SUB_NOT_LIVE while catching up */
    uint32_t serial;           /* tells answers for an earlier subscription apart */
    bool joined;               /* the bus has answered the join */
    bool opening;              /* of the request: `ready` waits for its answer */
    bool paging;               /* a page is on its way; the join brings the first */
};
#define SUB_NOT_LIVE UINT32_MAX

/* Gaps found while the subscriptions of a request are being answered. */
struct opening_gap {
    struct sub *sub;
    struct position since;
    struct position resumed;
    enum gap_reason reason;
};
struct opening {
    uint32_t pending;
    uint32_t n_gaps;
    struct opening_gap gap[];
};

struct session {
    const struct session_ops *ops;
    const struct dialect *dialect;
    struct hub *hub;
    struct map_node by_id;
    uint64_t id;
    struct list dirty;       /* in the hub's list of sessions to flush or to free */
    struct sub *subs;        /* owned */
    struct opening *opening; /* owned; until `ready` */
    struct outbox out;
    struct timer timer;     /* keep-alive, ping, or the deadline of a closing session */
    void *app;              /* the dialect's own state, owned by it (freed in `gone`) */
    uint64_t heard_ms;      /* monotonic: last sign of life */
    uint64_t sent_ms;       /* monotonic: last bytes written */
    uint32_t in_flight;     /* commands the bus has not answered */
    uint32_t page_messages; /* page size of catch-up (a poll's limit) */
    uint16_t n_subs;
    uint16_t n_behind; /* subscriptions that are not live yet */
    uint16_t close_code;
    uint16_t end_code; /* while `ending`: of the Close that waits */
    union {
        const char *end_why;  /* of a WebSocket: its reason, NULL: the answer to the client's own */
        struct plain_sum sum; /* of an event stream with gzip: of what was sent whole */
    };
    uint8_t state;     /* enum session_state */
    bool quiet;        /* the closing notice is out and nothing more may be pushed */
    bool peer_closed;  /* the client has said its own goodbye (WebSocket Close) */
    bool ending;       /* session_ends_later was said */
    bool cut;          /* close without flushing further */
    bool head_left;    /* the half-sent entry is of a subscription that has ended */
    bool coding_begun; /* the header of the gzip stream is in the outbox, or was */
    bool coding_ended; /* and so is its trailer, as the last entry */
};

/* --- hub --- */
enum err hub_new(const struct hub_options *opt, struct bus *bus, struct timer_wheel *timers,
                 struct hub **out) MUST_CHECK;
void hub_free(struct hub *h); /* no sessions left, the bus's threads ended */
struct bus_port *hub_port(struct hub *h);
const struct hub_options *hub_options(const struct hub *h);
struct timer_wheel *hub_timers(struct hub *h);
/* End of a turn: writes dirty sessions (bounded) and frees closed ones; true when more waits. */
bool hub_turn(struct hub *h);
size_t hub_session_count(const struct hub *h);
struct session *hub_session(struct hub *h, uint64_t id); /* NULL when gone */
/* Walks all sessions; the current one may be closed (not freed: that happens at the turn's end). */
void hub_each_session(struct hub *h, void (*fn)(struct session *s, void *ctx), void *ctx);

/* --- session: transport side --- */
/* Zeroed memory in; the session gets its id and belongs to the hub. What is pushed is packed by the
 * coding, notices too; a gzip stream begins with its header and, when the session says goodbye,
 * ends with its trailer. */
void session_init(struct session *s, struct hub *h, const struct session_ops *ops,
                  const struct dialect *d, enum msg_coding coding);
/* The connection is gone (or was never wanted): CLOSED now. Idempotent. */
void session_gone(struct session *s);
/* Fills iov with what waits (id lines of several channels go through the hub's scratch space, which
 * is valid until the next call). Returns the number of entries. */
int session_iov(struct session *s, struct iovec *iov, int max, size_t max_bytes);
/* n bytes of that were written. */
void session_advance(struct session *s, size_t n);
/* Nothing can be said to this client any more: gone at the end of the turn, in any callback. */
void session_cut(struct session *s);
/* After anything was heard from the client. */
void session_heard(struct session *s);
bool session_wants_reading(const struct session *s);
/* The client has said its last: nothing more is read, and once the bus has answered what is in
 * flight the session is flushed, whether or not it has something to write; whoever flushes closes
 * it with code and why (constant; NULL: the answer to the client's own Close). */
void session_ends_later(struct session *s, uint16_t code, const char *why);

/* --- session: what everyone may do --- */
struct sub_request {
    struct slice channel; /* checked by channel_check */
    struct catch_up from; /* from, since, last_n */
    bool no_position;     /* a cursor was given that does not speak of this channel */
};
/* All subscriptions of a request at once. Pushes a gate; `dialect->ready` opens it. n may be 0.
 * Names must differ. ERR_NOMEM. */
enum err session_open(struct session *s, const struct sub_request *req, size_t n) MUST_CHECK;
/* One more; answered by dialect->subscribed with the ref (at most SESSION_REF_BYTES).
 * ERR_EXISTS: it listens already. ERR_NOMEM. */
#define SESSION_REF_BYTES 64
enum err session_subscribe(struct session *s, const struct sub_request *req,
                           struct slice ref) MUST_CHECK;
/* No message of the channel follows; answered by dialect->unsubscribed, in the order of the
 * commands. ERR_NOT_FOUND. */
enum err session_unsubscribe(struct session *s, struct slice channel, struct slice ref) MUST_CHECK;
/* All its channels, without an answer: what is submitted after it finds the session gone there. */
void session_leave_all(struct session *s);
struct sub *session_find_sub(struct session *s, struct slice channel);
struct slice sub_channel(const struct sub *sub);
/* Are messages of this subscription in the outbox? Not while it is opening: those behind the gate
 * cannot be seen. */
bool session_is_waiting(const struct session *s, const struct sub *sub);
/* Asks for the next pages of what is still behind, when the outbox has room. */
void session_continue(struct session *s);
/* Cursor of everything handed to the transport so far. */
void session_cursor(const struct session *s, struct buf *out);
/* The same as it will be when all that waits has been sent. */
void session_tail_cursor(const struct session *s, struct buf *out);
/* Removes the first entry of the outbox as delivered. */
void session_pop(struct session *s);
/* Queues a notice (two parts behind each other); a full outbox closes the client as too slow. */
void session_push(struct session *s, struct slice a, struct slice b);
/* Bytes of the transport that are not of the stream: the head of an answer of HTTP/1.1. */
void session_push_framing(struct session *s, struct slice bytes);
/* Opens the gate with the text that comes first. */
void session_push_ready(struct session *s, struct slice bytes);
/* Says goodbye (dialect->closing) and closes when that is written. Idempotent. */
void session_close(struct session *s, uint16_t code, const char *reason);
/* Like session_close, what is unsent is dropped first. */
void session_close_slow(struct session *s);
/* No notice, no more pushes: flush what waits, then close. */
void session_finish(struct session *s);
/* (Re)arms the session's timer. */
void session_timer(struct session *s, uint64_t delay_ms);
void session_mark_dirty(struct session *s);
/* A command went to the bus / came back. */
void session_command_sent(struct session *s);
void session_command_done(struct session *s);

/* Publishes through the bus; done gets a struct bus_publish. ERR_NOMEM, and then done is not
 * called. key may be empty. */
enum err hub_publish(struct hub *h, const struct msg_draft *d, struct slice key,
                     void (*done)(struct bus_op *), void *ctx) MUST_CHECK;

/* A context for bus ops that must survive their session: the session is found again by id. */
struct hub_call {
    struct hub *hub;
    uint64_t session; /* 0 = none */
    uint32_t serial;  /* of a sub, or free for use */
    uint8_t gap;      /* enum gap_reason known before asking */
    uint8_t ref_len;
    char ref[SESSION_REF_BYTES];
};
struct hub_call *hub_call_new(struct hub *h, const struct session *s, struct slice ref);

#endif
