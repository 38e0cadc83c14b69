/*-------------------------------------------------------------------------
 *
 * statistics.h
 *		What fsync-tree counts for the worker's fsync_stat.
 *
 * The lag of a change is the time from its first event to the worker's word
 * that it is committed.  It is known per frame, and frames are committed in
 * order, so the times wait in a queue with a mark at each frame's end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_STATISTICS_H
#define FSYNC_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol.h"

typedef struct Statistics
{
	ProtoStatistics counted;	/* since the process began */
	bool		changed;		/* since it was last sent */
	int64_t    *waiting;		/* times of changes, and 0 at a frame's end */
	size_t		start;
	size_t		n;
	size_t		capacity;
} Statistics;

/* A change whose first event came then (CLOCK_MONOTONIC, microseconds; 0: no
 * event told of it) goes into the open frame. */
extern void statistics_change(Statistics *statistics, int64_t since_us);

/* The frame is complete; the oldest frame is committed. */
extern void statistics_frame_sent(Statistics *statistics);
extern void statistics_frame_applied(Statistics *statistics, int64_t now_us);

#endif							/* FSYNC_STATISTICS_H */
