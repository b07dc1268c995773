/* err.c - names for results, and the end of the road for our own bugs.
 *
 * bug_at writes with one plain write(2) and no logger: the logger may be what is broken.
 */
#include "crier/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *err_str(enum err e)
{
    switch (e) {
    case ERR_OK:
        return "ok";
    case ERR_NOMEM:
        return "nomem";
    case ERR_LIMIT:
        return "limit";
    case ERR_SYNTAX:
        return "syntax";
    case ERR_RANGE:
        return "range";
    case ERR_UTF8:
        return "utf8";
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_EXISTS:
        return "exists";
    case ERR_CONFLICT:
        return "conflict";
    case ERR_AGAIN:
        return "again";
    case ERR_CLOSED:
        return "closed";
    case ERR_IO:
        return "io";
    case ERR_UNAVAILABLE:
        return "unavailable";
    }
    return "unknown";
}

_Noreturn void bug_at(const char *file, int line, const char *what)
{
    char text[512];
    int n = snprintf(text, sizeof text, "level=error event=bug at=%s:%d what=\"%s\"\n", file, line,
                     what);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;

    if (write(STDERR_FILENO, text, len) < 0)
        abort(); /* nobody to tell; the outcome is the same */
    abort();
}
