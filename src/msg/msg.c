/* msg.c - one message: one allocation, one count.
 *
 * Everything a publisher said is copied behind the struct, so a message is freed with two calls
 * and never points into anyone's buffer. After msg_order nothing but the count and the pointers to
 * the encodings changes, which is why threads share it without a lock.
 *
 * How a message looks on the wire is encode.c; what a body is, is kind.c.
 */
#include "msg_internal.h"

#include "crier/map.h"

#include <stdatomic.h>
#include <stdlib.h>

static struct slice put(char **at, struct slice s)
{
    struct slice copy = slice_of(*at, s.len);
    if (s.len)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return copy;
}

enum err msg_new(const struct msg_draft *d, struct msg **out)
{
    size_t n = sizeof(struct msg);
    const size_t parts[] = {d->channel.len, d->content_type.len, d->event.len, d->user.len,
                            d->payload.len};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (__builtin_add_overflow(n, parts[i], &n))
            return ERR_NOMEM;
    }
    struct msg *m = calloc(1, n);
    if (!m)
        return ERR_NOMEM;
    atomic_init(&m->refs, 1);
    m->kind = (uint8_t)d->kind;
    m->client = d->client;
    m->exclude_client = d->exclude_client;
    char *at = m->bytes;
    m->channel = put(&at, d->channel);
    m->content_type = put(&at, d->content_type);
    m->event = put(&at, d->event);
    m->user = put(&at, d->user);
    m->payload = put(&at, d->payload);
    m->channel_hash = hash_bytes(m->channel);
    m->channel_tag = cursor_tag(m->channel);
    *out = m;
    return ERR_OK;
}

struct msg *msg_ref(struct msg *m)
{
    /* relaxed: who refs already holds a reference, so nothing can be freed meanwhile */
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void msg_unref(struct msg *m)
{
    if (!m)
        return;
    /* acq_rel: all use by other threads happens before the last one frees */
    uint32_t before = atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel);
    BUG_ON(before == 0);
    if (before > 1)
        return;
    for (int i = FORM_COUNT; i-- > 0;) /* packed forms before those they may borrow */
        encode_free(m, (enum msg_form)i, atomic_load_explicit(&m->form[i], memory_order_relaxed));
    free(m);
}

void msg_order(struct msg *m, struct position pos, uint64_t time_ms)
{
    BUG_ON(m->pos.epoch != 0);
    m->pos = pos;
    m->time_ms = time_ms;
}
