/* client_url.h - addresses of a server's endpoints. */
#ifndef CRIER_APP_CLIENT_URL_H
#define CRIER_APP_CLIENT_URL_H

#include "crier/buf.h"

/* 128 channels of 200 bytes, every byte escaped, a cursor, and the base. */
#define CLIENT_URL_MAX_BYTES (128 * 1024)
#define CLIENT_BASE_URL_MAX_BYTES 8192

/* The server's address: `option`, else CRIER_URL, else localhost with the port of CRIER_PORT or
 * PORT, else 8080; without a slash at its end. ERR_SYNTAX unless http or https. */
enum err client_base_url(const char *option, struct buf *b) MUST_CHECK;
/* Who may sign the server's certificate, a file: `option`, else CRIER_CA, else NULL. */
const char *client_ca_file(const char *option);
/* Appends "?name=value" or "&name=value", percent-encoded; nothing when value is NULL. */
void client_url_query(struct buf *b, const char *name, const char *value);

#endif
