/*-------------------------------------------------------------------------
 *
 * worker_held.c
 *		Files whose rows other transactions hold.
 *
 * Such a file has been put aside, as a problem, and what was observed of it is
 * forgotten: when the row is free, fsync-tree is told to look again, and says what
 * is true then.  Whether it is free is asked ever less often, up to every half
 * minute, and before each barrier.
 *
 * Most locks are held for milliseconds, so a barrier gives the holder a second,
 * in which it looks again and again.  A row that is held for longer is a problem
 * as a file that cannot be read is one: the barrier is over, and fsync_problems
 * says what is not as it should be.
 *
 * A barrier of our own goes behind each look.  When it comes back, files that
 * were not put aside anew are right, and their problems are over, also where
 * there was nothing to be written because their holder did it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker.h"

#define LOOK_MIN_MS			100
#define LOOK_MAX_MS			25000

/* How long a barrier waits for who holds a row. */
#define BARRIER_PATIENCE_MS	1000
#define BARRIER_LOOK_MS		50

/* Files that are kept in mind; the others are for a scan when these are free. */
#define MAX_PATHS			1000

static ApplyHeld *
copy_held(const ApplyHeld *from)
{
	ApplyHeld  *copy = palloc(sizeof(ApplyHeld) + from->path.len);

	*copy = *from;
	copy->path.data = (const char *) (copy + 1);
	memcpy(copy + 1, from->path.data, from->path.len);
	copy->why = pstrdup(from->why);
	return copy;
}

static void
forget(List **paths)
{
	ListCell   *lc;

	foreach(lc, *paths)
		pfree(((ApplyHeld *) lfirst(lc))->why);
	list_free_deep(*paths);
	*paths = NIL;
}

/* Takes note of what a message could not write. */
void
held_add(WorkerRepository *repository, const ApplyResult *result)
{
	HeldFiles  *held = &repository->held;
	MemoryContext old;
	ListCell   *lc;

	if (result->held == NIL)
		return;
	if (held->paths == NIL)
		held->look_at = clock_ms() + Max(held->interval_ms, LOOK_MIN_MS);
	old = MemoryContextSwitchTo(repository->context);
	foreach(lc, result->held)
	{
		if (list_length(held->paths) >= MAX_PATHS)
			held->too_many = true;
		else
			held->paths = lappend(held->paths, copy_held(lfirst(lc)));
	}
	MemoryContextSwitchTo(old);
}

static void
postpone(HeldFiles *held)
{
	int64		now = clock_ms();

	if (held->paths == NIL)
		held->interval_ms = 0;
	else if (now >= held->look_at)	/* and not for a barrier's sake */
		held->interval_ms = Min(Max(held->interval_ms * 2, LOOK_MIN_MS), LOOK_MAX_MS);
	held->look_at = now + Max(held->interval_ms, LOOK_MIN_MS);
	held->flush_at = now + BARRIER_LOOK_MS;
}

typedef struct StillWork
{
	bool	   *still;
} StillWork;

static void
still_work(WorkerRepository *repository, void *arg)
{
	((StillWork *) arg)->still = apply_still_held(&worker_objects, &repository->row->id,
												  repository->held.paths);
}

/* Whether a member of the group is still held. */
static bool
group_is_held(const HeldFiles *held, const bool *still, int64 group)
{
	for (int i = 0; i < list_length(held->paths); i++)
	{
		if (still[i] && ((ApplyHeld *) list_nth(held->paths, i))->group == group)
			return true;
	}
	return false;
}

/*
 * Moves those that nobody holds any more to looked_at.  A file that is still
 * held need not be read again to know that its row cannot be written.
 */
static void
take_free(WorkerRepository *repository)
{
	HeldFiles  *held = &repository->held;
	StillWork	work = {NULL};
	List	   *kept = NIL;
	MemoryContext old;

	if (worker_database_work(repository, still_work, &work) != 0)
		return;
	forget(&held->looked_at);
	old = MemoryContextSwitchTo(repository->context);
	for (int i = 0; i < list_length(held->paths); i++)
	{
		ApplyHeld  *file = list_nth(held->paths, i);

		if (work.still[i] ||
			(file->group != 0 && group_is_held(held, work.still, file->group)))
			kept = lappend(kept, file);
		else
			held->looked_at = lappend(held->looked_at, file);
	}
	MemoryContextSwitchTo(old);
	list_free(held->paths);
	held->paths = kept;
}

