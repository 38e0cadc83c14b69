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
#include "tree/protocol.h"

typedef struct ApplyCounts
{
	int64		added;
	int64		updated;
	int64		moved;
	int64		removed;
} ApplyCounts;

/* Counts of one message by the scan that the observations belong to. */
typedef struct ApplyResult
{
	ApplyCounts realtime;		/* scan_id 0 */
	ApplyCounts scan;			/* any other: a repository has one scan at a
								 * time */
	bool		problems_changed;
	bool		marked;			/* rows of missing files, to be purged later */
	ProtoStr   *refused;		/* files whose rows the database refused, in the
								 * caller's memory context and the message */
	int			n_refused;
} ApplyResult;

/*
 * Applies one PROTO_OBSERVATIONS body in one transaction and commits it.
 * generation is written to the rows.  The repository's row is locked FOR KEY
 * SHARE first (lock order: repository, then files).
 *
 * A row that the database refuses (a user's trigger, a foreign key) is
 * separated from the others by bisection and recorded in fsync_problems; the
 * rest is applied.  Errors that are not the data's fault (see
 * session_error_is_transient) are thrown with nothing applied: the caller
 * waits and calls again with the same message.  The same error for every row
 * of a batch of more than one is thrown as well.
 *
 * Returns false when the repository's row or the extension is gone.
 * Throws ERRCODE_BAD_MESSAGE when the message does not parse.
 */
extern bool apply_observations(const ExtensionObjects *objects,
							   const pg_uuid_t *repository_id,
							   TimestampTz created_at, int64 generation,
							   ProtoReader body,
							   ApplyResult *result);

/* A row of a missing file. */
typedef struct ApplyPurge
{
	int64		id;
	ProtoStr	path;
} ApplyPurge;

/*
 * Deletes such rows for good, as apply_observations() would: those that the
 * database refuses to delete stay and become problems.  refused: how many.
 */
extern bool apply_purge(const ExtensionObjects *objects,
						const pg_uuid_t *repository_id, const ApplyPurge *rows,
						int n, int *refused);

/* Deletes problems of the repository that were last seen before this time;
 * within the session that the caller has begun. */
extern void apply_expire_problems(const ExtensionObjects *objects,
								  const pg_uuid_t *repository_id,
								  TimestampTz seen_before);

#endif							/* FSYNC_APPLY_H */
