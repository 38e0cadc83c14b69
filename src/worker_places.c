/*-------------------------------------------------------------------------
 *
 * worker_places.c
 *		Scans of a part of a repository, of which somebody says that it changed.
 *
 * They are asked for by fsync_reconcile() with a path, one after the other, and
 * go on beside the scan of everything and the verification.  Those who ask for
 * the same path while its scan has not begun share it.
 *
 * What was renamed while nobody watched only a scan of everything can tell.  So
 * fsync-tree is asked when the last one of these has made good what was lost;
 * and where none will, the scan of a part fails with the reason of that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "shown.h"
#include "worker.h"

/* A scan outlives so many of its processes: one of them may have died of it. */
#define PLACE_LOST_MAX		3

typedef struct QueuedPlace
{
	char	   *path;
	List	   *waiters;		/* RunWaiter * */
} QueuedPlace;

static void
answer(List *waiters, RequestOutcome outcome, int64 operation_id)
{
	ListCell   *lc;

	foreach(lc, waiters)
		requests_answer(((RunWaiter *) lfirst(lc))->ref, outcome, operation_id);
	list_free_deep(waiters);
}

void
places_want_for_request(WorkerRepository *repository, const TakenRequest *request)
{
	QueuedPlace *queued = NULL;
	ListCell   *lc;

	foreach(lc, repository->places)
	{
		queued = lfirst(lc);
		if (strcmp(queued->path, request->path) == 0)
			break;
		queued = NULL;
	}
	if (queued == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(repository->context);

		queued = palloc0(sizeof(QueuedPlace));
		queued->path = pstrdup(request->path);
		repository->places = lappend(repository->places, queued);
		MemoryContextSwitchTo(old);
	}
	queued->waiters = runs_add_waiter(repository, queued->waiters, request->ref,
									  repository->all_refusals);
	if (repository->stalled && repository->refusals > 0)
		repository->retry_at = 0;	/* it may just have been mended */
}

/* ---------------------------------------------------------------------
 * Begin and end
 * ---------------------------------------------------------------------
 */

static void
begin_work(WorkerRepository *repository, void *arg)
{
	PlaceRun   *run = arg;

	run->operation_id = operations_begin(&worker_objects, &repository->row->id,
										 "reconciliation",
										 psprintf("requested for \"%s\"",
												  shown_path(run->path)), NULL);
}

static void
begin(WorkerRepository *repository)
{
	QueuedPlace *queued = linitial(repository->places);
	PlaceRun	run = {.path = queued->path,.waiters = queued->waiters};
	ListCell   *lc;

	if (worker_database_work(repository, begin_work, &run) != 0)
		return;
	if (run.operation_id == 0)
	{
		worker_request_reload();
		return;
	}
	run.phase = RUN_RUNNING;
	repository->place = run;
	repository->places = list_delete_first(repository->places);
	pfree(queued);
	foreach(lc, run.waiters)
		requests_begun(((RunWaiter *) lfirst(lc))->ref, run.operation_id);
}

/* Says how the run ends; finish() writes it. */
static void
end(WorkerRepository *repository, uint8 result, const char *reason)
{
	PlaceRun   *run = &repository->place;

	run->phase = RUN_ENDING;
	run->result = result;
	worker_set_condition(&run->failure, reason, NULL);
}

static void
end_work(WorkerRepository *repository, void *arg)
{
	const PlaceRun *run = &repository->place;
	OperationEnd end = {0};
	bool		first_scan;

	end.id = run->operation_id;
	end.completed = run->result == PROTO_SCAN_COMPLETE;
	end.cancelled = run->cancelled;
	end.error = end.completed ? NULL : run->failure.reason;
	end.files_scanned = run->files_done;
	end.bytes_hashed = run->bytes_done;
	end.counts = run->counts;
	if (!operations_end(&worker_objects, &repository->row->id, &end, &first_scan))
		worker_request_reload();
}

/* False when the database did not take it; then this is called again. */
static bool
finish(WorkerRepository *repository)
{
	PlaceRun   *run = &repository->place;
	List	   *waiters = run->waiters;

	if (worker_database_work(repository, end_work, NULL) != 0)
		return false;
	run->phase = RUN_NONE;
	run->waiters = NIL;
	pfree(run->path);
	run->path = NULL;
	answer(waiters, OUTCOME_DONE, run->operation_id);
	return true;
}

/* ---------------------------------------------------------------------
 * fsync-tree
 * ---------------------------------------------------------------------
 */

static void
send_place(WorkerRepository *repository)
{
	PlaceRun   *run = &repository->place;
	ProtoScan	scan = {0};

	scan.scan_id = run->operation_id;
	scan.place.data = run->path;
	scan.place.len = strlen(run->path);
	proto_begin(&repository->tree.out, PROTO_SCAN);
	proto_put_scan(&repository->tree.out, &scan);
	proto_end(&repository->tree.out);
	run->sent = true;
	process_send(repository);
}

