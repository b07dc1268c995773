/* option.h - one row of the table of options; private to config.c and option.c. */
#ifndef CRIER_OPS_OPTION_H
#define CRIER_OPS_OPTION_H

#include "crier/config.h"

#define SECOND UINT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

enum kind { KIND_TEXT, KIND_BOOL, KIND_PORT, KIND_COUNT32, KIND_COUNT, KIND_DURATION, KIND_BYTES };

struct option {
    const char *name; /* of the flag, without dashes */
    enum kind kind;
    size_t offset;        /* of the field in struct config */
    const char *fallback; /* NULL: the field stays NULL */
    uint64_t min, max;    /* numbers only */
    enum err (*check)(struct slice value, const char **expected); /* texts only; may be NULL */
    const char *platform_env;                                     /* other variable; may be NULL */
    const char *meaning;
};

struct source {
    const char *text; /* "--port" or "environment variable PORT" */
    struct config_error *err;
};

/* ERR_SYNTAX or ERR_RANGE, from->err says why; the field is then as it was. */
enum err option_set(struct config *c, const struct option *o, struct slice value,
                    const struct source *from) MUST_CHECK;
/* Writes the one line and returns `code`. */
enum err option_fail(struct config_error *e, enum err code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* `value` as an error may show it: at most 100 bytes, and of a URL that may hold a password only
 * the scheme. */
#define OPTION_SHOWN_BYTES 104
void option_show(struct slice value, char out[OPTION_SHOWN_BYTES]);

/* For struct option's `check`; *expected is set in any case. */
enum err option_check_host(struct slice value, const char **expected);
enum err option_check_origins(struct slice value, const char **expected);
enum err option_check_log_level(struct slice value, const char **expected);
enum err option_check_codings(struct slice value, const char **expected);
enum err option_check_client_auth(struct slice value, const char **expected);
enum err option_check_redis_prefix(struct slice value, const char **expected);

#endif
