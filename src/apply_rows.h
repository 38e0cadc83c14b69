/*-------------------------------------------------------------------------
 *
 * apply_rows.h
 *		Sets of observations as statements on file_records.  All of it within a
 *		session that the caller has begun.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_ROWS_H
#define FSYNC_APPLY_ROWS_H

#include "apply.h"
#include "apply_plan.h"
#include "totals.h"

/* One attempt to write a plan. */
typedef struct ApplyRun
{
	const ExtensionObjects *objects;
	const pg_uuid_t *repository_id;
	TimestampTz created_at;		/* of the repository; 0: whichever */
	const char *root;			/* its watch_root; NULL: whichever */
	int64		generation;
	int64		place_scan;		/* the scan of a part; 0: none */
	TimestampTz now;			/* of the transaction */
	bool		trusting;		/* what is said to be new is inserted, and
								 * fails if it is not */
	bool		mark_missing;	/* the repository's strategies */
	bool		mark_type_change;
	bool		keep_overwritten;	/* a file that another one is renamed onto
									 * keeps its row */
	bool		mark_excluded;
	bool		has_missing;	/* it has rows of missing files */
	bool		change_feed;	/* its changes go to file_changes */
	bool		has_corrupt;	/* ... and of corrupt ones */
	bool		accounts;		/* for what it does to the totals */
	const TotalsCounts *counts; /* that go on meanwhile; NULL: none */
	ApplyPlan  *plan;
	ApplyResult *result;		/* counts what was written */
	int			refused;		/* items that the database refused ... */
	List	   *refused_files;	/* ... but removals: their paths */
	int			held;			/* items whose rows others hold ... */
	List	   *held_paths;		/* ... and all paths of these, ApplyHeld * */
	List	   *waiting;		/* those of earlier messages, the same */
} ApplyRun;

typedef void (*ApplyPhase) (ApplyRun *run, ApplyItem **items, int n);

/* Whether the row is marked when its file is removed, and not deleted. */
extern bool rows_are_marked(const ApplyRun *run, const ApplyItem *item);

/* Deletes or marks, as the repository's strategies say. */
extern void rows_remove(ApplyRun *run, ApplyItem **items, int n);

/* Deletes marked rows, and no others. */
extern void rows_purge(ApplyRun *run, ApplyItem **items, int n);

/* items are whole chains.  Those without a row are added to plan->upserts. */
extern void rows_move(ApplyRun *run, ApplyItem **items, int n);

extern void rows_write(ApplyRun *run, ApplyItem **items, int n);

#endif							/* FSYNC_APPLY_ROWS_H */
