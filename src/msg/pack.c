/* pack.c - which messages are compressed, and how one is.
 *
 * Every message is packed alone: nothing it is packed with comes from another message, from a
 * notice or from the client it goes to. So one packed form serves everyone, and its length says
 * nothing about other texts (the attack called BREACH needs a secret and the attacker's text in one
 * piece). Whoever puts both into one payload names the namespace in --plain-namespaces.
 */
#include "msg_internal.h"

#include "crier/deflate.h"
#include "crier/zstd.h"

/* Written before threads start. */
static size_t threshold;
static struct slice namespaces; /* borrowed for ever */

static const struct {
    uint8_t plain, coding;
} parts[FORM_COUNT] = {
    [FORM_ENVELOPE] = {FORM_ENVELOPE, CODING_PLAIN},
    [FORM_SSE_RAW] = {FORM_SSE_RAW, CODING_PLAIN},
    [FORM_SSE_JSON] = {FORM_SSE_JSON, CODING_PLAIN},
    [FORM_WS_JSON] = {FORM_WS_JSON, CODING_PLAIN},
    [FORM_WS_RAW] = {FORM_WS_RAW, CODING_PLAIN},
    [FORM_WS_JSON_DEFLATE] = {FORM_WS_JSON, CODING_DEFLATE},
    [FORM_WS_RAW_DEFLATE] = {FORM_WS_RAW, CODING_DEFLATE},
    [FORM_WS_JSON_NARROW] = {FORM_WS_JSON, CODING_NARROW},
    [FORM_WS_RAW_NARROW] = {FORM_WS_RAW, CODING_NARROW},
    [FORM_SSE_RAW_GZIP] = {FORM_SSE_RAW, CODING_GZIP},
    [FORM_SSE_JSON_GZIP] = {FORM_SSE_JSON, CODING_GZIP},
    [FORM_SSE_RAW_ZSTD] = {FORM_SSE_RAW, CODING_ZSTD},
    [FORM_SSE_JSON_ZSTD] = {FORM_SSE_JSON, CODING_ZSTD},
};

enum msg_form msg_form_plain(enum msg_form form)
{
    return (enum msg_form)parts[form].plain;
}

enum msg_coding msg_form_coding(enum msg_form form)
{
    return (enum msg_coding)parts[form].coding;
}

enum msg_form msg_form_packed(enum msg_form plain, enum msg_coding coding)
{
    for (int i = 0; i < FORM_COUNT; i++)
        if (parts[i].plain == plain && parts[i].coding == coding)
            return (enum msg_form)i;
    if (coding == CODING_PLAIN)
        return plain;
    BUG_ON(1);
}

void msg_configure_packing(size_t threshold_bytes, struct slice plain_namespaces)
{
    threshold = threshold_bytes;
    namespaces = plain_namespaces;
}

bool msg_is_packed_in(struct slice channel)
{
    struct slice rest = namespaces.len ? namespaces : SLICE_NONE, one;
    const char *colon = channel.len ? memchr(channel.ptr, ':', channel.len) : NULL;
    struct slice own = slice_of(channel.ptr, colon ? (size_t)(colon - channel.ptr) : 0);
    while (slice_split(&rest, ',', &one))
        if (slice_eq(slice_trim(one), own))
            return false;
    return true;
}

bool pack_wants(const struct msg *m)
{
    return m->payload.len >= threshold && msg_is_packed_in(m->channel);
}

static enum err compress(struct buf *b, enum msg_coding coding, struct slice plain)
{
    switch (coding) {
    case CODING_ZSTD:
        return zstd_append(b, plain);
    case CODING_NARROW:
        return deflate_append(b, plain, DEFLATE_NARROW);
    default:
        return deflate_append(b, plain, DEFLATE_WIDE);
    }
}

bool pack_append(struct buf *b, enum msg_coding coding, struct slice plain)
{
    size_t before = b->len;
    if (compress(b, coding, plain))
        return false; /* out of memory: the plain bytes still say it */
    /* RFC 7692 7.2.1: a receiver appends the empty stored block by itself. */
    if (coding == CODING_DEFLATE || coding == CODING_NARROW)
        b->len -= DEFLATE_TAIL_BYTES;
    if (b->len - before < plain.len)
        return true;
    b->len = before;
    return false;
}

void msg_append_stored(struct buf *b, enum msg_coding coding, struct slice plain)
{
    if (coding == CODING_GZIP)
        deflate_append_stored(b, plain);
    else if (coding == CODING_ZSTD)
        zstd_append_stored(b, plain);
    else
        buf_append(b, plain);
}
