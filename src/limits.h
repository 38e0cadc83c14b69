/*-------------------------------------------------------------------------
 *
 * limits.h
 *		What there is only so much of, and how much of it is used.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_LIMITS_H
#define FSYNC_LIMITS_H

#include "fsync.h"

/*
 * A limit of inotify for the server's user, by the name of its file in
 * /proc/sys/fs/inotify; otherwise: what it is taken for where that cannot be
 * read.  For who is in a transaction.
 */
extern int64 limits_inotify(const char *name, int64 otherwise);

/* How many watches all fsync-trees of the server may have together. */
extern int64 limits_watches(void);

/* What is used now, by all databases of the server. */
typedef struct LimitsUsed
{
	int64		repositories;	/* of fsync.max_repositories */
	int64		trees;			/* fsync-trees, each with an instance of inotify */
	int64		watches;		/* of inotify that were granted */
	int64		waiting;		/* sessions that wait for a worker */
	int64		waiting_max;
} LimitsUsed;

/* All zeros where the library was not preloaded. */
extern void limits_get(LimitsUsed *out);

#endif							/* FSYNC_LIMITS_H */
