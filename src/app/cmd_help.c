/* cmd_help.c - what each subcommand is for and takes.
 *
 * Options come out of the tables that parse them, so the help cannot be behind. Help that was asked
 * for goes to stdout and is a success; help that was not goes to stderr and is a usage error.
 */
#include "client_args.h"
#include "cmd_publish.h"
#include "cmd_subscribe.h"
#include "commands.h"
#include "crier/config.h"

#include <stdio.h>

#define HELP_MAX_BYTES 65536

static void serve_options(struct buf *b)
{
    buf_append_str(b, "\nOptions, their environment variables and [defaults]:\n");
    config_help(b);
}

static void publish_help(struct buf *b)
{
    buf_append_str(b, "\nOptions and [defaults]:\n");
    args_help(b, publish_options, PUBLISH_OPTIONS);
}

static void subscribe_help(struct buf *b)
{
    buf_append_str(b, "\nOptions and [defaults]:\n");
    args_help(b, subscribe_options, SUBSCRIBE_OPTIONS);
}

static const struct command {
    const char *name, *usage, *meaning, *text;
    void (*options)(struct buf *b); /* may be NULL */
} commands[] = {
    {"serve", "[OPTION...]", "run the server",
     "Runs the server until SIGTERM or SIGINT, which drain it: clients are told to go elsewhere\n"
     "and have until the end of --drain. A flag counts more than an environment variable.\n",
     serve_options},
    {"publish", "CHANNEL MESSAGE|-", "publish one message and print its cursor",
     "Publishes MESSAGE (- reads it from stdin) byte for byte and prints its cursor once it is\n"
     "ordered. Exit code 1 when the server refuses, its reason is then on stderr.\n",
     publish_help},
    {"subscribe", "CHANNEL...", "print messages as they come",
     "Prints the messages of the channels, reconnects by itself and goes on where it was. What\n"
     "could not be delivered is said on stderr. Ends on SIGINT and SIGTERM.\n",
     subscribe_help},
    {"version", "", "print the version", "", NULL},
    {"help", "[COMMAND]", "print this, or the help of one command", "", NULL},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *command_named(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static void describe_all(struct buf *b)
{
    buf_append_str(b, "crier - server push over EventSource, WebSocket and long polling\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        char line[64];
        snprintf(line, sizeof(line), "%s %s", commands[i].name, commands[i].usage);
        buf_printf(b, "  crier %-28s %s\n", line, commands[i].meaning);
    }
    buf_append_str(b, "\n`crier help COMMAND` lists the options of a command.\n");
}

static void describe(struct buf *b, const struct command *c)
{
    buf_printf(b, "usage: crier %s %s\n\n", c->name, c->usage);
    if (c->text[0])
        buf_append_str(b, c->text);
    else
        buf_printf(b, "%s\n", c->meaning);
    if (c->options)
        c->options(b);
}

static void print(FILE *to, const struct command *c)
{
    struct buf b;
    buf_init(&b, HELP_MAX_BYTES);
    if (c)
        describe(&b, c);
    else
        describe_all(&b);
    BUG_ON(b.failed);
    fwrite(b.data, 1, b.len, to);
    buf_release(&b);
}

int cmd_unknown(const char *unknown)
{
    if (unknown)
        fprintf(stderr, "crier: %s: there is no such command\n\n", unknown);
    print(stderr, NULL);
    return EXIT_USAGE;
}

int cmd_help(int argc, char **argv)
{
    const struct command *c = argc > 1 ? command_named(argv[1]) : NULL;
    if (argc > 1 && !c)
        return cmd_unknown(argv[1]);
    print(stdout, c);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}
