/* test_config.c - where a value comes from, what is refused, and how the refusal reads. */
#include "crier/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define ARGS(...) ((const char *[]){"crier", __VA_ARGS__ __VA_OPT__(, ) NULL})
#define ENV(...) ((const char *[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static struct config conf;
static struct config_error error;

static enum err load(const char **argv, const char **envp)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    memset(&error, 'x', sizeof(error));
    return config_load(&conf, argc, (char **)argv, (char **)envp, &error);
}

static void refused(const char **argv, const char **envp, const char *text)
{
    assert_int_not_equal(load(argv, envp), ERR_OK);
    assert_string_equal(error.text, text);
    assert_null(conf.host);
}

static void defaults_are_those_of_the_help(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS(), ENV("PATH=/bin", "HOME=/root")), ERR_OK);
    assert_string_equal(conf.host, "localhost");
    assert_int_equal(conf.port, 8080);
    assert_int_equal(conf.workers, 0);
    assert_false(conf.insecure);
    assert_string_equal(conf.allowed_origins, "");
    assert_string_equal(conf.log_level, "info");
    assert_int_equal(conf.drain_ms, 30000);
    assert_int_equal(conf.max_message_bytes, 65536);
    assert_int_equal(conf.history_messages, 100);
    assert_int_equal(conf.history_ms, 300000);
    assert_int_equal(conf.idempotency_ms, 300000);
    assert_int_equal(conf.outbox_bytes, 1 << 20);
    assert_int_equal(conf.outbox_messages, 1000);
    assert_int_equal(conf.sse_keepalive_ms, 15000);
    assert_int_equal(conf.sse_retry_ms, 2000);
    assert_int_equal(conf.ws_ping_ms, 30000);
    assert_int_equal(conf.ws_pong_ms, 10000);
    assert_int_equal(conf.request_timeout_ms, 10000);
    assert_int_equal(conf.max_connections, 0);
    assert_int_equal(conf.ws_fragments, 4096);
    assert_int_equal(conf.ws_control_rate, 100);
    assert_int_equal(conf.ws_message_ms, 30000);
    assert_true(conf.ws_deflate);
    assert_string_equal(conf.sse_codings, "zstd,gzip");
    assert_int_equal(conf.deflate_level, 6);
    assert_int_equal(conf.deflate_window, 15);
    assert_int_equal(conf.pack_threshold_bytes, 256);
    assert_string_equal(conf.plain_namespaces, "");
    assert_int_equal(conf.h2_max_streams, 256);
    assert_int_equal(conf.h2_header_list_bytes, 16 << 10);
    assert_int_equal(conf.h2_window_bytes, 64 << 10);
    assert_int_equal(conf.h2_ping_ms, 30000);
    assert_int_equal(conf.tls_port, 0);
    assert_string_equal(conf.tls_client_auth, "none");
    assert_false(conf.tls_kernel);
    assert_string_equal(conf.redis, "");
    assert_string_equal(conf.redis_prefix, "crier:");
    assert_int_equal(conf.redis_timeout_ms, 5000);
    assert_int_equal(conf.redis_connect_timeout_ms, 5000);
    assert_int_equal(conf.redis_linger_ms, 30000);
    assert_int_equal(conf.redis_max_reply_bytes, 64 << 20);
    assert_string_equal(conf.redis_ca, "");
    assert_string_equal(conf.redis_cert, "");
    assert_string_equal(conf.redis_key, "");
    config_release(&conf);
}

static void flag_beats_environment_beats_platform_beats_default(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS(), ENV("PORT=1001")), ERR_OK);
    assert_int_equal(conf.port, 1001);
    config_release(&conf);
    /* in both orders, because an environment has none */
    assert_int_equal(load(ARGS(), ENV("PORT=1001", "CRIER_PORT=1002")), ERR_OK);
    assert_int_equal(conf.port, 1002);
    config_release(&conf);
    assert_int_equal(load(ARGS(), ENV("CRIER_PORT=1002", "PORT=1001")), ERR_OK);
    assert_int_equal(conf.port, 1002);
    config_release(&conf);
    assert_int_equal(load(ARGS("--port", "1003"), ENV("CRIER_PORT=1002")), ERR_OK);
    assert_int_equal(conf.port, 1003);
    config_release(&conf);
    assert_int_equal(load(ARGS("--port=1003", "--port", "1004"), ENV()), ERR_OK);
    assert_int_equal(conf.port, 1004);
    config_release(&conf);
}

