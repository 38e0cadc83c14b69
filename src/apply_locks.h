/*-------------------------------------------------------------------------
 *
 * apply_locks.h
 *		Rows that other transactions hold.  All of it within a session that the
 *		caller has begun.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_LOCKS_H
#define FSYNC_APPLY_LOCKS_H

#include "apply_rows.h"

/*
 * Locks the rows of the items, at the paths that they leave too, as writing
 * them will; key: as a DELETE or a new path does.  Waits for nobody: returns
 * for each item NULL, or who holds one of its rows, in the current context.
 */
extern char **locks_take(ApplyRun *run, ApplyItem **items, int n, bool key);

#endif							/* FSYNC_APPLY_LOCKS_H */
