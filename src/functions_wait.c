/*-------------------------------------------------------------------------
 *
 * functions_wait.c
 *		Functions that ask the worker for something and wait for it:
 *		fsync_reconcile(), fsync_reconcile_all(), fsync_verify(), fsync_wait().
 *
 * What the worker commits meanwhile is invisible to the caller's snapshot, so
 * results are read with the latest one.  A function holds its caller's
 * snapshot while it waits, which keeps vacuum from its work; a procedure can
 * do without, by committing first, and so the one for schedules is that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "functions.h"
#include "no_worker.h"
#include "path_check.h"
#include "requests.h"
#include "shown.h"

PG_FUNCTION_INFO_V1(fsync_reconcile);
PG_FUNCTION_INFO_V1(fsync_reconcile_all);
PG_FUNCTION_INFO_V1(fsync_verify);
PG_FUNCTION_INFO_V1(fsync_wait);

/* How often runs that go on side by side are looked at. */
#define POLL_MS		200

/* Of a file from this size on it is worth asking whether it is to be hashed. */
#define LARGE_FILE	(INT64CONST(1024) * 1024 * 1024)

/* A run of one of several repositories. */
typedef struct RepositoryRun
{
	pg_uuid_t	id;
	char	   *root;
	RequestOutcome outcome;
	int64		operation_id;
} RepositoryRun;

/* What became of a run. */
typedef struct RunResult
{
	char	   *status;			/* NULL: its row is gone */
	char	   *error;			/* NULL: none */
} RunResult;

static SessionPlan repositories_plan = {
	.sql = "SELECT repository_id, xmin, paused, watch_root FROM %1$s.fsync_repositories"
	" WHERE CASE WHEN $1 IS NULL THEN active AND database_oid = $2 AND NOT paused"
	" ELSE repository_id = $1 END ORDER BY created_at, repository_id",
	.nargs = 2,
	.argtypes = {UUIDOID, OIDOID},
};

/* Something that is said of repositories, where none is active. */
static SessionPlan untracked_plan = {
	.sql = "SELECT 1 WHERE NOT EXISTS (SELECT FROM %1$s.fsync_repositories"
	" WHERE active AND database_oid = $1)"
	" AND (EXISTS (SELECT FROM %1$s.fsync_repositories)"
	" OR EXISTS (SELECT FROM %1$s.file_records))",
	.nargs = 1,
	.argtypes = {OIDOID},
};

static SessionPlan tracked_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_repositories WHERE repository_id = $1"
	" AND active AND database_oid = $2 AND NOT paused",
	.nargs = 2,
	.argtypes = {UUIDOID, OIDOID},
};

/* ---------------------------------------------------------------------
 * Repositories
 * ---------------------------------------------------------------------
 */

/*
 * The repository, or all that are tracked where id is NULL; an array in the
 * current context.
 */
static RepositoryRun *
load_repositories(const ExtensionObjects *objects, const pg_uuid_t *id, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	SessionScope scope;
	Datum		values[2];
	char		nulls[2] = {' ', ' '};
	RepositoryRun *runs;
	uint64		n;

	if (id != NULL)
		values[0] = UUIDPGetDatum(id);
	else
		nulls[0] = 'n';
	values[1] = ObjectIdGetDatum(MyDatabaseId);

	session_scope_enter(&scope, objects);
	n = session_execute(objects, &repositories_plan, values, nulls, SPI_OK_SELECT);
	runs = MemoryContextAllocZero(context, sizeof(RepositoryRun) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		runs[i].id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull));
		runs[i].root = MemoryContextStrdup(context, SPI_getvalue(tuple, desc, 4));

		/* The worker cannot see it, or not as this transaction does. */
		if (TransactionIdIsCurrentTransactionId(
				DatumGetTransactionId(SPI_getbinval(tuple, desc, 2, &isnull))))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("repository \"%s\" was added or changed in this transaction",
							functions_uuid_text(&runs[i].id)),
					 errhint("Commit before waiting for fsync.")));
		if (DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull)))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("repository \"%s\" is paused",
							functions_uuid_text(&runs[i].id)),
					 errhint("Call fsync_resume() first.")));
	}
	session_scope_leave(&scope);
	if (id != NULL && n == 0)
		functions_unknown_repository(id);
	*count = (int) n;
	return runs;
}

