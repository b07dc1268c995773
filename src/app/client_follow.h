/* client_follow.h - what `crier subscribe` knows while connections come and go: which channels,
 * up to where, how to print, and how many messages are still wanted.
 *
 * follow_sse, follow_ws and follow_poll each run one connection and say how it ended; none of them
 * reconnects. Single thread.
 */
#ifndef CRIER_APP_CLIENT_FOLLOW_H
#define CRIER_APP_CLIENT_FOLLOW_H

#include "client_http.h"

#define FOLLOW_EVENT_MAX_BYTES ((size_t)256 << 20) /* the largest message, escaped to the worst */
#define FOLLOW_CURSOR_MAX_BYTES 4096               /* 128 channels; nothing longer is believed */

enum follow_end {
    FOLLOW_LOST,    /* said on stderr; worth another connection */
    FOLLOW_DONE,    /* enough messages, told to stop, or nobody reads our output */
    FOLLOW_REFUSED, /* said on stderr; another connection would end the same way */
};

struct follow {
    struct http_client *http; /* borrowed */
    const char *base_url;     /* borrowed */
    char **channels;          /* borrowed */
    size_t n_channels;
    const char *history; /* borrowed; NULL = not asked for */
    bool json;           /* print envelopes, not payloads */
    uint64_t remaining;  /* messages still wanted; UINT64_MAX = no end */

    char *cursor;          /* owned; over all channels; NULL = from now */
    char **channel_cursor; /* owned; per channel, NULL = unknown (only WebSockets need it) */
    uint64_t retry_ms;     /* what the server asked for; 0 = nothing */
    bool was_ready;        /* a server has accepted us on this connection */
    bool output_failed;    /* said on stderr; not when the reader just left */
};

void follow_init(struct follow *f, char **channels, size_t n_channels, const char *since);
void follow_release(struct follow *f);

/* The URL of an endpoint with channels, cursor and history; malloc'ed. `extra` may be NULL. */
char *follow_url(const struct follow *f, const char *path, const char *extra_name,
                 const char *extra_value);
/* Prints one message; false when that was the last one wanted. */
bool follow_message(struct follow *f, struct slice envelope);
/* Says on stderr what could not be delivered; `gap` is the object of the protocol. */
void follow_gap(struct slice gap);
/* How a connection ends that the server ended with this code; said on stderr. */
enum follow_end follow_closed(uint64_t code, const char *reason);
/* How it ends after an answer that is not the one that was hoped for. */
enum follow_end follow_answered(struct follow *f, const struct http_answer *a, struct slice body);
void follow_set_cursor(struct follow *f, struct slice cursor);
void follow_set_channel_cursor(struct follow *f, struct slice object, bool only_if_unknown);

enum follow_end follow_sse(struct follow *f);
enum follow_end follow_poll(struct follow *f);
enum follow_end follow_ws(struct follow *f);

#endif
