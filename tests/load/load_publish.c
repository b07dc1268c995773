/* load_publish.c - one message to one of N idle clients: does N matter?
 *
 * Two servers, one with 1,000 and one with 15,000 EventSource clients, each client on a channel of
 * its own. Rounds alternate between them; in a round messages go to randomly chosen clients, one
 * POST after the other on a keep-alive connection. All CPU time of the server counts: request,
 * ordering, delivery, answer.
 *
 * Afterwards the same with two bare loops, which send() the same bytes to randomly chosen ones of
 * as many sockets: what the kernel's own cache misses add when there are more of them.
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

struct side {
    size_t n, at;
    struct server server;
    struct bare bare;
    struct clients clients; /* of the server or of the bare loop */
    struct http http;
    struct runs us;
};

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
    uint64_t want = side->clients.messages + MESSAGES_PER_ROUND;
    uint64_t began = cpu_ns(side->bare.pid);
    bare_send(&side->bare, message, sizeof(message) - 1, side->at, STEP, MESSAGES_PER_ROUND);
    side->at = (side->at + STEP * (size_t)MESSAGES_PER_ROUND) % side->n;
    clients_await(&side->clients, want);
    bare_wait(&side->bare);
    return (double)(cpu_ns(side->bare.pid) - began) / MESSAGES_PER_ROUND / 1000;
}

static void compare(struct side *few, struct side *many, double (*run_round)(struct side *),
                    const char *what)
{
    struct runs ratio = {0};
    char text[80];
    for (int i = -1; i < ROUNDS; i++) {
        double a = run_round(few), b = run_round(many);
        if (i < 0)
            continue; /* warming up */
        runs_add(&few->us, a);
        runs_add(&many->us, b);
        runs_add(&ratio, b / a);
    }
    snprintf(text, sizeof(text), "%s, N = %zu", what, few->n);
    figure(text, &few->us, "us CPU");
    snprintf(text, sizeof(text), "%s, N = %zu", what, many->n);
    figure(text, &many->us, "us CPU");
    figure("ratio", &ratio, "x");
}

static void start_server(struct side *side, size_t n)
{
    *side = (struct side){.n = n};
    server_start(&side->server, options);
    clients_open(&side->clients, CLIENT_SSE, side->server.port, n, "/events?channel=c%zu",
                 CONNECTING_AT_ONCE);
    http_open(&side->http, side->server.port);
}

static void stop_server(struct side *side)
{
    clients_close(&side->clients);
    http_close(&side->http);
    server_stop(&side->server);
}

static void start_bare(struct side *side, size_t n)
{
    *side = (struct side){.n = n};
    bare_start(&side->bare, n, "crier.ready\n\n");
    clients_open(&side->clients, CLIENT_SSE, side->bare.port, n, "/", CONNECTING_AT_ONCE);
}

static void stop_bare(struct side *side)
{
    clients_close(&side->clients);
    bare_stop(&side->bare);
}

int main(void)
{
    static struct side few, many;
    pin_to_core(LOAD_CORE);
    headline("Publish to one of N idle EventSource clients (promise: flat in N within 20 %%)");
    start_server(&few, FEW);
    start_server(&many, MANY);
    compare(&few, &many, publish_round, "per publish");
    stop_server(&few);
    stop_server(&many);
    start_bare(&few, FEW);
    start_bare(&many, MANY);
    compare(&few, &many, bare_round, "a bare send()");
    stop_bare(&few);
    stop_bare(&many);
    return 0;
}
