/* client_url.c - where the server is, from flags and environment, and queries in safe characters.
 */
#include "client_url.h"

#include "crier/codec.h"

#include <stdlib.h>

/* A platform's PORT, unless it is something else by that name (Kubernetes: tcp://10.0.0.1:80). */
static const char *port_from_environment(void)
{
    static const char *const names[] = {"CRIER_PORT", "PORT"};
    uint64_t port;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = getenv(names[i]);
        if (value && slice_to_u64(slice_str(value), 65535, &port) == ERR_OK && port > 0)
            return value;
    }
    return "8080";
}

static bool is_web_address(const char *url)
{
    return slice_starts_with(slice_str(url), SLICE("http://")) ||
           slice_starts_with(slice_str(url), SLICE("https://"));
}

enum err client_base_url(const char *option, struct buf *b)
{
    const char *url = option ? option : getenv("CRIER_URL");
    if (!url || !url[0]) {
        buf_append_str(b, "http://localhost:");
        buf_append_str(b, port_from_environment());
        return ERR_OK;
    }
    if (!is_web_address(url) || strpbrk(url, "?# "))
        return ERR_SYNTAX;
    buf_append_str(b, url);
    while (b->len > 0 && b->data[b->len - 1] == '/')
        b->len--;
    return ERR_OK;
}

const char *client_ca_file(const char *option)
{
    const char *file = option ? option : getenv("CRIER_CA");
    return file && file[0] ? file : NULL;
}

void client_url_query(struct buf *b, const char *name, const char *value)
{
    if (!value)
        return;
    buf_append_char(b, b->len > 0 && memchr(b->data, '?', b->len) ? '&' : '?');
    buf_append_str(b, name);
    buf_append_char(b, '=');
    percent_append(b, slice_str(value));
}
