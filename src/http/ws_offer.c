/* ws_offer.c - agreeing on permessage-deflate (see ws_offer.h).
 *
 * What we send is compressed once for all clients and what we get is inflated by what is lent for
 * one message, so neither side may refer to earlier messages: both no_context_takeover parameters
 * are in every answer (RFC 7692 7.1.1 allows both unasked). The client's window we do not limit,
 * because inflating has the largest anyway.
 *
 * A server_max_window_bits of 8 is declined: zlib cannot promise it (its smallest window is 9).
 */
#include "ws_offer.h"

#include "crier/deflate.h"

#include <stdio.h>

#define VALUE_MAX_BYTES 32 /* of a quoted value; longer ones are none that we know */
#define WINDOW_BITS_MIN 8
#define WINDOW_BITS_MAX 15

struct reader {
    struct slice rest;
};

/* One parameter; value.ptr NULL when there is none. */
struct param {
    struct slice name, value;
    char unquoted[VALUE_MAX_BYTES];
};

/* An offer of permessage-deflate as far as it has been read. */
struct deflate_offer {
    bool server_no_takeover, client_no_takeover, server_bits_given, client_bits_given;
    unsigned server_bits;
    bool invalid;
};

static void skip_blanks(struct reader *in)
{
    while (in->rest.len && (in->rest.ptr[0] == ' ' || in->rest.ptr[0] == '\t'))
        in->rest = slice_of(in->rest.ptr + 1, in->rest.len - 1);
}

/* With the blanks around it. */
static bool skip_char(struct reader *in, char c)
{
    skip_blanks(in);
    if (!in->rest.len || in->rest.ptr[0] != c)
        return false;
    in->rest = slice_of(in->rest.ptr + 1, in->rest.len - 1);
    skip_blanks(in);
    return true;
}

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool read_token(struct reader *in, struct slice *out)
{
    size_t n = 0;
    while (n < in->rest.len && is_token_char(in->rest.ptr[n]))
        n++;
    *out = slice_of(in->rest.ptr, n);
    in->rest = slice_of(in->rest.ptr + n, in->rest.len - n);
    return n > 0;
}

/* What it says must be a token again (RFC 6455 9.1). */
static bool read_quoted(struct reader *in, struct param *p)
{
    size_t at = 1, n = 0;
    while (at < in->rest.len && in->rest.ptr[at] != '"') {
        if (in->rest.ptr[at] == '\\' && ++at == in->rest.len)
            return false;
        char c = in->rest.ptr[at++];
        if (!is_token_char(c))
            return false;
        if (n < VALUE_MAX_BYTES)
            p->unquoted[n] = c;
        n++;
    }
    if (at >= in->rest.len || !n)
        return false;
    p->value = slice_of(p->unquoted, n < VALUE_MAX_BYTES ? n : VALUE_MAX_BYTES);
    in->rest = slice_of(in->rest.ptr + at + 1, in->rest.len - at - 1);
    return true;
}

static bool read_param(struct reader *in, struct param *p)
{
    p->value = SLICE_NONE;
    if (!read_token(in, &p->name))
        return false;
    if (!skip_char(in, '='))
        return true;
    return in->rest.len && in->rest.ptr[0] == '"' ? read_quoted(in, p) : read_token(in, &p->value);
}

static void take_flag(struct deflate_offer *o, bool *flag, const struct param *p)
{
    if (*flag || p->value.ptr)
        o->invalid = true;
    *flag = true;
}

/* A number from 8 to 15 without leading zeros. */
static void take_bits(struct deflate_offer *o, bool *given, const struct param *p, unsigned *bits)
{
    uint64_t n = 0;
    if (*given || (p->value.ptr && p->value.len && p->value.ptr[0] == '0') ||
        slice_to_u64(p->value, WINDOW_BITS_MAX, &n) || n < WINDOW_BITS_MIN)
        o->invalid = true;
    *given = true;
    *bits = (unsigned)n;
}

static void take_param(struct deflate_offer *o, const struct param *p)
{
    unsigned ignored;
    if (slice_eq_nocase(p->name, SLICE("server_no_context_takeover")))
        take_flag(o, &o->server_no_takeover, p);
    else if (slice_eq_nocase(p->name, SLICE("client_no_context_takeover")))
        take_flag(o, &o->client_no_takeover, p);
    else if (slice_eq_nocase(p->name, SLICE("server_max_window_bits")))
        take_bits(o, &o->server_bits_given, p, &o->server_bits);
    else if (!slice_eq_nocase(p->name, SLICE("client_max_window_bits")))
        o->invalid = true;
    else if (p->value.ptr)
        take_bits(o, &o->client_bits_given, p, &ignored);
    else
        take_flag(o, &o->client_bits_given, p);
}

static void accept(const struct deflate_offer *o, struct ws_offer *out)
{
    int n = snprintf(out->answer, sizeof(out->answer),
                     "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    out->coding = CODING_DEFLATE;
    if (!o->server_bits_given)
        return;
    (void)snprintf(out->answer + n, sizeof(out->answer) - (size_t)n, "; server_max_window_bits=%u",
                   o->server_bits);
    if (o->server_bits < (unsigned)deflate_window_bits())
        out->coding = CODING_NARROW;
}

static enum err read_extension(struct reader *in, struct ws_offer *out)
{
    struct deflate_offer o = {0};
    struct slice name;
    struct param p;
    if (!read_token(in, &name))
        return ERR_SYNTAX;
    while (skip_char(in, ';')) {
        if (!read_param(in, &p))
            return ERR_SYNTAX;
        take_param(&o, &p);
    }
    bool narrowest = o.server_bits_given && o.server_bits == WINDOW_BITS_MIN;
    if (out->coding == CODING_PLAIN && !o.invalid && !narrowest &&
        slice_eq_nocase(name, SLICE("permessage-deflate")))
        accept(&o, out);
    return ERR_OK;
}

enum err ws_offer_choose(struct slice extensions, struct ws_offer *out)
{
    struct reader in = {extensions};
    struct ws_offer chosen = {.coding = CODING_PLAIN};
    /* Empty elements of a list are to be borne (RFC 9110 5.6.1.2). */
    while (skip_char(&in, ','))
        ;
    skip_blanks(&in);
    while (in.rest.len) {
        enum err e = read_extension(&in, &chosen);
        if (e)
            return e;
        if (!skip_char(&in, ',') && in.rest.len)
            return ERR_SYNTAX;
        while (skip_char(&in, ','))
            ;
    }
    *out = chosen;
    return ERR_OK;
}
