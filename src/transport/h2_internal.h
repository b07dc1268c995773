/* h2_internal.h - what the files of HTTP/2 share.
 *
 *   h2.c          nghttp2: its callbacks, and the verbs (h2_wire_...) that hide it from the others
 *   h2_conn.c     a connection: reading, writing, timers, the end
 *   h2_stream.c   a stream: h2_exchange.c, its request and answer; h2_session.c, what it may become
 *   h2_request.c  header fields; h2_guard.c floods. Pure.
 *
 * nghttp2 must not be called from its own callbacks, so those only note what came; requests are
 * handled and WebSocket bytes are read when it is off the stack (h2->busy says when it is not).
 */
#ifndef CRIER_TRANSPORT_H2_INTERNAL_H
#define CRIER_TRANSPORT_H2_INTERNAL_H

#include "h2_guard.h"
#include "h2_request.h"

#include "crier/h2.h"
#include "crier/loop.h"

struct nghttp2_session;
struct nghttp2_session_callbacks;
struct nghttp2_option;

#define H2_READ_BYTES (64 * 1024)
#define H2_FRAME_BYTES (9 + 16384) /* the largest we send */
#define H2_GATHER_BYTES (64 * 1024)
#define H2_BODIES_MAX_BYTES (4u * 1024 * 1024)    /* of a connection's unfinished requests */
#define H2_ANSWERS_MAX_BYTES (4u * 1024 * 1024)   /* not taken: further requests wait */
#define H2_ANSWERS_HARD_BYTES (16u * 1024 * 1024) /* those that were under way get 503 */
#define H2_ANSWER_SMALL_BYTES 4096                /* has room always */
#define H2_PONG_MS 10000                          /* for an answer to our PING */
#define H2_LINGER_MS 2000                         /* for the peer's FIN after ours */
#define H2_DROP_MAX_BYTES (1024 * 1024)           /* of what a peer sends after our GOAWAY */
#define H2_DRAIN_MS 1000                          /* for the round trip between the two GOAWAYs */

/* What goes out in one write. */
struct h2_gather {
    size_t len;
    char bytes[H2_GATHER_BYTES + 2 * H2_FRAME_BYTES];
};

struct h2 {
    struct loop *loop;
    struct http_server *server; /* borrowed */
    struct stream_set *streams; /* borrowed; for what WebSockets need */
    struct h2_options opt;
    struct nghttp2_session_callbacks *callbacks; /* owned */
    struct nghttp2_option *option;               /* owned */
    struct list conns;
    struct list dirty; /* connections that have something to do at the end of the turn */
    struct pool stream_pool, exchange_pool, sse_pool, ws_pool;
    size_t n_conns;
    size_t pending; /* requests that have not been answered */
    bool busy;      /* nghttp2 is on the stack */
    bool draining;
    bool left; /* a session ended: the hub has something to free */
    uint64_t flood_said_ms;
    struct loop_hook hook;
    struct h2_gather out;
    char in[H2_READ_BYTES];
};

/* ENDING: our last byte is out, the peer's are dropped. */
enum h2_state { H2_OPEN, H2_ENDING, H2_CLOSED };
enum h2_drain { H2_NOT_DRAINING, H2_NOTICE_SENT, H2_LAST_GOAWAY };

struct h2_conn {
    struct h2 *h;
    struct nghttp2_session *ng; /* owned */
    struct conduit io;
    struct io_watch w;
    struct timer timer;
    struct list node;    /* in h->conns */
    struct list dirty;   /* in h->dirty */
    struct list streams; /* all */
    struct list waiting; /* exchanges that wait for the peer, the longest first */
    struct list ready;   /* exchanges that are to be handled */
    struct loop_corpse corpse;
    struct h2_guard guard;
    struct buf out;                 /* what the kernel did not take */
    struct h2_stream *input_stream; /* bytes of a WebSocket that nghttp2 has just found */
    struct slice input;
    size_t n_streams;
    size_t body_bytes, answer_bytes;
    size_t dropped;
    uint64_t heard_ms;
    uint64_t took_ms;       /* the peer's windows let DATA go */
    uint64_t idle_since_ms; /* while there are no streams */
    uint64_t pinged_ms;     /* 0 = no PING is unanswered */
    uint64_t noticed_ms;    /* of the first GOAWAY */
    struct sock_addr peer;
    uint8_t fault; /* enum h2_code to end the connection with, not said yet */
    uint8_t state; /* enum h2_state */
    uint8_t drain; /* enum h2_drain */
    bool faulty;   /* what comes is dropped */
    bool blocked;  /* waits for EPOLLOUT */
    bool cut;      /* a window ended the DATA frame that is being made */
};

struct h2_stream {
    struct h2_conn *conn;
    struct list node;      /* in conn->streams */
    struct h2_exchange *x; /* owned; until answered and sent, or a session */
    struct h2_session *hs; /* borrowed; the hub's, knows this stream too */
    int32_t id;
    bool peer_ended; /* END_STREAM came */
    bool deferred;   /* nghttp2 asks for no data until it is woken */
    bool resting;    /* nor has it anything to ask with: an idle stream costs less so */
};

/* --- h2.c --- */
enum err h2_wire_open(struct h2_conn *c) MUST_CHECK;
void h2_wire_close(struct h2_conn *c);
/* Gives bytes to nghttp2. Returns how many it took: fewer when conn->input was set, which must be
 * read first. ERR_SYNTAX: the connection has to end. */
