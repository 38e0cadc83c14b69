/*-------------------------------------------------------------------------
 *
 * clock.h
 *		Reading clocks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_CLOCK_H
#define FSYNC_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds, and microseconds, of a clock of clock_gettime(2). */
static inline int64_t
clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static inline int64_t
clock_us(clockid_t clock)
{
	return clock_ns(clock) / 1000;
}

/* Microseconds that only grow, to measure how long something takes. */
static inline int64_t
monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

#endif							/* FSYNC_CLOCK_H */
