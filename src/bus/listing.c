/* listing.c - the names of occupied channels in order, a page at a time.
 *
 * The channels are in a hash map. One pass keeps the `limit` smallest names in a heap whose top is
 * the largest of them: a page costs n log(limit) comparisons and no copy of the other names. A tree
 * beside the map would make pages cheap and every join and leave dearer; pages are rare.
 */
#include "internal.h"

#include <stdlib.h>

#define LIMIT_MAX 1000

static int compare(struct slice a, struct slice b)
{
    int c = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static int compare_interests(const void *a, const void *b)
{
    const struct interest *const *x = a, *const *y = b;
    return compare((*x)->channel, (*y)->channel);
}

struct heap {
    const struct interest **item; /* owned; largest name on top */
    uint32_t count, limit;
};

static bool is_after(const struct heap *h, uint32_t a, uint32_t b)
{
    return compare(h->item[a]->channel, h->item[b]->channel) > 0;
}

static void swap(struct heap *h, uint32_t a, uint32_t b)
{
    const struct interest *t = h->item[a];
    h->item[a] = h->item[b];
    h->item[b] = t;
}

static void sift_up(struct heap *h, uint32_t i)
{
    for (; i > 0 && is_after(h, i, (i - 1) / 2); i = (i - 1) / 2)
        swap(h, i, (i - 1) / 2);
}

static void sift_down(struct heap *h)
{
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child + 1 < h->count && is_after(h, child + 1, child))
            child++;
        if (child >= h->count || !is_after(h, child, i))
            return;
        swap(h, i, child);
        i = child;
    }
}

/* True when something did not fit, be it this one or the one it pushed out. */
static bool offer(struct heap *h, const struct interest *i)
{
    if (h->count < h->limit) {
        h->item[h->count++] = i;
        sift_up(h, h->count - 1);
        return false;
    }
    if (compare(i->channel, h->item[0]->channel) < 0) {
        h->item[0] = i;
        sift_down(h);
    }
    return true;
}

static bool is_wanted(const struct interest *i, struct slice prefix, struct slice after)
{
    return slice_starts_with(i->channel, prefix) &&
           (after.len == 0 || compare(i->channel, after) > 0);
}

void listing_fill(struct bus *b, struct bus_channels *op)
{
    const struct slice prefix = slice_str(op->prefix), after = slice_str(op->after);
    struct heap h = {.limit = op->limit < LIMIT_MAX ? op->limit : LIMIT_MAX};
    if (h.limit == 0)
        h.limit = 1;
    op->limit = h.limit;
    h.item = bus_alloc(h.limit * sizeof(struct interest *));
    for (struct map_node *n = NULL; (n = map_next(&b->interests, n));) {
        const struct interest *i = container_of(n, struct interest, node);
        if (is_wanted(i, prefix, after))
            op->more |= offer(&h, i);
    }
    if (h.count)
        qsort(h.item, h.count, sizeof(struct interest *), compare_interests);
    op->info = bus_alloc(h.limit * sizeof *op->info);
    op->count = h.count;
    for (uint32_t k = 0; k < h.count; k++) {
        op->info[k].name = slice_dup(h.item[k]->channel);
        op->info[k].subscribers = h.item[k]->subscribers;
    }
    free(h.item);
}
