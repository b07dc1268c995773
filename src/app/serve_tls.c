/* serve_tls.c - the certificates of our own port (see serve_tls.h). */
#include "serve_tls.h"

/* What we speak over TLS, the best first. */
#define ALPN "h2,http/1.1"

static enum tls_client_auth client_auth(const char *word)
{
    if (strcmp(word, "required") == 0)
        return TLS_CLIENT_REQUIRED;
    return strcmp(word, "optional") == 0 ? TLS_CLIENT_OPTIONAL : TLS_CLIENT_NONE;
}

enum err serve_tls_load(const struct config *c, struct tls_ctx **out, char why[TLS_WHY_BYTES])
{
    const struct tls_server_options o = {.cert_files = c->tls_cert,
                                         .key_files = c->tls_key,
                                         .alpn = ALPN,
                                         .client_ca = c->tls_client_ca,
                                         .client_auth = client_auth(c->tls_client_auth),
                                         .kernel = c->tls_kernel};
    return tls_server_new(&o, out, why);
}
