/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		The one static background worker: sees to it that each database that
 *		needs a worker has one.
 *
 * The launcher is connected to no database, so it cannot see where the
 * extension is installed.  Each database is probed once, by a worker that
 * ends at once where there is nothing to do; from then on the launcher acts
 * on events only: somebody added a repository, a worker ended, a hold was
 * released.  It sleeps without a timeout unless a start is due later.
 *
 * Nothing tells of a database that is opened again, or is a template no more; so
 * those that are closed, or copied, for now are looked at every now and then.
 *
 * Workers are dynamic and never restarted by the postmaster: that would log a
 * FATAL a second after DROP DATABASE, and has no back-off.
 *
 * The state machine is drawn in README.md.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "fsync.h"
#include "registry.h"
#include "requests.h"
#include "tree_client.h"

/* Workers that are being started or probe, at the same time. */
#define STARTS_AT_ONCE		4

#define BACKOFF_MIN_MS		1000
#define BACKOFF_MAX_MS		60000

/* A worker that lived as long as this was healthy. */
#define HEALTHY_MS			60000

/* A start that an earlier launcher asked for and that is not seen to end. */
#define LAUNCH_TIMEOUT_MS	30000

/* Between looks at a database that is closed, or a template. */
#define CLOSED_MIN_MS		2000
#define CLOSED_MAX_MS		30000

/* What the launcher knows of a database; no entry: nothing to do there. */
typedef struct LauncherEntry
{
	Oid			database;
	uint32		generation;		/* of the start it knows of; 0: none */
	BackgroundWorkerHandle *handle; /* NULL: started by an earlier launcher */
	int64		started;		/* of clock_ms() */
	int64		due;			/* of the next start, the same; 0: none */
	int			backoff_ms;		/* after the last abnormal end; 0: none */
	int			closed_ms;		/* since the last look it was closed, or a
								 * template; 0: it is not */
	bool		explicit_wish;	/* a session asked, so tell why not */
	bool		no_place;		/* the last start failed for want of a place ... */
	bool		no_slot;		/* ... in shared memory */
	bool		told;			/* the log says so */
} LauncherEntry;

static List *entries = NIL;
static volatile sig_atomic_t shutdown_requested = false;

static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	shutdown_requested = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

static LauncherEntry *
find_entry(Oid database)
{
	ListCell   *lc;

	foreach(lc, entries)
	{
		LauncherEntry *entry = lfirst(lc);

		if (entry->database == database)
			return entry;
	}
	return NULL;
}

static LauncherEntry *
find_or_make_entry(Oid database)
{
	LauncherEntry *entry = find_entry(database);

	if (entry == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		entry = palloc0(sizeof(LauncherEntry));
		entry->database = database;
		entries = lappend(entries, entry);
		MemoryContextSwitchTo(old);
	}
	return entry;
}

static void
drop_entry(LauncherEntry *entry)
{
	entries = list_delete_ptr(entries, entry);
	if (entry->handle != NULL)
		pfree(entry->handle);
	pfree(entry);
}

/* ---------------------------------------------------------------------
 * pg_database
 * ---------------------------------------------------------------------
 */

typedef enum DatabaseFate
{
	DATABASE_GONE,
	DATABASE_CLOSED,			/* allows no connections, or is invalid */
	DATABASE_TEMPLATE,			/* a worker would be in the way of its copies */
	DATABASE_GOOD,
} DatabaseFate;

static DatabaseFate
classify(Form_pg_database database)
{
	if (!database->datallowconn || database->datconnlimit == DATCONNLIMIT_INVALID_DB)
		return DATABASE_CLOSED;
	return database->datistemplate ? DATABASE_TEMPLATE : DATABASE_GOOD;
}

/*
 * The fate of one database; with InvalidOid makes a start due in all that have no
 * worker, but for the templates that each cluster has.
 */
