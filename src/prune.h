/*-------------------------------------------------------------------------
 *
 * prune.h
 *		Deletes rows that are old, but for those that cannot go.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PRUNE_H
#define FSYNC_PRUNE_H

#include "session.h"

/*
 * Deletes the rows with these ids, within a session that the caller has begun;
 * plan does so for a bigint[].  Rows that the database refuses to delete, and
 * what somebody holds, stay.  Returns how many went; throws what no row is to
 * blame for.
 */
extern uint64 prune_rows(const ExtensionObjects *objects, SessionPlan *plan, Datum *ids, int n);

#endif							/* FSYNC_PRUNE_H */
