/* test_target.c - Redis URLs: what they mean, what is refused, and that no refusal shows a secret.
 */
#include "crier/redis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* In every text that is refused, the part that may be a password has these in it. */
static const char *const secrets[] = {"s3", "cr3t", "T0P"};

static struct redis_target *target;

static void parse(const char *urls)
{
    char why[REDIS_WHY_BYTES] = "";

    redis_target_free(target);
    target = NULL;
    if (redis_target_parse(urls, &target, why) != ERR_OK)
        fail_msg("%s: %s", urls, why);
}

/* ERR_OK's why is not written, so what is looked at is always said. */
static void refuse(const char *urls, enum err expected, const char *words)
{
    char why[REDIS_WHY_BYTES] = "";
    struct redis_target *t = NULL;
    enum err e = redis_target_parse(urls, &t, why);

    if (e != expected || t || !strstr(why, words) || strchr(why, '\n'))
        fail_msg("%s: %s (%s)", urls, err_str(e), why);
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        if (strstr(why, secrets[i]))
            fail_msg("%s shows a secret: %s", urls, why);
}

static void assert_same(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        assert_ptr_equal(a, b);
    else
        assert_string_equal(a, b);
}

static void assert_endpoint(size_t i, const char *host, unsigned port, const char *user,
                            const char *password, uint32_t db, bool tls)
{
    const struct redis_endpoint *e = &target->endpoint[i];

    assert_true(i < target->n);
    assert_same(e->host, host);
    assert_int_equal(e->port, port);
    assert_null(e->path);
    assert_same(e->user, user);
    assert_same(e->password, password);
    assert_int_equal(e->db, db);
    assert_int_equal(e->tls, tls);
}

static void assert_unix(size_t i, const char *path, const char *user, const char *password,
                        uint32_t db)
{
    const struct redis_endpoint *e = &target->endpoint[i];

    assert_true(i < target->n);
    assert_null(e->host);
    assert_int_equal(e->port, 0);
    assert_same(e->path, path);
    assert_same(e->user, user);
    assert_same(e->password, password);
    assert_int_equal(e->db, db);
    assert_false(e->tls);
}

static void assert_text(const char *expected)
{
    struct buf b;

    buf_init(&b, 4096);
    redis_target_text(target, &b);
    buf_append_char(&b, '\0');
    assert_string_equal(b.data, expected);
    buf_release(&b);
}

static int drop_target(void **state)
{
    (void)state;
    redis_target_free(target);
    target = NULL;
    return 0;
}

/* --- one server ------------------------------------------------------------------------------- */

static void test_one_server(void **state)
{
    (void)state;
    parse("redis://cache");
    assert_int_equal(target->mode, REDIS_SHARDS);
    assert_int_equal(target->n, 1);
    assert_null(target->master_name);
    assert_endpoint(0, "cache", 6379, NULL, NULL, 0, false);
    assert_text("redis://cache:6379");
    parse(" REDIS://Cache.internal:7000/15\t");
    assert_endpoint(0, "Cache.internal", 7000, NULL, NULL, 15, false);
    assert_text("redis://Cache.internal:7000/15");
    parse("redis://127.0.0.1/");
    assert_endpoint(0, "127.0.0.1", 6379, NULL, NULL, 0, false);
    parse("rediss://my_cache:6390/2147483647");
    assert_endpoint(0, "my_cache", 6390, NULL, NULL, 2147483647, true);
    assert_text("rediss://my_cache:6390/2147483647");
}

