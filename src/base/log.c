/* log.c - one event, one line, one write.
 *
 * A line is built on the stack and written with a single write(2): lines of several threads do not
 * mix and there is no lock. What is too long is cut. Control characters are replaced in the whole
 * line, so even a value that someone forgot to quote cannot forge a second line.
 *
 * It does not buffer, rotate or ship: that is the job of whoever reads stderr.
 */
#include "crier/log.h"

#include "crier/clock.h"
#include "crier/codec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES 4096
#define WINDOW_MS 10000
#define QUOTE_MAX_BYTES 200
#define QUOTE_RING 4

static _Atomic int current_level = LOG_INFO;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_set_level(enum log_level level)
{
    /* relaxed, here and below: a line more or less around the change does not matter */
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

enum err log_level_parse(struct slice s, enum log_level *out)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (slice_eq(s, slice_str(level_names[i]))) {
            *out = (enum log_level)i;
            return ERR_OK;
        }
    }
    return ERR_SYNTAX;
}

/* False when this site has said enough; otherwise *suppressed is what was left out before. */
static bool site_may_speak(struct log_site *site, unsigned *suppressed)
{
    uint64_t now = clock_mono_ms();

    if (now - site->window_start_ms >= WINDOW_MS) {
        site->window_start_ms = now;
        site->lines = 0;
    }
    if (site->lines >= LOG_BURST_PER_SITE) {
        site->suppressed++;
        return false;
    }
    site->lines++;
    *suppressed = site->suppressed;
    site->suppressed = 0;
    return true;
}

/* The length snprintf left in a buffer of `room` bytes. */
static size_t fitted(int n, size_t room)
{
    if (n < 0)
        return 0;
    return (size_t)n < room ? (size_t)n : room - 1;
}

static void write_all(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return; /* a full or closed pipe must not stop the server */
        p += done;
        n -= (size_t)done;
    }
}

void log_line(enum log_level level, struct log_site *site, const char *event, const char *fmt, ...)
{
    char line[LINE_BYTES], when[CLOCK_ISO8601_BYTES];
    unsigned suppressed = 0;
    int saved_errno = errno;
    va_list args;

    if (site && !site_may_speak(site, &suppressed))
        return;
    clock_iso8601(clock_wall_ms(), when);
    size_t n = fitted(
        snprintf(line, sizeof line, "time=%s level=%s event=%s ", when, level_names[level], event),
        sizeof line);
    if (suppressed)
        n += fitted(snprintf(line + n, sizeof line - n, "suppressed=%u ", suppressed),
                    sizeof line - n);
    errno = saved_errno; /* for %m */
    va_start(args, fmt);
    n += fitted(vsnprintf(line + n, sizeof line - n, fmt, args), sizeof line - n);
    va_end(args);
    while (n > 0 && line[n - 1] == ' ')
        n--;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[n] = '\n'; /* n <= LINE_BYTES - 1: the place of the NUL */
    write_all(line, n + 1);
    errno = saved_errno;
}

/* Bytes of the printable character at the start of s; 0 when it must be escaped. U+0080 to U+009F
 * are control characters that some terminals obey. */
static size_t printable_bytes(struct slice s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    struct utf8 u;

    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f && p[0] != '"' && p[0] != '\\';
    if (p[0] == 0xc2 && s.len > 1 && p[1] < 0xa0)
        return 0;
    utf8_init(&u);
    for (size_t n = 0; n < s.len; n++) {
        if (utf8_feed(&u, slice_of(s.ptr + n, 1)) != ERR_OK)
            return 0;
        if (utf8_is_complete(&u))
            return n + 1;
    }
    return 0;
}

static char *put_escaped(char *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";

    *out++ = '\\';
    if (c == '"' || c == '\\') {
        *out++ = (char)c;
    } else if (c == '\n' || c == '\r' || c == '\t') {
        *out++ = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
    } else {
        *out++ = 'x';
        *out++ = hex[c >> 4];
        *out++ = hex[c & 15];
    }
    return out;
}

const char *log_quote(struct slice s)
{
    static _Thread_local char ring[QUOTE_RING][4 * QUOTE_MAX_BYTES + sizeof "\"...\""];
    static _Thread_local unsigned turn;
    char *start = ring[turn++ % QUOTE_RING], *out = start;
    bool cut = s.len > QUOTE_MAX_BYTES;

    if (cut)
        s.len = QUOTE_MAX_BYTES;
    *out++ = '"';
    while (s.len > 0) {
        size_t n = printable_bytes(s);
        if (n)
            out = (char *)memcpy(out, s.ptr, n) + n;
        else
            out = put_escaped(out, (unsigned char)s.ptr[0]);
        n += n == 0;
        s = slice_of(s.ptr + n, s.len - n);
    }
    memcpy(out, cut ? "...\"" : "\"", cut ? 5 : 2);
    return start;
}
