/* redis.h - commands and subscriptions, to one Redis or to many.
 *
 * What lies between a caller and the server that is right for a key at this moment is handled here:
 * names, TLS, authentication, pipelines, timeouts, reconnecting, failover (Sentinel), redirections
 * (Cluster), client-side sharding. Valkey is the same. Nothing here knows of messages.
 *
 * One command link and one subscribe link per node. Everything belongs to the loop's thread, the
 * parsing of URLs excepted; callbacks come from the loop and, where said, from within a call.
 */
#ifndef CRIER_REDIS_H
#define CRIER_REDIS_H

#include "crier/loop.h"
#include "crier/map.h"
#include "crier/reply.h"
#include "crier/tls.h"

/* --- where --- */

enum redis_mode {
    REDIS_SHARDS,   /* n >= 1 independent servers; a key's server by rendezvous hashing */
    REDIS_SENTINEL, /* one master, found by asking the endpoints, which are sentinels */
    REDIS_CLUSTER,  /* the endpoints are seeds */
};

struct redis_endpoint {
    char *host; /* NULL for a UNIX socket */
    uint16_t port;
    char *path;     /* UNIX socket, else NULL */
    char *user;     /* NULL = the default user */
    char *password; /* NULL = none; never logged */
    uint32_t db;
    bool tls;
};

struct redis_target {
    enum redis_mode mode;
    size_t n;
    struct redis_endpoint *endpoint; /* for sentinels: with the sentinels' own credentials */
    char *master_name;               /* REDIS_SENTINEL */
    struct redis_endpoint master;    /* REDIS_SENTINEL: user, password, db, tls of the master */
};

#define REDIS_WHY_BYTES 256

/* One or several URLs, separated by commas (several plain ones: shards):
 *   redis://[USER[:PASSWORD]@]HOST[:6379][/DB]      rediss:// the same over TLS
 *   unix://[USER[:PASSWORD]@]/PATH[?db=DB]
 *   redis+sentinel://[USER[:PASSWORD]@]HOST[:26379][,HOST…]/MASTER[/DB]
 *                    [?sentinel_user=…&sentinel_password=…]      rediss+sentinel:// over TLS
 *   redis+cluster://[USER[:PASSWORD]@]HOST[:6379][,HOST…]        rediss+cluster:// over TLS
 * "redis://:PASSWORD@…" is a password without user. Percent-escapes are decoded. IPv6 in brackets.
 * ERR_SYNTAX, ERR_RANGE with one line in why, which never repeats a password. */
enum err redis_target_parse(const char *urls, struct redis_target **out,
                            char why[REDIS_WHY_BYTES]) MUST_CHECK;
void redis_target_free(struct redis_target *t);
/* The URLs without credentials, for logs. */
void redis_target_text(const struct redis_target *t, struct buf *out);
/* "host:port" or the path. */
void redis_endpoint_text(const struct redis_endpoint *e, struct buf *out);

/* --- the client --- */

struct redis;

/* Text constant of the caller; loaded when a command link opens, run by EVALSHA. */
struct redis_script {
    const char *text;
    char sha1_hex[41]; /* filled by redis_script_init */
};
void redis_script_init(struct redis_script *s);

/* A subscription; memory of the caller, zeroed but for what is said. */
struct redis_sub {
    struct map_node node; /* redis's own, as the rest */
    struct list in_node;
    struct redis_node *at;
    uint32_t asked; /* number of the SUBSCRIBE on its way */
    uint8_t state;
    struct slice channel; /* set by the caller: name in Redis, must not change while subscribed */
};

struct redis_handlers {
    /* On a subscribed channel; payload borrowed during the call. */
    void (*message)(void *ctx, struct redis_sub *s, struct slice payload);
    /* The server has confirmed it: whatever is published from now on comes. */
    void (*subscribed)(void *ctx, struct redis_sub *s);
    /* What is published from now on may not come. It is being subscribed again, by itself, and
     * `subscribed` will say when. */
    void (*lost)(void *ctx, struct redis_sub *s);
    /* redis_ready may have changed. */
    void (*ready)(void *ctx);
};

struct redis_options {
    const struct redis_target *target; /* borrowed */
    struct tls_ctx *tls;               /* borrowed; NULL when nothing uses TLS */
    uint64_t connect_timeout_ms;       /* until the greeting (TLS, AUTH, SELECT) is done */
    uint64_t command_timeout_ms;
    size_t max_reply_bytes;
    size_t max_pending_bytes; /* of commands not answered yet, per node */
    struct redis_script *const *scripts;
    size_t n_scripts;
    const char *prefix; /* of the probe's channel */
    struct redis_handlers on;
    void *ctx;
};

/* Copies the options, not what they borrow. ERR_NOMEM. Opens links on redis_attach. */
enum err redis_new(const struct redis_options *o, struct redis **out) MUST_CHECK;
enum err redis_attach(struct redis *r, struct loop *l) MUST_CHECK;
/* Calls on their way are answered ERR_CLOSED; subscriptions are forgotten without a word. */
void redis_detach(struct redis *r);
void redis_free(struct redis *r); /* detached */

/* Every node that keys can be on delivers: a message that was published on the command link less
 * than REDIS_PROOF_MS ago has come back on the subscribe link. A property of now, so ask again. */
#define REDIS_PROBE_MS 1000
#define REDIS_PROOF_MS 2400
bool redis_ready(const struct redis *r);
/* Constant text: why not. */
const char *redis_why_not(const struct redis *r);

/* Argument values that are filled in when the command is written, because they depend on the node
 * (compare by ptr): */
extern const struct slice redis_arg_identity; /* 16 hex digits: this process and this order of
                                               * writes. Another after a restart or a failover;
                                               * the same for every client of the server. */
extern const struct slice redis_arg_publish;  /* "PUBLISH" or "SPUBLISH" */

struct redis_call {
    struct slice key;            /* decides the node (hash tag and all) */
    struct redis_script *script; /* EVALSHA, else NULL: arg[0] is the command's name */
    uint32_t n_keys;             /* of a script: how many of the args are keys */
    uint32_t n_args;
    const struct slice *arg; /* array and bytes are borrowed until done */
    /* ERR_OK: reply is no error. ERR_UNAVAILABLE: the server is away, or was lost before it
     * answered (then it is not known whether the command was carried out), or cannot serve now
     * (LOADING, READONLY, CLUSTERDOWN, OOM …). ERR_LIMIT: max_pending_bytes. ERR_IO: another error
     * reply. ERR_CLOSED: redis_detach. reply may be NULL on errors. The call is the caller's
     * again. May be called from within redis_submit. */
    void (*done)(struct redis_call *c, enum err e, const struct reply *r);
    /* redis's own */
    struct list waiting;
    struct redis_node *at;
    uint64_t due_ms;
    size_t bytes;
    uint16_t slot;
    uint8_t attempts;
};
/* Commands with the same key are carried out in the order of submitting, but for redirections. */
void redis_submit(struct redis *r, struct redis_call *c);

/* Never calls handlers from within. Commands go out together at the end of the turn. */
void redis_subscribe(struct redis *r, struct redis_sub *s);
void redis_unsubscribe(struct redis *r, struct redis_sub *s); /* no more callbacks for it */

#endif
