/* config.c - one table of options, from which flags, environment, defaults and help come.
 *
 * A value goes the same way wherever it was found: text -> row -> field (option.c). Defaults are
 * texts too, so what the help says is what is used. The sources are applied from the weakest to the
 * strongest; each must be right even if a stronger one would hide it.
 *
 * Everything unknown is an error, because a setting that was misspelt and ignored is found at
 * 3 a.m. Deliberately not here: --help, subcommands and anything that asks the machine (number of
 * cores, whether an address is loopback).
 */
#include "option.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FIELD(f) offsetof(struct config, f)

/* clang-format off */
static const struct option options[] = {
    {"host", KIND_TEXT, FIELD(host), "localhost", 0, 0, option_check_host, NULL,
     "names or addresses to listen on, comma separated"},
    {"port", KIND_PORT, FIELD(port), "8080", 0, 65535, NULL, "PORT",
     "TCP port; 0 lets the kernel choose"},
    {"workers", KIND_COUNT32, FIELD(workers), "0", 0, 64, NULL, NULL,
     "threads that serve clients; 0 = number of cores"},
    {"insecure", KIND_BOOL, FIELD(insecure), "no", 0, 0, NULL, NULL,
     "serve everyone without keys beyond loopback"},
    {"allowed-origins", KIND_TEXT, FIELD(allowed_origins), "", 0, 0, option_check_origins, NULL,
     "browser origins that may connect, comma separated, or *"},
    {"log-level", KIND_TEXT, FIELD(log_level), "info", 0, 0, option_check_log_level, NULL,
     "error, warn, info or debug"},
    {"drain", KIND_DURATION, FIELD(drain_ms), "30s", 0, HOUR, NULL, NULL,
     "how long clients are given to leave on SIGTERM"},
    {"max-message", KIND_BYTES, FIELD(max_message_bytes), "64k", 1, 64 * MIB, NULL, NULL,
     "largest message"},
    {"history", KIND_COUNT, FIELD(history_messages), "100", 0, 1000000, NULL, NULL,
     "messages kept per channel; 0 keeps none, so nothing can be resumed"},
    {"history-age", KIND_DURATION, FIELD(history_ms), "5m", SECOND, 30 * DAY, NULL, NULL,
     "age after which a kept message goes"},
    {"idempotency-age", KIND_DURATION, FIELD(idempotency_ms), "5m", 0, DAY, NULL, NULL,
     "how long an Idempotency-Key is remembered"},
    {"outbox-bytes", KIND_BYTES, FIELD(outbox_bytes), "1m", 4 * KIB, GIB, NULL, NULL,
     "bytes that may wait for one client before it is too slow"},
    {"outbox-messages", KIND_COUNT, FIELD(outbox_messages), "1000", 1, 10000000, NULL, NULL,
     "messages that may wait for one client before it is too slow"},
    {"sse-keepalive", KIND_DURATION, FIELD(sse_keepalive_ms), "15s", 100, HOUR, NULL, NULL,
     "silence after which an EventSource gets a comment"},
    {"sse-retry", KIND_DURATION, FIELD(sse_retry_ms), "2s", 1, HOUR, NULL, NULL,
     "reconnection delay told to EventSource clients"},
    {"ws-ping", KIND_DURATION, FIELD(ws_ping_ms), "30s", 100, HOUR, NULL, NULL,
     "silence after which a WebSocket is pinged"},
    {"ws-pong", KIND_DURATION, FIELD(ws_pong_ms), "10s", 100, HOUR, NULL, NULL,
     "time to answer that ping"},
    {"request-timeout", KIND_DURATION, FIELD(request_timeout_ms), "10s", 100, HOUR, NULL, NULL,
     "time a client has to send its request"},
    {"max-connections", KIND_COUNT, FIELD(max_connections), "0", 0, 10000000, NULL, NULL,
     "sockets open at once; 0 = what descriptors allow"},
    {"ws-fragments", KIND_COUNT32, FIELD(ws_fragments), "4096", 1, 1000000, NULL, NULL,
     "frames that one WebSocket message may come in"},
    {"ws-control-rate", KIND_COUNT32, FIELD(ws_control_rate), "100", 1, 1000000, NULL, NULL,
     "pings and pongs a second that a WebSocket may send"},
    {"ws-message-timeout", KIND_DURATION, FIELD(ws_message_ms), "30s", 100, HOUR, NULL, NULL,
     "time a WebSocket message may take from its first byte to its last"},
    {"ws-deflate", KIND_BOOL, FIELD(ws_deflate), "yes", 0, 0, NULL, NULL,
     "agree to permessage-deflate"},
    {"sse-codings", KIND_TEXT, FIELD(sse_codings), "zstd,gzip", 0, 0, option_check_codings, NULL,
     "content codings of event streams, the best first: zstd, gzip; none = not compressed"},
    {"deflate-level", KIND_COUNT32, FIELD(deflate_level), "6", 1, 9, NULL, NULL,
     "how hard to compress"},
    {"deflate-window", KIND_COUNT32, FIELD(deflate_window), "15", 9, 15, NULL, NULL,
     "bits of the compressor's window"},
    {"pack-threshold", KIND_BYTES, FIELD(pack_threshold_bytes), "256", 0, GIB, NULL, NULL,
     "smaller messages are not compressed"},
    {"plain-namespaces", KIND_TEXT, FIELD(plain_namespaces), "", 0, 0, NULL, NULL,
     "namespaces never compressed, comma separated; an empty name (\"a,\") = channels without one"},
    {"h2-max-streams", KIND_COUNT, FIELD(h2_max_streams), "256", 1, 10000, NULL, NULL,
     "streams open at once on one HTTP/2 connection"},
    {"h2-header-list", KIND_BYTES, FIELD(h2_header_list_bytes), "16k", KIB, 64 * KIB, NULL, NULL,
     "header fields of one HTTP/2 request"},
    {"h2-window", KIND_BYTES, FIELD(h2_window_bytes), "64k", 16 * KIB, 16 * MIB, NULL, NULL,
     "bytes a client may send on an HTTP/2 stream before they are read"},
    {"h2-ping", KIND_DURATION, FIELD(h2_ping_ms), "30s", 100, HOUR, NULL, NULL,
     "silence after which an HTTP/2 connection is pinged"},
    {"tls-port", KIND_PORT, FIELD(tls_port), "0", 0, 65535, NULL, NULL,
     "TCP port for https and wss, beside --port; 0 = none"},
    {"tls-cert", KIND_TEXT, FIELD(tls_cert), "", 0, 0, NULL, NULL,
     "files (PEM) with certificates, comma separated; a client gets the one for its host"},
    {"tls-key", KIND_TEXT, FIELD(tls_key), "", 0, 0, NULL, NULL,
     "files (PEM) with their keys, in the same order"},
    {"tls-client-ca", KIND_TEXT, FIELD(tls_client_ca), "", 0, 0, NULL, NULL,
     "file (PEM) with who may sign certificates of clients"},
    {"tls-client-auth", KIND_TEXT, FIELD(tls_client_auth), "none", 0, 0, option_check_client_auth,
     NULL, "certificates of clients: none, optional or required"},
    {"tls-kernel", KIND_BOOL, FIELD(tls_kernel), "no", 0, 0, NULL, NULL,
     "let the kernel encrypt, where it can"},
    {"redis", KIND_TEXT, FIELD(redis), "", 0, 0, NULL, "REDIS_URL",
     "the Redis that instances share, like redis://HOST; none = this process alone"},
    {"redis-prefix", KIND_TEXT, FIELD(redis_prefix), "crier:", 0, 0, option_check_redis_prefix,
     NULL, "what all its keys and channels there begin with"},
    {"redis-timeout", KIND_DURATION, FIELD(redis_timeout_ms), "5s", 100, 5 * MINUTE, NULL, NULL,
     "time for an answer of Redis"},
    {"redis-connect-timeout", KIND_DURATION, FIELD(redis_connect_timeout_ms), "5s", 100,
     5 * MINUTE, NULL, NULL, "time to connect to it, TLS and AUTH included"},
    {"redis-linger", KIND_DURATION, FIELD(redis_linger_ms), "30s", 0, HOUR, NULL, NULL,
     "how long a channel stays subscribed there after its last listener"},
    {"redis-max-reply", KIND_BYTES, FIELD(redis_max_reply_bytes), "64m", MIB, GIB, NULL, NULL,
     "largest answer taken from it"},
    {"redis-ca", KIND_TEXT, FIELD(redis_ca), "", 0, 0, NULL, NULL,
     "file (PEM) with who may sign its certificate; none = who the system trusts"},
    {"redis-cert", KIND_TEXT, FIELD(redis_cert), "", 0, 0, NULL, NULL,
     "file (PEM) with the certificate to show to it"},
    {"redis-key", KIND_TEXT, FIELD(redis_key), "", 0, 0, NULL, NULL,
     "file (PEM) with the key of that certificate"},
};
/* clang-format on */

