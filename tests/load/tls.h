/* tls.h - the clients' side of TLS.
 *
 * LOAD_TLS=1.2 or 1.3 makes clients speak that version to the port of tls_port(); its server has
 * the certificate of the folder LOAD_TLS_FILES. Certificates are not looked at: it is our own.
 */
#ifndef LOAD_TLS_H
#define LOAD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tls_client;

const char *tls_wanted(void); /* "1.2", "1.3"; NULL: all is in clear */
/* A port that was free a moment ago. */
uint16_t tls_port(void);
bool tls_is_on(uint16_t port);

/* Over a descriptor that is connected, which becomes non-blocking and is not owned. alpn: the
 * protocol that is offered. */
struct tls_client *tls_client_new(int fd, const char *alpn);
void tls_client_free(struct tls_client *t); /* without a word; NULL is fine */
/* False: it goes on when the descriptor is readable. */
bool tls_client_shake_hands(struct tls_client *t);
/* Like recv and send. */
ssize_t tls_client_recv(struct tls_client *t, void *out, size_t max);
ssize_t tls_client_send(struct tls_client *t, const void *data, size_t len);

#endif
