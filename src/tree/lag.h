/*-------------------------------------------------------------------------
 *
 * lag.h
 *		A histogram of delays, shared by fsync-tree, which fills it, and by
 *		fsync.so, which reads percentiles from it.
 *
 * Buckets are a quarter of a millisecond wide up to one millisecond, and from
 * there on four to each power of two, so a percentile is right to 25 %.  The
 * last one holds everything beyond half a minute.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_LAG_H
#define FSYNC_LAG_H

#include <stdint.h>

#define LAG_BUCKETS		64

/* The bucket of a delay in microseconds; negative ones count as none. */
extern int	lag_bucket(int64_t us);

/* The upper bound of a bucket, in microseconds. */
extern int64_t lag_bound(int bucket);

/*
 * The delay, in microseconds, that at most the fraction (0..1) of those in the
 * histogram do not exceed: the upper bound of its bucket; -1 where there is
 * none.
 */
extern int64_t lag_percentile(const uint64_t histogram[LAG_BUCKETS], double fraction);

#endif							/* FSYNC_LAG_H */
