/* cmd_subscribe.h - the options of `crier subscribe`, for the help. */
#ifndef CRIER_APP_CMD_SUBSCRIBE_H
#define CRIER_APP_CMD_SUBSCRIBE_H

#include "client_args.h"

enum subscribe_option {
    SUBSCRIBE_URL,
    SUBSCRIBE_CA,
    SUBSCRIBE_TRANSPORT,
    SUBSCRIBE_SINCE,
    SUBSCRIBE_HISTORY,
    SUBSCRIBE_FORMAT,
    SUBSCRIBE_COUNT,
    SUBSCRIBE_OPTIONS
};
extern const struct args_option subscribe_options[SUBSCRIBE_OPTIONS];

#endif
