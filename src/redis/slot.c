/* slot.c - hash tags and CRC-16/XMODEM, as the Redis Cluster specification has them.
 *
 * The table has a row per half byte and not per byte: keys are short, and 32 bytes stay in cache.
 */
#include "slot.h"

static const uint16_t crc_of_half[16] = {
    0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
    0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
};

static uint16_t crc16(struct slice s)
{
    unsigned crc = 0;

    for (size_t i = 0; i < s.len; i++) {
        unsigned byte = (unsigned char)s.ptr[i];
        crc = (crc << 4 & 0xffff) ^ crc_of_half[crc >> 12 ^ byte >> 4];
        crc = (crc << 4 & 0xffff) ^ crc_of_half[crc >> 12 ^ (byte & 15)];
    }
    return (uint16_t)crc;
}

struct slice slot_tag(struct slice key)
{
    const char *open = key.len ? memchr(key.ptr, '{', key.len) : NULL;
    if (!open)
        return key;
    size_t rest = key.len - (size_t)(open + 1 - key.ptr);
    const char *close = rest ? memchr(open + 1, '}', rest) : NULL;
    if (!close || close == open + 1)
        return key;
    return slice_of(open + 1, (size_t)(close - open - 1));
}

uint16_t slot_of(struct slice key)
{
    return crc16(slot_tag(key)) % SLOT_COUNT;
}
