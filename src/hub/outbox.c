/* outbox.c - what one client still has to receive (see outbox.h).
 *
 * An entry is a pointer with its kind in the two low bits. While there is room for one the entry
 * lives in the structure itself: the usual client has nothing or one message waiting, and a
 * broadcast to thousands of them must not allocate thousands of rings. The ring is given back when
 * it runs empty.
 *
 * It does not know limits: the session decides what is too much.
 */
#include "crier/outbox.h"

#include <stdlib.h>

#define KIND_MSG ((uintptr_t)0)
#define KIND_BLOB ((uintptr_t)1)
#define KIND_GATE ((uintptr_t)2)
#define KIND_FRAMING ((uintptr_t)3) /* a blob too */
#define KIND_MASK ((uintptr_t)3)
#define FIRST_RING_LOG2 3

static struct msg *entry_msg(uintptr_t e)
{
    return (struct msg *)(e & ~KIND_MASK);
}

static struct blob *entry_blob(uintptr_t e)
{
    return (struct blob *)(e & ~KIND_MASK);
}

static size_t entry_len(const struct outbox *o, uintptr_t e)
{
    switch (e & KIND_MASK) {
    case KIND_MSG:
        return msg_encoded(entry_msg(e), (enum msg_form)o->form)->len;
    case KIND_BLOB:
    case KIND_FRAMING:
        return entry_blob(e)->len;
    default:
        return 0;
    }
}

static bool is_blob(uintptr_t e)
{
    return (e & KIND_MASK) == KIND_BLOB || (e & KIND_MASK) == KIND_FRAMING;
}

static void entry_free(uintptr_t e)
{
    if ((e & KIND_MASK) == KIND_MSG)
        msg_unref(entry_msg(e));
    else if (is_blob(e))
        free(entry_blob(e));
}

static uint32_t cap_of(const struct outbox *o)
{
    return UINT32_C(1) << o->cap_log2;
}

static uintptr_t *slot(const struct outbox *o, uint32_t i)
{
    if (!o->cap_log2)
        return (uintptr_t *)&o->one;
    return &o->ring[(o->head + i) & (cap_of(o) - 1)];
}

void outbox_init(struct outbox *o, enum msg_form form)
{
    memset(o, 0, sizeof(*o));
    o->form = (uint8_t)form;
}

static void give_ring_back(struct outbox *o)
{
    if (o->cap_log2)
        free(o->ring);
    o->cap_log2 = 0;
    o->head = 0;
    o->one = 0;
}

void outbox_release(struct outbox *o)
{
    for (uint32_t i = 0; i < o->count; i++)
        entry_free(*slot(o, i));
    o->count = 0;
    o->bytes = 0;
    o->head_sent = 0;
    give_ring_back(o);
}

static enum err grow(struct outbox *o)
{
    uint8_t cap_log2 = o->cap_log2 ? (uint8_t)(o->cap_log2 + 1) : FIRST_RING_LOG2;
    BUG_ON(cap_log2 > 31); /* of pointers: memory is used up before */
    uintptr_t *ring = malloc(sizeof(*ring) << cap_log2);
    if (!ring)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < o->count; i++)
        ring[i] = *slot(o, i);
    if (o->cap_log2)
        free(o->ring);
    o->ring = ring;
    o->cap_log2 = cap_log2;
    o->head = 0;
    return ERR_OK;
}

static enum err push(struct outbox *o, uintptr_t e)
{
    if (o->count == cap_of(o)) {
        enum err err = grow(o);
        if (err)
            return err;
    }
    *slot(o, o->count) = e;
    o->count++;
    o->bytes += entry_len(o, e);
    return ERR_OK;
}

enum err outbox_push_msg(struct outbox *o, struct msg *m)
{
    if (!msg_encoded(m, (enum msg_form)o->form))
        return ERR_NOMEM;
    enum err err = push(o, (uintptr_t)m | KIND_MSG);
    if (!err)
        msg_ref(m);
    return err;
}

