/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The worker of one database: process, loop, repositories, requests.
 *
 * The worker is single-threaded and never blocks on anything but its database
 * session, whose lock_timeout is short.  It sleeps in one wait event set that
 * holds its latch and a socket for each fsync-tree, and wakes up only for
 * them or for what is due.
 *
 * SIGTERM does not raise an error: it sets a flag, and cancels the statement
 * that runs, if one does.  So the worker ends at once, with exit code 0 and
 * nothing in the log, whatever it is doing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/sinval.h"
#include "utils/memutils.h"

#include "registry.h"
#include "worker.h"

/* The database did not take something, and may take it later. */
#define RETRY_MIN_MS		200
#define RETRY_MAX_MS		10000

/* The same for errors that we do not expect to go away soon. */
#define RETRY_ODD_MIN_MS	1000
#define RETRY_ODD_MAX_MS	60000

#define PURGE_RETRY_MS		(60 * 1000)

ExtensionObjects worker_objects;

static MemoryContext worker_context;	/* lives as long as the worker */
static MemoryContext turn_context;	/* reset after each turn of the loop */
static List *repositories = NIL;	/* WorkerRepository * */
static List *requests = NIL;	/* TakenRequest *, not handed out yet */

static bool reload_wanted = true;
static int64 reload_at = 0;
static int	reload_backoff_ms = 0;
static bool history_closed = false;
static bool settled = false;	/* the repositories were read once */

static WaitEventSet *wait_set = NULL;
static int	wait_set_size = 0;
static bool wait_set_stale = true;

static volatile sig_atomic_t shutdown_requested = false;
static volatile sig_atomic_t in_database_work = false;

/* ---------------------------------------------------------------------
 * Signals, end
 * ---------------------------------------------------------------------
 */

/* Outside of a statement there is nobody to catch the error of a cancel. */
static void
cancel_statement(void)
{
	if (in_database_work)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
}

static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	shutdown_requested = true;
	cancel_statement();
	SetLatch(MyLatch);
	errno = save_errno;
}

