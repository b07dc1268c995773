/* h2_guard.c - what a peer may do on one HTTP/2 connection (see h2_guard.h).
 *
 * The bursts are several times what browsers, curl, proxies and gRPC libraries send at their worst
 * (a page with a hundred streams that is closed, a download that is acknowledged frame by frame);
 * the rates, what a connection of hours may need. The attacks send tens of thousands a second.
 */
#include "h2_guard.h"

#include <string.h>

static const struct {
    const char *name;
    uint32_t burst, per_second;
} limits[H2_CHARGES] = {
    [H2_RESET] = {"RST_STREAM", 600, 50}, /* CVE-2023-44487, CVE-2025-8671 */
    [H2_PING] = {"PING", 100, 10},        /* CVE-2019-9512 */
    [H2_SETTINGS] = {"SETTINGS", 50, 2},  /* CVE-2019-9515 */
    [H2_PRIORITY] = {"PRIORITY", 600, 50},
    [H2_WINDOW_UPDATE] = {"WINDOW_UPDATE", 2000, 200},
    [H2_EMPTY_DATA] = {"empty DATA", 100, 10}, /* CVE-2019-9518 */
    [H2_CONTINUATION] = {"CONTINUATION", 50, 5},
};

void h2_guard_init(struct h2_guard *g, uint64_t now_ms)
{
    memset(g, 0, sizeof(*g));
    g->counted_ms = now_ms;
    g->next_id = 1;
}

static void apply_rates(struct h2_guard *g, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms - g->counted_ms;
    if (!passed_ms)
        return;
    for (int i = 0; i < H2_CHARGES; i++) {
        uint64_t forgiven = passed_ms * limits[i].per_second;
        g->spent[i] = forgiven < g->spent[i] ? g->spent[i] - (uint32_t)forgiven : 0;
    }
    g->counted_ms = now_ms;
}

bool h2_guard_charge(struct h2_guard *g, enum h2_charge what, uint64_t now_ms)
{
    apply_rates(g, now_ms);
    if (g->spent[what] + 1000 > limits[what].burst * 1000)
        return false;
    g->spent[what] += 1000;
    return true;
}

void h2_guard_forgive(struct h2_guard *g, enum h2_charge what, uint32_t n)
{
    g->spent[what] = g->spent[what] > n * 1000 ? g->spent[what] - n * 1000 : 0;
}

const char *h2_guard_name(enum h2_charge what)
{
    return limits[what].name;
}

bool h2_guard_opens(struct h2_guard *g, uint32_t id)
{
    if (id >= g->next_id) {
        if (id > g->next_id) {
            uint32_t at = g->n_skipped++ % H2_SKIPPED_RANGES;
            g->skipped[at].from = g->next_id;
            g->skipped[at].to = id - 1;
        }
        g->next_id = id + 2;
        return true;
    }
    for (size_t i = 0; i < H2_SKIPPED_RANGES; i++)
        if (id >= g->skipped[i].from && id <= g->skipped[i].to)
            return false;
    return true;
}

void h2_guard_end(struct h2_guard *g, uint32_t id)
{
    g->ended[g->n_ended++ % H2_ENDED_IDS] = id;
}

bool h2_guard_has_ended(const struct h2_guard *g, uint32_t id)
{
    for (size_t i = 0; i < H2_ENDED_IDS; i++)
        if (g->ended[i] == id)
            return true;
    return false;
}
