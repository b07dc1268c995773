/* redis_scripts.h - what the Redis bus has carried out atomically, in Lua. */
#ifndef CRIER_BUS_REDIS_SCRIPTS_H
#define CRIER_BUS_REDIS_SCRIPTS_H

#include "crier/redis.h"

/* Keys of a channel: META (hash: epoch, offset, time, server, line, care, and per idempotency key a
 * field key:KEY with "DIGEST EPOCH OFFSET SINCE"), STREAM (entry OFFSET-0 with one field m, a
 * record). Times in ms.
 *
 * publish  KEYS META [STREAM], without it nothing is kept
 *          ARGV server, epoch to begin with, messages kept, their age, age of META, publish verb,
 *               pub/sub channel, body, known, age of idempotency keys, so many of them at most,
 *               [idempotency key, digest of the payload]
 *          "EPOCH OFFSET TIME PREVIOUS", and " LINE" if there is one, unless `known` begins with
 * EPOCH, "repeated EPOCH OFFSET", "conflict", or "again" (what was there made no sense and was
 *          removed)
 * read     KEYS META [STREAM], without it only "-"
 *          ARGV server, epoch to begin with, age of META, "f"|"b"|"-", first id, count, publish
 *               verb, pub/sub channel, known
 *          [epoch, offset, line, now, entries]; makes an order where there is none
 * clear    KEYS META STREAM   ARGV publish verb, pub/sub channel
 *          [number of messages removed, "clear EPOCH OFFSET": the last of them], which is published
 * describe KEYS META STREAM   ARGV age     [epoch, offset, number of messages kept], epoch 0: none
 *
 * `known` is "EPOCH:OFFSET EPOCH:OFFSET …" (none: ""): the newest position that the caller has seen
 * acknowledged or delivered, and of epochs before that, newest first, an offset that the order had
 * after them. If the server has less of the first that it knows, it has lost messages: the end of
 * that epoch is marked as a loss in `line`, and "lost" is published, so that everyone who listens
 * looks.
 *
 * Who is where; INSTANCES is a sorted set (instance by its last sign of life), and every instance
 * has NAMES (sorted set of its occupied channels) and COUNTS (hash of their subscribers):
 *
 * tell     KEYS NAMES COUNTS             ARGV life, name, subscribers, name, subscribers …
 * beat     KEYS INSTANCES NAMES COUNTS   ARGV instance, life, forget    number of channels told,
 *          or -1 less that number when the instance was not known
 * list     KEYS INSTANCES                ARGV base, own instance, alive, min, max, limit
 *          [name, subscribers, name, subscribers …] in no order: the first `limit` names of each
 *          instance but the own one
 * count    KEYS INSTANCES                ARGV base, own instance, alive, name …
 *          [subscribers …], without the own instance
 *
 * base is the prefix of NAMES and COUNTS: BASE:names:INSTANCE, BASE:counts:INSTANCE.
 */
#define KNOWN_MAX 4u /* positions in `known` */

extern struct redis_script script_publish, script_read, script_clear, script_describe, script_tell,
    script_beat, script_list, script_count;

extern struct redis_script *const redis_scripts[];
extern const size_t n_redis_scripts;

#endif