static void test_ipv6(void **state)
{
    (void)state;
    parse("redis://[2001:db8::1]:6380/1");
    assert_endpoint(0, "2001:db8::1", 6380, NULL, NULL, 1, false);
    assert_text("redis://[2001:db8::1]:6380/1");
    parse("redis://:s3@[::1]");
    assert_endpoint(0, "::1", 6379, NULL, "s3", 0, false);
    parse("redis://[fe80::1%25eth0]");
    assert_endpoint(0, "fe80::1%eth0", 6379, NULL, NULL, 0, false);
    refuse("redis://::1", ERR_SYNTAX, "host");
    refuse("redis://2001:db8::1", ERR_SYNTAX, "brackets");
    refuse("redis://[::1", ERR_SYNTAX, "[ without ]");
    refuse("redis://[::1]6379", ERR_SYNTAX, "after ]");
    refuse("redis://[cache]", ERR_SYNTAX, "host");
    refuse("redis://[]", ERR_SYNTAX, "host");
    refuse("redis://[127.0.0.1]", ERR_SYNTAX, "host");
}

static void test_credentials(void **state)
{
    (void)state;
    parse("redis://bob:s3@cache");
    assert_endpoint(0, "cache", 6379, "bob", "s3", 0, false);
    assert_text("redis://cache:6379");
    parse("redis://:s3@cache");
    assert_endpoint(0, "cache", 6379, NULL, "s3", 0, false);
    parse("redis://bob@cache");
    assert_endpoint(0, "cache", 6379, "bob", NULL, 0, false);
    parse("redis://bob:@cache");
    assert_endpoint(0, "cache", 6379, "bob", NULL, 0, false);
    parse("redis://:@cache");
    assert_endpoint(0, "cache", 6379, NULL, NULL, 0, false);
    parse("redis://@cache");
    assert_endpoint(0, "cache", 6379, NULL, NULL, 0, false);
    parse("rediss://b%3Ao%40b:%2C%2f%3F%23%25+%C3%A9:x@cache/1");
    assert_endpoint(0, "cache", 6379, "b:o@b", ",/?#%+\xc3\xa9:x", 1, true);
    assert_text("rediss://cache:6379/1");
}

static void test_unix_sockets(void **state)
{
    (void)state;
    parse("unix:///run/redis.sock");
    assert_int_equal(target->mode, REDIS_SHARDS);
    assert_unix(0, "/run/redis.sock", NULL, NULL, 0);
    assert_text("unix:///run/redis.sock");
    parse("unix://bob:s3@/run/re%20dis@1.sock?db=3");
    assert_unix(0, "/run/re dis@1.sock", "bob", "s3", 3);
    refuse("unix://run/redis.sock", ERR_SYNTAX, "absolute path");
    refuse("unix://", ERR_SYNTAX, "absolute path");
    refuse("unix:///", ERR_SYNTAX, "absolute path");
    refuse("unix:///run/a.sock?db=x", ERR_SYNTAX, "database");
    refuse("unix:///run/a.sock?db", ERR_SYNTAX, "?db=NUMBER");
    refuse("unix:///run/a.sock?db=1&db=2", ERR_SYNTAX, "?db=NUMBER");
    refuse("unix:///run/a.sock?password=s3cr3t", ERR_SYNTAX, "?db=NUMBER");
    refuse("unix:///run/a%00b", ERR_SYNTAX, "path");
    char longest[200];
    snprintf(longest, sizeof longest, "unix:///%0106d", 0);
    parse(longest);
    assert_int_equal(strlen(target->endpoint[0].path), 107);
    snprintf(longest, sizeof longest, "unix:///%0107d", 0);
    refuse(longest, ERR_RANGE, "107");
}