static void every_kind_of_value_in_every_form(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS("--host=0.0.0.0,::", "--workers", "3", "--max-message=1M", "--drain",
                               "90", "--ws-ping=250ms", "--history-age", "2h", "--allowed-origins",
                               "https://a.example, http://localhost:3000"),
                          ENV("CRIER_OUTBOX_BYTES=2m", "CRIER_LOG_LEVEL=debug")),
                     ERR_OK);
    assert_string_equal(conf.host, "0.0.0.0,::");
    assert_int_equal(conf.workers, 3);
    assert_int_equal(conf.max_message_bytes, 1 << 20);
    assert_int_equal(conf.drain_ms, 90000);
    assert_int_equal(conf.ws_ping_ms, 250);
    assert_int_equal(conf.history_ms, 7200000);
    assert_string_equal(conf.allowed_origins, "https://a.example, http://localhost:3000");
    assert_int_equal(conf.outbox_bytes, 2 << 20);
    assert_string_equal(conf.log_level, "debug");
    config_release(&conf);
}

static void booleans(void **state)
{
    (void)state;
    static const struct {
        const char *flag, *env;
        bool want;
    } cases[] = {
        {"--insecure", NULL, true},        {"--insecure=no", NULL, false},
        {"--insecure=true", NULL, true},   {"--no-insecure", "CRIER_INSECURE=1", false},
        {NULL, "CRIER_INSECURE=1", true},  {NULL, "CRIER_INSECURE=Yes", true},
        {NULL, "CRIER_INSECURE=0", false}, {"--insecure", "CRIER_INSECURE=off", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *argv[] = {"crier", cases[i].flag, NULL};
        const char *envp[] = {cases[i].env, NULL};
        assert_int_equal(load(argv, envp), ERR_OK);
        assert_int_equal(conf.insecure, cases[i].want);
        config_release(&conf);
    }
    refused(ARGS("--insecure=maybe"), ENV(), "--insecure: found \"maybe\", expected yes or no");
    refused(ARGS("--no-insecure=yes"), ENV(), "--no-insecure: found a value, expected none");
    /* a boolean does not eat the next argument */
    refused(ARGS("--insecure", "no"), ENV(),
            "\"no\": found an argument, expected an option like --port");
}

static void a_bad_value_says_where_what_and_what_was_expected(void **state)
{
    (void)state;
    refused(ARGS("--port", "80800"), ENV(),
            "--port: found \"80800\", expected a number, 0 to 65535");
    refused(ARGS("--port=http"), ENV(), "--port: found \"http\", expected a number, 0 to 65535");
    refused(ARGS("--port="), ENV(), "--port: found \"\", expected a number, 0 to 65535");
    refused(ARGS(), ENV("PORT=-1"),
            "environment variable PORT: found \"-1\", expected a number, 0 to 65535");
    refused(ARGS("--ws-pong", "0"), ENV(),
            "--ws-pong: found \"0\", expected a duration like 250ms, 15s, 5m or 2h, 100ms to 1h");
    refused(ARGS(), ENV("CRIER_DRAIN=5 minutes"),
            "environment variable CRIER_DRAIN: found \"5 minutes\", expected a duration like "
            "250ms, 15s, 5m or 2h, 0 to 1h");
    refused(ARGS("--max-message=0"), ENV(),
            "--max-message: found \"0\", expected a size like 4096, 64k or 1m, 1 to 64m");
    refused(ARGS("--log-level", "loud"), ENV(),
            "--log-level: found \"loud\", expected error, warn, info or debug");
    refused(ARGS("--host", "a,,b"), ENV(),
            "--host: found \"a,,b\", expected host names or IP addresses, comma separated, "
            "without port");
    refused(ARGS("--workers"), ENV(), "--workers: found nothing after it, expected a value");
    refused(ARGS("serve"), ENV(), "\"serve\": found an argument, expected an option like --port");
    refused(ARGS("-p"), ENV(), "\"-p\": found an argument, expected an option like --port");
}

/* A weaker source must be right even when a stronger one hides it. */
static void a_hidden_bad_value_is_still_refused(void **state)
{
    (void)state;
    refused(ARGS("--port", "1"), ENV("CRIER_PORT=x"),
            "environment variable CRIER_PORT: found \"x\", expected a number, 0 to 65535");
}

static void the_error_is_one_line_of_bounded_length(void **state)
{
    (void)state;
    char value[2000];
    memset(value, 'x', sizeof(value));
    value[3] = '\n';
    value[sizeof(value) - 1] = 0;
    assert_int_equal(load(ARGS("--log-level", value), ENV()), ERR_SYNTAX);
    assert_null(strchr(error.text, '\n'));
    assert_non_null(strstr(error.text, "expected error, warn, info or debug"));
}

static void origins_are_checked_as_browsers_send_them(void **state)
{
    (void)state;
    static const char *const good[] = {"*", "", "https://a.example", "http://[::1]:3000",
                                       "https://a.example,https://b.example"};
    static const char *const bad[] = {"https://a.example/",
                                      "a.example",
                                      "https://",
                                      "null",
                                      "*,https://a.example",
                                      "https://a.example,",
                                      "https://A.example",
                                      "https://*.example",
                                      "ftp://a"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(load(ARGS("--allowed-origins", good[i]), ENV()), ERR_OK);
        config_release(&conf);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(load(ARGS("--allowed-origins", bad[i]), ENV()), ERR_SYNTAX);
}

static void unknown_names_are_refused_with_the_nearest(void **state)
{
    (void)state;
    refused(ARGS("--prot=80"), ENV(), "--prot: there is no such option; did you mean --port?");
    refused(ARGS("--max-mesage", "1k"), ENV(),
            "--max-mesage: there is no such option; did you mean --max-message?");
    refused(ARGS("--no-insecur"), ENV(),
            "--no-insecur: there is no such option; did you mean --insecure?");
    refused(ARGS("--redis-url=x"), ENV(),
            "--redis-url: there is no such option; did you mean --redis?");
    refused(ARGS("--redis-kye=x"), ENV(),
            "--redis-kye: there is no such option; did you mean --redis-key?");
    refused(ARGS("--frobnicate"), ENV(),
            "--frobnicate: there is no such option; crier help lists them");
    refused(ARGS("--no-port"), ENV(), "--no-port: there is no such option; did you mean --port?");
    refused(ARGS(), ENV("CRIER_LOGLEVEL=info"),
            "environment variable CRIER_LOGLEVEL: there is no such option; did you mean "
            "CRIER_LOG_LEVEL?");
    refused(ARGS(), ENV("CRIER_SOMETHING_ELSE=1"),
            "environment variable CRIER_SOMETHING_ELSE: there is no such option; crier help "
            "lists them");
}

static void foreign_variables_are_left_alone(void **state)
{
    (void)state;
    assert_int_equal(
        load(ARGS(),
             ENV("CRIER_TEST_SEED=7", "CRIER_URL=http://x", "CRIER_CA=x", "OTHER=1",
                 "CRIER_PORT=tcp://10.0.0.1:8080", "CRIER_PORT_8080_TCP_ADDR=10.0.0.1",
                 "CRIER_SERVICE_HOST=10.0.0.1", "CRIER_REDIS_PORT=tcp://10.0.0.2:6379",
                 "CRIER_REDIS_PORT_6379_TCP_ADDR=10.0.0.2", "CRIER_REDIS_SERVICE_HOST=10.0.0.2",
                 "CRIER_HOST=", "PORT=", "REDIS_URL=", "CRIER_REDIS=")),
        ERR_OK);
    assert_string_equal(conf.redis, "");
    assert_int_equal(conf.port, 8080);
    assert_string_equal(conf.host, "localhost");
    config_release(&conf);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    refused(ARGS("--max-message=2m"), ENV(),
            "outbox-bytes (1048576) is smaller than max-message (2097152): the largest message "
            "could not be delivered to anyone; raise --outbox-bytes or lower --max-message");
    assert_int_equal(load(ARGS("--max-message=2m", "--outbox-bytes=4m"), ENV()), ERR_OK);
    config_release(&conf);
}

static void redis_has_its_platforms_name(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS(), ENV("REDIS_URL=redis://a")), ERR_OK);
    assert_string_equal(conf.redis, "redis://a");
    config_release(&conf);
    assert_int_equal(load(ARGS(), ENV("CRIER_REDIS=redis://b", "REDIS_URL=redis://a")), ERR_OK);
    assert_string_equal(conf.redis, "redis://b");
    config_release(&conf);
    /* what a platform has set can be taken back */
    assert_int_equal(load(ARGS("--redis="), ENV("REDIS_URL=redis://a")), ERR_OK);
    assert_string_equal(conf.redis, "");
    config_release(&conf);
    assert_int_equal(load(ARGS("--redis=redis://:p%40ss@h:1/2,redis://i", "--redis-prefix=a:b/c.",
                               "--redis-timeout=250ms", "--redis-connect-timeout", "2",
                               "--redis-linger=0", "--redis-max-reply=1m", "--redis-ca=/ca",
                               "--redis-cert=/cert", "--redis-key=/key"),
                          ENV()),
                     ERR_OK);
    assert_string_equal(conf.redis, "redis://:p%40ss@h:1/2,redis://i");
    assert_string_equal(conf.redis_prefix, "a:b/c.");
    assert_int_equal(conf.redis_timeout_ms, 250);
    assert_int_equal(conf.redis_connect_timeout_ms, 2000);
    assert_int_equal(conf.redis_linger_ms, 0);
    assert_int_equal(conf.redis_max_reply_bytes, 1 << 20);
    assert_string_equal(conf.redis_ca, "/ca");
    assert_string_equal(conf.redis_cert, "/cert");
    assert_string_equal(conf.redis_key, "/key");
    config_release(&conf);
}

