/*-------------------------------------------------------------------------
 *
 * functions_report.c
 *		fsync_report(): all that an operator looks at, as one document.
 *
 * It is asked each second by whoever looks on, so nothing in it may cost what
 * the tables hold: what is counted is counted up to a limit, and says so where
 * there is more; what takes a look at every row goes on a little at each call
 * (report_walks.c).
 *
 * The document is made of sections, each a query that returns JSON.  They run as
 * the owner of the tables, who can do nothing else; what fsync_status() and
 * shared memory tell is handed to them.  Names of files are only for who may read
 * file_records; doc/monitoring.md says what each key is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "capacity.h"
#include "functions.h"
#include "owner.h"
#include "report_walks.h"
#include "requests.h"
#include "shown.h"

PG_FUNCTION_INFO_V1(fsync_report);

/*
 * The runs of a repository, the latest first, by the index for that.  Were this
 * an equality, the planner might go backwards through the runs of all
 * repositories instead, as these come in the same order.
 */
#define RUNS_OF(repository) \
	" WHERE repository_id >= " repository " AND repository_id <= " repository \
	" ORDER BY repository_id, id DESC"

/* Runs that are looked at: in all, but of each repository not fewer, nor more. */
#define RUNS_IN_ALL			3000
#define RUNS_AT_LEAST		30
#define RUNS_AT_MOST		1000

/* Rows that a section looks at. */
#define PROBLEMS_LOOKED_AT	"10000"

/* Changes before a consumer that are looked at: the consumers share so many. */
#define CHANGES_LOOKED_AT	"(SELECT greatest(10000 / greatest(pg_catalog.count(*), 1), 500)" \
	" FROM %1$s.fsync_consumer_positions)"

/* Rows that a section shows. */
#define RUNS_SHOWN			"20"
#define PROBLEMS_SHOWN		"100"
#define CONSUMERS_SHOWN		"100"
#define PATTERNS_SHOWN		"100"

/*
 * $1: for each repository its row of fsync_status() and what is known of it
 * beside that; $2: whether names of files are told; $3: verified files by id of
 * the repository, or null.
 */
