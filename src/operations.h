/*-------------------------------------------------------------------------
 *
 * operations.h
 *		The runs in sync_operations: begun, closed, pruned.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_OPERATIONS_H
#define FSYNC_OPERATIONS_H

#include "apply.h"

/*
 * Each opens and commits a transaction of its own, and returns false (or 0)
 * when the extension is gone.
 */

/* Closes every 'running' row of this database as failed: they were
 * interrupted by the end of the worker before this one. */
extern bool operations_close_interrupted(const ExtensionObjects *objects);

/*
 * Begins a run: a 'running' row, and the next scan generation of the
 * repository; generation NULL: of a part, which is no generation.  type is
 * "startup" or "reconciliation".  Returns its id.
 */
extern int64 operations_begin(const ExtensionObjects *objects,
							  const pg_uuid_t *repository_id, const char *type,
							  const char *reason, int64 *generation);

typedef struct OperationEnd
{
	int64		id;
	int64		generation;		/* 0: it was of a part */
	bool		completed;
	bool		cancelled;		/* by a user; else it failed */
	const char *error;			/* message of a run that did not complete, else
								 * NULL */
	int64		files_scanned;
	int64		bytes_hashed;
	ApplyCounts counts;
	const char *root;			/* the directory that it looked at */
	const char *identity;		/* of it, accepted by a completed run; NULL: it is
								 * not accepted yet, nor are the mounts */
	const char *mounts;			/* list as fsync-tree reported it, its length */
	int			mounts_len;
} OperationEnd;

/*
 * Ends it.  A completed run of everything also becomes the repository's last complete scan,
 * stores identity and mounts, and expires problems not seen again since it
 * began.  Sets *first_scan if none had completed before it.
 */
extern bool operations_end(const ExtensionObjects *objects,
						   const pg_uuid_t *repository_id, const OperationEnd *end,
						   bool *first_scan);

/*
 * What is found at the root is what may be watched from now on, where nothing was
 * accepted before.  Does nothing where the repository is of another root by now.
 */
extern void operations_accept_root(const ExtensionObjects *objects,
								   const pg_uuid_t *repository_id, const char *root,
								   const char *identity);

/* One row for a burst of real-time changes, already over. */
extern bool operations_record_burst(const ExtensionObjects *objects,
									const pg_uuid_t *repository_id,
									TimestampTz start, TimestampTz end,
									const ApplyCounts *counts, int64 files_scanned,
									int64 bytes_hashed);

/* Removes rows older than history_retention, and all but the newest
 * history_max_rows of each repository; 'running' rows stay. */
extern void operations_prune(const ExtensionObjects *objects);

#endif							/* FSYNC_OPERATIONS_H */
