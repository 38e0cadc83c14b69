/*-------------------------------------------------------------------------
 *
 * capacity.h
 *		What there is only so much of, and how much of it is used.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_CAPACITY_H
#define FSYNC_CAPACITY_H

#include "fsync.h"

/*
 * A limit of inotify for the server's user, by the name of its file in
 * /proc/sys/fs/inotify; otherwise: what it is taken for where that cannot be
 * read.  For who is in a transaction.
 */
extern int64 capacity_inotify(const char *name, int64 otherwise);

/* How many watches all fsync-trees of the server may have together. */
extern int64 capacity_watches(void);

/* What is used now, by all databases of the server. */
typedef struct CapacityUsed
{
	int64		repositories;	/* of fsync.max_repositories */
	int64		trees;			/* fsync-trees, each with an instance of inotify */
	int64		watches;		/* of inotify that were granted */
	int64		waiting;		/* sessions that wait for a worker */
	int64		waiting_max;
} CapacityUsed;

/* All zeros where the library was not preloaded. */
extern void capacity_get(CapacityUsed *out);

#endif							/* FSYNC_CAPACITY_H */
