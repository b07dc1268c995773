/* client_http.c - libcurl's multi interface, driven so that a signal ends any wait.
 *
 * The stop descriptor is polled together with curl's sockets; a flag alone would be missed by a
 * signal that comes just before the wait.
 *
 * Raw connections are curl's CONNECT_ONLY: curl resolves, connects, tunnels through a proxy and
 * does TLS, and the WebSocket is ours. (curl's own WebSocket interface is younger than what Debian
 * 12 has.) Redirects are not followed: a publish must not go where nobody sent it.
 */
#include "client_http.h"

#include "crier/clock.h"
#include "crier/version.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_MS 10000L
#define POLL_SLICE_MS 1000

struct http_client {
    CURLM *multi;        /* owned; keeps the connections */
    const char *ca_file; /* borrowed; NULL = the system's */
    int stop_fd;
};

struct transfer {
    CURL *easy;
    const struct http_request *request;
    struct http_answer *answer;
    uint64_t last_byte_ms;
    bool refused; /* on_body said no */
};

struct http_raw {
    struct http_client *client; /* borrowed */
    CURL *easy;                 /* owned; stays in the multi, which owns the connection */
    curl_socket_t fd;
};

struct http_client *http_client_new(int stop_fd, const char *ca_file)
{
    struct http_client *c = calloc(1, sizeof(*c));
    if (!c || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
    c->multi = curl_multi_init();
    c->stop_fd = stop_fd;
    c->ca_file = ca_file;
    if (!c->multi)
        abort();
    return c;
}

void http_client_free(struct http_client *c)
{
    curl_multi_cleanup(c->multi);
    curl_global_cleanup();
    free(c);
}

static CURL *easy_new(const struct http_client *c, const char *url, char *error)
{
    CURL *easy = curl_easy_init();
    if (!easy)
        abort();
    error[0] = 0;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "crier/" CRIER_VERSION);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    if (c->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file);
    return easy;
}

/* Requests */

static void read_head(struct transfer *t)
{
    struct http_answer *a = t->answer;
    const char *type = NULL;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &a->status);
    curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
    snprintf(a->content_type, sizeof(a->content_type), "%s", type ? type : "");
    a->retry_after_s = retry_after > 0 ? (uint64_t)retry_after : 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    (void)size; /* 1, says curl */
    t->last_byte_ms = clock_mono_ms();
    read_head(t);
    t->refused = !t->request->on_body(t->request->ctx, t->answer, slice_of(bytes, n));
    return t->refused ? 0 : n;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    (void)bytes;
    (void)size;
    t->last_byte_ms = clock_mono_ms();
    return n;
}

static struct curl_slist *header_list(const char *const *headers)
{
    /* Do not wait for "100 Continue" before a larger body. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (; headers && *headers && list; headers++)
        list = curl_slist_append(list, *headers);
    if (!list)
        abort();
    return list;
}

/* Waits for curl's sockets or the stop descriptor; true when told to stop. */
static bool wait_or_stop(struct http_client *c)
{
    struct curl_waitfd stop = {.fd = c->stop_fd, .events = CURL_WAIT_POLLIN};
    curl_multi_poll(c->multi, &stop, c->stop_fd >= 0 ? 1 : 0, POLL_SLICE_MS, NULL);
    return stop.revents != 0;
}

static CURLcode result_of(struct http_client *c, CURL *easy)
{
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(c->multi, &left)))
        if (m->msg == CURLMSG_DONE && m->easy_handle == easy)
            return m->data.result;
    return CURLE_ABORTED_BY_CALLBACK;
}

static enum err fail_with(char *error, CURLcode code)
{
    if (!error[0])
        snprintf(error, 256, "%s", curl_easy_strerror(code));
    return ERR_IO;
}

static enum err run(struct http_client *c, struct transfer *t)
{
    uint64_t silence_ms = t->request->silence_ms;
    int running = 1;
    for (;;) {
        CURLMcode mc = curl_multi_perform(c->multi, &running);
        if (mc != CURLM_OK) {
            snprintf(t->answer->error, sizeof(t->answer->error), "%s", curl_multi_strerror(mc));
            return ERR_IO;
        }
        if (running == 0)
            break;
        if (wait_or_stop(c))
            return ERR_CLOSED;
        if (silence_ms > 0 && clock_mono_ms() - t->last_byte_ms > silence_ms) {
            snprintf(t->answer->error, sizeof(t->answer->error), "nothing heard for %llu s",
                     (unsigned long long)(silence_ms / 1000));
            return ERR_IO;
        }
    }
    CURLcode code = result_of(c, t->easy);
    if (t->refused)
        return ERR_CLOSED;
    read_head(t);
    return code == CURLE_OK ? ERR_OK : fail_with(t->answer->error, code);
}

