/*-------------------------------------------------------------------------
 *
 * apply.c
 *		Observations become rows: one message, one transaction.
 *
 * A message is first written in a few statements.  When the database refuses
 * one of them, everything is rolled back and written again with care: in
 * subtransactions, halving what was refused until single rows are left that
 * cannot be written.  Those become problems and the rest is kept.  So the
 * usual case pays nothing for the unusual one.
 *
 * When many rows in a row are refused for the same reason and none is
 * accepted, it is no bad row but a fault of the whole: the error is thrown, and
 * the repository is degraded until it is mended.  Foreign keys are excepted:
 * an application may well reference every file of a directory that was
 * removed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "apply_changes.h"
#include "apply_corrupt.h"
#include "apply_problems.h"

/*
 * Refusals with one SQLSTATE, and nothing accepted, that make it a fault of
 * the whole.  What looks like a verdict on the data (a constraint, a value, a
 * RAISE EXCEPTION) is given more rope than, say, a function that is missing.
 */
#define SAME_DATA_ERRORS	100
#define SAME_OTHER_ERRORS	2

typedef struct Refusal
{
	ApplyItem  *item;
	uint8		problem;
	ProtoStr	message;
} Refusal;

/* A run with care. */
typedef struct CarefulRun
{
	ApplyRun	run;
	int			accepted;		/* items */
	List	   *refusals;
	bool		same_error;		/* all refusals so far had the SQLSTATE */
	int			sqlerrcode;		/* of the first */
} CarefulRun;

/* The strategies are read with it, so that a change of them counts at once. */
static SessionPlan lock_repository_plan = {
	.sql = "SELECT on_missing = 'mark',"
	" on_type_change = 'mark' OR on_type_change = 'missing' AND on_missing = 'mark',"
	" change_feed FROM %1$s.fsync_repositories WHERE repository_id = $1"
	" AND created_at = coalesce($2, created_at) FOR KEY SHARE",
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID},
};

/* The order makes it the small index on just these rows. */
static SessionPlan any_missing_plan = {
	.sql = "SELECT 1 FROM %1$s.file_records"
	" WHERE repository_id = $1 AND missing_since IS NOT NULL"
	" ORDER BY missing_since LIMIT 1",
	.nargs = 1,
	.argtypes = {UUIDOID},
	.index_only = true,
};


static bool
is_foreign_key_error(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION ||
		sqlerrcode == ERRCODE_RESTRICT_VIOLATION;
}

/*
 * Refused because of another row: any number of files may be, for ever, while
 * all others are taken.
 */
static bool
is_conflict(int sqlerrcode)
{
	return is_foreign_key_error(sqlerrcode) ||
		sqlerrcode == ERRCODE_UNIQUE_VIOLATION ||
		sqlerrcode == ERRCODE_EXCLUSION_VIOLATION;
}

static bool
is_data_error(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION ||
		category == ERRCODE_DATA_EXCEPTION ||
		category == ERRCODE_PLPGSQL_ERROR ||
		category == ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION ||
		sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE;
}

/* ---------------------------------------------------------------------
 * With care
 * ---------------------------------------------------------------------
 */

/*
 * Runs the phase on these items in a subtransaction.  NULL if that went well,
 * else the error, in the current context; errors that no row is to blame for
 * are thrown.
 */
static ErrorData *
try_phase(ApplyRun *run, ApplyPhase phase, ApplyItem **items, int n)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ApplyResult result = *run->result;
	int			n_upserts = run->plan->upserts.n;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		phase(run, items, n);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();

	if (error != NULL)
	{
		*run->result = result;
		run->plan->upserts.n = n_upserts;
		if (session_error_blames_no_row(run->objects, error->sqlerrcode))
			ReThrowError(error);
	}
	return error;
}

/*
 * Nothing is to be gained by care.  A lack of privilege is not such an error:
 * whose it is, the owner's or that of a user's trigger, is seen then.
 */
static bool
care_is_in_vain(int sqlerrcode)
{
	return session_error_is_transient(sqlerrcode) &&
		sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE;
}

static void
refuse(CarefulRun *careful, ApplyItem *item, const ErrorData *error)
{
	Refusal    *refusal = palloc(sizeof(Refusal));
	const char *message = error->message != NULL ? error->message : "";

	refusal->item = item;
	refusal->problem = is_foreign_key_error(error->sqlerrcode) ?
		PROTO_PROBLEM_REFERENCED : PROTO_PROBLEM_REJECTED;
	refusal->message.data = pstrdup(message);
	refusal->message.len = strlen(message);

	if (careful->refusals == NIL)
		careful->sqlerrcode = error->sqlerrcode;
	else if (careful->sqlerrcode != error->sqlerrcode)
		careful->same_error = false;
	careful->refusals = lappend(careful->refusals, refusal);
}

