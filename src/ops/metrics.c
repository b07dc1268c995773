/* metrics.c - counters and gauges that cost one relaxed addition to count.
 *
 * Every thread that counts gets a shard of its own on first use; only its owner writes it, so an
 * addition is a plain load and store and never bounces a cache line. A reader walks the list of
 * all shards. A gauge may be raised by one thread and lowered by another: a shard can be negative,
 * only the sum means anything.
 *
 * Shards are never freed or reused. Threads are few and live as long as the process, and a counter
 * that goes back when a thread ends would look like a restart to Prometheus.
 */
#include "crier/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CACHE_LINE_BYTES 64

struct shard {
    _Alignas(CACHE_LINE_BYTES) _Atomic int64_t value[METRIC_COUNT];
    struct shard *next; /* immutable once published */
};

struct metric_row {
    const char *name, *labels, *type, *help;
};

static const struct metric_row rows[METRIC_COUNT] = {
#define METRICS_ROW(id, name, labels, type, help) [id] = {name, labels, type, help},
    METRICS(METRICS_ROW)
#undef METRICS_ROW
};

static _Atomic(struct shard *) all_shards;
static _Thread_local struct shard *own_shard;

static struct shard *shard_new(void)
{
    size_t bytes = (sizeof(struct shard) + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES;
    struct shard *s = aligned_alloc(CACHE_LINE_BYTES, bytes * CACHE_LINE_BYTES);
    if (!s)
        abort();
    for (size_t i = 0; i < METRIC_COUNT; i++)
        atomic_init(&s->value[i], 0);
    s->next = atomic_load_explicit(&all_shards, memory_order_relaxed);
    /* Release: a reader that sees the shard sees its zeroes and its `next`. */
    while (!atomic_compare_exchange_weak_explicit(&all_shards, &s->next, s, memory_order_release,
                                                  memory_order_relaxed))
        ;
    return s;
}

void metrics_add(enum metric m, int64_t n)
{
    struct shard *s = own_shard;
    if (!s)
        s = own_shard = shard_new();
    /* Not a fetch-and-add: nobody else writes this shard, so no locked instruction is needed. */
    int64_t v = atomic_load_explicit(&s->value[m], memory_order_relaxed);
    atomic_store_explicit(&s->value[m], v + n, memory_order_relaxed);
}

int64_t metrics_get(enum metric m)
{
    int64_t sum = 0;
    struct shard *s = atomic_load_explicit(&all_shards, memory_order_acquire);
    for (; s; s = s->next)
        sum += atomic_load_explicit(&s->value[m], memory_order_relaxed);
    return sum;
}

static void render_row(struct buf *b, enum metric m)
{
    const struct metric_row *r = &rows[m];
    buf_append_str(b, r->name);
    if (r->labels[0])
        buf_printf(b, "{%s}", r->labels);
    buf_printf(b, " %" PRId64 "\n", metrics_get(m));
}

void metrics_render(struct buf *b)
{
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *r = &rows[m];
        /* HELP and TYPE may stand only once per name, before its first sample. */
        if (m == 0 || strcmp(rows[m - 1].name, r->name) != 0)
            buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", r->name, r->help, r->name, r->type);
        render_row(b, (enum metric)m);
    }
}
