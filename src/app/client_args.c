/* client_args.c - "--name value" and "--name=value" out of argv, the rest moved to its front.
 *
 * Knows no types: the commands check their own values, because only they know what is expected.
 */
#include "client_args.h"

#include <stdio.h>

static bool is_option(const char *arg)
{
    return arg[0] == '-' && arg[1] != 0;
}

static size_t find(const struct args_option *options, size_t n_options, struct slice name)
{
    size_t i = 0;
    while (i < n_options && !slice_eq(name, slice_str(options[i].name)))
        i++;
    return i;
}

static enum err take_option(struct args *a, const struct args_option *options, size_t n_options,
                            int argc, char **argv, int *i)
{
    struct slice value = slice_str(argv[*i]), name;
    slice_split(&value, '=', &name);
    bool dashed = slice_starts_with(name, SLICE("--"));
    size_t o = dashed ? find(options, n_options, slice_of(name.ptr + 2, name.len - 2)) : n_options;
    if (o == n_options) {
        snprintf(a->error, sizeof(a->error), "%.100s: there is no such option", argv[*i]);
        return ERR_SYNTAX;
    }
    if (!value.ptr && ++*i >= argc) {
        snprintf(a->error, sizeof(a->error), "--%s: found nothing after it, expected %s",
                 options[o].name, options[o].word);
        return ERR_SYNTAX;
    }
    a->value[o] = value.ptr ? value.ptr : argv[*i];
    return ERR_OK;
}

enum err args_parse(struct args *a, const struct args_option *options, size_t n_options,
                    const char **value, int argc, char **argv)
{
    bool options_ended = false;
    memset(a, 0, sizeof(*a));
    a->value = value;
    a->positional = argv;
    for (size_t i = 0; i < n_options; i++)
        value[i] = NULL;
    for (int i = 1; i < argc; i++) {
        if (!options_ended && strcmp(argv[i], "--") == 0) {
            options_ended = true;
        } else if (!options_ended && is_option(argv[i])) {
            enum err e = take_option(a, options, n_options, argc, argv, &i);
            if (e)
                return e;
        } else {
            a->positional[a->n_positional++] = argv[i];
        }
    }
    return ERR_OK;
}

void args_help(struct buf *b, const struct args_option *options, size_t n_options)
{
    for (size_t i = 0; i < n_options; i++) {
        char flag[64];
        snprintf(flag, sizeof(flag), "--%s %s", options[i].name, options[i].word);
        buf_printf(b, "  %-26s %s\n", flag, options[i].meaning);
    }
}
