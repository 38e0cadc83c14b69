/*-------------------------------------------------------------------------
 *
 * apply_totals.h
 *		What a message does to the totals of its repository (totals.h).  All of
 *		it within a session that the caller has begun.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_TOTALS_H
#define FSYNC_APPLY_TOTALS_H

#include "apply_rows.h"

/* The row that is to be written anew. */
typedef struct ApplyBefore
{
	bool		counts;			/* there is one, and its file is not missing */
	int64		size;
} ApplyBefore;

/*
 * Begins to account for the run, whose tables are locked; does nothing where
 * the table is such that others have a say in what is written.
 */
extern void account_begin(ApplyRun *run);

/* Takes account of what the run has written; last before the commit. */
extern void account_end(const ApplyRun *run);

/* Files (and bytes) that came to this path, or with a minus went. */
extern void account_changed(const ApplyRun *run, ProtoStr path, int64 files, int64 bytes);

/*
 * The rows, as they are now, at the items' paths or, with old_paths, where those
 * of moves are.
 */
extern ApplyBefore *account_look(const ApplyRun *run, ApplyItem **items, int n,
								 bool old_paths);

#endif							/* FSYNC_APPLY_TOTALS_H */