enum err h2_wire_input(struct h2_conn *c, struct slice bytes, size_t *taken) MUST_CHECK;
/* Appends frames to h->out up to its size. */
enum err h2_wire_gather(struct h2_conn *c) MUST_CHECK;
bool h2_wire_is_over(const struct h2_conn *c); /* nothing more to be read or written */
/* Queues the answer's head; the body, if any, is asked for by h2_stream_offer. */
enum err h2_wire_respond(struct h2_stream *st, const struct http_response *res, int status,
                         bool with_length, bool with_body) MUST_CHECK;
void h2_wire_wake(struct h2_stream *st);
void h2_wire_reset(struct h2_stream *st, bool refused);
/* Does the stream's own window let anything go? */
bool h2_wire_has_window(const struct h2_stream *st);
/* Gives the peer back n bytes of the stream's window. */
void h2_wire_consumed(struct h2_stream *st, size_t n);
void h2_wire_ping(struct h2_conn *c);
/* Lets the connection end. */
void h2_wire_goaway(struct h2_conn *c, enum h2_code code);
void h2_wire_shutdown_notice(struct h2_conn *c);
void h2_wire_last_goaway(struct h2_conn *c);

/* --- h2_conn.c --- */
/* At the end of the turn it is looked at. */
void h2_conn_touch(struct h2_conn *c);
void h2_conn_write(struct h2_conn *c);
void h2_conn_close(struct h2_conn *c);
/* The peer has broken the rules: GOAWAY and the end, as soon as nghttp2 is off the stack. flood:
 * what of, or NULL. */
void h2_conn_fault(struct h2_conn *c, enum h2_code code, const char *flood);
void h2_conn_pong(struct h2_conn *c);
void h2_conn_drain(struct h2_conn *c);
bool h2_conn_run_dirty(struct loop_hook *hook);

/* --- h2_stream.c --- */
void h2_stream_pools_init(struct h2 *h);
void h2_stream_pools_release(struct h2 *h);
struct h2_stream *h2_stream_new(struct h2_conn *c, int32_t id);
/* nghttp2 has closed it, or the connection ends. */
void h2_stream_closed(struct h2_stream *st);
/* False: the stream must be reset. */
bool h2_stream_field(struct h2_stream *st, struct slice name, struct slice value) MUST_CHECK;
void h2_stream_bad_field(struct h2_stream *st);
void h2_stream_headers_done(struct h2_stream *st, bool end);
/* Returns true when the bytes are for conn->input instead, outside of nghttp2. */
bool h2_stream_data(struct h2_stream *st, struct slice bytes) MUST_CHECK;
void h2_stream_peer_ended(struct h2_stream *st);
void h2_stream_input(struct h2_stream *st, struct slice bytes);
/* Is our answer all there is to say though the peer may go on? */
bool h2_stream_cuts_request(const struct h2_stream *st);
enum h2_after { H2_MORE, H2_REST, H2_END };
/* How many bytes, at most max, are there, and what comes after them: more, or nothing before it is
 * woken, or nothing. 0 and H2_MORE: wait. */
size_t h2_stream_offer(struct h2_stream *st, size_t max, enum h2_after *after);
/* Copies what was offered just now. */
void h2_stream_take(struct h2_stream *st, size_t n, char *out);

/* --- h2_exchange.c --- */
void h2_exchange_pools_init(struct h2 *h);
void h2_exchange_pools_release(struct h2 *h);
/* False: no memory. */
bool h2_exchange_new(struct h2_stream *st) MUST_CHECK;
/* The stream goes on, or ends, without it. */
void h2_exchange_drop(struct h2_stream *st);
bool h2_exchange_field(struct h2_exchange *x, struct slice name, struct slice value) MUST_CHECK;
void h2_exchange_bad_field(struct h2_exchange *x);
void h2_exchange_headers_done(struct h2_exchange *x, bool end);
void h2_exchange_data(struct h2_exchange *x, struct slice bytes);
void h2_exchange_peer_ended(struct h2_exchange *x);
/* As of the stream. */
size_t h2_exchange_offer(const struct h2_exchange *x, size_t max, enum h2_after *after);
void h2_exchange_take(struct h2_exchange *x, size_t n, char *out);
/* Routes the requests that are complete. */
void h2_exchange_handle_ready(struct h2_conn *c);
/* The longest that one has been waiting for the peer; UINT64_MAX = none. */
uint64_t h2_exchange_waiting_since(const struct h2_conn *c);
/* Resets those that have waited since before the time. */
void h2_exchange_reset_late(struct h2_conn *c, uint64_t before_ms);

/* --- h2_session.c --- */
void h2_session_pools_init(struct h2 *h);
void h2_session_pools_release(struct h2 *h);
/* Answers with the head and gives the stream to hst. False: hst was cancelled. */
bool h2_session_open(struct h2_stream *st, const struct http_response *head,
                     struct http_stream *hst, bool websocket) MUST_CHECK;
void h2_session_lost(struct h2_session *hs); /* the stream is no more */
bool h2_session_reads(const struct h2_session *hs);
void h2_session_input(struct h2_session *hs, struct slice bytes);
void h2_session_peer_ended(struct h2_session *hs);
size_t h2_session_offer(struct h2_session *hs, size_t max, enum h2_after *after);
void h2_session_take(struct h2_session *hs, size_t n, char *out);

#endif
