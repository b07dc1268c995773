/* origin.c - browsers' origins (RFC 6454, Fetch): an allow-list, the server's own, and loopback.
 *
 * An origin that is not allowed is refused before the request does anything, not merely left
 * without CORS headers: a "simple" cross-site POST would otherwise publish, and a WebSocket knows
 * no CORS at all. Programs send no Origin and are not concerned.
 */
#include "http_internal.h"

#include "crier/metrics.h"

#include <stdlib.h>

static bool in_list(struct slice list, struct slice origin)
{
    struct slice one;
    while (origin.len && slice_split(&list, ',', &one))
        if (slice_eq_nocase(slice_trim(one), origin))
            return true;
    return false;
}

/* "http://host:port" -> "host:port"; empty when it is no http origin. */
static struct slice origin_host(struct slice origin)
{
    if (slice_starts_with(origin, SLICE("http://")))
        return slice_of(origin.ptr + 7, origin.len - 7);
    if (slice_starts_with(origin, SLICE("https://")))
        return slice_of(origin.ptr + 8, origin.len - 8);
    return SLICE_NONE;
}

/* Nothing, or ":" and digits. */
static bool is_port(struct slice s)
{
    uint64_t port;
    return !s.len ||
           (s.ptr[0] == ':' && !slice_to_u64(slice_of(s.ptr + 1, s.len - 1), 65535, &port));
}

static bool is_loopback_name(struct slice host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct slice n = slice_str(names[i]);
        if (host.len >= n.len && slice_eq_nocase(slice_of(host.ptr, n.len), n) &&
            is_port(slice_of(host.ptr + n.len, host.len - n.len)))
            return true;
    }
    return false;
}

static bool is_allowed(const struct http_exchange *ex, struct slice origin)
{
    const struct http_shared *sh = ex->server->shared;
    if (slice_eq(slice_trim(sh->allowed_origins), SLICE("*")) ||
        in_list(sh->allowed_origins, origin))
        return true;
    struct slice host = origin_host(origin);
    if (!host.len)
        return false;
    if (slice_eq_nocase(host, ex->ops->header(ex, "Host")))
        return true;
    return sh->loopback_only && is_loopback_name(host);
}

bool origin_admit(struct http_exchange *ex)
{
    struct slice origin = ex->ops->header(ex, "Origin");
    if (!origin.ptr)
        return true;
    if (!is_allowed(ex, origin)) {
        metrics_inc(M_BAD_ORIGIN);
        http_problem(ex, 403, "origin_not_allowed",
                     "the origin of this page is not allowed here; it can be named in "
                     "--allowed-origins");
        return false;
    }
    bool any = slice_eq(slice_trim(ex->server->shared->allowed_origins), SLICE("*"));
    ex->origin = slice_dup(any ? SLICE("*") : origin);
    return true;
}
