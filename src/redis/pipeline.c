/* pipeline.c - the order of requests is the order of answers; nothing else tells them apart.
 *
 * Commands count against the limit until they are answered, not until they are written: a server
 * that reads but does not answer must not fill our memory either. Without requests (subscribe
 * links) it is the bytes that are not written.
 *
 * The bytes lie in one buffer, so one write takes all of them. What is written is taken off when it
 * is the larger part, so each byte moves once at most, and the buffer never holds more than twice
 * the limit.
 */
#include "pipeline.h"

#include <stdlib.h>

#define GREETING_MAX_BYTES ((size_t)1 << 20) /* one script, or a user and a password */
#define KEPT_OUT_BYTES ((size_t)256 * 1024)  /* of an empty buffer */

void pipeline_init(struct pipeline *p, size_t max_pending_bytes)
{
    BUG_ON(max_pending_bytes > SIZE_MAX / 4);
    *p = (struct pipeline){.max_bytes = max_pending_bytes};
    p->newest = &p->oldest;
    buf_init(&p->out, 2 * max_pending_bytes + GREETING_MAX_BYTES);
}

enum err pipeline_add(struct pipeline *p, struct link_request *q, const struct slice *arg, size_t n,
                      uint64_t now_ms)
{
    size_t bytes = command_bytes(arg, n);
    size_t held = q ? p->pending_bytes : p->out.len - p->written;

    if (held > p->max_bytes || bytes > p->max_bytes - held)
        return ERR_LIMIT;
    if (p->written > p->out.len / 2) {
        buf_consume(&p->out, p->written);
        p->written = 0;
    }
    command_append(&p->out, arg, n);
    if (p->out.failed) {
        p->out.failed = false;
        return ERR_LIMIT;
    }
    if (!q)
        return ERR_OK;
    q->next = NULL;
    q->sent_ms = now_ms;
    q->bytes = bytes;
    *p->newest = q;
    p->newest = &q->next;
    p->pending_bytes += bytes;
    return ERR_OK;
}

struct slice pipeline_unwritten(const struct pipeline *p)
{
    return p->out.len ? slice_of(p->out.data + p->written, p->out.len - p->written) : SLICE_NONE;
}

void pipeline_wrote(struct pipeline *p, size_t n)
{
    p->written += n;
    if (p->written < p->out.len)
        return;
    p->written = 0;
    buf_clear(&p->out);
    if (p->out.cap > KEPT_OUT_BYTES)
        buf_release(&p->out);
}

static struct link_request *pop(struct pipeline *p)
{
    struct link_request *q = p->oldest;

    p->oldest = q->next;
    if (!p->oldest)
        p->newest = &p->oldest;
    p->pending_bytes -= q->bytes;
    return q;
}

struct link_request *pipeline_take(struct pipeline *p)
{
    if (!p->oldest || p->pending_bytes - p->oldest->bytes < p->out.len - p->written)
        return NULL;
    return pop(p);
}

void pipeline_drop_bytes(struct pipeline *p)
{
    if (p->out.data)
        explicit_bzero(p->out.data, p->out.cap);
    buf_release(&p->out);
    p->written = 0;
}

void pipeline_answer_all(struct pipeline *p, enum err e)
{
    while (p->oldest) {
        struct link_request *q = pop(p);
        q->done(q, e, NULL);
    }
}
