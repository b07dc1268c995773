/* tail.c - the recent tail of one channel.
 *
 * A ring that grows by doubling up to the count the namespace allows. Offsets are implied: entry i
 * is message head - count + 1 + i. The ring is given back as soon as nothing is kept, because most
 * channels are quiet most of the time.
 *
 * Does not order: whoever appends has decided the offset.
 */
#include "tail.h"

#include <stdlib.h>

#define RING_MIN 4

void tail_init(struct tail *s, struct position head)
{
    *s = (struct tail){.head = head};
}

void tail_release(struct tail *s)
{
    (void)tail_clear(s);
    free(s->line);
    s->line = NULL;
}

static struct tail_entry *entry_at(const struct tail *s, uint32_t i)
{
    return &s->ring[(s->first + i) & (s->capacity - 1)];
}

static void drop_oldest(struct tail *s)
{
    msg_unref(entry_at(s, 0)->msg);
    s->first = (s->first + 1) & (s->capacity - 1);
    s->count--;
}

static void free_ring_if_empty(struct tail *s)
{
    if (s->count > 0)
        return;
    free(s->ring);
    s->ring = NULL;
    s->capacity = s->first = 0;
}

static bool try_grow(struct tail *s)
{
    uint32_t capacity = s->capacity ? 2 * s->capacity : RING_MIN;
    if (capacity < s->capacity)
        return false;
    struct tail_entry *ring = calloc(capacity, sizeof *ring);
    if (!ring)
        return false;
    for (uint32_t i = 0; i < s->count; i++)
        ring[i] = *entry_at(s, i);
    free(s->ring);
    s->ring = ring;
    s->capacity = capacity;
    s->first = 0;
    return true;
}

void tail_append(struct tail *s, struct msg *m, uint32_t max_messages, uint64_t now_ms)
{
    /* what is kept ends at head without a hole, else finding by subtraction is wrong */
    if (s->count && (m->pos.epoch != s->head.epoch || m->pos.offset != s->head.offset + 1))
        (void)tail_clear(s);
    s->head = m->pos;
    while (s->count && s->count >= max_messages)
        drop_oldest(s);
    if (max_messages > 0 && s->count == s->capacity && !try_grow(s) && s->count > 0)
        drop_oldest(s);
    if (max_messages > 0 && s->count < s->capacity) {
        s->count++;
        *entry_at(s, s->count - 1) = (struct tail_entry){.msg = msg_ref(m), .at_ms = now_ms};
    }
    free_ring_if_empty(s);
}

bool tail_prepend(struct tail *s, struct msg *m, uint64_t at_ms)
{
    BUG_ON(m->pos.offset != s->head.offset - s->count);
    if (s->count == s->capacity && !try_grow(s))
        return false;
    s->first = (s->first - 1) & (s->capacity - 1);
    s->count++;
    *entry_at(s, 0) = (struct tail_entry){.msg = msg_ref(m), .at_ms = at_ms};
    return true;
}

void tail_new_epoch(struct tail *s, uint32_t epoch)
{
    if (!s->line)
        s->line = calloc(1, sizeof *s->line);
    /* Who gets a message of an epoch that is forgotten could not go on from there. */
    if (s->line && s->line->count == LINEAGE_MAX)
        tail_drop_to(s, s->line->ended[0].offset);
    if (s->line) /* else the old epoch is forgotten: a gap too many is said, none too few */
        lineage_add(s->line, s->head, 0);
    s->head.epoch = epoch;
}

void tail_reset(struct tail *s, struct position head, const struct lineage *line)
{
    tail_release(s);
    s->head = head;
    if (line->count || line->n_strays)
        s->line = malloc(sizeof *s->line);
    if (s->line)
        *s->line = *line;
}

static bool is_known(const struct tail *s, uint32_t epoch)
{
    uint64_t last;
    return epoch == s->head.epoch || (s->line && lineage_find(s->line, epoch, &last));
}

