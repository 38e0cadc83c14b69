/*-------------------------------------------------------------------------
 *
 * apply_care.c
 *		A message that was refused, written again with care.
 *
 * In subtransactions, halving what was refused until single rows are left that
 * cannot be written.  Those become problems and the rest is kept.
 *
 * Rows that other transactions hold are left alone from the start: waiting for
 * each of them would take as long as somebody thinks.  They become problems as
 * well, and all else that the message says of their files is put aside with
 * them, so that the file has its row, with its id, when the row is free.  What
 * triggers and foreign keys wait for cannot be known before; it shows by a
 * short lock_timeout.
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

#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "apply_care.h"
#include "apply_locks.h"
#include "apply_problems.h"
#include "path_key.h"
#include "sequences.h"

/* The longest wait for a lock, in milliseconds, and how many there may be. */
#define LOCK_WAIT_MS		5
#define LOCK_WAITS			20

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
	int64		group;			/* PROTO_PROBLEM_LOCKED: as in ApplyHeld */
	bool		key;
} Refusal;

/* A run with care. */
typedef struct CarefulRun
{
	ApplyRun	run;
	int			accepted;		/* items */
	List	   *refusals;
	bool		same_error;		/* all refusals so far had the SQLSTATE */
	int			sqlerrcode;		/* of the first */
	int			lock_waits;		/* that were in vain */
	List	   *held;			/* Refusal *: rows that others hold */
	int64		groups;			/* the first group of its chains */
} CarefulRun;

/* Of the chains of all messages. */
static int64 last_group = 0;

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
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			session_error_blames_no_row(run->objects, error->sqlerrcode))
			ReThrowError(error);
	}
	return error;
}

static Refusal *
make_refusal(ApplyItem *item, uint8 problem, const char *message)
{
	Refusal    *refusal = palloc(sizeof(Refusal));

	refusal->item = item;
	refusal->problem = problem;
	refusal->message.data = pstrdup(message);
	refusal->message.len = strlen(message);
	return refusal;
}

static void
refuse(CarefulRun *careful, ApplyItem *item, const ErrorData *error)
{
	Refusal    *refusal =
		make_refusal(item, is_foreign_key_error(error->sqlerrcode) ?
					 PROTO_PROBLEM_REFERENCED : PROTO_PROBLEM_REJECTED,
					 error->message != NULL ? error->message : "");

	if (careful->refusals == NIL)
		careful->sqlerrcode = error->sqlerrcode;
	else if (careful->sqlerrcode != error->sqlerrcode)
		careful->same_error = false;
	careful->refusals = lappend(careful->refusals, refusal);
}

/* group: that of what it is put aside for; 0: its own. */
static void
put_aside(CarefulRun *careful, ApplyItem *item, const char *why, int64 group, bool key)
{
	Refusal    *refusal = make_refusal(item, PROTO_PROBLEM_LOCKED, why);

	if (group == 0 && item->obs.op == PROTO_OP_MOVED)
		group = careful->groups + item->chain;
	last_group = Max(last_group, group);
	refusal->group = group;
	refusal->key = key || item->obs.op != PROTO_OP_UPDATED;
	careful->held = lappend(careful->held, refusal);
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
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			put_aside(careful, removal, error->message, 0, true);
		else
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

	/*
	 * Something else than these rows is held.  After some attempts the rest is
	 * put aside untried: it is looked at again, and others wait.
	 */
	cut = n > 1 ? middle(items, n) : n;
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE &&
		(cut == n || ++careful->lock_waits > LOCK_WAITS))
	{
		for (int i = 0; i < n; i++)
			put_aside(careful, items[i], error->message, 0, phase != rows_write);
		FreeErrorData(error);
		return;
	}
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
 * Rows that others hold
 * ---------------------------------------------------------------------
 */

/* A chain of moves is put aside as a whole. */
static void
spread_over_chains(ApplyItem **items, int n, char **held)
{
	for (int i = 1; i < n; i++)
	{
		if (held[i] == NULL && items[i]->chain == items[i - 1]->chain)
			held[i] = held[i - 1];
	}
	for (int i = n - 1; i > 0; i--)
	{
		if (held[i - 1] == NULL && items[i - 1]->chain == items[i]->chain)
			held[i - 1] = held[i];
	}
}