/* Throws for what is neither done nor a matter of time. */
static void
check_outcome(const pg_uuid_t *id, RequestOutcome outcome)
{
	RepositoryStatus status;

	if (outcome == OUTCOME_UNKNOWN)
	{
		bool		known = status_get(id, &status);

		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("repository \"%s\" is not active", functions_uuid_text(id)),
				 known && status.reason[0] != '\0' ?
				 errdetail_internal("%s", status.reason) : 0,
				 errhint("fsync_status() says more.")));
	}
	if (outcome == OUTCOME_IN_VAIN)
	{
		bool		known = status_get(id, &status);

		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("reconciliation of repository \"%s\" cannot go on",
						functions_uuid_text(id)),
				 known && status.reason[0] != '\0' ?
				 errdetail_internal("%s", status.reason) : 0,
				 known && status.hint[0] != '\0' ? errhint("%s", status.hint) :
				 errhint("fsync_status() says more.")));
	}
	if (outcome == OUTCOME_WORKER_GONE)
	{
		const char *reason;
		const char *hint;

		no_worker_explain(&reason, &hint);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no fsync worker is running for this database"),
				 errdetail_internal("%s", reason),
				 errhint("%s", hint)));
	}
}

/* ---------------------------------------------------------------------
 * Runs
 * ---------------------------------------------------------------------
 */

