/* notices.c - the texts that every dialect shares, as members of JSON objects. */
#include "crier/codec.h"
#include "crier/dialects.h"
#include "crier/json.h"

static void member_string(struct buf *b, const char *name, struct slice value)
{
    buf_printf(b, ",\"%s\":", name);
    json_append_string(b, value);
}

static void cursor_member(struct buf *b, const char *name, uint32_t tag, struct position pos)
{
    buf_printf(b, ",\"%s\":\"", name);
    cursor_append(b, tag, pos);
    buf_append_char(b, '"');
}

void notice_ready(struct buf *b, const struct session *s, const char *extra)
{
    char id[CLIENT_ID_BYTES];
    client_id_text(s->id, id);
    buf_printf(b, "\"client\":\"%s\"%s,\"cursor\":\"", id, extra);
    session_cursor(s, b);
    buf_append_str(b, "\",\"channels\":[");
    bool first = true;
    for (const struct sub *sub = s->subs; sub; sub = sub->next) {
        if (!sub->joined) /* asked for by a command that was sent without waiting for this */
            continue;
        buf_append_str(b, first ? "{\"channel\":" : ",{\"channel\":");
        first = false;
        json_append_string(b, sub_channel(sub));
        cursor_member(b, "cursor", cursor_tag(sub_channel(sub)), sub->pos);
        buf_append_char(b, '}');
    }
    buf_append_char(b, ']');
}

void notice_gap(struct buf *b, struct slice channel, enum gap_reason reason, struct position since,
                struct position resumed)
{
    uint32_t tag = cursor_tag(channel);
    buf_append_str(b, "\"channel\":");
    json_append_string(b, channel);
    member_string(b, "reason", slice_str(gap_reason_str(reason)));
    if (reason != GAP_NO_POSITION)
        cursor_member(b, "since", tag, since);
    cursor_member(b, "cursor", tag, resumed);
}

void notice_gap_cu(struct buf *b, const struct sub *sub, const struct catch_up *cu)
{
    notice_gap(b, sub_channel(sub), cu->gap, cu->since, cu->start);
}

static void notice_member(struct buf *b, const struct bus_member *m)
{
    char id[CLIENT_ID_BYTES];
    client_id_text(m->client, id);
    buf_printf(b, "{\"client\":\"%s\"", id);
    if (m->user)
        member_string(b, "user", slice_str(m->user));
    member_string(b, "transport", slice_str(m->transport));
    buf_printf(b, ",\"since\":%llu}", (unsigned long long)m->since_ms);
}

void notice_presence(struct buf *b, const struct bus_presence *p)
{
    buf_append_str(b, "\"members\":[");
    for (uint32_t i = 0; i < p->count; i++) {
        if (i)
            buf_append_char(b, ',');
        notice_member(b, &p->member[i]);
    }
    buf_printf(b, "],\"total\":%u", p->total);
}

void notice_history(struct buf *b, struct slice channel, const struct catch_up *cu)
{
    uint32_t tag = cursor_tag(channel);
    struct position last = cu->start;
    buf_append_str(b, "\"messages\":[");
    for (uint32_t i = 0; i < cu->count; i++) {
        const struct encoded *enc = msg_encoded(cu->msgs[i], FORM_ENVELOPE);
        if (!enc) {
            b->failed = true;
            return;
        }
        if (i)
            buf_append_char(b, ',');
        buf_append(b, slice_of(enc->bytes, enc->len));
        last = cu->msgs[i]->pos;
    }
    buf_append_char(b, ']');
    cursor_member(b, "cursor", tag, last);
    buf_append_str(b, cu->complete ? ",\"complete\":true" : ",\"complete\":false");
    if (!cu->gap)
        return;
    buf_append_str(b, ",\"gap\":{");
    notice_gap(b, channel, cu->gap, cu->since, cu->start);
    buf_append_char(b, '}');
}

static enum err bad(const char **code, const char **what, const char *c, const char *w)
{
    *code = c;
    *what = w;
    return ERR_SYNTAX;
}

enum err payload_of_json(struct slice data, struct slice encoding, struct buf *scratch,
                         struct slice *payload, enum msg_kind *kind, const char **code,
                         const char **what)
{
    *payload = data;
    *kind = MSG_JSON;
    bool is_string = json_type_of(data) == JSON_STRING;
    if (is_string) {
        if (json_string_decode(data, scratch))
            return bad(code, what, "too_large", "data is larger than a message may be");
        *payload = buf_slice(scratch);
        *kind = MSG_TEXT;
    }
    if (!encoding.len)
        return ERR_OK;
    if (!slice_eq(encoding, SLICE("\"base64\"")))
        return bad(code, what, "bad_encoding", "encoding must be \"base64\" or absent");
    size_t n = 0;
    /* In place: the decoded bytes are never longer than their text. */
    if (!is_string || base64_decode(*payload, (uint8_t *)scratch->data, &n))
        return bad(code, what, "bad_encoding", "data must be a string of canonical base64");
    *payload = slice_of(scratch->data, n);
    *kind = MSG_BINARY;
    return ERR_OK;
}

bool idempotency_key_is_valid(struct slice key)
{
    for (size_t i = 0; i < key.len; i++)
        if (key.ptr[i] < 0x21 || key.ptr[i] > 0x7e)
            return false;
    return key.len >= 1 && key.len <= 128;
}
