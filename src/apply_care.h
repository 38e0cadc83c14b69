/*-------------------------------------------------------------------------
 *
 * apply_care.h
 *		A message that was refused, written again with care.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_CARE_H
#define FSYNC_APPLY_CARE_H

#include "apply_rows.h"

/*
 * Writes the plan, within a session that the caller has begun, and its problems;
 * rows that the database refuses and those that others hold are left out, counted
 * and listed in the run.  Throws what no single row is to blame for.
 */
extern void care_write(ApplyRun *run);

/* Whether the plan touches renamed files that wait, ApplyHeld *. */
extern bool care_is_needed(const ApplyPlan *plan, const List *waiting);

#endif							/* FSYNC_APPLY_CARE_H */
