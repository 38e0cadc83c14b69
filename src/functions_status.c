/*-------------------------------------------------------------------------
 *
 * functions_status.c
 *		fsync_status() and fsync_sync_history().
 *
 * The tables know what outlives the worker, shared memory what it is doing
 * now; fsync_status() is one query on the former with the latter's columns
 * filled in, and rows are counted only where totals.c does not know how many
 * there are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "compat.h"
#include "functions.h"
#include "no_worker.h"
#include "owner.h"
#include "registrations.h"
#include "requests.h"
#include "totals.h"

PG_FUNCTION_INFO_V1(fsync_status);
PG_FUNCTION_INFO_V1(fsync_sync_history);

/* Columns of fsync_status(); those not named here come from the query. */
enum
{
	COL_REPOSITORY_ID = 0,
	COL_PATH = 1,
	COL_STATE = 2,
	COL_REASON = 3,
	COL_HINT = 4,
	COL_TOTAL_FILES = 5,
	COL_TOTAL_BYTES = 6,
	COL_IS_WATCHING = 7,
	COL_DIRECTORIES_WATCHED = 8,
	COL_PENDING_CHANGES = 9,
	COL_PROBLEMS = 10,
	COL_OPERATION_ID = 11,
	COL_OPERATION_TYPE = 12,
	COL_OPERATION_START = 13,
	COL_FILES_DONE = 14,
	COL_BYTES_DONE = 15,
	COL_LAST_EVENT = 27,
	COL_WORKER_PID = 29,
	COL_TREE_PID = 30,
	COL_SANDBOX = 31,
	STATUS_COLUMNS = 32,
	/* of the query only */
	COL_ACTIVE = STATUS_COLUMNS,
	COL_PAUSED,
	COL_WATCH_ROOT,
	QUERY_COLUMNS
};

/* NULL where shared memory has the answer. */
static SessionPlan status_plan = {
	.sql = "SELECT r.repository_id, r.path, r.state, r.state_reason, r.state_hint,"
	" NULL, NULL, NULL, NULL, NULL, NULL,"
	" NULL, NULL, NULL, NULL, NULL,"
	" l.id, l.operation_type, l.start_time, l.end_time, l.status,"
	" l.files_scanned, l.files_added, l.files_updated, l.files_moved,"
	" l.files_removed, l.error_message,"
	" NULL, r.last_complete_scan, NULL, NULL, NULL,"
	" r.active AND r.database_oid = $2, r.paused, r.watch_root"
	" FROM %1$s.fsync_repositories r"
	" LEFT JOIN LATERAL (SELECT * FROM %1$s.sync_operations"
	" WHERE repository_id = r.repository_id AND status <> 'running'"
	" ORDER BY id DESC LIMIT 1) l ON true"
	" WHERE $1 IS NULL OR r.repository_id = $1"
	" ORDER BY r.created_at, r.repository_id",
	.nargs = 2,
	.argtypes = {UUIDOID, OIDOID},
};

/* Where shared memory has no answer to these either. */
static SessionPlan totals_plan = {
	.sql = "SELECT count(*), coalesce(sum(file_size), 0) FROM %1$s.file_records"
	" WHERE repository_id = $1 AND missing_since IS NULL",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan problems_plan = {
	.sql = "SELECT count(*) FROM %1$s.fsync_problems WHERE repository_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan operation_plan = {
	.sql = "SELECT operation_type, start_time FROM %1$s.sync_operations WHERE id = $1",
	.nargs = 1,
	.argtypes = {INT8OID},
};

static SessionPlan known_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_repositories WHERE repository_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan history_plan = {
	.sql = "SELECT * FROM %1$s.sync_operations WHERE repository_id = $1"
	" ORDER BY id DESC LIMIT $2",
	.nargs = 2,
	.argtypes = {UUIDOID, INT4OID},
};

static void
set_column(Datum *values, bool *nulls, int column, Datum value)
{
	values[column] = value;
	nulls[column] = false;
}

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text[0] == '\0';
	if (!nulls[column])
		values[column] = CStringGetTextDatum(text);
}

/* Nothing is done for the repository, whatever is running. */
static void
set_state_without_worker(Datum *values, bool *nulls, const char *state, const char *reason,
						 const char *hint)
{
	set_text(values, nulls, COL_STATE, state);
	set_text(values, nulls, COL_REASON, reason);
	set_text(values, nulls, COL_HINT, hint);
	set_column(values, nulls, COL_IS_WATCHING, BoolGetDatum(false));
}