static void redis_prefixes_are_plain(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a{b}", "a b", "a*", "\xc3\xa4", "a\n", "a\"b"};
    char longest[65];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(load(ARGS("--redis-prefix", bad[i]), ENV()), ERR_SYNTAX);
    memset(longest, 'x', sizeof(longest));
    longest[64] = 0;
    assert_int_equal(load(ARGS("--redis-prefix", longest), ENV()), ERR_OK);
    config_release(&conf);
    refused(ARGS("--redis-prefix={a}"), ENV(),
            "--redis-prefix: found \"{a}\", expected 1 to 64 of A-Z a-z 0-9 _ . : @ = + , ~ ! - / "
            "and no URL");
    char too_long[] =
        "--redis-prefix=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    assert_int_equal(load(ARGS(too_long), ENV()), ERR_SYNTAX);
}

/* A URL that came to the wrong place, by a typo or a shell that split it. */
static void errors_never_show_a_password(void **state)
{
    (void)state;
    static const char url[] = "redis://:hunter2@h";
    refused(ARGS(url), ENV(), "\"redis://...\": found an argument, expected an option like --port");
    refused(ARGS("--port", url), ENV(),
            "--port: found \"redis://...\", expected a number, 0 to 65535");
    refused(ARGS("--redis-prefix", url), ENV(),
            "--redis-prefix: found \"redis://...\", expected 1 to 64 of A-Z a-z 0-9 _ . : @ = + "
            ", ~ ! - / and no URL");
    refused(ARGS("--redis-prefix", "rediss://h/?password=hunter2"), ENV(),
            "--redis-prefix: found \"rediss://...\", expected 1 to 64 of A-Z a-z 0-9 _ . : @ = + "
            ", ~ ! - / and no URL");
    refused(ARGS("--rediss=redis://:hunter2@h"), ENV(),
            "--rediss: there is no such option; did you mean --redis?");
    refused(ARGS("--redis:redis://:hunter2@h"), ENV(),
            "--redis:redis://...: there is no such option; crier help lists them");
    refused(ARGS(), ENV("CRIER_REDIS_URL=redis://:hunter2@h"),
            "environment variable CRIER_REDIS_URL: there is no such option; did you mean "
            "CRIER_REDIS?");
    refused(
        ARGS("--allowed-origins=https://me:hunter2@a.example"), ENV(),
        "--allowed-origins: found \"https://...\", expected origins as browsers send them, comma "
        "separated, like https://app.example.com or http://localhost:3000 (lower case, no path, "
        "no trailing slash), or * alone");
}

