/* client.h - logical clients: they come, listen, stall, are cut at any byte and resume elsewhere.
 *
 * Server side: a session whose transport takes a random number of bytes. Between the two: bytes in
 * transit, lost when the connection is cut. Client side: a parser of its own for each dialect that
 * writes down what a program at that end would know. EventSource clients know their position by
 * the id lines only, as a browser does.
 */
#ifndef CRIER_TESTS_CLIENT_H
#define CRIER_TESTS_CLIENT_H

#include "../../src/http/http_internal.h"
#include "crier/dialects.h"
#include "crier/json.h"
#include "history.h"
#include "unpack.h"
#include "world.h"

enum talk { TALK_JSON, TALK_RAW, TALK_SSE, TALK_SSE_JSON, TALKS };

#define PENDING_MAX 8
#define WISH_NONE (-1)

struct client;

struct conn {
    struct session s;
    struct client *client; /* borrowed; NULL when the client has cut it */
    bool blocked;          /* the transport said EAGAIN */
};

struct command {
    unsigned ref;
    enum { CMD_SUBSCRIBE, CMD_UNSUBSCRIBE, CMD_PUBLISH } what;
    int channel;
    bool silent;
    struct position asked;
};

/* What a client knows of one channel. */
struct listening {
    bool wanted; /* as of the last command or request that was sent */
    bool on;     /* as the server has said */
    bool owed;   /* a gap must be said before any message of the connection */
    bool silent; /* the request's cursor did not speak of it */
    struct position asked;
    struct position at; /* how far it got; epoch 0 = nowhere yet */
    struct position id; /* what it would resume with */
    struct history history;
};

struct coverage {
    unsigned msgs, gap[GAP_NO_POSITION + 1], mid_gaps, slow, resumed, moved, retalked, short_writes;
    unsigned restarts, repeats, commands, pages, cut_mid_frame, own_ids, coded[CODING_COUNT], whole;
};

struct client {
    struct world *w;
    unsigned number;
    bool single;       /* of one channel: may speak raw */
    unsigned laziness; /* takes bytes once in so many turns */
    struct conn *conn;
    bool open; /* as the client sees it: bytes may still arrive after the server has ended */
    enum talk talk;
    unsigned hub;
    int order[CHANNELS]; /* of the request */
    int n_order;
    struct buf net, rx; /* in transit, arrived */
    struct unpack unpack;
    struct listening ch[CHANNELS];
    struct command pending[PENDING_MAX];
    unsigned n_pending, next_ref;
    unsigned
        unsure_uid; /* a publish with a key that was not answered before the connection ended */
    int unsure_channel;
    struct coverage *seen;
};

/* --- the transport --- */

static inline struct conn *conn_of(struct session *s)
{
    return container_of(s, struct conn, s);
}

static inline size_t conn_take(struct conn *c, const struct iovec *iov, int n, size_t room)
{
    size_t taken = 0;
    for (int i = 0; i < n && taken < room; i++) {
        size_t k = iov[i].iov_len < room - taken ? iov[i].iov_len : room - taken;
        if (c->client)
            buf_append(&c->client->net, slice_of(iov[i].iov_base, k));
        taken += k;
    }
    return taken;
}

static inline size_t room_now(struct client *cl)
{
    struct world *w = cl->w;
    if (!one_in(w, cl->laziness))
        return 0;
    switch (chance(w, 4)) {
    case 0:
        return chance(w, 8);
    case 1:
        return chance(w, 300);
    default:
        return 1 << 20;
    }
}

/* The number of bytes that were there to write. */
static inline size_t conn_write(struct conn *c)
{
    struct iovec iov[24];
    struct world *w = c->client->w;
    int n = session_iov(&c->s, iov, 2 + (int)chance(w, 22), 1 + chance(w, 20000));
    size_t offered = 0;
    for (int i = 0; i < n; i++)
        offered += iov[i].iov_len;
    size_t taken = conn_take(c, iov, n, room_now(c->client));
    if (taken)
        session_advance(&c->s, taken);
    c->blocked = taken < offered;
    c->client->seen->short_writes += c->blocked && taken;
    return offered;
}

static inline void conn_relieve(struct session *s)
{
    if (conn_of(s)->client)
        (void)conn_write(conn_of(s));
}

