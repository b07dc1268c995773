/* idempotency.h - keys that publishers used lately on one channel, and what they published.
 *
 * Bounded by count and, through keyring_expire, by age. Bodies are compared by length and a keyed
 * 64-bit hash. Single owner.
 */
#ifndef CRIER_BUS_IDEMPOTENCY_H
#define CRIER_BUS_IDEMPOTENCY_H

#include "crier/cursor.h"
#include "crier/list.h"
#include "crier/map.h"

struct keyring {
    struct map by_key;
    struct list by_age; /* oldest first */
};

void keyring_init(struct keyring *k);
void keyring_release(struct keyring *k);
/* ERR_NOT_FOUND: never seen. ERR_CONFLICT: seen with another body. Else where it was published. */
enum err keyring_find(const struct keyring *k, struct slice key, struct slice body,
                      struct position *pos) MUST_CHECK;
/* The key must not be known. The oldest goes when there are more than max_keys (> 0). */
void keyring_add(struct keyring *k, struct slice key, struct slice body, struct position pos,
                 uint32_t max_keys, uint64_t now_ms);
/* Forgets what was added at or before the given time. */
void keyring_expire(struct keyring *k, uint64_t up_to_ms);
static inline bool keyring_is_empty(const struct keyring *k)
{
    return list_is_empty(&k->by_age);
}
/* Only when not empty. */
uint64_t keyring_oldest_ms(const struct keyring *k);

#endif