/* pg_cancel_backend(), and PostgreSQL's own lock_timeout. */
static void
handle_sigint(SIGNAL_ARGS)
{
	int			save_errno = errno;

	cancel_statement();
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * Not asked to end but killed: a stopped process would not notice that its
 * socket was closed, and there is nothing that it could lose.
 */
static void
kill_trees(int code, Datum arg)
{
	ListCell   *lc;

	foreach(lc, repositories)
	{
		WorkerRepository *repository = lfirst(lc);

		if (repository->tree.pid > 0)
			kill(repository->tree.pid, SIGKILL);
	}
	tree_orphans_kill();
}

static void
end_if_requested(void)
{
	if (shutdown_requested)
	{
		(void) registry_worker_leave(false);
		proc_exit(0);
	}
}

/* ---------------------------------------------------------------------
 * Work in the database
 * ---------------------------------------------------------------------
 */

ErrorData *
worker_try(WorkerRepository *repository, DatabaseWork work, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	if (repository != NULL)
		registry_worker_current(&repository->row->id);
	in_database_work = true;
	PG_TRY();
	{
		work(repository, arg);
	}
	PG_CATCH();
	{
		/* A second cancel must not end what clears up after the first. */
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();

		/* The first look for the extension has no session to abort yet. */
		if (OidIsValid(worker_objects.extension))
			session_abort();
		else
			AbortCurrentTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	in_database_work = false;
	QueryCancelPending = false;
	MemoryContextSwitchTo(caller);
	if (repository != NULL)
		registry_worker_current(NULL);

	end_if_requested();
	return error;
}

static void
count_error(const WorkerRepository *repository)
{
	RepositoryCounters more = {.errors = 1};

	counters_add(&repository->row->id, &more);
}

int
worker_database_work(WorkerRepository *repository, DatabaseWork work, void *arg)
{
	ErrorData  *error;
	bool		transient;

	error = worker_try(repository, work, arg);
	if (error == NULL)
	{
		repository->retry_ms = 0;
		repository->database_trouble[0] = '\0';
		return 0;
	}
	if (error->sqlerrcode == ERRCODE_PROTOCOL_VIOLATION)
		return error->sqlerrcode;

	/* The objects may have changed under us (owner, schema): look at them. */
	transient = session_error_is_transient(error->sqlerrcode);
	if (!transient || error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		worker_request_reload();
	repository->retry_ms = repository->retry_ms == 0 ?
		(transient ? RETRY_MIN_MS : RETRY_ODD_MIN_MS) :
		Min(repository->retry_ms * 2, transient ? RETRY_MAX_MS : RETRY_ODD_MAX_MS);
	repository->stalled = true;
	repository->retry_at = clock_ms() + repository->retry_ms;
	memset(repository->database_trouble, 0, sizeof(repository->database_trouble));
	count_error(repository);
	strlcpy(repository->database_trouble, error->message,
			sizeof(repository->database_trouble));
	return error->sqlerrcode;
}

/* ---------------------------------------------------------------------
 * The list of repositories
 * ---------------------------------------------------------------------
 */

void
worker_request_reload(void)
{
	reload_wanted = true;
}

static WorkerRepository *
find_repository(const pg_uuid_t *id)
{
	ListCell   *lc;

	foreach(lc, repositories)
	{
		WorkerRepository *repository = lfirst(lc);

		if (memcmp(&repository->row->id, id, sizeof(*id)) == 0)
			return repository;
	}
	return NULL;
}

static void
own_row(WorkerRepository *repository, RepositoryRow *row)
{
	MemoryContextSetParent(row->context, repository->context);
	repository->row = row;
}

static void
add_repository(RepositoryRow *row)
{
	MemoryContext context = AllocSetContextCreate(worker_context, "fsync worker repository",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	WorkerRepository *repository = palloc0(sizeof(WorkerRepository));
	int64		deadline = NEVER;

	repository->context = context;
	own_row(repository, row);
	tree_client_init(&repository->tree);
	initStringInfo(&repository->identity);
	initStringInfo(&repository->mounts);
	repository->event_position = -1;
	repository->resumed = settled;

	MemoryContextSwitchTo(worker_context);
	repositories = lappend(repositories, repository);
	MemoryContextSwitchTo(old);

	/* Its place in shared memory comes before everything else. */
	state_refresh(repository, clock_ms(), &deadline);
}

static void
remove_repository(WorkerRepository *repository)
{
	status_withdraw(&repository->row->id);
	runs_dismiss(repository);
	tree_client_abandon(&repository->tree);
	wait_set_stale = true;
	repositories = list_delete_ptr(repositories, repository);
	MemoryContextDelete(repository->context);
}

static void
follow_row(WorkerRepository *repository, RepositoryRow *row)
{
	RepositoryRow *old = repository->row;
	bool		restart = repository_settings_differ(old, row);

	own_row(repository, row);
	repository_free(old);
	repository->purge_at = 0;
	if (restart)
	{
		wait_set_stale = true;
		process_restart(repository, "the repository's settings changed");
	}
}

/* Makes the list of repositories what the table says. */
static void
follow_rows(List *rows)
{
	ListCell   *lc;

	for (int i = list_length(repositories) - 1; i >= 0; i--)
	{
		WorkerRepository *repository = list_nth(repositories, i);
		bool		kept = false;

		foreach(lc, rows)
		{
			RepositoryRow *row = lfirst(lc);

			if (!row->active || memcmp(&row->id, &repository->row->id, sizeof(row->id)) != 0)
				continue;
			kept = !row->paused;
			if (row->paused && !runs_pause(repository))
			{
				kept = true;
				reload_wanted = true;
				reload_at = clock_ms() + RETRY_MIN_MS;
			}
		}
		if (!kept)
			remove_repository(repository);
	}
	foreach(lc, rows)
	{
		RepositoryRow *row = lfirst(lc);
		WorkerRepository *repository = find_repository(&row->id);

		if (!row->active || (row->paused && repository == NULL))
			continue;
		if (repository != NULL)
			follow_row(repository, row);
		else
			add_repository(row);
	}
}

/*
 * A new library with the old SQL objects is the normal case after an upgrade
 * of the package.
 */
static bool
version_fits(const ExtensionObjects *objects)
{
	if (strcmp(objects->version, EXTENSION_VERSION) == 0)
		return true;
	ereport(LOG,
			(errmsg("extension \"%s\" has version %s, but the library is of version %s",
					EXTENSION_NAME, objects->version, EXTENSION_VERSION),
			 errhint("Run ALTER EXTENSION %s UPDATE in database %u.", EXTENSION_NAME,
					 MyDatabaseId)));
	return false;
}

typedef struct ReloadWork
{
	MemoryContext context;
	bool		nothing_to_do;
	List	   *rows;
} ReloadWork;

static void
reload_work(WorkerRepository *repository, void *arg)
{
	ReloadWork *work = arg;
	MemoryContext caller = CurrentMemoryContext;
	ExtensionObjects fresh;
	bool		found;

	StartTransactionCommand();
	found = session_find_extension(&fresh);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	if (!found || !version_fits(&fresh))
	{
		work->nothing_to_do = true;
		return;
	}
	worker_objects = fresh;
	if (!history_closed)
		history_closed = operations_close_interrupted(&worker_objects);
	work->rows = repository_load_all(&worker_objects, work->context, &work->nothing_to_do);
}

/* Ends the worker, unless somebody woke it meanwhile. */
static void
end_for_lack_of_work(void)
{
	while (repositories != NIL)
		remove_repository(linitial(repositories));
	if (registry_worker_leave(true))
		proc_exit(0);
	worker_request_reload();
}

static void
reload(int64 now)
{
	ReloadWork	work = {0};
	ErrorData  *error;

	reload_wanted = false;
	work.context = AllocSetContextCreate(turn_context, "fsync reload", ALLOCSET_SMALL_SIZES);
	error = worker_try(NULL, reload_work, &work);
	if (error != NULL)
	{
		if (reload_backoff_ms == 0)
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("could not read the repositories of database %u: %s",
							MyDatabaseId, error->message)));
		reload_wanted = true;
		reload_backoff_ms = reload_backoff_ms == 0 ? RETRY_MIN_MS :
			Min(reload_backoff_ms * 2, RETRY_MAX_MS);
		reload_at = now + reload_backoff_ms;
		return;
	}
	reload_backoff_ms = 0;
	reload_at = 0;
	if (!work.nothing_to_do)
		follow_rows(work.rows);
	if (work.nothing_to_do || repositories == NIL)
		end_for_lack_of_work();
	else
	{
		settled = true;
		registry_worker_settled();
	}
}

/* ---------------------------------------------------------------------
 * Requests and events of other processes
 * ---------------------------------------------------------------------
 */

/*
 * Requests are taken before the wake-up is asked for: a session commits its
 * repository, wakes the worker and then asks, so a repository that is unknown
 * after the reload does not exist.
 */
static void
take_requests(void)
{
	MemoryContext old = MemoryContextSwitchTo(worker_context);
	TakenRequest taken;

	while (requests_take(&taken))
	{
		TakenRequest *request = palloc(sizeof(TakenRequest));

		*request = taken;
		requests = lappend(requests, request);
	}
	MemoryContextSwitchTo(old);
}

static void
hand_out_requests(void)
{
	ListCell   *lc;

	foreach(lc, requests)
	{
		TakenRequest *request = lfirst(lc);
		WorkerRepository *repository = find_repository(&request->repository);

		if (repository == NULL && reload_wanted)
			continue;
		if (repository == NULL)
			requests_answer(request->ref, OUTCOME_UNKNOWN, 0);
		else if (request->kind == REQUEST_RECONCILE)
			runs_want_for_request(repository, request);
		else if (request->kind == REQUEST_CANCEL)
		{
			if (!verify_cancel(repository, request))
				runs_cancel(repository, request);
		}
		else if (request->kind == REQUEST_VERIFY)
			verify_want_for_request(repository, request);
		else
			runs_add_flush(repository, request->ref);
		requests = foreach_delete_current(requests, lc);
		pfree(request);
	}
}

static void
follow_events(void)
{
	RegistryEvents events;
	ListCell   *lc;

	registry_worker_events(&events);
	if (events.stop)
		shutdown_requested = true;
	end_if_requested();
	if (events.recheck)
		worker_request_reload();
	if (events.nudged)
	{
		foreach(lc, repositories)
			process_ping(lfirst(lc));
	}
	if (ConfigReloadPending)
	{
		/* Cleared first: a signal that comes meanwhile is not lost. */
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		prune_reload();
		foreach(lc, repositories)
			process_send_config(lfirst(lc));

		/* A repository may follow the setting of calculate_hashes. */
		worker_request_reload();
	}

	/* An idle session that is far behind holds up the others' messages. */
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
}

int
worker_scans(void)
{
	int			scans = 0;
	ListCell   *lc;

	foreach(lc, repositories)
		scans += ((WorkerRepository *) lfirst(lc))->run.phase == RUN_RUNNING;
	return scans;
}

/* A scan has begun or ended: the others' share of the limit is another. */
static void
share_limit(void)
{
	static int	shares = 0;
	int			scans = worker_scans();
	ListCell   *lc;

	if (scans == shares)
		return;
	shares = scans;
	if (setting_reconcile_cpu_limit == 0)
		return;
	foreach(lc, repositories)
		process_send_config(lfirst(lc));
}

typedef struct PurgeWork
{
	int64		next;
} PurgeWork;

static void
purge_work(WorkerRepository *repository, void *arg)
{
	PurgeWork  *work = arg;

	work->next = missing_purge(&worker_objects, &repository->row->id,
							   &repository->purge_cursor);
}

/* Rows of missing files whose time is over; a page a turn. */
static void
purge_missing(WorkerRepository *repository, int64 now, int64 *deadline)
{
	PurgeWork	work = {0};
	ErrorData  *error;

	if (!repository->stalled && now >= repository->purge_at)
	{
		error = worker_try(repository, purge_work, &work);
		if (error != NULL)
		{
			memset(&repository->purge_cursor, 0, sizeof(repository->purge_cursor));
			repository->purge_at = now + PURGE_RETRY_MS;
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("could not purge rows of missing files of repository \"%s\": %s",
							repository->row->root, error->message)));
		}
		else
			repository->purge_at = work.next < 0 ? NEVER : now + work.next;
	}
	if (!repository->stalled)
		lower_deadline(deadline, repository->purge_at);
}