static SessionPlan repositories_plan = {
	.sql = "WITH given AS MATERIALIZED ("
	" SELECT g.n, g.doc->'status' AS status, g.doc->'counters' AS counters,"
	" g.doc->'lag' AS lag, g.doc->'reading' AS reading, g.doc->'watches' AS watches, s.*"
	" FROM pg_catalog.json_array_elements($1) WITH ORDINALITY AS g(doc, n)"
	" CROSS JOIN LATERAL pg_catalog.json_to_record(g.doc->'status') AS s("
	" repository_id uuid, total_files int8, operation_id int8, operation_type text,"
	" operation_start timestamptz, files_done int8, bytes_done int8)),"
	" kinds AS MATERIALIZED ("
	" SELECT repository_id, pg_catalog.json_agg(pg_catalog.json_build_object("
	" 'problem', problem, 'paths', paths, 'first_seen', first_seen, 'last_seen', last_seen)"
	" ORDER BY paths DESC, problem) AS kinds"
	" FROM (SELECT repository_id, problem, pg_catalog.count(*) AS paths,"
	" pg_catalog.min(first_seen) AS first_seen, pg_catalog.max(last_seen) AS last_seen"
	" FROM (SELECT * FROM %1$s.fsync_problems LIMIT " PROBLEMS_LOOKED_AT ") p"
	" GROUP BY repository_id, problem) k GROUP BY repository_id)"
	" SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object("
	" 'repository_id', g.repository_id,"
	" 'path', g.status->'path', 'watch_root', r.watch_root,"
	" 'state', g.status->'state', 'reason', g.status->'reason', 'hint', g.status->'hint',"
	" 'active', r.active, 'paused', r.paused, 'created_at', r.created_at,"
	" 'total_files', g.total_files, 'total_bytes', g.status->'total_bytes',"
	" 'is_watching', g.status->'is_watching',"
	" 'directories_watched', g.status->'directories_watched', 'watches_granted', g.watches,"
	" 'pending_changes', g.status->'pending_changes', 'problems', g.status->'problems',"
	" 'problem_kinds', coalesce(k.kinds, '[]'),"
	" 'last_event', g.status->'last_event',"
	" 'last_complete_scan', g.status->'last_complete_scan',"
	" 'worker_pid', g.status->'worker_pid', 'tree_pid', g.status->'tree_pid',"
	" 'sandbox', g.status->'sandbox',"
	" 'running', CASE WHEN g.operation_id IS NOT NULL THEN pg_catalog.json_build_object("
	" 'operation_id', g.operation_id, 'operation_type', coalesce(g.operation_type, o.operation_type),"
	" 'reason', o.reason, 'start_time', coalesce(g.operation_start, o.start_time),"
	" 'elapsed_seconds', pg_catalog.round(e.seconds::numeric, 3),"
	" 'files_done', g.files_done, 'files_total', l.files_scanned, 'bytes_done', g.bytes_done,"
	" 'files_per_second', pg_catalog.round((g.files_done / e.seconds)::numeric, 1),"
	" 'bytes_per_second', pg_catalog.round((g.bytes_done / e.seconds)::numeric),"
	" 'seconds_left', CASE WHEN g.files_done > 0 AND l.files_scanned > 0 THEN"
	" pg_catalog.round((greatest(l.files_scanned - g.files_done, 0) * e.seconds / g.files_done)::numeric, 1) END,"
	" 'reading', CASE WHEN $2 THEN g.reading END) END,"
	" 'last_operation', CASE WHEN (g.status->>'last_operation_id') IS NOT NULL THEN"
	" pg_catalog.json_build_object("
	" 'operation_id', g.status->'last_operation_id', 'operation_type', g.status->'last_operation_type',"
	" 'start_time', g.status->'last_operation_start', 'end_time', g.status->'last_operation_end',"
	" 'status', g.status->'last_operation_status', 'files_scanned', g.status->'last_files_scanned',"
	" 'files_added', g.status->'last_files_added', 'files_updated', g.status->'last_files_updated',"
	" 'files_moved', g.status->'last_files_moved', 'files_removed', g.status->'last_files_removed',"
	" 'error_message', g.status->'last_error') END,"
	" 'counters', g.counters, 'lag', g.lag,"
	" 'verification', pg_catalog.json_build_object("
	" 'verified_files', v.files,"
	" 'share', CASE WHEN g.total_files > 0 THEN"
	" pg_catalog.round(least(v.files::numeric / g.total_files, 1), 4) END,"
	" 'oldest_read', (SELECT pg_catalog.min(last_read) FROM %1$s.fsync_verifications"
	" WHERE repository_id = g.repository_id),"
	" 'corrupt', (SELECT pg_catalog.count(*) FROM (SELECT 1 FROM %1$s.fsync_verifications"
	" WHERE repository_id = g.repository_id AND problem IS NOT NULL LIMIT " PROBLEMS_LOOKED_AT ") c)),"
	" 'settings', pg_catalog.json_strip_nulls(pg_catalog.json_build_object("
	" 'include', r.include[1:" PATTERNS_SHOWN "], 'exclude', r.exclude[1:" PATTERNS_SHOWN "],"
	" 'calculate_hashes', r.calculate_hashes,"
	" 'ignore_case', nullif(r.ignore_case, false), 'include_hidden', nullif(r.include_hidden, false),"
	" 'use_ignore_files', nullif(r.use_ignore_files, false),"
	" 'min_size', r.min_size, 'max_size', r.max_size, 'on_missing', nullif(r.on_missing, 'delete'),"
	" 'missing_retention', r.missing_retention, 'on_type_change', nullif(r.on_type_change, 'missing'),"
	" 'on_overwrite', nullif(r.on_overwrite, 'target'),"
	" 'on_excluded', nullif(r.on_excluded, 'remove'),"
	" 'change_feed', nullif(r.change_feed, false), 'debounce_interval', r.debounce_interval,"
	" 'reconciliation_interval', r.reconciliation_interval, 'poll_interval', r.poll_interval)))"
	" ORDER BY g.n), '[]')"
	" FROM given g JOIN %1$s.fsync_repositories r USING (repository_id)"
	" LEFT JOIN kinds k USING (repository_id)"
	" LEFT JOIN LATERAL (SELECT * FROM %1$s.sync_operations WHERE id = g.operation_id LIMIT 1) o ON true"
	" CROSS JOIN LATERAL (SELECT greatest(extract(epoch FROM"
	" pg_catalog.clock_timestamp() - coalesce(g.operation_start, o.start_time))::float8, 0.001) AS seconds) e"
	" LEFT JOIN LATERAL (SELECT files_scanned FROM"
	" (SELECT * FROM %1$s.sync_operations" RUNS_OF("g.repository_id") " LIMIT 1000) of_it"
	" WHERE g.operation_id IS NOT NULL"
	" AND operation_type = coalesce(g.operation_type, o.operation_type) AND status = 'completed'"
	" ORDER BY id DESC LIMIT 1) l ON true"
	" CROSS JOIN LATERAL (SELECT CASE WHEN $3::text <> 'null' THEN"
	" coalesce(($3->>g.repository_id::text)::int8, 0) END AS files) v",
	.nargs = 3,
	.argtypes = {JSONOID, BOOLOID, JSONOID},
};

