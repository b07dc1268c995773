/* redis_server.h - what servers hold, and what befalls it: a replica takes over, a flush, an
 * eviction, age. What changes it otherwise is in redis_lua.h.
 *
 * Beside the data it keeps what the judge needs: of every life the orders it has had (runs).
 *
 * Not here: wrong types, streams that somebody else writes to, clocks that jump.
 */
#ifndef CRIER_TESTS_REDIS_SERVER_H
#define CRIER_TESTS_REDIS_SERVER_H

#include "redis_world.h"

/* A command as a link has taken it; the arguments are copied, as they are by writing them. */
struct command {
    struct list in_link;
    struct redis_call *call; /* borrowed; NULL once the client has given up */
    const struct redis_script *script;
    int life;
    uint64_t at_ms;
    bool executed;
    struct buf reply; /* RESP */
    uint32_t n_keys, n_args;
    struct slice arg[]; /* owned, with their bytes behind them */
};

/* --- replies --- */

static inline void reply_bulk(struct buf *b, struct slice s)
{
    buf_printf(b, "$%zu\r\n", s.len);
    buf_append(b, s);
    buf_append_str(b, "\r\n");
}

static inline void reply_text_u64(struct buf *b, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, v);
    reply_bulk(b, slice_str(text));
}

/* --- keys --- */

static inline uint64_t server_now(const struct world *w)
{
    return WALL + w->now_ms;
}

static inline void stream_delete(struct stream *s)
{
    free(s->entry);
    *s = (struct stream){0};
}

static inline void stream_drop_first(struct stream *s, size_t n)
{
    if (n > s->n)
        n = s->n;
    if (!n)
        return;
    memmove(s->entry, s->entry + n, (s->n - n) * sizeof *s->entry);
    s->n -= n;
}

static inline void keys_drop(struct meta *m, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        free(m->key[i].name);
        free(m->key[i].digest);
        free(m->key[i].at);
    }
    if (n)
        memmove(m->key + from, m->key + from + n, (m->n_keys - from - n) * sizeof *m->key);
    m->n_keys -= n;
}

static inline void meta_delete(struct meta *m)
{
    keys_drop(m, 0, m->n_keys);
    free(m->key);
    *m = (struct meta){.exists = false};
}

/* Redis expires a key before it is looked at. */
static inline void shelf_expire(const struct world *w, struct shelf *s)
{
    uint64_t now = server_now(w);
    if (s->meta.expire_ms && now > s->meta.expire_ms)
        meta_delete(&s->meta);
    if (s->stream.expire_ms && now > s->stream.expire_ms)
        stream_delete(&s->stream);
}

/* Of the present epoch, even when it has no message yet. */
static inline struct place shelf_head(const struct truth *t, const struct shelf *s)
{
    if (!s->meta.has_order)
        return NOWHERE;
    return (struct place){truth_branch(t, s->meta.epoch), s->meta.offset};
}

/* Writes down where the order of a channel is. */
static inline void shelf_note(struct world *w, struct shelf *s, int channel)
{
    const struct truth *t = &w->truth[channel];
    struct place head = shelf_head(t, s);
    struct run *r = s->n_runs ? &s->run[s->n_runs - 1] : NULL;
    if (r && r->to == UINT64_MAX) {
        if (truth_is_on(t, r->head, head)) {
            r->head = head;
            return;
        }
        r->to = w->tick;
    }
    if (head.branch < 0)
        return;
    s->run = realloc(s->run, (s->n_runs + 1) * sizeof *s->run);
    BUG_ON(!s->run);
    s->run[s->n_runs++] = (struct run){.from = w->tick, .to = UINT64_MAX, .head = head};
}

static inline void shelf_delete(struct shelf *s)
{
    meta_delete(&s->meta);
    stream_delete(&s->stream);
}

/* --- what befalls servers --- */

static inline void life_identity(struct world *w, struct life *f)
{
    snprintf(f->identity, sizeof f->identity, "%016" PRIx64, chance_u64(w));
}

static inline void life_release(struct life *f)
{
    for (int i = 0; i < CHANNELS; i++) {
        shelf_delete(&f->shelf[i]);
        free(f->shelf[i].run);
    }
    *f = (struct life){.serving = false};
}

/* The data alone. */
static inline void life_copy(const struct life *from, struct life *to)
{
    *to = (struct life){.serving = false};
    memcpy(to->instance, from->instance, sizeof to->instance);
    for (int i = 0; i < CHANNELS; i++) {
        const struct shelf *s = &from->shelf[i];
        struct shelf *d = &to->shelf[i];
        d->meta = s->meta;
        d->stream = s->stream;
        d->stream.cap = s->stream.n;
        d->stream.entry = s->stream.n ? malloc(s->stream.n * sizeof *s->stream.entry) : NULL;
        if (s->stream.n)
            memcpy(d->stream.entry, s->stream.entry, s->stream.n * sizeof *s->stream.entry);
        d->meta.key = s->meta.n_keys ? malloc(s->meta.n_keys * sizeof *s->meta.key) : NULL;
        for (size_t k = 0; k < s->meta.n_keys; k++) {
            const struct key *key = &s->meta.key[k];
            d->meta.key[k] = (struct key){.name = slice_dup(slice_str(key->name)),
                                          .digest = slice_dup(slice_str(key->digest)),
                                          .at = slice_dup(slice_str(key->at)),
                                          .since = key->since};
        }
    }
}

/* The replica has now all that the master has. */
static inline void world_replicate(struct world *w)
{
    life_release(&w->replica);
    life_copy(&w->life[w->master], &w->replica);
}

/* The replica takes over; the old master goes on for those who have not noticed. */
static inline bool world_promote(struct world *w)
{
    if (w->n_lives == LIVES)
        return false;
    struct life *f = &w->life[w->n_lives];
    w->tick++;
    life_copy(&w->replica, f);
    f->serving = true;
    life_identity(w, f);
    w->master = w->n_lives++;
    for (int i = 0; i < CHANNELS; i++)
        shelf_note(w, &f->shelf[i], i);
    trace(w, "L%d is the master", w->master);
    return true;
}

static inline void world_flush(struct world *w)
{
    struct life *f = &w->life[w->master];
    w->tick++;
    memset(f->instance, 0, sizeof f->instance);
    for (int i = 0; i < CHANNELS; i++) {
        shelf_delete(&f->shelf[i]);
        shelf_note(w, &f->shelf[i], i);
    }
    trace(w, "L%d flushed", w->master);
}

/* Memory is full: some keys of a channel go. */
static inline void world_evict(struct world *w, int channel, bool meta, bool stream)
{
    struct shelf *s = &w->life[w->master].shelf[channel];
    w->tick++;
    if (meta)
        meta_delete(&s->meta);
    if (stream)
        stream_delete(&s->stream);
    shelf_note(w, s, channel);
    trace(w, "L%d %s evicted:%s%s", w->master, channel_name[channel], meta ? " meta" : "",
          stream ? " stream" : "");
}

#endif
