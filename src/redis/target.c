/* target.c - the servers that URLs name.
 *
 * A list is one kind throughout: plain URLs (each its own shard), or one URL of a sentinel or
 * cluster group, in which the commas separate hosts. What is ambiguous is refused, because a
 * password that a stray comma, slash or @ has cut apart ends up in a host name.
 *
 * For the same reason an error never repeats a part of the text, not even a port: it says which URL
 * and what was expected there. Passwords are decoded into memory of their final size (growing would
 * leave copies behind) and wiped when they are freed.
 */
#include "crier/redis.h"

#include "crier/codec.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/un.h>

#define MAX_ENDPOINTS 256
#define MAX_URLS_BYTES ((size_t)64 * 1024)
#define MAX_HOST_BYTES 253
#define MAX_DB 0x7fffffff
#define HINT "(/, ?, # and , within a password are percent-encoded)"
#define PORT_REDIS 6379
#define PORT_SENTINEL 26379

struct scheme {
    const char *prefix;
    enum redis_mode mode;
    bool tls, unix_socket;
};

static const struct scheme schemes[] = {
    {"redis://", REDIS_SHARDS, false, false},
    {"rediss://", REDIS_SHARDS, true, false},
    {"unix://", REDIS_SHARDS, false, true},
    {"redis+sentinel://", REDIS_SENTINEL, false, false},
    {"rediss+sentinel://", REDIS_SENTINEL, true, false},
    {"redis+cluster://", REDIS_CLUSTER, false, false},
    {"rediss+cluster://", REDIS_CLUSTER, true, false},
};
static const char schemes_text[] = "redis://, rediss://, unix://, redis+sentinel:// or "
                                   "redis+cluster:// (rediss+...:// with TLS)";

/* One URL being read. */
struct reading {
    struct redis_target *t;
    size_t number; /* of the URL, from 1 */
    const struct scheme *scheme;
    struct slice userinfo, hosts, path, query; /* ptr NULL: absent */
    char *why;
};

static enum err fault(const struct reading *r, enum err e, const char *text)
{
    if (r->number > 1)
        snprintf(r->why, REDIS_WHY_BYTES, "Redis URL %zu: %s", r->number, text);
    else
        snprintf(r->why, REDIS_WHY_BYTES, "Redis URL: %s", text);
    return e;
}

/* --- parts ------------------------------------------------------------------------------------ */

static void wipe_free(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static enum err decode(const struct reading *r, struct slice s, const char *expected, char **out)
{
    struct buf b;

    buf_init(&b, s.len);
    BUG_ON(buf_reserve(&b, s.len) != ERR_OK);
    if (percent_decode(s, false, &b) != ERR_OK || memchr(b.data, '\0', b.len)) {
        explicit_bzero(b.data, b.cap);
        buf_release(&b);
        return fault(r, ERR_SYNTAX, expected);
    }
    b.data[b.len] = '\0'; /* buf's memory is one byte larger than cap */
    *out = b.data;
    return ERR_OK;
}

/* Empty is absent. */
static enum err decode_user(const struct reading *r, struct slice s, char **out)
{
    return s.len ? decode(r, s, "user: bad percent-escape (% itself is %25)", out) : ERR_OK;
}

static enum err decode_password(const struct reading *r, struct slice s, char **out)
{
    return s.len ? decode(r, s, "password: bad percent-escape (% itself is %25)", out) : ERR_OK;
}

static enum err parse_credentials(const struct reading *r, struct slice userinfo, char **user,
                                  char **password)
{
    struct slice rest = userinfo, name = SLICE_NONE;

    if (!userinfo.ptr)
        return ERR_OK;
    if (memchr(userinfo.ptr, '@', userinfo.len))
        return fault(r, ERR_SYNTAX, "more than one @ (within a password it is written %40)");
    slice_split(&rest, ':', &name);
    enum err e = decode_user(r, name, user);
    return e == ERR_OK ? decode_password(r, rest, password) : e;
}

static enum err parse_db(const struct reading *r, struct slice s, uint32_t *db)
{
    uint64_t v;
    enum err e = slice_to_u64(s, MAX_DB, &v);

    if (e != ERR_OK)
        return fault(r, e, "database: expected a number such as 0");
    *db = (uint32_t)v;
    return ERR_OK;
}

static bool is_ipv6(const char *host)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr ip;
    size_t len = strcspn(host, "%"); /* a zone may follow */

    if (len >= sizeof address)
        return false;
    memcpy(address, host, len);
    address[len] = '\0';
    return inet_pton(AF_INET6, address, &ip) == 1;
}