/* Has those that are free looked at, with a barrier behind. */
static void
look(WorkerRepository *repository)
{
	HeldFiles  *held = &repository->held;
	ProtoBuf   *out = &repository->tree.out;
	ListCell   *lc;

	take_free(repository);
	if (held->too_many && held->paths == NIL)
	{
		held->too_many = false;
		runs_want(repository, false, false, false, "rows were locked", 0);
	}
	if (held->looked_at == NIL)
	{
		postpone(held);
		return;
	}
	proto_begin(out, PROTO_LOOK);
	foreach(lc, held->looked_at)
	{
		ApplyHeld  *file = lfirst(lc);

		proto_put_str(out, file->path.data, file->path.len);
	}
	proto_end(out);
	held->token = ++repository->next_token;
	proto_begin(out, PROTO_FLUSH);
	proto_put_i64(out, held->token);
	proto_end(out);
	process_send(repository);
}

static bool
may_look(const WorkerRepository *repository)
{
	return repository->held.paths != NIL && repository->held.token == 0 &&
		!repository->stalled && process_can_talk(repository);
}

/* Looks if that is due. */
void
held_advance(WorkerRepository *repository, int64 now, int64 *deadline)
{
	HeldFiles  *held = &repository->held;

	if (may_look(repository) && now >= held->look_at)
		look(repository);
	if (may_look(repository))
		lower_deadline(deadline, held->look_at);
}

/*
 * To be asked before barriers are sent: they go behind a look, and not before
 * it is time for one.
 */
bool
held_lets_flush(WorkerRepository *repository, int64 now, int64 *deadline)
{
	HeldFiles  *held = &repository->held;

	if (!flush_wanted(repository) || !runs_is_healed(repository) || (held->paths == NIL && held->token == 0))
		return true;
	if (held->token != 0)
		return held->paths == NIL;
	if (now < held->flush_at)
	{
		lower_deadline(deadline, held->flush_at);
		return false;
	}
	if (may_look(repository))
		look(repository);
	return true;
}

typedef struct ForgetWork
{
	ProtoStr   *paths;
	int			n;
} ForgetWork;

static void
forget_work(WorkerRepository *repository, void *arg)
{
	ForgetWork *work = arg;

	apply_forget_held(&worker_objects, &repository->row->id, work->paths, work->n);
}

static int
compare_paths(const ListCell *a, const ListCell *b)
{
	const ProtoStr *x = &((const ApplyHeld *) lfirst(a))->path;
	const ProtoStr *y = &((const ApplyHeld *) lfirst(b))->path;

	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return memcmp(x->data, y->data, x->len);
}

/* Those that were looked at and not put aside anew; both lists get an order. */
static void
find_free(HeldFiles *held, ForgetWork *work)
{
	ListCell   *lc;
	int			i = 0;

	list_sort(held->looked_at, compare_paths);
	list_sort(held->paths, compare_paths);
	work->paths = palloc(sizeof(ProtoStr) * list_length(held->looked_at));
	foreach(lc, held->looked_at)
	{
		while (i < list_length(held->paths) &&
			   compare_paths(list_nth_cell(held->paths, i), lc) < 0)
			i++;
		if (i == list_length(held->paths) ||
			compare_paths(list_nth_cell(held->paths, i), lc) != 0)
			work->paths[work->n++] = ((ApplyHeld *) lfirst(lc))->path;
	}
}

/*
 * A barrier has come back.  False when it is to be called again for the same
 * message.
 */
bool
held_flushed(WorkerRepository *repository, int64 token)
{
	HeldFiles  *held = &repository->held;
	ForgetWork	work = {0};

	if (token != held->token || token == 0)
		return true;
	find_free(held, &work);
	if (work.n > 0 && worker_database_work(repository, forget_work, &work) != 0)
		return false;
	held->token = 0;
	forget(&held->looked_at);
	postpone(held);
	return true;
}

/* Whether a barrier that came back is over. */
bool
held_lets_pass(WorkerRepository *repository, int64 *held_since)
{
	int64		now = clock_ms();

	if (repository->held.paths == NIL)
		return true;
	if (*held_since == 0)
		*held_since = now;
	return now - *held_since >= BARRIER_PATIENCE_MS;
}

/* A process or a root that comes back brings a scan, which finds them all. */
void
held_forget(WorkerRepository *repository)
{
	HeldFiles  *held = &repository->held;

	forget(&held->paths);
	forget(&held->looked_at);
	held->token = 0;
	held->too_many = false;
}