#define N_OPTIONS (sizeof(options) / sizeof(options[0]))
#define ENV_PREFIX "CRIER_"
#define NAME_MAX_BYTES 64
#define WORD_ADDED 3                   /* as far as so many wrong letters */
#define MESSAGE_EXTRA_BYTES (64 * KIB) /* what else a message has in Redis: names, framing */

/* Variables of the other subcommands: exported once for a whole shell, they must not stop serve. */
static const char *const foreign_env[] = {ENV_PREFIX "URL", ENV_PREFIX "CA"};

/* Names */

static void env_name(const struct option *o, char out[NAME_MAX_BYTES])
{
    snprintf(out, NAME_MAX_BYTES, ENV_PREFIX "%s", o->name);
    for (char *c = out; *c; c++)
        *c = *c == '-' ? '_' : (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
}

static const struct option *option_by_flag(struct slice name)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (slice_eq(name, slice_str(options[i].name)))
            return &options[i];
    return NULL;
}

static const struct option *option_by_env(struct slice name)
{
    char env[NAME_MAX_BYTES];
    for (size_t i = 0; i < N_OPTIONS; i++) {
        env_name(&options[i], env);
        if (slice_eq(name, slice_str(env)))
            return &options[i];
    }
    return NULL;
}

/* Levenshtein distance; texts longer than a name are as far as can be. */
static size_t distance(struct slice a, struct slice b)
{
    size_t row[NAME_MAX_BYTES + 1];
    if (a.len > NAME_MAX_BYTES || b.len > NAME_MAX_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b.len];
}

