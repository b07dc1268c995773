/* json_internal.h - what the three files of the JSON module share; nobody else includes it. */
#ifndef CRIER_JSON_INTERNAL_H
#define CRIER_JSON_INTERNAL_H

#include "crier/buf.h"

/* Before threads start. */
void json_unescape_init(void);
/* quoted: a JSON string with its quotes, UTF-8. Appends the decoded text. ERR_SYNTAX when it is
 * not a string, ERR_LIMIT when it does not fit `out`. */
enum err json_unescape(struct slice quoted, struct buf *out) MUST_CHECK;

static inline bool json_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

#endif
