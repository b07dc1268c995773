/* advice.h - what is unwise about a server, said once in the log when it is met. */
#ifndef CRIER_REDIS_ADVICE_H
#define CRIER_REDIS_ADVICE_H

#include "info.h"

void advice_on_server(const char *name, const struct server_info *i, bool as_cluster);
/* The value of `save`, of a server without an append-only file. */
void advice_on_save_points(const char *name, struct slice save);

#endif
