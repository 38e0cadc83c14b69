/*-------------------------------------------------------------------------
 *
 * apply.c
 *		Observations become rows: one message, one transaction.
 *
 * A message is first written in a few statements.  When the database refuses
 * one of them, or another transaction holds a row, everything is rolled back and
 * written again with care (apply_care.c).  So the usual case pays nothing for the
 * unusual one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apply_care.h"
#include "apply_changes.h"
#include "apply_corrupt.h"
#include "apply_problems.h"
#include "apply_totals.h"

/*
 * The longest wait for a row, in milliseconds: then it is known that it is held,
 * and by whom is found out with care.
 */
#define ROW_WAIT_MS			30

/* The strategies are read with it, so that a change of them counts at once. */
static SessionPlan lock_repository_plan = {
	.sql = "SELECT on_missing = 'mark',"
	" on_type_change = 'mark' OR on_type_change = 'missing' AND on_missing = 'mark',"
	" change_feed, on_overwrite = 'target', on_excluded = 'mark'"
	" FROM %1$s.fsync_repositories WHERE repository_id = $1"
	" AND created_at = coalesce($2, created_at)"
	" AND watch_root = coalesce($3, watch_root) FOR KEY SHARE",
	.nargs = 3,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, TEXTOID},
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


/* ---------------------------------------------------------------------
 * A message
 * ---------------------------------------------------------------------
 */

static void
write_at_once(ApplyRun *run)
{
	ApplyPlan  *plan = run->plan;

	session_limit_lock_waits(ROW_WAIT_MS);
	problems_write(run);
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
 * false: the repository is gone, or is of another directory by now.
 */
static bool
look_at_repository(ApplyRun *run)
{
	Datum		values[3];
	char		nulls[3] = {' ', run->created_at == 0 ? 'n' : ' ', run->root == NULL ? 'n' : ' '};
	bool		isnull;
	bool		found;

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = TimestampTzGetDatum(run->created_at);
	if (run->root != NULL)
		values[2] = CStringGetTextDatum(run->root);
	LockRelationOid(run->objects->repositories, RowShareLock);
	session_limit_lock_waits(ROW_WAIT_MS);
	found = session_execute(run->objects, &lock_repository_plan, values, nulls,
							SPI_OK_SELECT) == 1;
	session_limit_lock_waits(SESSION_LOCK_WAIT_MS);
	if (!found)
		return false;
	run->mark_missing = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
												   SPI_tuptable->tupdesc, 1, &isnull));
	run->mark_type_change = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc, 2, &isnull));
	run->change_feed = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 3, &isnull));
	run->keep_overwritten = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc, 4, &isnull));
	run->mark_excluded = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
													SPI_tuptable->tupdesc, 5, &isnull));
	lock_for_rows(run);
	account_begin(run);
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
		if (with_care)
			care_write(run);
		else
			write_at_once(run);
		if (before != NULL)
			changes_end(run, before);
		if (run->has_corrupt)
			corrupt_follow(run->objects, run->repository_id);
		account_end(run);
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

/*
 * Whether it is to be tried with care after this error.  A table that cannot be
 * locked will not be had that way either.
 */
static bool
care_may_help(const ErrorData *error)
{
	return !care_is_in_vain(error->sqlerrcode) ||
		session_lost_to_row_lock(error->sqlerrcode);
}

/* Copies a list of the run's; the paths themselves are the message's. */
static ProtoStr *
copy_paths(const List *list, int *n)
{
	ProtoStr   *paths;
	ListCell   *lc;

	*n = 0;
	if (list == NIL)
		return NULL;
	paths = palloc(sizeof(ProtoStr) * list_length(list));
	foreach(lc, list)
		paths[(*n)++] = *(ProtoStr *) lfirst(lc);
	return paths;
}

static List *
copy_held(const List *list)
{
	List	   *copy = NIL;
	ListCell   *lc;

	foreach(lc, list)
	{
		ApplyHeld  *held = palloc(sizeof(ApplyHeld));

		*held = *(ApplyHeld *) lfirst(lc);
		held->why = pstrdup(held->why);
		copy = lappend(copy, held);
	}
	return copy;
}

bool
apply_observations(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				   TimestampTz created_at, const char *root, int64 generation,
				   int64 place_scan,
				   ProtoReader body, List *held, ApplyResult *result)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	ApplyRun	run = {0};
	bool		found = false;
	ErrorData  *error = NULL;
	bool		with_care;

	/*
	 * Below the caller's context, which it resets after an error: an error
	 * thrown from here need not be caught to free this.
	 */
	context = AllocSetContextCreate(caller, "fsync apply", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	run.objects = objects;
	run.repository_id = repository_id;
	run.created_at = created_at;
	run.root = root;
	run.generation = generation;
	run.place_scan = place_scan;
	run.result = result;
	run.waiting = held;
	run.plan = apply_plan_create(body);
	with_care = care_is_needed(run.plan, held);
	if (!with_care)
		error = try_at_once(&run, &found);
	if (error != NULL)
	{
		if (!care_may_help(error))
			ReThrowError(error);
		run.plan = apply_plan_create(body);
		with_care = true;
	}
	if (with_care)
		found = write_message(&run, true);
	MemoryContextSwitchTo(caller);
	result->refused = copy_paths(run.refused_files, &result->n_refused);
	result->held = copy_held(run.held_paths);
	MemoryContextDelete(context);
	return found;
}

static void
list_row(ApplyList *list, ApplyItem *item, const ApplyPurge *row)
{
	item->obs.op = PROTO_OP_REMOVED;
	item->obs.gone = PROTO_GONE_EXCLUDED;
	item->obs.id = row->id;
	item->obs.path = row->path;
	item->chain = list->n;
	list->items[list->n++] = item;
}

/* Writes a plan that comes from no message. */
static bool
write_plan(ApplyRun *run, ApplyPlan *plan)
{
	ApplyResult result;
	bool		found = false;
	ErrorData  *error;

	run->result = &result;
	run->plan = plan;
	error = try_at_once(run, &found);
	if (error != NULL)
	{
		if (!care_may_help(error))
			ReThrowError(error);
		found = write_message(run, true);
	}
	return found;
}

bool
apply_purge(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			const ApplyPurge *rows, int n, int *refused, int *held)
{
	ApplyRun	run = {.objects = objects,.repository_id = repository_id};
	ApplyPlan  *plan = palloc0(sizeof(ApplyPlan));
	ApplyItem  *items = palloc0(sizeof(ApplyItem) * n);
	bool		found;

	plan->purges.items = palloc(sizeof(ApplyItem *) * n);
	for (int i = 0; i < n; i++)
		list_row(&plan->purges, &items[i], &rows[i]);
	found = write_plan(&run, plan);
	*refused = run.refused;
	*held = run.held;
	return found;
}

bool
apply_remove_impossible(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
						List *rows)
{
	ApplyRun	run = {.objects = objects,.repository_id = repository_id};
	ApplyPlan  *plan = palloc0(sizeof(ApplyPlan));
	ApplyItem  *items = palloc0(sizeof(ApplyItem) * list_length(rows));

	plan->removals.items = palloc(sizeof(ApplyItem *) * list_length(rows));
	for (int i = 0; i < list_length(rows); i++)
	{
		list_row(&plan->removals, &items[i], list_nth(rows, i));
		items[i].impossible = true;
	}
	return write_plan(&run, plan);
}