/* Throws the error if the refusals so far are a fault of the whole. */
static void
check_fault_of_whole(const CarefulRun *careful, ErrorData *error)
{
	int			limit = is_data_error(careful->sqlerrcode) ? SAME_DATA_ERRORS :
		SAME_OTHER_ERRORS;

	if (careful->accepted == 0 && careful->same_error &&
		!is_conflict(careful->sqlerrcode) &&
		list_length(careful->refusals) >= limit)
		ReThrowError(error);
}

/*
 * A move that was refused, because another table references the row of the
 * file that was overwritten, or because a trigger does not like the new name.
 * The row must not stay behind under a name that is gone, so the move becomes
 * a removal and an addition, and each of these stands for itself.
 */
static void
replace_move(CarefulRun *careful, ApplyItem *item)
{
	ApplyItem  *removal = palloc0(sizeof(ApplyItem));
	ErrorData  *error;

	removal->obs = item->obs;
	removal->obs.op = PROTO_OP_REMOVED;
	removal->obs.path = item->obs.old_path;
	error = try_phase(&careful->run, rows_remove, &removal, 1);
	if (error != NULL)
	{
		refuse(careful, removal, error);
		FreeErrorData(error);
	}
	if (!item->short_lived)
		careful->run.plan->upserts.items[careful->run.plan->upserts.n++] = item;
}

/* Where to cut the items in two without cutting a chain; n: nowhere. */
static int
middle(ApplyItem **items, int n)
{
	int			after = n / 2;
	int			before = n / 2;

	while (after < n && after > 0 && items[after]->chain == items[after - 1]->chain)
		after++;
	if (after < n)
		return after;
	while (before > 0 && items[before]->chain == items[before - 1]->chain)
		before--;
	return before > 0 ? before : n;
}

static void
careful_phase(CarefulRun *careful, ApplyPhase phase, ApplyItem **items, int n)
{
	ErrorData  *error;
	int			cut;

	if (n == 0)
		return;
	CHECK_FOR_INTERRUPTS();
	error = try_phase(&careful->run, phase, items, n);
	if (error == NULL)
	{
		careful->accepted += n;
		return;
	}

	cut = n > 1 ? middle(items, n) : n;
	if (cut < n)
	{
		FreeErrorData(error);
		careful_phase(careful, phase, items, cut);
		careful_phase(careful, phase, items + cut, n - cut);
		return;
	}

	if (phase == rows_move)
	{
		for (int i = 0; i < n; i++)
			replace_move(careful, items[i]);
		FreeErrorData(error);
		return;
	}
	for (int i = 0; i < n; i++)
		refuse(careful, items[i], error);
	check_fault_of_whole(careful, error);
	FreeErrorData(error);
}

/* ---------------------------------------------------------------------
 * A message
 * ---------------------------------------------------------------------
 */

static void
write_with_care(ApplyRun *run)
{
	CarefulRun	careful = {.run = *run,.same_error = true};
	ApplyPlan  *plan = run->plan;
	ListCell   *lc;

	careful_phase(&careful, rows_purge, plan->purges.items, plan->purges.n);
	if (plan->purges.n > 0)
		problems_clear_purged(run->objects, run->repository_id);
	careful_phase(&careful, rows_remove, plan->removals.items, plan->removals.n);
	careful_phase(&careful, rows_move, plan->moves.items, plan->moves.n);
	careful_phase(&careful, rows_remove, plan->late_removals.items,
				  plan->late_removals.n);
	careful_phase(&careful, rows_write, plan->upserts.items, plan->upserts.n);

	foreach(lc, careful.refusals)
	{
		Refusal    *refusal = lfirst(lc);

		problems_record(run->objects, run->repository_id, refusal->item->obs.path,
						refusal->problem, refusal->message);
		run->result->problems_changed = true;
		if (refusal->item->obs.op != PROTO_OP_REMOVED)
			run->refused_files = lappend(run->refused_files, &refusal->item->obs.path);
	}
	run->refused = list_length(careful.refusals);
}

static void
write_at_once(ApplyRun *run)
{
	ApplyPlan  *plan = run->plan;

	if (plan->purges.n > 0)
	{
		rows_purge(run, plan->purges.items, plan->purges.n);
		problems_clear_purged(run->objects, run->repository_id);
	}
	if (plan->removals.n > 0)
		rows_remove(run, plan->removals.items, plan->removals.n);
	if (plan->moves.n > 0)
		rows_move(run, plan->moves.items, plan->moves.n);
	if (plan->late_removals.n > 0)
		rows_remove(run, plan->late_removals.items, plan->late_removals.n);
	if (plan->upserts.n > 0)
		rows_write(run, plan->upserts.items, plan->upserts.n);
}

static void
write_problems(ApplyRun *run)
{
	ApplyPlan  *plan = run->plan;

	if (problems_clear(run->objects, run->repository_id, plan))
		run->result->problems_changed = true;
	problems_record_all(run->objects, run->repository_id, plan->problems.items,
						plan->problems.n);
	if (plan->problems.n > 0)
		run->result->problems_changed = true;
}

/*
 * Locks file_records as writing does.  Reading it first would lock its indexes,
 * and end in a deadlock with a REINDEX that has locked the table already.
 */
