/* tls.h - TLS sessions over sockets that are already connected (OpenSSL; tls.c alone includes it).
 *
 * A context holds what sessions of one kind share (trust, certificate); a session is bytes in and
 * bytes out of one non-blocking descriptor, which it does not own. TLS 1.2 and up. Contexts may be
 * used by any thread, a session by one.
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
void tls_ctx_free(struct tls_ctx *c); /* NULL is fine; sessions keep what they need */

/* name: what the certificate must be for, a host name (sent as SNI) or a literal address.
 * ERR_NOMEM. */
enum err tls_open(struct tls_ctx *c, int fd, const char *name, struct tls **out) MUST_CHECK;
void tls_close(struct tls *t); /* says close_notify if it can at once; frees; not the descriptor */

/* All three: ERR_AGAIN when the socket must become readable, or writable when tls_wants_write says
 * so; ERR_CLOSED when the peer has ended the session; ERR_IO otherwise (tls_why). */
enum err tls_handshake(struct tls *t) MUST_CHECK;
enum err tls_read(struct tls *t, void *out, size_t max, size_t *n) MUST_CHECK;
enum err tls_write(struct tls *t, const void *data, size_t len, size_t *n) MUST_CHECK;
bool tls_wants_write(const struct tls *t);
/* What went wrong, for people: "certificate has expired", "hostname mismatch". Valid until the next
 * call. */
const char *tls_why(const struct tls *t);

#endif
