/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The worker of one database: process, loop, requests.
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

#include <malloc.h>
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

#include "feed_history.h"
#include "registry.h"
#include "shown.h"
#include "worker.h"

/* The database did not take something, and may take it later. */
#define RETRY_MIN_MS		200
#define RETRY_MAX_MS		10000

/* The same for errors that we do not expect to go away soon. */
#define RETRY_ODD_MIN_MS	1000
#define RETRY_ODD_MAX_MS	60000

#define PURGE_RETRY_MS		(60 * 1000)

/* Freed memory that is kept while there is much to do; the most that glibc lets. */
#define KEPT_MEMORY			(32 * 1024 * 1024)

ExtensionObjects worker_objects;

MemoryContext worker_context;

static MemoryContext turn_context;	/* reset after each turn of the loop */
static List *requests = NIL;	/* TakenRequest *, not handed out yet */

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

	foreach(lc, worker_repositories)
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
		repository->refusals = 0;
		repository->database_trouble.reason[0] = '\0';
		return 0;
	}
	if (error->sqlerrcode == ERRCODE_BAD_MESSAGE)
		return error->sqlerrcode;

	/* The objects may have changed under us (owner, schema): look at them. */
	transient = session_error_is_transient(error->sqlerrcode);
	if (!transient || error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
	{
		worker_request_reload();
		repository->refusals++;
		repository->all_refusals++;
	}
	repository->retry_ms = repository->retry_ms == 0 ?
		(transient ? RETRY_MIN_MS : RETRY_ODD_MIN_MS) :
		Min(repository->retry_ms * 2, transient ||
			session_error_is_of_publication(error->sqlerrcode) ?
			RETRY_MAX_MS : RETRY_ODD_MAX_MS);
	repository->stalled = true;
	repository->retry_at = clock_ms() + repository->retry_ms;
	count_error(repository);
	trouble_note(repository, error);
	return error->sqlerrcode;
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

/* Of the repository, or of all that are tracked: NULL. */
static void
hand_out_flush(WorkerRepository *repository, RequestRef ref)
{
	Barrier    *barrier = flush_begin(ref);
	ListCell   *lc;

	if (repository != NULL)
		flush_add(repository, barrier);
	else
	{
		foreach(lc, worker_repositories)
			flush_add(lfirst(lc), barrier);
	}
	flush_added(barrier);
}

static void
hand_out_requests(void)
{
	ListCell   *lc;

	if (repositories_are_stale())
		return;
	foreach(lc, requests)
	{
		TakenRequest *request = lfirst(lc);
		WorkerRepository *repository = request->all ? NULL :
			repositories_find(&request->repository);

		if (request->kind == REQUEST_FLUSH && (request->all || repository != NULL))
			hand_out_flush(repository, request->ref);
		else if (repository == NULL)
			requests_answer(request->ref, OUTCOME_UNKNOWN, 0);
		else if (request->kind == REQUEST_RECONCILE && request->path[0] != '\0')
			places_want_for_request(repository, request);
		else if (request->kind == REQUEST_RECONCILE)
			runs_want_for_request(repository, request);
		else if (request->kind == REQUEST_CANCEL)
		{
			if (!verify_cancel(repository, request) && !places_cancel(repository, request))
				runs_cancel(repository, request);
		}
		else
			verify_want_for_request(repository, request);
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
		foreach(lc, worker_repositories)
			process_ping(lfirst(lc));
	}
	if (ConfigReloadPending)
	{
		/* Cleared first: a signal that comes meanwhile is not lost. */
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		prune_reload();
		foreach(lc, worker_repositories)
			process_send_config(lfirst(lc));

		/* A repository may follow the setting of calculate_hashes. */
		worker_request_reload();
	}

	/* An idle session that is far behind holds up the others' messages. */
	if (catchupInterruptPending)
	{
		/* leaves TopMemoryContext behind, in releases before 15.8 and others */
		ProcessCatchupInterrupt();
		MemoryContextSwitchTo(turn_context);
	}
}

int
worker_scans(void)
{
	int			scans = 0;
	ListCell   *lc;

	foreach(lc, worker_repositories)
		scans += ((WorkerRepository *) lfirst(lc))->run.phase == RUN_RUNNING;
	return scans;
}

/* Requests that were not handed out yet may be for any of the others. */
bool
worker_others_wait(const WorkerRepository *repository)
{
	ListCell   *lc;

	if (requests != NIL)
		return true;
	foreach(lc, worker_repositories)
	{
		const WorkerRepository *other = lfirst(lc);

		if (other != repository &&
			(other->flushes != NIL || other->queued.waiters != NIL ||
			 other->run.waiters != NIL || other->verifications != NIL ||
			 other->place.waiters != NIL || other->places != NIL))
			return true;
	}
	return false;
}

/* A scan has begun or ended, or has become urgent. */
static void
share_limit(void)
{
	int			scans = worker_scans();
	ListCell   *lc;

	foreach(lc, worker_repositories)
		process_share_limit(lfirst(lc), scans);
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
							shown_path(repository->row->root), error->message)));
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
	if (messages_may_receive(repository))
		events |= WL_SOCKET_READABLE;
	if (proto_buf_pending(&repository->tree.out) > 0)
		events |= WL_SOCKET_WRITEABLE;
	return events;
}

