/* load_tls_library.c - what OpenSSL alone holds for an idle session of a server: what no server
 * built on it can go below. Its allocations are counted where it makes them, with what malloc adds,
 * and the larger pieces are listed by size.
 */
#include "figures.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WARM_UP 20
#define SESSIONS 100
#define PIECE_MAX_BYTES (1 << 16)
#define PIECE_SHOWN_BYTES 200

/* --- counting --- */

struct piece {
    size_t bytes;
    bool of_server;
};

static bool counting_server;
static long held, pieces[PIECE_MAX_BYTES + 1];

/* As glibc rounds: 8 bytes of its own, multiples of 16, 32 at least. */
static long cost(size_t n)
{
    size_t all = (n + 8 + 15) & ~(size_t)15;
    return all < 32 ? 32 : (long)all;
}

static void count(const struct piece *p, long by)
{
    if (!p->of_server)
        return;
    held += by * cost(p->bytes);
    pieces[p->bytes < PIECE_MAX_BYTES ? p->bytes : PIECE_MAX_BYTES] += by;
}

static void *on_malloc(size_t n, const char *file, int line)
{
    struct piece *p = malloc(sizeof(*p) + n);
    (void)file;
    (void)line;
    if (!p)
        return NULL;
    *p = (struct piece){n, counting_server};
    count(p, 1);
    return p + 1;
}

static void on_free(void *bytes, const char *file, int line)
{
    struct piece *p = bytes;
    (void)file;
    (void)line;
    if (!p)
        return;
    count(--p, -1);
    free(p);
}

static void *on_realloc(void *bytes, size_t n, const char *file, int line)
{
    struct piece *p = bytes;
    void *moved = n ? on_malloc(n, file, line) : NULL;
    if (moved && p)
        memcpy(moved, bytes, p[-1].bytes < n ? p[-1].bytes : n);
    if (moved || !n)
        on_free(bytes, file, line);
    return moved;
}

/* --- sessions --- */

static void certify(SSL_CTX *ctx)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;
    if (!key || !name ||
        !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost",
                                    -1, -1, 0) ||
        !X509_set_issuer_name(cert, name) || !X509_gmtime_adj(X509_getm_notBefore(cert), 0) ||
        !X509_gmtime_adj(X509_getm_notAfter(cert), 3600) || !X509_set_pubkey(cert, key) ||
        !X509_sign(cert, key, EVP_sha256()) || SSL_CTX_use_certificate(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, key) != 1)
        die("a certificate");
    X509_free(cert);
    EVP_PKEY_free(key);
}

static SSL *end_of_pair(SSL_CTX *ctx, int fd)
{
    SSL *s = SSL_new(ctx);
    if (!s || SSL_set_fd(s, fd) != 1)
        die("a session");
    return s;
}

/* Shakes hands and says a word each way. Both live on, like their descriptors. */
static void connect_pair(SSL_CTX *server, SSL_CTX *client)
{
    int fd[2];
    char word[8];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd))
        die("a pair of sockets");
    counting_server = true;
    SSL *a = end_of_pair(server, fd[0]);
    SSL_set_accept_state(a);
    counting_server = false;
    SSL *b = end_of_pair(client, fd[1]);
    SSL_set_connect_state(b);
    for (int i = 0; i < 4; i++) {
        SSL_do_handshake(b);
        counting_server = true;
        SSL_do_handshake(a);
        counting_server = false;
    }
    bool said = SSL_write(b, "hello", 5) == 5;
    counting_server = true;
    said = said && SSL_read(a, word, sizeof(word)) == 5 && SSL_write(a, "world", 5) == 5;
    (void)SSL_read(a, word, sizeof(word)); /* nothing: its buffers are given back */
    counting_server = false;
    if (!said || SSL_read(b, word, sizeof(word)) != 5)
        die("%s does not work", SSL_get_version(a));
}

static void measure(const char *what, int version, const char *cipher)
{
    SSL_CTX *server = SSL_CTX_new(TLS_server_method()), *client = SSL_CTX_new(TLS_client_method());
    if (!server || !client)
        die("a context");
    certify(server);
    SSL_CTX_set_mode(server, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(server, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_min_proto_version(client, version);
    SSL_CTX_set_max_proto_version(client, version);
    bool fits = version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(client, cipher)
                                          : SSL_CTX_set_cipher_list(client, cipher);
    if (!fits)
        die("the cipher %s", cipher);
    for (int i = 0; i < WARM_UP; i++)
        connect_pair(server, client);
    held = 0;
    memset(pieces, 0, sizeof(pieces));
    for (int i = 0; i < SESSIONS; i++)
        connect_pair(server, client);
    printf("%-36s %6ld B\n", what, held / SESSIONS);
    for (long n = PIECE_MAX_BYTES; n >= PIECE_SHOWN_BYTES; n--)
        if (pieces[n] >= SESSIONS)
            printf("    %ld x %ld B\n", pieces[n] / SESSIONS, n);
}

int main(void)
{
    if (!CRYPTO_set_mem_functions(on_malloc, on_realloc, on_free))
        die("OpenSSL has allocated already");
    headline("%s, an idle session of the server, two tickets sent",
             OpenSSL_version(OPENSSL_VERSION));
    measure("TLS 1.3, AES-256-GCM", TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384");
    measure("TLS 1.3, ChaCha20-Poly1305", TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256");
    measure("TLS 1.2, AES-256-GCM", TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384");
    return 0;
}
