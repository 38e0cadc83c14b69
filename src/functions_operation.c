/*-------------------------------------------------------------------------
 *
 * functions_operation.c
 *		Functions for whoever runs the server: fsync_pause(), fsync_resume(),
 *		fsync_cancel(), fsync_schedule().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "functions.h"
#include "requests.h"

PG_FUNCTION_INFO_V1(fsync_pause);
PG_FUNCTION_INFO_V1(fsync_resume);
PG_FUNCTION_INFO_V1(fsync_cancel);
PG_FUNCTION_INFO_V1(fsync_schedule);

/* The trigger on the table wakes the worker. */
static SessionPlan pause_plan = {
	.sql = "UPDATE %1$s.fsync_repositories SET paused = $2,"
	" state = CASE WHEN $2 THEN 'paused' ELSE 'starting' END,"
	" state_reason = NULL, state_hint = NULL"
	" WHERE repository_id = $1 AND paused <> $2",
	.nargs = 2,
	.argtypes = {UUIDOID, BOOLOID},
};

static SessionPlan known_plan = {
	.sql = "SELECT active AND database_oid = $2 FROM %1$s.fsync_repositories"
	" WHERE repository_id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, OIDOID},
};

static SessionPlan operation_plan = {
	.sql = "SELECT repository_id, status FROM %1$s.sync_operations WHERE id = $1",
	.nargs = 1,
	.argtypes = {INT8OID},
};

/* ---------------------------------------------------------------------
 * Pause and resume
 * ---------------------------------------------------------------------
 */

static void
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	ExtensionObjects objects;
	SessionScope scope;
	Datum		values[2];
	bool		active = false;
	bool		known;
	bool		isnull;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("repository_id must not be null")));
	functions_require_workers();
	functions_find_extension(&objects);

	session_scope_enter(&scope, &objects);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	known = session_execute(&objects, &known_plan, values, NULL, SPI_OK_SELECT) == 1;
	if (known)
		active = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
											1, &isnull)) && !isnull;
	if (active)
	{
		values[1] = BoolGetDatum(paused);
		(void) session_execute(&objects, &pause_plan, values, NULL, SPI_OK_UPDATE);
	}
	session_scope_leave(&scope);

	if (!known)
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	if (!active)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("repository \"%s\" is not active",
						functions_uuid_text(PG_GETARG_UUID_P(0))),
				 errhint("fsync_status() says more.")));
}

Datum
fsync_pause(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("fsync_pause()");
	set_paused(fcinfo, true);
	PG_RETURN_VOID();
}

Datum
fsync_resume(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("fsync_resume()");
	set_paused(fcinfo, false);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * Cancel
 * ---------------------------------------------------------------------
 */

/* The repository of an operation, and whether it still runs. */
static pg_uuid_t
find_operation(const ExtensionObjects *objects, int64 id, bool *running)
{
	SessionScope scope;
	Datum		values[1];
	pg_uuid_t	repository;
	bool		known;
	bool		isnull;

	values[0] = Int64GetDatum(id);
	session_scope_enter(&scope, objects);
	known = session_execute(objects, &operation_plan, values, NULL, SPI_OK_SELECT) == 1;
	if (known)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		repository = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull));
		*running = strcmp(SPI_getvalue(tuple, desc, 2), "running") == 0;
	}
	session_scope_leave(&scope);
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("operation " INT64_FORMAT " does not exist", id),
				 errhint("sync_operations lists the operations of this database.")));
	return repository;
}

Datum
fsync_cancel(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	pg_uuid_t	repository;
	int64		operation_id;
	bool		running = false;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("operation_id must not be null")));
	functions_require_workers();
	functions_find_extension(&objects);
	operation_id = PG_GETARG_INT64(0);
	repository = find_operation(&objects, operation_id, &running);
	if (!running)
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(request_cancel(&repository, &operation_id) == OUTCOME_DONE &&
				   operation_id != 0);
}

/* ---------------------------------------------------------------------
 * Schedule
 * ---------------------------------------------------------------------
 */

/* Raises the error that says what to do where pg_cron is not in this database. */
static void
refuse_schedule(const char *job_name, const char *schedule, const char *command)
{
	const char *cron_database = GetConfigOption("cron.database_name", true, false);
	const char *database = get_database_name(MyDatabaseId);

	if (cron_database == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_cron is not loaded"),
				 errhint("Install it, add pg_cron to shared_preload_libraries, set cron.database_name = %s and restart the server; then CREATE EXTENSION pg_cron. Or leave the schedule to fsync.reconciliation_interval.",
						 quote_literal_cstr(database))));
	if (strcmp(cron_database, database) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"pg_cron\" does not exist"),
				 errhint("Run CREATE EXTENSION pg_cron first.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("pg_cron is in database \"%s\", not in this one", cron_database),
			 errhint("Run there: SELECT cron.schedule_in_database(%s, %s, %s, %s);",
					 quote_literal_cstr(job_name), quote_literal_cstr(schedule),
					 quote_literal_cstr(command), quote_literal_cstr(database))));
}

/*
 * The job belongs to the caller, and pg_cron decides whether he may have one,
 * so this is not done as the owner of our tables.
 */
Datum
fsync_schedule(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	Oid			cron = get_extension_oid("pg_cron", true);
	Oid			argtypes[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];
	char	   *command;
	int64		job;
	bool		isnull;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("schedule and job_name must not be null")));
	PreventCommandIfReadOnly("fsync_schedule()");
	functions_find_extension(&objects);
	command = psprintf("CALL %s.fsync_reconcile_all()", objects.schema_name);
	if (!OidIsValid(cron))
		refuse_schedule(text_to_cstring(PG_GETARG_TEXT_PP(1)),
						text_to_cstring(PG_GETARG_TEXT_PP(0)), command);

	values[0] = PG_GETARG_DATUM(1);
	values[1] = PG_GETARG_DATUM(0);
	values[2] = CStringGetTextDatum(command);
	SPI_connect();
	if (SPI_execute_with_args("SELECT cron.schedule($1, $2, $3)", 3, argtypes, values,
							  NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "cron.schedule() returned no job");
	job = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
									  &isnull));
	SPI_finish();
	PG_RETURN_INT64(job);
}
