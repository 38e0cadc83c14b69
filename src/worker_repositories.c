/*-------------------------------------------------------------------------
 *
 * worker_repositories.c
 *		The worker's list of repositories: what the table says, as of the last
 *		look.
 *
 * A row whose directory is not the one that was registered is not in the list
 * (repository.c), and none is while the extension's tables belong to somebody
 * who could do more than to write them (owner.c): then nothing is watched, and
 * now and again the worker looks whether that was mended.  What is wrong is
 * said by fsync_status(), as nothing may be written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "feed_history.h"
#include "owner.h"
#include "registry.h"
#include "sequences.h"
#include "shown.h"
#include "worker.h"

/* The database did not answer, and may answer later. */
#define RELOAD_MIN_MS		200
#define RELOAD_MAX_MS		10000

/* A history waits for somebody's transaction to end. */
#define HISTORY_WAIT_MS		1000

List	   *worker_repositories = NIL;

static bool reload_wanted = true;
static bool stale = true;		/* the table may say something else by now */
static int64 reload_at = 0;
static int	reload_backoff_ms = 0;
static bool history_closed = false;
static bool settled = false;	/* the repositories were read once */
static bool in_trouble = false; /* the owner of the tables is not powerless */
static bool in_doubt = false;	/* so it seemed, the last time */

void
worker_request_reload(void)
{
	reload_wanted = true;
	stale = true;
	if (in_trouble)
		reload_at = 0;
}

WorkerRepository *
repositories_find(const pg_uuid_t *id)
{
	ListCell   *lc;

	foreach(lc, worker_repositories)
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
	tree_errors_init(&repository->errors);
	initStringInfo(&repository->identity);
	initStringInfo(&repository->mounts);
	repository->event_position = -1;
	repository->totals.id = row->id;
	totals_register(&repository->totals);
	repository->resumed = settled;

	MemoryContextSwitchTo(worker_context);
	worker_repositories = lappend(worker_repositories, repository);
	MemoryContextSwitchTo(old);

	/* Its place in shared memory comes before everything else. */
	state_refresh(repository, clock_ms(), &deadline);
}

static void
remove_repository(WorkerRepository *repository)
{
	status_withdraw(&repository->row->id);
	runs_dismiss(repository);
	totals_forget(&repository->totals);
	tree_client_abandon(&repository->tree);
	tree_errors_end(&repository->errors);
	worker_renew_wait_set();
	worker_repositories = list_delete_ptr(worker_repositories, repository);
	MemoryContextDelete(repository->context);
}

static void
follow_row(WorkerRepository *repository, RepositoryRow *row)
{
	RepositoryRow *old = repository->row;
	bool		restart = repository_settings_differ(old, row);
	bool		other_config = old->debounce_ms != row->debounce_ms;

	own_row(repository, row);
	repository_free(old);
	repository->purge_at = 0;
	repository->stored_state[0] = '\0';	/* others write it, too */
	if (restart)
	{
		worker_renew_wait_set();
		process_restart(repository, "the repository's settings changed");
	}
	else if (other_config)
		process_send_config(repository);
}

