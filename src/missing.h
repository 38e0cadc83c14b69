/*-------------------------------------------------------------------------
 *
 * missing.h
 *		Rows of missing files, and their end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_MISSING_H
#define FSYNC_MISSING_H

#include "apply.h"

/* How far a purge has come; zeros: at the beginning. */
typedef struct MissingCursor
{
	TimestampTz missing_since;
	int64		id;
	bool		refused;		/* the database refused a row on the way */
	bool		held;			/* rows that others held */
} MissingCursor;

/*
 * Purges some of the marked rows whose time is over: missing_retention, or at
 * once where the repository does not mark any more.  Transactions of its own;
 * throws what the database throws.
 *
 * Returns when to be called again, in milliseconds from now (0: there are
 * more), or -1: when the settings have changed or more rows were marked.
 */
extern int64 missing_purge(const ExtensionObjects *objects,
						   const pg_uuid_t *repository_id, MissingCursor *cursor);

#endif							/* FSYNC_MISSING_H */
