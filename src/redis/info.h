/* info.h - what a server says of itself: the answers to INFO and CONFIG GET. Any thread. */
#ifndef CRIER_REDIS_INFO_H
#define CRIER_REDIS_INFO_H

#include "crier/slice.h"

#define INFO_IDENTITY_BYTES 16
#define INFO_VERSION(major, minor) ((major)*1000u + (minor))

struct server_info {             /* what was not said is 0, empty or false */
    struct slice run_id, replid; /* borrowed from the text */
    struct slice version_text;
    struct slice policy; /* maxmemory-policy */
    uint32_t version;    /* INFO_VERSION; Valkey says the Redis version it is compatible with */
    uint64_t maxmemory;
    bool has_role, is_master;
    bool loading;
    bool cluster;
    bool has_maxmemory;
    bool has_aof, aof;
};

void info_parse(struct slice text, struct server_info *out);
/* Lower-case hexadecimal, from run_id and master_replid; all 0 when neither was said. */
void info_identity(const struct server_info *i, char out[INFO_IDENTITY_BYTES]);

#endif
