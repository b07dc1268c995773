/* client_follow.c - positions, addresses and output, the same for every transport.
 *
 * All transports are asked for envelopes, so that what is printed does not depend on the way it
 * came. A message that is a JSON string looks like a text message then, and is printed without its
 * quotes. One message is one line as far as that is possible: white space between JSON values is
 * not data, so line ends there become blanks; a text of several lines stays as it is (ask for
 * `--format json` to have it in one).
 *
 * A position moves only after its message was written: what dies with us is delivered again.
 */
#include "client_follow.h"

#include "client_problem.h"
#include "client_url.h"
#include "crier/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void follow_init(struct follow *f, char **channels, size_t n_channels, const char *since)
{
    memset(f, 0, sizeof(*f));
    f->channels = channels;
    f->n_channels = n_channels;
    f->cursor = since ? slice_dup(slice_str(since)) : NULL;
    f->channel_cursor = calloc(n_channels, sizeof(char *));
    if (!f->channel_cursor)
        abort();
}

void follow_release(struct follow *f)
{
    for (size_t i = 0; i < f->n_channels; i++)
        free(f->channel_cursor[i]);
    free(f->channel_cursor);
    free(f->cursor);
}

/* Positions */

void follow_set_cursor(struct follow *f, struct slice cursor)
{
    if (cursor.len == 0 || cursor.len > FOLLOW_CURSOR_MAX_BYTES)
        return;
    free(f->cursor);
    f->cursor = slice_dup(cursor);
}

/* The whole cursor out of those of the channels, in the order of the request. */
static void join_cursors(struct follow *f)
{
    struct buf b;
    buf_init(&b, CLIENT_URL_MAX_BYTES);
    for (size_t i = 0; i < f->n_channels; i++) {
        if (!f->channel_cursor[i])
            continue;
        if (b.len > 0)
            buf_append_char(&b, '~');
        buf_append_str(&b, f->channel_cursor[i]);
    }
    follow_set_cursor(f, buf_slice(&b));
    buf_release(&b);
}

void follow_set_channel_cursor(struct follow *f, struct slice object, bool only_if_unknown)
{
    char *channel = client_json_string(object, "channel");
    char *cursor = client_json_string(object, "id"); /* messages say id, gaps say cursor */
    if (!cursor)
        cursor = client_json_string(object, "cursor");
    for (size_t i = 0; channel && cursor && cursor[0] && i < f->n_channels; i++) {
        if (strcmp(channel, f->channels[i]) != 0 || (only_if_unknown && f->channel_cursor[i]))
            continue;
        free(f->channel_cursor[i]);
        f->channel_cursor[i] = slice_dup(slice_str(cursor));
        join_cursors(f);
    }
    free(channel);
    free(cursor);
}

/* Addresses */

char *follow_url(const struct follow *f, const char *path, const char *extra_name,
                 const char *extra_value)
{
    struct buf b;
    size_t n;
    buf_init(&b, CLIENT_URL_MAX_BYTES);
    buf_append_str(&b, f->base_url);
    buf_append_str(&b, path);
    for (size_t i = 0; i < f->n_channels; i++)
        client_url_query(&b, "channel", f->channels[i]);
    client_url_query(&b, "since", f->cursor);
    client_url_query(&b, "history", f->cursor ? NULL : f->history);
    client_url_query(&b, extra_name, extra_value);
    buf_append_char(&b, 0);
    BUG_ON(b.failed); /* channels and cursors are bounded by cmd_subscribe and the server */
    return buf_take(&b, &n);
}

/* Output */

static void on_one_line(struct buf *b, struct slice json)
{
    size_t from = b->len;
    buf_append(b, json);
    for (size_t i = from; i < b->len; i++)
        if (b->data[i] == '\n' || b->data[i] == '\r')
            b->data[i] = ' ';
}

static void append_payload(struct buf *b, struct slice envelope)
{
    struct slice data;
    if (!json_member(envelope, "data", &data))
        return;
    if (json_type_of(data) != JSON_STRING)
        on_one_line(b, data);
    else if (json_string_decode(data, b) != ERR_OK)
        buf_append(b, data);
}

/* A reader that left (`| head`) has what it wanted; a full disk is a failure. */
static bool write_out(struct follow *f, struct slice line)
{
    if (fwrite(line.ptr, 1, line.len, stdout) == line.len && fflush(stdout) == 0)
        return true;
    f->output_failed = errno != EPIPE;
    if (f->output_failed)
        fprintf(stderr, "crier: subscribe: stdout: %s\n", strerror(errno));
    return false;
}

bool follow_message(struct follow *f, struct slice envelope)
{
    struct buf line;
    buf_init(&line, 2 * FOLLOW_EVENT_MAX_BYTES);
    if (f->json)
        on_one_line(&line, envelope);
    else
        append_payload(&line, envelope);
    buf_append_char(&line, '\n');
    bool written = write_out(f, buf_slice(&line));
    buf_release(&line);
    if (f->remaining != UINT64_MAX)
        f->remaining--;
    return f->remaining > 0 && written;
}

void follow_gap(struct slice gap)
{
    static const char *const meanings[][2] = {
        {"expired", "messages after the cursor are no longer kept"},
        {"epoch", "the cursor was given by another run of the server"},
        {"ahead", "the cursor is beyond the newest message"},
        {"no_position", "the cursor says nothing about this channel"},
    };
    char *channel = client_json_string(gap, "channel");
    char *reason = client_json_string(gap, "reason");
    const char *meaning = "";
    for (size_t i = 0; reason && i < sizeof(meanings) / sizeof(meanings[0]); i++)
        if (strcmp(reason, meanings[i][0]) == 0)
            meaning = meanings[i][1];
    fprintf(stderr, "crier: gap in %s (%s): %s; messages may be missing here\n",
            channel ? channel : "?", reason ? reason : "?", meaning);
    free(channel);
    free(reason);
}

enum follow_end follow_closed(uint64_t code, const char *reason)
{
    fprintf(stderr, "crier: the server ended the stream: %llu %s\n", (unsigned long long)code,
            reason ? reason : "");
    /* 1008: not allowed (any more); 4002: somebody wanted us gone. */
    return code == 1008 || code == 4002 ? FOLLOW_REFUSED : FOLLOW_LOST;
}

enum follow_end follow_answered(struct follow *f, const struct http_answer *a, struct slice body)
{
    if (a->status == 200) {
        fprintf(stderr, "crier: subscribe: this is not a crier server: it answered with %s\n",
                a->content_type[0] ? a->content_type : "no content type");
        return FOLLOW_REFUSED;
    }
    client_problem("subscribe", a->status, body);
    if (a->retry_after_s > 0)
        f->retry_ms = a->retry_after_s * 1000;
    if (client_is_permanent(a->status))
        return FOLLOW_REFUSED;
    f->was_ready = true; /* there is a server, and it may have us later */
    return FOLLOW_LOST;
}
