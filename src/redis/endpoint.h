/* endpoint.h - copies of endpoints, for servers that were found and not configured. */
#ifndef CRIER_REDIS_ENDPOINT_H
#define CRIER_REDIS_ENDPOINT_H

#include "crier/redis.h"

void endpoint_copy(struct redis_endpoint *out, const struct redis_endpoint *from);
/* Another host and port with the credentials, database and TLS of `like`. */
void endpoint_make(struct redis_endpoint *out, const struct redis_endpoint *like, struct slice host,
                   uint16_t port);
void endpoint_release(struct redis_endpoint *e); /* only of copies; zeroed afterwards */
bool endpoint_is_at(const struct redis_endpoint *e, struct slice host, uint16_t port);
char *endpoint_name(const struct redis_endpoint *e); /* redis_endpoint_text, malloc'ed */

#endif
