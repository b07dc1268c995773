/* http_internal.h - what the files of src/http share. */
#ifndef CRIER_HTTP_INTERNAL_H
#define CRIER_HTTP_INTERNAL_H

#include "crier/http.h"

/* --- query.c: the parameters of a request --- */
#define QUERY_MAX 256
struct query {
    struct buf text; /* decoded bytes; the slices point into it */
    size_t n;
    struct {
        struct slice name, value;
    } param[QUERY_MAX];
};
/* Answers 400 bad_query itself and returns false when it cannot be read. Release either way. */
bool query_parse(struct http_exchange *ex, struct query *q);
void query_release(struct query *q);
/* First value of that name, ptr NULL when absent. */
struct slice query_get(const struct query *q, const char *name);
/* A whole number; absent leaves *out. Answers 400 with the code and returns false. */
bool query_u64(struct http_exchange *ex, const struct query *q, const char *name, const char *code,
               uint64_t min, uint64_t max, uint64_t *out);

/* --- origin.c: who may call from a browser --- */
/* Sets ex->origin; false after having answered 403. */
bool origin_admit(struct http_exchange *ex);

/* --- subscription.c: what /events, /poll, /ws and /chat are asked for --- */
struct subscription {
    struct http_stream stream; /* first: the transport hands this back */
    struct buf store;          /* the requests' slices point into it */
    struct http_server *server;
    bool json;
    bool padding;
    bool has_cursor;
    uint64_t limit, timeout_ms; /* poll */
    size_t n;
    struct sub_request req[CURSOR_MAX_ENTRIES];
};
enum { SUBSCRIPTION_MAX_STREAM = 32, SUBSCRIPTION_MAX_WS = 128 };
/* Parses the common parameters; NULL after having answered. The caller frees it. */
struct subscription *subscription_parse(struct http_exchange *ex, const struct query *q,
                                        size_t max_channels, bool default_json);
/* The same for one given channel (chat rooms). */
struct subscription *subscription_of(struct http_exchange *ex, const struct query *q,
                                     struct slice channel);
void subscription_free(struct subscription *sub);
/* http_stream.cancel of a subscription. */
void subscription_cancel(struct http_stream *st);

/* --- sse.c --- */
void sse_prelude(struct session *s, bool padding);
void sse_ready_text(struct buf *b, struct session *s);
void sse_tick(struct session *s);
void sse_gap(struct session *s, struct sub *sub, const struct catch_up *cu);
void sse_closing(struct session *s, uint16_t code, const char *reason);
/* Accepts, with a coding if the client takes one and the channels' namespaces allow it. */
void sse_accept(struct http_exchange *ex, struct subscription *sub);
/* Draining or overloaded: answers 200, a jittered retry and the end; true when it did. */
bool sse_turn_away(struct http_exchange *ex);
/* Draining or overloaded: answers 503; true when it did. */
bool turn_away(struct http_exchange *ex);
/* Draining: what is published now might reach nobody; answers 503; true when it did. */
bool publish_turn_away(struct http_exchange *ex);

extern const struct dialect dialect_chat_ws; /* chat.c */
/* --- coding.c --- */
/* The best of `offered` (names, comma separated) by the value of an Accept-Encoding. */
enum msg_coding coding_choose(struct slice accept, struct slice offered);
/* For Content-Encoding; NULL: none. */
const char *coding_name(enum msg_coding coding);

/* --- routes; `rest` is what follows the route's prefix in the path, still encoded --- */
void route_events(struct http_exchange *ex, struct slice rest);
void route_poll(struct http_exchange *ex, struct slice rest);
void route_ws(struct http_exchange *ex, struct slice rest);
void route_chat(struct http_exchange *ex, struct slice rest);
void route_publish(struct http_exchange *ex, struct slice rest);
void route_api_publish(struct http_exchange *ex, struct slice rest);
void route_channels(struct http_exchange *ex, struct slice rest);
void route_channel(struct http_exchange *ex, struct slice rest);
void route_health(struct http_exchange *ex, struct slice rest);
void route_ready(struct http_exchange *ex, struct slice rest);
void route_stats(struct http_exchange *ex, struct slice rest);
void route_metrics(struct http_exchange *ex, struct slice rest);
void route_page(struct http_exchange *ex, struct slice rest); /* of a path that exists */
bool page_exists(struct slice path);

/* --- publish.c: one request, one or more messages, one answer --- */
struct publish_job;
struct publish_job *publish_job_new(struct http_exchange *ex, size_t max_items, bool array);
void publish_job_free(struct publish_job *job); /* before publish_job_run */
/* Copies what it needs. ERR_NOMEM. */
enum err publish_job_add(struct publish_job *job, const struct msg_draft *d,
                         struct slice key) MUST_CHECK;
/* Publishes everything and answers when all is ordered; takes the job. */
void publish_job_run(struct publish_job *job);

#endif
