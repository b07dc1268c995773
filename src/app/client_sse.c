/* client_sse.c - bytes of an event stream to events, as a browser would see them.
 *
 * Lines are gathered across reads, because a read may end anywhere, also between CR and LF. An
 * event that the end of the stream cuts off is never reported: only an empty line dispatches.
 * Text is not checked for UTF-8: a browser would replace what is wrong, we pass it on.
 */
#include "client_sse.h"

static const unsigned char bom[3] = {0xef, 0xbb, 0xbf};

void sse_init(struct sse_parser *p, size_t max_bytes,
              void (*on_event)(void *ctx, const struct sse_event *event), void *ctx)
{
    memset(p, 0, sizeof(*p));
    p->on_event = on_event;
    p->ctx = ctx;
    buf_init(&p->line, max_bytes);
    buf_init(&p->data, max_bytes);
    buf_init(&p->type, max_bytes);
    buf_init(&p->id, max_bytes);
    buf_init(&p->last_id, max_bytes);
}

void sse_release(struct sse_parser *p)
{
    buf_release(&p->line);
    buf_release(&p->data);
    buf_release(&p->type);
    buf_release(&p->id);
    buf_release(&p->last_id);
}

void sse_stop(struct sse_parser *p)
{
    p->stopped = true;
}

static void set(struct buf *b, struct slice value)
{
    buf_clear(b);
    buf_append(b, value);
}

static void dispatch(struct sse_parser *p)
{
    /* The id counts even if there is no data to go with it. */
    set(&p->last_id, buf_slice(&p->id));
    if (p->data.len > 0) {
        struct sse_event event = {
            .type = p->type.len > 0 ? buf_slice(&p->type) : SLICE("message"),
            .data = slice_of(p->data.data, p->data.len - 1), /* without the last line end */
            .last_id = buf_slice(&p->last_id),
        };
        p->on_event(p->ctx, &event);
    }
    buf_clear(&p->data);
    buf_clear(&p->type);
}

static void take_field(struct sse_parser *p, struct slice name, struct slice value)
{
    uint64_t ms;
    if (slice_eq(name, SLICE("data"))) {
        buf_append(&p->data, value);
        buf_append_char(&p->data, '\n');
    } else if (slice_eq(name, SLICE("event"))) {
        set(&p->type, value);
    } else if (slice_eq(name, SLICE("id"))) {
        if (value.len == 0 || !memchr(value.ptr, 0, value.len))
            set(&p->id, value);
    } else if (slice_eq(name, SLICE("retry"))) {
        if (slice_to_u64(value, UINT64_MAX, &ms) == ERR_OK)
            p->retry_ms = ms;
    }
}

static void take_line(struct sse_parser *p, struct slice line)
{
    struct slice value = line, name;
    if (line.len == 0) {
        dispatch(p);
        return;
    }
    slice_split(&value, ':', &name);
    if (!value.ptr)
        value = SLICE_NONE; /* the whole line is the name */
    if (value.len > 0 && value.ptr[0] == ' ')
        value = slice_of(value.ptr + 1, value.len - 1);
    if (name.len > 0) /* else a comment */
        take_field(p, name, value);
}

/* Is this byte part of a byte order mark at the very start? If the mark turns out to be something
 * else, its bytes so far are put back as text. */
static bool swallow_bom(struct sse_parser *p, unsigned char c)
{
    if (p->bom_seen == sizeof(bom))
        return false;
    if (c == bom[p->bom_seen]) {
        p->bom_seen++;
        return true;
    }
    buf_append(&p->line, slice_of(bom, p->bom_seen));
    p->bom_seen = sizeof(bom);
    return false;
}

static void end_line(struct sse_parser *p)
{
    take_line(p, buf_slice(&p->line));
    buf_clear(&p->line);
}

static void take_byte(struct sse_parser *p, char c)
{
    bool second_half = p->after_cr && c == '\n';
    p->after_cr = c == '\r';
    if (second_half || swallow_bom(p, (unsigned char)c))
        return;
    if (c == '\n' || c == '\r')
        end_line(p);
    else
        buf_append_char(&p->line, c);
}

enum err sse_feed(struct sse_parser *p, struct slice bytes)
{
    for (size_t i = 0; i < bytes.len && !p->stopped; i++) {
        take_byte(p, bytes.ptr[i]);
        if (p->line.failed || p->data.failed) {
            sse_stop(p);
            return ERR_LIMIT;
        }
    }
    return ERR_OK;
}
