/* tls_fixture.h - a certificate authority that lives for one test program, and the server's side
 * of a session, by OpenSSL itself.
 *
 * Files are made in a new directory by tls_fixture_open and gone with tls_fixture_close.
 */
#ifndef CRIER_TESTS_TLS_FIXTURE_H
#define CRIER_TESTS_TLS_FIXTURE_H

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TLS_DAY_S (24L * 60 * 60)

static char tls_dir[] = "/tmp/crier-tls-XXXXXX";
static EVP_PKEY *tls_ca_key;
static X509 *tls_ca;

/* A path in the directory; a ring of 4 buffers. */
static inline const char *tls_path(const char *name)
{
    static char ring[4][128];
    static unsigned turn;
    char *out = ring[turn++ % 4];

    snprintf(out, sizeof ring[0], "%s/%s", tls_dir, name);
    return out;
}

static void tls_extend(X509 *x, int what, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, what, value);

    assert_non_null(e);
    assert_int_equal(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* san: "DNS:a,IP:::1"; NULL makes an authority. Times in seconds from now. */
static inline X509 *tls_certificate(EVP_PKEY *key, const char *name, const char *san, long from,
                                    long until, X509 *issuer, EVP_PKEY *issuer_key)
{
    static long serial;
    X509 *x = X509_new();

    assert_non_null(x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(x), from);
    X509_gmtime_adj(X509_getm_notAfter(x), until);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
    tls_extend(x, NID_basic_constraints, san ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (san)
        tls_extend(x, NID_subject_alt_name, san);
    assert_true(X509_sign(x, issuer_key, EVP_sha256()) > 0);
    return x;
}

static void tls_write_key(const char *name, EVP_PKEY *key, const char *passphrase)
{
    FILE *f = fopen(tls_path(name), "w");

    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, key, passphrase ? EVP_aes_128_cbc() : NULL,
                                          (const unsigned char *)passphrase,
                                          passphrase ? (int)strlen(passphrase) : 0, NULL, NULL),
                     1);
    fclose(f);
}

static void tls_write_certificate(const char *name, X509 *x)
{
    FILE *f = fopen(tls_path(name), "w");

    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, x), 1);
    fclose(f);
}

/* NAME.pem and NAME.key, signed by the authority. */
static void tls_make(const char *name, const char *san, long from, long until)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = tls_certificate(key, name, san, from, until, tls_ca, tls_ca_key);
    char file[64];

    snprintf(file, sizeof file, "%s.pem", name);
    tls_write_certificate(file, x);
    snprintf(file, sizeof file, "%s.key", name);
    tls_write_key(file, key, NULL);
    X509_free(x);
    EVP_PKEY_free(key);
}

/* With the authority in ca.pem. */
static void tls_fixture_open(void)
{
    assert_non_null(mkdtemp(tls_dir));
    tls_ca_key = EVP_EC_gen("P-256");
    tls_ca =
        tls_certificate(tls_ca_key, "crier test CA", NULL, -TLS_DAY_S, TLS_DAY_S, NULL, tls_ca_key);
    tls_write_certificate("ca.pem", tls_ca);
}

static void tls_fixture_close(void)
{
    char command[64];

    X509_free(tls_ca);
    EVP_PKEY_free(tls_ca_key);
    snprintf(command, sizeof command, "rm -rf %s", tls_dir);
    assert_int_equal(system(command), 0);
}

/* The server's side, with NAME's certificate. */
static inline SSL_CTX *tls_server_ctx(const char *name)
{
    SSL_CTX *c = SSL_CTX_new(TLS_server_method());
    char file[64];

    assert_non_null(c);
    snprintf(file, sizeof file, "%s.pem", name);
    assert_int_equal(SSL_CTX_use_certificate_chain_file(c, tls_path(file)), 1);
    snprintf(file, sizeof file, "%s.key", name);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(c, tls_path(file), SSL_FILETYPE_PEM), 1);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return c;
}

static inline SSL *tls_server(SSL_CTX *c, int fd)
{
    SSL *s = SSL_new(c);

    assert_non_null(s);
    assert_int_equal(SSL_set_fd(s, fd), 1);
    SSL_set_accept_state(s);
    return s;
}

#endif