static inline void conn_flush(struct session *s)
{
    struct conn *c = conn_of(s);
    if (!c->client) {
        session_gone(s);
        return;
    }
    if (c->blocked)
        return;
    size_t offered = conn_write(c);
    if (!s->out.count && s->state == SESSION_CLOSING)
        session_gone(s);
    else if (!c->blocked && offered && s->out.count)
        session_mark_dirty(s);
}

static inline void conn_free(struct session *s)
{
    struct conn *c = conn_of(s);
    if (c->client)
        c->client->conn = NULL; /* what is in transit still arrives */
    free(c);
}

static const struct session_ops conn_ops = {
    .flush = conn_flush, .relieve = conn_relieve, .free = conn_free};

/* --- what a client writes down --- */

static inline bool is_pending(const struct client *cl, int channel)
{
    for (unsigned i = 0; i < cl->n_pending; i++)
        if (cl->pending[i].channel == channel && cl->pending[i].what != CMD_PUBLISH)
            return true;
    return false;
}

static inline void client_start(struct client *cl, int c, struct position told)
{
    struct listening *l = &cl->ch[c];
    history_add(
        &l->history,
        (struct event){.kind = EV_START, .asked = l->asked, .pos = told, .silent = l->silent});
    l->on = true;
    l->owed = l->silent || (l->asked.epoch && !same_position(l->asked, told));
    if (!l->asked.epoch)
        l->at = told;
    else
        cl->seen->resumed++;
    if (!l->asked.epoch && (cl->talk == TALK_JSON || cl->talk == TALK_RAW))
        l->id = told;
}

static inline void client_message(struct client *cl, int c, struct position pos, uint32_t uid)
{
    for (int i = 0; i < CHANNELS; i++)
        if (cl->ch[i].on && cl->ch[i].owed && !is_pending(cl, i))
            world_fail(cl->w, "client %u: a message of %s before the gap of %s was said",
                       cl->number, channel_name[c], channel_name[i]);
    history_add(&cl->ch[c].history, (struct event){.kind = EV_MSG, .pos = pos, .uid = uid});
    cl->ch[c].at = cl->ch[c].id = pos;
    cl->seen->msgs++;
}

static inline bool gap_has_cause(struct world *w, int c, enum gap_reason reason,
                                 struct position since, struct position resumed)
{
    const struct era *era = era_of(w, since.epoch);
    switch (reason) {
    case GAP_EXPIRED:
        return era && resumed.offset <= ledger_trimmed_to(w, era, c);
    case GAP_EPOCH:
        return since.epoch != resumed.epoch && (!era || era != era_of(w, resumed.epoch));
    case GAP_NO_POSITION:
        return true; /* the judge knows whether one was sent */
    default:
        return false;
    }
}

static inline enum gap_reason gap_reason_parse(struct slice text)
{
    for (int r = GAP_EXPIRED; r <= GAP_NO_POSITION; r++)
        if (slice_eq(text, slice_str(gap_reason_str((enum gap_reason)r))))
            return (enum gap_reason)r;
    return GAP_NONE;
}

static inline void client_gap(struct client *cl, int c, enum gap_reason reason,
                              struct position since, struct position resumed)
{
    struct listening *l = &cl->ch[c];
    history_add(&l->history,
                (struct event){.kind = EV_GAP,
                               .reason = reason,
                               .caused = gap_has_cause(cl->w, c, reason, since, resumed),
                               .asked = since,
                               .pos = resumed});
    cl->seen->gap[reason]++;
    cl->seen->mid_gaps += !l->owed;
    l->owed = false;
    l->at = resumed;
    if (cl->talk == TALK_JSON || cl->talk == TALK_RAW)
        l->id = resumed;
}

static inline void client_mark(struct client *cl, int c, struct position pos)
{
    history_add(&cl->ch[c].history, (struct event){.kind = EV_MARK, .pos = pos});
    cl->ch[c].id = pos;
}

static inline void client_off(struct client *cl, int c)
{
    if (cl->ch[c].on)
        history_add(&cl->ch[c].history, (struct event){.kind = EV_END});
    cl->ch[c].on = cl->ch[c].owed = false;
}

