/* client_id.c - client ids in text form: "c" and 11 base64url digits, most significant first.
 *
 * 11 digits carry 66 bits, so the first digit of a 64-bit id is one of 16; all others are refused,
 * which leaves each id one text.
 */
#include "crier/msg.h"

#define DIGITS 11

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void client_id_text(uint64_t id, char out[CLIENT_ID_BYTES])
{
    out[0] = 'c';
    for (int i = DIGITS; i > 0; i--) {
        out[i] = digits[id & 63];
        id >>= 6;
    }
    out[DIGITS + 1] = '\0';
}

enum err client_id_parse(struct slice text, uint64_t *out)
{
    uint64_t id = 0;
    if (text.len != DIGITS + 1 || text.ptr[0] != 'c')
        return ERR_SYNTAX;
    for (size_t i = 1; i < text.len; i++) {
        const char *at = text.ptr[i] ? strchr(digits, text.ptr[i]) : NULL;
        if (!at || id >> 58)
            return ERR_SYNTAX;
        id = id << 6 | (uint64_t)(at - digits);
    }
    *out = id;
    return ERR_OK;
}
