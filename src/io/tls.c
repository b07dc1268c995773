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
 *
 * Where the kernel encrypts, application data goes to it directly. OpenSSL would keep the address
 * of what the kernel did not take and send from there later, whatever is there by then (its pull
 * request 31146).
 */
#include "crier/tls.h"

#include "tls_cert.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD_BYTES 16384 /* the most that one record carries (RFC 8446 5.1) */

/* TLS 1.2 with forward secrecy and authenticated encryption; 1.3 has nothing else. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"
/* The first is not known to OpenSSL before 3.5. */
#define GROUPS_3_5 "X25519MLKEM768:X25519:P-256:P-384"
#define GROUPS "X25519:P-256:P-384"

#define MAX_ALPN_BYTES 64

struct tls_ctx {
    _Atomic unsigned refs;
    size_t n;                           /* 1 for clients */
    SSL_CTX *ssl_ctx[TLS_PAIRS_MAX];    /* counted; [0] is where sessions begin */
    unsigned char alpn[MAX_ALPN_BYTES]; /* as on the wire: length, name, length ... */
    unsigned alpn_len;
};

struct tls {
    SSL *ssl;            /* owned */
    struct tls_ctx *ctx; /* counted: callbacks of the handshake look into it */
    size_t sealed;       /* bytes in the record that OpenSSL could not send yet */
    uint16_t record_bytes;
    bool committed; /* those bytes count as written */
    bool wants_write;
    bool read_wants_write;
    bool write_wants_read;
    uint8_t failure; /* enum tls_failure */
    bool in_kernel;  /* sending is the kernel's */
    bool greeted;    /* the handshake is over (OpenSSL forgets that when it fails) */
    bool failed;
    char *why; /* owned; NULL: nothing is wrong. Most sessions never need it */
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

static struct tls_ctx *new_ctx(void)
{
    struct tls_ctx *c = calloc(1, sizeof *c);

    BUG_ON(!c);
    c->refs = 1;
    return c;
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
    struct tls_ctx *c = new_ctx();
    c->ssl_ctx[c->n++] = s;
    *out = c;
    return ERR_OK;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *c)
{
    c->refs++;
    return c;
}

void tls_ctx_free(struct tls_ctx *c)
{
    if (!c || --c->refs)
        return;
    for (size_t i = 0; i < c->n; i++)
        SSL_CTX_free(c->ssl_ctx[i]);
    free(c);
}

/* --- contexts of servers ---------------------------------------------------------------------- */

/* The name that a client asks for decides which certificate it gets; one that nobody has is not
 * refused, because the client is who compares names. */
static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    const struct tls_ctx *c = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    for (size_t i = 0; name && i < c->n; i++) {
        if (!tls_cert_is_for(SSL_CTX_get0_certificate(c->ssl_ctx[i]), name))
            continue;
        if (i > 0 && !SSL_set_SSL_CTX(ssl, c->ssl_ctx[i]))
            return SSL_TLSEXT_ERR_ALERT_FATAL;
        break;
    }
    return SSL_TLSEXT_ERR_OK;
}

