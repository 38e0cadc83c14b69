/*-------------------------------------------------------------------------
 *
 * worker_prune.c
 *		Removal of history and of changes that are old: once an hour, when
 *		the worker is awake anyway.  An idle worker makes neither.
 *
 * Of the change feed there can be much, so it goes by batches, between which
 * the worker does its work.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "feed_retention.h"
#include "worker.h"

#define PRUNE_INTERVAL_MS	(3600 * 1000)
#define PRUNE_BATCH_MS		1000

static int64 history_at = 0;
static int64 feed_at = 0;
static bool feed_unfinished = false;
static int64 feed_position = 0;

static void
prune_history_work(WorkerRepository *repository, void *arg)
{
	operations_prune(&worker_objects);
}

static void
prune_feed_work(WorkerRepository *repository, void *arg)
{
	feed_unfinished = feed_prune(&worker_objects, &feed_position);
}

static void
prune(DatabaseWork work, const char *what)
{
	ErrorData  *error = worker_try(NULL, work, NULL);

	if (error != NULL)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("could not prune the %s of database %u: %s",
						what, MyDatabaseId, error->message)));
}

void
prune_reload(void)
{
	history_at = 0;
	feed_at = 0;
}

void
prune_advance(int64 now, int64 *deadline)
{
	if (now >= history_at)
	{
		history_at = now + PRUNE_INTERVAL_MS;
		prune(prune_history_work, "history");
	}
	if (now >= feed_at)
	{
		feed_unfinished = false;
		prune(prune_feed_work, "change feed");
		feed_at = now + (feed_unfinished ? PRUNE_BATCH_MS : PRUNE_INTERVAL_MS);
	}
	if (feed_unfinished)
		lower_deadline(deadline, feed_at);
}