void tail_adopt(struct tail *s, const struct tail *order)
{
    BUG_ON(s->head.offset != order->head.offset);
    struct lineage strays = {.n_strays = 0};
    if (s->line)
        strays = *s->line;
    if (!s->line && order->line)
        s->line = malloc(sizeof *s->line);
    if (!s->line && order->line)
        return; /* no memory: it is told again rather than not */
    s->head.epoch = order->head.epoch;
    if (s->line) {
        *s->line = order->line ? *order->line : (struct lineage){.count = 0};
        s->line->n_strays = strays.n_strays;
        memcpy(s->line->stray, strays.stray, sizeof strays.stray);
    }
    while (s->count && !is_known(s, entry_at(s, 0)->msg->pos.epoch))
        drop_oldest(s); /* who gets it could not go on from there */
    free_ring_if_empty(s);
}

struct position tail_position(const struct tail *s, uint64_t offset)
{
    uint32_t epoch = s->head.epoch;
    if (s->line)
        epoch = lineage_epoch_at(s->line, offset, epoch);
    return (struct position){.epoch = epoch, .offset = offset};
}

struct position tail_position_before_next(const struct tail *s, uint64_t offset)
{
    uint32_t epoch = s->head.epoch;
    if (s->line && offset < UINT64_MAX)
        epoch = lineage_epoch_at(s->line, offset + 1, epoch);
    return (struct position){.epoch = epoch, .offset = offset};
}

/* What a position of an epoch that is gone is in this order. */
static struct position in_order(const struct tail *s, struct position p)
{
    uint64_t last;
    if (!s->line || !lineage_is_stray(s->line, p.epoch, &last))
        return p;
    return tail_position(s, p.offset < last ? p.offset : last);
}

enum gap_reason tail_judge(const struct tail *s, struct position p, struct position *common)
{
    uint64_t last = s->head.offset;
    struct position loss;
    *common = p;
    if (p.epoch != s->head.epoch && !(s->line && lineage_find(s->line, p.epoch, &last))) {
        *common = (struct position){0};
        return GAP_EPOCH;
    }
    if (p.offset > last) {
        common->offset = last;
        return p.epoch == s->head.epoch ? GAP_AHEAD : GAP_EPOCH;
    }
    if (!s->line)
        return GAP_NONE;
    p = in_order(s, p);
    return lineage_is_loss(s->line, p) || lineage_is_unaware(s->line, p, &loss) ? GAP_EPOCH
                                                                                : GAP_NONE;
}

struct position tail_loss_before(const struct tail *s, struct position p)
{
    struct position loss;
    return s->line && lineage_is_unaware(s->line, in_order(s, p), &loss) ? loss : p;
}

void tail_expire(struct tail *s, uint64_t up_to_ms)
{
    while (s->count && entry_at(s, 0)->at_ms <= up_to_ms)
        drop_oldest(s);
    free_ring_if_empty(s);
}

uint32_t tail_clear(struct tail *s)
{
    uint32_t removed = s->count;
    while (s->count)
        drop_oldest(s);
    free_ring_if_empty(s);
    return removed;
}

void tail_drop_to(struct tail *s, uint64_t offset)
{
    while (s->count && s->head.offset - s->count < offset)
        drop_oldest(s);
    free_ring_if_empty(s);
}