/* Ours, the best first. A client that speaks none of them is told so (RFC 7301 3.2): it would not
 * understand us. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    const struct tls_ctx *c = arg;
    unsigned char *chosen;

    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_len, c->alpn, c->alpn_len, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void set_alpn(struct tls_ctx *c, const char *names)
{
    struct slice rest = slice_str(names), one;

    while (slice_split(&rest, ',', &one)) {
        BUG_ON(one.len > 255 || c->alpn_len + 1 + one.len > sizeof c->alpn);
        c->alpn[c->alpn_len++] = (unsigned char)one.len;
        memcpy(c->alpn + c->alpn_len, one.ptr, one.len);
        c->alpn_len += (unsigned)one.len;
    }
}

static enum err expect_clients(SSL_CTX *s, const struct tls_server_options *o,
                               char why[TLS_WHY_BYTES])
{
    int mode = o->client_auth == TLS_CLIENT_REQUIRED
                   ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                   : SSL_VERIFY_PEER;

    if (o->client_auth == TLS_CLIENT_NONE)
        return ERR_OK;
    enum err e = load_trust(s, o->client_ca, why);
    if (e != ERR_OK)
        return e;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(o->client_ca);
    if (!names)
        return bad_file("CA file", o->client_ca, why);
    SSL_CTX_set_client_CA_list(s, names);
    SSL_CTX_set_verify(s, mode, NULL);
    return ERR_OK;
}

static SSL_CTX *new_server_ssl_ctx(struct tls_ctx *c, const struct tls_server_options *o)
{
    static const unsigned char id[] = "crier";
    SSL_CTX *s = new_ssl_ctx(TLS_server_method());

    BUG_ON(SSL_CTX_set_cipher_list(s, CIPHERS_1_2) != 1);
    if (SSL_CTX_set1_groups_list(s, GROUPS_3_5) != 1)
        BUG_ON(SSL_CTX_set1_groups_list(s, GROUPS) != 1);
    /* Without it OpenSSL refuses tickets of clients that have shown a certificate. */
    BUG_ON(SSL_CTX_set_session_id_context(s, id, sizeof id - 1) != 1);
#ifdef SSL_OP_ENABLE_KTLS
    if (o->kernel)
        SSL_CTX_set_options(s, SSL_OP_ENABLE_KTLS);
#else
    (void)o;
#endif
    if (c->alpn_len)
        SSL_CTX_set_alpn_select_cb(s, on_alpn, c);
    return s;
}

static enum err add_pair(struct tls_ctx *c, const struct tls_server_options *o,
                         const struct tls_pair *pair, char why[TLS_WHY_BYTES])
{
    SSL_CTX *s = c->ssl_ctx[c->n++] = new_server_ssl_ctx(c, o);
    enum err e = load_identity(s, pair->cert_file, pair->key_file, why);

    /* Every client would refuse it, and none says so here. */
    if (e == ERR_OK)
        e = tls_cert_check_dates(SSL_CTX_get0_certificate(s), pair->cert_file, why);
    return e == ERR_OK ? expect_clients(s, o, why) : e;
}

enum err tls_server_new(const struct tls_server_options *o, struct tls_ctx **out,
                        char why[TLS_WHY_BYTES])
{
    struct tls_ctx *c = new_ctx();

    ERR_clear_error();
    if (o->alpn)
        set_alpn(c, o->alpn);
    enum err e = ERR_OK;
    BUG_ON(o->n_pairs == 0 || o->n_pairs > TLS_PAIRS_MAX);
    for (size_t i = 0; e == ERR_OK && i < o->n_pairs; i++)
        e = add_pair(c, o, &o->pair[i], why);
    ERR_clear_error();
    if (e != ERR_OK) {
        tls_ctx_free(c);
        return e;
    }
    SSL_CTX_set_tlsext_servername_callback(c->ssl_ctx[0], on_server_name);
    SSL_CTX_set_tlsext_servername_arg(c->ssl_ctx[0], c);
    *out = c;
    return ERR_OK;
}

/* --- sessions --------------------------------------------------------------------------------- */

static bool expect_name(SSL *ssl, const char *wanted)
{
    char name[TLS_CERT_NAME_BYTES];

    if (!tls_cert_name(wanted, name))
        return false;
    return tls_cert_expect(SSL_get0_param(ssl), name) &&
           (tls_cert_is_address(name) || SSL_set_tlsext_host_name(ssl, name) == 1);
}

static struct tls *new_session(struct tls_ctx *c, SSL *ssl)
{
    struct tls *t = calloc(1, sizeof *t);

    BUG_ON(!t);
    t->ssl = ssl;
    t->ctx = tls_ctx_ref(c);
    t->record_bytes = RECORD_BYTES;
    return t;
}

