/* clock.c - the two clocks, and time as people write it.
 *
 * Deadlines use the monotonic clock only; the wall clock may jump and is for message times and
 * logs. It is the one a test can replace.
 */
#include "crier/clock.h"

#include <stdatomic.h>
#include <time.h>

#define LAST_MS_OF_YEAR_9999 253402300799999u

static _Atomic uint64_t fake_wall_ms;

static uint64_t read_ms(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t clock_mono_ms(void)
{
    return read_ms(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ms(void)
{
    /* relaxed: a lone value, nothing is published through it */
    uint64_t fake = atomic_load_explicit(&fake_wall_ms, memory_order_relaxed);

    return fake ? fake : read_ms(CLOCK_REALTIME);
}

void clock_fake_wall_ms(uint64_t wall_ms)
{
    atomic_store_explicit(&fake_wall_ms, wall_ms, memory_order_relaxed);
}

static char *put_digits(char *out, unsigned v, int n, char after)
{
    for (int i = n - 1; i >= 0; i--) {
        out[i] = (char)('0' + v % 10);
        v /= 10;
    }
    out[n] = after;
    return out + n + 1;
}

void clock_iso8601(uint64_t wall_ms, char out[CLOCK_ISO8601_BYTES])
{
    /* A fifth digit of the year would not fit, and times can come from a peer. */
    if (wall_ms > LAST_MS_OF_YEAR_9999)
        wall_ms = LAST_MS_OF_YEAR_9999;

    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    out = put_digits(out, (unsigned)tm.tm_year + 1900, 4, '-');
    out = put_digits(out, (unsigned)tm.tm_mon + 1, 2, '-');
    out = put_digits(out, (unsigned)tm.tm_mday, 2, 'T');
    out = put_digits(out, (unsigned)tm.tm_hour, 2, ':');
    out = put_digits(out, (unsigned)tm.tm_min, 2, ':');
    out = put_digits(out, (unsigned)tm.tm_sec, 2, '.');
    out = put_digits(out, (unsigned)(wall_ms % 1000), 3, 'Z');
    *out = '\0';
}