/* --- cursors --- */

/* The text of one position; CHANNELS of them joined make a cursor. */
static inline void cursor_text_add(struct buf *b, int c, struct position pos)
{
    if (b->len)
        buf_append_char(b, '~');
    cursor_append(b, cursor_tag(slice_str(channel_name[c])), pos);
}

static inline bool position_parse(struct client *cl, struct slice text, int c, struct position *out)
{
    struct cursor cursor;
    if (!cursor_parse(text, &cursor) && cursor.count == 1 &&
        !cursor_find(&cursor, slice_str(channel_name[c]), 0, 1, out))
        return true;
    world_fail(cl->w, "client %u: not a cursor of %s: %.*s", cl->number, channel_name[c],
               (int)text.len, text.ptr);
    return false;
}

/* The position that an unanswered subscribe, and nothing else, has asked for. */
static inline struct position pending_position(const struct client *cl, int channel)
{
    struct position asked = {0};
    unsigned n = 0;
    for (unsigned i = 0; i < cl->n_pending; i++)
        if (cl->pending[i].channel == channel && cl->pending[i].what != CMD_PUBLISH) {
            asked = cl->pending[i].asked;
            n++;
        }
    return n == 1 ? asked : (struct position){0};
}

/* What was asked for and not answered is still where the client is. */
static inline void take_cursor_of_pending(struct client *cl, const struct cursor *cursor, int c)
{
    struct position pos, asked = pending_position(cl, c);
    if (asked.epoch &&
        !cursor_find(cursor, slice_str(channel_name[c]), CHANNELS, CHANNELS + 1, &pos) &&
        !same_position(pos, asked))
        world_fail(cl->w, "client %u: the cursor is ahead of an unanswered subscribe to %s",
                   cl->number, channel_name[c]);
}

static inline void take_cursor_of(struct client *cl, const struct cursor *cursor, int c)
{
    struct listening *l = &cl->ch[c];
    struct position pos;
    bool found = !cursor_find(cursor, slice_str(channel_name[c]), CHANNELS, CHANNELS + 1, &pos);
    if (l->on && found)
        client_mark(cl, c, pos);
    else if (l->on)
        world_fail(cl->w, "client %u: the cursor is silent about %s", cl->number, channel_name[c]);
    else if (l->wanted && l->asked.epoch && (!found || !same_position(pos, l->asked)))
        world_fail(cl->w, "client %u: closed while opening, and not with the cursor it came with",
                   cl->number);
}

/* A cursor over all channels of the connection. */
static inline void take_cursor(struct client *cl, struct slice text)
{
    struct cursor cursor;
    if (!text.len)
        return;
    if (cursor_parse(text, &cursor)) {
        world_fail(cl->w, "client %u: not a cursor: %.*s", cl->number, (int)text.len, text.ptr);
        return;
    }
    for (int c = 0; c < CHANNELS; c++)
        if (is_pending(cl, c))
            take_cursor_of_pending(cl, &cursor, c);
        else if (cl->ch[c].on || cl->talk != TALK_JSON)
            take_cursor_of(cl, &cursor, c);
}

/* --- JSON --- */

static inline struct slice json_text(struct slice object, const char *name)
{
    struct slice raw;
    if (!json_member(object, name, &raw) || raw.len < 2 || raw.ptr[0] != '"')
        return SLICE_NONE;
    return slice_of(raw.ptr + 1, raw.len - 2);
}

static inline bool json_position(struct client *cl, struct slice object, const char *name, int c,
                                 struct position *out)
{
    return position_parse(cl, json_text(object, name), c, out);
}

static inline int json_channel(struct client *cl, struct slice object)
{
    int c = channel_index(json_text(object, "channel"));
    if (c < 0)
        world_fail(cl->w, "client %u: an unknown channel in %.*s", cl->number, (int)object.len,
                   object.ptr);
    return c;
}

static inline void read_ready(struct client *cl, struct slice json)
{
    struct slice list, item;
    size_t at = 0;
    int n = 0;
    if (!json_member(json, "channels", &list))
        world_fail(cl->w, "client %u: ready without channels", cl->number);
    while (json_element(list, &at, &item)) {
        struct position pos;
        int c = json_channel(cl, item);
        if (c < 0 || !json_position(cl, item, "cursor", c, &pos))
            return;
        if (!cl->ch[c].on)
            client_start(cl, c, pos);
        n++;
    }
    if (cl->talk != TALK_JSON && n != cl->n_order)
        world_fail(cl->w, "client %u: ready speaks of %d channels", cl->number, n);
}

