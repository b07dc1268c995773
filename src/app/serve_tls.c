/* serve_tls.c - the certificates of our own port (see serve_tls.h). */
#include "serve_tls.h"

#include <stdio.h>
#include <stdlib.h>

/* What we speak over TLS, the best first. */
#define ALPN "h2,http/1.1"

static enum tls_client_auth client_auth(const char *word)
{
    if (strcmp(word, "required") == 0)
        return TLS_CLIENT_REQUIRED;
    return strcmp(word, "optional") == 0 ? TLS_CLIENT_OPTIONAL : TLS_CLIENT_NONE;
}

/* The files of two comma separated lists, one of each. Copies of the names are the caller's. */
static enum err read_pairs(const struct config *c, struct tls_pair pair[TLS_PAIRS_MAX], size_t *n,
                           char why[TLS_WHY_BYTES])
{
    struct slice certs = slice_str(c->tls_cert), keys = slice_str(c->tls_key), cert, key;

    for (;;) {
        bool has_cert = slice_split(&certs, ',', &cert), has_key = slice_split(&keys, ',', &key);
        if (has_cert != has_key) {
            snprintf(why, TLS_WHY_BYTES,
                     "there are more %s than %s; one key belongs to each certificate, in the same "
                     "order",
                     has_cert ? "certificates" : "keys", has_cert ? "keys" : "certificates");
            return ERR_SYNTAX;
        }
        if (!has_cert)
            return ERR_OK;
        if (*n == TLS_PAIRS_MAX) {
            snprintf(why, TLS_WHY_BYTES, "more than %d certificates", TLS_PAIRS_MAX);
            return ERR_SYNTAX;
        }
        pair[(*n)++] = (struct tls_pair){slice_dup(slice_trim(cert)), slice_dup(slice_trim(key))};
    }
}

static void free_pairs(struct tls_pair *pair, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free((char *)(uintptr_t)pair[i].cert_file);
        free((char *)(uintptr_t)pair[i].key_file);
    }
}

enum err serve_tls_load(const struct config *c, struct tls_ctx **out, char why[TLS_WHY_BYTES])
{
    struct tls_pair pair[TLS_PAIRS_MAX];
    struct tls_server_options o = {.pair = pair,
                                   .alpn = ALPN,
                                   .client_ca = c->tls_client_ca,
                                   .client_auth = client_auth(c->tls_client_auth),
                                   .kernel = c->tls_kernel};
    enum err e = read_pairs(c, pair, &o.n_pairs, why);

    if (e == ERR_OK)
        e = tls_server_new(&o, out, why);
    free_pairs(pair, o.n_pairs);
    return e;
}
