/* ws_wire.c - the parts of RFC 6455 that have no state: handshake key, close codes, client frames.
 */
#include "crier/msg.h"
#include "crier/rnd.h"
#include "crier/ws.h"

#define KEY_CHARS 24 /* 16 bytes in base64 */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

enum err ws_accept_key(struct slice key, char out[29])
{
    uint8_t decoded[KEY_CHARS], digest[20];
    char text[KEY_CHARS + sizeof(GUID) - 1];
    size_t n_decoded;
    if (key.len != KEY_CHARS || base64_decode(key, decoded, &n_decoded) != ERR_OK ||
        n_decoded != 16)
        return ERR_SYNTAX;
    memcpy(text, key.ptr, KEY_CHARS);
    memcpy(text + KEY_CHARS, GUID, sizeof(GUID) - 1);
    sha1(slice_of(text, sizeof(text)), digest);

    struct buf b;
    buf_init(&b, 28);
    base64_append(&b, slice_of(digest, sizeof(digest)));
    BUG_ON(b.failed || b.len != 28);
    memcpy(out, b.data, 28);
    out[28] = 0;
    buf_release(&b);
    return ERR_OK;
}

bool ws_code_is_valid(uint16_t code)
{
    /* 1004 is undefined; 1005, 1006 and 1015 are for a program's own use, never for the wire;
     * 1012-1014 were registered after the RFC (IANA WebSocket Close Code registry). */
    if (code >= 1000 && code <= 1014)
        return code < 1004 || code > 1006;
    return code >= 3000 && code <= 4999;
}

void ws_client_frame(struct buf *b, enum ws_opcode opcode, struct slice payload)
{
    uint8_t header[10], key[4];
    size_t n = ws_frame_header(header, (uint8_t)opcode, payload.len);
    if (buf_reserve(b, n + sizeof(key) + payload.len) != ERR_OK) {
        b->failed = true;
        return;
    }
    header[1] |= 0x80;
    /* Unpredictable, so that a page cannot choose the bytes a proxy sees (RFC 6455 10.3). */
    rnd_bytes(key, sizeof(key));
    buf_append(b, slice_of(header, n));
    buf_append(b, slice_of(key, sizeof(key)));
    for (size_t i = 0; i < payload.len; i++)
        b->data[b->len + i] = (char)(payload.ptr[i] ^ key[i & 3]);
    b->len += payload.len;
}