static inline void read_gap(struct client *cl, struct slice json)
{
    struct position since = {0}, resumed;
    int c = json_channel(cl, json);
    enum gap_reason reason = gap_reason_parse(json_text(json, "reason"));
    if (c < 0 || !json_position(cl, json, "cursor", c, &resumed))
        return;
    if (reason != GAP_NO_POSITION && !json_position(cl, json, "since", c, &since))
        return;
    client_gap(cl, c, reason, since, resumed);
}

/* An envelope, or the members of one. */
static inline int read_envelope(struct client *cl, struct slice json, struct position *pos,
                                uint32_t *uid)
{
    struct slice data;
    int c = json_channel(cl, json);
    if (c < 0 || !json_position(cl, json, "id", c, pos) || !json_member(json, "data", &data))
        return -1;
    *uid = uid_of_payload(data);
    return c;
}

static inline void read_message(struct client *cl, struct slice json)
{
    struct position pos;
    uint32_t uid;
    int c = read_envelope(cl, json, &pos, &uid);
    if (c >= 0)
        client_message(cl, c, pos, uid);
}

static inline bool take_pending(struct client *cl, uint64_t ref, struct command *out)
{
    if (!cl->n_pending || cl->pending[0].ref != ref) {
        world_fail(cl->w, "client %u: an answer out of order, ref %llu", cl->number,
                   (unsigned long long)ref);
        return false;
    }
    *out = cl->pending[0];
    memmove(&cl->pending[0], &cl->pending[1], --cl->n_pending * sizeof(cl->pending[0]));
    return true;
}

static inline void read_ok(struct client *cl, struct slice json)
{
    struct slice raw;
    struct command cmd;
    uint64_t ref;
    struct position pos;
    if (!json_member(json, "ref", &raw) || json_u64(raw, UINT32_MAX, &ref) ||
        !take_pending(cl, ref, &cmd))
        return;
    cl->seen->commands++;
    switch (cmd.what) {
    case CMD_SUBSCRIBE:
        cl->ch[cmd.channel].asked = cmd.asked;
        cl->ch[cmd.channel].silent = cmd.silent;
        if (json_position(cl, json, "cursor", cmd.channel, &pos))
            client_start(cl, cmd.channel, pos);
        break;
    case CMD_UNSUBSCRIBE:
        client_off(cl, cmd.channel);
        break;
    case CMD_PUBLISH:
        if (json_position(cl, json, "id", cmd.channel, &pos)) {
            const struct entry *e = ledger_at(cl->w, cmd.channel, pos);
            if (!e || e->uid != cl->unsure_uid)
                world_fail(cl->w, "client %u: its message is not where the answer says",
                           cl->number);
        }
        cl->seen->repeats += json_member(json, "repeated", &raw);
        cl->unsure_uid = 0;
    }
}

static inline void read_json_frame(struct client *cl, struct slice json)
{
    struct slice op = json_text(json, "op");
    if (slice_eq(op, SLICE("message")))
        read_message(cl, json);
    else if (slice_eq(op, SLICE("ready")))
        read_ready(cl, json);
    else if (slice_eq(op, SLICE("gap")))
        read_gap(cl, json);
    else if (slice_eq(op, SLICE("ok")))
        read_ok(cl, json);
    else if (!slice_eq(op, SLICE("join")) && !slice_eq(op, SLICE("leave")))
        world_fail(cl->w, "client %u: unexpected %.*s", cl->number, (int)json.len, json.ptr);
}

/* --- frames --- */