/* What is true of a repository that no worker says anything about. */
static void
set_columns_without_worker(Datum *values, bool *nulls)
{
	const char *reason = "fsync_pause() was called";
	const char *hint = "Call fsync_resume() to track the directory again.";
	const bool	paused = DatumGetBool(values[COL_PAUSED]);

	if (!paused)
		no_worker_explain(&reason, &hint);
	set_state_without_worker(values, nulls, paused ? "paused" : "stopped", reason, hint);
}

/* Column of the one row that was selected, which outlives the statement. */
static Datum
selected(int column, int typlen, bool typbyval)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column,
									  &isnull);

	return datumCopy(value, typbyval, typlen);
}

/* A row that says so by itself may have been left by a worker that was killed. */
static void
set_operation(const ExtensionObjects *objects, Datum *values, bool *nulls,
			  const RepositoryStatus *status)
{
	Datum		id = Int64GetDatum(status->operation_id);

	set_column(values, nulls, COL_OPERATION_ID, id);
	set_column(values, nulls, COL_FILES_DONE, Int64GetDatum(status->files_done));
	set_column(values, nulls, COL_BYTES_DONE, Int64GetDatum(status->bytes_done));
	if (session_execute(objects, &operation_plan, &id, NULL, SPI_OK_SELECT) == 0)
		return;
	set_column(values, nulls, COL_OPERATION_TYPE, selected(1, -1, false));
	set_column(values, nulls, COL_OPERATION_START, selected(2, sizeof(TimestampTz), true));
}

static void
set_columns_of_worker(const ExtensionObjects *objects, Datum *values, bool *nulls,
					  const RepositoryStatus *status)
{
	set_text(values, nulls, COL_STATE, status->state);
	set_text(values, nulls, COL_REASON, status->reason);
	set_text(values, nulls, COL_HINT, status->hint);
	set_column(values, nulls, COL_IS_WATCHING, BoolGetDatum(status->is_watching));
	set_column(values, nulls, COL_DIRECTORIES_WATCHED, Int64GetDatum(status->directories));
	set_column(values, nulls, COL_PENDING_CHANGES, Int64GetDatum(status->pending));
	set_column(values, nulls, COL_WORKER_PID, Int32GetDatum(status->worker_pid));
	if (status->tree_pid != 0)
		set_column(values, nulls, COL_TREE_PID, Int32GetDatum(status->tree_pid));
	set_text(values, nulls, COL_SANDBOX, status->sandbox);
	if (status->last_event != 0)
		set_column(values, nulls, COL_LAST_EVENT, TimestampTzGetDatum(status->last_event));
	if (status->operation_id != 0)
		set_operation(objects, values, nulls, status);
}

/*
 * The tables belong to somebody as whom no statement may be run, or who may not
 * read them: then all are degraded for this reason, and what they are is read
 * below SQL.
 */
static uint64
put_trouble_rows(const ExtensionObjects *objects, const OwnerTrouble *trouble,
				 const pg_uuid_t *id, Tuplestorestate *store, TupleDesc desc)
{
	Relation	rel = table_open(objects->repositories, AccessShareLock);
	TupleDesc	rel_desc = RelationGetDescr(rel);
	const AttrNumber id_column = get_attnum(objects->repositories, "repository_id");
	const AttrNumber path_column = get_attnum(objects->repositories, "path");
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	uint64		n = 0;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[STATUS_COLUMNS];
		bool		nulls[STATUS_COLUMNS];

		memset(nulls, true, sizeof(nulls));
		values[COL_REPOSITORY_ID] = heap_getattr(tuple, id_column, rel_desc,
												 &nulls[COL_REPOSITORY_ID]);
		values[COL_PATH] = heap_getattr(tuple, path_column, rel_desc, &nulls[COL_PATH]);
		if (id != NULL &&
			memcmp(DatumGetUUIDP(values[COL_REPOSITORY_ID]), id, sizeof(*id)) != 0)
			continue;
		set_state_without_worker(values, nulls, "degraded", trouble->reason, trouble->hint);
		tuplestore_putvalues(store, desc, values, nulls);
		n++;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return n;
}

static void
set_totals(const ExtensionObjects *objects, Datum *values, bool *nulls)
{
	const pg_uuid_t *id = DatumGetUUIDP(values[COL_REPOSITORY_ID]);
	Totals		totals;
	int64		problems;
	uint64		writes;

	if (totals_get(objects->file_records, id, &totals))
	{
		set_column(values, nulls, COL_TOTAL_FILES, Int64GetDatum(totals.files));
		set_column(values, nulls, COL_TOTAL_BYTES, NumericGetDatum(int64_to_numeric_compat(totals.bytes)));
	}
	else
	{
		(void) session_execute(objects, &totals_plan, &values[COL_REPOSITORY_ID], NULL,
							   SPI_OK_SELECT);
		set_column(values, nulls, COL_TOTAL_FILES, selected(1, sizeof(int64), true));
		set_column(values, nulls, COL_TOTAL_BYTES, selected(2, -1, false));
	}
	if (!totals_get_problems(objects->problems, id, &problems, &writes))
	{
		(void) session_execute(objects, &problems_plan, &values[COL_REPOSITORY_ID], NULL,
							   SPI_OK_SELECT);
		problems = DatumGetInt64(selected(1, sizeof(int64), true));
		totals_put_problems(id, problems, writes);
	}
	set_column(values, nulls, COL_PROBLEMS, Int64GetDatum(problems));
}

