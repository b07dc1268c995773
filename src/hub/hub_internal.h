/* hub_internal.h - what the files of src/hub share. */
#ifndef CRIER_HUB_INTERNAL_H
#define CRIER_HUB_INTERNAL_H

#include "crier/hub.h"

/* Sessions of this worker that listen to one channel. */
struct audience {
    struct map_node node;
    struct sub **live; /* owned array of borrowed subs; sub->place is the index */
    uint32_t n_live, cap;
    uint32_t n_subs; /* live or not; at 0 the audience goes */
    uint32_t tag;    /* cursor_tag(name) */
    uint16_t name_len;
    char name[];
};

/* The audience of a channel, made when missing; NULL when memory is used up. */
struct audience *audience_take(struct hub *h, struct slice channel);
struct audience *audience_find(struct hub *h, struct slice channel, uint64_t hash);
void audience_drop(struct hub *h, struct audience *a); /* one sub less */
enum err audience_add(struct audience *a, struct sub *sub) MUST_CHECK;
void audience_remove(struct audience *a, struct sub *sub);
void audience_deliver(struct audience *a, struct msg *m);
void audience_presence(struct audience *a, const struct bus_event *ev);
void audience_gap(struct audience *a, const struct bus_event *ev);

#define HUB_IOV_ENTRIES 64
#define HUB_LINE_BYTES (48 * 1024)

struct hub {
    const struct hub_options *opt; /* borrowed */
    struct bus_port *port;         /* owned */
    struct timer_wheel *timers;    /* borrowed */
    struct map sessions;
    struct map audiences;
    struct list dirty;
    struct list closed;
    struct pool subs;
    uint32_t next_serial;
    /* of the last session_iov, for session_advance */
    uint32_t iov_len[HUB_IOV_ENTRIES];
    struct plain_sum iov_sum[HUB_IOV_ENTRIES];
    struct buf lines; /* id lines made for streams of several channels; never moves */
};

void session_deliver(struct sub *sub, struct msg *m);
/* Published by this session with echo off? */
static inline bool session_is_excluded(const struct session *s, const struct msg *m)
{
    return m->exclude_client && m->client == s->id;
}
/* A message that this session does not want counts as received. */
void sub_pass_over(struct sub *sub, const struct msg *m);

/* --- coding.c: besides its messages --- */
#define GZIP_TRAILER_BYTES 10
/* A notice. ERR_NOMEM. */
enum err coding_push(struct session *s, struct slice a, struct slice b) MUST_CHECK;
enum err coding_open_gate(struct session *s, struct slice bytes) MUST_CHECK;
/* Nothing follows. ERR_NOMEM. */
enum err coding_end(struct session *s) MUST_CHECK;
/* Is the i-th entry the trailer, whose bytes are made when it is the first? */
bool coding_is_trailer(const struct session *s, uint32_t i);
void coding_trailer(const struct session *s, char out[GZIP_TRAILER_BYTES]);
/* What the client gets from an entry, with the session's own id line in place of the message's. */
struct plain_sum coding_sum(const struct session *s, const struct outbox_item *item,
                            struct slice own_line);
struct plain_sum plain_sum_join(struct plain_sum a, struct plain_sum b);

#endif
