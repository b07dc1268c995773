/* pipeline.h - commands on their way over one connection: bytes that are not written yet, requests
 * that are not answered yet. No I/O. */
#ifndef CRIER_REDIS_PIPELINE_H
#define CRIER_REDIS_PIPELINE_H

#include "link.h"

struct pipeline {
    struct link_request *oldest, **newest; /* not answered; the callers' */
    size_t pending_bytes;                  /* of these requests */
    size_t max_bytes;
    struct buf out; /* the greeting is put here directly */
    size_t written; /* of out */
};

void pipeline_init(struct pipeline *p, size_t max_pending_bytes);
/* q NULL: nobody waits for an answer. ERR_LIMIT: nothing was taken. */
enum err pipeline_add(struct pipeline *p, struct link_request *q, const struct slice *arg, size_t n,
                      uint64_t now_ms) MUST_CHECK;
struct slice pipeline_unwritten(const struct pipeline *p);
void pipeline_wrote(struct pipeline *p, size_t n);
/* The request that an answer belongs to; NULL when nothing was asked, or not all of it is written.
 */
struct link_request *pipeline_take(struct pipeline *p);
/* Forgets and wipes the bytes; the requests stay. */
void pipeline_drop_bytes(struct pipeline *p);
/* The callbacks may do the same from within. */
void pipeline_answer_all(struct pipeline *p, enum err e);

#endif