/*
 * What nobody may watch, or shall not for now, comes before what the worker said
 * last, which may not have seen the table yet.
 */
static void
put_status_row(const ExtensionObjects *objects, List *registrations,
			   Tuplestorestate *store, TupleDesc desc, HeapTuple tuple,
			   TupleDesc tuple_desc)
{
	Datum		values[QUERY_COLUMNS];
	bool		nulls[QUERY_COLUMNS];
	RepositoryStatus status;
	RegistrationFit fit = REGISTRATION_MISSING;

	heap_deform_tuple(tuple, tuple_desc, values, nulls);
	if (!nulls[COL_ACTIVE] && DatumGetBool(values[COL_ACTIVE]))
		fit = registration_fit(registrations_find(registrations,
												  DatumGetUUIDP(values[COL_REPOSITORY_ID])),
							   TextDatumGetCString(values[COL_WATCH_ROOT]));
	if (fit == REGISTRATION_MISSING)
		set_state_without_worker(values, nulls, "inactive", REGISTRATION_MISSING_REASON,
								 REGISTRATION_MISSING_HINT);
	else if (fit == REGISTRATION_OTHER_ROOT)
		set_state_without_worker(values, nulls, "degraded", REGISTRATION_OTHER_ROOT_REASON,
								 REGISTRATION_OTHER_ROOT_HINT);
	else if (!DatumGetBool(values[COL_PAUSED]) &&
			 status_get(DatumGetUUIDP(values[COL_REPOSITORY_ID]), &status))
		set_columns_of_worker(objects, values, nulls, &status);
	else
		set_columns_without_worker(values, nulls);
	set_totals(objects, values, nulls);
	tuplestore_putvalues(store, desc, values, nulls);
}

static uint64
put_status_rows(const ExtensionObjects *objects, Datum *values, const char *nulls,
				Tuplestorestate *store, TupleDesc desc)
{
	SessionScope scope;
	List	   *registrations = registrations_load(objects);
	SPITupleTable *rows;
	uint64		n;

	session_scope_enter(&scope, objects);
	n = session_execute(objects, &status_plan, values, nulls, SPI_OK_SELECT);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
		put_status_row(objects, registrations, store, desc, rows->vals[i], rows->tupdesc);
	session_scope_leave(&scope);
	return n;
}

Datum
fsync_status(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	OwnerTrouble trouble;
	TupleDesc	desc;
	Tuplestorestate *store = functions_begin_result(fcinfo, &desc);
	Datum		values[2];
	char		nulls[2] = {' ', ' '};
	uint64		n;

	functions_find_extension(&objects);
	functions_require_columns(desc, STATUS_COLUMNS);
	if (requests_available())
		requests_nudge();

	values[0] = PG_GETARG_DATUM(0);
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	if (PG_ARGISNULL(0))
		nulls[0] = 'n';
	if (owner_find_trouble(&objects, &trouble) || owner_find_lack(&objects, &trouble))
		n = put_trouble_rows(&objects, &trouble, PG_ARGISNULL(0) ? NULL : PG_GETARG_UUID_P(0),
							 store, desc);
	else
		n = put_status_rows(&objects, values, nulls, store, desc);

	if (n == 0 && !PG_ARGISNULL(0))
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	return (Datum) 0;
}

Datum
fsync_sync_history(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	TupleDesc	desc;
	Tuplestorestate *store = functions_begin_result(fcinfo, &desc);
	Datum		values[2];
	bool		known;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("repository_id must not be null")));
	if (PG_ARGISNULL(1) || PG_GETARG_INT32(1) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be zero or more")));
	functions_find_extension(&objects);

	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	session_scope_enter(&scope, &objects);
	known = session_execute(&objects, &known_plan, values, NULL, SPI_OK_SELECT) == 1;
	(void) session_execute(&objects, &history_plan, values, NULL, SPI_OK_SELECT);
	functions_put_rows(store, desc);
	session_scope_leave(&scope);

	if (!known)
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	return (Datum) 0;
}
