/* cmd_publish.c - `crier publish CHANNEL MESSAGE|-`: one message, its cursor on stdout.
 *
 * The message goes out byte for byte as it was given, also the line end that echo puts on stdin.
 * Not repeated on failure: whether the first try arrived is not known, and only a caller that gives
 * a --key can safely ask again.
 */
#include "cmd_publish.h"

#include "client_http.h"
#include "client_problem.h"
#include "client_url.h"
#include "commands.h"
#include "crier/codec.h"
#include "crier/json.h"

#include <stdio.h>
#include <stdlib.h>

#define STDIN_MAX_BYTES ((size_t)64 << 20) /* the largest --max-message a server can have */
#define ANSWER_MAX_BYTES 65536
#define SILENCE_MS 30000

const struct args_option publish_options[PUBLISH_OPTIONS] = {
    [PUBLISH_URL] = {"url", "URL", "the server [$CRIER_URL, else http://localhost:$PORT or 8080]"},
    [PUBLISH_CA] = {"ca", "FILE",
                    "who may sign its certificate (PEM) [$CRIER_CA, else who the system trusts]"},
    [PUBLISH_EVENT] = {"event", "NAME", "event name, as EventSource listeners see it"},
    [PUBLISH_KEY] = {"key", "KEY", "Idempotency-Key: publishing twice with it publishes once"},
    [PUBLISH_TYPE] = {"content-type", "TYPE",
                      "[application/json for a JSON object or array, else text/plain]"},
};

static int usage(const char *error)
{
    fprintf(stderr, "crier: publish: %s\ncrier: see crier help publish\n", error);
    return EXIT_USAGE;
}

static bool read_stdin(struct buf *b)
{
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0 && !b->failed)
        buf_append(b, slice_of(chunk, n));
    return !ferror(stdin) && !b->failed;
}

static const char *content_type_of(struct slice message)
{
    if (json_check(message, false, NULL) == ERR_OK && json_type_of(message) <= JSON_ARRAY)
        return "application/json";
    return utf8_is_valid(message) ? "text/plain; charset=utf-8" : "application/octet-stream";
}

/* A header line cannot hold every byte; a value with a line end would be a header of its own. */
static bool is_header_value(const char *value)
{
    for (; value && *value; value++)
        if ((unsigned char)*value < ' ' || *value == 0x7f)
            return false;
    return true;
}

static bool take_body(void *ctx, const struct http_answer *a, struct slice bytes)
{
    struct buf *body = ctx;
    (void)a;
    buf_append(body, bytes);
    return !body->failed;
}

static int report(enum err e, const struct http_answer *a, struct slice body)
{
    char *id;
    if (e != ERR_OK) {
        fprintf(stderr, "crier: publish: %s\n", a->error[0] ? a->error : "the answer is too long");
        return EXIT_FAILED;
    }
    if (a->status != 200) {
        client_problem("publish", a->status, body);
        return EXIT_FAILED;
    }
    id = json_check(body, false, NULL) == ERR_OK ? client_json_string(body, "id") : NULL;
    if (!id) {
        fprintf(stderr, "crier: publish: this is not a crier server: the answer has no id\n");
        return EXIT_FAILED;
    }
    printf("%s\n", id);
    free(id);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

static void add_header(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, "%s: %s", name, value);
    buf_append_char(b, 0);
}

static int post(const char *url, const char *ca_file, const char *const *headers,
                struct slice message)
{
    struct buf answer_body;
    struct http_answer answer;
    struct http_client *http = http_client_new(-1, ca_file);
    struct http_request request = {.url = url,
                                   .headers = headers,
                                   .post = true,
                                   .body = message,
                                   .silence_ms = SILENCE_MS,
                                   .on_body = take_body,
                                   .ctx = &answer_body};
    buf_init(&answer_body, ANSWER_MAX_BYTES);
    enum err e = http_perform(http, &request, &answer);
    int code = report(e, &answer, buf_slice(&answer_body));
    buf_release(&answer_body);
    http_client_free(http);
    return code;
}

static int publish(const char **value, const char *channel, struct slice message)
{
    int code;
    struct buf url, type, key;
    buf_init(&url, CLIENT_URL_MAX_BYTES);
    buf_init(&type, CLIENT_URL_MAX_BYTES);
    buf_init(&key, CLIENT_URL_MAX_BYTES);
    enum err e = client_base_url(value[PUBLISH_URL], &url);
    buf_append_str(&url, "/publish");
    client_url_query(&url, "channel", channel);
    client_url_query(&url, "event", value[PUBLISH_EVENT]);
    buf_append_char(&url, 0);
    add_header(&type, "Content-Type",
               value[PUBLISH_TYPE] ? value[PUBLISH_TYPE] : content_type_of(message));
    if (value[PUBLISH_KEY])
        add_header(&key, "Idempotency-Key", value[PUBLISH_KEY]);
    const char *headers[] = {type.data, key.data, NULL};
    if (e != ERR_OK)
        code = usage("--url: expected an address like https://push.example.com");
    else if (url.failed || type.failed || key.failed)
        code = usage("an argument is too long");
    else
        code = post(url.data, client_ca_file(value[PUBLISH_CA]), headers, message);
    buf_release(&url);
    buf_release(&type);
    buf_release(&key);
    return code;
}

int cmd_publish(int argc, char **argv)
{
    const char *value[PUBLISH_OPTIONS];
    struct args args;
    struct buf input;
    int code;
    if (args_parse(&args, publish_options, PUBLISH_OPTIONS, value, argc, argv) != ERR_OK)
        return usage(args.error);
    if (args.n_positional != 2)
        return usage("expected a channel and a message (- reads it from stdin)");
    if (!is_header_value(value[PUBLISH_KEY]) || !is_header_value(value[PUBLISH_TYPE]))
        return usage("--key and --content-type: expected a text without control characters");
    buf_init(&input, STDIN_MAX_BYTES);
    struct slice message = slice_str(args.positional[1]);
    if (strcmp(args.positional[1], "-") != 0) {
        code = publish(value, args.positional[0], message);
    } else if (read_stdin(&input)) {
        code = publish(value, args.positional[0], buf_slice(&input));
    } else {
        fprintf(stderr, "crier: publish: stdin could not be read, or is longer than 64 MiB\n");
        code = EXIT_FAILED;
    }
    buf_release(&input);
    return code;
}
