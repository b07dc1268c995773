/* load_publish.c - one message to one of N idle clients: does N matter?
 *
 * Two servers, one with 1,000 and one with 15,000 EventSource clients, each client on a channel of
 * its own. Rounds alternate between them; in a round messages go to randomly chosen clients, one
 * POST after the other on a keep-alive connection. All CPU time of the server counts: request,
 * ordering, delivery, answer.
 *
 * The bare loops beside them send() the same bytes to randomly chosen ones of as many sockets: what
 * the kernel's own cache misses add when there are more sockets.
 */
#include "bare.h"
#include "clients.h"
#include "figures.h"
#include "http.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FEW 1000
#define MANY 15000
#define ROUNDS 9
#define MESSAGES_PER_ROUND 3000
#define STEP 7919 /* a prime: a walk over all clients in no order the hardware foresees */

static const char *const options[] = {"--sse-keepalive", "1h", NULL};

/* One server with its clients, and the bare loop with as many. */
struct side {
    size_t n, at;
    struct server server;
    struct clients clients;
    struct http http;
    struct bare bare;
    struct clients bare_clients;
    struct runs us, bare_us;
};

static void set_up(struct side *side, size_t n, bool with_bare)
{
    *side = (struct side){.n = n};
    server_start(&side->server, options);
    clients_open(&side->clients, CLIENT_SSE, side->server.port, n, "/events?channel=c%zu",
                 CONNECTING_AT_ONCE);
    http_open(&side->http, side->server.port);
    if (with_bare) {
        bare_start(&side->bare, n, "crier.ready\n\n");
        clients_open(&side->bare_clients, CLIENT_SSE, side->bare.port, n, "/", CONNECTING_AT_ONCE);
    }
}

static void tear_down(struct side *side, bool with_bare)
{
    clients_close(&side->clients);
    http_close(&side->http);
    server_stop(&side->server);
    if (with_bare) {
        clients_close(&side->bare_clients);
        bare_stop(&side->bare);
    }
}

static double publish_round(struct side *side)
{
    static const char body[] = "1 and a little more, so that it is a usual message";
    uint64_t want = side->clients.messages + MESSAGES_PER_ROUND;
    uint64_t began = cpu_ns(side->server.pid);
    char target[64];
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        side->at = (side->at + STEP) % side->n;
        snprintf(target, sizeof(target), "/publish?channel=c%zu", side->at);
        http_post(&side->http, target, body, sizeof(body) - 1);
    }
    clients_await(&side->clients, want);
    return (double)(cpu_ns(side->server.pid) - began) / MESSAGES_PER_ROUND / 1000;
}

static double bare_round(struct side *side)
{
    static const char message[] = "id: 0000000000000000000000\n"
                                  "data: 1 and a little more, so that it is a usual message\n\n";
    uint64_t want = side->bare_clients.messages + MESSAGES_PER_ROUND;
    uint64_t began = cpu_ns(side->bare.pid);
    bare_send(&side->bare, message, sizeof(message) - 1, side->at, STEP, MESSAGES_PER_ROUND);
    clients_await(&side->bare_clients, want);
    bare_wait(&side->bare);
    return (double)(cpu_ns(side->bare.pid) - began) / MESSAGES_PER_ROUND / 1000;
}

int main(void)
{
    static struct side few, many;
    struct runs ratio = {0}, bare_ratio = {0};
    pin_to_core(LOAD_CORE);
    headline("Publish to one of N idle EventSource clients (promise: flat in N within 20 %%)");
    set_up(&few, FEW, true);
    set_up(&many, MANY, false);
    for (int i = -1; i < ROUNDS; i++) {
        double a = publish_round(&few), b = publish_round(&many);
        if (i < 0)
            continue; /* warming up */
        runs_add(&few.us, a);
        runs_add(&many.us, b);
        runs_add(&ratio, b / a);
        runs_add(&few.bare_us, bare_round(&few));
    }
    if (few.clients.lost || many.clients.lost)
        die("clients were lost");
    tear_down(&many, false);
    /* After the server: a process may open 20,000 descriptors at most. */
    static struct side many_bare = {.n = MANY};
    bare_start(&many_bare.bare, MANY, "crier.ready\n\n");
    clients_open(&many_bare.bare_clients, CLIENT_SSE, many_bare.bare.port, MANY, "/",
                 CONNECTING_AT_ONCE);
    for (int i = -1; i < ROUNDS; i++) {
        double a = bare_round(&few), b = bare_round(&many_bare);
        if (i >= 0) {
            runs_add(&many_bare.bare_us, b);
            runs_add(&bare_ratio, b / a);
        }
    }
    figure("per publish, N = 1,000", &few.us, "us CPU");
    figure("per publish, N = 15,000", &many.us, "us CPU");
    figure("ratio", &ratio, "x");
    figure("a bare send(), N = 1,000", &few.bare_us, "us CPU");
    figure("a bare send(), N = 15,000", &many_bare.bare_us, "us CPU");
    figure("ratio of the bare send()", &bare_ratio, "x");
    clients_close(&many_bare.bare_clients);
    bare_stop(&many_bare.bare);
    tear_down(&few, true);
    return 0;
}
