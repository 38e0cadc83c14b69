/*-------------------------------------------------------------------------
 *
 * worker_log.c
 *		What the server's log hears on a good day: that a worker has started, and
 *		that a first sync, or a run that took long, has ended.
 *
 * Everything else that is logged begins or ends a condition (worker_state.c), or
 * is an error.  What took long is for fsync.log_min_duration to say, as
 * log_autovacuum_min_duration does; a first sync is told of however short it
 * was, since somebody waits for it, unless that is -1.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"

#include "shown.h"
#include "worker.h"

static char *database_name = NULL;	/* as it is shown */

void
worker_log_name_database(void)
{
	char	   *name;
	char	   *title;

	if (database_name != NULL)
		return;
	name = get_database_name(MyDatabaseId);
	if (name == NULL)
		return;
	database_name = MemoryContextStrdup(TopMemoryContext, shown_path(name));
	title = psprintf("(%s)", database_name);
	set_ps_display(title);
}

/* ", 2 paused", or nothing. */
static void
append_count(StringInfo out, int n, const char *what)
{
	if (n > 0)
		appendStringInfo(out, "%s%d %s", out->len > 0 ? ", " : "", n, what);
}

void
worker_log_started(List *rows)
{
	StringInfoData states;
	int			new = 0;
	int			paused = 0;
	int			inactive = 0;
	ListCell   *lc;

	foreach(lc, rows)
	{
		const RepositoryRow *row = lfirst(lc);

		if (!row->active)
			inactive++;
		else if (row->paused)
			paused++;
		else if (row->last_complete_generation == 0)
			new++;
	}
	initStringInfo(&states);
	append_count(&states, list_length(rows) - new - paused - inactive, "to be compared with the disk");
	append_count(&states, new, "to be synced for the first time");
	append_count(&states, paused, "paused");
	append_count(&states, inactive, "inactive");
	ereport(LOG,
			(errmsg("fsync worker has started in database \"%s\", repositories: %d (%s)",
					database_name != NULL ? database_name : "", list_length(rows), states.data)));
}

void
worker_log_ended(const WorkerRepository *repository, const char *what, bool always,
				 const char *status, int64 started_at, int64 files, int64 bytes,
				 const ApplyCounts *counts)
{
	int64		ms = clock_ms() - started_at;
	StringInfoData changes;

	if (setting_log_min_duration_ms < 0 || (!always && ms < setting_log_min_duration_ms))
		return;
	initStringInfo(&changes);
	if (counts != NULL)
		appendStringInfo(&changes, ", " INT64_FORMAT " added, " INT64_FORMAT " updated, "
						 INT64_FORMAT " moved, " INT64_FORMAT " removed", counts->added,
						 counts->updated, counts->moved, counts->removed);
	ereport(LOG,
			(errmsg("%s of repository \"%s\" %s after " INT64_FORMAT ".%03d s: " INT64_FORMAT
					" files looked at%s, " INT64_FORMAT " kB read",
					what, shown_path(repository->row->root), status, ms / 1000,
					(int) (ms % 1000), files, changes.data, bytes / 1024)));
	pfree(changes.data);
}
