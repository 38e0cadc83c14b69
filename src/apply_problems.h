/*-------------------------------------------------------------------------
 *
 * apply_problems.h
 *		The rows of fsync_problems.  All of it within a session that the caller
 *		has begun.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_PROBLEMS_H
#define FSYNC_APPLY_PROBLEMS_H

#include "apply_rows.h"

/*
 * Problems that verifications find, as in proto_problem_name(): no observation
 * says that they are over, see apply_corrupt.c.
 */
#define CORRUPT_PROBLEMS \
	"'content differs from its hash', 'I/O error in verification'"

/* Deletes the problems that the run's plan says are over, and writes its own. */
extern void problems_write(ApplyRun *run);

typedef struct NewProblem
{
	ProtoStr	path;
	uint8		problem;
	ProtoStr	message;
} NewProblem;

/* Adds problems, or counts them again. */
extern void problems_record_all(const ExtensionObjects *objects,
								const pg_uuid_t *repository_id,
								const NewProblem *problems, int n);

/* The same for one. */
extern void problems_record(const ExtensionObjects *objects,
							const pg_uuid_t *repository_id, ProtoStr path,
							uint8 problem, ProtoStr message);

/* Rows were purged: deletes the problems of those that could not be before. */
extern void problems_clear_purged(const ExtensionObjects *objects,
								  const pg_uuid_t *repository_id);

#endif							/* FSYNC_APPLY_PROBLEMS_H */
