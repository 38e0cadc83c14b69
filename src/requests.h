/*-------------------------------------------------------------------------
 *
 * requests.h
 *		Shared memory: who runs where, what each repository is doing, and
 *		sessions that ask a worker for something and wait.
 *
 * Everything here is protected by one LWLock (short critical sections, no
 * I/O); waiting is on condition variables.  Slots carry the generation of the
 * worker that took them: when it exits, all its waiters are woken and told.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_REQUESTS_H
#define FSYNC_REQUESTS_H

#include "fsync.h"

#include "totals.h"
#include "tree/lag.h"
#include "tree/protocol.h"

#define STATUS_TEXT_LEN		512
#define STATUS_SANDBOX_LEN	176

/* shared memory; called by fsync.c's hooks */
extern Size requests_shmem_size(void);
extern void requests_shmem_startup(void);

/* ---- state of a repository, written by its worker ---- */

/* What totals.c knows of a repository. */
typedef struct RepositoryTotals
{
	bool		known;
	uint64		writes;			/* of others, when they were known */
	Totals		sum;
	bool		problems_known;
	uint64		problem_writes;
	int64		problems;
} RepositoryTotals;

typedef struct RepositoryStatus
{
	bool		used;
	Oid			database;
	pg_uuid_t	id;
	char		state[32];		/* starting, syncing, watching, degraded,
								 * unavailable, inactive */
	char		reason[STATUS_TEXT_LEN];
	char		hint[STATUS_TEXT_LEN];
	bool		is_watching;
	int64		directories;
	int64		pending;
	int64		operation_id;	/* running, or 0 */
	int64		files_done;
	int64		bytes_done;
	char		reading[STATUS_TEXT_LEN];	/* the largest of the files that
										 * are to be hashed; empty: none */
	int64		reading_done;	/* bytes of it that were read */
	int64		reading_size;	/* bytes that it has */
	int64		unread;			/* files that wait to be read as only their ctime
								 * moved */
	uint64		flushed;		/* ticket of the last barrier that it passed:
								 * all before it have passed, too */
	uint64		given_up;		/* ticket of the last one that did not wait for
								 * it */
	bool		runs_refused;	/* the database has not taken for some tries
								 * what a run needs */
	TimestampTz last_event;		/* 0: none yet */
	int			tree_pid;		/* 0: not running */
	int			worker_pid;
	int64		watches;		/* of inotify that fsync-tree may have */
	char		sandbox[STATUS_SANDBOX_LEN + 4];	/* empty: not known */
	RepositoryTotals totals;	/* not published, but kept */
} RepositoryStatus;

/* Copies the status of a repository of this database; false: none. */
extern bool status_get(const pg_uuid_t *id, RepositoryStatus *out);

/* worker: publishes (by database and id), or withdraws */
extern bool status_publish(const RepositoryStatus *status);
/*
 * worker: grants a repository, whose status is published, so many watches in
 * all, or what is left of total when all others of the server have theirs;
 * never fewer than it has.  Returns how many.
 */
extern int64 status_grant_watches(const pg_uuid_t *id, int64 wanted, int64 total);
extern void status_withdraw(const pg_uuid_t *id);
extern void status_withdraw_all(void);	/* of this worker */

/* ---- counters of a repository, from the start of the server or a reset ---- */

typedef struct RepositoryCounters
{
	bool		used;
	Oid			database;
	pg_uuid_t	id;
	TimestampTz reset;

	uint64		events;			/* inotify's */
	uint64		overflows;		/* times that events were lost */
	uint64		inspections;	/* paths that were looked at */
	uint64		files_hashed;
	uint64		bytes_hashed;
	uint64		files_added;
	uint64		files_updated;
	uint64		files_moved;
	uint64		files_removed;
	uint64		commits;		/* batches of changes */
	uint64		errors;			/* what the database refused */
	uint64		lag[LAG_BUCKETS];	/* from a change's first event to its
									 * commit */
} RepositoryCounters;

/* worker: adds to the counters of a repository of this database */
extern void counters_add(const pg_uuid_t *id, const RepositoryCounters *more);

/* Copies them, or sets them to zero; false: nothing has been counted. */
extern bool counters_get(const pg_uuid_t *id, RepositoryCounters *out);
extern bool counters_reset(const pg_uuid_t *id);

/* ---- waking ---- */

/* Called in a transaction: the worker of this database (started if need be)
 * looks at fsync_repositories again after the commit. */
extern void requests_wake_at_commit(void);

