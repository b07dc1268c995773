/* redis_lua.h - what Redis does with the scripts of src/bus/redis_scripts.c, in C, line by line: a
 * change there is a change here. All that is ordered goes into the tree of redis_truth.h.
 */
#ifndef CRIER_TESTS_REDIS_LUA_H
#define CRIER_TESTS_REDIS_LUA_H

#include "redis_server.h"

/* redis_pushes.h */
static void client_publish(struct world *w, int life, struct slice channel, struct slice payload);

/* --- arguments --- */

static inline struct slice argv_at(const struct command *c, unsigned i)
{
    return c->n_keys + i <= c->n_args ? c->arg[c->n_keys + i - 1] : SLICE_NONE;
}

static inline uint64_t argv_u64(struct world *w, const struct command *c, unsigned i)
{
    uint64_t v = 0;
    if (slice_to_u64(argv_at(c, i), UINT64_MAX, &v))
        world_fail(w, "argument %u is no number", i);
    return v;
}

/* "sim:{NAME}SUFFIX" */
static inline int channel_of_key(struct world *w, struct slice key, const char *suffix)
{
    struct slice start = SLICE(PREFIX "{"), end = slice_str(suffix), name = key;
    int channel = -1;
    if (slice_starts_with(key, start) && slice_split(&name, '}', &key) && slice_eq(name, end))
        channel = channel_index(slice_of(key.ptr + start.len, key.len - start.len));
    if (channel < 0)
        world_fail(w, "a key that no channel has (%s)", suffix);
    return channel < 0 ? 0 : channel;
}

static inline void check_pubsub(struct world *w, struct slice verb, struct slice name, int channel)
{
    if (!slice_eq(verb, SLICE("PUBLISH")) || channel_of_key(w, name, "") != channel)
        world_fail(w, "%s is published elsewhere", channel_name[channel]);
}

/* --- LUA_COUNT_OLD and LUA_WITNESS --- */

static inline size_t lua_old(const struct world *w, int channel, const struct stream *s,
                             uint64_t age)
{
    size_t n = 0;
    while (n < s->n) {
        const struct node *m =
            truth_node(&w->truth[channel], (struct place){s->entry[n].branch, s->entry[n].offset});
        if (m->time_ms + age > server_now(w))
            break;
        n++;
    }
    return n;
}

static inline void lua_end_epoch(struct world *w, int channel, struct shelf *s,
                                 const struct command *c, bool lost, bool unaware)
{
    struct meta *m = &s->meta;
    const struct slice server = argv_at(c, 1);
    const uint64_t fresh = argv_u64(w, c, 2);
    int parent = truth_branch(&w->truth[channel], m->epoch);
    m->line[m->n_line++] = (struct ended){m->epoch, m->offset, lost, unaware};
    if (m->n_line > 32) {
        size_t n = 0;
        while (n < s->stream.n && s->stream.entry[n].offset <= m->line[0].last)
            n++;
        if (c->n_keys > 1)
            stream_drop_first(&s->stream, n);
        memmove(m->line, m->line + 1, (size_t)--m->n_line * sizeof m->line[0]);
    }
    (void)truth_grow(&w->truth[channel], (uint32_t)fresh, parent, m->offset, w->tick);
    m->epoch = (uint32_t)fresh;
    snprintf(m->server, sizeof m->server, "%.*s", (int)server.len, server.ptr);
}

static inline void lua_mark(struct meta *m, int i)
{
    m->line[i].lost = true;
    while (++i < m->n_line)
        m->line[i].unaware = true;
}

/* "EPOCH:OFFSET" */
static inline struct position known_at(struct world *w, struct slice text)
{
    struct slice epoch;
    uint64_t e = 0, at = 0;
    if (!slice_split(&text, ':', &epoch) || slice_to_u64(epoch, CURSOR_EPOCH_MAX, &e) || !e ||
        slice_to_u64(text, UINT64_MAX, &at))
        world_fail(w, "what is known is no position");
    return (struct position){.epoch = (uint32_t)e, .offset = at};
}

/* True when a loss came to light. */
static inline bool lua_witness(struct world *w, int channel, struct shelf *s,
                               const struct command *c)
{
    struct meta *m = &s->meta;
    struct slice known = argv_at(c, 9), one;
    while (slice_split(&known, ' ', &one)) {
        if (!one.len)
            continue;
        const struct position p = known_at(w, one);
        if (p.epoch == m->epoch) {
            if (p.offset <= m->offset)
                return false;
            lua_end_epoch(w, channel, s, c, true, false);
            return true;
        }
        for (int i = 0; i < m->n_line; i++) {
            if (m->line[i].epoch != p.epoch)
                continue;
            if (m->line[i].lost || p.offset <= m->line[i].last)
                return false;
            lua_mark(m, i);
            lua_end_epoch(w, channel, s, c, false, true);
            return true;
        }
    }
    return false;
}