static inline void read_close(struct client *cl, struct slice payload)
{
    unsigned code = (unsigned)(uint8_t)payload.ptr[0] << 8 | (uint8_t)payload.ptr[1];
    struct slice word, reason = slice_of(payload.ptr + 2, payload.len - 2);
    struct position resumed;
    int c = cl->order[0];
    if (code == WS_CODE_TOO_SLOW) {
        cl->seen->slow++;
        if (!slice_eq(reason, SLICE("too slow")))
            take_cursor(cl, reason);
    } else if (code == WS_CODE_GAP && cl->talk == TALK_RAW) {
        (void)slice_split(&reason, ' ', &word); /* gap */
        (void)slice_split(&reason, ' ', &word);
        if (position_parse(cl, reason, c, &resumed))
            client_gap(cl, c, gap_reason_parse(word),
                       cl->ch[c].owed ? cl->ch[c].asked : cl->ch[c].at, resumed);
    } else if (code != WS_CODE_GOING_AWAY) {
        world_fail(cl->w, "client %u: closed with %u", cl->number, code);
    }
}

static inline void read_frame(struct client *cl, unsigned opcode, struct slice payload)
{
    if (opcode == WS_CLOSE) {
        read_close(cl, payload);
    } else if (opcode == WS_TEXT && cl->talk == TALK_JSON) {
        read_json_frame(cl, payload);
    } else if (opcode == WS_TEXT) {
        int c = cl->order[0];
        uint32_t uid = uid_of_payload(payload);
        client_message(cl, c, ledger_find(cl->w, c, uid), uid);
    } else {
        world_fail(cl->w, "client %u: opcode %u", cl->number, opcode);
    }
}

/* Bytes of the first frame, 0 when it is not complete. */
static inline size_t frame_bytes(struct slice b, size_t *header)
{
    const uint8_t *u = (const uint8_t *)b.ptr;
    if (b.len < 2)
        return 0;
    *header = u[1] == 126 ? 4 : u[1] == 127 ? 10 : 2;
    if (b.len < *header)
        return 0;
    size_t len = *header == 2 ? u[1] : 0;
    for (size_t i = 2; i < *header; i++)
        len = len << 8 | u[i];
    return b.len < *header + len ? 0 : *header + len;
}

static inline bool read_one_frame(struct client *cl)
{
    size_t header, n = frame_bytes(buf_slice(&cl->rx), &header);
    if (!n)
        return false;
    unsigned first = (unsigned char)cl->rx.data[0];
    if (first >> 4 != 8)
        world_fail(cl->w, "client %u: a frame begins with %02x", cl->number, first);
    read_frame(cl, first & 15, slice_of(cl->rx.data + header, n - header));
    buf_consume(&cl->rx, n);
    return true;
}

/* --- events --- */

static inline struct slice field_of(struct slice line, const char *name)
{
    size_t n = strlen(name);
    return slice_starts_with(line, slice_str(name)) ? slice_of(line.ptr + n, line.len - n)
                                                    : SLICE_NONE;
}

/* The channel whose position differs in the id line: in format=raw nothing else says it. */
static inline int moved_channel(struct client *cl, struct slice id, struct position *pos)
{
    struct cursor cursor;
    int moved = -1;
    if (cursor_parse(id, &cursor) || cursor.count != (size_t)cl->n_order)
        return -1;
    for (int i = 0; i < cl->n_order; i++) {
        int c = cl->order[i];
        struct position p;
        if (cursor_find(&cursor, slice_str(channel_name[c]), (size_t)i, cursor.count, &p))
            return -1;
        if (same_position(p, cl->ch[c].at) || same_position(p, cl->ch[c].id))
            continue;
        if (moved >= 0)
            return -1;
        moved = c;
        *pos = p;
    }
    return moved;
}

static inline void read_event_message(struct client *cl, struct slice id, struct slice data)
{
    struct position pos, stated;
    uint32_t uid = uid_of_payload(data);
    int c = moved_channel(cl, id, &pos);
    if (c < 0) {
        world_fail(cl->w, "client %u: an id line that moves not exactly one channel: %.*s",
                   cl->number, (int)id.len, id.ptr);
        return;
    }
    if (cl->talk == TALK_SSE_JSON &&
        (read_envelope(cl, data, &stated, &uid) != c || !same_position(pos, stated)))
        world_fail(cl->w, "client %u: envelope and id line differ", cl->number);
    client_message(cl, c, pos, uid);
    cl->seen->own_ids += cl->n_order > 1;
}

