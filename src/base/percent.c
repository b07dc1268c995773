/* percent.c - percent-encoding (RFC 3986 section 2.1), and the form flavour of it in query strings.
 *
 * A bad escape is refused, not passed through: two components that disagree about "%zz" disagree
 * about the name of a channel.
 */
#include "crier/codec.h"

/* 16 for anything else. */
static unsigned hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
}

static enum err decode_into(struct slice s, bool plus_is_space, struct buf *b)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%') {
            unsigned high = s.len - i > 2 ? hex_value(s.ptr[i + 1]) : 16;
            unsigned low = high < 16 ? hex_value(s.ptr[i + 2]) : 16;
            if (low > 15)
                return ERR_SYNTAX;
            c = (char)(unsigned char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        buf_append_char(b, c);
    }
    return b->failed ? ERR_LIMIT : ERR_OK;
}

enum err percent_decode(struct slice s, bool plus_is_space, struct buf *b)
{
    size_t len_before = b->len;
    enum err e = decode_into(s, plus_is_space, b);

    if (e != ERR_OK)
        b->len = len_before;
    return e;
}

static bool is_unreserved(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void percent_append(struct buf *b, struct slice s)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (is_unreserved(s.ptr[i]))
            buf_append_char(b, s.ptr[i]);
        else
            buf_append(b, slice_of((char[]){'%', hex[c >> 4], hex[c & 15]}, 3));
    }
}
