/*-------------------------------------------------------------------------
 *
 * functions_past.c
 *		What the change feed tells of the past: fsync_files_at(), fsync_diff(),
 *		fsync_feed_since().
 *
 * A file that the feed does not name after a moment was then as it is now.  Of
 * the others the first change after it says how they were: each change tells
 * what was before it.  So nothing is replayed, the order of changes of different
 * files is no matter, and what is read is the changes since then, however
 * long the feed is.  Files are told apart by their id, so that it is all the
 * same who has which name meanwhile.
 *
 * How far back that holds says feed_history.h.  It is read with the snapshot
 * that the rows are read with.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "caller_query.h"
#include "feed_history.h"
#include "functions.h"

PG_FUNCTION_INFO_V1(fsync_feed_since);
PG_FUNCTION_INFO_V1(fsync_files_at);
PG_FUNCTION_INFO_V1(fsync_diff);

/*
 * For each file that has changed after a moment, what it was then: the columns
 * before its first change.  $1 the repository, $2 its after_change_id.
 */
#define FIRST_AFTER(moment) \
	"(SELECT DISTINCT ON (file_id) file_id AS id, operation <> 'added' AS existed," \
	" coalesce(old_path, file_path) AS file_path, old_size AS file_size," \
	" old_mod_time AS mod_time, old_hash AS content_hash" \
	" FROM %1$s.file_changes" \
	" WHERE repository_id = $1 AND change_id > $2 AND changed_at > " moment \
	" ORDER BY file_id, change_id)"

static const char files_at_sql[] =
"WITH changed AS MATERIALIZED " FIRST_AFTER("$3")
" SELECT id, file_path, file_size, mod_time, content_hash FROM %1$s.file_records f"
" WHERE repository_id = $1 AND missing_since IS NULL"
" AND NOT EXISTS (SELECT FROM changed c WHERE c.id = f.id)"
" UNION ALL"
" SELECT id, file_path, file_size, mod_time, content_hash FROM changed WHERE existed";

/* What has not changed after the first moment is the same at both. */
static const char diff_sql[] =
"WITH since AS MATERIALIZED " FIRST_AFTER("$3") ","
" later AS MATERIALIZED " FIRST_AFTER("$4") ","
" o AS (SELECT * FROM since WHERE existed),"
" n AS (SELECT id, file_path, file_size, mod_time, content_hash FROM later WHERE existed"
" UNION ALL"
" SELECT f.id, f.file_path, f.file_size, f.mod_time, f.content_hash"
" FROM %1$s.file_records f JOIN since s ON s.id = f.id"
" WHERE f.repository_id = $1 AND f.missing_since IS NULL"
" AND NOT EXISTS (SELECT FROM later l WHERE l.id = f.id))"
" SELECT CASE WHEN o.id IS NULL THEN 'added' WHEN n.id IS NULL THEN 'removed'"
" WHEN n.file_path <> o.file_path THEN 'moved' ELSE 'updated' END AS operation,"
" coalesce(n.id, o.id) AS id, coalesce(n.file_path, o.file_path) AS file_path,"
" o.file_path AS old_path, n.file_size, o.file_size AS old_size, n.mod_time,"
" o.mod_time AS old_mod_time, n.content_hash, o.content_hash AS old_hash"
" FROM o FULL JOIN n ON n.id = o.id"
" WHERE (o.id, o.file_path, o.file_size, o.mod_time, o.content_hash)"
" IS DISTINCT FROM (n.id, n.file_path, n.file_size, n.mod_time, n.content_hash)"
" ORDER BY 3, 2";

/* The history of a repository; errors: it is none, the caller may not know. */
static void
read_history(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			 FeedHistory *history)
{
	SessionScope scope;
	bool		found;

	caller_require_select(objects, "file_changes");
	session_scope_enter(&scope, objects);
	found = feed_history_read(objects, repository_id, history);
	session_scope_leave(&scope);
	if (!found)
		functions_unknown_repository(repository_id);
}

static char *
shown_time(TimestampTz t)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(t)));
}

/* The moment can be answered; else it is an error that says from when on. */
static void
require_known(const pg_uuid_t *repository_id, const FeedHistory *history,
			  const char *name, TimestampTz moment)
{
	if (moment > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is still to come: %s", name, shown_time(moment))));
	if (!history->change_feed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the change feed of repository \"%s\" is off",
						functions_uuid_text(repository_id)),
				 errdetail("Without it nothing is known of the past."),
				 errhint("Switch it on with fsync_configure_repository(repository_id, change_feed => true).")));
	if (!history->known)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the history of repository \"%s\" has not begun",
						functions_uuid_text(repository_id)),
				 errhint("It begins when the worker tracks the repository; see fsync_status().")));
	if (moment < history->since)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the history of repository \"%s\" does not reach back to %s",
						functions_uuid_text(repository_id), shown_time(moment)),
				 errdetail("It is known from %s on.", shown_time(history->since)),
				 errhint("It begins when the change feed is switched on, and anew when somebody else writes to file_records or file_changes; changes are kept for fsync.change_retention.")));
}

Datum
fsync_feed_since(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	FeedHistory history;

	functions_require_argument(fcinfo, 0, "repository_id");
	functions_find_extension(&objects);
	read_history(&objects, PG_GETARG_UUID_P(0), &history);
	if (!history.known)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(history.since);
}

Datum
fsync_files_at(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	FeedHistory history;
	CallerResult result;
	Oid			argtypes[3] = {UUIDOID, INT8OID, TIMESTAMPTZOID};
	Datum		values[3];

	result.store = functions_begin_result(fcinfo, &result.desc);
	functions_require_argument(fcinfo, 0, "repository_id");
	functions_require_argument(fcinfo, 1, "at");
	functions_find_extension(&objects);
	read_history(&objects, PG_GETARG_UUID_P(0), &history);
	require_known(PG_GETARG_UUID_P(0), &history, "at", PG_GETARG_TIMESTAMPTZ(1));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = Int64GetDatum(history.after_change_id);
	values[2] = PG_GETARG_DATUM(1);
	caller_query(&objects, files_at_sql, 3, argtypes, values, NULL, caller_put_rows, &result);
	return (Datum) 0;
}

Datum
fsync_diff(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	FeedHistory history;
	CallerResult result;
	Oid			argtypes[4] = {UUIDOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[4];

	result.store = functions_begin_result(fcinfo, &result.desc);
	functions_require_argument(fcinfo, 0, "repository_id");
	functions_require_argument(fcinfo, 1, "from");
	functions_require_argument(fcinfo, 2, "to");
	functions_find_extension(&objects);
	read_history(&objects, PG_GETARG_UUID_P(0), &history);
	if (PG_GETARG_TIMESTAMPTZ(1) > PG_GETARG_TIMESTAMPTZ(2))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from must not be later than to")));
	require_known(PG_GETARG_UUID_P(0), &history, "to", PG_GETARG_TIMESTAMPTZ(2));
	require_known(PG_GETARG_UUID_P(0), &history, "from", PG_GETARG_TIMESTAMPTZ(1));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = Int64GetDatum(history.after_change_id);
	values[2] = PG_GETARG_DATUM(1);
	values[3] = PG_GETARG_DATUM(2);
	caller_query(&objects, diff_sql, 4, argtypes, values, NULL, caller_put_rows, &result);
	return (Datum) 0;
}
