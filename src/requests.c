/*-------------------------------------------------------------------------
 *
 * requests.c
 *		Sessions that ask the worker for something and wait.
 *
 * A request is a slot in shared memory.  Its session sleeps on the slot's
 * condition variable and frees it whatever happens; the worker names it by
 * slot and ticket, so that an answer to a session that left goes nowhere.
 * When a worker ends, what it had taken goes back to the queue, and its
 * successor finds it there.
 *
 * The deadlock detector does not see such a wait.  A session that holds a
 * lock which the worker needs would wait for a worker that waits for it, so
 * each second it looks whether that is so, and gives up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "shared.h"
#include "tree_client.h"

/* How often a waiter looks around, and for how long it does without a worker. */
#define TICK_MS				1000
#define WORKER_GONE_MS		60000

/* A caller that does not wait for the run waits this long for its beginning. */
#define BEGIN_WAIT_MS		5000

/* ---------------------------------------------------------------------
 * Session
 * ---------------------------------------------------------------------
 */

static int
post_request(RequestKind kind, const pg_uuid_t *id, const char *path, bool force,
			 const VerifyLimits *limits, int64 operation_id)
{
	const Oid	role = GetSessionUserId();
	const bool	limited = !superuser_arg(role);
	int			of_role = 0;
	int			slot = -1;

	if (shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fsync is not loaded"),
				 errhint("Add fsync to shared_preload_libraries and restart the server.")));

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_REQUESTS; i++)
		of_role += shared->requests[i].phase != REQUEST_FREE &&
			shared->requests[i].role == role;
	for (int i = 0; i < SHARED_REQUESTS && slot < 0 &&
		 (!limited || of_role < SHARED_REQUESTS_ROLE); i++)
	{
		RequestSlot *request = &shared->requests[i];

		if (request->phase != REQUEST_FREE)
			continue;
		request->role = role;
		request->phase = REQUEST_POSTED;
		request->kind = kind;
		request->database = MyDatabaseId;
		request->all = id == NULL;
		memset(&request->repository, 0, sizeof(request->repository));
		if (id != NULL)
			request->repository = *id;
		strlcpy(request->path, path != NULL ? path : "", sizeof(request->path));
		request->force = force;
		memset(&request->limits, 0, sizeof(request->limits));
		if (limits != NULL)
			request->limits = *limits;
		request->ticket = ++shared->next_ticket;
		request->outcome = OUTCOME_WORKER_GONE;
		request->operation_id = operation_id;
		slot = i;
	}
	LWLockRelease(shared->lock);

	if (slot < 0 && limited && of_role >= SHARED_REQUESTS_ROLE)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many sessions of this role wait for fsync"),
				 errdetail("At most %d sessions of a role can wait at the same time.",
						   SHARED_REQUESTS_ROLE)));
	if (slot < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many sessions wait for fsync"),
				 errdetail("At most %d sessions can wait at the same time.",
						   SHARED_REQUESTS)));
	return slot;
}

static void
free_request(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->requests[DatumGetInt32(arg)].phase = REQUEST_FREE;
	LWLockRelease(shared->lock);
}

/*
 * The worker of this database, if it waits for a lock now while it works on
 * the repository (or on all of them); else 0.
 */
static int
worker_waiting_for_lock(const pg_uuid_t *id)
{
	int			pid = 0;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_databases; i++)
	{
		DatabaseSlot *slot = &shared->databases[i];

		if (slot->database != MyDatabaseId || slot->proc == NULL)
			continue;
		if (id != NULL && slot->has_current && memcmp(&slot->current, id, sizeof(*id)) != 0)
			continue;
		if ((slot->proc->wait_event_info & 0xFF000000) == PG_WAIT_LOCK)
			pid = slot->proc->pid;
	}
	LWLockRelease(shared->lock);
	return pid;
}

/* Whether this session blocks the process, directly or through others. */
static bool
this_session_blocks(int pid)
{
	List	   *pids = list_make1_int(pid);

	/* The list grows while it is walked; each process is in it once. */
	for (int i = 0; i < list_length(pids); i++)
	{
		Datum		blockers = DirectFunctionCall1(pg_blocking_pids,
												   Int32GetDatum(list_nth_int(pids, i)));
		Datum	   *values;
		int			n;

		deconstruct_array(DatumGetArrayTypeP(blockers), INT4OID,
						  sizeof(int32), true, TYPALIGN_INT, &values, NULL, &n);
		for (int j = 0; j < n; j++)
			pids = list_append_unique_int(pids, DatumGetInt32(values[j]));
		if (list_member_int(pids, MyProcPid))
			return true;
		if (list_length(pids) > MaxBackends)
			break;
	}
	return false;
}