/*
 * What a file at this path has to wait for, though its row is free: that a file
 * which was renamed, from or to this path, can take its row along.  Moves of one
 * message do not wait for each other, but in chains.
 */
static const ApplyHeld *
rename_of_path(const CarefulRun *careful, ProtoStr path, bool moves)
{
	static ApplyHeld of_message;
	ListCell   *lc;

	foreach(lc, careful->run.waiting)
	{
		const ApplyHeld *waiting = lfirst(lc);

		if (waiting->group != 0 && path_equal(waiting->path, path))
			return waiting;
	}
	foreach(lc, moves ? NIL : careful->held)
	{
		const Refusal *refusal = lfirst(lc);

		if (refusal->item->obs.op == PROTO_OP_MOVED &&
			(path_equal(refusal->item->obs.old_path, path) ||
			 path_equal(refusal->item->obs.path, path)))
		{
			of_message.why = (char *) refusal->message.data;
			of_message.group = refusal->group;
			return &of_message;
		}
	}
	return NULL;
}

static const ApplyHeld *
rename_of_item(const CarefulRun *careful, const ApplyItem *item)
{
	bool		moves = item->obs.op == PROTO_OP_MOVED;
	const ApplyHeld *rename = rename_of_path(careful, item->obs.path, moves);

	if (rename == NULL && moves)
		rename = rename_of_path(careful, item->obs.old_path, moves);
	return rename;
}

/* The phase on those items whose rows can be had; the others are put aside. */
static void
phase_on_free(CarefulRun *careful, ApplyPhase phase, ApplyItem **items, int n, bool key)
{
	ApplyItem **these = palloc(sizeof(ApplyItem *) * Max(n, 1));
	int			n_these = 0;
	char	  **held;

	if (n == 0)
		return;
	held = locks_take(&careful->run, items, n, key);
	if (phase == rows_move)
		spread_over_chains(items, n, held);
	for (int i = 0; i < n; i++)
	{
		const ApplyHeld *rename = rename_of_item(careful, items[i]);

		if (rename != NULL)
			put_aside(careful, items[i], rename->why, rename->group, key);
		else if (held[i] != NULL)
			put_aside(careful, items[i], held[i], 0, key);
		else
			these[n_these++] = items[i];
	}
	careful_phase(careful, phase, these, n_these);
}

/* Rows that are marked need less of a lock than those that are deleted. */
static void
remove_free(CarefulRun *careful, ApplyItem **items, int n)
{
	ApplyItem **part = palloc(sizeof(ApplyItem *) * Max(n, 1));

	for (int marked = 0; marked <= 1; marked++)
	{
		int			n_part = 0;

		for (int i = 0; i < n; i++)
		{
			if (rows_are_marked(&careful->run, items[i]) == (marked == 1))
				part[n_part++] = items[i];
		}
		phase_on_free(careful, rows_remove, part, n_part, marked == 0);
	}
}

/* ---------------------------------------------------------------------
 * A message
 * ---------------------------------------------------------------------
 */

/*
 * A publication that the table does not suit makes every UPDATE or DELETE fail,
 * whatever the row: that is said of the table, and here.
 */
static void
check_table(const ApplyRun *run)
{
	const ApplyPlan *plan = run->plan;
	Relation	rel = table_open(run->objects->file_records, NoLock);
	bool		updates = plan->moves.n > 0;
	bool		deletes = plan->moves.n > 0 || plan->purges.n > 0 ||
		plan->late_removals.n > 0;

	for (int i = 0; i < plan->removals.n; i++)
	{
		if (rows_are_marked(run, plan->removals.items[i]))
			updates = true;
		else
			deletes = true;
	}
	for (int i = 0; i < plan->upserts.n; i++)
		updates |= plan->upserts.items[i]->obs.op != PROTO_OP_ADDED;
	if (updates)
		CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	if (deletes)
		CheckCmdReplicaIdentity(rel, CMD_DELETE);
	table_close(rel, NoLock);
}

static int
compare_strs(const void *a, const void *b)
{
	return path_compare(*(const ProtoStr *) a, *(const ProtoStr *) b);
}