static DatabaseFate
look_at_databases(Oid wanted)
{
	DatabaseFate fate = DATABASE_GONE;
	MemoryContext old = CurrentMemoryContext;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (OidIsValid(wanted))
		{
			if (database->oid == wanted)
				fate = classify(database);
		}
		else if (classify(database) == DATABASE_GOOD ||
				 database->oid >= FirstNormalObjectId)
		{
			LauncherEntry *entry = find_or_make_entry(database->oid);

			if (entry->generation == 0 && entry->due == 0)
				entry->due = clock_ms();
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return fate;
}

/* ---------------------------------------------------------------------
 * Starts and ends
 * ---------------------------------------------------------------------
 */

/* Asks the postmaster for a worker; false when there is no place for it. */
static bool
start_worker(LauncherEntry *entry)
{
	BackgroundWorker request;
	uint32		generation;
	MemoryContext old;
	bool		registered;

	if (!registry_claim(entry->database, &generation, &entry->no_slot))
		return false;

	memset(&request, 0, sizeof(request));
	request.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	request.bgw_start_time = BgWorkerStart_RecoveryFinished;
	request.bgw_restart_time = BGW_NEVER_RESTART;
	request.bgw_notify_pid = MyProcPid;
	request.bgw_main_arg = ObjectIdGetDatum(entry->database);
	memcpy(request.bgw_extra, &generation, sizeof(generation));
	strlcpy(request.bgw_library_name, EXTENSION_NAME, sizeof(request.bgw_library_name));
	strlcpy(request.bgw_function_name, "fsync_worker_main",
			sizeof(request.bgw_function_name));
	snprintf(request.bgw_name, BGW_MAXLEN, "fsync worker for database %u", entry->database);
	strlcpy(request.bgw_type, "fsync worker", BGW_MAXLEN);

	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&request, &entry->handle);
	MemoryContextSwitchTo(old);
	if (!registered)
	{
		entry->handle = NULL;
		registry_clear(entry->database, generation);
		return false;
	}
	entry->generation = generation;
	entry->started = clock_ms();
	entry->due = 0;
	entry->closed_ms = 0;
	return true;
}

/* Takes note that the database's worker is gone, and decides what next. */
static void
note_end(LauncherEntry *entry, WorkerExit how, bool wanted)
{
	int64		now = clock_ms();
	bool		healthy = now - entry->started >= HEALTHY_MS;

	registry_clear(entry->database, entry->generation);
	entry->generation = 0;
	if (entry->handle != NULL)
		pfree(entry->handle);
	entry->handle = NULL;

	switch (how)
	{
		case WORKER_EXIT_IDLE:
			entry->backoff_ms = 0;
			entry->due = wanted ? now : 0;
			break;
		case WORKER_EXIT_STOPPED:
			entry->backoff_ms = 0;
			entry->due = now + BACKOFF_MIN_MS;
			break;
		case WORKER_EXIT_ERROR:
			if (entry->backoff_ms == 0 || healthy)
				entry->backoff_ms = BACKOFF_MIN_MS;
			else
				entry->backoff_ms = Min(entry->backoff_ms * 2, BACKOFF_MAX_MS);
			entry->due = now + entry->backoff_ms;
			break;
	}
}

/* Brings the entries in line with shared memory. */
static void
note_events(int *starting)
{
	int			n;
	RegistryEntry *slots = registry_entries(&n);
	int64		now = clock_ms();

	*starting = 0;
	for (int i = 0; i < n; i++)
	{
		RegistryEntry *slot = &slots[i];
		LauncherEntry *entry = find_or_make_entry(slot->database);
		pid_t		pid;

		if (slot->phase != WORKER_NONE && entry->generation != slot->generation)
		{
			/* Started by an earlier launcher. */
			entry->generation = slot->generation;
			entry->started = now;
			if (slot->phase == WORKER_LAUNCHED)
				entry->due = now + LAUNCH_TIMEOUT_MS;
		}
		if (slot->phase == WORKER_PROBING || slot->phase == WORKER_SETTLED)
			entry->due = 0;

		if (slot->phase == WORKER_ENDED)
			note_end(entry, slot->exit, slot->wanted);
		else if (slot->phase == WORKER_LAUNCHED &&
				 (entry->handle != NULL ?
				  GetBackgroundWorkerPid(entry->handle, &pid) == BGWH_STOPPED :
				  now - entry->started >= LAUNCH_TIMEOUT_MS))
			note_end(entry, WORKER_EXIT_ERROR, slot->wanted);
		else if (slot->phase == WORKER_NONE && slot->wanted)
		{
			/*
			 * Do not let a wish shorten the back-off of a failing worker; but
			 * there may be a place by now, or the database be open.
			 */
			if (entry->due == 0 || entry->no_place || entry->closed_ms != 0)
				entry->due = now;
			entry->explicit_wish = true;
			registry_forget(slot->database);
		}
		else if (slot->phase == WORKER_LAUNCHED || slot->phase == WORKER_PROBING)
			(*starting)++;
	}
	pfree(slots);
}

/*
 * Why a database that somebody asked for gets no worker; whether, and when, to
 * look at it again.
 */
static void
refuse(LauncherEntry *entry, DatabaseFate fate)
{
	if (entry->explicit_wish && fate == DATABASE_TEMPLATE)
		ereport(LOG,
				(errmsg("fsync does not run in database %u: it is a template",
						entry->database)));
	entry->explicit_wish = false;
	entry->no_place = false;
	entry->told = false;
	entry->closed_ms = fate == DATABASE_GONE ? 0 :
		Min(Max(entry->closed_ms * 2, CLOSED_MIN_MS), CLOSED_MAX_MS);
	entry->due = fate == DATABASE_GONE ? 0 : clock_ms() + entry->closed_ms;
}

