/* config.h - the table of options: flags, environment, help. Read once at start by the main thread;
 * immutable afterwards.
 *
 * Precedence: flag, then CRIER_NAME, then the names platforms set (PORT, REDIS_URL), then the
 * default; of a repeated flag the last. A variable that is set to nothing counts as not set.
 * Unknown flags and unknown CRIER_ variables are errors; left alone are CRIER_TEST_..., CRIER_URL
 * (the client commands' own) and what Kubernetes sets beside services named crier or crier-redis
 * (CRIER_SERVICE_..., CRIER_PORT_..., CRIER_PORT=tcp://..., CRIER_REDIS_SERVICE_... and so on).
 *
 * Errors never show what stands in a URL that may hold a password, wherever it was put.
 */
#ifndef CRIER_CONFIG_H
#define CRIER_CONFIG_H

#include "crier/buf.h"

struct config {
    char *host;                  /* --host: names or addresses, comma separated; "localhost" */
    uint16_t port;               /* --port, PORT: 8080; 0 = the kernel chooses */
    uint32_t workers;            /* --workers: 0 = number of cores */
    bool insecure;               /* --insecure: anonymous service beyond loopback */
    char *allowed_origins;       /* --allowed-origins: exact origins, comma separated, or "*" */
    char *log_level;             /* --log-level: error, warn, info, debug */
    uint64_t drain_ms;           /* --drain: 30s */
    uint64_t max_message_bytes;  /* --max-message: 64k */
    uint64_t history_messages;   /* --history: 100 per channel */
    uint64_t history_ms;         /* --history-age: 5m */
    uint64_t idempotency_ms;     /* --idempotency-age: 5m */
    uint64_t outbox_bytes;       /* --outbox-bytes: 1m */
    uint64_t outbox_messages;    /* --outbox-messages: 1000 */
    uint64_t sse_keepalive_ms;   /* --sse-keepalive: 15s */
    uint64_t sse_retry_ms;       /* --sse-retry: 2s, what `retry:` says before jitter */
    uint64_t ws_ping_ms;         /* --ws-ping: 30s */
    uint64_t ws_pong_ms;         /* --ws-pong: 10s after the ping */
    uint64_t request_timeout_ms; /* --request-timeout: 10s to send a request */
    uint64_t max_connections;    /* --max-connections: 0 = what descriptors allow */

    uint32_t ws_fragments;    /* --ws-fragments: 4096 of one message */
    uint32_t ws_control_rate; /* --ws-control-rate: 100 pings and pongs per second, then 1008 */
    uint64_t ws_message_ms;  /* --ws-message-timeout: 30s from a message's first byte to its last */
    bool ws_deflate;         /* --ws-deflate: permessage-deflate is agreed to */
    char *sse_codings;       /* --sse-codings: "zstd,gzip", the best first; "" = none */
    uint32_t deflate_level;  /* --deflate-level: 1-9, 6 */
    uint32_t deflate_window; /* --deflate-window: 9-15 bits, 15 */
    uint64_t pack_threshold_bytes; /* --pack-threshold: 256, smaller payloads are not compressed */
    char *plain_namespaces;        /* --plain-namespaces: never compressed, comma separated */

    uint64_t h2_max_streams;       /* --h2-max-streams: 256 on one connection */
    uint64_t h2_header_list_bytes; /* --h2-header-list: 16k */
    uint64_t h2_window_bytes;      /* --h2-window: 64k of each stream before it is read */
    uint64_t h2_ping_ms;           /* --h2-ping: 30s */
    uint16_t tls_port;             /* --tls-port: 0 = no TLS */
    char *tls_cert;        /* --tls-cert: PEM files, comma separated; the first is the default */
    char *tls_key;         /* --tls-key: their keys, in the same order */
    char *tls_client_ca;   /* --tls-client-ca: PEM */
    char *tls_client_auth; /* --tls-client-auth: none, optional, required */
    bool tls_kernel;       /* --tls-kernel: the kernel encrypts, where it can */

    char *redis;                       /* --redis, REDIS_URL: "" = none; secret, see redis.h */
    char *redis_prefix;                /* --redis-prefix: "crier:" */
    uint64_t redis_timeout_ms;         /* --redis-timeout: 5s for an answer */
    uint64_t redis_connect_timeout_ms; /* --redis-connect-timeout: 5s until greeted */
    uint64_t redis_linger_ms;          /* --redis-linger: 30s */
    uint64_t redis_max_reply_bytes;    /* --redis-max-reply: 64m */
    char *redis_ca;                    /* --redis-ca: PEM; "" = what the system trusts */
    char *redis_cert;                  /* --redis-cert: PEM; "" = none */
    char *redis_key;                   /* --redis-key: PEM; "" = none */
};

struct config_error {
    char text[512]; /* one line: where, what was found, what was expected */
};

/* Defaults, then environment `envp`, then argv[1..argc). ERR_SYNTAX or ERR_RANGE with *err filled
 * and nothing left to release. `--help` is not handled here. */
enum err config_load(struct config *c, int argc, char **argv, char **envp,
                     struct config_error *err) MUST_CHECK;
void config_release(struct config *c);
/* One line per option: flag, environment name, default, meaning. */
void config_help(struct buf *b);

/* "250ms", "15s", "5m", "2h", plain number = seconds. */
enum err config_parse_duration(struct slice s, uint64_t *ms) MUST_CHECK;
/* "64k", "1m", "2g" (powers of 1024), plain number = bytes. */
enum err config_parse_bytes(struct slice s, uint64_t *bytes) MUST_CHECK;

#endif