static inline void read_event(struct client *cl, struct slice event, struct slice id,
                              struct slice data)
{
    if (!event.len && data.len)
        read_event_message(cl, id, data);
    else if (slice_eq(event, SLICE("crier.ready")))
        read_ready(cl, data);
    else if (slice_eq(event, SLICE("crier.gap")))
        read_gap(cl, data);
    else if (slice_eq(event, SLICE("crier.close")))
        id = json_text(data, "cursor");
    if (slice_eq(event, SLICE("crier.close")))
        cl->seen->slow++;
    take_cursor(cl, id);
}

static inline bool read_one_event(struct client *cl)
{
    struct slice rest = buf_slice(&cl->rx), line;
    struct slice event = SLICE_NONE, id = SLICE_NONE, data = SLICE_NONE;
    const char *end = rest.len ? memmem(rest.ptr, rest.len, "\n\n", 2) : NULL;
    if (!end)
        return false;
    size_t n = (size_t)(end - rest.ptr) + 2;
    rest.len = n - 2;
    while (slice_split(&rest, '\n', &line)) {
        event = field_of(line, "event: ").ptr ? field_of(line, "event: ") : event;
        id = field_of(line, "id: ").ptr ? field_of(line, "id: ") : id;
        data = field_of(line, "data: ").ptr ? field_of(line, "data: ") : data;
    }
    read_event(cl, event, id, data);
    buf_consume(&cl->rx, n);
    return true;
}

/* --- dialects --- */

static inline void on_raw_ready(struct session *s)
{
    struct client *cl = conn_of(s)->client;
    /* Raw has no word for it: the test looks behind the curtain. */
    if (cl)
        client_start(cl, cl->order[0], s->subs->pos);
    dialect_ws_raw.ready(s);
}

static inline void on_sse_ready(struct session *s)
{
    struct buf b;
    buf_init(&b, 65536);
    sse_ready_text(&b, s);
    session_push_ready(s, buf_slice(&b));
    buf_release(&b);
}

static struct dialect test_dialects[TALKS];

static inline void dialects_init(void)
{
    test_dialects[TALK_JSON] = dialect_ws_json;
    test_dialects[TALK_RAW] = dialect_ws_raw;
    test_dialects[TALK_RAW].ready = on_raw_ready;
    test_dialects[TALK_SSE] = (struct dialect){.transport = "sse",
                                               .form = FORM_SSE_RAW,
                                               .ready = on_sse_ready,
                                               .gap = sse_gap,
                                               .closing = sse_closing,
                                               .tick = sse_tick};
    test_dialects[TALK_SSE_JSON] = test_dialects[TALK_SSE];
    test_dialects[TALK_SSE_JSON].form = FORM_SSE_JSON;
}

/* --- coming and going --- */

static inline void client_init(struct client *cl, struct world *w, unsigned number,
                               struct coverage *seen)
{
    memset(cl, 0, sizeof(*cl));
    cl->w = w;
    cl->number = number;
    cl->seen = seen;
    cl->laziness = 1;
    cl->single = one_in(w, 3);
    buf_init(&cl->net, 1 << 24);
    buf_init(&cl->rx, 1 << 24);
    for (int c = 0; c < CHANNELS; c++)
        cl->ch[c].wanted = !cl->single && one_in(w, 2);
    cl->ch[chance(w, CHANNELS)].wanted = true;
}

static inline void client_release(struct client *cl)
{
    for (int c = 0; c < CHANNELS; c++)
        history_release(&cl->ch[c].history);
    buf_release(&cl->net);
    buf_release(&cl->rx);
    unpack_release(&cl->unpack);
}

/* What the program at that end does when its connection has ended. */
static inline void client_ended(struct client *cl)
{
    cl->open = false;
    cl->seen->cut_mid_frame += cl->rx.len > 0;
    cl->seen->whole += cl->unpack.ended;
    buf_clear(&cl->net);
    buf_clear(&cl->rx);
    cl->n_pending = 0;
    for (int c = 0; c < CHANNELS; c++)
        client_off(cl, c);
}

static inline void client_cut(struct client *cl)
{
    if (cl->conn) {
        struct conn *c = cl->conn;
        cl->conn = NULL;
        c->client = NULL;
        session_gone(&c->s);
    }
    client_ended(cl);
}

