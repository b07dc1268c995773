/* main.c - from the first argument to its subcommand. */
#include "commands.h"

#include "crier/json.h"

#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", cmd_serve},     {"publish", cmd_publish}, {"subscribe", cmd_subscribe},
    {"version", cmd_version}, {"help", cmd_help},       {"--version", cmd_version},
    {"--help", cmd_help},     {"-h", cmd_help},
};

static int wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    json_init();
    for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (wants_help(argc - 1, argv + 1) && commands[i].run != cmd_help) {
            char *help[] = {(char *)"help", argv[1], NULL};
            return cmd_help(2, help);
        }
        return commands[i].run(argc - 1, argv + 1);
    }
    return cmd_unknown(argc > 1 ? argv[1] : NULL);
}
