/* tls_cert.c - what a certificate says (see tls_cert.h).
 *
 * Apart from tls.c because nothing here knows of sessions. Whether a certificate is to be trusted
 * is not asked here: OpenSSL does that during a handshake.
 */
#include "tls_cert.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

bool tls_cert_is_for(struct x509_st *x, const char *name)
{
    return X509_check_host(x, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

static enum err bad_date(const char *what, const ASN1_TIME *when, const char *path,
                         char why[TLS_WHY_BYTES])
{
    struct tm tm = {0};
    char text[32] = "an unknown time";

    if (ASN1_TIME_to_tm(when, &tm) == 1)
        (void)strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
    snprintf(why, TLS_WHY_BYTES, "certificate %s: %s %s", path, what, text);
    return ERR_SYNTAX;
}

enum err tls_cert_check_dates(const struct x509_st *x, const char *path, char why[TLS_WHY_BYTES])
{
    const ASN1_TIME *from = X509_get0_notBefore(x), *until = X509_get0_notAfter(x);

    if (X509_cmp_current_time(until) <= 0)
        return bad_date("expired on", until, path, why);
    if (X509_cmp_current_time(from) >= 0)
        return bad_date("is not valid before", from, path, why);
    return ERR_OK;
}

void tls_cert_subject(const struct x509_st *x, char out[TLS_SUBJECT_BYTES])
{
    BIO *text = x ? BIO_new(BIO_s_mem()) : NULL;
    int n = 0;

    if (text && X509_NAME_print_ex(text, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0)
        n = BIO_read(text, out, TLS_SUBJECT_BYTES - 1);
    out[n > 0 ? n : 0] = '\0';
    BIO_free(text);
    ERR_clear_error();
}

bool tls_cert_name(const char *name, char out[TLS_CERT_NAME_BYTES])
{
    size_t len = strcspn(name, "%");

    if (len > 1 && name[len - 1] == '.')
        len--;
    if (len == 0 || len >= TLS_CERT_NAME_BYTES)
        return false;
    memcpy(out, name, len);
    out[len] = '\0';
    return true;
}

bool tls_cert_is_address(const char *name)
{
    struct in6_addr ip;

    return inet_pton(AF_INET, name, &ip) == 1 || inet_pton(AF_INET6, name, &ip) == 1;
}

bool tls_cert_expect(struct X509_VERIFY_PARAM_st *param, const char *name)
{
    if (tls_cert_is_address(name))
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1;
}
