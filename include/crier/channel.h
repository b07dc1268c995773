/* channel.h - names of channels, and the options of their namespaces.
 *
 * A name is 1-200 bytes of A-Z a-z 0-9 _ . : @ = + , ~ ! - and /. What stands before the first ':'
 * is its namespace. Options belong to namespaces, never to single channels. The table is filled at
 * start and immutable afterwards, so any thread reads it.
 */
#ifndef CRIER_CHANNEL_H
#define CRIER_CHANNEL_H

#include "crier/slice.h"

#define CHANNEL_MAX_BYTES 200

/* ERR_OK, or ERR_SYNTAX with *why set to a constant sentence that says what is allowed. */
enum err channel_check(struct slice name, const char **why) MUST_CHECK;
struct slice channel_namespace(struct slice name); /* empty when there is no ':' */

struct ns_options {
    uint32_t history_messages; /* kept per channel; 0 = none */
    uint64_t history_ms;       /* age after which a kept message goes */
    uint64_t idempotency_ms;   /* how long an Idempotency-Key is remembered */
    uint32_t idempotency_keys; /* remembered per channel at most; the oldest goes first */
    bool presence;             /* who is here is kept and may be asked */
    bool join_leave;           /* subscribers are told of joins and leaves */
};

#define NS_MAX 64
struct ns_table {
    struct ns_options common; /* for every namespace without an entry */
    size_t count;
    struct {
        char name[64];
        struct ns_options options;
    } entry[NS_MAX];
};

/* Built-in values: 100 messages, 5 minutes, keys 5 minutes; chat has presence and notices. */
void ns_table_init(struct ns_table *t);
/* The entry of that name, made as a copy of `common` when missing; NULL when the table is full. */
struct ns_options *ns_table_entry(struct ns_table *t, struct slice name);
const struct ns_options *ns_lookup(const struct ns_table *t, struct slice channel);

#endif
