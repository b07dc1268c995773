/* client_http.h - HTTP for the command line, by libcurl (client_http.c alone includes curl.h).
 *
 * One thread. Everything blocks, but ends early with ERR_CLOSED when the stop descriptor becomes
 * readable. Connections are kept between requests of one client.
 */
#ifndef CRIER_APP_CLIENT_HTTP_H
#define CRIER_APP_CLIENT_HTTP_H

#include "crier/buf.h"

struct http_client;
/* stop_fd is borrowed; -1 for none. ca_file (PEM, borrowed) says who may sign the certificate of a
 * server; NULL: who the system trusts. Aborts when memory is used up. */
struct http_client *http_client_new(int stop_fd, const char *ca_file);
void http_client_free(struct http_client *c);

struct http_answer {
    long status;            /* 0: no answer came */
    char content_type[128]; /* empty when there was none */
    uint64_t retry_after_s; /* 0 when there was none */
    char error[256];        /* why it failed, when ERR_IO */
};

struct http_request {
    const char *url;
    const char *const *headers; /* "Name: value", NULL at the end; may be NULL */
    bool post;
    struct slice body;   /* of a POST */
    uint64_t silence_ms; /* fail after this long without a byte; 0 = never */
    /* Gets the body as it comes, of any status; false ends the request with ERR_CLOSED. */
    bool (*on_body)(void *ctx, const struct http_answer *answer, struct slice bytes);
    void *ctx;
};

/* ERR_OK when the whole answer was received, ERR_IO, ERR_CLOSED. *answer is filled in any case. */
enum err http_perform(struct http_client *c, const struct http_request *r,
                      struct http_answer *answer) MUST_CHECK;

/* A connection (TLS when https) over which someone else speaks. */
struct http_raw;
/* ERR_IO with `error` filled, ERR_CLOSED. */
enum err http_raw_open(struct http_client *c, const char *url, struct http_raw **out,
                       char error[256]) MUST_CHECK;
void http_raw_close(struct http_raw *r);
/* Tells an ERR_CLOSED of ours from one of the peer. */
bool http_raw_told_to_stop(const struct http_raw *r);
/* All of it. ERR_IO, ERR_CLOSED. */
enum err http_raw_send(struct http_raw *r, struct slice bytes) MUST_CHECK;
/* At least one byte, or ERR_AGAIN after wait_ms without any; ERR_CLOSED when the peer ended it or
 * we are told to stop; ERR_IO. */
enum err http_raw_recv(struct http_raw *r, void *bytes, size_t n, uint64_t wait_ms,
                       size_t *received) MUST_CHECK;

/* Parts of a URL for a request of our own: "host:port" as the Host header wants it, and the path
 * with query. Both malloc'ed. ERR_SYNTAX. */
enum err http_url_split(const char *url, char **host, char **target) MUST_CHECK;

#endif
