/*-------------------------------------------------------------------------
 *
 * worker_runs.c
 *		Scans and bursts of real-time changes of a repository.
 *
 * A repository has one scan at a time and one queue place behind it, which
 * everybody who wants a scan shares.  Whether the table can be equal to the
 * disk is a matter of two counters: how often events were lost (or nobody was
 * watching), and which of these losses a scan that began later has made good.
 * A barrier (worker_flush.c) waits until they agree; a routine scan does not
 * hold it up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/timestamp.h"

#include "worker.h"

/* A burst ends after a quiet second, or when it has become long enough. */
#define BURST_QUIET_MS		1000
#define BURST_MAX_MS		60000

/* Scans that make good a loss follow each other ever more slowly. */
#define LOSS_BACKOFF_MIN_MS	1000
#define LOSS_BACKOFF_MAX_MS	(10 * 60 * 1000)

/*
 * A run goes on when the database takes again what it refuses; but who waits for
 * it is told after so many tries in a row, one of them after he came.
 */
#define REFUSED_TRIES		3

/* ---------------------------------------------------------------------
 * Who wants a scan
 * ---------------------------------------------------------------------
 */

bool
runs_is_healed(const WorkerRepository *repository)
{
	return repository->healed == repository->losses;
}

int64
runs_generation(const WorkerRepository *repository)
{
	return repository->run.phase != RUN_NONE ? repository->run.generation :
		repository->row->generation;
}

/*
 * A scheduled run has time, unless something depends on it: that it completes, or
 * that it is out of the way of the next.
 */
int
runs_cpu_limit(const WorkerRepository *repository)
{
	const Run  *run = &repository->run;
	int			limit = setting_reconcile_cpu_limit;

	if (run->phase == RUN_NONE || !run->scheduled || run->heals ||
		repository->queued.wanted || setting_scheduled_cpu_limit == 0)
		return limit;
	return limit == 0 ? setting_scheduled_cpu_limit : Min(limit, setting_scheduled_cpu_limit);
}

/* Joins the queued run, or queues one.  The first reason is the one told. */
void
runs_want(WorkerRepository *repository, bool startup, bool heals, bool force,
		  const char *reason, int64 due)
{
	QueuedRun  *queued = &repository->queued;

	if (!queued->wanted)
	{
		queued->wanted = true;
		queued->startup = false;
		queued->force = false;
		queued->heals = false;
		queued->due = due;
		strlcpy(queued->reason, reason, sizeof(queued->reason));
	}
	queued->scheduled = false;
	queued->startup |= startup;
	queued->heals |= heals;
	queued->force |= force;
	queued->due = Min(queued->due, due);
}

List *
runs_add_waiter(WorkerRepository *repository, List *waiters, RequestRef ref, uint64 refusals)
{
	MemoryContext old = MemoryContextSwitchTo(repository->context);
	RunWaiter  *waiter = palloc(sizeof(RunWaiter));

	waiter->ref = ref;
	waiter->refusals = refusals;
	waiters = lappend(waiters, waiter);
	MemoryContextSwitchTo(old);
	return waiters;
}

/* What the database refuses is tried again now: it may just have been mended. */
void
runs_want_for_request(WorkerRepository *repository, const TakenRequest *request)
{
	runs_want(repository, false, false, request->force, "requested", 0);
	repository->queued.waiters = runs_add_waiter(repository, repository->queued.waiters,
											request->ref, repository->all_refusals);
	if (repository->stalled && repository->refusals > 0)
		repository->retry_at = 0;
}

/* How long the next scan after a loss has to wait. */
static int64
next_loss_due(WorkerRepository *repository)
{
	int64		now = clock_ms();
	int64		due;

	if (now - repository->last_loss > LOSS_BACKOFF_MAX_MS)
		repository->loss_backoff_ms = 0;
	repository->last_loss = now;
	due = now + repository->loss_backoff_ms;
	repository->loss_backoff_ms = repository->loss_backoff_ms == 0 ? LOSS_BACKOFF_MIN_MS :
		Min(repository->loss_backoff_ms * 2, LOSS_BACKOFF_MAX_MS);
	return due;
}

