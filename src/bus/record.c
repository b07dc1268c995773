/* record.c - a message as it stands in Redis.
 *
 * Text up to the payload, so that redis-cli shows what there is; the payload is bytes. Whoever can
 * write to this Redis can publish, so a record is checked for its form and not for honesty. The
 * form is all that a publisher is held to: a line end in an event's name would end the event of an
 * EventSource, and text that is not UTF-8 closes every WebSocket that comes back for it.
 */
#include "record.h"

#include "crier/codec.h"
#include "crier/json.h"

#include <inttypes.h>
#include <stdio.h>

#define CLIENT_DIGITS 16

static const char kinds[] = {[MSG_JSON] = 'j', [MSG_TEXT] = 't', [MSG_BINARY] = 'b'};

size_t record_body_max(const struct msg *m)
{
    return RECORD_OVERHEAD_BYTES + m->content_type.len + m->event.len + m->user.len +
           m->payload.len;
}

size_t record_write_body(char *out, const struct msg *m)
{
    const struct slice parts[] = {m->content_type, m->event, m->user, m->payload};
    size_t n = (size_t)snprintf(out, RECORD_OVERHEAD_BYTES, "%c %c %016" PRIx64 " %zu %zu %zu\n",
                                kinds[m->kind], m->exclude_client ? '-' : '+', m->client,
                                parts[0].len, parts[1].len, parts[2].len);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].len)
            memcpy(out + n, parts[i].ptr, parts[i].len);
        n += parts[i].len;
    }
    return n;
}

/* The number before the next blank (or the end). */
static bool take_u64(struct slice *rest, uint64_t max, uint64_t *out)
{
    struct slice part;
    return slice_split(rest, ' ', &part) && !slice_to_u64(part, max, out);
}

enum err record_parse(struct slice text, struct record *out)
{
    struct record r = {0};
    uint64_t epoch, previous;
    if (!take_u64(&text, CURSOR_EPOCH_MAX, &epoch) || epoch == 0 ||
        !take_u64(&text, UINT64_MAX - 1, &r.pos.offset) || r.pos.offset == 0 ||
        !take_u64(&text, INT64_MAX, &r.time_ms) || !take_u64(&text, CURSOR_EPOCH_MAX, &previous))
        return ERR_SYNTAX;
    r.pos.epoch = (uint32_t)epoch;
    r.previous_epoch = (uint32_t)previous;
    r.body = text;
    *out = r;
    return ERR_OK;
}

static bool parse_kind(struct slice text, enum msg_kind *out)
{
    for (size_t i = 0; i < sizeof kinds; i++) {
        if (text.len == 1 && text.ptr[0] == kinds[i]) {
            *out = (enum msg_kind)i;
            return true;
        }
    }
    return false;
}

static bool parse_hex(struct slice text, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                                : 16;
        if (digit == 16)
            return false;
        v = v << 4 | digit;
    }
    *out = v;
    return text.len == CLIENT_DIGITS;
}

static bool cut(struct slice *rest, uint64_t len, struct slice *out)
{
    if (len > rest->len)
        return false;
    *out = slice_of(rest->ptr, (size_t)len);
    *rest = slice_of(rest->ptr + len, rest->len - (size_t)len);
    return true;
}

static bool may_be_sent(const struct msg_draft *d)
{
    const char *why;
    if (d->event.len && msg_event_check(d->event, &why))
        return false;
    if (d->kind == MSG_JSON)
        return json_check(d->payload, false, NULL) == ERR_OK;
    return d->kind == MSG_BINARY || utf8_is_valid(d->payload);
}

static bool parse_body(struct slice body, struct msg_draft *d)
{
    struct slice head, kind, echo, client;
    uint64_t type, event, user;
    if (!slice_split(&body, '\n', &head) || !body.ptr)
        return false;
    if (!slice_split(&head, ' ', &kind) || !parse_kind(kind, &d->kind) ||
        !slice_split(&head, ' ', &echo) || echo.len != 1 || !slice_split(&head, ' ', &client) ||
        !parse_hex(client, &d->client))
        return false;
    d->exclude_client = echo.ptr[0] == '-';
    if (!take_u64(&head, SIZE_MAX, &type) || !take_u64(&head, SIZE_MAX, &event) ||
        !take_u64(&head, SIZE_MAX, &user))
        return false;
    if (!cut(&body, type, &d->content_type) || !cut(&body, event, &d->event) ||
        !cut(&body, user, &d->user))
        return false;
    d->payload = body;
    return may_be_sent(d);
}

enum err record_message(const struct record *r, struct slice channel, struct msg **out)
{
    struct msg_draft d = {.channel = channel};
    if (!parse_body(r->body, &d))
        return ERR_SYNTAX;
    enum err e = msg_new(&d, out);
    if (e)
        return e;
    msg_order(*out, r->pos, r->time_ms);
    return ERR_OK;
}