static SessionPlan problems_plan = {
	.sql = "WITH counted AS MATERIALIZED"
	" (SELECT * FROM %1$s.fsync_problems LIMIT " PROBLEMS_LOOKED_AT ")"
	" SELECT pg_catalog.json_build_object("
	" 'paths', (SELECT pg_catalog.count(*) FROM counted),"
	" 'complete', (SELECT pg_catalog.count(*) < " PROBLEMS_LOOKED_AT " FROM counted),"
	" 'latest', CASE WHEN $1 THEN (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object("
	" 'repository_id', repository_id, 'file_path', file_path, 'problem', problem,"
	" 'message', message, 'first_seen', first_seen, 'last_seen', last_seen,"
	" 'occurrences', occurrences) ORDER BY last_seen DESC), '[]')"
	" FROM (SELECT * FROM counted ORDER BY last_seen DESC LIMIT " PROBLEMS_SHOWN ") p) END)",
	.nargs = 1,
	.argtypes = {BOOLOID},
};

/* A run in the lists of runs. */
#define RUN_AS_JSON \
	"pg_catalog.json_build_object('operation_id', id, 'repository_id', repository_id," \
	" 'operation_type', operation_type, 'reason', reason, 'status', status," \
	" 'start_time', start_time, 'end_time', end_time, 'duration_ms', duration_ms," \
	" 'files_scanned', files_scanned, 'files_added', files_added, 'files_updated', files_updated," \
	" 'files_moved', files_moved, 'files_removed', files_removed, 'bytes_hashed', bytes_hashed," \
	" 'error_message', error_message)"

#define SUMS_AS_JSON \
	" 'files_added', added, 'files_updated', updated, 'files_moved', moved," \
	" 'files_removed', removed, 'bytes_hashed', hashed"

#define SUMS \
	"pg_catalog.sum(files_added) AS added, pg_catalog.sum(files_updated) AS updated," \
	" pg_catalog.sum(files_moved) AS moved, pg_catalog.sum(files_removed) AS removed," \
	" pg_catalog.sum(bytes_hashed) AS hashed"