/* fsync-tree cannot vouch for its events. */
void
runs_events_lost(WorkerRepository *repository, const char *reason)
{
	repository->losses++;
	runs_want(repository, false, true, false, reason, next_loss_due(repository));
}

static void
send_scan(WorkerRepository *repository)
{
	ProtoScan	scan = {0};

	scan.scan_id = repository->run.operation_id;
	scan.flags = repository->run.flags;
	scan.mass_delete_threshold = setting_mass_delete_threshold;
	proto_begin(&repository->tree.out, PROTO_SCAN);
	proto_put_scan(&repository->tree.out, &scan);
	proto_end(&repository->tree.out);
	process_send(repository);
}

/* A new process is there, and has seen nothing of what went before. */
void
runs_process_started(WorkerRepository *repository)
{
	const char *reason;

	repository->losses++;

	/* Its forerunner had not begun with this run. */
	if (repository->run.phase == RUN_RUNNING)
	{
		repository->run.losses = repository->losses;
		repository->run.heals = true;
		send_scan(repository);
		return;
	}
	if (repository->started_before)
		reason = repository->trouble.reason[0] != '\0' ?
			repository->trouble.reason : "fsync-tree was started again";
	else if (repository->row->last_complete_generation == 0)
		reason = "first scan";
	else if (repository->resumed)
		reason = "tracking was resumed";
	else
		reason = "the worker started";
	runs_want(repository, !repository->started_before, true, false, reason, 0);
}

/*
 * Milliseconds between two scans that nobody asks for; 0: there are none.  Where
 * events cannot be trusted, scans take their place.
 */
static int64
routine_interval(const WorkerRepository *repository)
{
	const RepositoryRow *row = repository->row;
	int64		interval = row->reconciliation_ms;
	int64		poll = row->poll_ms;

	if (interval < 0)
		interval = setting_reconciliation_interval_s * INT64CONST(1000);
	if (poll < 0)
		poll = interval == 0 ? 0 : setting_poll_interval_s * INT64CONST(1000);
	if (!repository->polled || poll == 0)
		return interval;
	return interval == 0 ? poll : Min(interval, poll);
}

static void
schedule_routine_run(WorkerRepository *repository, int64 now, int64 *deadline)
{
	int64		interval = routine_interval(repository);
	int64		due;

	if (interval == 0 || repository->last_run_end == 0 || repository->queued.wanted ||
		repository->run.phase != RUN_NONE || !process_can_talk(repository))
		return;
	due = repository->last_run_end + interval;
	if (now >= due)
	{
		runs_want(repository, false, false, false, "scheduled", 0);
		repository->queued.scheduled = true;
	}
	else
		lower_deadline(deadline, due);
}

/* ---------------------------------------------------------------------
 * The run
 * ---------------------------------------------------------------------
 */

static void
begin_work(WorkerRepository *repository, void *arg)
{
	Run		   *run = arg;

	run->operation_id = operations_begin(&worker_objects, &repository->row->id,
										 repository->queued.startup ? "startup" : "reconciliation",
										 run->reason, &run->generation);
}

/* The queued run becomes the run; false when the database did not let it. */
static bool
begin_run(WorkerRepository *repository)
{
	QueuedRun  *queued = &repository->queued;
	Run			run = {0};
	ListCell   *lc;

	strlcpy(run.reason, queued->reason, sizeof(run.reason));
	run.heals = queued->heals || !runs_is_healed(repository);
	run.losses = repository->losses;
	run.scheduled = queued->scheduled;
	run.flags = queued->force ? PROTO_SCAN_FORCE : 0;
	if (worker_database_work(repository, begin_work, &run) != 0)
		return false;
	if (run.operation_id == 0)
	{
		worker_request_reload();
		return false;
	}

	run.phase = RUN_RUNNING;
	run.startup = queued->startup;
	run.started_at = clock_ms();
	run.waiters = queued->waiters;
	repository->run = run;
	repository->row->generation = run.generation;
	queued->wanted = false;
	queued->waiters = NIL;

	/* First, as who learns of it asks whether it is refused. */
	state_publish(repository);
	foreach(lc, run.waiters)
		requests_begun(((RunWaiter *) lfirst(lc))->ref, run.operation_id);
	return true;
}

static void
start_scan(WorkerRepository *repository)
{
	if (begin_run(repository))
		send_scan(repository);
}

