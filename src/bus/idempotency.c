/* idempotency.c - keys that publishers used lately on one channel.
 *
 * A map to find and a list in order of age to forget. The body is not kept: a publisher that uses
 * its key for something else makes a mistake, and a mistake does not collide in a 64-bit hash
 * under a random key and in the length as well.
 */
#include "idempotency.h"

#include "backend.h"

#include <stdlib.h>

struct key_entry {
    struct map_node node;
    struct list age;
    struct position pos;
    uint64_t body_hash;
    uint64_t at_ms;
    size_t body_len;
    size_t key_len;
    char key[];
};

static struct key_entry *of_node(const struct map_node *n)
{
    return container_of(n, struct key_entry, node);
}

static struct key_entry *oldest(const struct keyring *k)
{
    BUG_ON(keyring_is_empty(k));
    return container_of(k->by_age.next, struct key_entry, age);
}

static struct slice key_of(const struct map_node *n)
{
    const struct key_entry *e = of_node(n);
    return slice_of(e->key, e->key_len);
}

void keyring_init(struct keyring *k)
{
    map_init(&k->by_key, key_of);
    list_init(&k->by_age);
}

static void forget(struct keyring *k, struct key_entry *e)
{
    map_remove(&k->by_key, &e->node);
    list_remove(&e->age);
    free(e);
}

void keyring_release(struct keyring *k)
{
    keyring_expire(k, UINT64_MAX);
    map_release(&k->by_key);
}

enum err keyring_find(const struct keyring *k, struct slice key, struct slice body,
                      struct position *pos)
{
    const struct map_node *n = map_get(&k->by_key, key);
    if (!n)
        return ERR_NOT_FOUND;
    const struct key_entry *e = of_node(n);
    if (e->body_len != body.len || e->body_hash != hash_bytes(body))
        return ERR_CONFLICT;
    *pos = e->pos;
    return ERR_OK;
}

void keyring_add(struct keyring *k, struct slice key, struct slice body, struct position pos,
                 uint32_t max_keys, uint64_t now_ms)
{
    struct key_entry *e = bus_alloc(sizeof *e + key.len);
    e->pos = pos;
    e->body_hash = hash_bytes(body);
    e->body_len = body.len;
    e->at_ms = now_ms;
    e->key_len = key.len;
    if (key.len)
        memcpy(e->key, key.ptr, key.len);
    list_init(&e->age);
    list_push_back(&k->by_age, &e->age);
    map_put(&k->by_key, &e->node);
    while (k->by_key.count > max_keys)
        forget(k, oldest(k));
}

void keyring_expire(struct keyring *k, uint64_t up_to_ms)
{
    while (!keyring_is_empty(k) && oldest(k)->at_ms <= up_to_ms)
        forget(k, oldest(k));
}

uint64_t keyring_oldest_ms(const struct keyring *k)
{
    return oldest(k)->at_ms;
}
