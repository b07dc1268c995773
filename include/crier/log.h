/* log.h - one line per event on stderr, in logfmt: time, level, event, then key=value. Any thread.
 *
 * log_info("listening", "host=%s port=%d", host, port) prints
 * time=2026-11-21T03:40:00.123Z level=info event=listening host=127.0.0.1 port=8080
 * Values that come from a peer go through log_quote. Tokens are never passed in.
 */
#ifndef CRIER_LOG_H
#define CRIER_LOG_H

#include "crier/slice.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* "error", "warn", "info", "debug". ERR_SYNTAX for anything else. */
enum err log_level_parse(struct slice s, enum log_level *out) MUST_CHECK;

/* At most `burst` lines per 10 s for one site; the count of the suppressed is said with the next.
 */
struct log_site {
    uint64_t window_start_ms;
    unsigned lines, suppressed;
};
void log_line(enum log_level level, struct log_site *site, const char *event, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Quoted and escaped for logfmt, cut at 200 bytes; a static per-thread ring of 4 buffers. */
const char *log_quote(struct slice s);

#define LOG_BURST_PER_SITE 20
#define log_at_(level, event, ...)                           \
    do {                                                     \
        static _Thread_local struct log_site site_;          \
        if ((level) <= log_get_level())                      \
            log_line((level), &site_, (event), __VA_ARGS__); \
    } while (0)
#define log_error(event, ...) log_at_(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...) log_at_(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_at_(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_at_(LOG_DEBUG, event, __VA_ARGS__)

#endif
