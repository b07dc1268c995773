/* client_handshake.c - one GET with an Upgrade, and a strict look at the answer.
 *
 * Only what a WebSocket server answers is understood: a status line, headers, and for a refusal a
 * body of a stated length. Bodies in chunks are shown without being taken apart.
 */
#include "client_handshake.h"

#include "crier/clock.h"
#include "crier/codec.h"
#include "crier/rnd.h"
#include "crier/version.h"
#include "crier/ws.h"

#include <stdio.h>
#include <stdlib.h>

#define ANSWER_TIMEOUT_MS 10000
#define ANSWER_MAX_BYTES 65536

static const char head_end[] = "\r\n\r\n";

long client_head_status(struct slice head)
{
    uint64_t status;
    if (head.len < 13 || !slice_starts_with(head, SLICE("HTTP/1.1 ")) ||
        slice_to_u64(slice_of(head.ptr + 9, 3), 999, &status) != ERR_OK)
        return 0;
    return (long)status;
}

struct slice client_head_value(struct slice head, struct slice name)
{
    struct slice line, rest = head;
    while (slice_split(&rest, '\n', &line)) {
        struct slice value = line, key;
        if (line.len == 0 || line.ptr[line.len - 1] != '\r')
            continue;
        value.len--;
        slice_split(&value, ':', &key);
        if (value.ptr && slice_eq_nocase(key, name))
            return slice_trim(value);
    }
    return SLICE_NONE;
}

static enum err send_request(struct http_raw *raw, const char *url, const char *key)
{
    char *host, *target;
    struct buf b;
    enum err e = http_url_split(url, &host, &target);
    if (e)
        return e;
    buf_init(&b, 2 * ANSWER_MAX_BYTES);
    buf_printf(&b,
               "GET %s HTTP/1.1\r\n"
               "Host: %s\r\n"
               "Upgrade: websocket\r\n"
               "Connection: Upgrade\r\n"
               "Sec-WebSocket-Key: %s\r\n"
               "Sec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Protocol: crier.v1\r\n"
               "User-Agent: crier/" CRIER_VERSION "\r\n\r\n",
               target, host, key);
    e = b.failed ? ERR_SYNTAX : http_raw_send(raw, buf_slice(&b));
    buf_release(&b);
    free(host);
    free(target);
    return e;
}

static bool has_head(const struct buf *in)
{
    return in->len > 0 && memmem(in->data, in->len, head_end, 4);
}

/* Reads until `in` holds at least n bytes, or the whole head when n is 0. */
static enum err read_until(struct http_raw *raw, struct buf *in, size_t n, uint64_t deadline)
{
    while (n > 0 ? in->len < n : !has_head(in)) {
        uint64_t now = clock_mono_ms();
        size_t got;
        if (now >= deadline || buf_reserve(in, 1) != ERR_OK)
            return ERR_IO;
        size_t room = in->cap - in->len < in->max - in->len ? in->cap - in->len : in->max - in->len;
        enum err e = http_raw_recv(raw, in->data + in->len, room, deadline - now, &got);
        if (e)
            return e == ERR_AGAIN ? ERR_IO : e;
        in->len += got;
    }
    return ERR_OK;
}

static bool is_accepted(struct slice head, const char *key)
{
    char accept[29];
    return client_head_status(head) == 101 && ws_accept_key(slice_str(key), accept) == ERR_OK &&
           slice_eq(client_head_value(head, SLICE("Sec-WebSocket-Accept")), slice_str(accept)) &&
           slice_eq_nocase(client_head_value(head, SLICE("Upgrade")), SLICE("websocket"));
}

/* The body of a refusal, as far as it comes; it is only shown to people. */
static void read_body(struct http_raw *raw, struct slice head, struct buf *in, uint64_t deadline)
{
    uint64_t n;
    size_t head_len = head.len;
    if (slice_to_u64(client_head_value(head, SLICE("Content-Length")), ANSWER_MAX_BYTES, &n) !=
        ERR_OK)
        return;
    if (read_until(raw, in, head_len + (size_t)n, deadline) == ERR_OK)
        in->len = head_len + (size_t)n;
}

static enum err understand(struct http_raw *raw, const char *key, struct http_answer *answer,
                           struct buf *in, uint64_t deadline)
{
    size_t head_len = (size_t)((char *)memmem(in->data, in->len, head_end, 4) - in->data) + 4;
    struct slice head = slice_of(in->data, head_len);
    bool accepted = is_accepted(head, key);
    uint64_t retry_after = 0;
    struct slice type = client_head_value(head, SLICE("Content-Type"));
    answer->status = client_head_status(head);
    snprintf(answer->content_type, sizeof(answer->content_type), "%.*s",
             (int)(type.len > 100 ? 100 : type.len), type.ptr ? type.ptr : "");
    if (slice_to_u64(client_head_value(head, SLICE("Retry-After")), 86400, &retry_after) == ERR_OK)
        answer->retry_after_s = retry_after;
    if (!accepted)
        read_body(raw, head, in, deadline);
    if (answer->status == 0 || (answer->status == 101 && !accepted)) {
        answer->status = 0;
        snprintf(answer->error, sizeof(answer->error), "this is not a WebSocket server");
    }
    buf_consume(in, head_len);
    return accepted ? ERR_OK : ERR_SYNTAX;
}

enum err client_handshake(struct http_raw *raw, const char *url, struct http_answer *answer,
                          struct buf *rest)
{
    uint8_t nonce[16];
    struct buf key;
    uint64_t deadline = clock_mono_ms() + ANSWER_TIMEOUT_MS;
    memset(answer, 0, sizeof(*answer));
    buf_clear(rest);
    rnd_bytes(nonce, sizeof(nonce));
    buf_init(&key, 64);
    base64_append(&key, slice_of(nonce, sizeof(nonce)));
    buf_append_char(&key, 0);
    enum err e = send_request(raw, url, key.data);
    if (e == ERR_OK)
        e = read_until(raw, rest, 0, deadline);
    if (e == ERR_OK)
        e = understand(raw, key.data, answer, rest, deadline);
    else
        snprintf(answer->error, sizeof(answer->error), "no answer to the WebSocket request");
    buf_release(&key);
    return e;
}