/* `as_env` compares with the variables' names. Never NULL, but may be far off. */
static const struct option *nearest(struct slice name, bool as_env, size_t *how_far)
{
    const struct option *best = &options[0];
    *how_far = SIZE_MAX;
    for (size_t i = 0; i < N_OPTIONS; i++) {
        char env[NAME_MAX_BYTES];
        env_name(&options[i], env);
        struct slice candidate = slice_str(as_env ? env : options[i].name);
        size_t d = distance(name, candidate);
        if (d > WORD_ADDED && slice_starts_with(name, candidate) &&
            name.ptr[candidate.len] == (as_env ? '_' : '-'))
            d = WORD_ADDED; /* --redis-url is nearer to --redis than to --redis-ca */
        if (d < *how_far) {
            *how_far = d;
            best = &options[i];
        }
    }
    return best;
}

/* A third of the letters wrong is a typo (two swapped letters count as two); more is another word.
 */
static bool is_typo(size_t how_far, size_t len)
{
    return how_far <= len / 3 + 1;
}

static enum err fail_unknown_flag(struct slice name, struct config_error *err)
{
    size_t how_far;
    bool negated = slice_starts_with(name, SLICE("no-"));
    struct slice positive = negated ? slice_of(name.ptr + 3, name.len - 3) : name;
    const struct option *o = nearest(positive, false, &how_far);
    char shown[OPTION_SHOWN_BYTES];
    option_show(name, shown);
    if (is_typo(how_far, positive.len))
        return option_fail(err, ERR_SYNTAX, "--%s: there is no such option; did you mean --%s?",
                           shown, o->name);
    return option_fail(err, ERR_SYNTAX, "--%s: there is no such option; crier help lists them",
                       shown);
}

