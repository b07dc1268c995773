/* cmd_publish.h - the options of `crier publish`, for the help. */
#ifndef CRIER_APP_CMD_PUBLISH_H
#define CRIER_APP_CMD_PUBLISH_H

#include "client_args.h"

enum publish_option {
    PUBLISH_URL,
    PUBLISH_CA,
    PUBLISH_EVENT,
    PUBLISH_KEY,
    PUBLISH_TYPE,
    PUBLISH_OPTIONS
};
extern const struct args_option publish_options[PUBLISH_OPTIONS];

#endif