/* --- publish --- */

static inline uint32_t uid_of(struct slice payload)
{
    char text[16] = "";
    memcpy(text, payload.ptr, payload.len < 15 ? payload.len : 15);
    unsigned uid = 0;
    return sscanf(text, "n%u ", &uid) == 1 ? uid : 0;
}

static inline uint32_t uid_of_body(struct slice body)
{
    struct slice head;
    return slice_split(&body, '\n', &head) ? uid_of(body) : 0;
}

static inline struct key *find_key(struct meta *m, struct slice name)
{
    for (size_t i = 0; name.len && i < m->n_keys; i++)
        if (slice_eq(name, slice_str(m->key[i].name)))
            return &m->key[i];
    return NULL;
}

/* True when the key is known, and answered. */
static inline bool lua_seen(struct world *w, struct meta *m, const struct command *c,
                            struct buf *out)
{
    const struct key *k = find_key(m, argv_at(c, 12));
    struct buf text;
    if (!k || k->since + argv_u64(w, c, 10) <= server_now(w))
        return false;
    buf_init(&text, 200);
    if (slice_eq(slice_str(k->digest), argv_at(c, 13)))
        buf_printf(&text, "repeated %s", k->at);
    else
        buf_append_str(&text, "conflict");
    reply_bulk(out, buf_slice(&text));
    buf_release(&text);
    return true;
}

/* The epoch that the next message is of; *before is the one of the message before it. */
static inline void lua_order(struct world *w, int life, int channel, const struct command *c,
                             uint32_t *before)
{
    struct shelf *s = &w->life[life].shelf[channel];
    struct meta *m = &s->meta;
    uint64_t fresh = argv_u64(w, c, 2);
    if (!m->has_order) {
        meta_delete(m);
        *m = (struct meta){.exists = true, .has_order = true, .epoch = (uint32_t)fresh};
        stream_delete(&s->stream);
        snprintf(m->server, sizeof m->server, "%.*s", (int)argv_at(c, 1).len, argv_at(c, 1).ptr);
        (void)truth_grow(&w->truth[channel], m->epoch, -1, 0, w->tick);
        *before = m->epoch;
        return;
    }
    if (lua_witness(w, channel, s, c))
        client_publish(w, life, argv_at(c, 7), SLICE("lost"));
    *before = m->epoch;
    if (!slice_eq(slice_str(m->server), argv_at(c, 1)) && m->epoch != fresh)
        lua_end_epoch(w, channel, s, c, false, false);
}

static inline void stream_add(struct stream *s, struct place at, uint64_t keep)
{
    s->exists = true;
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->entry = realloc(s->entry, s->cap * sizeof *s->entry);
        BUG_ON(!s->entry);
    }
    s->entry[s->n++] = (struct entry){at.branch, at.offset};
    s->last_id = at.offset;
    if (s->n > keep)
        stream_drop_first(s, s->n - (size_t)keep);
}

/* LUA_FORGET_KEYS; no other field is as many as the six that there are. */
static inline void lua_forget_keys(struct world *w, struct meta *m, const struct command *c)
{
    uint64_t age = argv_u64(w, c, 10), most = argv_u64(w, c, 11);
    size_t n = 0;
    while (n < m->n_keys && m->key[n].since + age <= server_now(w))
        n++;
    keys_drop(m, 0, n);
    if (m->n_keys > most)
        keys_drop(m, 0, m->n_keys - (size_t)(most * 3 / 4));
}

static inline void lua_care(struct world *w, struct shelf *s, int channel, const struct command *c)
{
    uint64_t age = argv_u64(w, c, 4), rest = argv_u64(w, c, 5);
    uint64_t now = server_now(w), span = (age > 0 && age < rest ? age : rest) / 8;
    if (now < s->meta.care && s->meta.care <= now + span)
        return;
    if (c->n_keys > 1) {
        stream_drop_first(&s->stream, lua_old(w, channel, &s->stream, age));
        s->stream.expire_ms = now + age + 2 * span + 1000;
    }
    s->meta.care = now + span;
    s->meta.expire_ms = now + rest;
    lua_forget_keys(w, &s->meta, c);
}

