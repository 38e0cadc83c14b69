/*-------------------------------------------------------------------------
 *
 * verification.h
 *		Verifications: which files are read again, what is kept of the result.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_VERIFICATION_H
#define FSYNC_VERIFICATION_H

#include "session.h"
#include "tree/protocol.h"

/* How far a run has come.  Zeros, and start: at the beginning. */
typedef struct VerificationCursor
{
	TimestampTz start;			/* of the run */
	bool		again;			/* through with files that never were read */
	char		path[PROTO_PATH_MAX];	/* of the last of these */
	int			path_len;
	TimestampTz last_read;		/* and id, of the last other one */
	int64		id;
	bool		done;
} VerificationCursor;

typedef struct VerificationCounts
{
	int64		files;			/* read to the end */
	int64		bytes;
	int64		corrupt;
	int64		unreadable;
} VerificationCounts;

/*
 * Each of these opens and commits a transaction of its own; they return false
 * (or 0) when the repository or the extension is gone.
 */

/* Begins a run in sync_operations.  Returns its id; *start: when. */
extern int64 verification_begin(const ExtensionObjects *objects,
								const pg_uuid_t *repository_id, const char *reason,
								TimestampTz *start);

/* Ends it; status as in sync_operations, message may be NULL. */
extern bool verification_end(const ExtensionObjects *objects, int64 operation_id,
							 const char *status, const char *message,
							 const VerificationCounts *counts);

/*
 * Appends a PROTO_VERIFY to out with the files that come next, about so many
 * bytes but at least one, and moves the cursor behind them.  First come files
 * that no verification has read, then the others, the longest ago first.  *count
 * is how many; there may be more behind none, until cursor->done.
 */
extern bool verification_next(const ExtensionObjects *objects,
							  const pg_uuid_t *repository_id, int64 operation_id,
							  int64 rate, int64 bytes, VerificationCursor *cursor,
							  uint32 *count, ProtoBuf *out);

/*
 * Writes count verdicts, of which those count whose rows are still as they
 * were; adds them to counts.  Throws ERRCODE_BAD_MESSAGE when they do
 * not parse.
 */
extern bool verification_record(const ExtensionObjects *objects,
								const pg_uuid_t *repository_id, ProtoReader verdicts,
								uint32 count, VerificationCounts *counts);

#endif							/* FSYNC_VERIFICATION_H */
