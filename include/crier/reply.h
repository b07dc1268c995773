/* reply.h - what Redis answers (RESP2), read with hiredis's reader (reply.c alone includes it).
 *
 * A parser takes bytes and gives whole replies; no descriptor, no thread. What a server may make us
 * hold is bounded: bytes of one reply, elements of one array, nesting.
 */
#ifndef CRIER_REPLY_H
#define CRIER_REPLY_H

#include "crier/buf.h"

enum reply_kind { REPLY_STRING, REPLY_STATUS, REPLY_ERROR, REPLY_INTEGER, REPLY_NIL, REPLY_ARRAY };

struct reply; /* borrowed from whoever holds the outermost one */

enum reply_kind reply_kind(const struct reply *r);
struct slice reply_text(const struct reply *r); /* STRING, STATUS, ERROR; else empty */
int64_t reply_integer(const struct reply *r);   /* INTEGER; else 0 */
size_t reply_count(const struct reply *r);      /* ARRAY; else 0 */
const struct reply *reply_at(const struct reply *r, size_t i); /* never NULL: NIL past the end */
/* Does the error begin with this word ("MOVED")? */
bool reply_is_error(const struct reply *r, const char *word);
void reply_free(struct reply *r);

struct reply_parser;
enum err reply_parser_new(size_t max_reply_bytes, struct reply_parser **out) MUST_CHECK;
void reply_parser_free(struct reply_parser *p);
/* ERR_NOMEM, ERR_LIMIT (the unfinished reply is too large). Ask for replies until ERR_AGAIN before
 * feeding more. A parser that has failed says the same from then on. */
enum err reply_parser_feed(struct reply_parser *p, struct slice bytes) MUST_CHECK;
/* ERR_AGAIN: no whole reply yet. ERR_SYNTAX: this is not RESP. ERR_LIMIT. The caller frees *out. */
enum err reply_parser_next(struct reply_parser *p, struct reply **out) MUST_CHECK;

/* Bytes of a reply are held that is not whole, or was not asked for yet. */
bool reply_parser_is_midway(const struct reply_parser *p);

/* One command as an array of bulk strings; all of it or, with b->failed, nothing. */
size_t command_bytes(const struct slice *arg, size_t n);
void command_append(struct buf *b, const struct slice *arg, size_t n);

#endif
