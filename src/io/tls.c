/* tls.c - TLS by OpenSSL over descriptors that somebody else watches.
 *
 * OpenSSL says what went wrong in a queue per thread, so every call clears it first and reads it at
 * once; what a session found out is kept in the session as text. A session that has failed is not
 * touched again (OpenSSL forbids even the shutdown then).
 *
 * Buffers are given back while a session is idle, and a write may be repeated from another address
 * as long as the bytes are the same: output buffers move when they grow. Renegotiation is off; TLS
 * 1.3 has none, and before that only attacks use it.
 *
 * It does not ignore a missing close_notify in OpenSSL (which would report it as a regular end of
 * data) but reports it as ERR_CLOSED all the same: protocols with lengths of their own see whether
 * something is missing.
 */
#include "crier/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_NAME_BYTES 256

struct tls_ctx {
    SSL_CTX *ssl_ctx; /* counted */
};

struct tls {
    SSL *ssl; /* owned */
    bool wants_write;
    bool greeted; /* the handshake is over (OpenSSL forgets that when it fails) */
    bool failed;
    char why[TLS_WHY_BYTES];
};

/* --- contexts --------------------------------------------------------------------------------- */

static const char *error_text(unsigned long e)
{
    const char *text =
        ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e)) : ERR_reason_error_string(e);

    return text ? text : "unknown error";
}

/* OpenSSL would ask at the terminal. */
static int no_passphrase(char *out, int size, int writing, void *ctx)
{
    (void)out, (void)size, (void)writing, (void)ctx;
    return 0;
}