/* Says that the run is over; what follows from it is done by runs_finish(). */
static void
end_run(WorkerRepository *repository, uint8 result, const Condition *failure)
{
	repository->run.phase = RUN_ENDING;
	repository->run.result = result;
	repository->run.failure = *failure;
}

/*
 * Somebody waits for a run of a tree that does not answer, and the process
 * may never go away: the run fails at once.
 */
static void
fail_queued_run(WorkerRepository *repository)
{
	if (begin_run(repository))
	{
		end_run(repository, PROTO_SCAN_FAILED, &repository->trouble);
		(void) runs_finish(repository);
	}
}

typedef struct EndWork
{
	OperationEnd end;
	bool		found;
	bool		first_scan;
} EndWork;

static void
end_work(WorkerRepository *repository, void *arg)
{
	EndWork    *work = arg;

	work->found = operations_end(&worker_objects, &repository->row->id, &work->end,
								 &work->first_scan);
}

static void
answer_waiters(WorkerRepository *repository, List *waiters, RequestOutcome outcome,
			   int64 operation_id)
{
	ListCell   *lc;

	foreach(lc, waiters)
		requests_answer(((RunWaiter *) lfirst(lc))->ref, outcome, operation_id);
	list_free_deep(waiters);
}

/* What a failed scan means for the time after it. */
static void
after_failure(WorkerRepository *repository, const Run *run)
{
	/* A process or a root that comes back brings a scan with it. */
	if (!process_can_talk(repository) ||
		repository->tree_state == PROTO_STATE_UNAVAILABLE)
		return;

	if (run->cancelled)
	{
		if (run->heals)
			worker_set_condition(&repository->scan_trouble, run->failure.reason,
								 "Until a reconciliation completes, the table may differ from the disk: run fsync_reconcile(repository_id).");
		return;
	}
	repository->scan_trouble = run->failure;
	if (run->result == PROTO_SCAN_MASS_DELETE)
	{
		worker_set_condition(&repository->scan_trouble, run->failure.reason,
							 run->failure.hint[0] != '\0' ? run->failure.hint :
							 "If the files were removed on purpose, run fsync_reconcile(repository_id, force => true).");
	}
	else
		runs_want(repository, false, run->heals, false, run->reason,
				  next_loss_due(repository));
}

/*
 * Writes the end of the run and acts on it.  False when the database did not
 * take it; then this is called again.
 */
bool
runs_finish(WorkerRepository *repository)
{
	Run		   *run = &repository->run;
	EndWork		work = {0};
	bool		completed = run->result == PROTO_SCAN_COMPLETE;
	List	   *waiters;

	work.end.id = run->operation_id;
	work.end.generation = run->generation;
	work.end.completed = completed;
	work.end.cancelled = run->cancelled;
	work.end.error = completed ? NULL : run->failure.reason;
	work.end.files_scanned = run->files_done;
	work.end.bytes_hashed = run->bytes_done;
	work.end.counts = run->counts;
	work.end.root = repository->row->root;

	/* One that came later, and in which nothing was found, may be a place for it. */
	if (repository->row->identity[0] != '\0' || run->files_done > 0)
		work.end.identity = repository->identity.data;
	work.end.mounts = repository->mounts.data;
	work.end.mounts_len = repository->mounts.len;
	if (worker_database_work(repository, end_work, &work) != 0)
		return false;
	if (!work.found)
		worker_request_reload();
	if (work.first_scan)
		analyze_want(run->counts.added);

	run->phase = RUN_NONE;
	worker_log_ended(repository, work.first_scan ? "first sync" :
					 run->startup ? "startup sync" : "reconciliation",
					 work.first_scan, completed ? "completed" : run->cancelled ? "cancelled" : "failed",
					 run->started_at, run->files_done, run->bytes_done, &run->counts);
	repository->last_run_end = clock_ms();
	if (completed)
	{
		repository->healed = run->losses;
		worker_set_condition(&repository->scan_trouble, NULL, NULL);
	}
	else
		after_failure(repository, run);

	waiters = run->waiters;
	run->waiters = NIL;
	answer_waiters(repository, waiters, OUTCOME_DONE, run->operation_id);
	return true;
}

