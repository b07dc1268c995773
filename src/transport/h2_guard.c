/* h2_guard.c - what a peer may do on one HTTP/2 connection (see h2_guard.h).
 *
 * The bursts are several times what browsers, curl, proxies and gRPC libraries send at their worst
 * (a page with a hundred streams that is closed, a download that is acknowledged frame by frame);
 * the rates, what a connection of hours may need. The attacks send tens of thousands a second.
 */
#include "h2_guard.h"

#include <string.h>

/* RFC 9113 6. */
enum {
    FRAME_DATA,
    FRAME_HEADERS,
    FRAME_PRIORITY,
    FRAME_RST_STREAM,
    FRAME_SETTINGS,
    FRAME_PING = 6,
    FRAME_WINDOW_UPDATE = 8,
    FRAME_CONTINUATION,
};
#define FLAG_END_STREAM 1

/* nghttp2 takes eight, and calls the ninth a mistake and not a flood. (CVE-2024-28182) */
#define CONTINUATIONS_MAX 8
#define TINY_BYTES 256 /* the end of every window may be as small */

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
    [H2_TINY_WINDOW] = {"tiny windows", 200, 20}, /* CVE-2019-9511 */
};

void h2_guard_init(struct h2_guard *g, uint64_t now_ms)
{
    memset(g, 0, sizeof(*g));
    g->counted_ms = now_ms;
    g->next_id = 1;
    g->skip_bytes = H2_PREFACE_BYTES;
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

static void forgive(struct h2_guard *g, enum h2_charge what, uint32_t n)
{
    g->spent[what] = g->spent[what] > n * 1000 ? g->spent[what] - n * 1000 : 0;
}

/* A peer that reads says so, frame by frame if it likes, in both windows; and may measure its
 * bandwidth by a PING on each. Not when it is what makes the frames small. */
bool h2_guard_sent(struct h2_guard *g, size_t bytes, bool cut, uint64_t now_ms)
{
    if (cut && bytes < TINY_BYTES)
        return h2_guard_charge(g, H2_TINY_WINDOW, now_ms);
    forgive(g, H2_WINDOW_UPDATE, 2);
    forgive(g, H2_PING, 1);
    if (bytes >= TINY_BYTES)
        forgive(g, H2_TINY_WINDOW, 1);
    return true;
}

const char *h2_guard_name(enum h2_charge what)
{
    return limits[what].name;
}

/* HEADERS came on this id. False: it was skipped by a higher one before. */
static bool may_open(struct h2_guard *g, uint32_t id)
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

static bool has_ended(const struct h2_guard *g, uint32_t id)
{
    for (size_t i = 0; i < H2_ENDED_IDS; i++)
        if (g->ended[i] == id)
            return true;
    return false;
}

/* DATA, HEADERS or RST_STREAM. */
static enum h2_code follow_stream(struct h2_guard *g, uint8_t type, uint8_t flags, uint32_t id)
{
    if (!(id & 1))
        return H2_NO_ERROR; /* nghttp2 sees to that */
    if (type == FRAME_HEADERS && !may_open(g, id))
        return H2_PROTOCOL_ERROR;
    if (type != FRAME_RST_STREAM && has_ended(g, id))
        return H2_STREAM_CLOSED;
    if ((type == FRAME_RST_STREAM || (flags & FLAG_END_STREAM)) && !has_ended(g, id))
        g->ended[g->n_ended++ % H2_ENDED_IDS] = id;
    return H2_NO_ERROR;
}

static enum h2_charge charge_of(uint8_t type, uint8_t flags, uint32_t len)
{
    switch (type) {
    case FRAME_DATA:
        return len || (flags & FLAG_END_STREAM) ? H2_CHARGES : H2_EMPTY_DATA;
    case FRAME_PRIORITY:
        return H2_PRIORITY;
    case FRAME_RST_STREAM:
        return H2_RESET;
    case FRAME_SETTINGS:
        return H2_SETTINGS;
    case FRAME_PING:
        return H2_PING;
    case FRAME_WINDOW_UPDATE:
        return H2_WINDOW_UPDATE;
    case FRAME_CONTINUATION:
        return H2_CONTINUATION;
    default:
        return H2_CHARGES;
    }
}

/* A whole header is there. */
static enum h2_code judge(struct h2_guard *g, uint64_t now_ms, enum h2_charge *what)
{
    const uint8_t *h = g->head;
    uint32_t len = (uint32_t)h[0] << 16 | (uint32_t)h[1] << 8 | h[2];
    uint8_t type = h[3], flags = h[4];
    uint32_t id = (uint32_t)(h[5] & 0x7f) << 24 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8];
    enum h2_code code = H2_NO_ERROR;
    g->skip_bytes = len;
    g->head_len = 0;
    if (type == FRAME_DATA || type == FRAME_HEADERS || type == FRAME_RST_STREAM)
        code = follow_stream(g, type, flags, id);
    if (code)
        return code;
    *what = charge_of(type, flags, len);
    g->continuations = *what == H2_CONTINUATION ? g->continuations + 1 : 0;
    if (g->continuations > CONTINUATIONS_MAX)
        return H2_ENHANCE_YOUR_CALM;
    return *what == H2_CHARGES || h2_guard_charge(g, *what, now_ms) ? H2_NO_ERROR
                                                                    : H2_ENHANCE_YOUR_CALM;
}

size_t h2_guard_input(struct h2_guard *g, struct slice bytes, uint64_t now_ms, enum h2_code *code,
                      enum h2_charge *what)
{
    size_t at = 0;
    *code = H2_NO_ERROR;
    while (at < bytes.len) {
        size_t left = bytes.len - at;
        if (g->skip_bytes) {
            size_t n = left < g->skip_bytes ? left : g->skip_bytes;
            g->skip_bytes -= (uint32_t)n;
            at += n;
            continue;
        }
        size_t n = H2_FRAME_HEAD_BYTES - (size_t)g->head_len;
        n = left < n ? left : n;
        memcpy(g->head + g->head_len, bytes.ptr + at, n);
        g->head_len += (uint8_t)n;
        if (g->head_len == H2_FRAME_HEAD_BYTES && (*code = judge(g, now_ms, what)))
            return at;
        at += n;
    }
    return at;
}