static void contradictions_about_redis_are_refused(void **state)
{
    (void)state;
    refused(ARGS("--redis=redis://h", "--redis-max-reply=1m", "--max-message=1000k"), ENV(),
            "redis-max-reply (1048576) is smaller than max-message (1024000) with the 64k around "
            "it: the largest message could not be read back; raise --redis-max-reply or lower "
            "--max-message");
    refused(ARGS("--redis=redis://h", "--redis-cert=/c"), ENV(),
            "redis-cert is given without redis-key: a certificate is shown with its key; when both "
            "are in one file, name it twice");
    refused(ARGS("--redis=redis://h", "--redis-key=/k"), ENV(),
            "redis-key is given without redis-cert: a certificate is shown with its key; when both "
            "are in one file, name it twice");
    /* nothing of it counts without Redis */
    assert_int_equal(
        load(ARGS("--redis-max-reply=1m", "--max-message=1000k", "--redis-key=/k"), ENV()), ERR_OK);
    config_release(&conf);
}

static void durations_and_bytes(void **state)
{
    (void)state;
    uint64_t v = 77;
    assert_int_equal(config_parse_duration(SLICE("250ms"), &v), ERR_OK);
    assert_int_equal(v, 250);
    assert_int_equal(config_parse_duration(SLICE("5m"), &v), ERR_OK);
    assert_int_equal(v, 300000);
    assert_int_equal(config_parse_duration(SLICE("2"), &v), ERR_OK);
    assert_int_equal(v, 2000);
    assert_int_equal(config_parse_bytes(SLICE("2g"), &v), ERR_OK);
    assert_int_equal(v, UINT64_C(2) << 30);
    assert_int_equal(config_parse_bytes(SLICE("64K"), &v), ERR_OK);
    assert_int_equal(v, 65536);
    v = 77;
    assert_int_equal(config_parse_duration(SLICE(""), &v), ERR_SYNTAX);
    assert_int_equal(config_parse_duration(SLICE("s"), &v), ERR_SYNTAX);
    assert_int_equal(config_parse_duration(SLICE("1 s"), &v), ERR_SYNTAX);
    assert_int_equal(config_parse_duration(SLICE("1d"), &v), ERR_SYNTAX);
    assert_int_equal(config_parse_duration(SLICE("18446744073709551615h"), &v), ERR_RANGE);
    assert_int_equal(config_parse_bytes(SLICE("18446744073709551616"), &v), ERR_RANGE);
    assert_int_equal(config_parse_bytes(SLICE("1.5m"), &v), ERR_SYNTAX);
    assert_int_equal(v, 77);
}

