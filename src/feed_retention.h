/*-------------------------------------------------------------------------
 *
 * feed_retention.h
 *		How long file_changes keeps a change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_FEED_RETENTION_H
#define FSYNC_FEED_RETENTION_H

#include "session.h"

/*
 * Removes some thousands of the changes that need not be kept, in a
 * transaction of its own.  Returns true if there may be more of them.
 * position, 0 at first, is where the next call goes on looking.
 */
extern bool feed_prune(const ExtensionObjects *objects, int64 *position);

#endif							/* FSYNC_FEED_RETENTION_H */
