/* endpoint.c - copies of endpoints. Passwords are wiped before their memory is given back. */
#include "endpoint.h"

#include <stdlib.h>

#define NAME_MAX_BYTES 4096

static char *copy(const char *s)
{
    return s ? slice_dup(slice_str(s)) : NULL;
}

void endpoint_copy(struct redis_endpoint *out, const struct redis_endpoint *from)
{
    *out = (struct redis_endpoint){
        .host = copy(from->host),
        .port = from->port,
        .path = copy(from->path),
        .user = copy(from->user),
        .password = copy(from->password),
        .db = from->db,
        .tls = from->tls,
    };
}

void endpoint_make(struct redis_endpoint *out, const struct redis_endpoint *like, struct slice host,
                   uint16_t port)
{
    *out = (struct redis_endpoint){
        .host = slice_dup(host),
        .port = port,
        .user = copy(like->user),
        .password = copy(like->password),
        .db = like->db,
        .tls = like->tls,
    };
}

void endpoint_release(struct redis_endpoint *e)
{
    if (e->password)
        explicit_bzero(e->password, strlen(e->password));
    free(e->password);
    free(e->host);
    free(e->path);
    free(e->user);
    *e = (struct redis_endpoint){0};
}

bool endpoint_is_at(const struct redis_endpoint *e, struct slice host, uint16_t port)
{
    return e->host && e->port == port && slice_eq(slice_str(e->host), host);
}

char *endpoint_name(const struct redis_endpoint *e)
{
    struct buf b;

    buf_init(&b, NAME_MAX_BYTES);
    redis_endpoint_text(e, &b);
    char *name = slice_dup(buf_slice(&b));
    buf_release(&b);
    for (char *c = name; *c; c++)
        if (*c <= ' ' || *c == '"' || *c == '=' || *c == 0x7f)
            *c = '?'; /* for logs, and it may be what a server calls another */
    return name;
}
