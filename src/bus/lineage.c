/* lineage.c - the epochs that a channel's order has gone through.
 *
 * A short array: a server restarts rarely, and who has been away for more than LINEAGE_MAX restarts
 * is told of a gap that may not have been.
 */
#include "lineage.h"

bool lineage_find(const struct lineage *l, uint32_t epoch, uint64_t *last)
{
    for (uint32_t i = l->count; i-- > 0;) {
        if (l->ended[i].epoch == epoch) {
            *last = l->ended[i].offset;
            return true;
        }
    }
    return lineage_is_stray(l, epoch, last);
}

bool lineage_is_stray(const struct lineage *l, uint32_t epoch, uint64_t *last)
{
    for (uint32_t i = l->n_strays; i-- > 0;) {
        if (l->stray[i].epoch == epoch) {
            *last = l->stray[i].offset;
            return true;
        }
    }
    return false;
}

void lineage_add_stray(struct lineage *l, struct position common)
{
    if (l->n_strays == LINEAGE_STRAYS_MAX) {
        memmove(l->stray, l->stray + 1, (LINEAGE_STRAYS_MAX - 1) * sizeof l->stray[0]);
        l->n_strays--;
    }
    l->stray[l->n_strays++] = common;
}

bool lineage_is_loss(const struct lineage *l, struct position end)
{
    bool found = false;
    for (uint32_t i = 0; i < l->count; i++) {
        found = found || l->ended[i].epoch == end.epoch;
        if (found && l->mark[i] & LINEAGE_LOST && l->ended[i].offset == end.offset)
            return true; /* also of a later epoch that got no further */
    }
    return false;
}

uint64_t lineage_next_loss(const struct lineage *l, uint64_t offset)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (l->mark[i] & LINEAGE_LOST && l->ended[i].offset >= offset)
            return l->ended[i].offset;
    return UINT64_MAX;
}

static uint32_t index_of(const struct lineage *l, uint32_t epoch)
{
    uint32_t i = 0;
    while (i < l->count && l->ended[i].epoch != epoch)
        i++;
    return i;
}

/* The marks do not say which of several losses was found when: an unbroken run of unaware epochs is
 * taken back to the first loss that it can be about. So a loss may be told twice, but none never.
 */
bool lineage_is_unaware(const struct lineage *l, struct position p, struct position *loss)
{
    uint32_t i = index_of(l, p.epoch);
    if (i == l->count || !(l->mark[i] & LINEAGE_UNAWARE))
        return false;
    *loss = p;
    while (i > 0 && l->mark[i] & LINEAGE_UNAWARE)
        if (l->mark[--i] & LINEAGE_LOST)
            *loss = l->ended[i];
    return p.offset >= loss->offset;
}

void lineage_add(struct lineage *l, struct position end, uint8_t mark)
{
    if (l->count == LINEAGE_MAX) {
        memmove(l->ended, l->ended + 1, (LINEAGE_MAX - 1) * sizeof l->ended[0]);
        memmove(l->mark, l->mark + 1, (LINEAGE_MAX - 1) * sizeof l->mark[0]);
        l->count--;
    }
    l->ended[l->count] = end;
    l->mark[l->count++] = mark;
}

uint32_t lineage_epoch_at(const struct lineage *l, uint64_t offset, uint32_t now)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (offset <= l->ended[i].offset)
            return l->ended[i].epoch;
    return now;
}

/* "!", "?" or both at the end of an entry. */
static uint8_t cut_marks(struct slice *part)
{
    uint8_t mark = 0;
    if (part->len && part->ptr[part->len - 1] == '?') {
        mark |= LINEAGE_UNAWARE;
        part->len--;
    }
    if (part->len && part->ptr[part->len - 1] == '!') {
        mark |= LINEAGE_LOST;
        part->len--;
    }
    return mark;
}

enum err lineage_parse(struct slice text, struct lineage *out)
{
    struct lineage l = {.count = 0};
    struct slice part;
    while (slice_split(&text, ' ', &part)) {
        struct slice epoch;
        uint64_t e, last;
        if (part.len == 0)
            continue;
        uint8_t mark = cut_marks(&part);
        if (!slice_split(&part, ':', &epoch) || slice_to_u64(epoch, CURSOR_EPOCH_MAX, &e) ||
            slice_to_u64(part, UINT64_MAX, &last) ||
            (l.count && last < l.ended[l.count - 1].offset))
            return ERR_SYNTAX;
        lineage_add(&l, (struct position){.epoch = (uint32_t)e, .offset = last}, mark);
    }
    *out = l;
    return ERR_OK;
}