/* ---------------------------------------------------------------------
 * The loop
 * ---------------------------------------------------------------------
 */

static uint32
wanted_events(const WorkerRepository *repository)
{
	uint32		events = 0;

	if (!process_can_talk(repository))
		return 0;
	if (!repository->stalled)
		events |= WL_SOCKET_READABLE;
	if (proto_buf_pending(&repository->tree.out) > 0)
		events |= WL_SOCKET_WRITEABLE;
	return events;
}

static void
rebuild_wait_set(void)
{
	ListCell   *lc;

	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set_size = list_length(repositories) + 2;
	wait_set = create_wait_event_set_compat(wait_set_size);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	foreach(lc, repositories)
	{
		WorkerRepository *repository = lfirst(lc);

		repository->event_mask = wanted_events(repository);
		repository->event_position = repository->event_mask == 0 ? -1 :
			AddWaitEventToSet(wait_set, repository->event_mask, repository->tree.fd,
							  NULL, repository);
	}
	wait_set_stale = false;
}

/* The set is made anew only when a socket comes, goes, or is not read. */
static void
update_wait_set(void)
{
	ListCell   *lc;

	foreach(lc, repositories)
	{
		WorkerRepository *repository = lfirst(lc);

		wait_set_stale |= (wanted_events(repository) != 0) !=
			(repository->event_position >= 0);
	}
	if (wait_set_stale)
	{
		rebuild_wait_set();
		return;
	}
	foreach(lc, repositories)
	{
		WorkerRepository *repository = lfirst(lc);
		uint32		events = wanted_events(repository);

		if (events != 0 && events != repository->event_mask)
		{
			ModifyWaitEvent(wait_set, repository->event_position, events, NULL);
			repository->event_mask = events;
		}
	}
}

