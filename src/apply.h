/*-------------------------------------------------------------------------
 *
 * apply.h
 *		Observations become rows: the only writer of file_records.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_H
#define FSYNC_APPLY_H

#include "session.h"
#include "totals.h"
#include "tree/protocol.h"

typedef struct ApplyCounts
{
	int64		added;
	int64		updated;
	int64		moved;
	int64		removed;
} ApplyCounts;

/*
 * A path that could not be written because another transaction holds a row.
 * Those of one group, the names of files that were renamed, are to be written
 * together, lest they lose their ids.
 */
typedef struct ApplyHeld
{
	ProtoStr	path;
	char	   *why;
	int64		group;			/* 0: of no rename */
	bool		key;			/* it takes the lock of a DELETE */
} ApplyHeld;

/* Counts of one message by the scan that the observations belong to. */
typedef struct ApplyResult
{
	ApplyCounts realtime;		/* scan_id 0 */
	ApplyCounts scan;			/* of everything: a repository has one such scan
								 * at a time */
	ApplyCounts place;			/* of a part; the same */
	TotalsDelta totals;			/* what the message does to them */
	bool		problems_changed;
	bool		marked;			/* rows of missing files, to be purged later */
	ProtoStr   *refused;		/* files whose rows the database refused, in the
								 * caller's memory context and the message */
	int			n_refused;
	List	   *held;			/* ApplyHeld *; the same, and the reasons too */
} ApplyResult;

/*
 * Applies one PROTO_OBSERVATIONS body in one transaction and commits it.
 * generation is written to the rows; place_scan is the scan of a part, 0: none.  The repository's row is locked FOR KEY
 * SHARE first (lock order: repository, then files).
 *
 * A row that the database refuses (a user's trigger, a foreign key) is
 * separated from the others by bisection and recorded in fsync_problems; the
 * rest is applied.  So is a row that another transaction holds; the caller has
 * its file looked at again.  held: those that still wait for that, ApplyHeld *;
 * what the message says of renamed ones is put aside with them.  Errors that are not the data's fault (see
 * session_error_is_transient) are thrown with nothing applied: the caller
 * waits and calls again with the same message.  The same error for every row
 * of a batch of more than one is thrown as well.
 *
 * Returns false when the repository's row or the extension is gone, or the row is
 * of another directory than root by now.
 * Throws ERRCODE_BAD_MESSAGE when the message does not parse.
 */
extern bool apply_observations(const ExtensionObjects *objects,
							   const pg_uuid_t *repository_id,
							   TimestampTz created_at, const char *root,
							   int64 generation, int64 place_scan,
							   ProtoReader body, List *held,
							   ApplyResult *result);

/* Whether the rows of these paths, ApplyHeld *, are still held, as bool[]. */
extern bool *apply_still_held(const ExtensionObjects *objects,
							  const pg_uuid_t *repository_id, List *held);

/* A row of a missing file. */
typedef struct ApplyPurge
{
	int64		id;
	ProtoStr	path;
} ApplyPurge;

/*
 * Deletes such rows for good, as apply_observations() would: those that the
 * database refuses to delete stay and become problems.  refused: how many.
 * Those that another transaction holds just stay; held: how many.
 */
extern bool apply_purge(const ExtensionObjects *objects,
						const pg_uuid_t *repository_id, const ApplyPurge *rows,
						int n, int *refused, int *held);

/*
 * Deletes rows whose path no file can have, ApplyPurge *, in the same way.
 */
extern bool apply_remove_impossible(const ExtensionObjects *objects,
									const pg_uuid_t *repository_id, List *rows);

/* The problems of these paths that were such rows are over. */
extern void apply_forget_held(const ExtensionObjects *objects,
							  const pg_uuid_t *repository_id, const ProtoStr *paths,
							  int n);

/* Deletes problems of the repository that were last seen before this time;
 * within the session that the caller has begun. */
extern void apply_expire_problems(const ExtensionObjects *objects,
								  const pg_uuid_t *repository_id,
								  TimestampTz seen_before);

#endif							/* FSYNC_APPLY_H */
