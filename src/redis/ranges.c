/* ranges.c - [[first, last, [host, port, …] of the master, [host, port, …] of replicas…]…]; fields
 * that later versions add are passed over. */
#include "ranges.h"

#include "slot.h"

#include <stdlib.h>

#define MAX_HOST_BYTES 255

static bool is_usable(struct slice host)
{
    return host.len > 0 && host.len <= MAX_HOST_BYTES && !memchr(host.ptr, '\0', host.len);
}

static enum err read_one(const struct reply *r, struct slice asked, struct slot_range *out)
{
    const struct reply *master = reply_at(r, 2);
    int64_t first = reply_integer(reply_at(r, 0)), last = reply_integer(reply_at(r, 1));
    int64_t port = reply_integer(reply_at(master, 1));
    struct slice host = reply_text(reply_at(master, 0)); /* empty when NIL */

    if (reply_kind(reply_at(r, 0)) != REPLY_INTEGER || reply_kind(reply_at(r, 1)) != REPLY_INTEGER)
        return ERR_SYNTAX;
    if (first < 0 || last < first || last >= SLOT_COUNT || port < 1 || port > UINT16_MAX)
        return ERR_SYNTAX;
    if (host.len == 0 || slice_eq(host, SLICE("?")))
        host = asked;
    if (!is_usable(host))
        return ERR_SYNTAX;
    *out = (struct slot_range){
        .first = (uint16_t)first, .last = (uint16_t)last, .host = host, .port = (uint16_t)port};
    return ERR_OK;
}

enum err ranges_read(const struct reply *r, struct slice asked, struct slot_range **out, size_t *n)
{
    size_t count = reply_count(r);

    if (reply_kind(r) != REPLY_ARRAY || count > SLOT_COUNT)
        return ERR_SYNTAX;
    struct slot_range *range = count ? calloc(count, sizeof *range) : NULL;
    if (count && !range)
        return ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        enum err e = read_one(reply_at(r, i), asked, &range[i]);
        if (e) {
            free(range);
            return e;
        }
    }
    *out = range;
    *n = count;
    return ERR_OK;
}