void
worker_renew_wait_set(void)
{
	wait_set_stale = true;
}

static void
rebuild_wait_set(void)
{
	ListCell   *lc;

	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set_size = list_length(worker_repositories) + 2;
	wait_set = create_wait_event_set_compat(wait_set_size);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	foreach(lc, worker_repositories)
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

	foreach(lc, worker_repositories)
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
	foreach(lc, worker_repositories)
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
	n = WaitEventSetWait(wait_set, 0, events, wait_set_size,
						 wait_event_compat(&wait_event, "FsyncWorkerMain"));
	if (n == 0 && timeout != 0)
	{
		/* What the commits of the last second left: autovacuum is to see it. */
		(void) pgstat_report_stat(true);
		n = WaitEventSetWait(wait_set, timeout, events, wait_set_size,
							 wait_event_compat(&wait_event, "FsyncWorkerMain"));
	}
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

	messages_advance(repository, now, deadline);
	process_advance(repository, now, deadline);
	runs_advance(repository, now, deadline);
	places_advance(repository);
	verify_advance(repository, now, deadline);
	flush_advance(repository, now, deadline);
	held_advance(repository, now, deadline);
	process_watch(repository, now, deadline);
	purge_missing(repository, now, deadline);
	state_refresh(repository, now, deadline);
	flush_give_up(repository);
	runs_give_up(repository);
	if (repository->stalled)
		lower_deadline(deadline, repository->retry_at);
}

/*
 * Transactions of thousands of rows take and give back the same megabytes over
 * and over; from the system they come anew each time, page by page, filled with
 * zeros.  So they are kept until a scan, or a burst of changes, is over.
 */
static void
keep_memory(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY);
	mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
#endif
}

static void
give_memory_back(void)
{
	static bool at_work = false;
	bool		was_at_work = at_work;
	ListCell   *lc;

	at_work = worker_scans() > 0;
	foreach(lc, worker_repositories)
		at_work |= ((WorkerRepository *) lfirst(lc))->burst.open;
#ifdef __GLIBC__
	if (was_at_work && !at_work)
		malloc_trim(0);
#endif
}

static bool
somebody_waits(void)
{
	ListCell   *lc;

	foreach(lc, worker_repositories)
	{
		if (((WorkerRepository *) lfirst(lc))->flushes != NIL)
			return true;
	}
	return false;
}

/* Who asks is told how many places would do. */
static void
tell_what_lacks(void)
{
	static int	told = 0;
	int			lacking = 0;
	ListCell   *lc;

	foreach(lc, worker_repositories)
		lacking += !state_is_published(lfirst(lc));
	if (lacking != told)
		registry_worker_lacks(lacking);
	told = lacking;
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
	repositories_advance(now);
	hand_out_requests();
	foreach(lc, worker_repositories)
		advance(lfirst(lc), &deadline);
	share_limit();
	tell_what_lacks();
	analyze_advance(now, somebody_waits(), &deadline);
	totals_advance(now, &deadline);
	if (repositories_closed_history())
		prune_advance(now, &deadline);
	lower_deadline(&deadline, tree_orphans_poll(now));
	repositories_lower_deadline(&deadline);
	give_memory_back();
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
	totals_watch_statements();
	(void) feed_history_own_depth(0);
	keep_memory();

	worker_context = AllocSetContextCreate(TopMemoryContext, "fsync worker",
										   ALLOCSET_DEFAULT_SIZES);
	turn_context = AllocSetContextCreate(TopMemoryContext, "fsync worker turn",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_context);
	for (;;)
		turn();
}
