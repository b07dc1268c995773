/* sha1.c - SHA-1 for the WebSocket handshake and the names of Redis scripts, from libcrypto.
 *
 * The one proves only that the server speaks the protocol, the other is of our own texts. Nothing
 * that must resist forgery may use it.
 */
#include "crier/codec.h"

#include <openssl/evp.h>

void sha1(struct slice bytes, uint8_t out[20])
{
    unsigned len = 0;

    BUG_ON(EVP_Digest(bytes.ptr, bytes.len, out, &len, EVP_sha1(), NULL) != 1 || len != 20);
}
