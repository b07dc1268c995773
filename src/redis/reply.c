/* reply.c - whole replies out of bytes, by hiredis's reader.
 *
 * Of hiredis only the reader is used: its clients abort the process on answers they do not expect
 * (sharded pub/sub, a last UNSUBSCRIBE), the reader is sound in 0.14 and in 1.x. Replies are its
 * own objects, seen through accessors.
 *
 * What it does not bound is bounded here, before memory is taken: an array's announced length
 * allocates at once, so its function table is wrapped; elements are counted over the whole reply,
 * because arrays nest; and a line without an end would be searched again with every read. RESP3
 * types, which only 1.x knows, are refused as 0.14 does.
 *
 * It does not check the line end behind a bulk string, and knows nothing of requests.
 */
#include "crier/reply.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

#define MAX_ELEMENTS ((size_t)1 << 20) /* of one reply, nested ones included */
#define MAX_DEPTH 7                    /* what hiredis 0.14 can do */
#define MAX_LINE_BYTES ((size_t)64 * 1024)
#define KEPT_BYTES ((size_t)64 * 1024) /* of an empty reader's buffer */

#if HIREDIS_MAJOR >= 1
typedef size_t array_len;
#else
typedef int array_len;
#endif

struct reply_parser {
    redisReader *reader;              /* owned */
    redisReplyObjectFunctions table;  /* what the reader calls */
    redisReplyObjectFunctions makers; /* what hiredis brought */
    size_t max_bytes;
    uint64_t fed;    /* bytes in all */
    uint64_t start;  /* of these, what earlier replies took */
    size_t elements; /* of the unfinished reply */
    enum err refused;
    enum err failed; /* for good */
};

/* --- replies ---------------------------------------------------------------------------------- */

static const redisReply *seen(const struct reply *r)
{
    return (const redisReply *)(const void *)r;
}

enum reply_kind reply_kind(const struct reply *r)
{
    switch (seen(r)->type) {
    case REDIS_REPLY_STRING:
        return REPLY_STRING;
    case REDIS_REPLY_STATUS:
        return REPLY_STATUS;
    case REDIS_REPLY_ERROR:
        return REPLY_ERROR;
    case REDIS_REPLY_INTEGER:
        return REPLY_INTEGER;
    case REDIS_REPLY_ARRAY:
        return REPLY_ARRAY;
    default:
        return REPLY_NIL;
    }
}

struct slice reply_text(const struct reply *r)
{
    enum reply_kind kind = reply_kind(r);

    if (kind != REPLY_STRING && kind != REPLY_STATUS && kind != REPLY_ERROR)
        return SLICE_NONE;
    return slice_of(seen(r)->str, seen(r)->len);
}

int64_t reply_integer(const struct reply *r)
{
    return reply_kind(r) == REPLY_INTEGER ? seen(r)->integer : 0;
}

size_t reply_count(const struct reply *r)
{
    return reply_kind(r) == REPLY_ARRAY ? seen(r)->elements : 0;
}

const struct reply *reply_at(const struct reply *r, size_t i)
{
    static const redisReply nil = {.type = REDIS_REPLY_NIL};
    const redisReply *element = i < reply_count(r) ? seen(r)->element[i] : &nil;

    return (const struct reply *)(const void *)element;
}

bool reply_is_error(const struct reply *r, const char *word)
{
    size_t len = strlen(word);
    struct slice text = reply_text(r);

    return reply_kind(r) == REPLY_ERROR && slice_starts_with(text, slice_of(word, len)) &&
           (text.len == len || text.ptr[len] == ' ');
}

void reply_free(struct reply *r)
{
    freeReplyObject(r);
}

/* --- the reader's makers ---------------------------------------------------------------------- */

/* The reader takes NULL for "out of memory"; `refused` tells what it really was. */
static bool may_make(struct reply_parser *p, const redisReadTask *task)
{
    if (task->type > REDIS_REPLY_ERROR) /* RESP3's types come after it */
        p->refused = ERR_SYNTAX;
    return p->refused == ERR_OK;
}

static void *make_string(const redisReadTask *task, char *text, size_t len)
{
    struct reply_parser *p = task->privdata;

    return may_make(p, task) ? p->makers.createString(task, text, len) : NULL;
}

static void *make_array(const redisReadTask *task, array_len n)
{
    struct reply_parser *p = task->privdata;
    unsigned depth = 0;

    for (const redisReadTask *t = task; t; t = t->parent)
        depth++;
    if (depth > MAX_DEPTH || (size_t)n > MAX_ELEMENTS - p->elements)
        p->refused = ERR_LIMIT;
    if (!may_make(p, task))
        return NULL;
    p->elements += (size_t)n;
    return p->makers.createArray(task, n);
}

static void *make_nil(const redisReadTask *task)
{
    struct reply_parser *p = task->privdata;

#if HIREDIS_MAJOR >= 1
    if (task->type == REDIS_REPLY_NIL) /* "_": RESP2's nil is a string or an array of length -1 */
        p->refused = ERR_SYNTAX;
#endif
    return may_make(p, task) ? p->makers.createNil(task) : NULL;
}

