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

void lineage_add(struct lineage *l, struct position end)
{
    if (l->count == LINEAGE_MAX) {
        memmove(l->ended, l->ended + 1, (LINEAGE_MAX - 1) * sizeof l->ended[0]);
        l->count--;
    }
    l->ended[l->count++] = end;
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
        if (!slice_split(&part, ':', &epoch) || slice_to_u64(epoch, CURSOR_EPOCH_MAX, &e) ||
            slice_to_u64(part, UINT64_MAX, &last))
            return ERR_SYNTAX;
        lineage_add(&l, (struct position){.epoch = (uint32_t)e, .offset = last});
    }
    *out = l;
    return ERR_OK;
}
