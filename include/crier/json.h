/* json.h - reading and writing JSON (RFC 8259) without copying the peer's bytes.
 *
 * Reading: json_check validates a whole text once (grammar, UTF-8, nesting, no duplicate members)
 * without allocating per value. After that members and elements are found as raw slices of the
 * input, so a payload is forwarded exactly as it came. Strings with escapes are
 * decoded by jansson (json_unescape.c is the only file that includes jansson.h).
 *
 * Writing: plain appends to a buf. Any thread.
 */
#ifndef CRIER_JSON_H
#define CRIER_JSON_H

#include "crier/buf.h"

#define JSON_MAX_DEPTH 64

enum json_type { JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON_NUMBER, JSON_BOOL, JSON_NULL };

/* Call once before threads start: seeds jansson's hash. */
void json_init(void);

struct json_error {
    size_t offset;    /* byte where it went wrong */
    const char *what; /* constant text: what was expected */
};

/* One value with optional white space around it. ERR_SYNTAX, ERR_UTF8, ERR_LIMIT (depth), or
 * ERR_EXISTS (an object names a member twice; only looked for when reject_duplicates, and then
 * only in the outermost object and objects directly inside an outermost array).
 * err_out may be NULL; it is written on failure. */
enum err json_check(struct slice text, bool reject_duplicates,
                    struct json_error *err_out) MUST_CHECK;

/* The following take text that json_check accepted (or a raw slice that came out of one). */
enum json_type json_type_of(struct slice value);
/* Raw value of a member of the object, white space trimmed; false when absent or not an object.
 * Names written with escapes are found too; `name` is ASCII. Of members with the same name the
 * first counts. */
bool json_member(struct slice object, const char *name, struct slice *value);
/* Walks an array: set *pos to 0 first; false at the end or when not an array. */
bool json_element(struct slice array, size_t *pos, struct slice *value);
/* Appends the decoded string. A surrogate escape without its other half (RFC 8259 8.2) becomes
 * U+FFFD. ERR_SYNTAX when the value is not a string, ERR_LIMIT when it does not fit `out`. */
enum err json_string_decode(struct slice value, struct buf *out) MUST_CHECK;
/* A non-negative integer. ERR_SYNTAX when not one, ERR_RANGE over max. */
enum err json_u64(struct slice value, uint64_t max, uint64_t *out) MUST_CHECK;
enum err json_bool(struct slice value, bool *out) MUST_CHECK;

/* A quoted, escaped string; bytes that are not UTF-8 become U+FFFD. */
void json_append_string(struct buf *b, struct slice s);

#endif