/* $1: the runs of a repository that are looked at. */
static SessionPlan runs_plan = {
	.sql = "WITH recent AS MATERIALIZED (SELECT o.*"
	" FROM %1$s.fsync_repositories r CROSS JOIN LATERAL"
	" (SELECT * FROM (SELECT id, repository_id, operation_type, reason, status, start_time, end_time,"
	" duration_ms, files_scanned, files_added, files_updated, files_moved, files_removed,"
	" bytes_hashed, error_message"
	" FROM %1$s.sync_operations" RUNS_OF("r.repository_id") " LIMIT $1) looked_at"
	" WHERE start_time > pg_catalog.now() - interval '1 day' OR status = 'running') o)"
	" SELECT pg_catalog.json_build_object("
	" 'since', pg_catalog.now() - interval '1 day',"
	" 'complete', NOT EXISTS (SELECT FROM recent GROUP BY repository_id"
	" HAVING pg_catalog.count(*) >= $1),"
	" 'by_type', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object("
	" 'repository_id', repository_id, 'operation_type', operation_type, 'status', status,"
	" 'runs', runs, 'longest_ms', longest," SUMS_AS_JSON ")"
	" ORDER BY repository_id, operation_type, status), '[]')"
	" FROM (SELECT repository_id, operation_type, status, pg_catalog.count(*) AS runs,"
	" pg_catalog.max(duration_ms) AS longest, " SUMS
	" FROM recent GROUP BY repository_id, operation_type, status) t),"
	" 'by_hour', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object("
	" 'hour', hour, 'runs', runs," SUMS_AS_JSON ") ORDER BY hour), '[]')"
	" FROM (SELECT pg_catalog.date_trunc('hour', start_time) AS hour, pg_catalog.count(*) AS runs, " SUMS
	" FROM recent GROUP BY 1) h),"
	" 'by_minute', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object("
	" 'minute', minute, 'runs', runs," SUMS_AS_JSON ") ORDER BY minute), '[]')"
	" FROM (SELECT pg_catalog.date_trunc('minute', start_time) AS minute, pg_catalog.count(*) AS runs, " SUMS
	" FROM recent WHERE start_time > pg_catalog.now() - interval '1 hour' GROUP BY 1) h),"
	" 'latest', (SELECT coalesce(pg_catalog.json_agg(" RUN_AS_JSON " ORDER BY id DESC), '[]')"
	" FROM (SELECT * FROM recent ORDER BY id DESC LIMIT " RUNS_SHOWN ") l),"
	" 'failed', (SELECT coalesce(pg_catalog.json_agg(" RUN_AS_JSON " ORDER BY id DESC), '[]')"
	" FROM (SELECT * FROM recent WHERE status IN ('failed', 'cancelled')"
	" ORDER BY id DESC LIMIT " RUNS_SHOWN ") f))",
	.nargs = 1,
	.argtypes = {INT4OID},
};

/*
 * What the view fsync_consumers shows, but no further ahead than a limit: a
 * consumer that was forgotten can have a million changes before it.
 */
static SessionPlan consumers_plan = {
	.sql = "SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object("
	" 'name', p.name, 'repository_id', p.repository_id, 'created_at', p.created_at,"
	" 'pending', f.files + c.changes + d.waiting,"
	" 'complete', f.complete AND c.complete AND d.complete,"
	" 'in_flight', d.in_flight, 'oldest', least(c.oldest, d.oldest),"
	" 'lost_changes', p.lost_changes) ORDER BY p.name), '[]')"
	" FROM (SELECT * FROM %1$s.fsync_consumer_positions ORDER BY name LIMIT " CONSUMERS_SHOWN ") p"
	" CROSS JOIN LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE missing_since IS NULL"
	" AND (p.repository_id IS NULL OR repository_id = p.repository_id)) AS files,"
	" pg_catalog.count(*) < " CHANGES_LOOKED_AT " AS complete"
	" FROM (SELECT repository_id, missing_since FROM %1$s.file_records"
	" WHERE id > p.file_id AND id <= p.last_file_id ORDER BY id LIMIT " CHANGES_LOOKED_AT ") r) f"
	" CROSS JOIN LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE"
	" p.repository_id IS NULL OR repository_id = p.repository_id) AS changes,"
	" pg_catalog.min(changed_at) FILTER (WHERE"
	" p.repository_id IS NULL OR repository_id = p.repository_id) AS oldest,"
	" pg_catalog.count(*) < " CHANGES_LOOKED_AT " AS complete"
	" FROM (SELECT repository_id, changed_at FROM %1$s.file_changes"
	" WHERE change_id > p.change_id ORDER BY change_id LIMIT " CHANGES_LOOKED_AT ") r) c"
	" CROSS JOIN LATERAL (SELECT"
	" pg_catalog.count(*) FILTER (WHERE r.visible_at <= pg_catalog.now()) AS waiting,"
	" pg_catalog.count(*) FILTER (WHERE r.visible_at > pg_catalog.now()) AS in_flight,"
	" pg_catalog.min(c.changed_at) AS oldest, pg_catalog.count(*) < " CHANGES_LOOKED_AT " AS complete"
	" FROM (SELECT change_id, visible_at FROM %1$s.fsync_consumer_deliveries"
	" WHERE consumer = p.name ORDER BY change_id LIMIT " CHANGES_LOOKED_AT ") r"
	" LEFT JOIN %1$s.file_changes c USING (change_id)) d",
};

