/*-------------------------------------------------------------------------
 *
 * sequences.h
 *		The sequences of the tables' ids.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SEQUENCES_H
#define FSYNC_SEQUENCES_H

#include "session.h"

/* Lifts them above the ids that are there.  A session of its own. */
extern void sequences_lift(const ExtensionObjects *objects);

/* The same for file_records alone, within a session that the caller has begun. */
extern void sequences_lift_files(const ExtensionObjects *objects);

#endif							/* FSYNC_SEQUENCES_H */