static inline int client_wanted(const struct client *cl)
{
    int n = 0;
    for (int c = 0; c < CHANNELS; c++)
        n += cl->ch[c].wanted;
    return n;
}

/* The request's channels in a random order. */
static inline void client_order(struct client *cl)
{
    cl->n_order = 0;
    for (int c = 0; c < CHANNELS; c++)
        if (cl->ch[c].wanted)
            cl->order[cl->n_order++] = c;
    for (int i = cl->n_order - 1; i > 0; i--) {
        int k = (int)chance(cl->w, (unsigned)i + 1), swap = cl->order[i];
        cl->order[i] = cl->order[k];
        cl->order[k] = swap;
    }
}

/* The cursor that the client would send; empty when it has none. */
static inline void client_cursor(struct client *cl, struct buf *b)
{
    bool fresh = one_in(cl->w, 20); /* a program that forgot */
    for (int i = 0; i < cl->n_order; i++) {
        struct position id = cl->ch[cl->order[i]].id;
        if (id.epoch && !fresh)
            cursor_text_add(b, cl->order[i], id);
    }
}

/* As src/http does it. */
static inline void client_requests(struct client *cl, struct sub_request *req)
{
    struct buf text;
    struct cursor cursor;
    buf_init(&text, 4096);
    client_cursor(cl, &text);
    bool has = text.len && !cursor_parse(buf_slice(&text), &cursor);
    uint32_t last_n = one_in(cl->w, 2) ? 1 + chance(cl->w, 300) : 0;
    for (int i = 0; i < cl->n_order; i++) {
        struct listening *l = &cl->ch[cl->order[i]];
        struct sub_request *r = &req[i];
        *r = (struct sub_request){.channel = slice_str(channel_name[cl->order[i]])};
        l->asked = (struct position){0};
        l->silent = false;
        if (has) {
            r->from.from = FROM_POSITION;
            l->silent = r->no_position = cursor_find(&cursor, r->channel, (size_t)i,
                                                     (size_t)cl->n_order, &l->asked) != ERR_OK;
            r->from.since = l->asked;
        } else if (last_n) {
            r->from.from = FROM_LAST_N;
            r->from.last_n = last_n;
        }
    }
    buf_release(&text);
}

static inline enum talk client_choose_talk(struct client *cl)
{
    if (cl->n_order == 0)
        return TALK_JSON;
    if (cl->n_order == 1 && one_in(cl->w, 3))
        return TALK_RAW;
    return chance(cl->w, 2) ? TALK_JSON : one_in(cl->w, 3) ? TALK_SSE_JSON : TALK_SSE;
}

/* Of event streams: frames are for themselves, what their bits mean is tested with them. */
static inline enum msg_coding client_choose_coding(struct client *cl, enum talk talk)
{
    static const enum msg_coding some[] = {CODING_PLAIN, CODING_GZIP, CODING_ZSTD};
    return talk == TALK_SSE || talk == TALK_SSE_JSON ? some[chance(cl->w, 3)] : CODING_PLAIN;
}

static inline void client_connect(struct client *cl)
{
    struct world *w = cl->w;
    struct sub_request req[CHANNELS];
    unsigned hub = chance(w, w->n_hubs);
    client_order(cl);
    enum talk talk = client_choose_talk(cl);
    enum msg_coding coding = client_choose_coding(cl, talk);
    cl->seen->moved += hub != cl->hub;
    cl->seen->retalked += talk != cl->talk;
    cl->hub = hub;
    cl->talk = talk;
    client_requests(cl, req);
    struct conn *c = calloc(1, sizeof(*c));
    BUG_ON(!c);
    c->client = cl;
    cl->conn = c;
    cl->open = true;
    session_init(&c->s, w->hub[hub], &conn_ops, &test_dialects[talk], coding);
    unpack_init(&cl->unpack, coding);
    cl->seen->coded[coding]++;
    if (one_in(w, 2))
        c->s.page_messages = 1 + chance(w, 30);
    if (talk == TALK_SSE || talk == TALK_SSE_JSON)
        session_push(&c->s, SLICE(": prelude\n\n"), SLICE_NONE);
    if (session_open(&c->s, req, (size_t)cl->n_order))
        world_fail(w, "session_open failed");
}