/* Makes the list of repositories what the table says. */
static void
follow_rows(List *rows)
{
	ListCell   *lc;

	for (int i = list_length(worker_repositories) - 1; i >= 0; i--)
	{
		WorkerRepository *repository = list_nth(worker_repositories, i);
		bool		kept = false;

		foreach(lc, rows)
		{
			RepositoryRow *row = lfirst(lc);

			if (row->fit == REGISTRATION_OTHER_ROOT &&
				memcmp(&row->id, &repository->row->id, sizeof(row->id)) == 0)
				ereport(WARNING,
						(errmsg("repository \"%s\" is degraded: %s", shown_path(repository->row->root),
								REGISTRATION_OTHER_ROOT_REASON),
						 errhint("%s", REGISTRATION_OTHER_ROOT_HINT)));
			if (!row->active || memcmp(&row->id, &repository->row->id, sizeof(row->id)) != 0)
				continue;

			/* one that was removed, and its rows with it, and added again */
			if (row->created_at != repository->row->created_at)
				continue;
			kept = !row->paused;
			if (row->paused && !runs_pause(repository))
			{
				kept = true;
				reload_wanted = true;
				reload_at = clock_ms() + RELOAD_MIN_MS;
			}
		}
		if (!kept)
			remove_repository(repository);
	}
	foreach(lc, rows)
	{
		RepositoryRow *row = lfirst(lc);
		WorkerRepository *repository = repositories_find(&row->id);

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
	bool		in_trouble;
	OwnerTrouble trouble;
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
	MemoryContextSwitchTo(caller);
	if (found)
		worker_log_name_database();
	work->in_trouble = found && owner_find_trouble(&fresh, &work->trouble);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	if (!found || !version_fits(&fresh))
	{
		work->nothing_to_do = true;
		return;
	}
	worker_objects = fresh;
	totals_follow(fresh.file_records, fresh.problems);
	if (work->in_trouble)
		return;
	sequences_lift(&worker_objects);
	if (!history_closed)
		history_closed = operations_close_interrupted(&worker_objects);
	work->rows = repository_load_all(&worker_objects, work->context, &work->nothing_to_do);
}

static void
open_work(WorkerRepository *repository, void *arg)
{
	*(bool *) arg = feed_history_open(&worker_objects);
}

/* What the change feed can tell begins here, for those where it was switched on. */
static void
begin_histories(int64 now)
{
	bool		left = false;
	ListCell   *lc;

	foreach(lc, worker_repositories)
	{
		if (!((WorkerRepository *) lfirst(lc))->row->change_feed)
			continue;
		if (worker_try(NULL, open_work, &left) != NULL || left)
		{
			reload_wanted = true;
			reload_at = now + HISTORY_WAIT_MS;
		}
		break;
	}
}

static void
abandon_all(void)
{
	while (worker_repositories != NIL)
		remove_repository(linitial(worker_repositories));
}

/* Ends the worker, unless somebody woke it meanwhile. */
static void
end_for_lack_of_work(void)
{
	abandon_all();
	if (registry_worker_leave(true))
		proc_exit(0);
	worker_request_reload();
}

/* Nothing may be done as the owner of the tables, until that was mended. */
static void
stand_back(const OwnerTrouble *trouble, int64 now)
{
	if (!in_trouble)
		ereport(WARNING,
				(errmsg("the repositories of database %u are degraded: %s", MyDatabaseId,
						trouble->reason),
				 errhint("%s", trouble->hint)));
	in_trouble = true;
	abandon_all();
	reload_wanted = true;
	reload_at = now + RELOAD_MAX_MS;
	registry_worker_settled();
}

static void
go_on(void)
{
	if (in_trouble)
		ereport(LOG,
				(errmsg("the repositories of database %u are watched again", MyDatabaseId)));
	in_trouble = false;
}

static void
reload(int64 now)
{
	ReloadWork	work = {0};
	ErrorData  *error;

	reload_wanted = false;
	work.context = AllocSetContextCreate(CurrentMemoryContext, "fsync reload", ALLOCSET_SMALL_SIZES);
	error = worker_try(NULL, reload_work, &work);
	if (error != NULL)
	{
		if (reload_backoff_ms == 0)
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("could not read the repositories of database %u: %s",
							MyDatabaseId, error->message)));
		reload_wanted = true;
		reload_backoff_ms = reload_backoff_ms == 0 ? RELOAD_MIN_MS :
			Min(reload_backoff_ms * 2, RELOAD_MAX_MS);
		reload_at = now + reload_backoff_ms;
		return;
	}
	stale = false;
	reload_backoff_ms = 0;
	reload_at = 0;
	if (work.in_trouble && !work.nothing_to_do)
	{
		/*
		 * A transaction that dropped the extension and made it again may have
		 * committed between two looks at the catalogs.
		 */
		if (!in_trouble && !in_doubt)
		{
			in_doubt = stale = reload_wanted = true;
			reload_at = now + RELOAD_MIN_MS;
			return;
		}
		stand_back(&work.trouble, now);
		return;
	}
	go_on();
	in_doubt = false;
	if (!work.nothing_to_do)
		follow_rows(work.rows);
	if (work.nothing_to_do || worker_repositories == NIL)
		end_for_lack_of_work();
	else
	{
		if (!settled)
			worker_log_started(work.rows);
		settled = true;
		begin_histories(now);
		registry_worker_settled();
	}
}

void
repositories_advance(int64 now)
{
	if (reload_wanted && now >= reload_at)
		reload(now);
}

void
repositories_lower_deadline(int64 *deadline)
{
	if (reload_wanted)
		lower_deadline(deadline, reload_at);
}

bool
repositories_are_stale(void)
{
	return stale;
}

bool
repositories_closed_history(void)
{
	return history_closed;
}
