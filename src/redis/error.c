/* error.c - error replies, by their first word.
 *
 * Redis 7 gives the error of a command in a script as it is ("OOM … script: …"); before, it stands
 * at the end of "ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -OOM …".
 */
#include "error.h"

#include "slot.h"

static const struct {
    struct slice word;
    enum error_kind kind;
} kinds[] = {
    {{"NOSCRIPT", 8}, ERROR_NO_SCRIPT},
    {{"MOVED", 5}, ERROR_REDIRECT},
    {{"ASK", 3}, ERROR_REDIRECT},
    {{"TRYAGAIN", 8}, ERROR_REDIRECT},
    {{"READONLY", 8}, ERROR_NOT_MASTER},
    {{"MASTERDOWN", 10}, ERROR_NOT_MASTER},
    {{"CLUSTERDOWN", 11}, ERROR_CLUSTER_DOWN},
    {{"LOADING", 7}, ERROR_PASSING},
    {{"NOREPLICAS", 10}, ERROR_PASSING},
    {{"OOM", 3}, ERROR_PASSING},
    {{"BUSY", 4}, ERROR_PASSING},
    {{"MISCONF", 7}, ERROR_PASSING},
};

static enum error_kind kind_of_word(struct slice text)
{
    struct slice word = SLICE_NONE;

    if (text.len && text.ptr[0] == '-')
        text = slice_of(text.ptr + 1, text.len - 1);
    if (!slice_split(&text, ' ', &word))
        return ERROR_OTHER;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (slice_eq(word, kinds[i].word))
            return kinds[i].kind;
    return ERROR_OTHER;
}

/* What follows the last "@user_script: 12: ". */
static struct slice within_script(struct slice text)
{
    const struct slice mark = SLICE("@user_script: ");

    for (size_t at = text.len; at-- > 0;) {
        struct slice rest = slice_of(text.ptr + at, text.len - at);
        if (!slice_starts_with(rest, mark))
            continue;
        struct slice line;
        rest = slice_of(rest.ptr + mark.len, rest.len - mark.len);
        if (slice_split(&rest, ':', &line) && rest.ptr)
            return slice_trim(rest);
        break;
    }
    return SLICE_NONE;
}

enum error_kind error_kind(struct slice text)
{
    enum error_kind k = kind_of_word(text);

    if (k != ERROR_OTHER || !slice_starts_with(text, SLICE("ERR Error running script")))
        return k;
    k = kind_of_word(within_script(text));
    /* The script has begun: it cannot be run again elsewhere. */
    return k == ERROR_REDIRECT || k == ERROR_NO_SCRIPT ? ERROR_OTHER : k;
}

enum err error_parse_redirect(struct slice text, struct redirect *out)
{
    struct slice word, slot, place = text;
    uint64_t slot_number = 0, port = 0;

    if (!slice_split(&place, ' ', &word) || !slice_split(&place, ' ', &slot) || !place.ptr)
        return ERR_SYNTAX;
    struct slice rest = place, part;
    if (slice_split(&rest, ' ', &part) && rest.ptr)
        place = part; /* later versions may add fields */
    /* IPv6 addresses stand there without brackets: the last colon it is. */
    const char *colon = place.len ? memrchr(place.ptr, ':', place.len) : NULL;
    if (!colon)
        return ERR_SYNTAX;
    struct slice host = slice_of(place.ptr, (size_t)(colon - place.ptr));
    struct slice digits = slice_of(colon + 1, place.len - host.len - 1);
    if (slice_to_u64(slot, SLOT_COUNT - 1, &slot_number) != ERR_OK ||
        slice_to_u64(digits, UINT16_MAX, &port) != ERR_OK || port == 0)
        return ERR_SYNTAX;
    *out = (struct redirect){.slot = (uint16_t)slot_number, .host = host, .port = (uint16_t)port};
    return ERR_OK;
}