static inline void lua_remember(struct world *w, struct meta *m, const struct command *c,
                                struct slice at)
{
    struct key *k = find_key(m, argv_at(c, 12));
    if (!argv_at(c, 12).len)
        return;
    if (k)
        keys_drop(m, (size_t)(k - m->key), 1);
    m->key = realloc(m->key, (m->n_keys + 1) * sizeof *m->key);
    BUG_ON(!m->key);
    m->key[m->n_keys++] = (struct key){.name = slice_dup(argv_at(c, 12)),
                                       .digest = slice_dup(argv_at(c, 13)),
                                       .at = slice_dup(at),
                                       .since = server_now(w)};
    if (m->n_keys > argv_u64(w, c, 11) + 1)
        lua_forget_keys(w, m, c);
}

static inline bool lua_begins_with(struct slice known, uint32_t epoch)
{
    struct slice first;
    uint64_t e;
    return slice_split(&known, ':', &first) && !slice_to_u64(first, UINT64_MAX, &e) && e == epoch;
}

static inline void append_line(const struct meta *m, struct buf *out)
{
    for (int i = 0; i < m->n_line; i++)
        buf_printf(out, "%u:%" PRIu64 "%s%s ", m->line[i].epoch, m->line[i].last,
                   m->line[i].lost ? "!" : "", m->line[i].unaware ? "?" : "");
}

static inline void server_publish(struct world *w, int life, const struct command *c,
                                  struct buf *out)
{
    int channel = channel_of_key(w, c->arg[0], ":m");
    struct shelf *s = &w->life[life].shelf[channel];
    struct meta *m = &s->meta;
    uint32_t before;
    struct buf text;
    check_pubsub(w, argv_at(c, 6), argv_at(c, 7), channel);
    if (uid_of_body(argv_at(c, 8)) % 2 && !argv_at(c, 12).len) /* odd ones have a key */
        world_fail(w, "a publish has lost its key");
    if (lua_seen(w, m, c, out))
        return;
    lua_order(w, life, channel, c, &before);
    const uint64_t offset = m->offset + 1;
    m->time = m->time < server_now(w) ? server_now(w) : m->time;
    if (c->n_keys > 1 && s->stream.exists && offset <= s->stream.last_id) {
        world_fail(w, "the stream of %s is ahead of its order", channel_name[channel]);
        return;
    }
    buf_init(&text, 1 << 16);
    buf_printf(&text, "%u %" PRIu64, m->epoch, offset);
    size_t at = text.len;
    buf_printf(&text, " %" PRIu64 " %u", m->time, before);
    size_t head = text.len;
    buf_append_char(&text, ' ');
    buf_append(&text, argv_at(c, 8));
    struct place p = truth_add(&w->truth[channel], truth_branch(&w->truth[channel], m->epoch),
                               buf_slice(&text), uid_of_body(argv_at(c, 8)), m->time, w->tick);
    BUG_ON(p.offset != offset);
    m->offset = offset;
    if (c->n_keys > 1)
        stream_add(&s->stream, p, argv_u64(w, c, 3));
    lua_care(w, s, channel, c);
    lua_remember(w, m, c, slice_of(text.data, at));
    client_publish(w, life, argv_at(c, 7), buf_slice(&text));
    trace(w, "L%d %s ordered %.*s", life, channel_name[channel], (int)head, text.data);
    text.len = head;
    if (m->n_line && !lua_begins_with(argv_at(c, 9), m->epoch)) {
        buf_append_char(&text, ' ');
        append_line(m, &text);
    }
    reply_bulk(out, buf_slice(&text));
    buf_release(&text);
}

/* --- read, clear, describe --- */

static inline void reply_entry(const struct world *w, int channel, const struct entry *e,
                               struct buf *out)
{
    const struct node *m = truth_node(&w->truth[channel], (struct place){e->branch, e->offset});
    char id[32];
    snprintf(id, sizeof id, "%" PRIu64 "-0", e->offset);
    buf_append_str(out, "*2\r\n");
    reply_bulk(out, slice_str(id));
    buf_append_str(out, "*2\r\n$1\r\nm\r\n");
    reply_bulk(out, slice_of(m->text, m->len));
}

static inline void reply_range(struct world *w, int channel, const struct stream *s,
                               const struct command *c, struct buf *out)
{
    bool back = slice_eq(argv_at(c, 4), SLICE("b")), any = slice_eq(argv_at(c, 4), SLICE("-"));
    bool newest = slice_eq(argv_at(c, 5), SLICE("+"));
    uint64_t id = any || newest ? 0 : argv_u64(w, c, 5), count = argv_u64(w, c, 6);
    size_t from = 0, to = s->n; /* [from, to) */
    if (back)
        while (!newest && to > 0 && s->entry[to - 1].offset > id)
            to--;
    else
        while (from < to && s->entry[from].offset < id)
            from++;
    if (any)
        to = from;
    if (to - from > count && back)
        from = to - (size_t)count;
    else if (to - from > count)
        to = from + (size_t)count;
    buf_printf(out, "*%zu\r\n", to - from);
    for (size_t i = from; i < to; i++)
        reply_entry(w, channel, &s->entry[back ? to - 1 - (i - from) : i], out);
}

