/* cmd_subscribe.c - `crier subscribe CHANNEL...`: follow channels, whatever happens in between.
 *
 * A connection that never got through is an error, most likely a wrong address. One that did is
 * followed by others for ever, from the position reached, on the same transport. The wait between
 * them doubles and is random, so that a thousand clients of a restarted server do not come back as
 * one; it starts over as soon as a server has accepted us.
 */
#include "cmd_subscribe.h"

#include "client_follow.h"
#include "client_url.h"
#include "commands.h"
#include "crier/rnd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_RETRY_MS 1000
#define LAST_RETRY_MS 30000
#define MAX_RETRY_MS 300000 /* of what a server may ask for */
#define CHANNELS_MAX 128

const struct args_option subscribe_options[SUBSCRIBE_OPTIONS] = {
    [SUBSCRIBE_URL] = {"url", "URL",
                       "the server [$CRIER_URL, else http://localhost:$PORT or 8080]"},
    [SUBSCRIBE_CA] = {"ca", "FILE",
                      "who may sign its certificate (PEM) [$CRIER_CA, else who the system trusts]"},
    [SUBSCRIBE_TRANSPORT] = {"transport", "NAME", "sse, ws or poll [sse]"},
    [SUBSCRIBE_SINCE] = {"since", "CURSOR", "go on from this cursor [from now]"},
    [SUBSCRIBE_HISTORY] = {"history", "N", "begin with the last N kept messages"},
    [SUBSCRIBE_FORMAT] = {"format", "NAME",
                          "raw: a payload per line; json: an envelope per line [raw]"},
    [SUBSCRIBE_COUNT] = {"count", "N", "end after N messages"},
};

static int stop_pipe[2];

/* Only what may be done in a signal handler; the pipe ends every wait. */
static void on_signal(int number)
{
    ssize_t ignored = write(stop_pipe[1], "", 1);
    (void)ignored;
    (void)number;
}

static void catch_signals(void)
{
    struct sigaction stop = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    if (pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        abort();
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    /* A reader that left is seen when writing, a server that left when reading. */
    sigaction(SIGPIPE, &ignore, NULL);
}

static uint64_t next_wait_ms(const struct follow *f, unsigned failures)
{
    uint64_t base = f->retry_ms > 0 ? f->retry_ms : FIRST_RETRY_MS;
    if (base > MAX_RETRY_MS)
        base = MAX_RETRY_MS;
    for (unsigned i = 1; i < failures && base < LAST_RETRY_MS; i++)
        base = base * 2 < LAST_RETRY_MS ? base * 2 : LAST_RETRY_MS;
    return base / 2 + rnd_below((uint32_t)base);
}

/* False when a signal came. */
static bool wait_before_retry(const struct follow *f, unsigned failures)
{
    uint64_t ms = next_wait_ms(f, failures);
    struct pollfd stop = {.fd = stop_pipe[0], .events = POLLIN};
    fprintf(stderr, "crier: connecting again in %llu.%01llu s\n", (unsigned long long)(ms / 1000),
            (unsigned long long)(ms % 1000 / 100));
    return poll(&stop, 1, (int)ms) == 0;
}

static int follow_for_ever(struct follow *f, enum follow_end (*connection)(struct follow *f))
{
    bool ever_ready = false;
    for (unsigned failures = 1;; failures++) {
        f->was_ready = false;
        enum follow_end end = connection(f);
        if (end == FOLLOW_DONE)
            return f->output_failed ? EXIT_FAILED : EXIT_DONE;
        ever_ready = ever_ready || f->was_ready;
        if (end == FOLLOW_REFUSED || !ever_ready)
            return EXIT_FAILED;
        if (f->was_ready)
            failures = 1;
        if (!wait_before_retry(f, failures))
            return EXIT_DONE;
    }
}

static int usage(const char *error)
{
    fprintf(stderr, "crier: subscribe: %s\ncrier: see crier help subscribe\n", error);
    return EXIT_USAGE;
}

typedef enum follow_end (*transport_fn)(struct follow *f);

static transport_fn transport_named(const char *name)
{
    if (!name || strcmp(name, "sse") == 0)
        return follow_sse;
    if (strcmp(name, "ws") == 0)
        return follow_ws;
    return strcmp(name, "poll") == 0 ? follow_poll : NULL;
}

static bool is_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    return slice_to_u64(slice_str(text), max, out) == ERR_OK && *out >= min;
}

/* NULL, or what is wrong. */
static const char *check(const struct args *a, const char **value, struct follow *f)
{
    uint64_t history;
    const char *format = value[SUBSCRIBE_FORMAT];
    f->remaining = UINT64_MAX;
    f->history = value[SUBSCRIBE_HISTORY];
    f->json = format && strcmp(format, "json") == 0;
    if (a->n_positional == 0)
        return "expected at least one channel";
    if (a->n_positional > CHANNELS_MAX)
        return "expected at most 128 channels";
    for (int i = 0; i < a->n_positional; i++)
        if (strlen(a->positional[i]) > 200)
            return "expected channels of at most 200 bytes";
    if (!transport_named(value[SUBSCRIBE_TRANSPORT]))
        return "--transport: expected sse, ws or poll";
    if (format && !f->json && strcmp(format, "raw") != 0)
        return "--format: expected raw or json";
    if (f->history && !is_number(f->history, 0, 100000, &history))
        return "--history: expected a number, 0 to 100000";
    if (value[SUBSCRIBE_COUNT] &&
        !is_number(value[SUBSCRIBE_COUNT], 1, UINT64_MAX - 1, &f->remaining))
        return "--count: expected a number, at least 1";
    if (value[SUBSCRIBE_SINCE] && strlen(value[SUBSCRIBE_SINCE]) > FOLLOW_CURSOR_MAX_BYTES)
        return "--since: expected a cursor";
    return NULL;
}

int cmd_subscribe(int argc, char **argv)
{
    const char *value[SUBSCRIBE_OPTIONS], *wrong;
    struct args args;
    struct follow f;
    struct buf base_url;
    int code = EXIT_USAGE;
    if (args_parse(&args, subscribe_options, SUBSCRIBE_OPTIONS, value, argc, argv) != ERR_OK)
        return usage(args.error);
    follow_init(&f, args.positional, (size_t)args.n_positional, value[SUBSCRIBE_SINCE]);
    buf_init(&base_url, CLIENT_BASE_URL_MAX_BYTES);
    wrong = check(&args, value, &f);
    if (!wrong && client_base_url(value[SUBSCRIBE_URL], &base_url) != ERR_OK)
        wrong = "--url: expected an address like https://push.example.com";
    buf_append_char(&base_url, 0);
    if (!wrong && base_url.failed)
        wrong = "--url: too long";
    if (wrong) {
        usage(wrong);
    } else {
        catch_signals();
        f.base_url = base_url.data;
        f.http = http_client_new(stop_pipe[0], client_ca_file(value[SUBSCRIBE_CA]));
        code = follow_for_ever(&f, transport_named(value[SUBSCRIBE_TRANSPORT]));
        http_client_free(f.http);
    }
    buf_release(&base_url);
    follow_release(&f);
    return code;
}
