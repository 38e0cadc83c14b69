/*-------------------------------------------------------------------------
 *
 * registry.c
 *		Shared memory: its creation, and which database has a worker.
 *
 * The launcher decides who runs, workers say how they are, and any session
 * may wake either.  A statement that needs a database free of connections
 * holds it: its worker ends, and the launcher starts no other until the hold
 * is released.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "shared.h"
#include "tree_client.h"

/* How long a statement waits for a worker to end. */
#define STOP_TIMEOUT_MS		10000

SharedState *shared = NULL;

/* worker: its slot and generation */
static DatabaseSlot *my_slot = NULL;
static uint32 my_generation;

/* session: the transaction changed what the worker must know */
static bool wake_at_commit = false;
static bool tell_at_commit = false; /* ... what it finds out by itself in time */
static bool xact_callback_registered = false;

/* ---------------------------------------------------------------------
 * Creation
 * ---------------------------------------------------------------------
 */

Size
requests_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(SharedState));

	size = add_size(size, MAXALIGN(mul_size(SHARED_DATABASES, sizeof(DatabaseSlot))));
	size = add_size(size, MAXALIGN(mul_size(setting_max_repositories,
											sizeof(RepositoryStatus))));
	size = add_size(size, mul_size(setting_max_repositories, sizeof(RepositoryCounters)));
	return size;
}

void
requests_shmem_startup(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("fsync", requests_shmem_size(), &found);
	if (!found)
	{
		char	   *rest = (char *) shared + MAXALIGN(sizeof(SharedState));

		memset(shared, 0, requests_shmem_size());
		shared->lock = &GetNamedLWLockTranche(SHARED_TRANCHE)->lock;
		shared->n_databases = SHARED_DATABASES;
		shared->n_repositories = setting_max_repositories;
		shared->databases = (DatabaseSlot *) rest;
		shared->repositories = (RepositoryStatus *)
			(rest + MAXALIGN(shared->n_databases * sizeof(DatabaseSlot)));
		shared->counters = (RepositoryCounters *)
			((char *) shared->repositories +
			 MAXALIGN(shared->n_repositories * sizeof(RepositoryStatus)));
		pg_atomic_init_u32(&shared->tables_generation, 0);
		for (int i = 0; i < shared->n_databases; i++)
			ConditionVariableInit(&shared->databases[i].ended);
		for (int i = 0; i < SHARED_REQUESTS; i++)
			ConditionVariableInit(&shared->requests[i].changed);
	}
	LWLockRelease(AddinShmemInitLock);
}

bool
requests_available(void)
{
	return shared != NULL;
}

/* ---------------------------------------------------------------------
 * Slots; the lock is held
 * ---------------------------------------------------------------------
 */

DatabaseSlot *
registry_find_slot(Oid database)
{
	for (int i = 0; i < shared->n_databases; i++)
	{
		if (shared->databases[i].database == database)
			return &shared->databases[i];
	}
	return NULL;
}

/* The database's slot, taken now if it had none; NULL when all are in use. */
static DatabaseSlot *
find_or_take_slot(Oid database)
{
	DatabaseSlot *slot = registry_find_slot(database);

	if (slot == NULL)
	{
		slot = registry_find_slot(InvalidOid);
		if (slot != NULL)
		{
			slot->database = database;
			slot->phase = WORKER_NONE;
			slot->exit = WORKER_EXIT_IDLE;
			slot->generation = 0;
			slot->proc = NULL;
			slot->holds = 0;
			slot->wanted = false;
			slot->recheck = false;
			slot->nudged = false;
			slot->has_current = false;
			slot->lacking = 0;
			slot->file_records = InvalidOid;
			slot->problems = InvalidOid;
		}
	}
	return slot;
}

static void
wake_launcher(void)
{
	if (shared->launcher != NULL)
		SetLatch(&shared->launcher->procLatch);
}

static void
free_slot_if_unused(DatabaseSlot *slot)
{
	if (slot->phase == WORKER_NONE && slot->holds == 0 && !slot->wanted)
		slot->database = InvalidOid;
}

/* ---------------------------------------------------------------------
 * Launcher
 * ---------------------------------------------------------------------
 */

static void
launcher_detach(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->launcher == MyProc)
		shared->launcher = NULL;
	LWLockRelease(shared->lock);
}

void
registry_launcher_attach(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher = MyProc;
	LWLockRelease(shared->lock);
	on_shmem_exit(launcher_detach, (Datum) 0);
}

bool
registry_take_look_everywhere(void)
{
	bool		result;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	result = shared->look_everywhere;
	shared->look_everywhere = false;
	LWLockRelease(shared->lock);
	return result;
}