enum err http_perform(struct http_client *c, const struct http_request *r,
                      struct http_answer *answer)
{
    char error[CURL_ERROR_SIZE];
    memset(answer, 0, sizeof(*answer));
    struct transfer t = {.easy = easy_new(c, r->url, error),
                         .request = r,
                         .answer = answer,
                         .last_byte_ms = clock_mono_ms()};
    struct curl_slist *headers = header_list(r->headers);
    curl_easy_setopt(t.easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(t.easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(t.easy, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(t.easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(t.easy, CURLOPT_HEADERDATA, &t);
    if (r->post) {
        curl_easy_setopt(t.easy, CURLOPT_POST, 1L);
        curl_easy_setopt(t.easy, CURLOPT_POSTFIELDS, r->body.ptr ? r->body.ptr : "");
        curl_easy_setopt(t.easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
    }
    curl_multi_add_handle(c->multi, t.easy);
    enum err e = run(c, &t);
    if (e == ERR_IO && error[0])
        snprintf(answer->error, sizeof(answer->error), "%s", error);
    curl_multi_remove_handle(c->multi, t.easy);
    curl_easy_cleanup(t.easy);
    curl_slist_free_all(headers);
    return e;
}

/* Raw connections */

static enum err connect_raw(struct http_raw *r, char error[256])
{
    int running = 1;
    curl_multi_add_handle(r->client->multi, r->easy);
    while (curl_multi_perform(r->client->multi, &running) == CURLM_OK && running > 0)
        if (wait_or_stop(r->client))
            return ERR_CLOSED;
    CURLcode code = result_of(r->client, r->easy);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(r->easy, CURLINFO_ACTIVESOCKET, &r->fd);
    return code == CURLE_OK ? ERR_OK : fail_with(error, code);
}

enum err http_raw_open(struct http_client *c, const char *url, struct http_raw **out,
                       char error[256])
{
    char curl_error[CURL_ERROR_SIZE];
    struct http_raw *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    error[0] = 0;
    r->client = c;
    r->easy = easy_new(c, url, curl_error);
    curl_easy_setopt(r->easy, CURLOPT_CONNECT_ONLY, 1L);
    /* Else ALPN could choose HTTP/2, and a proxy would want a request instead of a tunnel. */
    curl_easy_setopt(r->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(r->easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
    enum err e = connect_raw(r, error);
    if (e == ERR_IO && curl_error[0])
        snprintf(error, 256, "%s", curl_error);
    curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, NULL); /* it goes out of scope here */
    if (e) {
        http_raw_close(r);
        return e;
    }
    *out = r;
    return ERR_OK;
}

void http_raw_close(struct http_raw *r)
{
    curl_multi_remove_handle(r->client->multi, r->easy);
    curl_easy_cleanup(r->easy);
    free(r);
}

/* ERR_OK when ready, ERR_AGAIN when the time is over, ERR_CLOSED when told to stop. */
static enum err wait_raw(struct http_raw *r, short events, uint64_t wait_ms)
{
    struct pollfd fds[2] = {{.fd = r->fd, .events = events},
                            {.fd = r->client->stop_fd, .events = POLLIN}};
    if (poll(fds, 2, wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms) <= 0)
        return ERR_AGAIN;
    return fds[1].revents ? ERR_CLOSED : ERR_OK;
}

bool http_raw_told_to_stop(const struct http_raw *r)
{
    struct pollfd fd = {.fd = r->client->stop_fd, .events = POLLIN};
    return poll(&fd, 1, 0) > 0;
}

enum err http_raw_send(struct http_raw *r, struct slice bytes)
{
    while (bytes.len > 0) {
        size_t n = 0;
        CURLcode code = curl_easy_send(r->easy, bytes.ptr, bytes.len, &n);
        if (code != CURLE_OK && code != CURLE_AGAIN)
            return ERR_IO;
        bytes = slice_of(bytes.ptr + n, bytes.len - n);
        if (code == CURLE_AGAIN && wait_raw(r, POLLOUT, POLL_SLICE_MS) == ERR_CLOSED)
            return ERR_CLOSED;
    }
    return ERR_OK;
}

enum err http_raw_recv(struct http_raw *r, void *bytes, size_t n, uint64_t wait_ms,
                       size_t *received)
{
    uint64_t deadline = clock_mono_ms() + wait_ms;
    for (;;) {
        /* Read before waiting: TLS may have bytes that the socket no longer has. */
        CURLcode code = curl_easy_recv(r->easy, bytes, n, received);
        if (code == CURLE_OK)
            return *received > 0 ? ERR_OK : ERR_CLOSED;
        if (code != CURLE_AGAIN)
            return ERR_IO;
        uint64_t now = clock_mono_ms();
        if (now >= deadline)
            return ERR_AGAIN;
        if (wait_raw(r, POLLIN, deadline - now) == ERR_CLOSED)
            return ERR_CLOSED;
    }
}

/* URLs */

static char *url_part(CURLU *u, CURLUPart part)
{
    char *text = NULL;
    char *copy = NULL;
    if (curl_url_get(u, part, &text, 0) == CURLUE_OK)
        copy = slice_dup(slice_str(text));
    curl_free(text);
    return copy;
}

static char *join(const char *a, const char *between, const char *b)
{
    struct buf out;
    size_t n;
    buf_init(&out, SIZE_MAX / 2);
    buf_append_str(&out, a);
    if (b) {
        buf_append_str(&out, between);
        buf_append_str(&out, b);
    }
    buf_append_char(&out, 0);
    return buf_take(&out, &n);
}

enum err http_url_split(const char *url, char **host, char **target)
{
    CURLU *u = curl_url();
    enum err e = ERR_SYNTAX;
    if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK) {
        char *name = url_part(u, CURLUPART_HOST), *port = url_part(u, CURLUPART_PORT);
        char *path = url_part(u, CURLUPART_PATH), *query = url_part(u, CURLUPART_QUERY);
        if (name && path) {
            *host = join(name, ":", port);
            *target = join(path, "?", query);
            e = ERR_OK;
        }
        free(name);
        free(port);
        free(path);
        free(query);
    }
    curl_url_cleanup(u);
    return e;
}