/* Bytes arrive and are read. */
static inline void client_read(struct client *cl, size_t n)
{
    n = n < cl->net.len ? n : cl->net.len;
    if (!unpack_feed(&cl->unpack, slice_of(cl->net.data, n), &cl->rx))
        world_fail(cl->w, "the stream is not coded as it says");
    buf_consume(&cl->net, n);
    bool is_ws = cl->talk == TALK_JSON || cl->talk == TALK_RAW;
    while (is_ws ? read_one_frame(cl) : read_one_event(cl))
        ;
    if (cl->open && !cl->conn && !cl->net.len)
        client_ended(cl);
}

static inline void client_unblock(struct client *cl)
{
    if (cl->conn && cl->conn->blocked) {
        cl->conn->blocked = false;
        session_mark_dirty(&cl->conn->s);
    }
}

/* --- commands --- */

static inline bool client_may_command(const struct client *cl)
{
    return cl->conn && cl->open && cl->talk == TALK_JSON && cl->n_pending < PENDING_MAX &&
           cl->conn->s.state == SESSION_OPEN && session_wants_reading(&cl->conn->s);
}

static inline void client_send(struct client *cl, struct command cmd, struct buf *b)
{
    buf_printf(b, ",\"channel\":\"%s\",\"ref\":%u}", channel_name[cmd.channel], cmd.ref);
    BUG_ON(b->failed);
    cl->pending[cl->n_pending++] = cmd;
    struct session *s = &cl->conn->s;
    s->dialect->received(s, false, buf_slice(b));
}

static inline void client_subscribe(struct client *cl, int c)
{
    struct command cmd = {.ref = ++cl->next_ref, .what = CMD_SUBSCRIBE, .channel = c};
    struct listening *l = &cl->ch[c];
    struct buf b;
    buf_init(&b, 4096);
    buf_append_str(&b, "{\"op\":\"subscribe\"");
    /* Who asks to go on while messages of before may still come asks for doubles. */
    if (l->id.epoch && !l->on && !is_pending(cl, c) && !one_in(cl->w, 4)) {
        cmd.asked = l->id;
        buf_append_str(&b, ",\"since\":\"");
        cursor_append(&b, cursor_tag(slice_str(channel_name[c])), l->id);
        buf_append_char(&b, '"');
    } else if (one_in(cl->w, 2)) {
        buf_printf(&b, ",\"history\":%u", chance(cl->w, 300));
    }
    l->wanted = true;
    client_send(cl, cmd, &b);
    buf_release(&b);
}

static inline void client_unsubscribe(struct client *cl, int c)
{
    struct command cmd = {.ref = ++cl->next_ref, .what = CMD_UNSUBSCRIBE, .channel = c};
    struct buf b;
    buf_init(&b, 4096);
    buf_append_str(&b, "{\"op\":\"unsubscribe\"");
    cl->ch[c].wanted = false;
    client_send(cl, cmd, &b);
    buf_release(&b);
}

/* With a key; when the answer was lost, the same again. */
static inline void client_publish(struct client *cl, int c)
{
    struct command cmd = {.ref = ++cl->next_ref, .what = CMD_PUBLISH};
    struct buf b;
    for (unsigned i = 0; i < cl->n_pending; i++)
        if (cl->pending[i].what == CMD_PUBLISH)
            return;
    if (!cl->unsure_uid) {
        cl->unsure_uid = ++cl->w->next_uid;
        cl->unsure_channel = c;
    }
    cmd.channel = cl->unsure_channel;
    buf_init(&b, 4096);
    buf_printf(&b, "{\"op\":\"publish\",\"data\":{\"n\":%u},\"key\":\"k%u\"", cl->unsure_uid,
               cl->unsure_uid);
    client_send(cl, cmd, &b);
    buf_release(&b);
}

static inline void client_command(struct client *cl)
{
    if (!client_may_command(cl))
        return;
    int c = (int)chance(cl->w, CHANNELS);
    if (one_in(cl->w, 3))
        client_publish(cl, c);
    else if (cl->single)
        return;
    else if (cl->ch[c].wanted)
        client_unsubscribe(cl, c);
    else
        client_subscribe(cl, c);
}

#endif