RegistryEntry *
registry_entries(int *n)
{
	RegistryEntry *entries = palloc(shared->n_databases * sizeof(RegistryEntry));

	*n = 0;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_databases; i++)
	{
		DatabaseSlot *slot = &shared->databases[i];
		RegistryEntry *entry = &entries[*n];

		if (!OidIsValid(slot->database))
			continue;
		entry->database = slot->database;
		entry->phase = slot->phase;
		entry->exit = slot->exit;
		entry->generation = slot->generation;
		entry->wanted = slot->wanted;
		(*n)++;
	}
	LWLockRelease(shared->lock);
	return entries;
}

bool
registry_is_held(Oid database)
{
	DatabaseSlot *slot;
	bool		held;

	LWLockAcquire(shared->lock, LW_SHARED);
	slot = registry_find_slot(database);
	held = slot != NULL && slot->holds > 0;
	LWLockRelease(shared->lock);
	return held;
}

bool
registry_claim(Oid database, uint32 *generation, bool *no_slot)
{
	DatabaseSlot *slot;
	bool		claimed = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_or_take_slot(database);
	*no_slot = slot == NULL;
	if (slot != NULL && slot->phase == WORKER_NONE && slot->holds == 0)
	{
		slot->lacking = 0;
		slot->phase = WORKER_LAUNCHED;
		slot->exit = WORKER_EXIT_ERROR;
		slot->generation = ++shared->next_generation;
		slot->wanted = false;
		slot->recheck = false;
		*generation = slot->generation;
		claimed = true;
	}
	LWLockRelease(shared->lock);
	return claimed;
}

void
registry_clear(Oid database, uint32 generation)
{
	DatabaseSlot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(database);
	if (slot != NULL && slot->generation == generation)
	{
		slot->phase = WORKER_NONE;
		slot->proc = NULL;
		ConditionVariableBroadcast(&slot->ended);
		free_slot_if_unused(slot);
	}
	LWLockRelease(shared->lock);
}

void
registry_forget(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(database);
	if (slot != NULL)
	{
		slot->wanted = false;
		free_slot_if_unused(slot);
	}
	LWLockRelease(shared->lock);
}

void
registry_set_without_place(const Oid *databases, int n, bool no_slot)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n && i < SHARED_WITHOUT_PLACE; i++)
		shared->without_place[i] = databases[i];
	shared->n_without_place = n;
	shared->no_slot = no_slot;
	LWLockRelease(shared->lock);
}

/* ---------------------------------------------------------------------
 * Sessions that ask what is missing
 * ---------------------------------------------------------------------
 */

void
registry_get_lack(RegistryLack *lack)
{
	const DatabaseSlot *slot;
	bool		without_place;

	memset(lack, 0, sizeof(*lack));
	LWLockAcquire(shared->lock, LW_SHARED);
	slot = registry_find_slot(MyDatabaseId);
	lack->has_launcher = shared->launcher != NULL;
	lack->has_worker = slot != NULL && slot->proc != NULL;
	lack->databases = shared->n_without_place;
	without_place = shared->n_without_place > SHARED_WITHOUT_PLACE;
	for (int i = 0; i < shared->n_without_place && i < SHARED_WITHOUT_PLACE; i++)
		without_place |= shared->without_place[i] == MyDatabaseId;
	lack->no_slot = without_place && shared->no_slot;
	lack->no_process = without_place && !shared->no_slot;
	if (slot != NULL && slot->lacking > 0)
	{
		for (int i = 0; i < shared->n_databases; i++)
			lack->repositories += OidIsValid(shared->databases[i].database) ?
				shared->databases[i].lacking : 0;
	}
	LWLockRelease(shared->lock);
}

/* ---------------------------------------------------------------------
 * Worker
 * ---------------------------------------------------------------------
 */

/*
 * Runs after the worker has left the database for good (it was registered
 * before the worker connected): whoever waits for that may go on.
 */
static void
worker_detach(int code, Datum arg)
{
	status_withdraw_all();

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (my_slot->generation == my_generation)
	{
		requests_worker_ended(my_slot->database, false);
		my_slot->proc = NULL;
		my_slot->has_current = false;
		my_slot->phase = WORKER_ENDED;
		ConditionVariableBroadcast(&my_slot->ended);
		wake_launcher();
	}
	LWLockRelease(shared->lock);
}

bool
registry_worker_attach(Oid database, uint32 generation)
{
	DatabaseSlot *slot;
	bool		wanted = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(database);
	if (slot != NULL && slot->phase == WORKER_LAUNCHED && slot->generation == generation)
	{
		my_slot = slot;
		my_generation = generation;
		slot->phase = WORKER_PROBING;
		slot->proc = MyProc;
		wanted = slot->holds == 0;
		if (!wanted)
			slot->exit = WORKER_EXIT_STOPPED;
	}
	LWLockRelease(shared->lock);

	if (my_slot != NULL)
		on_shmem_exit(worker_detach, (Datum) 0);
	return wanted;
}

void
registry_worker_settled(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->phase = WORKER_SETTLED;
	wake_launcher();
	LWLockRelease(shared->lock);
}

void
registry_worker_lacks(int repositories)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->lacking = repositories;
	LWLockRelease(shared->lock);
}