/*
 * The same, where the transaction may also be prepared: of who has written to
 * file_records and was prepared, the worker looks itself when he has gone.
 */
extern void requests_tell_at_commit(void);

/* The same at once, of any database. */
extern void requests_wake_worker(Oid database);

/*
 * True if fsync was preloaded, so that there is shared memory.
 */
extern bool requests_available(void);

/* Stops the worker of a database and waits until it is gone (at most 10 s);
 * the launcher leaves the database alone until requests_release_database(). */
extern void requests_stop_worker(Oid database);
extern void requests_release_database(Oid database);

/* ---- sessions ---- */

typedef enum RequestKind
{
	REQUEST_RECONCILE = 1,
	REQUEST_FLUSH,
	REQUEST_CANCEL,
	REQUEST_VERIFY,
} RequestKind;

typedef enum RequestOutcome
{
	OUTCOME_DONE = 1,
	OUTCOME_TIMEOUT,			/* the caller's time is over */
	OUTCOME_WORKER_GONE,		/* no worker, or it ended meanwhile and did not
								 * come back in time */
	OUTCOME_UNKNOWN,			/* the worker does not know the repository */
	OUTCOME_IN_VAIN,			/* waiting for the repository, or for one of
								 * them, is of no use now */
	OUTCOME_QUEUED,				/* reconcile without wait: it has not begun yet */
} RequestOutcome;

/* What a verification may take; 0: no limit. */
typedef struct VerifyLimits
{
	int64		rate;			/* bytes a second */
	int64		bytes;			/* in all; the last file is read to its end */
	int64		ms;				/* time; the same */
} VerifyLimits;

/*
 * Asks for a reconciliation of one repository, or of the file or directory at
 * this path and all below it: NULL.  With wait: returns when a run
 * that began after this call has ended.  Without: when it began (at most five
 * seconds).  Several callers share a run that has not begun yet.
 * Fills operation_id.  Raises query_canceled and the like as usual (the run
 * goes on), and 40P01 when the caller blocks the worker.
 */
extern RequestOutcome request_reconcile(const pg_uuid_t *id, const char *path, bool force,
										bool wait, int64 *operation_id);

/*
 * Cancels a run of the repository and returns when it has ended; if it is not
 * the one that goes on, at once.  Fills operation_id with the run that was
 * cancelled, or 0.  Raises as request_reconcile().
 */
extern RequestOutcome request_cancel(const pg_uuid_t *id, int64 *operation_id);

/*
 * The same for a verification.  Callers share nothing: one verification comes
 * after the other.
 */
extern RequestOutcome request_verify(const pg_uuid_t *id, const VerifyLimits *limits,
									 bool wait, int64 *operation_id);

/*
 * Barrier for one repository, or for all that are tracked in this database:
 * NULL.  The ticket tells what became of each, where the outcome is neither
 * OUTCOME_DONE nor OUTCOME_UNKNOWN: see RepositoryStatus.  Raises as
 * request_reconcile().
 */
extern RequestOutcome request_flush(const pg_uuid_t *id, int64 timeout_ms,
									uint64 *ticket);

/* Raises 40P01 if this session blocks the worker in its work on the
 * repository, or on any: NULL; for whoever waits in another way. */
extern void requests_check_deadlock(const pg_uuid_t *id);

/* Lets the worker of this database ask its fsync-trees for a sign of life, so
 * that a hung one is found soon after somebody looked; returns at once. */
extern void requests_nudge(void);

/* ---- worker: what sessions asked for ---- */

/* Names a request; stale, and then without effect, once its session left. */
typedef struct RequestRef
{
	int			slot;
	uint64		ticket;
} RequestRef;

typedef struct TakenRequest
{
	RequestRef	ref;
	RequestKind kind;
	bool		all;			/* flush: of all repositories */
	pg_uuid_t	repository;
	char		path[PROTO_PATH_MAX + 1];	/* reconcile: a part; empty: all */
	bool		force;
	int64		operation_id;	/* to be cancelled */
	VerifyLimits limits;
} TakenRequest;

/* Takes the next request to this database; false: none. */
extern bool requests_take(TakenRequest *out);

/* The run that serves a reconcile request has begun. */
extern void requests_begun(RequestRef ref, int64 operation_id);
extern void requests_answer(RequestRef ref, RequestOutcome outcome, int64 operation_id);

/* ---- launcher ---- */

/*
 * There is no place for a worker of the database: answers who is in
 * request_flush(), which goes on waiting for no other reason.
 */
extern void requests_refuse_flushes(Oid database);

#endif							/* FSYNC_REQUESTS_H */
