/*-------------------------------------------------------------------------
 *
 * worker_verify.c
 *		Verifications of a repository: files that are read again.
 *
 * A verification goes on beside scans and real-time changes, one at a time
 * for each repository.  fsync-tree gets as many files as it can read in about
 * a second, and the next when their verdicts have been committed.  What has
 * been verified is kept file by file, so a verification that ends early, for
 * whatever reason, is simply followed by another one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "worker.h"

/* What one message asks to be read: at most so much, and a second's worth. */
#define BATCH_MAX_BYTES		(64 * INT64CONST(1024 * 1024))

typedef struct QueuedVerification
{
	VerifyLimits limits;
	RequestRef	waiter;
} QueuedVerification;

void
verify_want_for_request(WorkerRepository *repository, const TakenRequest *request)
{
	MemoryContext old = MemoryContextSwitchTo(repository->context);
	QueuedVerification *queued = palloc(sizeof(QueuedVerification));

	queued->limits = request->limits;
	queued->waiter = request->ref;
	repository->verifications = lappend(repository->verifications, queued);
	MemoryContextSwitchTo(old);
}

/* ---------------------------------------------------------------------
 * Begin and end
 * ---------------------------------------------------------------------
 */

static void
begin_work(WorkerRepository *repository, void *arg)
{
	Verification *run = arg;
	StringInfoData reason;

	initStringInfo(&reason);
	appendStringInfoString(&reason, "requested");
	if (run->limits.rate > 0)
		appendStringInfo(&reason, ", %s a second",
						 text_to_cstring(DatumGetTextPP(
							 DirectFunctionCall1(pg_size_pretty, Int64GetDatum(run->limits.rate)))));
	if (run->limits.bytes > 0)
		appendStringInfo(&reason, ", at most %s",
						 text_to_cstring(DatumGetTextPP(
							 DirectFunctionCall1(pg_size_pretty, Int64GetDatum(run->limits.bytes)))));
	if (run->limits.ms > 0)
		appendStringInfo(&reason, ", at most " INT64_FORMAT " seconds",
						 (run->limits.ms + 999) / 1000);
	run->operation_id = verification_begin(&worker_objects, &repository->row->id,
										   reason.data, &run->cursor.start);
}

static void
begin(WorkerRepository *repository, int64 now)
{
	QueuedVerification *queued = linitial(repository->verifications);
	Verification run = {.limits = queued->limits,.waiters = NIL};
	MemoryContext old;

	if (worker_database_work(repository, begin_work, &run) != 0)
		return;
	if (run.operation_id == 0)
	{
		worker_request_reload();
		return;
	}
	run.phase = RUN_RUNNING;
	run.started_at = now;
	old = MemoryContextSwitchTo(repository->context);
	run.waiters = lappend(NIL, palloc(sizeof(RequestRef)));
	*(RequestRef *) linitial(run.waiters) = queued->waiter;
	MemoryContextSwitchTo(old);
	repository->verification = run;
	requests_begun(queued->waiter, run.operation_id);
	repository->verifications = list_delete_first(repository->verifications);
	pfree(queued);
}

/* Says how the run ends; finish() writes it. */
static void
end(WorkerRepository *repository, const char *status, const char *message)
{
	Verification *run = &repository->verification;

	run->phase = RUN_ENDING;
	strlcpy(run->status, status, sizeof(run->status));
	strlcpy(run->message, message != NULL ? message : "", sizeof(run->message));
}

static void
end_work(WorkerRepository *repository, void *arg)
{
	Verification *run = &repository->verification;
	StringInfoData message;

	initStringInfo(&message);
	appendStringInfoString(&message, run->message);
	if (run->counts.corrupt > 0 || run->counts.unreadable > 0)
		appendStringInfo(&message, "%scorrupt files: " INT64_FORMAT
						 ", unreadable files: " INT64_FORMAT "; see fsync_problems",
						 message.len > 0 ? "; " : "", run->counts.corrupt,
						 run->counts.unreadable);
	if (!verification_end(&worker_objects, run->operation_id, run->status,
						  message.len > 0 ? message.data : NULL, &run->counts))
		worker_request_reload();
}

/* False when the database did not take it; then this is called again. */
static bool
finish(WorkerRepository *repository)
{
	Verification *run = &repository->verification;
	ListCell   *lc;

	if (worker_database_work(repository, end_work, NULL) != 0)
		return false;
	run->phase = RUN_NONE;
	worker_log_ended(repository, "verification", false, run->status, run->started_at,
					 run->counts.files, run->counts.bytes, NULL);
	foreach(lc, run->waiters)
		requests_answer(*(RequestRef *) lfirst(lc), OUTCOME_DONE, run->operation_id);
	list_free_deep(run->waiters);
	run->waiters = NIL;
	return true;
}

/* ---------------------------------------------------------------------
 * Files
 * ---------------------------------------------------------------------
 */

typedef struct NextWork
{
	int64		bytes;
	uint32		count;
	bool		found;
} NextWork;

static void
next_work(WorkerRepository *repository, void *arg)
{
	NextWork   *work = arg;
	Verification *run = &repository->verification;

	work->found = verification_next(&worker_objects, &repository->row->id,
									run->operation_id, run->limits.rate, work->bytes,
									&run->cursor, &work->count, &repository->tree.out);
}

static bool
is_over_budget(const Verification *run, int64 now)
{
	return (run->limits.bytes > 0 && run->counts.bytes >= run->limits.bytes) ||
		(run->limits.ms > 0 && now >= run->started_at + run->limits.ms);
}