/* How the run stands in the latest snapshot; memory of the current context. */
static RunResult
read_run(const ExtensionObjects *objects, int64 operation_id)
{
	MemoryContext context = CurrentMemoryContext;
	SessionScope scope;
	RunResult	result = {NULL, NULL};
	Oid			argtypes[1] = {INT8OID};
	Datum		values[1];
	char	   *sql = psprintf("SELECT status, error_message FROM %s.sync_operations"
							   " WHERE id = $1", objects->schema_name);

	values[0] = Int64GetDatum(operation_id);
	PushActiveSnapshot(GetLatestSnapshot());
	session_scope_enter(&scope, objects);
	if (SPI_execute_with_args(sql, 1, argtypes, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", sql);
	if (SPI_processed == 1)
	{
		char	   *status = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		char	   *error = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);

		result.status = MemoryContextStrdup(context, status);
		if (error != NULL)
			result.error = MemoryContextStrdup(context, error);
	}
	session_scope_leave(&scope);
	PopActiveSnapshot();
	pfree(sql);
	return result;
}

/* Whether the database refuses what the repository's run needs, and has for long. */
static bool
is_refused(const pg_uuid_t *id)
{
	RepositoryStatus status;

	return status_get(id, &status) && status.runs_refused;
}

/* What the database says; in the current context. */
static const char *
refused_text(const pg_uuid_t *id)
{
	RepositoryStatus status;

	return status_get(id, &status) && status.reason[0] != '\0' ? pstrdup(status.reason) :
		"the database refuses its rows";
}

/*
 * Waits for the end of a run that has begun, or until that is in vain.  When its
 * worker ends before it does, the next one closes the row.
 */
static void
wait_for_end(const ExtensionObjects *objects, RepositoryRun *run)
{
	static uint32 wait_event = 0;
	for (;;)
	{
		RunResult	result = read_run(objects, run->operation_id);

		if (result.status == NULL || strcmp(result.status, "running") != 0)
			return;
		if (is_refused(&run->id))
		{
			run->outcome = OUTCOME_IN_VAIN;
			return;
		}
		InvalidateCatalogSnapshotConditionally();
		requests_check_deadlock(&run->id);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS, wait_event_compat(&wait_event, "FsyncReconcile"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* What is asked for. */
typedef struct RunWish
{
	const VerifyLimits *limits; /* of a verification; NULL: a reconciliation */
	const char *path;			/* ... of a part; NULL: of everything */
	bool		force;
	bool		wait;			/* for its end */
} RunWish;

static void
ask_for_run(RepositoryRun *run, const RunWish *wish, bool wait)
{
	run->outcome = wish->limits != NULL ?
		request_verify(&run->id, wish->limits, wait, &run->operation_id) :
		request_reconcile(&run->id, wish->path, wish->force, wait, &run->operation_id);
}

/*
 * Reconciles or verifies them, and with wait returns when all runs have ended.
 * Several reconciliations are asked for first and waited for then, so that they
 * go on at the same time; verifications, of which nobody is in a hurry, come
 * one after the other.
 */
static void
run_all(const ExtensionObjects *objects, RepositoryRun *runs, int n, const RunWish *wish)
{
	bool		at_once = wish->wait && (n == 1 || wish->limits != NULL);

	/* The snapshot that catalogs were read with would hold vacuum up, too. */
	InvalidateCatalogSnapshotConditionally();
	for (int i = 0; i < n; i++)
		ask_for_run(&runs[i], wish, at_once);
	if (!wish->wait || at_once)
		return;

	for (int i = 0; i < n; i++)
	{
		if (runs[i].outcome == OUTCOME_DONE)
			wait_for_end(objects, &runs[i]);
		else if (runs[i].outcome == OUTCOME_QUEUED)
			ask_for_run(&runs[i], wish, true);
	}
}

/* Puts the rows of the runs into the result, as they are by now. */
static void
put_operations(const ExtensionObjects *objects, const RepositoryRun *runs, int n,
			   Tuplestorestate *store, TupleDesc desc)
{
	SessionScope scope;
	Oid			argtypes[1] = {INT8ARRAYOID};
	Datum		values[1];
	Datum	   *ids = palloc(sizeof(Datum) * Max(n, 1));
	int			n_ids = 0;
	char	   *sql = psprintf("SELECT * FROM %s.sync_operations"
							   " WHERE id = ANY ($1) ORDER BY id", objects->schema_name);

	for (int i = 0; i < n; i++)
	{
		if (runs[i].outcome == OUTCOME_DONE)
			ids[n_ids++] = Int64GetDatum(runs[i].operation_id);
	}
	values[0] = PointerGetDatum(construct_array(ids, n_ids, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	PushActiveSnapshot(GetLatestSnapshot());
	session_scope_enter(&scope, objects);
	if (SPI_execute_with_args(sql, 1, argtypes, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", sql);
	functions_put_rows(store, desc);
	session_scope_leave(&scope);
	PopActiveSnapshot();
}

Datum
fsync_reconcile(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	TupleDesc	desc;
	Tuplestorestate *store = functions_begin_result(fcinfo, &desc);
	RepositoryRun *runs;
	RunWish		wish = {0};
	int			n;

	functions_require_workers();
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("wait and force must not be null")));
	functions_find_extension(&objects);
	wish.wait = PG_GETARG_BOOL(1);
	wish.force = PG_GETARG_BOOL(2);
	if (!PG_ARGISNULL(3))
	{
		functions_require_argument(fcinfo, 0, "repository_id");
		if (wish.force)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("path and force cannot be given together")));
		wish.path = text_to_cstring(PG_GETARG_TEXT_PP(3));
		path_check_inside(wish.path);
	}
	runs = load_repositories(&objects, PG_ARGISNULL(0) ? NULL : PG_GETARG_UUID_P(0), &n);
	run_all(&objects, runs, n, &wish);
	for (int i = 0; i < n; i++)
		check_outcome(&runs[i].id, runs[i].outcome);
	put_operations(&objects, runs, n, store, desc);
	return (Datum) 0;
}

/* Throws if a run failed; the message names the first, the detail all. */
static void
check_runs(const ExtensionObjects *objects, const RepositoryRun *runs, int n)
{
	StringInfoData detail;
	int			failed = 0;
	char	   *first = NULL;

	initStringInfo(&detail);
	for (int i = 0; i < n; i++)
	{
		const char *error = NULL;
		RunResult	result;

		if (runs[i].outcome == OUTCOME_UNKNOWN)
			error = "the repository is not active";
		else if (runs[i].outcome == OUTCOME_IN_VAIN)
			error = refused_text(&runs[i].id);
		else if (runs[i].outcome != OUTCOME_DONE)
			error = "no fsync worker is running for this database";
		else
		{
			/* A row that is gone: the repository was removed meanwhile. */
			result = read_run(objects, runs[i].operation_id);
			if (result.status != NULL && strcmp(result.status, "completed") != 0)
				error = result.error != NULL ? result.error : result.status;
		}
		if (error == NULL)
			continue;
		if (failed++ == 0)
			first = functions_uuid_text(&runs[i].id);
		else
			appendStringInfoChar(&detail, '\n');
		appendStringInfo(&detail, "%s: %s", functions_uuid_text(&runs[i].id), error);
	}
	if (failed == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 failed == 1 ?
			 errmsg("reconciliation of repository \"%s\" failed", first) :
			 errmsg("reconciliation of repository \"%s\" and %d more failed", first,
					failed - 1),
			 errdetail_internal("%s", detail.data)));
}

Datum
fsync_reconcile_all(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	RepositoryRun *runs;
	const RunWish wish = {.wait = true};
	int			n;

	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("fsync_reconcile_all() cannot run inside a transaction block or a function"),
				 errhint("CALL it as a statement of its own, or use fsync_reconcile().")));
	functions_require_workers();
	functions_find_extension(&objects);

	/* This context outlives the commit. */
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	runs = load_repositories(&objects, NULL, &n);
	SPI_commit();
	run_all(&objects, runs, n, &wish);
	check_runs(&objects, runs, n);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * Verification
 * ---------------------------------------------------------------------
 */

/* Whether pg_size_bytes() is to read it: a number, and perhaps a unit. */
static bool
is_size(const char *text)
{
	static const char *const units[] = {"", "b", "bytes", "kb", "mb", "gb", "tb", "pb"};
	size_t		len;

	text += strspn(text, "+-0123456789.eE \t\n");
	len = strcspn(text, " \t\n");
	for (int i = 0; i < (int) lengthof(units); i++)
	{
		if (pg_strncasecmp(text, units[i], len) == 0 && units[i][len] == '\0')
			return true;
	}
	return false;
}

static int64
size_argument(text *argument, const char *name)
{
	int64		size = DatumGetInt64(DirectFunctionCall1(pg_size_bytes,
														 PointerGetDatum(argument)));

	if (size <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be positive", name)));
	return size;
}

/* The interval in milliseconds; a month has 30 days. */
static int64
interval_milliseconds(const Interval *interval)
{
	double		ms = interval->time / 1000.0 +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * SECS_PER_DAY * 1000.0;

	return (int64) Max(Min(ms, 1e15), -1);
}

static void
budget_argument(text *argument, VerifyLimits *limits)
{
	char	   *budget = text_to_cstring(argument);
	Datum		interval;

	if (is_size(budget))
	{
		limits->bytes = size_argument(argument, "budget");
		return;
	}
	interval = DirectFunctionCall3(interval_in, CStringGetDatum(budget),
								   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	limits->ms = interval_milliseconds(DatumGetIntervalP(interval));
	if (limits->ms <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be positive", "budget")));
}

Datum
fsync_verify(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	TupleDesc	desc;
	Tuplestorestate *store = functions_begin_result(fcinfo, &desc);
	RepositoryRun *runs;
	VerifyLimits limits = {0};
	RunWish		wish = {.limits = &limits};
	int			n;

	functions_require_workers();
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("wait must not be null")));
	if (!PG_ARGISNULL(1))
		limits.rate = size_argument(PG_GETARG_TEXT_PP(1), "rate");
	if (!PG_ARGISNULL(2))
		budget_argument(PG_GETARG_TEXT_PP(2), &limits);
	wish.wait = PG_GETARG_BOOL(3);
	functions_find_extension(&objects);
	runs = load_repositories(&objects, PG_ARGISNULL(0) ? NULL : PG_GETARG_UUID_P(0), &n);
	run_all(&objects, runs, n, &wish);
	for (int i = 0; i < n; i++)
		check_outcome(&runs[i].id, runs[i].outcome);
	put_operations(&objects, runs, n, store, desc);
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * Barrier
 * ---------------------------------------------------------------------
 */

int64
functions_timeout_ms(const Interval *timeout)
{
	int64		ms = interval_milliseconds(timeout);

	if (ms < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return ms;
}

/*
 * Nothing is tracked here.  That is well in a database that knows of no file;
 * but rows that came by replication, or in a dump, nobody compares with a disk.
 */
static void
require_no_rows(const ExtensionObjects *objects)
{
	SessionScope scope;
	Datum		values[1] = {ObjectIdGetDatum(MyDatabaseId)};
	bool		rows;

	session_scope_enter(&scope, objects);
	rows = session_execute(objects, &untracked_plan, values, NULL, SPI_OK_SELECT) > 0;
	session_scope_leave(&scope);
	if (rows)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no repository is active in this database"),
				 errdetail("The rows of file_records are not compared with any directory here."),
				 errhint("Where they were replicated, wait in the database that they come from; where they were restored, call fsync_activate_repository().")));
}

/* Whether the repository is still to be tracked, by the latest snapshot. */
static bool
is_tracked(const ExtensionObjects *objects, const pg_uuid_t *id)
{
	SessionScope scope;
	Datum		values[2] = {UUIDPGetDatum(id), ObjectIdGetDatum(MyDatabaseId)};
	bool		tracked;

	PushActiveSnapshot(GetLatestSnapshot());
	session_scope_enter(&scope, objects);
	tracked = session_execute(objects, &tracked_plan, values, NULL, SPI_OK_SELECT) > 0;
	session_scope_leave(&scope);
	PopActiveSnapshot();
	return tracked;
}

static char *
size_text(int64 bytes)
{
	return text_to_cstring(DatumGetTextPP(DirectFunctionCall1(pg_size_pretty,
															  Int64GetDatum(bytes))));
}

/* What the barrier of the repository was still waiting for. */
static void
warn_of_outstanding(const RepositoryRun *run, const RepositoryStatus *status)
{
	StringInfoData detail;
	bool		reads = status->reading[0] != '\0';
	const char *hint = status->hint[0] != '\0' ? status->hint : NULL;

	initStringInfo(&detail);
	appendStringInfo(&detail, "Its state is \"%s\"", status->state);
	if (status->reason[0] != '\0')
		appendStringInfo(&detail, ": %s", status->reason);
	appendStringInfoChar(&detail, '.');
	if (status->operation_id != 0)
		appendStringInfo(&detail, " Operation " INT64_FORMAT " has done " INT64_FORMAT " files.",
						 status->operation_id, status->files_done);
	if (status->pending > 0)
		appendStringInfo(&detail, " Changes that wait, or files that are read: " INT64_FORMAT ".",
						 status->pending);
	if (reads)
		appendStringInfo(&detail, " Of file \"%s\", %s of %s are read.", status->reading,
						 size_text(status->reading_done), size_text(status->reading_size));
	if (hint == NULL && reads && status->reading_size >= LARGE_FILE)
		hint = "Files that are not worth the time can be left out, by max_size or exclude.";
	ereport(WARNING_CLIENT_ONLY,
			(errmsg("changes of repository \"%s\" are outstanding", shown_path(run->root)),
			 errdetail_internal("%s", detail.data),
			 hint != NULL ? errhint("%s", hint) : 0));
}

/*
 * Whether the repository has passed the barrier, or is none of its business
 * any more.  If not, a warning says why; to the client only, as applications
 * may ask every second.
 */
static bool
has_passed(const ExtensionObjects *objects, const RepositoryRun *run, uint64 ticket)
{
	RepositoryStatus status;
	const char *reason;
	const char *hint;

	if (!status_get(&run->id, &status))
	{
		if (!is_tracked(objects, &run->id))
			return true;
		no_worker_explain(&reason, &hint);
		ereport(WARNING_CLIENT_ONLY,
				(errmsg("repository \"%s\" is not watched", shown_path(run->root)),
				 errdetail("No fsync worker takes care of it: %s.", reason),
				 errhint("%s", hint)));
		return false;
	}
	if (status.flushed >= ticket)
		return true;
	if (status.given_up >= ticket)
		ereport(WARNING_CLIENT_ONLY,
				(errmsg("repository \"%s\" is %s and was not waited for", shown_path(run->root),
						status.state),
				 status.reason[0] != '\0' ? errdetail("%s.", status.reason) : 0,
				 status.hint[0] != '\0' ? errhint("%s", status.hint) : 0));
	else
		warn_of_outstanding(run, &status);
	return false;
}

Datum
fsync_wait(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	RepositoryRun *runs;
	RequestOutcome outcome;
	uint64		ticket;
	int64		timeout_ms;
	bool		all = PG_ARGISNULL(0);
	bool		passed = true;
	int			n;

	functions_require_workers();
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("timeout must not be null")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("fsync_wait() is of no use at this transaction isolation level"),
				 errdetail("This transaction would go on seeing file_records as it was."),
				 errhint("Call it under READ COMMITTED, or before the transaction.")));
	timeout_ms = functions_timeout_ms(PG_GETARG_INTERVAL_P(1));

	functions_find_extension(&objects);
	runs = load_repositories(&objects, all ? NULL : PG_GETARG_UUID_P(0), &n);
	if (n == 0)
	{
		require_no_rows(&objects);
		PG_RETURN_BOOL(true);
	}
	outcome = request_flush(all ? NULL : &runs[0].id, timeout_ms, &ticket);
	if (outcome == OUTCOME_DONE)
		PG_RETURN_BOOL(true);
	if (!all && outcome == OUTCOME_UNKNOWN)
		check_outcome(&runs[0].id, outcome);
	for (int i = 0; i < n; i++)
		passed &= has_passed(&objects, &runs[i], ticket);
	PG_RETURN_BOOL(passed);
}