static enum err fail_unknown_env(struct slice name, struct config_error *err)
{
    size_t how_far;
    const struct option *o = nearest(name, true, &how_far);
    char env[NAME_MAX_BYTES];
    int shown = (int)(name.len > 100 ? 100 : name.len);
    env_name(o, env);
    if (is_typo(how_far, name.len - strlen(ENV_PREFIX)))
        return option_fail(err, ERR_SYNTAX,
                           "environment variable %.*s: there is no such option; did you mean %s?",
                           shown, name.ptr, env);
    return option_fail(err, ERR_SYNTAX,
                       "environment variable %.*s: there is no such option; crier help lists them",
                       shown, name.ptr);
}

/* Sources */

static void apply_defaults(struct config *c, struct config_error *err)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        struct source from = {options[i].name, err};
        /* A default that its own row refuses is our bug, not the operator's. */
        if (options[i].fallback)
            BUG_ON(option_set(c, &options[i], slice_str(options[i].fallback), &from) != ERR_OK);
    }
}

static enum err set_from_env(struct config *c, const struct option *o, struct slice name,
                             struct slice value, struct config_error *err)
{
    char text[NAME_MAX_BYTES + 32];
    struct source from = {text, err};
    snprintf(text, sizeof(text), "environment variable %.*s", (int)name.len, name.ptr);
    /* Compose files and shells set a variable to nothing to say "not set". */
    return value.len == 0 ? ERR_OK : option_set(c, o, value, &from);
}

static enum err apply_platform_env(struct config *c, char **envp, struct config_error *err)
{
    for (; *envp; envp++) {
        struct slice value = slice_str(*envp), name;
        slice_split(&value, '=', &name);
        for (size_t i = 0; i < N_OPTIONS; i++) {
            if (!options[i].platform_env || !slice_eq(name, slice_str(options[i].platform_env)))
                continue;
            enum err e = set_from_env(c, &options[i], name, value, err);
            if (e)
                return e;
        }
    }
    return ERR_OK;
}

/* Kubernetes sets CRIER_PORT=tcp://10.0.0.1:8080, CRIER_SERVICE_HOST, CRIER_PORT_8080_TCP_ADDR ...
 * in every container beside a service that is called "crier", and CRIER_REDIS_PORT=... beside its
 * "crier-redis" or "crier-tls". */
static bool is_kubernetes_link(struct slice name, struct slice value)
{
    static const char *const services[] = {ENV_PREFIX, ENV_PREFIX "TLS_", ENV_PREFIX "REDIS_"};
    bool is_address =
        slice_starts_with(value, SLICE("tcp://")) || slice_starts_with(value, SLICE("udp://"));
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        struct slice service = slice_str(services[i]);
        if (!slice_starts_with(name, service))
            continue;
        struct slice rest = slice_of(name.ptr + service.len, name.len - service.len);
        if (slice_starts_with(rest, SLICE("SERVICE_")) || slice_starts_with(rest, SLICE("PORT_")) ||
            (slice_eq(rest, SLICE("PORT")) && is_address))
            return true;
    }
    return false;
}

