/* ws_offer.h - what a client offers for its WebSocket (RFC 6455 9.1, RFC 7692 7.1), and what is
 * taken of it. Text in, text out. */
#ifndef CRIER_HTTP_WS_OFFER_H
#define CRIER_HTTP_WS_OFFER_H

#include "crier/msg.h"

struct ws_offer {
    enum msg_coding coding; /* CODING_PLAIN, CODING_DEFLATE or CODING_NARROW */
    char answer[128];       /* for Sec-WebSocket-Extensions; empty when nothing was agreed on */
};

/* Takes the first offer of permessage-deflate that can be kept, of all there are (several header
 * fields are joined by commas). What is offered and not known, or in a way that is not valid, is
 * passed over: that is no error. ERR_SYNTAX: not of the grammar. */
enum err ws_offer_choose(struct slice extensions, struct ws_offer *out) MUST_CHECK;

#endif
