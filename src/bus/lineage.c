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
    return false;
}

bool lineage_is_loss(const struct lineage *l, struct position end)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (l->lost[i] && l->ended[i].epoch == end.epoch && l->ended[i].offset == end.offset)
            return true;
    return false;
}

uint64_t lineage_next_loss(const struct lineage *l, uint64_t offset)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (l->lost[i] && l->ended[i].offset >= offset)
            return l->ended[i].offset;
    return UINT64_MAX;
}

void lineage_add(struct lineage *l, struct position end, bool lost)
{
    if (l->count == LINEAGE_MAX) {
        memmove(l->ended, l->ended + 1, (LINEAGE_MAX - 1) * sizeof l->ended[0]);
        memmove(l->lost, l->lost + 1, (LINEAGE_MAX - 1) * sizeof l->lost[0]);
        l->count--;
    }
    l->ended[l->count] = end;
    l->lost[l->count++] = lost;
}

uint32_t lineage_epoch_at(const struct lineage *l, uint64_t offset, uint32_t now)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (offset <= l->ended[i].offset)
            return l->ended[i].epoch;
    return now;
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
        bool lost = part.ptr[part.len - 1] == '!';
        part.len -= lost;
        if (!slice_split(&part, ':', &epoch) || slice_to_u64(epoch, CURSOR_EPOCH_MAX, &e) ||
            slice_to_u64(part, UINT64_MAX, &last) ||
            (l.count && last < l.ended[l.count - 1].offset))
            return ERR_SYNTAX;
        lineage_add(&l, (struct position){.epoch = (uint32_t)e, .offset = last}, lost);
    }
    *out = l;
    return ERR_OK;
}
