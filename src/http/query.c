/* query.c - query strings as application/x-www-form-urlencoded (WHATWG URL), where '+' is a blank.
 */
#include "http_internal.h"

#include "crier/codec.h"

static enum err parse_one(struct query *q, struct slice part)
{
    struct slice name;
    if (q->n == QUERY_MAX)
        return ERR_LIMIT;
    struct slice rest = part;
    (void)slice_split(&rest, '=', &name);
    size_t at = q->text.len;
    enum err e = percent_decode(name, true, &q->text);
    size_t mid = q->text.len;
    if (!e && rest.ptr)
        e = percent_decode(rest, true, &q->text);
    if (e)
        return e;
    q->param[q->n].name = slice_of(q->text.data + at, mid - at);
    q->param[q->n].value = slice_of(q->text.data + mid, q->text.len - mid);
    q->n++;
    return ERR_OK;
}

bool query_parse(struct http_exchange *ex, struct query *q)
{
    q->n = 0;
    buf_init(&q->text, ex->query.len + 1);
    /* Decoding never lengthens, so with this room the slices stay where they are. */
    enum err e = buf_reserve(&q->text, ex->query.len + 1);
    struct slice rest = ex->query, part;
    while (!e && slice_split(&rest, '&', &part))
        if (part.len)
            e = parse_one(q, part);
    if (!e)
        return true;
    if (e == ERR_LIMIT)
        http_problem(ex, 400, "bad_query", "the query has more than %d parameters", QUERY_MAX);
    else if (e == ERR_NOMEM)
        http_problem(ex, 503, "overloaded", "out of memory, try again later");
    else
        http_problem(ex, 400, "bad_query",
                     "the query has a '%%' that is not followed by two hexadecimal digits");
    return false;
}

void query_release(struct query *q)
{
    buf_release(&q->text);
}

struct slice query_get(const struct query *q, const char *name)
{
    struct slice want = slice_str(name);
    for (size_t i = 0; i < q->n; i++)
        if (slice_eq(q->param[i].name, want))
            return q->param[i].value;
    return SLICE_NONE;
}

bool query_u64(struct http_exchange *ex, const struct query *q, const char *name, const char *code,
               uint64_t min, uint64_t max, uint64_t *out)
{
    struct slice value = query_get(q, name);
    uint64_t v;
    if (!value.ptr)
        return true;
    if (!slice_to_u64(value, max, &v) && v >= min) {
        *out = v;
        return true;
    }
    http_problem(ex, 400, code, "%s must be a whole number from %llu to %llu", name,
                 (unsigned long long)min, (unsigned long long)max);
    return false;
}
