/*-------------------------------------------------------------------------
 *
 * feed_history.c
 *		From when on file_changes tells all that happened to file_records.
 *
 * Who asks for the files as they were gets them by taking back, from the rows
 * that are there now, what the feed says has happened since.  That is right
 * as long as the feed tells everything.  It does not while it is switched off, of
 * what was pruned, and of what somebody else has written to file_records or to
 * file_changes.  So fsync_feed_history says for each repository since when it
 * does, and nothing before that is answered:
 *
 * - NULL, since it was switched on or off, or since somebody else has written
 *	 a row (fsync_rows_written(), a trigger for each statement): in the
 *	 transaction that did so.
 * - The moment at which the worker finds such a NULL, where the feed is on.  The
 *	 row's lock is held to the end of the transaction that has made it NULL, so that
 *	 moment comes after what that has written can be seen; and the worker, which
 *	 writes the changes, is then at none.
 * - The time of the last change that was pruned.
 * - The present, where the clock was set back: a time must say which changes
 *	 came before it.
 *
 * Rows of a repository that is not active are written by a restore, which
 * brings their history along: so those are nobody's business.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "feed_history.h"
#include "requests.h"

PG_FUNCTION_INFO_V1(fsync_rows_written);
PG_FUNCTION_INFO_V1(fsync_feed_switched);

/* The longest wait for a table, in milliseconds: it can be tried again. */
#define OPEN_LOCK_WAIT_MS	50

/* How far the clock may go back and be waited for. */
#define CLOCK_STEP_US		USECS_PER_SEC

static int	own_depth = -1;

static const char read_sql[] =
"SELECT r.change_feed, h.since, h.after_change_id"
" FROM %1$s.fsync_repositories r LEFT JOIN %1$s.fsync_feed_history h USING (repository_id)"
" WHERE r.repository_id = $1";

/*
 * The row of the repository is locked against being switched off meanwhile.
 * Where others hold one of the two, their commit wakes the worker.
 */
static SessionPlan open_plan = {
	.sql = "WITH due AS (SELECT h.repository_id FROM %1$s.fsync_feed_history h"
	" JOIN %1$s.fsync_repositories r USING (repository_id)"
	" WHERE h.since IS NULL AND r.change_feed AND r.active AND r.database_oid = $1"
	" FOR SHARE OF r SKIP LOCKED FOR UPDATE OF h SKIP LOCKED)"
	" UPDATE %1$s.fsync_feed_history h SET since = clock_timestamp(),"
	" after_change_id = coalesce((SELECT max(change_id) FROM %1$s.file_changes), 0)"
	" FROM due WHERE due.repository_id = h.repository_id",
	.nargs = 1,
	.argtypes = {OIDOID},
};

static SessionPlan any_due_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_feed_history h"
	" JOIN %1$s.fsync_repositories r USING (repository_id)"
	" WHERE h.since IS NULL AND r.change_feed AND r.active AND r.database_oid = $1 LIMIT 1",
	.nargs = 1,
	.argtypes = {OIDOID},
};

/* Changes of the future; there are none while the clock goes on. */
static SessionPlan latest_plan = {
	.sql = "SELECT changed_at FROM %1$s.file_changes"
	" WHERE repository_id = $1 AND changed_at > $2 AND change_id > coalesce("
	"(SELECT after_change_id FROM %1$s.fsync_feed_history WHERE repository_id = $1), 0)"
	" ORDER BY changed_at DESC LIMIT 1",
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID},
	.index_only = true,
};

static SessionPlan restart_plan = {
	.sql = "UPDATE %1$s.fsync_feed_history SET since = $2,"
	" after_change_id = coalesce((SELECT max(change_id) FROM %1$s.file_changes), 0)"
	" WHERE repository_id = $1 AND since IS NOT NULL",
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID},
};

static SessionPlan shorten_plan = {
	.sql = "UPDATE %1$s.fsync_feed_history h SET since = gone.last"
	" FROM (SELECT c.repository_id, max(c.changed_at) AS last FROM %1$s.file_changes c"
	" JOIN %1$s.fsync_feed_history USING (repository_id)"
	" WHERE c.change_id = ANY ($1) AND c.change_id > after_change_id"
	" GROUP BY c.repository_id) gone"
	" WHERE gone.repository_id = h.repository_id AND h.since < gone.last",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID},
};

static SessionPlan end_plan = {
	.sql = "INSERT INTO %1$s.fsync_feed_history (repository_id) VALUES ($1)"
	" ON CONFLICT (repository_id) DO UPDATE SET since = NULL",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan end_all_plan = {
	.sql = "UPDATE %1$s.fsync_feed_history h SET since = NULL"
	" FROM %1$s.fsync_repositories r WHERE r.repository_id = h.repository_id"
	" AND r.active AND r.database_oid = $1",
	.nargs = 1,
	.argtypes = {OIDOID},
};

/* Where there is a row it is let alone, as somebody may hold it for long. */
static SessionPlan prepare_plan = {
	.sql = "INSERT INTO %1$s.fsync_feed_history (repository_id) SELECT $1"
	" WHERE NOT EXISTS (SELECT FROM %1$s.fsync_feed_history WHERE repository_id = $1)"
	" ON CONFLICT DO NOTHING",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

bool
feed_history_read(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				  FeedHistory *history)
{
	Oid			argtypes[1] = {UUIDOID};
	Datum		values[1] = {UUIDPGetDatum(repository_id)};
	char	   *sql = psprintf(read_sql, objects->schema_name);
	bool		isnull;
	bool		not_begun;

	/* Read-only, so that it is the snapshot that the rows are read with. */
	if (SPI_execute_with_args(sql, 1, argtypes, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\"", sql);
	if (SPI_processed == 0)
		return false;
	history->change_feed = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
													  SPI_tuptable->tupdesc, 1, &isnull));
	history->since = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc, 2, &not_begun));
	history->after_change_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
														   SPI_tuptable->tupdesc, 3, &isnull));
	history->known = history->change_feed && !not_begun;
	return true;
}