void
requests_check_deadlock(const pg_uuid_t *id)
{
	int			worker = worker_waiting_for_lock(id);

	if (worker != 0 && this_session_blocks(worker))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
				 errmsg("deadlock detected"),
				 errdetail("This session waits for the fsync worker (process %d), which waits for a lock that this session holds.",
						   worker),
				 errhint("Commit or roll back before waiting for fsync.")));
}

static bool
database_has_worker(void)
{
	bool		found = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_databases && !found; i++)
		found = shared->databases[i].database == MyDatabaseId &&
			shared->databases[i].proc != NULL;
	LWLockRelease(shared->lock);
	return found;
}

/* Wakes the worker for a request that none has taken yet. */
static void
wake_worker_for_request(void)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_databases; i++)
	{
		DatabaseSlot *slot = &shared->databases[i];

		if (slot->database == MyDatabaseId && slot->proc != NULL)
			SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(shared->lock);
}

/*
 * Sleeps until the request has come as far as this phase, or until timeout_ms
 * are over (< 0: when there is no worker for a while).  Returns the phase it
 * is in.
 */
static RequestPhase
wait_for_request(RequestSlot *request, RequestPhase far_enough, int64 timeout_ms,
				 RequestOutcome *outcome, int64 *operation_id)
{
	static uint32 wait_event = 0;
	int64		start = clock_ms();
	int64		seen_worker = start;
	bool		had_worker = false;
	bool		first = true;

	ConditionVariablePrepareToSleep(&request->changed);
	for (;;)
	{
		int64		now;
		RequestPhase phase;
		int64		left;
		bool		has_worker;

		LWLockAcquire(shared->lock, LW_SHARED);
		phase = request->phase;
		*outcome = request->outcome;
		*operation_id = request->operation_id;
		LWLockRelease(shared->lock);
		if (phase >= far_enough)
		{
			ConditionVariableCancelSleep();
			return phase;
		}

		now = clock_ms();
		has_worker = database_has_worker();
		if (has_worker)
		{
			seen_worker = now;
			if (!had_worker)
				wake_worker_for_request();
		}
		else if (had_worker || first)
			requests_wake_worker(MyDatabaseId);
		had_worker = has_worker;
		first = false;

		left = timeout_ms < 0 ? TICK_MS : timeout_ms - (now - start);
		if (timeout_ms < 0 && now - seen_worker > WORKER_GONE_MS)
		{
			*outcome = OUTCOME_WORKER_GONE;
			left = 0;
		}
		if (left <= 0)
		{
			ConditionVariableCancelSleep();
			return phase;
		}
		if (ConditionVariableTimedSleep(&request->changed, Min(left, TICK_MS),
										wait_event_compat(&wait_event, "FsyncRequest")))
			requests_check_deadlock(request->all ? NULL : &request->repository);
	}
}

/* Waits for the run that serves the request in this slot, and frees it. */
static RequestOutcome
wait_for_run(int slot, bool wait, int64 *operation_id)
{
	RequestOutcome outcome = OUTCOME_WORKER_GONE;

	PG_ENSURE_ERROR_CLEANUP(free_request, Int32GetDatum(slot));
	{
		RequestSlot *request = &shared->requests[slot];
		RequestPhase phase;

		phase = wait_for_request(request, wait ? REQUEST_ANSWERED : REQUEST_BEGUN,
								 wait ? -1 : BEGIN_WAIT_MS, &outcome, operation_id);

		/* A request that no worker has taken would be lost with its slot. */
		if (!wait && phase == REQUEST_POSTED)
			phase = wait_for_request(request, REQUEST_TAKEN, -1, &outcome, operation_id);

		if (phase == REQUEST_BEGUN && !wait)
			outcome = OUTCOME_DONE;
		else if (!wait && (phase == REQUEST_TAKEN || outcome == OUTCOME_IN_VAIN))
			outcome = OUTCOME_QUEUED;
	}
	PG_END_ENSURE_ERROR_CLEANUP(free_request, Int32GetDatum(slot));
	free_request(0, Int32GetDatum(slot));
	return outcome;
}

RequestOutcome
request_reconcile(const pg_uuid_t *id, const char *path, bool force, bool wait,
				  int64 *operation_id)
{
	return wait_for_run(post_request(REQUEST_RECONCILE, id, path, force, NULL, 0), wait,
						operation_id);
}

