/*-------------------------------------------------------------------------
 *
 * feed_history.h
 *		From when on file_changes tells all that happened to file_records.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_FEED_HISTORY_H
#define FSYNC_FEED_HISTORY_H

#include "session.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

/*
 * The history of a repository: the changes behind after_change_id, in whose
 * order changed_at never falls.  Undone one by one from the last, they give
 * back the rows as they were at any moment from since on.
 */
typedef struct FeedHistory
{
	bool		change_feed;	/* it goes on */
	bool		known;			/* it has begun; else what follows is nothing */
	TimestampTz since;
	int64		after_change_id;
} FeedHistory;

/*
 * As the active snapshot sees it; as the owner, within a session_scope.  False:
 * there is no such repository.
 */
extern bool feed_history_read(const ExtensionObjects *objects,
							  const pg_uuid_t *repository_id, FeedHistory *history);

/* Whether this is the function of the trigger that sees others write rows. */
extern bool feed_history_is_trigger(Oid function);

/* In how many triggers this is executed. */
extern int	feed_history_depth(void);

/*
 * Statements of this process at this depth of triggers (0: of no trigger) are
 * the extension's own, which keep the history right.  Returns what it was
 * before; -1: none are.
 */
extern int	feed_history_own_depth(int depth);

/*
 * Worker: begins the histories that are wanted and have not begun, with the
 * moment of this call.  To be called when no batch of changes is on its way,
 * in a transaction of its own.  True: one of them has to wait until a
 * transaction that concerns it has ended, so call it again.
 */
extern bool feed_history_open(const ExtensionObjects *objects);

/*
 * Worker: the time of changes that are written now.  It is not before that of
 * earlier changes; where the clock was set back by more than a second the history
 * begins anew.
 */
extern TimestampTz feed_history_time(const ExtensionObjects *objects,
									 const pg_uuid_t *repository_id);

/* Worker: these changes, change_ids as a bigint[], are about to be removed. */
extern void feed_history_shorten(const ExtensionObjects *objects, Datum change_ids);

/* The history of the repository ends here; NULL: all that go on do. */
extern void feed_history_end(const ExtensionObjects *objects,
							 const pg_uuid_t *repository_id);

#endif							/* FSYNC_FEED_HISTORY_H */
