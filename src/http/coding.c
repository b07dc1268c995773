/* coding.c - which content coding an event stream gets (RFC 9110 12.5.3).
 *
 * The client's weights come first, the order of --sse-codings decides among equals. A client that
 * refuses everything, plain bytes included, gets plain bytes: any other answer than 200 would end
 * an EventSource for ever.
 */
#include "http_internal.h"

#define WEIGHT_MAX 1000 /* three decimals */
#define NOT_NAMED (-1)

/* "q=0.5" in thousandths; what cannot be read counts as not wanted. */
static int weight_of(struct slice parameter)
{
    struct slice name, value;
    if (!slice_split(&parameter, ';', &value) || !slice_split(&value, '=', &name) ||
        !slice_eq_nocase(slice_trim(name), SLICE("q")))
        return WEIGHT_MAX;
    value = slice_trim(value);
    struct slice whole;
    uint64_t w = 0;
    if (!slice_split(&value, '.', &whole) || slice_to_u64(whole, 1, &w))
        return 0;
    int weight = (int)w * WEIGHT_MAX;
    for (size_t i = 0, unit = 100; i < value.len && i < 3; i++, unit /= 10) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return 0;
        weight += (value.ptr[i] - '0') * (int)unit;
    }
    return weight < WEIGHT_MAX ? weight : WEIGHT_MAX;
}

static bool is_same_coding(struct slice a, struct slice b)
{
    return slice_eq_nocase(a, b) ||
           (slice_eq_nocase(a, SLICE("x-gzip")) && slice_eq(b, SLICE("gzip")));
}

/* The weight the client gives to a coding by name, else by "*", else NOT_NAMED. */
static int weight_in(struct slice accept, struct slice coding)
{
    int any = NOT_NAMED;
    struct slice item;
    while (slice_split(&accept, ',', &item)) {
        struct slice name;
        (void)slice_split(&item, ';', &name);
        name = slice_trim(name);
        if (is_same_coding(name, coding))
            return weight_of(slice_trim(item));
        if (slice_eq(name, SLICE("*")))
            any = weight_of(slice_trim(item));
    }
    return any;
}

enum msg_coding coding_choose(struct slice accept, struct slice offered)
{
    int best = weight_in(accept, SLICE("identity"));
    enum msg_coding chosen = CODING_PLAIN;
    struct slice one;
    if (best < 0)
        best = 0; /* allowed, but anything that is named is preferred */
    while (slice_split(&offered, ',', &one)) {
        one = slice_trim(one);
        int weight = one.len ? weight_in(accept, one) : NOT_NAMED;
        bool better = chosen == CODING_PLAIN ? weight >= best : weight > best;
        if (weight <= 0 || !better)
            continue;
        best = weight;
        chosen = slice_eq(one, SLICE("zstd")) ? CODING_ZSTD : CODING_GZIP;
    }
    return chosen;
}

const char *coding_name(enum msg_coding coding)
{
    return coding == CODING_ZSTD ? "zstd" : coding == CODING_GZIP ? "gzip" : NULL;
}
