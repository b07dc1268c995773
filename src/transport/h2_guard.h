/* h2_guard.h - what a peer may do on one HTTP/2 connection.
 *
 * Reads the frame headers of what comes in before nghttp2 does. Frames that cost us work and the
 * peer nothing are counted in token buckets; each has a burst that honest clients stay under and a
 * rate at which it is forgiven. Also remembers which stream ids were skipped and which the peer has
 * ended, because on those nothing may come later (RFC 9113 5.1, 5.1.1): nghttp2, told to keep no
 * closed streams, takes it for something that crossed a reset of ours. Pure, no clock of its own.
 */
#ifndef CRIER_TRANSPORT_H2_GUARD_H
#define CRIER_TRANSPORT_H2_GUARD_H

#include "crier/slice.h"

/* RFC 9113 7. */
enum h2_code {
    H2_NO_ERROR = 0,
    H2_PROTOCOL_ERROR = 1,
    H2_STREAM_CLOSED = 5,
    H2_ENHANCE_YOUR_CALM = 11,
};

#define H2_PREFACE_BYTES 24
#define H2_FRAME_HEAD_BYTES 9

enum h2_charge {
    H2_RESET,         /* streams reset: by the peer, or by us for a fault of the peer's */
    H2_PING,          /* each is answered; beyond one for every DATA frame of ours */
    H2_SETTINGS,      /* each is answered, and may walk all streams */
    H2_PRIORITY,      /* each may move a tree of streams */
    H2_WINDOW_UPDATE, /* beyond two for every DATA frame of ours */
    H2_EMPTY_DATA,    /* DATA without data that ends nothing */
    H2_CONTINUATION,  /* also: more of one request than its header may need */
    H2_TINY_WINDOW, /* DATA of ours that a window cut to almost nothing; large frames forgive it */
    H2_CHARGES
};

#define H2_SKIPPED_RANGES 4
#define H2_ENDED_IDS 8

struct h2_guard {
    uint64_t counted_ms;        /* up to when the rates have been applied */
    uint32_t spent[H2_CHARGES]; /* thousandths of a frame */
    uint32_t skip_bytes;        /* to the next frame header */
    uint32_t next_id;           /* lowest id that no stream was opened beyond */
    uint32_t n_skipped, n_ended;
    struct {
        uint32_t from, to;
    } skipped[H2_SKIPPED_RANGES]; /* the newest; older ones are forgotten */
    uint32_t ended[H2_ENDED_IDS]; /* as above */
    uint8_t head[H2_FRAME_HEAD_BYTES];
    uint8_t head_len;      /* bytes of it that are here */
    uint8_t continuations; /* in a row */
};

void h2_guard_init(struct h2_guard *g, uint64_t now_ms);
/* One more frame of the kind. False: more than is tolerated. */
bool h2_guard_charge(struct h2_guard *g, enum h2_charge what, uint64_t now_ms);
/* We sent a DATA frame of so many bytes; cut: because the peer gave no window for what there is.
 * False: it lets us have next to nothing too often. */
bool h2_guard_sent(struct h2_guard *g, size_t bytes, bool cut, uint64_t now_ms);
const char *h2_guard_name(enum h2_charge what);
/* Follows the frames in what the peer sends, its preface first. Returns how many of the bytes are
 * fine; when fewer than there are, *code says with what the connection must end, and for a flood
 * *what of. */
size_t h2_guard_input(struct h2_guard *g, struct slice bytes, uint64_t now_ms, enum h2_code *code,
                      enum h2_charge *what);

#endif
