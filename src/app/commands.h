/* commands.h - the subcommands. argv[0] is the subcommand's name; the result is the exit code:
 * 0 done, 1 it failed (stderr says why), 2 it was not asked correctly. */
#ifndef CRIER_APP_COMMANDS_H
#define CRIER_APP_COMMANDS_H

enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int cmd_serve(int argc, char **argv);
int cmd_publish(int argc, char **argv);
int cmd_subscribe(int argc, char **argv);
int cmd_version(int argc, char **argv);
/* `crier help [COMMAND]`; also what `crier COMMAND --help` prints. */
int cmd_help(int argc, char **argv);
/* What is printed when `crier` is called without or with an unknown subcommand; returns EXIT_USAGE.
 * `unknown` may be NULL. */
int cmd_unknown(const char *unknown);

#endif