static struct blob *blob_of(struct slice a, struct slice b)
{
    struct blob *blob = malloc(sizeof(*blob) + a.len + b.len);
    if (!blob)
        return NULL;
    blob->len = (uint32_t)(a.len + b.len);
    if (a.len)
        memcpy(blob->bytes, a.ptr, a.len);
    if (b.len)
        memcpy(blob->bytes + a.len, b.ptr, b.len);
    return blob;
}

static enum err push_blob(struct outbox *o, struct slice a, struct slice b, uintptr_t kind)
{
    struct blob *blob = blob_of(a, b);
    if (!blob)
        return ERR_NOMEM;
    enum err err = push(o, (uintptr_t)blob | kind);
    if (err)
        free(blob);
    return err;
}

enum err outbox_push_bytes(struct outbox *o, struct slice a, struct slice b)
{
    return push_blob(o, a, b, KIND_BLOB);
}

enum err outbox_push_framing(struct outbox *o, struct slice bytes)
{
    return push_blob(o, bytes, SLICE_NONE, KIND_FRAMING);
}

enum err outbox_push_gate(struct outbox *o)
{
    return push(o, KIND_GATE);
}

/* Removes the i-th entry, which was freed already. */
static void close_up(struct outbox *o, uint32_t i)
{
    for (; i + 1 < o->count; i++)
        *slot(o, i) = *slot(o, i + 1);
    if (--o->count == 0)
        give_ring_back(o);
}

enum err outbox_open_gate(struct outbox *o, struct slice bytes)
{
    uint32_t i = 0;
    while (i < o->count && *slot(o, i) != KIND_GATE)
        i++;
    BUG_ON(i == o->count);
    if (!bytes.len) {
        close_up(o, i);
        return ERR_OK;
    }
    struct blob *blob = blob_of(bytes, SLICE_NONE);
    if (!blob)
        return ERR_NOMEM;
    *slot(o, i) = (uintptr_t)blob | KIND_BLOB;
    o->bytes += blob->len;
    return ERR_OK;
}

static bool is_no_notice(uintptr_t e, uint64_t unused)
{
    (void)unused;
    return !is_blob(e);
}

static bool is_of_channel(uintptr_t e, uint64_t channel_hash)
{
    return (e & KIND_MASK) == KIND_MSG && entry_msg(e)->channel_hash == channel_hash;
}

static void drop(struct outbox *o, bool (*which)(uintptr_t e, uint64_t arg), uint64_t arg)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < o->count; i++) {
        uintptr_t e = *slot(o, i);
        bool begun = i == 0 && o->head_sent;
        if (begun || !which(e, arg)) {
            *slot(o, kept++) = e;
            continue;
        }
        o->bytes -= entry_len(o, e);
        entry_free(e);
    }
    o->count = kept;
    if (!o->count)
        give_ring_back(o);
}

void outbox_drop_messages(struct outbox *o)
{
    drop(o, is_no_notice, 0);
}

void outbox_drop_channel(struct outbox *o, uint64_t channel_hash)
{
    drop(o, is_of_channel, channel_hash);
}

bool outbox_item(const struct outbox *o, uint32_t i, struct outbox_item *out)
{
    if (i >= o->count)
        return false;
    uintptr_t e = *slot(o, i);
    switch (e & KIND_MASK) {
    case KIND_MSG: {
        const struct encoded *enc = msg_encoded(entry_msg(e), (enum msg_form)o->form);
        *out = (struct outbox_item){entry_msg(e), enc, slice_of(enc->bytes, enc->len), false};
        return true;
    }
    case KIND_BLOB:
    case KIND_FRAMING:
        *out = (struct outbox_item){NULL, NULL, slice_of(entry_blob(e)->bytes, entry_blob(e)->len),
                                    (e & KIND_MASK) == KIND_FRAMING};
        return true;
    default:
        return false;
    }
}

void outbox_pop(struct outbox *o)
{
    BUG_ON(!o->count);
    uintptr_t e = *slot(o, 0);
    o->bytes -= entry_len(o, e);
    entry_free(e);
    o->count--;
    o->head_sent = 0;
    if (!o->count)
        give_ring_back(o);
    else
        o->head = (o->head + 1) & (cap_of(o) - 1);
}
