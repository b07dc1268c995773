/* clock.h - time. Any thread. */
#ifndef CRIER_CLOCK_H
#define CRIER_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_mono_ms(void); /* CLOCK_MONOTONIC, for deadlines */
uint64_t clock_wall_ms(void); /* since 1970, for people and for message times */
/* "2026-11-21T03:40:00.123Z" (ISO 8601, UTC); out holds at least CLOCK_ISO8601_BYTES. */
#define CLOCK_ISO8601_BYTES 25
void clock_iso8601(uint64_t wall_ms, char out[CLOCK_ISO8601_BYTES]);

/* Test hook: while set (non-zero), clock_wall_ms() answers this instead. */
void clock_fake_wall_ms(uint64_t wall_ms);

#endif
