/* client_problem.c - RFC 9457 problems for people. */
#include "client_problem.h"

#include "crier/json.h"

#include <stdio.h>
#include <stdlib.h>

#define STRING_MAX_BYTES 4096

char *client_json_string(struct slice object, const char *name)
{
    struct slice value;
    struct buf b;
    size_t len;
    if (!json_member(object, name, &value))
        return NULL;
    buf_init(&b, STRING_MAX_BYTES);
    enum err e = json_string_decode(value, &b);
    buf_append_char(&b, 0);
    if (e == ERR_OK && !b.failed)
        return buf_take(&b, &len);
    buf_release(&b);
    return NULL;
}

void client_problem(const char *what, long status, struct slice body)
{
    char *title = NULL, *code = NULL, *detail = NULL;
    if (json_check(body, false, NULL) == ERR_OK) {
        title = client_json_string(body, "title");
        code = client_json_string(body, "code");
        detail = client_json_string(body, "detail");
    }
    if (title)
        fprintf(stderr, "crier: %s: %s%s%s%s%s%s\n", what, title, code ? " (" : "",
                code ? code : "", code ? ")" : "", detail ? ": " : "", detail ? detail : "");
    else
        fprintf(stderr, "crier: %s: the server answered with status %ld\n", what, status);
    free(title);
    free(code);
    free(detail);
}

bool client_is_permanent(long status)
{
    return status < 500 && status != 408 && status != 429;
}
