/* test_log.c - what a line looks like, what peers can do to it, and how often it comes; clocks. */
#include "crier/clock.h"
#include "crier/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define WHEN "2026-11-21T03:40:00.123Z"
#define WHEN_MS 1795232400123u

static char captured[1 << 20];
static int real_stderr = -1, capture_fd = -1;

/* A file takes any amount without a reader. */
static void capture(void)
{
    char name[] = "/tmp/crier-test-log-XXXXXX";

    capture_fd = mkostemp(name, O_CLOEXEC);
    assert_true(capture_fd >= 0);
    unlink(name);
    real_stderr = dup(STDERR_FILENO);
    assert_int_equal(dup2(capture_fd, STDERR_FILENO), STDERR_FILENO);
}

static const char *captured_text(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    ssize_t n = pread(capture_fd, captured, sizeof captured - 1, 0);
    close(capture_fd);
    assert_true(n >= 0);
    captured[n] = '\0';
    return captured;
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)); text += strlen(what))
        n++;
    return n;
}

static int fixed_time(void **state)
{
    (void)state;
    clock_fake_wall_ms(WHEN_MS);
    log_set_level(LOG_INFO);
    return 0;
}

static int real_time(void **state)
{
    (void)state;
    clock_fake_wall_ms(0);
    log_set_level(LOG_INFO);
    return 0;
}

static void test_a_line(void **state)
{
    (void)state;
    capture();
    log_info("listening", "host=%s port=%d", "127.0.0.1", 8080);
    log_error("broken", "%s", "");
    assert_string_equal(captured_text(),
                        "time=" WHEN " level=info event=listening host=127.0.0.1 port=8080\n"
                        "time=" WHEN " level=error event=broken\n");
}

static void test_levels(void **state)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    (void)state;
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        enum log_level parsed = LOG_ERROR;
        assert_int_equal(log_level_parse(slice_str(names[level]), &parsed), ERR_OK);
        assert_int_equal(parsed, level);
        log_set_level(parsed);
        assert_int_equal(log_get_level(), level);
        capture();
        log_error("e", "x=%d", 1);
        log_warn("e", "x=%d", 1);
        log_info("e", "x=%d", 1);
        log_debug("e", "x=%d", 1);
        assert_int_equal(count(captured_text(), "\n"), level + 1);
    }
}

static void test_what_is_no_level(void **state)
{
    static const char *const bad[] = {"", "Info", "information", "inf", "3", " info"};
    enum log_level level = LOG_WARN;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(log_level_parse(slice_str(bad[i]), &level), ERR_SYNTAX);
    assert_int_equal(level, LOG_WARN);
}

static void say(unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        log_warn("again", "i=%u", i);
}

static void test_a_site_that_repeats_itself_is_cut_off(void **state)
{
    (void)state;
    capture();
    say(LOG_BURST_PER_SITE + 30);
    log_warn("other", "site=%d", 1);
    const char *text = captured_text();
    assert_int_equal(count(text, "event=again"), LOG_BURST_PER_SITE);
    assert_int_equal(count(text, "event=other"), 1);
}

static void test_the_next_window_says_how_many_were_left_out(void **state)
{
    struct log_site site = {0};

    (void)state;
    capture();
    for (int i = 0; i < LOG_BURST_PER_SITE + 7; i++)
        log_line(LOG_WARN, &site, "again", "i=%d", i);
    site.window_start_ms = clock_mono_ms() - 10000;
    log_line(LOG_WARN, &site, "again", "i=%d", 100);
    log_line(LOG_WARN, &site, "again", "i=%d", 101);
    const char *text = captured_text();
    assert_int_equal(count(text, "suppressed="), 1);
    assert_non_null(strstr(text, "event=again suppressed=7 i=100\n"));
    assert_non_null(strstr(text, "event=again i=101\n"));
}

static void test_without_a_site_there_is_no_limit(void **state)
{
    (void)state;
    capture();
    for (int i = 0; i < 100; i++)
        log_line(LOG_INFO, NULL, "all", "i=%d", i);
    assert_int_equal(count(captured_text(), "\n"), 100);
}

static void test_a_long_line_is_cut_and_still_one_line(void **state)
{
    char big[10000];

    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    capture();
    log_info("big", "v=%s", big);
    log_info("next", "v=%d", 1);
    const char *text = captured_text();
    assert_int_equal(count(text, "\n"), 2);
    assert_non_null(strstr(text, "xxx\ntime=" WHEN " level=info event=next v=1\n"));
    assert_true(strlen(text) < 5000);
}

static void test_a_value_cannot_forge_a_line(void **state)
{
    (void)state;
    capture();
    log_info("e", "v=%s", "a\nlevel=error\r\x1b[2J\x7f");
    assert_string_equal(captured_text(),
                        "time=" WHEN " level=info event=e v=a?level=error??[2J?\n");
}

static void test_errno_survives(void **state)
{
    (void)state;
    capture();
    errno = ENOSPC;
    log_info("e", "why=%m");
    assert_int_equal(errno, ENOSPC);
    assert_non_null(strstr(captured_text(), "why=No space left on device\n"));
}

