/*-------------------------------------------------------------------------
 *
 * shared.h
 *		The layout of fsync's shared memory; private to status.c, registry.c,
 *		requests.c and totals.c.
 *
 * One LWLock protects all of it.  Critical sections copy a few hundred bytes
 * and set latches; nobody sleeps, allocates or raises an error in them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SHARED_H
#define FSYNC_SHARED_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

#include "registry.h"
#include "requests.h"

#define SHARED_TRANCHE		"fsync"

/* Sessions that wait at the same time, in all databases. */
#define SHARED_REQUESTS		128

/* Of these, those of one role that is no superuser. */
#define SHARED_REQUESTS_ROLE	(SHARED_REQUESTS / 4)

/*
 * A running worker has a repository, so as many slots as there may be
 * repositories are enough for them; the rest is for databases that are being
 * looked at or held.
 */
#define SHARED_DATABASES	(setting_max_repositories + 64)

typedef struct DatabaseSlot
{
	Oid			database;		/* InvalidOid: free */
	WorkerPhase phase;
	WorkerExit	exit;			/* how the last worker ended */
	uint32		generation;		/* of the worker that was started last */
	PGPROC	   *proc;			/* of the worker, while it can be woken */
	int			holds;			/* statements that need the database free */
	bool		wanted;			/* launcher: somebody wants a worker */
	bool		recheck;		/* worker: look at fsync_repositories again */
	bool		nudged;			/* worker: ask the trees for a sign of life */
	bool		has_current;	/* worker: current is valid */
	pg_uuid_t	current;		/* repository whose rows are being written */
	int			lacking;		/* worker: repositories without a status */
	Oid			file_records;	/* whoever writes these ... */
	Oid			problems;
	uint64		writes;			/* ... counts here, but for the worker's own ... */
	uint64		problem_writes; /* ... and here */
	bool		in_doubt;		/* what was prepared may be committed unseen */
	uint32		doubts;			/* times that this began */
	ConditionVariable ended;	/* broadcast when the worker has ended */
} DatabaseSlot;

/* In this order. */
typedef enum RequestPhase
{
	REQUEST_FREE = 0,
	REQUEST_POSTED,				/* no worker has seen it */
	REQUEST_TAKEN,				/* a worker has it in its queue */
	REQUEST_BEGUN,				/* its run goes on */
	REQUEST_ANSWERED,
} RequestPhase;

typedef struct RequestSlot
{
	RequestPhase phase;
	RequestKind kind;
	Oid			database;
	Oid			role;			/* as whom its session was authenticated */
	bool		all;			/* flush: of all repositories */
	pg_uuid_t	repository;
	char		path[PROTO_PATH_MAX + 1];	/* reconcile: a part; empty: all */
	bool		force;
	VerifyLimits limits;
	uint64		ticket;			/* tells this use of the slot from others */
	RequestOutcome outcome;
	int64		operation_id;
	ConditionVariable changed;	/* of phase; only its session waits */
} RequestSlot;

/* Databases without a place whose names are known here; there may be more. */
#define SHARED_WITHOUT_PLACE	256

typedef struct SharedState
{
	LWLock	   *lock;
	PGPROC	   *launcher;
	bool		look_everywhere;	/* launcher: a wake-up found no slot */
	pg_atomic_uint32 tables_generation; /* of file_records and problems of the
										 * slots */
	uint32		next_generation;
	uint64		next_ticket;
	Oid			without_place[SHARED_WITHOUT_PLACE];
	int			n_without_place;	/* in all */
	bool		no_slot;		/* in databases, not in max_worker_processes */
	int			n_databases;
	int			n_repositories;
	RequestSlot requests[SHARED_REQUESTS];
	DatabaseSlot *databases;	/* n_databases */
	RepositoryStatus *repositories; /* n_repositories */
	RepositoryCounters *counters;	/* n_repositories */
} SharedState;

/* NULL where the library was not preloaded. */
extern SharedState *shared;

/* With the lock held: the slot of a database, the status of a repository. */
extern DatabaseSlot *registry_find_slot(Oid database);
extern RepositoryStatus *status_find(Oid database, const pg_uuid_t *id);

/*
 * Called with the lock held when the worker of a database ends: what it had
 * taken goes back to the queue for the next worker, or, when it ended because
 * there is nothing to do, is answered with OUTCOME_UNKNOWN.
 */
extern void requests_worker_ended(Oid database, bool nothing_to_do);

#endif							/* FSYNC_SHARED_H */