RequestOutcome
request_verify(const pg_uuid_t *id, const VerifyLimits *limits, bool wait,
			   int64 *operation_id)
{
	return wait_for_run(post_request(REQUEST_VERIFY, id, NULL, false, limits, 0), wait,
						operation_id);
}

RequestOutcome
request_cancel(const pg_uuid_t *id, int64 *operation_id)
{
	RequestOutcome outcome = OUTCOME_WORKER_GONE;
	int			slot = post_request(REQUEST_CANCEL, id, NULL, false, NULL, *operation_id);

	PG_ENSURE_ERROR_CLEANUP(free_request, Int32GetDatum(slot));
	{
		(void) wait_for_request(&shared->requests[slot], REQUEST_ANSWERED, -1, &outcome,
								operation_id);
	}
	PG_END_ENSURE_ERROR_CLEANUP(free_request, Int32GetDatum(slot));
	free_request(0, Int32GetDatum(slot));
	return outcome;
}

RequestOutcome
request_flush(const pg_uuid_t *id, int64 timeout_ms, uint64 *ticket)
{
	RequestOutcome outcome = OUTCOME_WORKER_GONE;
	int64		operation_id;
	int			slot = post_request(REQUEST_FLUSH, id, NULL, false, NULL, 0);

	PG_ENSURE_ERROR_CLEANUP(free_request, Int32GetDatum(slot));
	{
		RequestPhase phase;

		*ticket = shared->requests[slot].ticket;
		phase = wait_for_request(&shared->requests[slot], REQUEST_ANSWERED, timeout_ms,
								 &outcome, &operation_id);
		if (phase != REQUEST_ANSWERED && timeout_ms >= 0)
			outcome = OUTCOME_TIMEOUT;
	}
	PG_END_ENSURE_ERROR_CLEANUP(free_request, Int32GetDatum(slot));
	free_request(0, Int32GetDatum(slot));
	return outcome;
}

/* ---------------------------------------------------------------------
 * Worker
 * ---------------------------------------------------------------------
 */

bool
requests_take(TakenRequest *out)
{
	bool		found = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_REQUESTS && !found; i++)
	{
		RequestSlot *request = &shared->requests[i];

		if (request->phase != REQUEST_POSTED || request->database != MyDatabaseId)
			continue;
		request->phase = REQUEST_TAKEN;
		out->ref.slot = i;
		out->ref.ticket = request->ticket;
		out->kind = request->kind;
		out->all = request->all;
		out->repository = request->repository;
		strlcpy(out->path, request->path, sizeof(out->path));
		out->force = request->force;
		out->operation_id = request->operation_id;
		out->limits = request->limits;
		found = true;
	}
	LWLockRelease(shared->lock);
	return found;
}

static void
set_phase(RequestRef ref, RequestPhase phase, RequestOutcome outcome, int64 operation_id)
{
	RequestSlot *request = &shared->requests[ref.slot];

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (request->phase != REQUEST_FREE && request->ticket == ref.ticket)
	{
		request->phase = phase;
		request->outcome = outcome;
		request->operation_id = operation_id;
		ConditionVariableBroadcast(&request->changed);
	}
	LWLockRelease(shared->lock);
}

void
requests_begun(RequestRef ref, int64 operation_id)
{
	set_phase(ref, REQUEST_BEGUN, OUTCOME_WORKER_GONE, operation_id);
}

void
requests_answer(RequestRef ref, RequestOutcome outcome, int64 operation_id)
{
	set_phase(ref, REQUEST_ANSWERED, outcome, operation_id);
}

void
requests_refuse_flushes(Oid database)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_REQUESTS; i++)
	{
		RequestSlot *request = &shared->requests[i];

		if (request->database != database || request->phase != REQUEST_POSTED ||
			request->kind != REQUEST_FLUSH)
			continue;
		request->phase = REQUEST_ANSWERED;
		request->outcome = OUTCOME_WORKER_GONE;
		ConditionVariableBroadcast(&request->changed);
	}
	LWLockRelease(shared->lock);
}

void
requests_worker_ended(Oid database, bool nothing_to_do)
{
	for (int i = 0; i < SHARED_REQUESTS; i++)
	{
		RequestSlot *request = &shared->requests[i];

		if (request->database != database || request->phase == REQUEST_FREE ||
			request->phase == REQUEST_ANSWERED)
			continue;
		request->phase = nothing_to_do ? REQUEST_ANSWERED : REQUEST_POSTED;
		request->outcome = nothing_to_do ? OUTCOME_UNKNOWN : OUTCOME_WORKER_GONE;
		ConditionVariableBroadcast(&request->changed);
	}
}