static SSL_CTX *new_ssl_ctx(const SSL_METHOD *method)
{
    SSL_CTX *s = SSL_CTX_new(method);

    BUG_ON(!s);
    BUG_ON(SSL_CTX_set_min_proto_version(s, TLS1_2_VERSION) != 1);
    SSL_CTX_set_options(s, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(s, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(s, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(s, no_passphrase);
    return s;
}

static enum err readable(const char *what, const char *path, char why[TLS_WHY_BYTES])
{
    if (access(path, R_OK) == 0)
        return ERR_OK;
    snprintf(why, TLS_WHY_BYTES, "%s %s: %s", what, path, strerror(errno));
    return ERR_NOT_FOUND;
}

static enum err bad_file(const char *what, const char *path, char why[TLS_WHY_BYTES])
{
    snprintf(why, TLS_WHY_BYTES, "%s %s: %s", what, path, error_text(ERR_peek_last_error()));
    return ERR_SYNTAX;
}

static enum err load_trust(SSL_CTX *s, const char *ca_file, char why[TLS_WHY_BYTES])
{
    if (!ca_file) {
        if (SSL_CTX_set_default_verify_paths(s) == 1)
            return ERR_OK;
        snprintf(why, TLS_WHY_BYTES, "the system's certificates: %s",
                 error_text(ERR_peek_last_error()));
        return ERR_NOT_FOUND;
    }
    enum err e = readable("CA file", ca_file, why);
    if (e == ERR_OK && SSL_CTX_load_verify_locations(s, ca_file, NULL) != 1)
        e = bad_file("CA file", ca_file, why);
    return e;
}

static enum err load_identity(SSL_CTX *s, const char *cert_file, const char *key_file,
                              char why[TLS_WHY_BYTES])
{
    if (!cert_file && !key_file)
        return ERR_OK;
    if (!cert_file || !key_file) {
        snprintf(why, TLS_WHY_BYTES, "a certificate and its key belong together; the %s is missing",
                 cert_file ? "key" : "certificate");
        return ERR_SYNTAX;
    }
    enum err e = readable("certificate", cert_file, why);
    if (e == ERR_OK)
        e = readable("key", key_file, why);
    if (e != ERR_OK)
        return e;
    if (SSL_CTX_use_certificate_chain_file(s, cert_file) != 1)
        return bad_file("certificate", cert_file, why);
    if (SSL_CTX_use_PrivateKey_file(s, key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(s) != 1)
        return bad_file("key", key_file, why);
    return ERR_OK;
}

enum err tls_client_new(const struct tls_client_options *o, struct tls_ctx **out,
                        char why[TLS_WHY_BYTES])
{
    ERR_clear_error();
    SSL_CTX *s = new_ssl_ctx(TLS_client_method());
    enum err e = load_trust(s, o->ca_file, why);

    if (e == ERR_OK)
        e = load_identity(s, o->cert_file, o->key_file, why);
    ERR_clear_error();
    if (e != ERR_OK) {
        SSL_CTX_free(s);
        return e;
    }
    SSL_CTX_set_verify(s, SSL_VERIFY_PEER, NULL);
    struct tls_ctx *c = malloc(sizeof *c);
    BUG_ON(!c);
    c->ssl_ctx = s;
    *out = c;
    return ERR_OK;
}

void tls_ctx_free(struct tls_ctx *c)
{
    if (!c)
        return;
    SSL_CTX_free(c->ssl_ctx);
    free(c);
}

/* --- sessions --------------------------------------------------------------------------------- */

/* What certificates know: no root dot, no zone of an IPv6 address. */
static bool certificate_name(const char *name, char out[MAX_NAME_BYTES])
{
    size_t len = strcspn(name, "%");

    if (len > 1 && name[len - 1] == '.')
        len--;
    if (len == 0 || len >= MAX_NAME_BYTES)
        return false;
    memcpy(out, name, len);
    out[len] = '\0';
    return true;
}

static bool is_address(const char *name)
{
    struct in6_addr ip;

    return inet_pton(AF_INET, name, &ip) == 1 || inet_pton(AF_INET6, name, &ip) == 1;
}

static bool expect_name(SSL *ssl, const char *wanted)
{
    char name[MAX_NAME_BYTES];

    if (!certificate_name(wanted, name))
        return false;
    if (is_address(name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

enum err tls_open(struct tls_ctx *c, int fd, const char *name, struct tls **out)
{
    ERR_clear_error();
    SSL *ssl = SSL_new(c->ssl_ctx);

    if (!ssl || SSL_set_fd(ssl, fd) != 1 || !expect_name(ssl, name)) {
        SSL_free(ssl);
        ERR_clear_error();
        return ERR_NOMEM;
    }
    SSL_set_connect_state(ssl);
    struct tls *t = calloc(1, sizeof *t);
    BUG_ON(!t);
    t->ssl = ssl;
    *out = t;
    return ERR_OK;
}

void tls_close(struct tls *t)
{
    ERR_clear_error();
    if (!t->failed && t->greeted)
        (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
    SSL_free(t->ssl);
    free(t);
}

static enum err broken(struct tls *t, enum err e, const char *why)
{
    t->failed = true;
    snprintf(t->why, sizeof t->why, "%s", why);
    return e;
}

static enum err ended(struct tls *t)
{
    return broken(t, ERR_CLOSED,
                  t->greeted ? "closed the connection"
                             : "closed the connection during the TLS handshake");
}

/* The cause is queued first; then come troubles with telling the peer. */
static enum err protocol_error(struct tls *t)
{
    long verdict = SSL_get_verify_result(t->ssl);
    unsigned long cause = ERR_peek_error();
    int reason = ERR_GET_LIB(cause) == ERR_LIB_SSL ? ERR_GET_REASON(cause) : 0;

    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return ended(t);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
        return broken(t, ERR_IO, X509_verify_cert_error_string(verdict));
    if (reason == SSL_R_WRONG_VERSION_NUMBER)
        return broken(t, ERR_IO, "does not speak TLS (wrong version number)");
    return broken(t, ERR_IO, error_text(cause));
}

/* What SSL_do_handshake, SSL_read_ex and SSL_write_ex have answered. */
static enum err result(struct tls *t, int rc, int saved_errno)
{
    int kind = rc > 0 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
    enum err e;

    t->wants_write = kind == SSL_ERROR_WANT_WRITE;
    switch (kind) {
    case SSL_ERROR_NONE:
        return ERR_OK;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return ERR_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        e = ended(t);
        t->failed = false; /* our own close_notify may still go */
        return e;
    case SSL_ERROR_SYSCALL:
        e = saved_errno ? broken(t, ERR_IO, strerror(saved_errno)) : ended(t);
        break;
    default:
        e = protocol_error(t);
    }
    ERR_clear_error();
    return e;
}

enum err tls_handshake(struct tls *t)
{
    if (t->failed)
        return ERR_IO;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(t->ssl);
    t->greeted = rc == 1;
    return result(t, rc, errno);
}

enum err tls_read(struct tls *t, void *out, size_t max, size_t *n)
{
    if (t->failed)
        return ERR_IO;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_read_ex(t->ssl, out, max, n);
    return result(t, rc, errno);
}

enum err tls_write(struct tls *t, const void *data, size_t len, size_t *n)
{
    if (t->failed)
        return ERR_IO;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_write_ex(t->ssl, data, len, n);
    return result(t, rc, errno);
}

bool tls_wants_write(const struct tls *t)
{
    return t->wants_write;
}

const char *tls_why(const struct tls *t)
{
    return t->why;
}