static void test_what_one_server_cannot_be(void **state)
{
    (void)state;
    refuse("", ERR_SYNTAX, "expected redis://");
    refuse("cache:6379", ERR_SYNTAX, "expected redis://");
    refuse("http://cache", ERR_SYNTAX, "redis+cluster://");
    refuse("redis:cache", ERR_SYNTAX, "expected redis://");
    refuse("redis://", ERR_SYNTAX, "host");
    refuse("redis://:6379", ERR_SYNTAX, "host");
    refuse("redis://ca che", ERR_SYNTAX, "percent-encoded");
    refuse("redis://cache\n", ERR_SYNTAX, "percent-encoded");
    refuse("redis://ca%2Fche", ERR_SYNTAX, "host");
    refuse("redis://cach\xc3\xa9", ERR_SYNTAX, "host");
    refuse("redis://cache:", ERR_SYNTAX, "port");
    refuse("redis://cache:x", ERR_SYNTAX, "port");
    refuse("redis://cache:+1", ERR_SYNTAX, "port");
    refuse("redis://cache:0", ERR_RANGE, "1 to 65535");
    refuse("redis://cache:65536", ERR_RANGE, "1 to 65535");
    refuse("redis://cache/x", ERR_SYNTAX, "database");
    refuse("redis://cache/-1", ERR_SYNTAX, "database");
    refuse("redis://cache/1/2", ERR_SYNTAX, "database");
    refuse("redis://cache/2147483648", ERR_RANGE, "database");
    refuse("redis://cache?db=1", ERR_SYNTAX, "nothing after ?");
    refuse("redis://cache/1?", ERR_SYNTAX, "nothing after ?");
    refuse("redis://cache#1", ERR_SYNTAX, "#");
    char longest[300];
    snprintf(longest, sizeof longest, "redis://%0253d", 0);
    parse(longest);
    snprintf(longest, sizeof longest, "redis://%0254d", 0);
    refuse(longest, ERR_SYNTAX, "host");
}

/* What is cut apart by a character that should have been escaped lands anywhere. */
static void test_a_refusal_never_shows_a_password(void **state)
{
    (void)state;
    refuse("redis://bob:s3/cr3t@T0P", ERR_SYNTAX, "port");
    refuse("redis://bob:s3/cr3t@cache:T0P", ERR_SYNTAX, "port");
    refuse("redis://bob:s3?cr3t@T0P", ERR_SYNTAX, "port");
    refuse("redis://bob:s3#cr3t@T0P", ERR_SYNTAX, "#");
    refuse("redis://bob:s3@cr3t@T0P", ERR_SYNTAX, "%40");
    refuse("redis://bob:s3%zzcr3t@cache", ERR_SYNTAX, "password: bad percent-escape");
    refuse("redis://s3%z:T0P@cache", ERR_SYNTAX, "user: bad percent-escape");
    refuse("redis://:s3%00cr3t@cache", ERR_SYNTAX, "password");
    refuse("redis://:s3 cr3t@cache", ERR_SYNTAX, "blanks");
    refuse("redis://bob:s3,cr3t@T0P", ERR_SYNTAX, "port");
    refuse("redis://:s3,cr3t@T0P", ERR_SYNTAX, "host");
    refuse("redis://cache,bob:s3cr3t@T0P", ERR_SYNTAX, "%2C");
    refuse("redis://:s3cr3t@", ERR_SYNTAX, "host");
    refuse("bob:s3cr3t@cache", ERR_SYNTAX, "expected redis://");
    refuse("redis+sentinel://:s3@a,:cr3t@b/m", ERR_SYNTAX, "%40");
    refuse("redis+sentinel://a/m?sentinel_pasword=s3cr3t", ERR_SYNTAX, "sentinel_password");
    refuse("redis+sentinel://a/m?sentinel_password=s3%cr3t", ERR_SYNTAX, "password");
    refuse("redis+sentinel://a/m?sentinel_password=s3&cr3t", ERR_SYNTAX, "sentinel_password");
    refuse("redis+sentinel://a/T0P/s3cr3t", ERR_SYNTAX, "database");
    refuse("redis+cluster://:s3/cr3t@T0P", ERR_SYNTAX, "host");
    refuse("redis+cluster://a:s3cr3t", ERR_SYNTAX, "port");
    refuse("redis+cluster://a/s3cr3t", ERR_SYNTAX, "database");
    refuse("redis+cluster://a?s3cr3t", ERR_SYNTAX, "nothing after ?");
}

/* --- several ---------------------------------------------------------------------------------- */

