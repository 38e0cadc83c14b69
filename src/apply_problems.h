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

#include "apply_plan.h"
#include "session.h"

/*
 * Problems that verifications find, as in proto_problem_name(): no observation
 * says that they are over, see apply_corrupt.c.
 */
#define CORRUPT_PROBLEMS \
	"'content differs from its hash', 'I/O error in verification'"

/* Deletes the problems that the plan says are over; true if there were any. */
extern bool problems_clear(const ExtensionObjects *objects,
						   const pg_uuid_t *repository_id, const ApplyPlan *plan);

/* Adds a problem, or counts it again. */
extern void problems_record(const ExtensionObjects *objects,
							const pg_uuid_t *repository_id, ProtoStr path,
							uint8 problem, ProtoStr message);

/* The same for the problems of these observations, each of another path. */
extern void problems_record_all(const ExtensionObjects *objects,
								const pg_uuid_t *repository_id, ApplyItem **items,
								int n);

/* Rows were purged: deletes the problems of those that could not be before. */
extern void problems_clear_purged(const ExtensionObjects *objects,
								  const pg_uuid_t *repository_id);

#endif							/* FSYNC_APPLY_PROBLEMS_H */