#if HIREDIS_MAJOR >= 1
static void *refuse_double(const redisReadTask *task, double v, char *text, size_t len)
{
    (void)v, (void)text, (void)len;
    ((struct reply_parser *)task->privdata)->refused = ERR_SYNTAX;
    return NULL;
}

static void *refuse_bool(const redisReadTask *task, int v)
{
    (void)v;
    ((struct reply_parser *)task->privdata)->refused = ERR_SYNTAX;
    return NULL;
}
#endif

static void wrap_makers(struct reply_parser *p)
{
    p->makers = *p->reader->fn;
    p->table = p->makers;
    p->table.createString = make_string;
    p->table.createArray = make_array;
    p->table.createNil = make_nil;
#if HIREDIS_MAJOR >= 1
    p->table.createDouble = refuse_double;
    p->table.createBool = refuse_bool;
#endif
    p->reader->fn = &p->table;
    p->reader->privdata = p;
}

/* --- the parser ------------------------------------------------------------------------------- */

enum err reply_parser_new(size_t max_reply_bytes, struct reply_parser **out)
{
    struct reply_parser *p = calloc(1, sizeof *p);

    BUG_ON(!p);
    p->reader = redisReaderCreate();
    if (!p->reader) {
        free(p);
        return ERR_NOMEM;
    }
    p->reader->maxbuf = KEPT_BYTES;
    p->max_bytes = max_reply_bytes;
    wrap_makers(p);
    *out = p;
    return ERR_OK;
}

void reply_parser_free(struct reply_parser *p)
{
    if (!p)
        return;
    redisReaderFree(p->reader);
    free(p);
}

static enum err fail(struct reply_parser *p, enum err e)
{
    p->failed = e;
    return e;
}

enum err reply_parser_feed(struct reply_parser *p, struct slice bytes)
{
    if (p->failed)
        return p->failed;
    if (p->fed - p->start > p->max_bytes)
        return fail(p, ERR_LIMIT);
    if (redisReaderFeed(p->reader, bytes.ptr, bytes.len) != REDIS_OK)
        return fail(p, ERR_NOMEM);
    p->fed += bytes.len;
    return ERR_OK;
}

static enum err reader_error(const struct reply_parser *p)
{
    if (p->refused)
        return p->refused;
    return p->reader->err == REDIS_ERR_OOM ? ERR_NOMEM : ERR_SYNTAX;
}

/* What the reader has not taken begins with a line (a bulk string with the line of its length). */
static bool line_is_too_long(const redisReader *reader)
{
    size_t unread = reader->len - reader->pos;

    return unread > MAX_LINE_BYTES && !memmem(reader->buf + reader->pos, MAX_LINE_BYTES, "\r\n", 2);
}

enum err reply_parser_next(struct reply_parser *p, struct reply **out)
{
    redisReader *reader = p->reader;
    void *found = NULL;

    if (p->failed)
        return p->failed;
    if (redisReaderGetReply(reader, &found) != REDIS_OK)
        return fail(p, reader_error(p));

    uint64_t taken = p->fed - (reader->len - reader->pos);
    uint64_t bytes = (found ? taken : p->fed) - p->start;
    if (bytes > p->max_bytes || (!found && line_is_too_long(reader))) {
        if (found)
            freeReplyObject(found);
        return fail(p, ERR_LIMIT);
    }
    if (!found)
        return ERR_AGAIN;
    p->start = taken;
    p->elements = 0;
    *out = found;
    return ERR_OK;
}

bool reply_parser_is_midway(const struct reply_parser *p)
{
    return p->fed > p->start;
}

/* --- commands --------------------------------------------------------------------------------- */

static size_t digits(size_t v)
{
    size_t n = 1;

    while (v >= 10) {
        v /= 10;
        n++;
    }
    return n;
}

static char *put_length(char *at, char kind, size_t v)
{
    size_t n = digits(v);

    *at = kind;
    for (size_t i = n; i > 0; i--, v /= 10)
        at[i] = (char)('0' + v % 10);
    at[n + 1] = '\r';
    at[n + 2] = '\n';
    return at + n + 3;
}

/* "*3\r\n" and "$7\r\nPUBLISH\r\n" */
size_t command_bytes(const struct slice *arg, size_t n)
{
    size_t bytes = 3 + digits(n);

    for (size_t i = 0; i < n; i++)
        bytes += 3 + digits(arg[i].len) + arg[i].len + 2;
    return bytes;
}

void command_append(struct buf *b, const struct slice *arg, size_t n)
{
    size_t bytes = command_bytes(arg, n);

    BUG_ON(n == 0);
    if (buf_reserve(b, bytes) != ERR_OK) {
        b->failed = true;
        return;
    }
    char *at = put_length(b->data + b->len, '*', n);
    for (size_t i = 0; i < n; i++) {
        at = put_length(at, '$', arg[i].len);
        if (arg[i].len)
            at = (char *)memcpy(at, arg[i].ptr, arg[i].len) + arg[i].len;
        *at++ = '\r';
        *at++ = '\n';
    }
    b->len += bytes;
}