static void
lock_for_rows(const ApplyRun *run)
{
	const ApplyPlan *plan = run->plan;

	if (plan->purges.n > 0 || plan->removals.n > 0 || plan->moves.n > 0 ||
		plan->late_removals.n > 0 || plan->upserts.n > 0)
		LockRelationOid(run->objects->file_records, RowExclusiveLock);
}

/*
 * Locks the repository's row, then the table, and reads what rows depend on;
 * false: the repository is gone.
 */
static bool
look_at_repository(ApplyRun *run)
{
	Datum		values[2];
	char		nulls[2] = {' ', run->created_at == 0 ? 'n' : ' '};
	bool		isnull;

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = TimestampTzGetDatum(run->created_at);
	if (session_execute(run->objects, &lock_repository_plan, values, nulls,
						SPI_OK_SELECT) != 1)
		return false;
	run->mark_missing = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
												   SPI_tuptable->tupdesc, 1, &isnull));
	run->mark_type_change = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc, 2, &isnull));
	run->change_feed = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 3, &isnull));
	lock_for_rows(run);
	run->has_missing = session_execute(run->objects, &any_missing_plan, values, NULL,
									   SPI_OK_SELECT) == 1;
	run->has_corrupt = corrupt_any(run->objects, run->repository_id);
	return true;
}

/* One transaction; false when the repository or the extension is gone. */
static bool
write_message(ApplyRun *run, bool with_care)
{
	MemoryContext context = CurrentMemoryContext;
	ChangedRows *before = NULL;
	bool		found;

	MemSet(run->result, 0, sizeof(*run->result));
	if (!session_begin(run->objects, "fsync: writing file_records"))
		return false;
	MemoryContextSwitchTo(context);
	run->now = GetCurrentTransactionStartTimestamp();
	run->trusting = !with_care;

	found = look_at_repository(run);
	if (found)
	{
		if (run->change_feed)
			before = changes_begin(run);
		write_problems(run);
		if (with_care)
			write_with_care(run);
		else
			write_at_once(run);
		if (before != NULL)
			changes_end(run, before);
		if (run->has_corrupt)
			corrupt_follow(run->objects, run->repository_id);
	}
	session_commit();
	MemoryContextSwitchTo(context);
	return found;
}

/* NULL if all was written, else the error, with nothing written. */
static ErrorData *
try_at_once(ApplyRun *run, bool *found)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		*found = write_message(run, false);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		session_abort();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
	return error;
}

/* Copies what is the run's; the paths themselves are the message's. */
static void
tell_refused(const ApplyRun *run)
{
	ApplyResult *result = run->result;
	ListCell   *lc;

	if (run->refused_files == NIL)
		return;
	result->refused = palloc(sizeof(ProtoStr) * list_length(run->refused_files));
	foreach(lc, run->refused_files)
		result->refused[result->n_refused++] = *(ProtoStr *) lfirst(lc);
}

bool
apply_observations(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				   TimestampTz created_at, int64 generation, ProtoReader body,
				   ApplyResult *result)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	ApplyRun	run = {0};
	bool		found = false;
	ErrorData  *error;

	/*
	 * Below the caller's context, which it resets after an error: an error
	 * thrown from here need not be caught to free this.
	 */
	context = AllocSetContextCreate(caller, "fsync apply", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	run.objects = objects;
	run.repository_id = repository_id;
	run.created_at = created_at;
	run.generation = generation;
	run.result = result;
	run.plan = apply_plan_create(body);

	error = try_at_once(&run, &found);
	if (error != NULL)
	{
		if (care_is_in_vain(error->sqlerrcode))
			ReThrowError(error);
		run.plan = apply_plan_create(body);
		found = write_message(&run, true);
	}
	MemoryContextSwitchTo(caller);
	tell_refused(&run);
	MemoryContextDelete(context);
	return found;
}

static ApplyPlan *
purge_plan_create(const ApplyPurge *rows, int n)
{
	ApplyPlan  *plan = palloc0(sizeof(ApplyPlan));
	ApplyItem  *items = palloc0(sizeof(ApplyItem) * n);

	plan->purges.items = palloc(sizeof(ApplyItem *) * n);
	for (int i = 0; i < n; i++)
	{
		items[i].obs.id = rows[i].id;
		items[i].obs.path = rows[i].path;
		items[i].chain = i;
		plan->purges.items[plan->purges.n++] = &items[i];
	}
	return plan;
}

bool
apply_purge(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			const ApplyPurge *rows, int n, int *refused)
{
	ApplyResult result;
	ApplyRun	run = {0};
	bool		found = false;
	ErrorData  *error;

	run.objects = objects;
	run.repository_id = repository_id;
	run.result = &result;
	run.plan = purge_plan_create(rows, n);
	error = try_at_once(&run, &found);
	if (error != NULL)
	{
		if (care_is_in_vain(error->sqlerrcode))
			ReThrowError(error);
		found = write_message(&run, true);
	}
	*refused = run.refused;
	return found;
}
