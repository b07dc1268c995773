/* tls_cert.h - what a certificate says: for whom it is, when, and whose. */
#ifndef CRIER_IO_TLS_CERT_H
#define CRIER_IO_TLS_CERT_H

#include "crier/tls.h"

#define TLS_CERT_NAME_BYTES 256

/* OpenSSL's X509 and X509_VERIFY_PARAM */
struct x509_st;
struct X509_VERIFY_PARAM_st;

bool tls_cert_is_for(struct x509_st *x, const char *name);
/* ERR_SYNTAX when it is not valid now, with one line in why, which names the file it is from. */
enum err tls_cert_check_dates(const struct x509_st *x, const char *path,
                              char why[TLS_WHY_BYTES]) MUST_CHECK;
/* RFC 2253, cut; NULL gives an empty one. */
void tls_cert_subject(const struct x509_st *x, char out[TLS_SUBJECT_BYTES]);

/* A host name as certificates have it: no root dot, no zone of an IPv6 address. False: there is
 * none like it. */
bool tls_cert_name(const char *name, char out[TLS_CERT_NAME_BYTES]) MUST_CHECK;
bool tls_cert_is_address(const char *name);
/* The peer's certificate must be for this name or address. */
bool tls_cert_expect(struct X509_VERIFY_PARAM_st *param, const char *name) MUST_CHECK;

#endif
