/* handshake.c - the opening handshake of a WebSocket (RFC 6455 4.2, RFC 8441): what may be wrong
 * with it, and what is agreed on. The transports say what of it their version of HTTP has.
 */
#include "http_internal.h"
#include "ws_offer.h"

#include "crier/metrics.h"

#define LIST_MAX_BYTES (64 * 1024) /* more than any request may have */
#define SUBPROTOCOL "crier.v1"

static void append_value(void *ctx, struct slice value)
{
    struct buf *b = ctx;
    if (b->len)
        buf_append(b, SLICE(", "));
    buf_append(b, value);
}

void http_header_list(const struct http_exchange *ex, const char *name, struct buf *out)
{
    ex->ops->each_header(ex, name, append_value, out);
}

static void count_value(void *ctx, struct slice value)
{
    (void)value;
    ++*(size_t *)ctx;
}

size_t http_header_count(const struct http_exchange *ex, const char *name)
{
    size_t n = 0;
    ex->ops->each_header(ex, name, count_value, &n);
    return n;
}

bool http_websocket_is_good(struct http_exchange *ex)
{
    switch (ex->ops->upgrade(ex)) {
    case HTTP_UPGRADE_OK:
        return true;
    case HTTP_UPGRADE_NONE:
        http_problem(ex, 426, "upgrade_required",
                     "this path speaks WebSocket: send Upgrade: websocket and Connection: Upgrade");
        return false;
    case HTTP_UPGRADE_BAD_VERSION:
        http_problem(ex, 426, "upgrade_required", "Sec-WebSocket-Version must be 13");
        return false;
    case HTTP_UPGRADE_REPEATED:
        http_problem(ex, 400, "bad_request",
                     "Sec-WebSocket-Version and Sec-WebSocket-Key may be given once");
        return false;
    default:
        http_problem(ex, 400, "bad_request", "Sec-WebSocket-Key must be 16 bytes in base64");
        return false;
    }
}

static void choose_subprotocol(const struct http_exchange *ex, struct http_response *head)
{
    struct buf list;
    buf_init(&list, LIST_MAX_BYTES);
    http_header_list(ex, "Sec-WebSocket-Protocol", &list);
    struct slice offered = buf_slice(&list), one;
    while (slice_split(&offered, ',', &one))
        if (slice_eq(slice_trim(one), SLICE(SUBPROTOCOL))) {
            http_add_header(head, "Sec-WebSocket-Protocol", SUBPROTOCOL);
            break;
        }
    buf_release(&list);
}

static enum err choose_extension(const struct http_exchange *ex, struct ws_offer *out)
{
    struct buf list;
    buf_init(&list, LIST_MAX_BYTES);
    http_header_list(ex, "Sec-WebSocket-Extensions", &list);
    enum err e = ws_offer_choose(buf_slice(&list), out);
    buf_release(&list);
    if (!ex->server->shared->ws_deflate)
        *out = (struct ws_offer){.coding = CODING_PLAIN};
    return e;
}

void http_accept_websocket(struct http_exchange *ex, struct http_stream *st)
{
    struct http_response head = {.status = 101};
    struct ws_offer offer;
    BUG_ON(ex->answered);
    if (choose_extension(ex, &offer)) {
        st->cancel(st);
        http_problem(ex, 400, "bad_request",
                     "Sec-WebSocket-Extensions is not a list of extensions (RFC 6455 9.1)");
        return;
    }
    ex->answered = true;
    metrics_inc(M_REQUESTS);
    choose_subprotocol(ex, &head);
    st->coding = (uint8_t)offer.coding;
    if (offer.answer[0])
        http_add_header(&head, "Sec-WebSocket-Extensions", offer.answer);
    ex->ops->websocket(ex, &head, st);
}
