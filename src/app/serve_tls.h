/* serve_tls.h - the certificates of our own port, at the start and again on SIGHUP. */
#ifndef CRIER_APP_SERVE_TLS_H
#define CRIER_APP_SERVE_TLS_H

#include "crier/config.h"
#include "crier/tls.h"

/* Reads the files that the options name. ERR_NOT_FOUND, ERR_SYNTAX, with one line in why. */
enum err serve_tls_load(const struct config *c, struct tls_ctx **out,
                        char why[TLS_WHY_BYTES]) MUST_CHECK;

#endif
