/* channel.c - names of channels, and the options of their namespaces.
 *
 * The alphabet leaves out whatever would need escaping in a query string, a log line or a JSON
 * string. The table is a short array: it is filled once, and a look-up compares lengths first.
 *
 * Who may use a channel is not decided here.
 */
#include "crier/channel.h"

#define MINUTE_MS (60u * 1000u)

static bool is_channel_byte(char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c != '\0' && strchr("_.:@=+,~!-/", c) != NULL;
}

enum err channel_check(struct slice name, const char **why)
{
    if (name.len == 0 || name.len > CHANNEL_MAX_BYTES) {
        *why = "a channel name has 1 to 200 bytes";
        return ERR_SYNTAX;
    }
    for (size_t i = 0; i < name.len; i++) {
        if (!is_channel_byte(name.ptr[i])) {
            *why = "a channel name is made of A-Z a-z 0-9 _ . : @ = + , ~ ! - and /";
            return ERR_SYNTAX;
        }
    }
    return ERR_OK;
}

struct slice channel_namespace(struct slice name)
{
    const char *colon = name.len ? memchr(name.ptr, ':', name.len) : NULL;
    return colon ? slice_of(name.ptr, (size_t)(colon - name.ptr)) : SLICE_NONE;
}

void ns_table_init(struct ns_table *t)
{
    memset(t, 0, sizeof *t);
    t->common = (struct ns_options){
        .history_messages = 100,
        .history_ms = 5 * MINUTE_MS,
        .idempotency_ms = 5 * MINUTE_MS,
        .idempotency_keys = 1000,
    };
    struct ns_options *chat = ns_table_entry(t, SLICE("chat"));
    chat->presence = true;
    chat->join_leave = true;
}

static size_t find(const struct ns_table *t, struct slice name)
{
    size_t i = 0;
    while (i < t->count && !slice_eq(slice_str(t->entry[i].name), name))
        i++;
    return i;
}

struct ns_options *ns_table_entry(struct ns_table *t, struct slice name)
{
    size_t i = find(t, name);
    if (i < t->count)
        return &t->entry[i].options;
    if (i == NS_MAX || name.len == 0 || name.len >= sizeof t->entry[i].name)
        return NULL;
    memcpy(t->entry[i].name, name.ptr, name.len);
    t->entry[i].name[name.len] = '\0';
    t->entry[i].options = t->common;
    t->count++;
    return &t->entry[i].options;
}

const struct ns_options *ns_lookup(const struct ns_table *t, struct slice channel)
{
    struct slice name = channel_namespace(channel);
    if (name.len == 0)
        return &t->common;
    size_t i = find(t, name);
    return i < t->count ? &t->entry[i].options : &t->common;
}