static bool is_name(const char *host)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";

    return strlen(host) <= MAX_HOST_BYTES && host[strspn(host, allowed)] == '\0';
}

/* "[2001:db8::1]:6379", "name", "name:6379" */
static enum err parse_host(const struct reading *r, struct slice s, uint16_t port,
                           struct redis_endpoint *e)
{
    bool bracket = s.len > 0 && s.ptr[0] == '[';
    const char *end = bracket ? memchr(s.ptr, ']', s.len) : memchr(s.ptr, ':', s.len);
    uint64_t v = port;

    if (bracket && !end)
        return fault(r, ERR_SYNTAX, "host: [ without ]");
    struct slice name = {s.ptr + bracket, (end ? (size_t)(end - s.ptr) : s.len) - bracket};
    struct slice rest = slice_of(s.ptr + name.len + 2 * bracket, s.len - name.len - 2 * bracket);
    if (name.len == 0)
        return fault(r, ERR_SYNTAX, "host: expected a name or an address");
    if (decode(r, name, "host: bad percent-escape", &e->host) != ERR_OK)
        return ERR_SYNTAX;
    if (bracket ? !is_ipv6(e->host) : !is_name(e->host))
        return fault(r, ERR_SYNTAX, "host: expected a name or an address " HINT);
    if (rest.len && rest.ptr[0] != ':')
        return fault(r, ERR_SYNTAX, "host: expected : and a port after ]");
    if (rest.len) {
        struct slice digits = slice_of(rest.ptr + 1, rest.len - 1);
        enum err bad = slice_to_u64(digits, 65535, &v);
        if (bad == ERR_SYNTAX && memchr(digits.ptr, ':', digits.len))
            return fault(r, bad, "host: an IPv6 address stands in brackets");
        if (bad != ERR_OK || v == 0)
            return fault(r, bad ? bad : ERR_RANGE, "port: expected a number from 1 to 65535 " HINT);
    }
    e->port = (uint16_t)v;
    return ERR_OK;
}

/* --- URLs ------------------------------------------------------------------------------------- */

static const struct scheme *find_scheme(struct slice url)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t len = strlen(schemes[i].prefix);
        if (url.len >= len && strncasecmp(url.ptr, schemes[i].prefix, len) == 0)
            return &schemes[i];
    }
    return NULL;
}

static enum err split_url(struct reading *r, struct slice url)
{
    r->scheme = find_scheme(url);
    if (!r->scheme && r->number > 1)
        return fault(r, ERR_SYNTAX,
                     "expected a whole URL after the comma (a comma in a password is %2C; only "
                     "sentinels and clusters list hosts)");
    if (!r->scheme) {
        snprintf(r->why, REDIS_WHY_BYTES, "Redis URL: expected %s", schemes_text);
        return ERR_SYNTAX;
    }
    for (size_t i = 0; i < url.len; i++)
        if ((unsigned char)url.ptr[i] <= ' ' || url.ptr[i] == '#' || url.ptr[i] == 0x7f)
            return fault(r, ERR_SYNTAX, "blanks, control characters and # are percent-encoded");

    size_t at = strlen(r->scheme->prefix);
    struct slice rest = slice_of(url.ptr + at, url.len - at);
    const char *mark = memchr(rest.ptr, '?', rest.len);
    if (mark) {
        r->query = slice_of(mark + 1, (size_t)(rest.ptr + rest.len - mark - 1));
        rest.len = (size_t)(mark - rest.ptr);
    }
    mark = memchr(rest.ptr, '/', rest.len);
    if (mark) {
        r->path = slice_of(mark + 1, (size_t)(rest.ptr + rest.len - mark - 1));
        rest.len = (size_t)(mark - rest.ptr);
    }
    mark = memrchr(rest.ptr, '@', rest.len);
    if (mark) {
        r->userinfo = slice_of(rest.ptr, (size_t)(mark - rest.ptr));
        rest = slice_of(mark + 1, (size_t)(rest.ptr + rest.len - mark - 1));
    }
    r->hosts = rest;
    return ERR_OK;
}

/* "name=value&…", every name one of names and at most once. */
static enum err parse_query(const struct reading *r, const char *const *names, size_t n,
                            struct slice *values, const char *expected)
{
    struct slice rest = r->query, pair;

    if (!r->query.ptr)
        return ERR_OK;
    while (slice_split(&rest, '&', &pair)) {
        struct slice value = pair, name;
        size_t i = 0;
        if (!slice_split(&value, '=', &name) || !value.ptr)
            return fault(r, ERR_SYNTAX, expected);
        while (i < n && !slice_eq(name, slice_str(names[i])))
            i++;
        if (i == n || values[i].ptr)
            return fault(r, ERR_SYNTAX, expected);
        values[i] = value;
    }
    return ERR_OK;
}