static bool is_foreign(struct slice name, struct slice value)
{
    for (size_t i = 0; i < sizeof(foreign_env) / sizeof(foreign_env[0]); i++)
        if (slice_eq(name, slice_str(foreign_env[i])))
            return true;
    return !slice_starts_with(name, SLICE(ENV_PREFIX)) ||
           slice_starts_with(name, SLICE(ENV_PREFIX "TEST_")) || is_kubernetes_link(name, value);
}

static enum err apply_own_env(struct config *c, char **envp, struct config_error *err)
{
    for (; *envp; envp++) {
        struct slice value = slice_str(*envp), name;
        slice_split(&value, '=', &name);
        if (is_foreign(name, value))
            continue;
        const struct option *o = option_by_env(name);
        enum err e = o ? set_from_env(c, o, name, value, err) : fail_unknown_env(name, err);
        if (e)
            return e;
    }
    return ERR_OK;
}

/* "--no-NAME" of a boolean; NULL when it is not one. */
static const struct option *negated_option(struct slice name)
{
    if (!slice_starts_with(name, SLICE("no-")))
        return NULL;
    const struct option *o = option_by_flag(slice_of(name.ptr + 3, name.len - 3));
    return o && o->kind == KIND_BOOL ? o : NULL;
}

/* Applies argv[*i] and leaves *i on the last argument it used. */
static enum err apply_flag(struct config *c, int argc, char **argv, int *i,
                           struct config_error *err)
{
    if (strncmp(argv[*i], "--", 2) != 0 || argv[*i][2] == 0) {
        char shown[OPTION_SHOWN_BYTES];
        option_show(slice_str(argv[*i]), shown);
        return option_fail(err, ERR_SYNTAX,
                           "\"%s\": found an argument, expected an option like --port", shown);
    }
    struct slice value = slice_str(argv[*i] + 2), name;
    slice_split(&value, '=', &name);
    const struct option *negated = negated_option(name);
    const struct option *o = negated ? negated : option_by_flag(name);
    char text[NAME_MAX_BYTES + 8];
    struct source from = {text, err};
    if (!o)
        return fail_unknown_flag(name, err);
    snprintf(text, sizeof(text), "--%s%s", negated ? "no-" : "", o->name);
    bool has_value = value.ptr != NULL;
    if (negated && has_value)
        return option_fail(err, ERR_SYNTAX, "%s: found a value, expected none", text);
    if (o->kind == KIND_BOOL && !has_value)
        return option_set(c, o, negated ? SLICE("no") : SLICE("yes"), &from);
    if (!has_value && ++*i >= argc)
        return option_fail(err, ERR_SYNTAX, "%s: found nothing after it, expected a value", text);
    return option_set(c, o, has_value ? value : slice_str(argv[*i]), &from);
}

static enum err apply_flags(struct config *c, int argc, char **argv, struct config_error *err)
{
    for (int i = 1; i < argc; i++) {
        enum err e = apply_flag(c, argc, argv, &i, err);
        if (e)
            return e;
    }
    return ERR_OK;
}

static enum err check_redis(const struct config *c, struct config_error *err)
{
    if (!c->redis[0])
        return ERR_OK;
    if (c->redis_max_reply_bytes < c->max_message_bytes + MESSAGE_EXTRA_BYTES)
        return option_fail(err, ERR_RANGE,
                           "redis-max-reply (%" PRIu64 ") is smaller than max-message (%" PRIu64
                           ") with the 64k around it: the largest message could not be read back; "
                           "raise --redis-max-reply or lower --max-message",
                           c->redis_max_reply_bytes, c->max_message_bytes);
    if (!c->redis_cert[0] != !c->redis_key[0])
        return option_fail(err, ERR_RANGE,
                           "%s is given without %s: a certificate is shown with its key; when both "
                           "are in one file, name it twice",
                           c->redis_cert[0] ? "redis-cert" : "redis-key",
                           c->redis_cert[0] ? "redis-key" : "redis-cert");
    return ERR_OK;
}