/* Sends the next files, or ends the run. */
static void
go_on(WorkerRepository *repository, int64 now, int64 *deadline)
{
	Verification *run = &repository->verification;
	NextWork	work = {.bytes = BATCH_MAX_BYTES};

	if (run->cursor.done || is_over_budget(run, now))
	{
		end(repository, "completed", NULL);
		return;
	}
	if (run->limits.rate > 0)
		work.bytes = Min(work.bytes, run->limits.rate);
	if (run->limits.bytes > 0)
		work.bytes = Min(work.bytes, run->limits.bytes - run->counts.bytes);
	if (worker_database_work(repository, next_work, &work) != 0)
		return;
	if (!work.found)
	{
		worker_request_reload();
		end(repository, "failed", "the repository is gone");
	}
	else if (work.count > 0)
	{
		run->outstanding = true;
		process_send(repository);
	}
	else
		lower_deadline(deadline, now);	/* the next page, when others had a turn */
}

void
verify_advance(WorkerRepository *repository, int64 now, int64 *deadline)
{
	Verification *run = &repository->verification;

	if (repository->stalled)
		return;
	if (run->phase == RUN_NONE && repository->verifications != NIL)
	{
		bool		unusable = repository->hung ||
			repository->tree_state == PROTO_STATE_UNAVAILABLE;

		if (unusable || (process_can_talk(repository) && runs_is_healed(repository)))
			begin(repository, now);
		if (unusable && run->phase == RUN_RUNNING)
			end(repository, "failed", repository->hung ? repository->trouble.reason :
				repository->tree_condition.reason);
	}
	if (run->phase == RUN_RUNNING && !run->outstanding && !repository->stalled)
		go_on(repository, now, deadline);
	if (run->phase == RUN_ENDING && !repository->stalled && finish(repository) &&
		repository->verifications != NIL)
		lower_deadline(deadline, now);
}

/* ---------------------------------------------------------------------
 * Verdicts
 * ---------------------------------------------------------------------
 */

typedef struct RecordWork
{
	ProtoReader verdicts;
	uint32		count;
	bool		found;
} RecordWork;

static void
record_work(WorkerRepository *repository, void *arg)
{
	RecordWork *work = arg;

	work->found = verification_record(&worker_objects, &repository->row->id,
									  work->verdicts, work->count,
									  &repository->verification.counts);
}

/* 0, or the SQLSTATE of the error; then as worker_database_work() says. */
int
verify_verdicts(WorkerRepository *repository, const ProtoVerifiedHeader *header,
				ProtoReader verdicts)
{
	Verification *run = &repository->verification;
	RecordWork	work = {.verdicts = verdicts,.count = header->count};
	int			error;

	if (run->phase != RUN_RUNNING || run->operation_id != header->run_id)
		return 0;
	if (work.count > 0)
	{
		error = worker_database_work(repository, record_work, &work);
		if (error != 0)
			return error;
		if (!work.found)
			worker_request_reload();
	}
	if (header->last)
	{
		run->outstanding = false;
		if (run->cancelled)
			end(repository, "cancelled", "cancelled by a user");
		else if (repository->tree_state == PROTO_STATE_UNAVAILABLE)
			end(repository, "failed", repository->tree_condition.reason);
	}
	return 0;
}

/* ---------------------------------------------------------------------
 * Other ends
 * ---------------------------------------------------------------------
 */

/* False: it is no verification that goes on. */
bool
verify_cancel(WorkerRepository *repository, const TakenRequest *request)
{
	Verification *run = &repository->verification;
	MemoryContext old;

	if (run->phase != RUN_RUNNING || run->operation_id != request->operation_id)
		return false;
	old = MemoryContextSwitchTo(repository->context);
	run->waiters = lappend(run->waiters, palloc(sizeof(RequestRef)));
	*(RequestRef *) llast(run->waiters) = request->ref;
	MemoryContextSwitchTo(old);
	if (run->cancelled)
		return true;
	run->cancelled = true;
	if (run->outstanding)
	{
		proto_begin(&repository->tree.out, PROTO_SCAN_CANCEL);
		proto_put_i64(&repository->tree.out, run->operation_id);
		proto_end(&repository->tree.out);
		process_send(repository);
	}
	else
		end(repository, "cancelled", "cancelled by a user");
	return true;
}

/* The process is gone, and with it what it was reading. */
void
verify_process_ended(WorkerRepository *repository)
{
	Verification *run = &repository->verification;

	if (run->phase != RUN_RUNNING)
		return;
	run->outstanding = false;
	end(repository, "failed", repository->trouble.reason);
}

/* As runs_pause(). */
bool
verify_pause(WorkerRepository *repository)
{
	Verification *run = &repository->verification;

	if (run->phase == RUN_RUNNING)
		end(repository, "cancelled", "the repository was paused");
	return run->phase == RUN_NONE || finish(repository);
}

/* As runs_dismiss(). */
void
verify_dismiss(WorkerRepository *repository)
{
	ListCell   *lc;

	foreach(lc, repository->verifications)
		requests_answer(((QueuedVerification *) lfirst(lc))->waiter, OUTCOME_UNKNOWN, 0);
	foreach(lc, repository->verification.waiters)
		requests_answer(*(RequestRef *) lfirst(lc), OUTCOME_UNKNOWN, 0);
}
