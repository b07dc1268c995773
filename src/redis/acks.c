/* acks.c - a ring that doubles. Its length is bounded by its user: subscriptions by a window, the
 * rest by how many were subscribed. */
#include "acks.h"

#include <stdlib.h>

#define FIRST_CAP 64

void acks_release(struct acks *a)
{
    free(a->ring);
    *a = (struct acks){0};
}

static void grow(struct acks *a)
{
    size_t cap = a->cap ? 2 * a->cap : FIRST_CAP;
    struct ack *ring = malloc(cap * sizeof *ring);

    BUG_ON(!ring);
    for (size_t i = 0; i < a->count; i++)
        ring[i] = a->ring[(a->head + i) & (a->cap - 1)];
    free(a->ring);
    a->ring = ring;
    a->cap = cap;
    a->head = 0;
}

uint32_t acks_push(struct acks *a, struct ack k)
{
    if (a->count == a->cap)
        grow(a);
    a->ring[(a->head + a->count++) & (a->cap - 1)] = k;
    a->subscribes += k.subscribe;
    return a->pushed++;
}

const struct ack *acks_head(const struct acks *a)
{
    return a->count ? &a->ring[a->head] : NULL;
}

static void give_back_room(struct acks *a)
{
    free(a->ring);
    a->ring = NULL;
    a->cap = a->head = 0;
}

struct ack acks_pop(struct acks *a, uint32_t *number)
{
    BUG_ON(a->count == 0);
    struct ack k = a->ring[a->head];
    a->head = (a->head + 1) & (a->cap - 1);
    a->count--;
    a->subscribes -= k.subscribe;
    *number = a->popped++;
    if (a->count == 0 && a->cap > FIRST_CAP)
        give_back_room(a); /* after 100,000 names nobody wants to keep it */
    return k;
}