/* The problem of a file stands as long as its row is held. */
static void
keep_problems(ApplyPlan *plan, const List *held)
{
	ProtoStr   *paths = palloc(sizeof(ProtoStr) * Max(list_length(held), 1));
	int			n_kept = 0;
	int			n = 0;
	ListCell   *lc;

	if (held == NIL)
		return;
	foreach(lc, held)
		paths[n++] = ((Refusal *) lfirst(lc))->item->obs.path;
	qsort(paths, n, sizeof(ProtoStr), compare_strs);
	for (int i = 0; i < plan->n_clears; i++)
	{
		if (bsearch(&plan->clears[i], paths, n, sizeof(ProtoStr), compare_strs) == NULL)
			plan->clears[n_kept++] = plan->clears[i];
	}
	plan->n_clears = n_kept;
}

static ProtoStr *
copy_str(ProtoStr s)
{
	ProtoStr   *copy = palloc(sizeof(ProtoStr));

	*copy = s;
	return copy;
}

static void
tell_held(ApplyRun *run, const Refusal *refusal, ProtoStr path)
{
	ApplyHeld  *held = palloc(sizeof(ApplyHeld));

	held->path = path;
	held->why = (char *) refusal->message.data;
	held->group = refusal->group;
	held->key = refusal->key;
	run->held_paths = lappend(run->held_paths, held);
}

static void
record(CarefulRun *careful)
{
	ApplyRun   *run = &careful->run;
	List	   *all = list_concat_copy(careful->refusals, careful->held);
	NewProblem *problems = palloc(sizeof(NewProblem) * Max(list_length(all), 1));
	int			n = 0;
	ListCell   *lc;

	keep_problems(run->plan, careful->held);
	problems_write(run);
	foreach(lc, all)
	{
		Refusal    *refusal = lfirst(lc);
		const ProtoObservation *obs = &refusal->item->obs;
		bool		held = refusal->problem == PROTO_PROBLEM_LOCKED;

		/* a purge is no news of the file */
		if (!held || run->plan->purges.n == 0)
		{
			problems[n].path = obs->path;
			problems[n].problem = refusal->problem;
			problems[n++].message = refusal->message;
		}
		if (obs->op != PROTO_OP_REMOVED)
			run->refused_files = lappend(run->refused_files, copy_str(obs->path));
		if (held)
			tell_held(run, refusal, obs->path);
		if (held && obs->op == PROTO_OP_MOVED)
			tell_held(run, refusal, obs->old_path);
	}
	problems_record_all(run->objects, run->repository_id, problems, n);
	if (n > 0)
		run->result->problems_changed = true;
	run->refused = list_length(careful->refusals);
	run->held = list_length(careful->held);
}

void
care_write(ApplyRun *run)
{
	CarefulRun	careful = {.run = *run,.same_error = true};
	ApplyPlan  *plan = run->plan;

	careful.groups = last_group + 1;
	check_table(run);
	sequences_lift_files(run->objects);
	session_limit_lock_waits(LOCK_WAIT_MS);
	phase_on_free(&careful, rows_purge, plan->purges.items, plan->purges.n, true);
	if (plan->purges.n > 0)
		problems_clear_purged(run->objects, run->repository_id);
	remove_free(&careful, plan->removals.items, plan->removals.n);
	phase_on_free(&careful, rows_move, plan->moves.items, plan->moves.n, true);
	remove_free(&careful, plan->late_removals.items, plan->late_removals.n);
	phase_on_free(&careful, rows_write, plan->upserts.items, plan->upserts.n, false);
	record(&careful);
	*run = careful.run;
}

static bool
is_waited_for(const List *waiting, ProtoStr path)
{
	ListCell   *lc;

	foreach(lc, waiting)
	{
		const ApplyHeld *held = lfirst(lc);

		if (held->group != 0 && path_equal(held->path, path))
			return true;
	}
	return false;
}

bool
care_is_needed(const ApplyPlan *plan, const List *waiting)
{
	const ApplyList *lists[] = {
		&plan->removals, &plan->moves, &plan->late_removals, &plan->upserts
	};

	for (int l = 0; waiting != NIL && l < (int) lengthof(lists); l++)
	{
		for (int i = 0; i < lists[l]->n; i++)
		{
			const ProtoObservation *obs = &lists[l]->items[i]->obs;

			if (is_waited_for(waiting, obs->path) ||
				(obs->op == PROTO_OP_MOVED && is_waited_for(waiting, obs->old_path)))
				return true;
		}
	}
	return false;
}