static void tls_options_belong_together(void **state)
{
    (void)state;
    refused(ARGS("--tls-port", "8443"), ENV(),
            "tls-port is given without tls-cert; expected --tls-cert FILE and --tls-key FILE "
            "(PEM)");
    refused(ARGS("--tls-cert", "c.pem"), ENV(),
            "tls-cert is given without tls-port: nobody would be served with it; expected "
            "--tls-port PORT too");
    refused(ARGS("--tls-port", "8080", "--tls-cert", "c", "--tls-key", "k"), ENV(),
            "tls-port and port are both 8080; expected two different ports");
    refused(ARGS("--tls-port", "8443", "--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"),
            ENV(),
            "tls-client-ca is given while tls-client-auth is none; expected --tls-client-auth "
            "optional or required");
    assert_int_equal(load(ARGS("--tls-cert", "c", "--tls-key", "k"),
                          ENV("CRIER_TLS_PORT=8443", "CRIER_TLS_SERVICE_HOST=10.0.0.1")),
                     ERR_OK);
    assert_int_equal(conf.tls_port, 8443);
    config_release(&conf);
}

static void help_has_a_line_for_every_field(void **state)
{
    (void)state;
    struct buf b;
    size_t lines = 0;
    buf_init(&b, 1 << 16);
    config_help(&b);
    buf_append_char(&b, 0);
    assert_false(b.failed);
    for (const char *c = b.data; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 47); /* fields of struct config */
    assert_non_null(strstr(b.data, "--port PORT"));
    assert_non_null(strstr(b.data, "CRIER_ALLOWED_ORIGINS"));
    assert_non_null(strstr(b.data, "(also PORT) [8080]\n"));
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_help),
        cmocka_unit_test(flag_beats_environment_beats_platform_beats_default),
        cmocka_unit_test(every_kind_of_value_in_every_form),
        cmocka_unit_test(booleans),
        cmocka_unit_test(a_bad_value_says_where_what_and_what_was_expected),
        cmocka_unit_test(a_hidden_bad_value_is_still_refused),
        cmocka_unit_test(the_error_is_one_line_of_bounded_length),
        cmocka_unit_test(origins_are_checked_as_browsers_send_them),
        cmocka_unit_test(unknown_names_are_refused_with_the_nearest),
        cmocka_unit_test(foreign_variables_are_left_alone),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(redis_has_its_platforms_name),
        cmocka_unit_test(redis_prefixes_are_plain),
        cmocka_unit_test(errors_never_show_a_password),
        cmocka_unit_test(contradictions_about_redis_are_refused),
        cmocka_unit_test(durations_and_bytes),
        cmocka_unit_test(tls_options_belong_together),
        cmocka_unit_test(help_has_a_line_for_every_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