static enum err check_tls(const struct config *c, struct config_error *err)
{
    bool required = strcmp(c->tls_client_auth, "none") != 0;
    if (!c->tls_port && (c->tls_cert[0] || c->tls_key[0] || c->tls_client_ca[0] || required))
        return option_fail(err, ERR_RANGE,
                           "%s is given without tls-port: nobody would be served with it; expected "
                           "--tls-port PORT too",
                           c->tls_cert[0]        ? "tls-cert"
                           : c->tls_key[0]       ? "tls-key"
                           : c->tls_client_ca[0] ? "tls-client-ca"
                                                 : "tls-client-auth");
    if (!c->tls_port)
        return ERR_OK;
    if (c->tls_port == c->port)
        return option_fail(err, ERR_RANGE,
                           "tls-port and port are both %u; expected two different ports", c->port);
    if (!c->tls_cert[0] || !c->tls_key[0])
        return option_fail(err, ERR_RANGE,
                           "tls-port is given without %s; expected --tls-cert FILE and --tls-key "
                           "FILE (PEM)",
                           c->tls_cert[0] ? "tls-key" : "tls-cert");
    if (required && !c->tls_client_ca[0])
        return option_fail(err, ERR_RANGE,
                           "tls-client-auth is %s without tls-client-ca; expected a file (PEM) "
                           "with who may sign certificates of clients",
                           c->tls_client_auth);
    if (!required && c->tls_client_ca[0])
        return option_fail(err, ERR_RANGE,
                           "tls-client-ca is given while tls-client-auth is none; expected "
                           "--tls-client-auth optional or required");
    return ERR_OK;
}

static enum err check_contradictions(const struct config *c, struct config_error *err)
{
    if (c->outbox_bytes < c->max_message_bytes)
        return option_fail(err, ERR_RANGE,
                           "outbox-bytes (%" PRIu64 ") is smaller than max-message (%" PRIu64
                           "): the largest message could not be delivered to anyone; raise "
                           "--outbox-bytes or lower --max-message",
                           c->outbox_bytes, c->max_message_bytes);
    enum err e = check_tls(c, err);
    return e ? e : check_redis(c, err);
}

enum err config_load(struct config *c, int argc, char **argv, char **envp, struct config_error *err)
{
    memset(c, 0, sizeof(*c));
    err->text[0] = 0;
    apply_defaults(c, err);
    enum err e = apply_platform_env(c, envp, err);
    if (e == ERR_OK)
        e = apply_own_env(c, envp, err);
    if (e == ERR_OK)
        e = apply_flags(c, argc, argv, err);
    if (e == ERR_OK)
        e = check_contradictions(c, err);
    if (e)
        config_release(c);
    return e;
}

void config_release(struct config *c)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        char **field = (char **)(void *)((char *)c + options[i].offset);
        if (options[i].kind == KIND_TEXT)
            free(*field);
    }
    memset(c, 0, sizeof(*c));
}

static const char *value_word(enum kind kind)
{
    static const char *const words[] = {
        [KIND_TEXT] = " TEXT",   [KIND_BOOL] = "",    [KIND_PORT] = " PORT",
        [KIND_COUNT32] = " N",   [KIND_COUNT] = " N", [KIND_DURATION] = " TIME",
        [KIND_BYTES] = " BYTES",
    };
    return words[kind];
}

void config_help(struct buf *b)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *o = &options[i];
        char flag[NAME_MAX_BYTES], env[NAME_MAX_BYTES];
        env_name(o, env);
        snprintf(flag, sizeof(flag), "--%s%s", o->name, value_word(o->kind));
        buf_printf(b, "  %-28s %-27s %s", flag, env, o->meaning);
        if (o->platform_env)
            buf_printf(b, " (also %s)", o->platform_env);
        if (o->fallback && o->fallback[0])
            buf_printf(b, " [%s]", o->fallback);
        buf_append_char(b, '\n');
    }
}