static inline void reply_line(const struct world *w, const struct meta *m, struct buf *out)
{
    struct buf line;
    buf_init(&line, 4096);
    append_line(m, &line);
    reply_bulk(out, buf_slice(&line));
    trace(w, "after %.*s", (int)line.len, line.len ? line.data : "");
    buf_release(&line);
}

static inline void server_read(struct world *w, int life, const struct command *c, struct buf *out)
{
    int channel = channel_of_key(w, c->arg[0], ":m");
    struct shelf *s = &w->life[life].shelf[channel];
    struct meta *m = &s->meta;
    uint64_t fresh = argv_u64(w, c, 2);
    bool lost = false;
    check_pubsub(w, argv_at(c, 7), argv_at(c, 8), channel);
    if (!m->has_order) {
        stream_delete(&s->stream);
        meta_delete(m);
        *m = (struct meta){.exists = true,
                           .has_order = true,
                           .epoch = (uint32_t)fresh,
                           .expire_ms = server_now(w) + argv_u64(w, c, 3)};
        snprintf(m->server, sizeof m->server, "%.*s", (int)argv_at(c, 1).len, argv_at(c, 1).ptr);
        (void)truth_grow(&w->truth[channel], m->epoch, -1, 0, w->tick);
    } else {
        lost = lua_witness(w, channel, s, c);
    }
    if (lost)
        client_publish(w, life, argv_at(c, 8), SLICE("lost"));
    buf_append_str(out, "*5\r\n");
    reply_text_u64(out, m->epoch);
    reply_text_u64(out, m->offset);
    reply_line(w, m, out);
    reply_text_u64(out, server_now(w));
    reply_range(w, channel, &s->stream, c, out);
    trace(w, "L%d %s read %.*s %.*s: at %u %" PRIu64 ", %zu kept%s", life, channel_name[channel],
          (int)argv_at(c, 4).len, argv_at(c, 4).ptr, (int)argv_at(c, 5).len, argv_at(c, 5).ptr,
          m->epoch, m->offset, s->stream.n, lost ? ", a loss" : "");
}

static inline void server_clear(struct world *w, int life, const struct command *c, struct buf *out)
{
    int channel = channel_of_key(w, c->arg[0], ":m");
    struct shelf *s = &w->life[life].shelf[channel];
    size_t n = s->stream.n;
    char notice[48];
    check_pubsub(w, argv_at(c, 1), argv_at(c, 2), channel);
    snprintf(notice, sizeof notice, "clear %u %" PRIu64, s->meta.epoch, s->meta.offset);
    if (n > 0) {
        stream_delete(&s->stream);
        s->meta.care = 0;
        client_publish(w, life, argv_at(c, 2), slice_str(notice));
    }
    trace(w, "L%d %s cleared %zu", life, channel_name[channel], n);
    buf_printf(out, "*2\r\n:%zu\r\n", n);
    reply_bulk(out, slice_str(notice));
}

static inline void server_describe(struct world *w, int life, const struct command *c,
                                   struct buf *out)
{
    int channel = channel_of_key(w, c->arg[0], ":m");
    const struct shelf *s = &w->life[life].shelf[channel];
    if (!s->meta.has_order) {
        buf_append_str(out, "*3\r\n$1\r\n0\r\n$1\r\n0\r\n:0\r\n");
        return;
    }
    buf_append_str(out, "*3\r\n");
    reply_text_u64(out, s->meta.epoch);
    reply_text_u64(out, s->meta.offset);
    buf_printf(out, ":%zu\r\n", s->stream.n - lua_old(w, channel, &s->stream, argv_u64(w, c, 1)));
}

/* --- who is where --- */

static inline struct instance *instance_of(struct world *w, int life, struct slice id)
{
    struct instance *spare = NULL;
    for (int i = 0; i < INSTANCES; i++) {
        struct instance *it = &w->life[life].instance[i];
        if (it->expire_ms && server_now(w) > it->expire_ms)
            *it = (struct instance){.alive = false};
        if (slice_eq(id, slice_str(it->id)))
            return it;
        if (!it->id[0] && !spare)
            spare = it;
    }
    BUG_ON(!spare);
    snprintf(spare->id, sizeof spare->id, "%.*s", (int)id.len, id.ptr);
    return spare;
}