static SessionPlan settings_plan = {
	.sql = "SELECT coalesce(pg_catalog.json_object_agg(name, pg_catalog.json_build_object("
	" 'value', pg_catalog.current_setting(name), 'setting', setting, 'default', boot_val,"
	" 'unit', unit) ORDER BY name), '{}')"
	" FROM pg_catalog.pg_settings WHERE name LIKE 'fsync.%%' AND setting IS DISTINCT FROM boot_val",
};

/* $1: the extension's schema. */
static SessionPlan limits_plan = {
	.sql = "SELECT pg_catalog.json_build_object("
	" 'changes', pg_catalog.json_build_object('used',"
	" (SELECT greatest(reltuples::int8, 0) FROM pg_catalog.pg_class"
	" WHERE relnamespace = $1 AND relname = 'file_changes'),"
	" 'max', nullif(pg_catalog.current_setting('fsync.change_max_rows', true)::int8, 0)),"
	" 'notification_queue', pg_catalog.json_build_object('used', CASE WHEN"
	" pg_catalog.pg_is_in_recovery() THEN 0 ELSE pg_catalog.pg_notification_queue_usage() END,"
	" 'max', 1))",
	.nargs = 1,
	.argtypes = {OIDOID},
};

/* ---------------------------------------------------------------------
 * What fsync_status() and shared memory tell
 * ---------------------------------------------------------------------
 */

/* The rows of fsync_status(), as it is declared in this database. */
static Tuplestorestate *
call_status(const ExtensionObjects *objects, TupleDesc *desc)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	function;
	ReturnSetInfo result = {.type = T_ReturnSetInfo};
	Oid			type = UUIDOID;
	Oid			oid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
									  CStringGetDatum("fsync_status"),
									  PointerGetDatum(buildoidvector(&type, 1)),
									  ObjectIdGetDatum(objects->schema));

	if (!OidIsValid(oid))
		elog(ERROR, "function fsync_status(uuid) is missing");
	result.econtext = CreateStandaloneExprContext();
	result.allowedModes = SFRM_Materialize;
	fmgr_info(oid, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 1, InvalidOid, NULL, (Node *) &result);
	fcinfo->args[0].value = (Datum) 0;
	fcinfo->args[0].isnull = true;
	(void) FunctionCallInvoke(fcinfo);
	*desc = BlessTupleDesc(result.setDesc);
	return result.setResult;
}

static void
put_lag(StringInfo out, const char *name, int64 us)
{
	if (us < 0)
		appendStringInfo(out, ",\"%s\":null", name);
	else
		appendStringInfo(out, ",\"%s\":%.3f", name, us / 1000.0);
}

static void
put_time(StringInfo out, TimestampTz time)
{
	char		text[MAXDATELEN + 1];

	appendStringInfo(out, "\"%s\"", JsonEncodeDateTime(text, TimestampTzGetDatum(time),
													   TIMESTAMPTZOID, NULL));
}

static void
put_counters(StringInfo out, const pg_uuid_t *id)
{
	RepositoryCounters counters = {0};
	bool		counted = counters_get(id, &counters);
	uint64		changes = 0;

	for (int i = 0; i < LAG_BUCKETS; i++)
		changes += counters.lag[i];
	appendStringInfo(out, ",\"counters\":{\"events\":" UINT64_FORMAT ",\"overflows\":" UINT64_FORMAT
					 ",\"inspections\":" UINT64_FORMAT ",\"files_hashed\":" UINT64_FORMAT
					 ",\"bytes_hashed\":" UINT64_FORMAT ",\"files_added\":" UINT64_FORMAT
					 ",\"files_updated\":" UINT64_FORMAT ",\"files_moved\":" UINT64_FORMAT
					 ",\"files_removed\":" UINT64_FORMAT ",\"commits\":" UINT64_FORMAT
					 ",\"errors\":" UINT64_FORMAT ",\"stats_reset\":",
					 counters.events, counters.overflows, counters.inspections,
					 counters.files_hashed, counters.bytes_hashed, counters.files_added,
					 counters.files_updated, counters.files_moved, counters.files_removed,
					 counters.commits, counters.errors);
	if (counted)
		put_time(out, counters.reset);
	else
		appendStringInfoString(out, "null");
	appendStringInfo(out, "},\"lag\":{\"changes\":" UINT64_FORMAT, changes);
	put_lag(out, "p50_ms", lag_percentile(counters.lag, 0.5));
	put_lag(out, "p99_ms", lag_percentile(counters.lag, 0.99));
	put_lag(out, "max_ms", lag_percentile(counters.lag, 1.0));
	appendStringInfoChar(out, '}');
}