static void
wait_and_receive(int64 deadline)
{
	static uint32 wait_event = 0;
	WaitEvent  *events;
	int64		timeout = -1;
	int			n;

	update_wait_set();
	if (deadline != NEVER)
		timeout = Min(Max(deadline - clock_ms(), 0), INT_MAX);
	events = palloc(wait_set_size * sizeof(WaitEvent));
	n = WaitEventSetWait(wait_set, timeout, events, wait_set_size,
						 wait_event_compat(&wait_event, "FsyncWorkerMain"));
	for (int i = 0; i < n; i++)
	{
		WorkerRepository *repository = events[i].user_data;

		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		if (events[i].events & WL_SOCKET_WRITEABLE)
			process_send(repository);
		if (events[i].events & WL_SOCKET_READABLE)
			messages_receive(repository);
	}
}

static void
advance(WorkerRepository *repository, int64 *deadline)
{
	int64		now = clock_ms();

	if (repository->stalled && now >= repository->retry_at)
		messages_resume(repository);
	process_advance(repository, now, deadline);
	runs_advance(repository, now, deadline);
	verify_advance(repository, now, deadline);
	process_watch(repository, now, deadline);
	purge_missing(repository, now, deadline);
	state_refresh(repository, now, deadline);
	if (repository->stalled)
		lower_deadline(deadline, repository->retry_at);
}