static inline void server_tell(struct world *w, int life, const struct command *c, struct buf *out)
{
    struct slice id = c->arg[0];
    id = slice_of(id.ptr + id.len - 16, 16);
    struct instance *it = instance_of(w, life, id);
    for (unsigned i = 2; c->n_keys + i < c->n_args; i += 2) {
        int channel = channel_index(argv_at(c, i));
        BUG_ON(channel < 0);
        it->count[channel] = (uint32_t)argv_u64(w, c, i + 1);
    }
    it->expire_ms = server_now(w) + argv_u64(w, c, 1);
    buf_printf(out, ":%u\r\n", c->n_args - c->n_keys);
}

static inline void server_beat(struct world *w, int life, const struct command *c, struct buf *out)
{
    struct instance *it = instance_of(w, life, argv_at(c, 1));
    bool known = it->alive && it->score + argv_u64(w, c, 2) > server_now(w);
    int told = 0;
    it->alive = true;
    it->score = server_now(w);
    it->expire_ms = server_now(w) + argv_u64(w, c, 2);
    if (argv_u64(w, c, 3))
        memset(it->count, 0, sizeof it->count);
    for (int i = 0; i < CHANNELS; i++)
        told += it->count[i] > 0;
    buf_printf(out, ":%d\r\n", known ? told : -1 - told);
}

static inline uint32_t count_others(struct world *w, int life, const struct command *c, int channel)
{
    uint32_t n = 0;
    for (int i = 0; i < INSTANCES; i++) {
        const struct instance *it = &w->life[life].instance[i];
        if (it->alive && it->score + argv_u64(w, c, 3) > server_now(w) &&
            !slice_eq(slice_str(it->id), argv_at(c, 2)))
            n += it->count[channel];
    }
    return n;
}

static inline void server_count(struct world *w, int life, const struct command *c, struct buf *out)
{
    buf_printf(out, "*%u\r\n", c->n_args - c->n_keys - 3);
    for (unsigned i = 4; c->n_keys + i <= c->n_args; i++)
        buf_printf(out, ":%u\r\n", count_others(w, life, c, channel_index(argv_at(c, i))));
}

/* Asked for all channels only. */
static inline void server_list(struct world *w, int life, const struct command *c, struct buf *out)
{
    unsigned n = 0;
    for (int i = 0; i < CHANNELS; i++)
        n += count_others(w, life, c, i) > 0;
    buf_printf(out, "*%u\r\n", 2 * n);
    for (int i = 0; i < CHANNELS; i++) {
        uint32_t count = count_others(w, life, c, i);
        if (!count)
            continue;
        reply_bulk(out, slice_str(channel_name[i]));
        buf_printf(out, ":%u\r\n", count);
    }
}

/* "PEXPIRE META AGE", the one command that is no script. */
static inline void server_pexpire(struct world *w, int life, const struct command *c,
                                  struct buf *out)
{
    uint64_t age;
    if (c->n_args != 3 || !slice_eq(c->arg[0], SLICE("PEXPIRE")) ||
        slice_to_u64(c->arg[2], UINT64_MAX, &age)) {
        world_fail(w, "a command that was not expected");
        return;
    }
    struct meta *m = &w->life[life].shelf[channel_of_key(w, c->arg[1], ":m")].meta;
    if (m->exists)
        m->expire_ms = server_now(w) + age;
    buf_printf(out, ":%d\r\n", m->exists);
}

/* --- carrying out --- */

static inline void server_execute(struct world *w, int life, struct command *c)
{
    static const struct {
        const struct redis_script *script;
        void (*run)(struct world *w, int life, const struct command *c, struct buf *out);
    } table[] = {{NULL, server_pexpire},
                 {&script_publish, server_publish},
                 {&script_read, server_read},
                 {&script_clear, server_clear},
                 {&script_describe, server_describe},
                 {&script_tell, server_tell},
                 {&script_beat, server_beat},
                 {&script_count, server_count},
                 {&script_list, server_list}};
    BUG_ON(c->executed || !w->life[life].serving);
    w->tick++;
    for (int i = 0; i < CHANNELS; i++) {
        shelf_expire(w, &w->life[life].shelf[i]);
        shelf_note(w, &w->life[life].shelf[i], i);
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].script == c->script)
            table[i].run(w, life, c, &c->reply);
    c->executed = true;
    for (int i = 0; i < CHANNELS; i++)
        shelf_note(w, &w->life[life].shelf[i], i);
}

#endif
