/* tls.h - TLS sessions over sockets that are already connected (OpenSSL; tls.c alone includes
 * openssl/ssl.h).
 *
 * A context holds what sessions of one kind share (trust, certificate); a session is bytes in and
 * bytes out of one non-blocking descriptor, which it does not own. TLS 1.2 and up. Contexts may be
 * used by any thread, a session by one. A context never changes: other files make another one, and
 * the sessions of the old keep what they began with.
 */
#ifndef CRIER_TLS_H
#define CRIER_TLS_H

#include "crier/slice.h"

struct tls_ctx;
struct tls;

#define TLS_WHY_BYTES 256

struct tls_client_options {
    const char *ca_file;   /* PEM; NULL = what the system trusts */
    const char *cert_file; /* PEM chain of our own; NULL = none */
    const char *key_file;  /* its key */
};

/* Peers are always verified: chain and name. ERR_NOT_FOUND, ERR_SYNTAX, with one line in why. */
enum err tls_client_new(const struct tls_client_options *o, struct tls_ctx **out,
                        char why[TLS_WHY_BYTES]) MUST_CHECK;

enum tls_client_auth { TLS_CLIENT_NONE, TLS_CLIENT_OPTIONAL, TLS_CLIENT_REQUIRED };

#define TLS_PAIRS_MAX 16

struct tls_pair {
    const char *cert_file; /* PEM chain */
    const char *key_file;
};

struct tls_server_options {
    const struct tls_pair *pair; /* the first is for names nobody has */
    size_t n_pairs;              /* 1 to TLS_PAIRS_MAX */
    const char *alpn;            /* protocols, comma separated, the best first; NULL = none */
    const char *client_ca;       /* PEM, who may sign certificates of clients; NULL = nobody */
    enum tls_client_auth client_auth;
    bool kernel; /* the kernel encrypts, where it and the library can */
};

/* A client that names a host gets the first certificate that is for it. Tickets of one context are
 * not good for another. A certificate that is not valid now is refused. ERR_NOT_FOUND, ERR_SYNTAX,
 * with one line in why. */
enum err tls_server_new(const struct tls_server_options *o, struct tls_ctx **out,
                        char why[TLS_WHY_BYTES]) MUST_CHECK;

/* Counted. */
struct tls_ctx *tls_ctx_ref(struct tls_ctx *c);
void tls_ctx_free(struct tls_ctx *c); /* NULL is fine; sessions keep what they need */

/* name: what the certificate must be for, a host name (sent as SNI) or a literal address.
 * ERR_NOMEM. */
enum err tls_open(struct tls_ctx *c, int fd, const char *name, struct tls **out) MUST_CHECK;
/* The server's side of a session. ERR_NOMEM. */
enum err tls_accept(struct tls_ctx *c, int fd, struct tls **out) MUST_CHECK;
/* Says close_notify if it can at once; reading goes on. */
void tls_finish(struct tls *t);
void tls_close(struct tls *t); /* says close_notify if it can at once; frees; not the descriptor */

/* All three: ERR_AGAIN when the socket must become readable, or writable when tls_wants_write says
 * so; ERR_CLOSED when the peer has ended the session; ERR_IO otherwise (tls_why).
 *
 * A write takes at most a record. One that said ERR_AGAIN may have sealed its bytes already, which
 * must then go first: it is repeated with the same bytes at the beginning, or tls_commit is called.
 */
enum err tls_handshake(struct tls *t) MUST_CHECK;
enum err tls_read(struct tls *t, void *out, size_t max, size_t *n) MUST_CHECK;
enum err tls_write(struct tls *t, const void *data, size_t len, size_t *n) MUST_CHECK;
bool tls_wants_write(const struct tls *t);
/* How many of the bytes that were refused with ERR_AGAIN are sealed. They count as written from
 * here on: the next tls_write sends them first, and may be one of nothing for that alone. */
size_t tls_commit(struct tls *t);
bool tls_read_wants_write(const struct tls *t); /* what the last read said ERR_AGAIN for */
bool tls_write_wants_read(const struct tls *t); /* and the last write */
/* Decrypted bytes wait inside. */
bool tls_has_more(const struct tls *t);

/* What went wrong, for people: "certificate has expired", "hostname mismatch". Valid until the next
 * call. */
const char *tls_why(const struct tls *t);

enum tls_failure {
    TLS_FAIL_CLOSED,      /* the peer left */
    TLS_FAIL_NOT_TLS,     /* it speaks something else */
    TLS_FAIL_VERSION,     /* or only what is too old */
    TLS_FAIL_NEGOTIATION, /* no cipher, curve or protocol in common */
    TLS_FAIL_CERTIFICATE, /* of the client: missing, or not to be trusted */
    TLS_FAIL_REFUSED,     /* it does not want our certificate, or ended with an alert */
    TLS_FAIL_OTHER,
};
enum tls_failure tls_failure(const struct tls *t); /* of a handshake that has failed */

/* After the handshake; constant names. */
const char *tls_version(const struct tls *t);
const char *tls_cipher(const struct tls *t);
struct slice tls_alpn(const struct tls *t); /* the protocol agreed on; empty = none */
bool tls_is_resumed(const struct tls *t);   /* from a ticket */
bool tls_is_in_kernel(const struct tls *t); /* sending is the kernel's */
bool tls_has_client_certificate(const struct tls *t);
#define TLS_SUBJECT_BYTES 256
/* Of the client's certificate (RFC 2253, cut); empty = it has shown none. */
void tls_client_subject(const struct tls *t, char out[TLS_SUBJECT_BYTES]);

#endif
