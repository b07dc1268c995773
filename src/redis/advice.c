/* advice.c - settings that lose messages, and versions that lack something. */
#include "advice.h"

#include "crier/log.h"

static void on_version(const char *name, const struct server_info *i, bool as_cluster)
{
    if (i->version == 0)
        return;
    if (i->version < INFO_VERSION(6, 2))
        log_error("redis_too_old", "server=%s version=%s why=\"trimming streams needs Redis 6.2\"",
                  name, log_quote(i->version_text));
    else if (as_cluster && i->version < INFO_VERSION(7, 0))
        log_warn("redis_old_for_cluster",
                 "server=%s version=%s why=\"before 7.0 every message is copied to every node\"",
                 name, log_quote(i->version_text));
}

static void on_memory(const char *name, const struct server_info *i)
{
    if (i->policy.len == 0 || slice_eq(i->policy, SLICE("noeviction")))
        return;
    /* volatile-*: streams are volatile too, they expire */
    log_warn("redis_evicts", "server=%s maxmemory_policy=%s why=\"it %s\" better=noeviction", name,
             log_quote(i->policy),
             i->maxmemory ? "deletes streams when memory is short"
                          : "would delete streams if there was a maxmemory");
}

void advice_on_server(const char *name, const struct server_info *i, bool as_cluster)
{
    on_version(name, i, as_cluster);
    on_memory(name, i);
    if (i->cluster && !as_cluster)
        log_warn("redis_is_cluster",
                 "server=%s why=\"a node of a cluster serves a part of the keys\" "
                 "better=redis+cluster://",
                 name);
}

void advice_on_save_points(const char *name, struct slice save)
{
    if (save.len == 0)
        log_warn("redis_not_persistent",
                 "server=%s why=\"neither append-only file nor snapshots: history ends with it\"",
                 name);
}