/* The names of those databases that have no place, quoted. */
static char *
names_without_place(void)
{
	MemoryContext old = CurrentMemoryContext;
	StringInfoData names;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	initStringInfo(&names);
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		const LauncherEntry *entry = find_entry(database->oid);

		if (entry != NULL && entry->no_place)
			appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "",
							 NameStr(database->datname));
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return names.data;
}

/*
 * Tells sessions, and once the log, which databases have no place: all of them
 * together, when none is left that may find one.
 */
static void
tell_without_place(void)
{
	Oid		   *databases = palloc(sizeof(Oid) * Max(list_length(entries), 1));
	int			n = 0;
	bool		no_slot = false;
	bool		news = false;
	bool		more_to_come = false;
	ListCell   *lc;

	foreach(lc, entries)
	{
		const LauncherEntry *entry = lfirst(lc);

		more_to_come |= !entry->no_place && entry->due != 0 && entry->closed_ms == 0 &&
			entry->backoff_ms == 0;
		if (!entry->no_place)
			continue;
		databases[n++] = entry->database;
		no_slot |= entry->no_slot;
		news |= !entry->told;
	}
	registry_set_without_place(databases, n, no_slot);
	if (!news || more_to_come)
		return;
	ereport(LOG,
			(errmsg("there is no place for the fsync workers of %d databases: %s", n,
					names_without_place()),
			 errhint("Set %s to %d or more, and restart the server.",
					 no_slot ? "fsync.max_repositories" : "max_worker_processes",
					 (no_slot ? setting_max_repositories : max_worker_processes) + n)));
	foreach(lc, entries)
	{
		LauncherEntry *entry = lfirst(lc);

		entry->told = entry->no_place;
	}
}

/* Starts what is due.  Returns when the next start is due; 0: none is. */
static int64
start_due_workers(int starting)
{
	int64		next = 0;
	ListCell   *lc;

	foreach(lc, entries)
	{
		LauncherEntry *entry = lfirst(lc);
		int64		now = clock_ms();
		DatabaseFate fate;

		if (entry->due == 0)
			continue;
		if (entry->due > now)
		{
			next = next == 0 ? entry->due : Min(next, entry->due);
			continue;
		}
		if (registry_is_held(entry->database) || starting >= STARTS_AT_ONCE)
			continue;			/* the end of either wakes the launcher */

		fate = look_at_databases(entry->database);
		if (fate != DATABASE_GOOD)
		{
			refuse(entry, fate);
			if (entry->due != 0)
				next = next == 0 ? entry->due : Min(next, entry->due);
		}
		else if (start_worker(entry))
		{
			starting++;
			entry->no_place = false;
			entry->told = false;
		}
		else
		{
			/*
			 * While others are being started, their end may bring the place
			 * that is missing.
			 */
			entry->no_place = starting == 0;
			if (entry->no_place)
				requests_refuse_flushes(entry->database);
			entry->due = now + (starting > 0 ? BACKOFF_MIN_MS : BACKOFF_MAX_MS);
			next = next == 0 ? entry->due : Min(next, entry->due);
		}
	}
	return next;
}

/* Entries without a worker, a start or a past to remember. */
static void
drop_idle_entries(void)
{
	for (int i = list_length(entries) - 1; i >= 0; i--)
	{
		LauncherEntry *entry = list_nth(entries, i);

		if (entry->generation == 0 && entry->due == 0)
			drop_entry(entry);
	}
}

void
fsync_launcher_main(Datum arg)
{
	static uint32 wait_event = 0;
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_sigterm);
	pqsignal(SIGINT, PG_SIG_IGN);
	BackgroundWorkerUnblockSignals();

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	registry_launcher_attach();
	pgstat_report_appname("fsync launcher");

	context = AllocSetContextCreate(TopMemoryContext, "fsync launcher",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	/* Adopt what an earlier launcher started before looking for more. */
	{
		int			starting;

		note_events(&starting);
	}
	look_at_databases(InvalidOid);

	while (!shutdown_requested)
	{
		int64		next;
		int			starting;
		int			flags = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
		long		timeout = -1;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (catchupInterruptPending)
		{
			/* leaves TopMemoryContext behind, in releases before 15.8 and others */
			ProcessCatchupInterrupt();
			MemoryContextSwitchTo(context);
		}

		if (registry_take_look_everywhere())
			look_at_databases(InvalidOid);
		note_events(&starting);
		next = start_due_workers(starting);
		tell_without_place();
		drop_idle_entries();
		MemoryContextReset(context);

		if (next != 0)
		{
			flags |= WL_TIMEOUT;
			timeout = Max(next - clock_ms(), 0);
		}
		(void) WaitLatch(MyLatch, flags, timeout,
						 wait_event_compat(&wait_event, "FsyncLauncherMain"));
		ResetLatch(MyLatch);
	}

	/*
	 * Exit code 0 would be for good.  When the server shuts down the code does
	 * not matter; when somebody terminated the launcher, it must come back.
	 */
	proc_exit(1);
}