static void assert_quoted(struct slice s, const char *expected)
{
    assert_string_equal(log_quote(s), expected);
}

static void test_quoting(void **state)
{
    (void)state;
    assert_quoted(SLICE_NONE, "\"\"");
    assert_quoted(SLICE("a b=c"), "\"a b=c\"");
    assert_quoted(SLICE("\"\\"), "\"\\\"\\\\\"");
    assert_quoted(SLICE("\n\r\t\0\x1b\x7f"), "\"\\n\\r\\t\\x00\\x1b\\x7f\"");
    assert_quoted(SLICE("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
                  "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
    assert_quoted(SLICE("\xc3("), "\"\\xc3(\"");
    assert_quoted(SLICE("\xe2\x82"), "\"\\xe2\\x82\"");
    assert_quoted(SLICE("\xff\x80"), "\"\\xff\\x80\"");
    assert_quoted(SLICE("\xc2\x9b"
                        "2J"),
                  "\"\\xc2\\x9b2J\""); /* CSI for some terminals */
    assert_quoted(SLICE("\xc2\xa0"), "\"\xc2\xa0\"");
}

static void test_quoting_is_cut(void **state)
{
    char in[300], expected[900];

    (void)state;
    memset(in, 'y', sizeof in);
    int n = snprintf(expected, sizeof expected, "\"%.200s", in);
    assert_int_equal(n, 201);
    assert_string_equal(log_quote(slice_of(in, 200)), strcat(expected, "\""));
    expected[201] = '\0';
    assert_string_equal(log_quote(slice_of(in, 201)), strcat(expected, "...\""));
    memset(in, 0, sizeof in); /* the longest an answer gets */
    assert_int_equal(strlen(log_quote(slice_of(in, 300))), 200 * 4 + 5);
}

static void test_four_quotes_fit_one_line(void **state)
{
    (void)state;
    capture();
    log_info("e", "a=%s b=%s c=%s d=%s", log_quote(SLICE("1")), log_quote(SLICE("2")),
             log_quote(SLICE("3")), log_quote(SLICE("4")));
    assert_non_null(strstr(captured_text(), "a=\"1\" b=\"2\" c=\"3\" d=\"4\"\n"));
}

static void *chatter(void *name)
{
    for (int i = 0; i < 200; i++)
        log_line(LOG_INFO, NULL, "chat", "me=%s", log_quote(slice_str(name)));
    return NULL;
}

static void test_lines_of_threads_do_not_mix(void **state)
{
    pthread_t threads[2];
    char one[] = "one", two[] = "two", *names[] = {one, two};

    (void)state;
    capture();
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, chatter, names[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    const char *text = captured_text();
    assert_int_equal(count(text, "level=info event=chat me=\"one\"\n"), 200);
    assert_int_equal(count(text, "level=info event=chat me=\"two\"\n"), 200);
    assert_int_equal(count(text, "\n"), 400);
}

static void assert_iso(uint64_t ms, const char *expected)
{
    char out[CLOCK_ISO8601_BYTES];

    clock_iso8601(ms, out);
    assert_string_equal(out, expected);
}

static void test_iso8601(void **state)
{
    (void)state;
    assert_iso(0, "1970-01-01T00:00:00.000Z");
    assert_iso(WHEN_MS, WHEN);
    assert_iso(951827696789u, "2000-02-29T12:34:56.789Z");
    assert_iso(253402300799999u, "9999-12-31T23:59:59.999Z");
    assert_iso(253402300800000u, "9999-12-31T23:59:59.999Z");
    assert_iso(UINT64_MAX, "9999-12-31T23:59:59.999Z");
}

static void test_clocks(void **state)
{
    (void)state;
    assert_true(clock_wall_ms() == WHEN_MS);
    clock_fake_wall_ms(0);
    assert_true(clock_wall_ms() > 1700000000000u && clock_wall_ms() != WHEN_MS);
    uint64_t before = clock_mono_ms();
    clock_fake_wall_ms(5);
    uint64_t after = clock_mono_ms();
    assert_true(after >= before && after - before < 60000);
}

#define log_test(f) cmocka_unit_test_setup_teardown(f, fixed_time, real_time)

int main(void)
{
    const struct CMUnitTest tests[] = {
        log_test(test_a_line),
        log_test(test_levels),
        log_test(test_what_is_no_level),
        log_test(test_a_site_that_repeats_itself_is_cut_off),
        log_test(test_the_next_window_says_how_many_were_left_out),
        log_test(test_without_a_site_there_is_no_limit),
        log_test(test_a_long_line_is_cut_and_still_one_line),
        log_test(test_a_value_cannot_forge_a_line),
        log_test(test_errno_survives),
        log_test(test_quoting),
        log_test(test_quoting_is_cut),
        log_test(test_four_quotes_fit_one_line),
        log_test(test_lines_of_threads_do_not_mix),
        log_test(test_iso8601),
        log_test(test_clocks),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
