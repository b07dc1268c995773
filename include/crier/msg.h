/* msg.h - one message: immutable bytes, reference-counted, encoded at most once per form.
 *
 * Made by whoever received it, ordered by the bus (msg_order, before anyone else has a reference),
 * then shared by all threads. The count and the encodings' pointers are the only words that change
 * after that; both are atomic. The encoded forms live as long as the message.
 */
#ifndef CRIER_MSG_H
#define CRIER_MSG_H

#include "crier/buf.h"
#include "crier/cursor.h"

enum msg_kind {
    MSG_JSON,   /* valid JSON (json_check) */
    MSG_TEXT,   /* valid UTF-8 */
    MSG_BINARY, /* anything else */
};

/* Forms a message goes out in. */
enum msg_form {
    FORM_ENVELOPE, /* {"channel":…,"id":…,"event":…,"data":…,"time":…,"user":…,"client":…} */
    FORM_SSE_RAW,  /* id:, event:, data: lines and the empty line; the id line stands first */
    FORM_SSE_JSON, /* id:, then the envelope as data: */
    FORM_WS_JSON,  /* unmasked text frame {"op":"message",…envelope members} */
    FORM_WS_RAW,   /* unmasked frame of the payload: text, or binary for MSG_BINARY */
    /* The same, packed (enum msg_coding). */
    FORM_WS_JSON_DEFLATE,
    FORM_WS_RAW_DEFLATE,
    FORM_WS_JSON_NARROW,
    FORM_WS_RAW_NARROW,
    FORM_SSE_RAW_GZIP,
    FORM_SSE_JSON_GZIP,
    FORM_SSE_RAW_ZSTD,
    FORM_SSE_JSON_ZSTD,
    FORM_COUNT,
};

/* What was agreed on with a client. Every message is packed for itself, once for all clients: */
enum msg_coding {
    CODING_PLAIN,
    CODING_DEFLATE, /* permessage-deflate without server context takeover (RFC 7692): RSV1 frames */
    CODING_NARROW,  /* the same for a client that asked for a window smaller than ours */
    CODING_GZIP,    /* one gzip stream (RFC 1952) whose blocks do not refer to each other */
    CODING_ZSTD,    /* a frame (RFC 8878) for each event */
    CODING_COUNT,
};
/* FORM_WS_JSON and CODING_DEFLATE make FORM_WS_JSON_DEFLATE, and so on; CODING_PLAIN changes
 * nothing. Codings and forms that do not go together are our bug. */
enum msg_form msg_form_packed(enum msg_form plain, enum msg_coding coding);
/* And back. */
enum msg_form msg_form_plain(enum msg_form form);
enum msg_coding msg_form_coding(enum msg_form form);

/* What is packed at all. Once, before other threads start; the list is borrowed for ever. Messages
 * with a payload below the threshold, of those namespaces, or that do not get smaller go out as
 * they are: as a frame without RSV1, as stored blocks within the gzip stream, as a raw zstd frame.
 * The list is comma separated; "" is none, an empty name in it stands for channels without one. */
void msg_configure_packing(size_t threshold_bytes, struct slice plain_namespaces);
/* Is anything packed in this channel's namespace? Not of its own text before the first ':'. */
bool msg_is_packed_in(struct slice channel);
/* Bytes that are for one client alone, not compressed but as the coding wants them: stored blocks,
 * raw frames; of other codings as they are. */
void msg_append_stored(struct buf *b, enum msg_coding coding, struct slice plain);

/* Of plain bytes: what the trailer of a gzip stream is made of. */
struct plain_sum {
    uint32_t crc, len;
};

/* Bytes of one form. `id_len` is the length of the leading "id: …\n" line of an SSE form (else 0),
 * packed for itself where the form is: a stream of several channels replaces it by a line of its
 * own. gzip forms know what they unpack to, whole and without the id line. */
struct encoded {
    size_t len;
    size_t id_len;
    struct plain_sum plain, rest_plain;
    char bytes[];
};

/* What a publisher says; all borrowed. */
struct msg_draft {
    struct slice channel; /* checked */
    struct slice payload;
    enum msg_kind kind;
    struct slice content_type; /* may be empty */
    struct slice event;        /* may be empty; no CR, LF, NUL (msg_event_check) */
    struct slice user;         /* may be empty */
    uint64_t client;           /* session that published it; 0 = none */
    bool exclude_client;       /* do not deliver it live to `client` */
};

struct msg {
    _Atomic uint32_t refs;
    _Atomic(struct encoded *) form[FORM_COUNT]; /* owned */
    struct position pos;
    uint64_t time_ms;      /* wall clock, when ordered */
    uint64_t channel_hash; /* hash_bytes(channel) */
    uint64_t client;
    uint32_t channel_tag; /* cursor_tag(channel) */
    uint8_t kind;         /* enum msg_kind */
    bool exclude_client;
    /* all within this allocation */
    struct slice channel, payload, content_type, event, user;
    char bytes[];
};

/* The draft's bytes are copied. One reference, the caller's. ERR_NOMEM. */
enum err msg_new(const struct msg_draft *d, struct msg **out) MUST_CHECK;
struct msg *msg_ref(struct msg *m); /* any thread */
void msg_unref(struct msg *m);      /* any thread; NULL is fine */
/* Once, before the message is shared. */
void msg_order(struct msg *m, struct position pos, uint64_t time_ms);
/* The bytes of a form, made on first need, borrowed from the message. NULL when memory is used up.
 * Any thread; when two threads need the same form at the same instant, one result is dropped. */
const struct encoded *msg_encoded(struct msg *m, enum msg_form form);

/* 1-64 bytes of UTF-8 without control characters, not starting with "crier." (reserved).
 * ERR_SYNTAX with *why. */
enum err msg_event_check(struct slice event, const char **why) MUST_CHECK;
/* Kind of a body by its media type: application/json and +json must be valid JSON (ERR_SYNTAX,
 * details in *jerr_what and *jerr_offset); a text type is text when it is UTF-8; none and
 * application/x-www-form-urlencoded (what curl -d says without being told) are JSON when the body
 * is a JSON object or array, else text when UTF-8; all else is binary. */
enum err msg_kind_of(struct slice content_type, struct slice body, enum msg_kind *out,
                     size_t *jerr_offset, const char **jerr_what) MUST_CHECK;

/* Client ids in text form: "c" and 11 base64url digits. */
#define CLIENT_ID_BYTES 13 /* with NUL */
void client_id_text(uint64_t id, char out[CLIENT_ID_BYTES]);
enum err client_id_parse(struct slice text, uint64_t *out) MUST_CHECK;

/* Header of an unmasked WebSocket frame with FIN set (RFC 6455 5.2); returns its length, 2-10. */
size_t ws_frame_header(uint8_t out[10], uint8_t opcode, uint64_t payload_len);
/* SSE framing shared by messages and control events: one "data: " line per line of `data`, which is
 * cut at CR, LF and CRLF; always at least one line. */
void sse_append_data(struct buf *b, struct slice data);

#endif