static struct redis_endpoint *new_endpoint(struct redis_target *t)
{
    struct redis_endpoint *e = reallocarray(t->endpoint, t->n + 1, sizeof *e);

    BUG_ON(!e);
    t->endpoint = e;
    e = &t->endpoint[t->n++];
    memset(e, 0, sizeof *e);
    return e;
}

static enum err parse_unix(const struct reading *r, struct redis_endpoint *e)
{
    static const char *const names[] = {"db"};
    struct slice value = SLICE_NONE;

    if (r->hosts.len || r->path.len == 0)
        return fault(r, ERR_SYNTAX,
                     "expected unix:// and an absolute path, unix:///run/redis.sock");
    struct slice path = slice_of(r->path.ptr - 1, r->path.len + 1);
    if (decode(r, path, "path: bad percent-escape", &e->path) != ERR_OK)
        return ERR_SYNTAX;
    if (strlen(e->path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return fault(r, ERR_RANGE, "path: longer than a UNIX socket's can be (107 bytes)");
    enum err bad = parse_query(r, names, 1, &value, "expected no more than ?db=NUMBER after it");
    return bad == ERR_OK && value.ptr ? parse_db(r, value, &e->db) : bad;
}

static enum err parse_plain(const struct reading *r)
{
    struct redis_endpoint *e = new_endpoint(r->t);

    e->tls = r->scheme->tls;
    enum err bad = parse_credentials(r, r->userinfo, &e->user, &e->password);
    if (bad != ERR_OK)
        return bad;
    if (r->scheme->unix_socket)
        return parse_unix(r, e);
    bad = parse_host(r, r->hosts, PORT_REDIS, e);
    if (bad == ERR_OK && r->path.len)
        bad = parse_db(r, r->path, &e->db);
    if (bad == ERR_OK && r->query.ptr)
        bad = fault(r, ERR_SYNTAX, "expected nothing after ? (within a password it is %3F)");
    return bad;
}

/* Every host of a group has the same credentials. */
static enum err parse_hosts(const struct reading *r, uint16_t port, struct slice user,
                            struct slice password)
{
    struct slice rest = r->hosts, host;

    while (slice_split(&rest, ',', &host)) {
        if (r->t->n == MAX_ENDPOINTS)
            return fault(r, ERR_RANGE, "more than 256 hosts");
        struct redis_endpoint *e = new_endpoint(r->t);
        e->tls = r->scheme->tls;
        enum err bad = parse_host(r, host, port, e);
        if (bad == ERR_OK)
            bad = decode_user(r, user, &e->user);
        if (bad == ERR_OK)
            bad = decode_password(r, password, &e->password);
        if (bad != ERR_OK)
            return bad;
    }
    return ERR_OK;
}

static enum err parse_sentinels(const struct reading *r)
{
    static const char *const names[] = {"sentinel_user", "sentinel_password"};
    struct slice values[2] = {SLICE_NONE, SLICE_NONE}, rest = r->path, name;
    struct redis_endpoint *master = &r->t->master;

    master->tls = r->scheme->tls;
    enum err bad = parse_credentials(r, r->userinfo, &master->user, &master->password);
    if (bad == ERR_OK)
        bad = parse_query(r, names, 2, values,
                          "expected no more than ?sentinel_user=…&sentinel_password=… after it");
    if (bad == ERR_OK)
        bad = parse_hosts(r, PORT_SENTINEL, values[0], values[1]);
    if (bad != ERR_OK)
        return bad;
    if (!slice_split(&rest, '/', &name) || name.len == 0)
        return fault(r, ERR_SYNTAX, "expected the master's name after the sentinels: /mymaster");
    bad = decode(r, name, "master's name: bad percent-escape", &r->t->master_name);
    return bad == ERR_OK && rest.len ? parse_db(r, rest, &master->db) : bad;
}

static enum err parse_cluster(const struct reading *r)
{
    struct redis_endpoint probe = {0};
    struct slice user = SLICE_NONE, password = r->userinfo;

    enum err bad = parse_credentials(r, r->userinfo, &probe.user, &probe.password);
    free(probe.user);
    wipe_free(probe.password);
    if (bad != ERR_OK)
        return bad;
    slice_split(&password, ':', &user);
    bad = parse_hosts(r, PORT_REDIS, user, password);
    if (bad == ERR_OK && r->path.len && !slice_eq(r->path, SLICE("0")))
        bad = fault(r, ERR_SYNTAX, "a cluster has no databases but 0");
    if (bad == ERR_OK && r->query.ptr)
        bad = fault(r, ERR_SYNTAX, "expected nothing after ? (within a password it is %3F)");
    return bad;
}

/* --- the list --------------------------------------------------------------------------------- */

/* The database does not count: what is published is heard in all of them. */
static bool same_server(const struct redis_endpoint *a, const struct redis_endpoint *b)
{
    if (a->path || b->path)
        return a->path && b->path && strcmp(a->path, b->path) == 0;
    return a->port == b->port && strcasecmp(a->host, b->host) == 0;
}

static enum err parse_shards(struct reading *r, struct slice urls)
{
    struct slice rest = urls, url;

    while (slice_split(&rest, ',', &url)) {
        *r = (struct reading){.t = r->t, .why = r->why, .number = r->number + 1};
        if (r->number > MAX_ENDPOINTS)
            return fault(r, ERR_RANGE, "more than 256 URLs");
        enum err e = split_url(r, slice_trim(url));
        if (e != ERR_OK)
            return e;
        if (r->scheme->mode != REDIS_SHARDS)
            return fault(r, ERR_SYNTAX, "sentinels or a cluster stand alone, not among shards");
        e = parse_plain(r);
        if (e != ERR_OK)
            return e;
        for (size_t i = 0; i + 1 < r->t->n; i++)
            if (same_server(&r->t->endpoint[i], &r->t->endpoint[r->t->n - 1]))
                return fault(r, ERR_SYNTAX, "the same server as an earlier one");
    }
    return ERR_OK;
}

static enum err parse_group(struct reading *r, struct slice url)
{
    r->number = 1;
    if (memmem(url.ptr + strlen(r->scheme->prefix), url.len - strlen(r->scheme->prefix), "://", 3))
        return fault(r, ERR_SYNTAX,
                     "sentinels or a cluster stand alone; their hosts are listed as HOST,HOST "
                     "after one scheme");
    enum err e = split_url(r, url);
    if (e != ERR_OK)
        return e;
    return r->t->mode == REDIS_SENTINEL ? parse_sentinels(r) : parse_cluster(r);
}

enum err redis_target_parse(const char *urls, struct redis_target **out, char why[REDIS_WHY_BYTES])
{
    struct slice all = slice_trim(slice_str(urls));
    struct reading r = {.why = why, .scheme = find_scheme(all)};
    enum err e;

    r.t = calloc(1, sizeof *r.t);
    BUG_ON(!r.t);
    r.t->mode = r.scheme ? r.scheme->mode : REDIS_SHARDS;
    if (all.len > MAX_URLS_BYTES)
        e = fault(&r, ERR_RANGE, "longer than 64 KiB");
    else
        e = r.t->mode == REDIS_SHARDS ? parse_shards(&r, all) : parse_group(&r, all);
    if (e != ERR_OK) {
        redis_target_free(r.t);
        return e;
    }
    *out = r.t;
    return ERR_OK;
}

static void release_endpoint(struct redis_endpoint *e)
{
    free(e->host);
    free(e->path);
    free(e->user);
    wipe_free(e->password);
}

void redis_target_free(struct redis_target *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++)
        release_endpoint(&t->endpoint[i]);
    free(t->endpoint);
    release_endpoint(&t->master);
    free(t->master_name);
    free(t);
}

/* --- texts ------------------------------------------------------------------------------------ */

static const char *scheme_of(const struct redis_target *t, const struct redis_endpoint *e)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (schemes[i].mode == t->mode && schemes[i].tls == e->tls &&
            schemes[i].unix_socket == (e->path != NULL))
            return schemes[i].prefix;
    return "";
}

void redis_endpoint_text(const struct redis_endpoint *e, struct buf *out)
{
    if (e->path)
        buf_append_str(out, e->path);
    else if (strchr(e->host, ':'))
        buf_printf(out, "[%s]:%u", e->host, (unsigned)e->port);
    else
        buf_printf(out, "%s:%u", e->host, (unsigned)e->port);
}

void redis_target_text(const struct redis_target *t, struct buf *out)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct redis_endpoint *e = &t->endpoint[i];
        if (i > 0)
            buf_append_char(out, ',');
        if (i == 0 || t->mode == REDIS_SHARDS)
            buf_append_str(out, scheme_of(t, e));
        redis_endpoint_text(e, out);
        if (t->mode == REDIS_SHARDS && e->db)
            buf_printf(out, e->path ? "?db=%u" : "/%u", e->db);
    }
    if (t->mode == REDIS_SENTINEL)
        buf_printf(out, "/%s", t->master_name);
    if (t->mode == REDIS_SENTINEL && t->master.db)
        buf_printf(out, "/%u", t->master.db);
}