static void
put_live(StringInfo out, const pg_uuid_t *id)
{
	RepositoryStatus status;
	bool		live = status_get(id, &status);

	appendStringInfoString(out, ",\"watches\":");
	if (live)
		appendStringInfo(out, INT64_FORMAT, status.watches);
	else
		appendStringInfoString(out, "null");
	appendStringInfoString(out, ",\"reading\":");
	if (live && status.reading[0] != '\0')
	{
		appendStringInfoString(out, "{\"file\":");
		escape_json(out, status.reading);
		appendStringInfo(out, ",\"bytes_done\":" INT64_FORMAT ",\"bytes_total\":" INT64_FORMAT "}",
						 status.reading_done, status.reading_size);
	}
	else
		appendStringInfoString(out, "null");
}

/* What the summary counts. */
typedef struct Summary
{
	int64		repositories;
	int64		watching;
	int64		attention;
} Summary;

static bool
needs_attention(const char *state)
{
	return strcmp(state, "degraded") == 0 || strcmp(state, "unavailable") == 0 ||
		strcmp(state, "stopped") == 0 || strcmp(state, "inactive") == 0;
}

/*
 * Two arrays of JSON: the rows of fsync_status() as they are, and the same with
 * what is known beside them.
 */
static void
put_repositories(const ExtensionObjects *objects, StringInfo plain, StringInfo given,
				 Summary *summary)
{
	TupleDesc	desc;
	Tuplestorestate *store = call_status(objects, &desc);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	const char *separator = "[";
	int			state_column = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), "state") == 0)
			state_column = i + 1;
	}
	memset(summary, 0, sizeof(*summary));
	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		bool		isnull;
		Datum		id = slot_getattr(slot, 1, &isnull);
		const char *state;
		Datum		row = ExecFetchSlotHeapTupleDatum(slot);
		char	   *json = TextDatumGetCString(DirectFunctionCall1(row_to_json, row));

		state = TextDatumGetCString(slot_getattr(slot, state_column, &isnull));
		summary->repositories++;
		summary->watching += strcmp(state, "watching") == 0;
		summary->attention += needs_attention(state);
		appendStringInfo(plain, "%s%s", separator, json);
		appendStringInfo(given, "%s{\"status\":%s", separator, json);
		put_counters(given, DatumGetUUIDP(id));
		put_live(given, DatumGetUUIDP(id));
		appendStringInfoChar(given, '}');
		separator = ",";
	}
	if (summary->repositories == 0)
	{
		appendStringInfoChar(plain, '[');
		appendStringInfoChar(given, '[');
	}
	appendStringInfoChar(plain, ']');
	appendStringInfoChar(given, ']');
	ExecDropSingleTupleTableSlot(slot);
}

/* ---------------------------------------------------------------------
 * The document
 * ---------------------------------------------------------------------
 */

static void
put_section(StringInfo out, const char *name, const ExtensionObjects *objects,
			SessionPlan *plan, Datum *values)
{
	char	   *json = NULL;

	if (session_execute(objects, plan, values, NULL, SPI_OK_SELECT) == 1)
		json = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	appendStringInfo(out, ",\"%s\":%s", name, json != NULL ? json : "null");
}

static void
put_limit(StringInfo out, const char *name, int64 used, int64 max)
{
	appendStringInfo(out, ",\"%s\":{\"used\":" INT64_FORMAT ",\"max\":" INT64_FORMAT "}",
					 name, used, max);
}

static void
put_limits(StringInfo out, const ExtensionObjects *objects)
{
	CapacityUsed	used;
	Datum		schema = ObjectIdGetDatum(objects->schema);

	put_section(out, "limits", objects, &limits_plan, &schema);
	capacity_get(&used);
	out->data[--out->len] = '\0';
	put_limit(out, "repositories", used.repositories, setting_max_repositories);
	put_limit(out, "watches", used.watches, capacity_watches());
	put_limit(out, "inotify_instances", used.trees, capacity_inotify("max_user_instances", 128));
	put_limit(out, "waiting_sessions", used.waiting, used.waiting_max);
	appendStringInfoChar(out, '}');
}

