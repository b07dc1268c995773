/* redis_truth.h - what was really ordered in one channel: a tree of messages.
 *
 * A branch is an epoch; it grows out of a place of another one (a restart, a failover, a loss), or
 * out of nothing (a flush, an eviction). A position that the bus names is a place in this tree, and
 * has at most one: the message of its epoch, or, up to where its epoch began, the one of the branch
 * below. So (7,5) and (9,5) are one place when 9 grew out of 7 at 5.
 */
#ifndef CRIER_TESTS_REDIS_TRUTH_H
#define CRIER_TESTS_REDIS_TRUTH_H

#include "crier/bus.h"

#include <stdlib.h>

struct node {
    uint32_t uid;
    uint64_t time_ms;
    uint64_t tick; /* when it was ordered first; servers that take over have it from there */
    char *text;    /* owned; the record */
    size_t len;
};

struct branch {
    uint32_t epoch;
    int parent;        /* -1: an order that began anew */
    uint64_t base;     /* the offset it grew out of */
    uint64_t tick;     /* when it began */
    struct node *node; /* owned; base + 1 is the first */
    size_t n, cap;
};

struct truth {
    struct branch *branch; /* owned */
    int n, cap;
};

/* A message, or what lies before the first one (the offset is its branch's base then, and the
 * branch has no parent). branch -1: no such place. */
struct place {
    int branch;
    uint64_t offset;
};

#define NOWHERE ((struct place){-1, 0})

static inline bool place_is(struct place a, struct place b)
{
    return a.branch == b.branch && a.offset == b.offset;
}

static inline int truth_branch(const struct truth *t, uint32_t epoch)
{
    for (int i = t->n - 1; i >= 0; i--)
        if (t->branch[i].epoch == epoch)
            return i;
    return -1;
}

/* The place at an offset on the way to b's end. */
static inline struct place truth_down(const struct truth *t, int b, uint64_t offset)
{
    while (b >= 0 && t->branch[b].parent >= 0 && offset <= t->branch[b].base)
        b = t->branch[b].parent;
    return (struct place){b, offset};
}

static inline struct place truth_place(const struct truth *t, struct position pos)
{
    int b = truth_branch(t, pos.epoch);
    if (b < 0 || pos.offset > t->branch[b].base + t->branch[b].n)
        return NOWHERE;
    return truth_down(t, b, pos.offset);
}

/* The same; what is ahead of all that there ever was in its epoch is where that ended. */
static inline struct place truth_place_up_to(const struct truth *t, struct position pos)
{
    int b = truth_branch(t, pos.epoch);
    if (b >= 0 && pos.offset > t->branch[b].base + t->branch[b].n)
        pos.offset = t->branch[b].base + t->branch[b].n;
    return truth_place(t, pos);
}

/* The branch that this one grew out of in the end: an order that began anew. */
static inline int truth_root(const struct truth *t, int b)
{
    while (b >= 0 && t->branch[b].parent >= 0)
        b = t->branch[b].parent;
    return b;
}

/* Is p on the way to head, or head itself? */
static inline bool truth_is_on(const struct truth *t, struct place p, struct place head)
{
    int b = head.branch;
    uint64_t end = head.offset;
    while (b >= 0 && b != p.branch) {
        if (t->branch[b].base < end)
            end = t->branch[b].base;
        b = t->branch[b].parent;
    }
    return p.branch >= 0 && b >= 0 && p.offset <= end;
}

/* How far the ways to two places are one. */
static inline uint64_t truth_common(const struct truth *t, struct place a, struct place b)
{
    if (a.branch < 0 || b.branch < 0 || truth_root(t, a.branch) != truth_root(t, b.branch))
        return 0;
    uint64_t low = 0, high = a.offset < b.offset ? a.offset : b.offset;
    while (low < high) {
        uint64_t mid = low + (high - low + 1) / 2;
        if (place_is(truth_down(t, a.branch, mid), truth_down(t, b.branch, mid)))
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

/* How far the way to head goes along branch b; false when it does not go there. *younger is how
 * many branches it goes along after that. */
static inline bool truth_end(const struct truth *t, int b, struct place head, uint64_t *end,
                             unsigned *younger)
{
    *end = head.offset;
    *younger = 0;
    for (int at = head.branch; at >= 0; at = t->branch[at].parent, ++*younger) {
        if (at == b)
            return true;
        if (t->branch[at].base < *end)
            *end = t->branch[at].base;
    }
    return false;
}

/* NULL for a place that is no message. */
static inline const struct node *truth_node(const struct truth *t, struct place p)
{
    if (p.branch < 0 || p.offset <= t->branch[p.branch].base)
        return NULL;
    return &t->branch[p.branch].node[p.offset - t->branch[p.branch].base - 1];
}

/* The message before this one. */
static inline struct place truth_before(const struct truth *t, struct place p)
{
    return truth_down(t, p.branch, p.offset - 1);
}

static inline int truth_grow(struct truth *t, uint32_t epoch, int parent, uint64_t base,
                             uint64_t tick)
{
    BUG_ON(truth_branch(t, epoch) >= 0); /* the simulation's epochs differ */
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->branch = realloc(t->branch, (size_t)t->cap * sizeof *t->branch);
        BUG_ON(!t->branch);
    }
    t->branch[t->n] = (struct branch){.epoch = epoch, .parent = parent, .base = base, .tick = tick};
    return t->n++;
}

/* The next message of a branch; text is copied. */
static inline struct place truth_add(struct truth *t, int b, struct slice text, uint32_t uid,
                                     uint64_t time_ms, uint64_t tick)
{
    struct branch *br = &t->branch[b];
    if (br->n == br->cap) {
        br->cap = br->cap ? 2 * br->cap : 16;
        br->node = realloc(br->node, br->cap * sizeof *br->node);
        BUG_ON(!br->node);
    }
    br->node[br->n++] = (struct node){
        .uid = uid, .time_ms = time_ms, .tick = tick, .text = slice_dup(text), .len = text.len};
    return (struct place){b, br->base + br->n};
}

/* Where the way to branch b leaves the way to head: the branch that it leaves, and how far that was
 * gone by then. -1: they have nothing in common. */
static inline int truth_fork(const struct truth *t, int b, struct place head, uint64_t *at)
{
    uint64_t end;
    unsigned younger;
    *at = b >= 0 ? t->branch[b].base + t->branch[b].n : 0;
    for (; b >= 0 && !truth_end(t, b, head, &end, &younger); b = t->branch[b].parent)
        *at = t->branch[b].base;
    return b;
}

/* Was something ordered in this epoch, or in others that followed it, that is not on the way to
 * head? Then its end there is where it was lost. */
static inline bool truth_is_loss(const struct truth *t, int b, struct place head)
{
    uint64_t end, at;
    unsigned younger;
    if (!truth_end(t, b, head, &end, &younger))
        return false;
    for (int i = 0; i < t->n; i++)
        if (t->branch[i].n && truth_fork(t, i, head, &at) == b && at >= end &&
            t->branch[i].base + t->branch[i].n > end)
            return true;
    return false;
}

static inline void truth_release(struct truth *t)
{
    for (int i = 0; i < t->n; i++) {
        for (size_t k = 0; k < t->branch[i].n; k++)
            free(t->branch[i].node[k].text);
        free(t->branch[i].node);
    }
    free(t->branch);
    *t = (struct truth){0};
}

#endif