void
registry_worker_events(RegistryEvents *events)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	events->stop = my_slot->holds > 0;
	events->recheck = my_slot->recheck;
	events->nudged = my_slot->nudged;
	my_slot->recheck = false;
	my_slot->nudged = false;
	LWLockRelease(shared->lock);
}

bool
registry_worker_leave(bool nothing_to_do)
{
	bool		may_leave = true;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (nothing_to_do && my_slot->recheck)
		may_leave = false;
	else
	{
		/* From here on a wake-up goes to the launcher. */
		my_slot->proc = NULL;
		my_slot->exit = nothing_to_do ? WORKER_EXIT_IDLE : WORKER_EXIT_STOPPED;
		if (nothing_to_do)
			requests_worker_ended(my_slot->database, true);
	}
	LWLockRelease(shared->lock);
	return may_leave;
}

void
registry_worker_current(const pg_uuid_t *repository)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->has_current = repository != NULL;
	if (repository != NULL)
		my_slot->current = *repository;
	LWLockRelease(shared->lock);
}

/* ---------------------------------------------------------------------
 * Waking and holding, from any session
 * ---------------------------------------------------------------------
 */

void
requests_wake_worker(Oid database)
{
	DatabaseSlot *slot;

	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_or_take_slot(database);
	if (slot == NULL)
		shared->look_everywhere = true;
	else if (slot->proc != NULL)
	{
		slot->recheck = true;
		SetLatch(&slot->proc->procLatch);
	}
	else if (slot->phase != WORKER_LAUNCHED)
		slot->wanted = true;
	if (slot == NULL || slot->wanted)
		wake_launcher();
	LWLockRelease(shared->lock);
}

static void
wake_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (wake_at_commit || tell_at_commit)
				requests_wake_worker(MyDatabaseId);
			wake_at_commit = tell_at_commit = false;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			wake_at_commit = tell_at_commit = false;
			break;
		case XACT_EVENT_PRE_PREPARE:

			/*
			 * COMMIT PREPARED may come from any session, at any time, and
			 * tells nobody.
			 */
			if (wake_at_commit)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has changed fsync's repositories")));
			break;
		default:
			break;
	}
}

static void
register_xact_callback(void)
{
	if (!xact_callback_registered)
	{
		RegisterXactCallback(wake_xact_callback, NULL);
		xact_callback_registered = true;
	}
}

void
requests_wake_at_commit(void)
{
	register_xact_callback();
	wake_at_commit = true;
}

void
requests_tell_at_commit(void)
{
	register_xact_callback();
	tell_at_commit = true;
}

void
requests_nudge(void)
{
	DatabaseSlot *slot;

	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(MyDatabaseId);
	if (slot != NULL && slot->proc != NULL)
	{
		slot->nudged = true;
		SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(shared->lock);
}

void
requests_release_database(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(database);
	if (slot != NULL && slot->holds > 0)
	{
		slot->holds--;
		if (slot->holds == 0)
		{
			free_slot_if_unused(slot);
			wake_launcher();
		}
	}
	LWLockRelease(shared->lock);
}

static void
release_on_error(int code, Datum arg)
{
	requests_release_database(DatumGetObjectId(arg));
}

/*
 * Keeps the database's worker and its successors away, until
 * requests_release_database(), and makes it leave in the middle of a statement.
 * False: it has no slot, hence no worker.
 */
static bool
hold_worker(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_or_take_slot(database);
	if (slot != NULL)
	{
		slot->holds++;
		if (slot->proc != NULL)
			kill(slot->proc->pid, SIGTERM);
	}
	LWLockRelease(shared->lock);
	return slot != NULL;
}

/* A slot that is held stays the database's. */
static void
wait_for_worker_to_end(Oid database)
{
	DatabaseSlot *slot;
	static uint32 wait_event = 0;
	int64		give_up = clock_ms() + STOP_TIMEOUT_MS;

	LWLockAcquire(shared->lock, LW_SHARED);
	slot = registry_find_slot(database);
	LWLockRelease(shared->lock);
	ConditionVariablePrepareToSleep(&slot->ended);
	for (;;)
	{
		bool		ended;
		int64		left;

		LWLockAcquire(shared->lock, LW_SHARED);
		ended = slot->phase == WORKER_NONE || slot->phase == WORKER_ENDED;
		LWLockRelease(shared->lock);
		left = give_up - clock_ms();
		if (ended || left <= 0)
			break;
		ConditionVariableTimedSleep(&slot->ended, left,
									wait_event_compat(&wait_event, "FsyncWorkerStop"));
	}
	ConditionVariableCancelSleep();
}

void
requests_stop_worker(Oid database)
{
	if (!hold_worker(database))
		return;

	PG_ENSURE_ERROR_CLEANUP(release_on_error, ObjectIdGetDatum(database));
	{
		wait_for_worker_to_end(database);
	}
	PG_END_ENSURE_ERROR_CLEANUP(release_on_error, ObjectIdGetDatum(database));
}
