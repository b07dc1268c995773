/* kind.c - what a body and an event name are.
 *
 * Only what is declared to be JSON must be JSON; a body without a useful type is looked at, so that
 * `curl -d` does what people mean. A bare number or word stays text then: "42" sent by curl is
 * more often a word than a number, and text is what an EventSource shows either way.
 */
#include "crier/codec.h"
#include "crier/json.h"
#include "crier/msg.h"

#define EVENT_MAX_BYTES 64

enum err msg_event_check(struct slice event, const char **why)
{
    if (event.len == 0 || event.len > EVENT_MAX_BYTES) {
        *why = "an event name has 1 to 64 bytes";
        return ERR_SYNTAX;
    }
    if (slice_starts_with(event, SLICE("crier."))) {
        *why = "event names that start with \"crier.\" are reserved";
        return ERR_SYNTAX;
    }
    bool control = !utf8_is_valid(event);
    for (size_t i = 0; i < event.len && !control; i++) {
        uint8_t c = (uint8_t)event.ptr[i];
        /* U+0080 to U+009F are C2 80 to C2 9F */
        control = c < 0x20 || c == 0x7f ||
                  (c == 0xc2 && i + 1 < event.len && (uint8_t)event.ptr[i + 1] < 0xa0);
    }
    if (control) {
        *why = "an event name is UTF-8 without control characters";
        return ERR_SYNTAX;
    }
    return ERR_OK;
}

static struct slice media_type(struct slice content_type)
{
    struct slice type = SLICE_NONE;
    (void)slice_split(&content_type, ';', &type);
    return slice_trim(type);
}

static bool ends_with_nocase(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len &&
           slice_eq_nocase(slice_of(s.ptr + s.len - suffix.len, suffix.len), suffix);
}

static bool starts_with_nocase(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_eq_nocase(slice_of(s.ptr, prefix.len), prefix);
}

static enum msg_kind text_or_binary(struct slice body)
{
    return utf8_is_valid(body) ? MSG_TEXT : MSG_BINARY;
}

static bool is_json_container(struct slice body)
{
    size_t i = 0;
    while (i < body.len && memchr(" \t\r\n", body.ptr[i], 4))
        i++;
    return i < body.len && (body.ptr[i] == '{' || body.ptr[i] == '[') &&
           json_check(body, false, NULL) == ERR_OK;
}

enum err msg_kind_of(struct slice content_type, struct slice body, enum msg_kind *out,
                     size_t *jerr_offset, const char **jerr_what)
{
    struct slice type = media_type(content_type);
    if (slice_eq_nocase(type, SLICE("application/json")) ||
        ends_with_nocase(type, SLICE("+json"))) {
        struct json_error je = {0};
        if (json_check(body, false, &je) != ERR_OK) {
            *jerr_offset = je.offset;
            *jerr_what = je.what;
            return ERR_SYNTAX;
        }
        *out = MSG_JSON;
    } else if (type.len == 0 || slice_eq_nocase(type, SLICE("application/x-www-form-urlencoded"))) {
        *out = is_json_container(body) ? MSG_JSON : text_or_binary(body);
    } else {
        *out = starts_with_nocase(type, SLICE("text/")) ? text_or_binary(body) : MSG_BINARY;
    }
    return ERR_OK;
}