uint64_t tail_oldest_ms(const struct tail *s)
{
    BUG_ON(s->count == 0);
    return entry_at(s, 0)->at_ms;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Where a catch-up begins: the offset before its first message, and the gap if there is one. */
static uint64_t forward_start(const struct tail *s, struct catch_up *cu)
{
    const uint64_t head = s->head.offset, before_oldest = head - s->count;
    if (cu->from == FROM_NOW)
        return head;
    if (cu->from == FROM_LAST_N)
        return head - min_u32(s->count, cu->last_n);
    struct position common;
    cu->gap = tail_judge(s, cu->since, &common);
    if (cu->gap == GAP_NONE && common.offset < before_oldest)
        cu->gap = GAP_EXPIRED;
    if (cu->gap == GAP_EPOCH)
        cu->since = tail_loss_before(s, cu->since);
    /* What was received before the orders parted is not given again. */
    return common.epoch && common.offset > before_oldest ? common.offset : before_oldest;
}

/* Reading back ends where nothing is kept any more; that is no gap, the reader has lost nothing. */
static uint64_t reverse_start(const struct tail *s, struct catch_up *cu)
{
    const uint64_t end = s->head.offset + 1;
    if (cu->from != FROM_POSITION)
        return end;
    struct position common, last = cu->since;
    if (last.offset)
        last.offset--; /* the bound itself is excluded, and may be the one after the newest */
    cu->gap = tail_judge(s, last, &common);
    return cu->gap == GAP_NONE ? cu->since.offset : end;
}

/* Messages of the ring to walk: indexes first, first + step, … */
struct walk {
    uint32_t first, step, count;
};

static struct walk walk_forward(const struct tail *s, const struct catch_up *cu)
{
    uint32_t first = (uint32_t)(cu->start.offset - (s->head.offset - s->count));
    return (struct walk){.first = first, .step = 1, .count = s->count - first};
}

static struct walk walk_back(const struct tail *s, const struct catch_up *cu)
{
    const uint64_t oldest = s->head.offset - s->count + 1;
    uint32_t n = cu->start.offset > oldest ? (uint32_t)(cu->start.offset - oldest) : 0;
    struct walk w = {.first = n - 1, .step = UINT32_MAX /* -1 modulo 2^32 */, .count = n};
    if (cu->from == FROM_LAST_N)
        w.count = min_u32(n, cu->last_n);
    return w;
}

/* A page ends where something is lost, and the next one says so. True when this one does. */
static bool stop_at_loss(const struct tail *s, struct walk *w)
{
    const uint64_t from = s->head.offset - s->count + 1 + w->first;
    uint64_t loss = s->line ? lineage_next_loss(s->line, from) : UINT64_MAX;
    if (loss > s->head.offset)
        return false;
    w->count = (uint32_t)(loss - from + 1);
    return true;
}

/* How many messages of the walk may stand in the page. */
static uint32_t page_size(const struct tail *s, const struct catch_up *cu, struct walk w)
{
    size_t bytes = 0;
    uint32_t n = 0, max = min_u32(w.count, cu->max_messages ? cu->max_messages : 1);
    for (uint32_t i = w.first; n < max; n++, i += w.step) {
        size_t len = entry_at(s, i)->msg->payload.len;
        if (n > 0 && (len > cu->max_bytes || bytes > cu->max_bytes - len))
            break;
        bytes += len;
    }
    return n;
}

static enum err give(const struct tail *s, struct catch_up *cu, struct walk w, uint32_t n)
{
    if (n == 0)
        return ERR_OK;
    cu->msgs = malloc(n * sizeof(struct msg *));
    if (!cu->msgs)
        return ERR_NOMEM;
    for (uint32_t i = w.first; cu->count < n; i += w.step)
        cu->msgs[cu->count++] = msg_ref(entry_at(s, i)->msg);
    return ERR_OK;
}

/* Who has a past knows whether it was told of its losses. Who is told now knows of all that there
 * are: it stands in the newest epoch, or it would be told again when it comes back from there. */
static struct position start_position(const struct tail *s, const struct catch_up *cu,
                                      uint64_t start)
{
    if (cu->gap)
        return (struct position){.epoch = s->head.epoch, .offset = start};
    return cu->from == FROM_POSITION ? cu->since : tail_position_before_next(s, start);
}

enum err tail_catch_up(const struct tail *s, struct catch_up *cu, bool reverse)
{
    cu->head = s->head;
    cu->gap = GAP_NONE;
    cu->msgs = NULL;
    cu->count = 0;
    uint64_t start = reverse ? reverse_start(s, cu) : forward_start(s, cu);
    cu->start = start_position(s, cu, start);
    if (cu->gap == GAP_EXPIRED)
        cu->lost_to = cu->start;
    struct walk w = reverse ? walk_back(s, cu) : walk_forward(s, cu);
    bool stops = !reverse && stop_at_loss(s, &w);
    uint32_t n = page_size(s, cu, w);
    cu->complete = n == w.count && !stops;
    return give(s, cu, w, n);
}