enum err tls_open(struct tls_ctx *c, int fd, const char *name, struct tls **out)
{
    ERR_clear_error();
    SSL *ssl = SSL_new(c->ssl_ctx[0]);

    if (!ssl || SSL_set_fd(ssl, fd) != 1 || !expect_name(ssl, name)) {
        SSL_free(ssl);
        ERR_clear_error();
        return ERR_NOMEM;
    }
    SSL_set_connect_state(ssl);
    *out = new_session(c, ssl);
    return ERR_OK;
}

enum err tls_accept(struct tls_ctx *c, int fd, struct tls **out)
{
    ERR_clear_error();
    SSL *ssl = SSL_new(c->ssl_ctx[0]);

    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ERR_clear_error();
        return ERR_NOMEM;
    }
    SSL_set_accept_state(ssl);
    *out = new_session(c, ssl);
    return ERR_OK;
}

void tls_finish(struct tls *t)
{
    ERR_clear_error();
    /* With a record half sent, OpenSSL would put the alert behind it, and wait. */
    if (!t->failed && t->greeted && !t->sealed)
        (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
}

void tls_close(struct tls *t)
{
    tls_finish(t);
    SSL_free(t->ssl);
    tls_ctx_free(t->ctx);
    free(t->why);
    free(t);
}

static enum err broken(struct tls *t, enum err e, enum tls_failure failure, const char *why)
{
    t->failed = true;
    t->failure = (uint8_t)failure;
    free(t->why);
    t->why = slice_dup(slice_str(why));
    return e;
}

static enum err ended(struct tls *t)
{
    return broken(t, ERR_CLOSED, TLS_FAIL_CLOSED,
                  t->greeted ? "closed the connection"
                             : "closed the connection during the TLS handshake");
}

static enum tls_failure failure_of(int reason)
{
    switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        return TLS_FAIL_NOT_TLS;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
        return TLS_FAIL_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return TLS_FAIL_NEGOTIATION;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return TLS_FAIL_CERTIFICATE;
    default: /* alerts of the peer are numbered from there on */
        return reason >= SSL_AD_REASON_OFFSET ? TLS_FAIL_REFUSED : TLS_FAIL_OTHER;
    }
}

/* The cause is queued first; then come troubles with telling the peer. */
static enum err protocol_error(struct tls *t)
{
    long verdict = SSL_get_verify_result(t->ssl);
    unsigned long cause = ERR_peek_error();
    int reason = ERR_GET_LIB(cause) == ERR_LIB_SSL ? ERR_GET_REASON(cause) : 0;
    enum tls_failure failure = failure_of(reason);

    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return ended(t);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
        return broken(t, ERR_IO, failure, X509_verify_cert_error_string(verdict));
    if (reason == SSL_R_WRONG_VERSION_NUMBER)
        return broken(t, ERR_IO, failure, "does not speak TLS (wrong version number)");
    return broken(t, ERR_IO, failure, error_text(cause));
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
        t->failed = false; /* we may still write, and say our own close_notify */
        return e;
    case SSL_ERROR_SYSCALL:
        e = saved_errno ? broken(t, ERR_IO, TLS_FAIL_CLOSED, strerror(saved_errno)) : ended(t);
        break;
    default:
        e = protocol_error(t);
    }
    ERR_clear_error();
    return e;
}

/* A client may ask for small records (RFC 6066 4). */
static void know_record_size(struct tls *t)
{
    const SSL_SESSION *session = SSL_get_session(t->ssl);
    uint8_t code = session ? SSL_SESSION_get_max_fragment_length(session) : 0;

    if (code >= TLSEXT_max_fragment_length_512 && code <= TLSEXT_max_fragment_length_4096)
        t->record_bytes = (uint16_t)(256u << code);
}

enum err tls_handshake(struct tls *t)
{
    if (t->failed)
        return ERR_IO;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(t->ssl);
    t->greeted = rc == 1;
    if (t->greeted) {
        know_record_size(t);
        t->in_kernel = BIO_get_ktls_send(SSL_get_wbio(t->ssl));
    }
    return result(t, rc, errno);
}

