/* cmd_version.c - `crier version`: one line that scripts can cut at the blank. */
#include "commands.h"
#include "crier/version.h"

#include <stdio.h>

int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("crier " CRIER_VERSION);
    return EXIT_DONE;
}