/* Why no scan of everything will come that makes good what was lost; or NULL. */
static const char *
why_not(const WorkerRepository *repository)
{
	if (repository->hung)
		return repository->trouble.reason;
	if (repository->tree_state == PROTO_STATE_UNAVAILABLE)
		return repository->tree_condition.reason;
	if (!runs_is_healed(repository) && repository->run.phase == RUN_NONE &&
		!repository->queued.wanted && repository->scan_trouble.reason[0] != '\0')
		return repository->scan_trouble.reason;
	return NULL;
}

void
places_advance(WorkerRepository *repository)
{
	PlaceRun   *run = &repository->place;

	if (repository->stalled)
		return;
	if (run->phase == RUN_ENDING && !finish(repository))
		return;
	if (run->phase == RUN_NONE && repository->places != NIL)
		begin(repository);
	if (run->phase == RUN_RUNNING && !run->sent && !repository->stalled)
	{
		const char *reason = why_not(repository);

		if (reason != NULL)
			end(repository, PROTO_SCAN_FAILED, reason);
		else if (process_can_talk(repository) && runs_is_healed(repository))
			send_place(repository);
	}
	if (run->phase == RUN_ENDING)
		(void) finish(repository);
	if (run->phase == RUN_NONE && repository->places != NIL)
		SetLatch(MyLatch);		/* the next, when others had their turn */
}

bool
places_outstanding(const WorkerRepository *repository)
{
	return repository->place.phase == RUN_RUNNING && repository->place.sent;
}

bool
places_scan_done(WorkerRepository *repository, const ProtoScanDone *done)
{
	PlaceRun   *run = &repository->place;
	char		reason[STATUS_TEXT_LEN];

	if (run->phase == RUN_NONE || run->operation_id != done->scan_id)
		return false;
	run->files_done = done->files_scanned;
	run->bytes_done = done->bytes_hashed;
	worker_copy_text(reason, sizeof(reason), done->message);
	if (done->result != PROTO_SCAN_COMPLETE && reason[0] == '\0')
		strlcpy(reason, "the scan failed", sizeof(reason));
	end(repository, done->result, run->cancelled ? "cancelled by a user" : reason);
	return true;
}

/* False: it is none that goes on. */
bool
places_cancel(WorkerRepository *repository, const TakenRequest *request)
{
	PlaceRun   *run = &repository->place;

	if (run->phase != RUN_RUNNING || run->operation_id != request->operation_id)
		return false;
	run->waiters = runs_add_waiter(repository, run->waiters, request->ref, PG_UINT64_MAX);
	if (run->cancelled)
		return true;
	run->cancelled = true;
	if (!run->sent)
	{
		end(repository, PROTO_SCAN_CANCELLED, "cancelled by a user");
		return true;
	}
	proto_begin(&repository->tree.out, PROTO_SCAN_CANCEL);
	proto_put_i64(&repository->tree.out, run->operation_id);
	proto_end(&repository->tree.out);
	process_send(repository);
	return true;
}

/* The next process is asked again, if this one need not have died of it. */
void
places_process_ended(WorkerRepository *repository)
{
	PlaceRun   *run = &repository->place;

	if (run->phase != RUN_RUNNING)
		return;
	run->lost += run->sent && !repository->planned;
	run->sent = false;
	if (run->cancelled)
		end(repository, PROTO_SCAN_CANCELLED, "cancelled by a user");
	else if (run->lost >= PLACE_LOST_MAX)
		end(repository, PROTO_SCAN_FAILED, repository->trouble.reason);
}

/* As runs_pause(). */
bool
places_pause(WorkerRepository *repository)
{
	PlaceRun   *run = &repository->place;

	if (run->phase == RUN_RUNNING)
	{
		run->cancelled = true;
		end(repository, PROTO_SCAN_CANCELLED, "the repository was paused");
	}
	return run->phase == RUN_NONE || finish(repository);
}

/* As runs_give_up(), which calls it. */
void
places_give_up(WorkerRepository *repository)
{
	ListCell   *lc;

	repository->place.waiters = runs_without_those_in_vain(repository,
														   repository->place.waiters);
	foreach(lc, repository->places)
	{
		QueuedPlace *queued = lfirst(lc);

		queued->waiters = runs_without_those_in_vain(repository, queued->waiters);
	}
}

/* As runs_dismiss(). */
void
places_dismiss(WorkerRepository *repository)
{
	ListCell   *lc;

	foreach(lc, repository->places)
		answer(((QueuedPlace *) lfirst(lc))->waiters, OUTCOME_UNKNOWN, 0);
	answer(repository->place.waiters, OUTCOME_UNKNOWN, 0);
}
