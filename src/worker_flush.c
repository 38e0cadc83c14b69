/*-------------------------------------------------------------------------
 *
 * worker_flush.c
 *		Barriers: sessions in fsync_wait().
 *
 * A session waits for one repository, or for all of them at once.  Each of
 * these gets a waiter, which belongs to the session's barrier; the session is
 * answered when its last waiter is done or given up.  What became of each
 * repository stands in its status, by the ticket of the request: barriers are
 * served in the order in which they came, so a ticket that was flushed vouches
 * for all before it.
 *
 * A repository is given up where waiting is of no use: its directory is
 * unavailable, its fsync-tree does not answer, or it has none for want of a
 * place.  Everything else is waited for, until the session's time is over; but
 * rows that other transactions hold, only for a moment (worker_held.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"

#include "worker.h"

/* A session that waits for the end of all its waiters. */
typedef struct Barrier
{
	RequestRef	ref;
	int			waiters;		/* not answered yet, and one while they are added */
	RequestOutcome outcome;		/* the worst so far */
} Barrier;

/* In a repository's list, in the order of their tickets. */
typedef struct FlushWaiter
{
	Barrier    *barrier;
	int64		token;			/* 0: not sent to fsync-tree */
	int64		held_since;		/* see held_lets_pass() */
} FlushWaiter;

Barrier *
flush_begin(RequestRef ref)
{
	Barrier    *barrier = MemoryContextAllocZero(worker_context, sizeof(Barrier));

	barrier->ref = ref;
	barrier->waiters = 1;
	barrier->outcome = OUTCOME_DONE;
	return barrier;
}

/* One of its repositories is done, or not to be waited for. */
static void
leave(Barrier *barrier, RequestOutcome outcome)
{
	if (outcome != OUTCOME_DONE)
		barrier->outcome = outcome;
	if (--barrier->waiters > 0)
		return;
	requests_answer(barrier->ref, barrier->outcome, 0);
	pfree(barrier);
}

void
flush_add(WorkerRepository *repository, Barrier *barrier)
{
	MemoryContext old = MemoryContextSwitchTo(repository->context);
	FlushWaiter *waiter = palloc0(sizeof(FlushWaiter));

	waiter->barrier = barrier;
	barrier->waiters++;
	repository->flushes = lappend(repository->flushes, waiter);
	MemoryContextSwitchTo(old);
}

void
flush_added(Barrier *barrier)
{
	leave(barrier, OUTCOME_DONE);
}

bool
flush_outstanding(const WorkerRepository *repository)
{
	ListCell   *lc;

	foreach(lc, repository->flushes)
	{
		if (((FlushWaiter *) lfirst(lc))->token != 0)
			return true;
	}
	return false;
}

bool
flush_wanted(const WorkerRepository *repository)
{
	ListCell   *lc;

	foreach(lc, repository->flushes)
	{
		if (((FlushWaiter *) lfirst(lc))->token == 0)
			return true;
	}
	return false;
}

/*
 * Answers the waiters of a token, or all of them: token < 0.  Their status is
 * published first, for who waits for several repositories reads it there.
 */
static void
answer(WorkerRepository *repository, int64 token, RequestOutcome outcome)
{
	uint64		ticket = 0;
	ListCell   *lc;

	foreach(lc, repository->flushes)
	{
		FlushWaiter *waiter = lfirst(lc);

		if (token < 0 || waiter->token == token)
			ticket = Max(ticket, waiter->barrier->ref.ticket);
	}
	if (ticket == 0)
		return;
	if (outcome == OUTCOME_DONE)
		repository->flushed = Max(repository->flushed, ticket);
	else if (outcome == OUTCOME_IN_VAIN)
		repository->flush_refused = Max(repository->flush_refused, ticket);

	/* That of one that is gone has been withdrawn. */
	if (outcome != OUTCOME_UNKNOWN)
		state_publish(repository);

	foreach(lc, repository->flushes)
	{
		FlushWaiter *waiter = lfirst(lc);

		if (token >= 0 && waiter->token != token)
			continue;
		leave(waiter->barrier, outcome);
		repository->flushes = foreach_delete_current(repository->flushes, lc);
		pfree(waiter);
	}
}

/*
 * One message serves all who came since the last one.  fsync-tree is asked
 * also where its root is unavailable: it looks again, before it says so.
 */
static void
send_flush(WorkerRepository *repository)
{
	int64		token = 0;
	ListCell   *lc;

	if (repository->flushes == NIL || !process_can_talk(repository) ||
		!(runs_is_healed(repository) || repository->tree_state == PROTO_STATE_UNAVAILABLE))
		return;
	foreach(lc, repository->flushes)
	{
		FlushWaiter *waiter = lfirst(lc);

		if (waiter->token != 0)
			continue;
		if (token == 0)
			token = ++repository->next_token;
		waiter->token = token;
	}
	if (token == 0)
		return;
	proto_begin(&repository->tree.out, PROTO_FLUSH);
	proto_put_i64(&repository->tree.out, token);
	proto_end(&repository->tree.out);
	process_send(repository);
}

/* Sent once more when that is of use: events were lost, the process is gone. */
static void
take_back(WorkerRepository *repository, int64 token)
{
	ListCell   *lc;

	foreach(lc, repository->flushes)
	{
		FlushWaiter *waiter = lfirst(lc);

		if (token < 0 || waiter->token == token)
			waiter->token = 0;
	}
}

/* The same of those that are to wait for who holds a row. */
static void
take_back_held(WorkerRepository *repository, int64 token)
{
	ListCell   *lc;

	foreach(lc, repository->flushes)
	{
		FlushWaiter *waiter = lfirst(lc);

		if (waiter->token == token && !held_lets_pass(repository, &waiter->held_since))
			waiter->token = 0;
	}
}

void
flush_process_ended(WorkerRepository *repository)
{
	take_back(repository, -1);
}

bool
flush_answered(WorkerRepository *repository, int64 token, ProtoFlushResult result)
{
	if (token <= 0)
		return true;

	/* Before the answer, so that who waited sees its row. */
	if (!runs_close_burst(repository))
		return false;

	/* A barrier means durable, whatever synchronous_commit says. */
	XLogFlush(XactLastCommitEnd);

	/* The root is unavailable, and nothing was looked at. */
	if (result == PROTO_FLUSH_IN_VAIN)
	{
		held_forget(repository);
		answer(repository, token, OUTCOME_IN_VAIN);
		return true;
	}
	if (!held_flushed(repository, token))
		return false;
	if (runs_is_healed(repository))
	{
		take_back_held(repository, token);
		answer(repository, token, OUTCOME_DONE);
	}
	else
		take_back(repository, token);
	return true;
}

/* The repository is gone: nobody can wait for it any more. */
void
flush_dismiss(WorkerRepository *repository)
{
	answer(repository, -1, OUTCOME_UNKNOWN);
}

void
flush_advance(WorkerRepository *repository, int64 now, int64 *deadline)
{
	if (!repository->stalled && !state_is_hopeless(repository) &&
		held_lets_flush(repository, now, deadline))
		send_flush(repository);
}

void
flush_give_up(WorkerRepository *repository)
{
	if (repository->flushes != NIL && state_is_hopeless(repository))
		answer(repository, -1, OUTCOME_IN_VAIN);
}