static void test_shards(void **state)
{
    (void)state;
    parse("redis://a:1, rediss://bob:s3@b/2 ,unix:///run/c.sock?db=4,redis://a:2");
    assert_int_equal(target->mode, REDIS_SHARDS);
    assert_int_equal(target->n, 4);
    assert_endpoint(0, "a", 1, NULL, NULL, 0, false);
    assert_endpoint(1, "b", 6379, "bob", "s3", 2, true);
    assert_unix(2, "/run/c.sock", NULL, NULL, 4);
    assert_endpoint(3, "a", 2, NULL, NULL, 0, false);
    assert_text("redis://a:1,rediss://b:6379/2,unix:///run/c.sock?db=4,redis://a:2");
}

static void test_what_shards_cannot_be(void **state)
{
    (void)state;
    refuse("redis://a,b", ERR_SYNTAX, "whole URL after the comma");
    refuse("redis://a,", ERR_SYNTAX, "URL 2");
    refuse("redis://a,,redis://b", ERR_SYNTAX, "URL 2");
    refuse("redis://a,redis://b:x", ERR_SYNTAX, "URL 2: port");
    refuse("redis://a,redis://A:6379", ERR_SYNTAX, "same server");
    refuse("redis://a,redis://b,rediss://bob:s3cr3t@a/3", ERR_SYNTAX, "URL 3: the same server");
    refuse("unix:///a,unix:///%61?db=1", ERR_SYNTAX, "same server");
    refuse("redis://a,redis+sentinel://b/m", ERR_SYNTAX, "URL 2: sentinels or a cluster");
    refuse("redis://a,redis+cluster://b", ERR_SYNTAX, "URL 2: sentinels or a cluster");
    refuse("redis+cluster://a,redis://b", ERR_SYNTAX, "stand alone");
    refuse("redis+sentinel://a/m,redis+sentinel://b/m", ERR_SYNTAX, "stand alone");
}

static void test_a_great_many(void **state)
{
    static char urls[70000];
    size_t at = 0;

    (void)state;
    for (int i = 1; i <= 256; i++)
        at += (size_t)snprintf(urls + at, sizeof urls - at, "%sredis://a:%d", i > 1 ? "," : "", i);
    parse(urls);
    assert_int_equal(target->n, 256);
    assert_endpoint(255, "a", 256, NULL, NULL, 0, false);
    snprintf(urls + at, sizeof urls - at, ",redis://b");
    refuse(urls, ERR_RANGE, "256");
    at = (size_t)snprintf(urls, sizeof urls, "redis+cluster://");
    for (int i = 1; i <= 257; i++)
        at += (size_t)snprintf(urls + at, sizeof urls - at, "%sa", i > 1 ? "," : "");
    refuse(urls, ERR_RANGE, "256");
    memset(urls, 'a', sizeof urls - 1);
    memcpy(urls, "redis://", 8);
    refuse(urls, ERR_RANGE, "64 KiB");
}

/* --- sentinels -------------------------------------------------------------------------------- */

static void test_sentinels(void **state)
{
    (void)state;
    parse("redis+sentinel://a,b:26380,[::1]/mymaster");
    assert_int_equal(target->mode, REDIS_SENTINEL);
    assert_int_equal(target->n, 3);
    assert_endpoint(0, "a", 26379, NULL, NULL, 0, false);
    assert_endpoint(1, "b", 26380, NULL, NULL, 0, false);
    assert_endpoint(2, "::1", 26379, NULL, NULL, 0, false);
    assert_string_equal(target->master_name, "mymaster");
    assert_null(target->master.user);
    assert_null(target->master.password);
    assert_null(target->master.host);
    assert_int_equal(target->master.db, 0);
    assert_false(target->master.tls);
    assert_text("redis+sentinel://a:26379,b:26380,[::1]:26379/mymaster");
}

