/* client_problem.h - what a server said when it refused, as one line on stderr. */
#ifndef CRIER_APP_CLIENT_PROBLEM_H
#define CRIER_APP_CLIENT_PROBLEM_H

#include "crier/slice.h"

/* "crier: WHAT: TITLE (CODE): DETAIL" from application/problem+json, else the status alone. */
void client_problem(const char *what, long status, struct slice body);
/* Would the same request be refused again? Not when the server was busy or on its way out. */
bool client_is_permanent(long status);
/* The decoded string member of a JSON object; malloc'ed; NULL when there is none. */
char *client_json_string(struct slice object, const char *name);

#endif
