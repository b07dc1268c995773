/* record.h - a message as it stands in Redis: the same bytes in the channel's stream and in the
 * PUBLISH that tells of it.
 *
 *     EPOCH OFFSET TIME PREVIOUS BODY
 *
 * The first four are decimal and written by the publish script: the position, the server's time in
 * ms, and the epoch of the message before this one (another than EPOCH only for the first message
 * of an epoch that goes on counting where an older one stopped). BODY is the publisher's:
 *
 *     KIND ECHO CLIENT TYPE EVENT USER\n content type, event, user, payload
 *
 * KIND is j (JSON), t (text) or b (binary); ECHO is - when CLIENT does not want it back, else +;
 * CLIENT is 16 hex digits; TYPE, EVENT and USER are the decimal lengths of the first three parts.
 */
#ifndef CRIER_BUS_RECORD_H
#define CRIER_BUS_RECORD_H

#include "crier/msg.h"

struct record {
    struct position pos;
    uint64_t time_ms;
    uint32_t previous_epoch;
    struct slice body; /* borrowed */
};

/* A record is at most that much larger than its payload, type, event and user. */
#define RECORD_OVERHEAD_BYTES 256

/* Room that record_write_body needs at most. */
size_t record_body_max(const struct msg *m);
/* Not terminated; returns the length. */
size_t record_write_body(char *out, const struct msg *m);
/* The four numbers; `body` is what follows, if anything. ERR_SYNTAX. */
enum err record_parse(struct slice text, struct record *out) MUST_CHECK;
/* The message, ordered, with one reference. ERR_SYNTAX, ERR_NOMEM. */
enum err record_message(const struct record *r, struct slice channel, struct msg **out) MUST_CHECK;

#endif
