/* load_idle.c - user memory of a client that waits.
 *
 * Per transport and number of clients, a fresh server each: warmed up by 500 clients of the same
 * kind, measured, N clients come (64 at a time), measured again. Then all leave, and what has not
 * gone back is said. The last line of a transport is the reconnect storm: all N at once.
 */
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "server.h"
#include "tls.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RUNS 3
#define WARM_UP_CLIENTS 500
#define SETTLE_US 2500000 /* freed memory goes back when a second was quiet */

/* So many TLS handshakes at once take longer than a server usually waits. */
static const char *const quiet[] = {"--sse-keepalive",   "1h", "--ws-ping", "1h",
                                    "--request-timeout", "1m", NULL};

static void target_of(enum client_kind kind, struct http *h, char *out, size_t cap)
{
    static const char *const target[] = {"/events?channel=news", "/ws?channel=news"};
    if (kind != CLIENT_POLL) {
        snprintf(out, cap, "%s", target[kind]);
        return;
    }
    http_send(h, "GET", "/poll?channel=news", "", 0);
    if (http_receive(h) != 200)
        die("GET /poll: %s", h->answer);
    const char *cursor = strstr(h->answer, "\"cursor\":\"") + 10;
    snprintf(out, cap, "/poll?channel=news&timeout=55&since=%.*s", (int)strcspn(cursor, "\""),
             cursor);
}

static void come_and_settle(struct clients *cs, enum client_kind kind, const struct server *s,
                            struct http *h, size_t n, size_t at_once)
{
    char target[256];
    target_of(kind, h, target, sizeof(target));
    clients_open(cs, kind, s->clients_port, n, target, at_once);
    stats_wait(h, client_kind_name(kind), (long)n);
    usleep(SETTLE_US);
}

static void leave_and_settle(struct clients *cs, struct http *h)
{
    clients_close(cs);
    stats_wait(h, client_kind_name(cs->kind), 0);
    usleep(SETTLE_US);
}

static void one_run(enum client_kind kind, size_t n, size_t at_once, struct runs *each,
                    struct runs *left)
{
    struct server s;
    struct http h;
    struct clients cs;
    server_start(&s, quiet);
    http_open(&h, s.port);
    come_and_settle(&cs, kind, &s, &h, WARM_UP_CLIENTS, WARM_UP_CLIENTS);
    leave_and_settle(&cs, &h);
    double before = (double)memory_bytes(s.pid);
    come_and_settle(&cs, kind, &s, &h, n, at_once);
    runs_add(each, ((double)memory_bytes(s.pid) - before) / (double)n);
    leave_and_settle(&cs, &h);
    runs_add(left, ((double)memory_bytes(s.pid) - before) / (double)n);
    http_close(&h);
    server_stop(&s);
}

static void measure(enum client_kind kind, size_t n, size_t at_once)
{
    struct runs each = {0}, left = {0};
    char text[80];
    for (int i = 0; i < RUNS; i++)
        one_run(kind, n, at_once, &each, &left);
    const char *how = at_once < n ? "" : ", all at once";
    snprintf(text, sizeof(text), "%s, %zu clients%s: each", client_kind_name(kind), n, how);
    figure(text, &each, "B");
    snprintf(text, sizeof(text), "%s, %zu clients%s: each, after they left", client_kind_name(kind),
             n, how);
    figure(text, &left, "B");
}

int main(void)
{
    pin_to_core(LOAD_CORE);
    if (tls_wanted())
        headline("User memory of an idle client over TLS %s (promise: <= 12 KB)", tls_wanted());
    else
        headline("User memory of an idle client (promise: <= 512 B; best known: 257 B)");
    for (enum client_kind kind = CLIENT_SSE; kind <= CLIENT_POLL; kind++) {
        measure(kind, 5000, CONNECTING_AT_ONCE);
        /* A poll over TLS has three descriptors, and a process here has 20,000. */
        if (!tls_wanted() || kind != CLIENT_POLL)
            measure(kind, 10000, CONNECTING_AT_ONCE);
        measure(kind, 5000, 5000);
    }
    return 0;
}
