/*-------------------------------------------------------------------------
 *
 * apply_corrupt.h
 *		Files that a verification found to be corrupt, or could not read.  All
 *		of it within a session that the caller has begun.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_CORRUPT_H
#define FSYNC_APPLY_CORRUPT_H

#include "apply_rows.h"

/* Whether the repository has any. */
extern bool corrupt_any(const ExtensionObjects *objects, const pg_uuid_t *repository_id);

/*
 * Of files that are about to be written: keeps the hash of those that are
 * corrupt and, but for bookkeeping, unchanged.  Those whose content is right
 * again are corrupt no more.
 */
extern void corrupt_protect(ApplyRun *run, ApplyItem **items, int n);

/* Rows were written: makes fsync_problems say what is corrupt now. */
extern void corrupt_follow(const ExtensionObjects *objects,
						   const pg_uuid_t *repository_id);

#endif							/* FSYNC_APPLY_CORRUPT_H */