/* False when it is to be called again for the same message. */
bool
runs_scan_done(WorkerRepository *repository, const ProtoScanDone *done)
{
	Run		   *run = &repository->run;
	Condition	failure;

	if (places_scan_done(repository, done))
		return true;

	/* Of a scan that was given up. */
	if (run->phase == RUN_NONE || run->operation_id != done->scan_id)
		return true;

	run->files_done = done->files_scanned;
	run->bytes_done = done->bytes_hashed;
	worker_copy_text(failure.reason, sizeof(failure.reason), done->message);
	worker_copy_text(failure.hint, sizeof(failure.hint), done->hint);
	if (done->result != PROTO_SCAN_COMPLETE && failure.reason[0] == '\0')
		strlcpy(failure.reason, done->result == PROTO_SCAN_CANCELLED ?
				"the scan was cancelled" : "the scan failed", sizeof(failure.reason));
	end_run(repository, done->result, &failure);
	return runs_finish(repository);
}

/*
 * The process is gone, and with it the barriers it worked on, and the scan;
 * unless the next process is to begin with it.
 */
void
runs_process_ended(WorkerRepository *repository, bool keep_run)
{
	flush_process_ended(repository);
	held_forget(repository);
	places_process_ended(repository);
	verify_process_ended(repository);
	if (repository->run.phase == RUN_RUNNING && (!keep_run || repository->run.cancelled))
	{
		end_run(repository, PROTO_SCAN_FAILED, &repository->trouble);
		(void) runs_finish(repository);
	}
}

/*
 * A user does not want the run any more.  Who asked is answered when it has
 * ended, or now where it is not the one that goes on.
 */
void
runs_cancel(WorkerRepository *repository, const TakenRequest *request)
{
	Run		   *run = &repository->run;

	if (run->phase != RUN_RUNNING || run->operation_id != request->operation_id)
	{
		requests_answer(request->ref, OUTCOME_DONE, 0);
		return;
	}
	run->waiters = runs_add_waiter(repository, run->waiters, request->ref, PG_UINT64_MAX);
	if (run->cancelled)
		return;
	run->cancelled = true;
	proto_begin(&repository->tree.out, PROTO_SCAN_CANCEL);
	proto_put_i64(&repository->tree.out, run->operation_id);
	proto_end(&repository->tree.out);
	process_send(repository);
}

/* ---------------------------------------------------------------------
 * Counting, and bursts of real-time changes
 * ---------------------------------------------------------------------
 */

static void
add_counts(ApplyCounts *to, const ApplyCounts *counts)
{
	to->added += counts->added;
	to->updated += counts->updated;
	to->moved += counts->moved;
	to->removed += counts->removed;
}

/* Files that were looked at for events, and bytes that were read for it. */
static void
count_inspected(Burst *burst, ProtoReader body)
{
	uint32		count = proto_get_u32(&body);
	ProtoObservation observation;

	while (count-- > 0 && proto_get_observation(&body, &observation))
	{
		if (observation.scan_id != 0)
			continue;
		switch (observation.op)
		{
			case PROTO_OP_ADDED:
			case PROTO_OP_UPDATED:
			case PROTO_OP_TOUCHED:
				burst->files++;
				if (pg_add_s64_overflow(burst->bytes, Max(observation.bytes_read, 0),
										&burst->bytes))
					burst->bytes = PG_INT64_MAX;
				break;
			case PROTO_OP_MOVED:
			case PROTO_OP_REMOVED:
				burst->files++;
				break;
			default:
				break;
		}
	}
}

/* An observations message was applied. */
void
runs_count(WorkerRepository *repository, const ApplyResult *result, ProtoReader body)
{
	const ApplyCounts *realtime = &result->realtime;
	Burst	   *burst = &repository->burst;
	bool		changed;

	if (repository->run.phase != RUN_NONE)
		add_counts(&repository->run.counts, &result->scan);
	if (repository->place.phase != RUN_NONE)
		add_counts(&repository->place.counts, &result->place);

	changed = realtime->added != 0 || realtime->updated != 0 || realtime->moved != 0 ||
		realtime->removed != 0;

	/* That files were read and found to be the same begins no burst. */
	if (!changed && !burst->open)
		return;
	if (!burst->open)
	{
		memset(burst, 0, sizeof(*burst));
		burst->open = true;
		burst->start = GetCurrentTimestamp();
		burst->started_at = clock_ms();
	}
	add_counts(&burst->counts, realtime);
	count_inspected(burst, body);
	if (!changed)
		return;
	burst->last = GetCurrentTimestamp();
	burst->last_at = clock_ms();
}