enum err tls_read(struct tls *t, void *out, size_t max, size_t *n)
{
    if (t->failed)
        return ERR_IO;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_read_ex(t->ssl, out, max, n);
    enum err e = result(t, rc, errno);
    t->read_wants_write = e == ERR_AGAIN && t->wants_write;
    return e;
}

/* It makes the records; what it does not take is not sealed. */
static enum err write_through_kernel(struct tls *t, const void *data, size_t len, size_t *n)
{
    ssize_t r = send(SSL_get_wfd(t->ssl), data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

    t->wants_write = r < 0 && (errno == EAGAIN || errno == EINTR);
    t->write_wants_read = false;
    if (t->wants_write)
        return ERR_AGAIN;
    if (r < 0)
        return broken(t, ERR_IO, TLS_FAIL_CLOSED, strerror(errno));
    *n = (size_t)r;
    return ERR_OK;
}

/* At most one record, so that what OpenSSL has sealed is always all that it was given. */
static enum err write_record(struct tls *t, const void *data, size_t len, size_t *n)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_write_ex(t->ssl, data, len, n);
    enum err e = result(t, rc, errno);
    t->write_wants_read = e == ERR_AGAIN && !t->wants_write;
    t->sealed = e == ERR_AGAIN ? len : 0;
    return e;
}

/* OpenSSL wants to be called with the same length and does not look at the bytes again. */
static enum err send_committed(struct tls *t)
{
    static const char unread[RECORD_BYTES];
    size_t n;
    enum err e = write_record(t, unread, t->sealed, &n);

    t->committed = e == ERR_AGAIN;
    return e;
}

enum err tls_write(struct tls *t, const void *data, size_t len, size_t *n)
{
    *n = 0;
    if (t->failed)
        return ERR_IO;
    if (t->committed) {
        enum err e = send_committed(t);
        if (e != ERR_OK)
            return e;
    }
    if (len == 0)
        return ERR_OK;
    if (t->in_kernel)
        return write_through_kernel(t, data, len, n);
    if (t->sealed)
        len = t->sealed;
    return write_record(t, data, len < t->record_bytes ? len : t->record_bytes, n);
}

size_t tls_commit(struct tls *t)
{
    size_t n = t->committed ? 0 : t->sealed;

    t->committed = t->sealed > 0;
    return n;
}

bool tls_wants_write(const struct tls *t)
{
    return t->wants_write;
}

bool tls_read_wants_write(const struct tls *t)
{
    return t->read_wants_write;
}

bool tls_write_wants_read(const struct tls *t)
{
    return t->write_wants_read;
}

bool tls_has_more(const struct tls *t)
{
    return SSL_pending(t->ssl) > 0;
}

/* --- what is known of a session --------------------------------------------------------------- */

const char *tls_why(const struct tls *t)
{
    return t->why ? t->why : "";
}

enum tls_failure tls_failure(const struct tls *t)
{
    return (enum tls_failure)t->failure;
}

const char *tls_version(const struct tls *t)
{
    return SSL_get_version(t->ssl);
}

const char *tls_cipher(const struct tls *t)
{
    return SSL_get_cipher_name(t->ssl);
}

struct slice tls_alpn(const struct tls *t)
{
    const unsigned char *name;
    unsigned len;

    SSL_get0_alpn_selected(t->ssl, &name, &len);
    return slice_of((const char *)name, len);
}

bool tls_is_resumed(const struct tls *t)
{
    return SSL_session_reused(t->ssl);
}

bool tls_is_in_kernel(const struct tls *t)
{
    return t->in_kernel;
}

bool tls_has_client_certificate(const struct tls *t)
{
    return SSL_get0_peer_certificate(t->ssl) != NULL;
}

void tls_client_subject(const struct tls *t, char out[TLS_SUBJECT_BYTES])
{
    tls_cert_subject(SSL_get0_peer_certificate(t->ssl), out);
}
