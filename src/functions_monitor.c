/*-------------------------------------------------------------------------
 *
 * functions_monitor.c
 *		What the views fsync_progress and fsync_stat take from shared memory,
 *		and fsync_stat_reset().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "functions.h"
#include "requests.h"

PG_FUNCTION_INFO_V1(fsync_get_progress);
PG_FUNCTION_INFO_V1(fsync_get_stat);
PG_FUNCTION_INFO_V1(fsync_stat_reset);

#define PROGRESS_COLUMNS	8
#define STAT_COLUMNS		17

static SessionPlan repositories_plan = {
	.sql = "SELECT repository_id FROM %1$s.fsync_repositories"
	" WHERE $1 IS NULL OR repository_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

/* The scan that goes on: its operation, and how far it is.  NULLs: none. */
Datum
fsync_get_progress(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = functions_row_type(fcinfo, PROGRESS_COLUMNS);
	Datum		values[PROGRESS_COLUMNS] = {0};
	bool		nulls[PROGRESS_COLUMNS];
	RepositoryStatus status;
	ExtensionObjects objects;

	functions_find_extension(&objects);
	memset(nulls, true, sizeof(nulls));
	/* Not strict: the planner would take a NULL for the answer, whoever asks. */
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (status_get(PG_GETARG_UUID_P(0), &status))
	{
		bool		reading = status.reading[0] != '\0';

		memset(nulls, 0, sizeof(nulls));
		values[0] = Int64GetDatum(status.operation_id);
		values[1] = Int32GetDatum(status.worker_pid);
		values[2] = Int64GetDatum(status.files_done);
		values[3] = Int64GetDatum(status.bytes_done);
		values[7] = Int64GetDatum(status.unread);
		nulls[0] = nulls[2] = nulls[3] = status.operation_id == 0;
		nulls[4] = nulls[5] = nulls[6] = !reading;
		if (reading)
			values[4] = CStringGetTextDatum(status.reading);
		values[5] = Int64GetDatum(status.reading_done);
		values[6] = Int64GetDatum(status.reading_size);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

static void
set_lag(Datum *values, bool *nulls, int column, int64 us)
{
	nulls[column] = us < 0;
	if (us >= 0)
		values[column] = Float8GetDatum(us / 1000.0);
}

/* The counters of a repository; zeros where nothing was counted. */
Datum
fsync_get_stat(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = functions_row_type(fcinfo, STAT_COLUMNS);
	Datum		values[STAT_COLUMNS] = {0};
	bool		nulls[STAT_COLUMNS] = {false};
	RepositoryCounters counters = {0};
	RepositoryStatus status;
	uint64		changes = 0;
	bool		counted;
	int			column = 0;
	ExtensionObjects objects;

	functions_find_extension(&objects);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	counted = counters_get(PG_GETARG_UUID_P(0), &counters);
	for (int i = 0; i < LAG_BUCKETS; i++)
		changes += counters.lag[i];
	values[column++] = UInt64GetDatum(counters.events);
	values[column++] = UInt64GetDatum(counters.overflows);
	values[column++] = UInt64GetDatum(counters.inspections);
	values[column++] = UInt64GetDatum(counters.files_hashed);
	values[column++] = UInt64GetDatum(counters.bytes_hashed);
	values[column++] = UInt64GetDatum(counters.files_added);
	values[column++] = UInt64GetDatum(counters.files_updated);
	values[column++] = UInt64GetDatum(counters.files_moved);
	values[column++] = UInt64GetDatum(counters.files_removed);
	values[column++] = UInt64GetDatum(counters.commits);
	values[column++] = UInt64GetDatum(counters.errors);
	if (status_get(PG_GETARG_UUID_P(0), &status))
		values[column] = Int64GetDatum(status.pending);
	else
		nulls[column] = true;
	column++;
	values[column++] = UInt64GetDatum(changes);
	set_lag(values, nulls, column++, lag_percentile(counters.lag, 0.5));
	set_lag(values, nulls, column++, lag_percentile(counters.lag, 0.99));
	set_lag(values, nulls, column++, lag_percentile(counters.lag, 1.0));
	nulls[column] = !counted;
	values[column] = TimestampTzGetDatum(counters.reset);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

Datum
fsync_stat_reset(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	Datum		values[1];
	char		nulls[1] = {' '};
	uint64		n;

	functions_find_extension(&objects);
	if (PG_ARGISNULL(0))
		nulls[0] = 'n';
	else
		values[0] = PG_GETARG_DATUM(0);
	session_scope_enter(&scope, &objects);
	n = session_execute(&objects, &repositories_plan, values, nulls, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		id = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
									   &isnull);

		(void) counters_reset(DatumGetUUIDP(id));
	}
	session_scope_leave(&scope);
	if (n == 0 && !PG_ARGISNULL(0))
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	PG_RETURN_VOID();
}
