/* client_args.h - flags of the client commands: one table gives parsing and help. */
#ifndef CRIER_APP_CLIENT_ARGS_H
#define CRIER_APP_CLIENT_ARGS_H

#include "crier/buf.h"

struct args_option {
    const char *name; /* without dashes; every option takes a value */
    const char *word; /* for the value, in the help */
    const char *meaning;
};

struct args {
    const char **value; /* per option, borrowed from argv; NULL when absent */
    char **positional;  /* borrowed: argv, reordered */
    int n_positional;
    char error[256]; /* one line, when args_parse failed */
};

/* `value` has room for n_options. "--" ends the options; a lone "-" is an argument. ERR_SYNTAX. */
enum err args_parse(struct args *a, const struct args_option *options, size_t n_options,
                    const char **value, int argc, char **argv) MUST_CHECK;
void args_help(struct buf *b, const struct args_option *options, size_t n_options);

#endif