static void
burst_work(WorkerRepository *repository, void *arg)
{
	Burst	   *burst = &repository->burst;

	if (!operations_record_burst(&worker_objects, &repository->row->id, burst->start,
								 burst->last, &burst->counts, burst->files, burst->bytes))
		worker_request_reload();
}

/* True when no burst is open any more. */
bool
runs_close_burst(WorkerRepository *repository)
{
	Burst	   *burst = &repository->burst;

	if (!burst->open)
		return true;
	if (worker_database_work(repository, burst_work, NULL) != 0)
		return false;
	burst->open = false;
	worker_log_ended(repository, "a burst of changes", false, "ended", burst->started_at,
					 burst->files, burst->bytes, &burst->counts);
	return true;
}

static void
close_due_burst(WorkerRepository *repository, int64 now, int64 *deadline)
{
	int64		due;

	if (!repository->burst.open)
		return;
	due = Min(repository->burst.last_at + BURST_QUIET_MS,
			  repository->burst.started_at + BURST_MAX_MS);
	if (now >= due)
		(void) runs_close_burst(repository);
	else
		lower_deadline(deadline, due);
}

/*
 * Closes what sync_operations has open of a repository that is not to be
 * tracked for a while.  False when the database did not take it; then this is
 * called again.
 */
bool
runs_pause(WorkerRepository *repository)
{
	Run		   *run = &repository->run;

	if (!runs_close_burst(repository) || !places_pause(repository) ||
		!verify_pause(repository))
		return false;
	if (run->phase == RUN_RUNNING)
	{
		Condition	paused = {.reason = "the repository was paused"};

		run->cancelled = true;
		end_run(repository, PROTO_SCAN_CANCELLED, &paused);
	}
	return run->phase == RUN_NONE || runs_finish(repository);
}

/* The repository is gone: tells everybody who waits for it. */
void
runs_dismiss(WorkerRepository *repository)
{
	flush_dismiss(repository);
	answer_waiters(repository, repository->queued.waiters, OUTCOME_UNKNOWN, 0);
	answer_waiters(repository, repository->run.waiters, OUTCOME_UNKNOWN, 0);
	places_dismiss(repository);
	verify_dismiss(repository);
}

List *
runs_without_those_in_vain(const WorkerRepository *repository, List *waiters)
{
	ListCell   *lc;

	foreach(lc, waiters)
	{
		RunWaiter  *waiter = lfirst(lc);

		if (waiter->refusals >= repository->all_refusals)
			continue;
		requests_answer(waiter->ref, OUTCOME_IN_VAIN, 0);
		waiters = foreach_delete_current(waiters, lc);
		pfree(waiter);
	}
	return waiters;
}

bool
runs_are_refused(const WorkerRepository *repository)
{
	return repository->stalled && repository->refusals >= REFUSED_TRIES;
}

/* Their repository's status is published already, with what the trouble is. */
void
runs_give_up(WorkerRepository *repository)
{
	if (!runs_are_refused(repository))
		return;
	repository->run.waiters = runs_without_those_in_vain(repository, repository->run.waiters);
	repository->queued.waiters = runs_without_those_in_vain(repository, repository->queued.waiters);
	places_give_up(repository);
}

void
runs_advance(WorkerRepository *repository, int64 now, int64 *deadline)
{
	QueuedRun  *queued = &repository->queued;

	if (!repository->stalled)
		close_due_burst(repository, now, deadline);
	schedule_routine_run(repository, now, deadline);

	if (queued->wanted && repository->run.phase == RUN_NONE && !repository->stalled)
	{
		if (queued->due > now)
			lower_deadline(deadline, queued->due);
		else if (process_can_talk(repository))
			start_scan(repository);
		else if (queued->waiters != NIL && repository->hung &&
				 repository->process == PROCESS_ENDING)
			fail_queued_run(repository);
	}
}