static bool
somebody_waits(void)
{
	ListCell   *lc;

	foreach(lc, repositories)
	{
		if (((WorkerRepository *) lfirst(lc))->flushes != NIL)
			return true;
	}
	return false;
}

static void
turn(void)
{
	int64		now = clock_ms();
	int64		deadline = NEVER;
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	take_requests();
	follow_events();
	if (reload_wanted && now >= reload_at)
		reload(now);
	hand_out_requests();
	foreach(lc, repositories)
		advance(lfirst(lc), &deadline);
	share_limit();
	analyze_advance(now, somebody_waits(), &deadline);
	if (history_closed)
		prune_advance(now, &deadline);
	lower_deadline(&deadline, tree_orphans_poll(now));
	if (reload_wanted)
		lower_deadline(&deadline, reload_at);
	wait_and_receive(deadline);
	MemoryContextReset(turn_context);
}

void
fsync_worker_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	uint32		generation;

	memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_sigterm);
	pqsignal(SIGINT, handle_sigint);
	BackgroundWorkerUnblockSignals();

	/* Before connecting, so that the end is noted after disconnecting. */
	if (!registry_worker_attach(database, generation))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	before_shmem_exit(kill_trees, (Datum) 0);
	pgstat_report_appname("fsync worker");
	session_pin_settings();

	worker_context = AllocSetContextCreate(TopMemoryContext, "fsync worker",
										   ALLOCSET_DEFAULT_SIZES);
	turn_context = AllocSetContextCreate(TopMemoryContext, "fsync worker turn",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_context);
	for (;;)
		turn();
}