/* Before the @ stands who we are at the master, in the query who we are at the sentinels. */
static void test_credentials_of_sentinels(void **state)
{
    (void)state;
    parse("rediss+sentinel://bob:s3,x@a,b/my%20master/7"
          "?sentinel_password=cr3t%26%2B+&sentinel_user=eve");
    assert_int_equal(target->n, 2);
    assert_endpoint(0, "a", 26379, "eve", "cr3t&++", 0, true);
    assert_endpoint(1, "b", 26379, "eve", "cr3t&++", 0, true);
    assert_string_equal(target->master_name, "my master");
    assert_string_equal(target->master.user, "bob");
    assert_string_equal(target->master.password, "s3,x");
    assert_int_equal(target->master.db, 7);
    assert_true(target->master.tls);
    assert_text("rediss+sentinel://a:26379,b:26379/my master/7");
    parse("redis+sentinel://:s3@a/m/");
    assert_endpoint(0, "a", 26379, NULL, NULL, 0, false);
    assert_string_equal(target->master.password, "s3");
    parse("redis+sentinel://a/m?sentinel_user=&sentinel_password=");
    assert_endpoint(0, "a", 26379, NULL, NULL, 0, false);
}

static void test_what_sentinels_cannot_be(void **state)
{
    (void)state;
    refuse("redis+sentinel://a", ERR_SYNTAX, "/mymaster");
    refuse("redis+sentinel://a/", ERR_SYNTAX, "/mymaster");
    refuse("redis+sentinel://a//1", ERR_SYNTAX, "/mymaster");
    refuse("redis+sentinel:///m", ERR_SYNTAX, "host");
    refuse("redis+sentinel://a,/m", ERR_SYNTAX, "host");
    refuse("redis+sentinel://a,,b/m", ERR_SYNTAX, "host");
    refuse("redis+sentinel://a/m/x", ERR_SYNTAX, "database");
    refuse("redis+sentinel://a/m%0", ERR_SYNTAX, "master's name");
    refuse("redis+sentinel://a/m?db=1", ERR_SYNTAX, "sentinel_user");
    refuse("redis+sentinel://a/m?", ERR_SYNTAX, "sentinel_user");
    refuse("redis+sentinel://a/m?sentinel_user=x&sentinel_user=y", ERR_SYNTAX, "sentinel_user");
}

/* --- clusters --------------------------------------------------------------------------------- */

static void test_clusters(void **state)
{
    (void)state;
    parse("redis+cluster://bob:s3@a,b:7001,[::1]:7002");
    assert_int_equal(target->mode, REDIS_CLUSTER);
    assert_int_equal(target->n, 3);
    assert_endpoint(0, "a", 6379, "bob", "s3", 0, false);
    assert_endpoint(1, "b", 7001, "bob", "s3", 0, false);
    assert_endpoint(2, "::1", 7002, "bob", "s3", 0, false);
    assert_text("redis+cluster://a:6379,b:7001,[::1]:7002");
    parse("rediss+cluster://:%2Fs3@a/0");
    assert_endpoint(0, "a", 6379, NULL, "/s3", 0, true);
    assert_text("rediss+cluster://a:6379");
    refuse("redis+cluster://a/1", ERR_SYNTAX, "databases");
    refuse("redis+cluster://", ERR_SYNTAX, "host");
    refuse("redis+cluster://:s3%2@a", ERR_SYNTAX, "password");
}

#define target_test(f) cmocka_unit_test_teardown(f, drop_target)

int main(void)
{
    const struct CMUnitTest tests[] = {
        target_test(test_one_server),
        target_test(test_ipv6),
        target_test(test_credentials),
        target_test(test_unix_sockets),
        target_test(test_what_one_server_cannot_be),
        target_test(test_a_refusal_never_shows_a_password),
        target_test(test_shards),
        target_test(test_what_shards_cannot_be),
        target_test(test_a_great_many),
        target_test(test_sentinels),
        target_test(test_credentials_of_sentinels),
        target_test(test_what_sentinels_cannot_be),
        target_test(test_clusters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
