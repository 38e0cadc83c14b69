/*-------------------------------------------------------------------------
 *
 * worker_analyze.c
 *		Statistics after a first scan, which made a table many times as large.
 *
 * Who waits for the files wants them, not the statistics: these are for plans
 * that come later.  So the barriers that the scan held up are answered first,
 * but somebody who always waits puts it off no longer than five seconds.
 *
 * A table that is locked (by a VACUUM, or a CREATE INDEX CONCURRENTLY) is not
 * waited for but tried again.  When ANALYZE fails, or the worker ends before,
 * autovacuum does it some time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "worker.h"

/* Rows after which the planner should not wait for autovacuum to learn of them. */
#define ANALYZE_AFTER_ADDED		1000

#define ANALYZE_DELAY_MS		5000
#define ANALYZE_RETRY_MS		10000

static int64 analyze_at = NEVER;	/* whoever waits then */
static int64 analyze_after = 0; /* not before */

static void
analyze_work(WorkerRepository *repository, void *arg)
{
	bool	   *locked = arg;
	char	   *name;
	char	   *sql;

	if (!session_begin(&worker_objects, "fsync: analyzing file_records"))
		return;
	*locked = !ConditionalLockRelationOid(worker_objects.file_records,
										  ShareUpdateExclusiveLock);
	if (*locked)
	{
		session_commit();
		return;
	}
	name = get_namespace_name(worker_objects.schema);
	sql = psprintf("ANALYZE %s", quote_qualified_identifier(name, "file_records"));
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\"", sql);
	session_commit();
}

void
analyze_want(int64 rows)
{
	if (rows >= ANALYZE_AFTER_ADDED)
		analyze_at = Min(analyze_at, clock_ms() + ANALYZE_DELAY_MS);
}

void
analyze_advance(int64 now, bool somebody_waits, int64 *deadline)
{
	ErrorData  *error;
	bool		locked = false;
	int64		due = somebody_waits ? Max(analyze_at, analyze_after) : analyze_after;

	if (analyze_at == NEVER)
		return;
	if (now < due)
	{
		lower_deadline(deadline, due);
		return;
	}
	analyze_at = NEVER;
	error = worker_try(NULL, analyze_work, &locked);
	if (locked || (error != NULL && session_error_is_transient(error->sqlerrcode)))
	{
		ereport(DEBUG1, (errmsg("table \"%s\" will be analyzed later", "file_records")));
		analyze_at = analyze_after = clock_ms() + ANALYZE_RETRY_MS;
		lower_deadline(deadline, analyze_at);
	}
	else if (error != NULL)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("could not analyze table \"%s\" of database %u: %s",
						"file_records", MyDatabaseId, error->message)));
}