static void
put_head(StringInfo out, const ExtensionObjects *objects, bool names)
{
	appendStringInfoString(out, "{\"generated_at\":");
	put_time(out, GetCurrentTimestamp());
	appendStringInfoString(out, ",\"database\":");
	escape_json(out, shown_path(get_database_name(MyDatabaseId)));
	appendStringInfoString(out, ",\"version\":{\"extension\":");
	escape_json(out, objects->version);
	appendStringInfo(out, ",\"library\":\"%s\",\"server\":\"%s\"}", EXTENSION_VERSION, PG_VERSION);
	appendStringInfo(out, ",\"preloaded\":%s,\"standby\":%s,\"shows_file_names\":%s",
					 requests_available() ? "true" : "false",
					 RecoveryInProgress() ? "true" : "false", names ? "true" : "false");
}

/*
 * In a database without an encoding names are any bytes.  Those that are no UTF-8
 * become a backslash and three octal digits, for who reads JSON reads UTF-8.
 */
static void
make_utf8(StringInfo json)
{
	StringInfoData out;

	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		return;
	initStringInfo(&out);
	for (int i = 0; i < json->len;)
	{
		int			len = encoding_verifymbchar_compat(PG_UTF8, json->data + i, json->len - i);

		if (len > 0)
			appendBinaryStringInfo(&out, json->data + i, len);
		else
			appendStringInfo(&out, "\\\\%03o", (unsigned char) json->data[i]);
		i += Max(len, 1);
	}
	*json = out;
}

/* Whether the caller may know the names of all files. */
static bool
caller_reads_files(const ExtensionObjects *objects)
{
	return pg_class_aclcheck(objects->file_records, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(objects->file_records, GetUserId(), true) != RLS_ENABLED;
}

static void
put_sections(StringInfo out, const ExtensionObjects *objects, const char *given, bool names,
			 int64 repositories)
{
	SessionScope scope;
	StringInfoData verified;
	Datum		values[3];

	report_walks_begin(objects);
	initStringInfo(&verified);
	session_scope_enter(&scope, objects);
	report_walks_advance(objects);
	report_walks_put_verified(&verified);
	values[0] = CStringGetTextDatum(given);
	values[1] = BoolGetDatum(names);
	values[2] = CStringGetTextDatum(verified.data);
	put_section(out, "repositories", objects, &repositories_plan, values);
	put_section(out, "problems", objects, &problems_plan, &values[1]);
	values[2] = Int32GetDatum(Min(Max(RUNS_IN_ALL / Max(repositories, 1), RUNS_AT_LEAST),
								  RUNS_AT_MOST));
	put_section(out, "runs", objects, &runs_plan, &values[2]);
	appendStringInfoString(out, ",\"duplicates\":");
	report_walks_put_duplicates(out, names);
	put_section(out, "consumers", objects, &consumers_plan, NULL);
	put_section(out, "settings", objects, &settings_plan, NULL);
	put_limits(out, objects);
	session_scope_leave(&scope);
}

Datum
fsync_report(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	OwnerTrouble trouble;
	StringInfoData out;
	StringInfoData plain;
	StringInfoData given;
	Summary		summary;
	bool		names;

	functions_find_extension(&objects);
	names = caller_reads_files(&objects);
	initStringInfo(&out);
	initStringInfo(&plain);
	initStringInfo(&given);
	put_repositories(&objects, &plain, &given, &summary);

	put_head(&out, &objects, names);
	appendStringInfo(&out, ",\"summary\":{\"repositories\":" INT64_FORMAT
					 ",\"watching\":" INT64_FORMAT ",\"need_attention\":" INT64_FORMAT "}",
					 summary.repositories, summary.watching, summary.attention);
	if (owner_find_trouble(&objects, &trouble) || owner_find_lack(&objects, &trouble))
		appendStringInfo(&out, ",\"repositories\":%s,\"problems\":null,\"runs\":null,\"duplicates\":null,"
						 "\"consumers\":null,\"settings\":null,\"limits\":null", plain.data);
	else
		put_sections(&out, &objects, given.data, names, summary.repositories);
	appendStringInfoChar(&out, '}');
	make_utf8(&out);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data)));
}