bool
feed_history_is_trigger(Oid function)
{
	FmgrInfo	info;

	fmgr_info(function, &info);
	return info.fn_addr == fsync_rows_written;
}

int
feed_history_depth(void)
{
	return DatumGetInt32(OidFunctionCall0(F_PG_TRIGGER_DEPTH));
}

int
feed_history_own_depth(int depth)
{
	int			before = own_depth;

	own_depth = depth;
	return before;
}

bool
feed_history_open(const ExtensionObjects *objects)
{
	Datum		values[1] = {ObjectIdGetDatum(MyDatabaseId)};
	bool		left = false;

	if (!session_begin(objects, "fsync: beginning histories"))
		return false;
	session_limit_lock_waits(OPEN_LOCK_WAIT_MS);
	if (session_execute(objects, &any_due_plan, values, NULL, SPI_OK_SELECT) > 0)
	{
		(void) session_execute(objects, &open_plan, values, NULL, SPI_OK_UPDATE);
		left = session_execute(objects, &any_due_plan, values, NULL, SPI_OK_SELECT) > 0;
	}
	session_commit();
	return left;
}

TimestampTz
feed_history_time(const ExtensionObjects *objects, const pg_uuid_t *repository_id)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz latest;
	Datum		values[2];
	bool		isnull;

	values[0] = UUIDPGetDatum(repository_id);
	values[1] = TimestampTzGetDatum(now);
	if (session_execute(objects, &latest_plan, values, NULL, SPI_OK_SELECT) == 0)
		return now;
	latest = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
											   SPI_tuptable->tupdesc, 1, &isnull));
	if (latest - now <= CLOCK_STEP_US)
		return latest;
	if (session_execute(objects, &restart_plan, values, NULL, SPI_OK_UPDATE) > 0)
		ereport(LOG,
				(errmsg("the history of repository \"%s\" begins anew, since the clock was set back",
						DatumGetCString(DirectFunctionCall1(uuid_out, values[0]))),
				 errdetail("The last change was written at %s.", timestamptz_to_str(latest))));
	return now;
}

void
feed_history_shorten(const ExtensionObjects *objects, Datum change_ids)
{
	(void) session_execute(objects, &shorten_plan, &change_ids, NULL, SPI_OK_UPDATE);
}

void
feed_history_end(const ExtensionObjects *objects, const pg_uuid_t *repository_id)
{
	Datum		values[1];

	values[0] = repository_id != NULL ? UUIDPGetDatum(repository_id) :
		ObjectIdGetDatum(MyDatabaseId);
	(void) session_execute(objects, repository_id != NULL ? &end_plan : &end_all_plan,
						   values, NULL,
						   repository_id != NULL ? SPI_OK_INSERT : SPI_OK_UPDATE);
}

/* ---------------------------------------------------------------------
 * Triggers
 * ---------------------------------------------------------------------
 */

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by a trigger")));
	return (TriggerData *) fcinfo->context;
}

/* The error of a trigger that somebody has put on another table. */
static void
require_table(const TriggerData *data, bool right)
{
	if (!right)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("trigger function is not for table \"%s\"",
						RelationGetRelationName(data->tg_relation))));
}

static void
wake_worker(void)
{
	if (requests_available() && !RecoveryInProgress())
		requests_tell_at_commit();
}

/*
 * Which repositories the rows are of is not asked: it would take a look at each
 * row, also at those that the worker writes.
 */
Datum
fsync_rows_written(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	Oid			table = RelationGetRelid(data->tg_relation);
	ExtensionObjects objects;
	SessionScope scope;

	if (feed_history_depth() - 1 == own_depth || !session_find_extension(&objects))
		return PointerGetDatum(NULL);
	require_table(data, table == objects.file_records ||
				  table == get_relname_relid("file_changes", objects.schema));
	session_scope_enter(&scope, &objects);
	feed_history_end(&objects, NULL);
	session_scope_leave(&scope);
	wake_worker();
	return PointerGetDatum(NULL);
}

static bool
get_bool(HeapTuple tuple, const TriggerData *data, const char *column)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, SPI_fnumber(desc, column), &isnull);

	return !isnull && DatumGetBool(value);
}

/*
 * Each repository that is active gets a row, whether it has a feed or not: who
 * writes file_records has its lock until his commit, so that a history which is
 * switched on meanwhile does not begin before.
 */
Datum
fsync_feed_switched(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	ExtensionObjects objects;
	SessionScope scope;
	bool		feed;
	bool		isnull;
	Datum		id;

	if (!session_find_extension(&objects))
		return PointerGetDatum(NULL);
	require_table(data, RelationGetRelid(data->tg_relation) == objects.repositories);
	feed = get_bool(data->tg_newtuple, data, "change_feed");
	id = SPI_getbinval(data->tg_newtuple, desc, SPI_fnumber(desc, "repository_id"), &isnull);
	session_scope_enter(&scope, &objects);
	if (feed != get_bool(data->tg_trigtuple, data, "change_feed"))
		feed_history_end(&objects, DatumGetUUIDP(id));
	else if (get_bool(data->tg_newtuple, data, "active"))
		(void) session_execute(&objects, &prepare_plan, &id, NULL, SPI_OK_INSERT);
	session_scope_leave(&scope);
	return PointerGetDatum(NULL);
}
