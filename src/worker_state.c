/*-------------------------------------------------------------------------
 *
 * worker_state.c
 *		The state of a repository: derived, stored, published, logged.
 *
 * The state is never set.  It follows from what is known, worst thing first,
 * so that no event can leave it behind.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "compat.h"
#include "shown.h"
#include "worker.h"

/* Lines that the log takes at once, and how long until it takes another. */
#define LOG_LINES			20
#define LOG_INTERVAL_MS		5000

/* A state that changes to and fro is stored at most this often. */
#define STORE_INTERVAL_MS	1000
#define STORE_BACKOFF_MS	60000

/* Where a bad state comes from; a condition that moves is a new one. */
typedef enum StateSource
{
	SOURCE_NONE = 0,			/* all is well, or on its way to be */
	SOURCE_PROCESS,
	SOURCE_DATABASE,
	SOURCE_ROOT,
	SOURCE_SCAN,
	SOURCE_TREE,
} StateSource;

typedef struct State
{
	const char *name;
	StateSource source;
	Condition	condition;
} State;

bool
worker_may_log(LogAllowance *allowance, int64 *left_out)
{
	int64		now = clock_ms();
	int64		renewed = (now - allowance->renewed_at) / LOG_INTERVAL_MS;

	if (allowance->renewed_at == 0 || renewed > LOG_LINES)
	{
		allowance->left = LOG_LINES;
		allowance->renewed_at = now;
	}
	else
	{
		allowance->left = Min(allowance->left + (int) renewed, LOG_LINES);
		allowance->renewed_at += renewed * LOG_INTERVAL_MS;
	}
	*left_out = allowance->left_out;
	if (allowance->left == 0)
	{
		allowance->left_out++;
		return false;
	}
	allowance->left--;
	allowance->left_out = 0;
	return true;
}

void
worker_copy_text(char *to, size_t size, ProtoStr from)
{
	StringInfoData shown;
	int			len;

	initStringInfo(&shown);
	shown_append(&shown, from, false, (int) size);
	len = pg_mbcliplen(shown.data, shown.len, size - 1);
	memcpy(to, shown.data, len);
	to[len] = '\0';
	pfree(shown.data);
}

/* The rest of both texts is zeroed, so that conditions compare as bytes. */
void
worker_set_condition(Condition *condition, const char *reason, const char *hint)
{
	Condition	fresh = {0};

	if (reason != NULL)
		strlcpy(fresh.reason, reason, sizeof(fresh.reason));
	if (hint != NULL)
		strlcpy(fresh.hint, hint, sizeof(fresh.hint));
	*condition = fresh;
}

static void
derive_state(const WorkerRepository *repository, State *state)
{
	memset(state, 0, sizeof(*state));

	if (repository->trouble.reason[0] != '\0' && !repository->planned)
	{
		state->name = repository->hung ? "unavailable" : "degraded";
		state->source = SOURCE_PROCESS;
		state->condition = repository->trouble;
	}
	else if (repository->silent)
	{
		state->name = "unavailable";
		state->source = SOURCE_PROCESS;
		worker_set_condition(&state->condition, PROCESS_SILENT, PROCESS_SILENT_HINT);
	}
	else if (repository->database_trouble.reason[0] != '\0')
	{
		state->name = "degraded";
		state->source = SOURCE_DATABASE;
		state->condition = repository->database_trouble;
	}
	else if (repository->tree_state == PROTO_STATE_UNAVAILABLE)
	{
		state->name = "unavailable";
		state->source = SOURCE_ROOT;
		state->condition = repository->tree_condition;
	}
	else if (repository->scan_trouble.reason[0] != '\0')
	{
		state->name = "degraded";
		state->source = SOURCE_SCAN;
		state->condition = repository->scan_trouble;
	}
	else if (repository->tree_state == PROTO_STATE_DEGRADED)
	{
		state->name = "degraded";
		state->source = SOURCE_TREE;
		state->condition = repository->tree_condition;
	}
	else if (!runs_is_healed(repository) || repository->process != PROCESS_RUNNING)
	{
		state->name = process_can_talk(repository) && repository->reported ?
			"syncing" : "starting";
		worker_set_condition(&state->condition,
							 repository->run.phase != RUN_NONE ? repository->run.reason :
							 repository->queued.wanted ? repository->queued.reason : NULL,
							 NULL);
	}
	else
	{
		state->name = "watching";
		state->condition = repository->tree_condition;
	}
}

/* Tells the log when a condition begins and when it ends, once each. */
static void
log_condition(WorkerRepository *repository, const State *state)
{
	int64		left_out;

	if (state->source != SOURCE_NONE && (int) state->source != repository->logged_source)
	{
		if (worker_may_log(&repository->log_condition, &left_out))
			ereport(WARNING,
					(errmsg("repository \"%s\" is %s: %s", shown_path(repository->row->root),
							state->name, state->condition.reason),
					 state->condition.hint[0] != '\0' ?
					 errhint("%s", state->condition.hint) : 0));
		repository->logged_source = state->source;
	}
	else if (repository->logged_source != SOURCE_NONE &&
			 strcmp(state->name, "watching") == 0)
	{
		if (worker_may_log(&repository->log_condition, &left_out))
			ereport(LOG,
					(errmsg("repository \"%s\" is watched again",
							shown_path(repository->row->root))));
		repository->logged_source = SOURCE_NONE;
	}
}

static void
publish(WorkerRepository *repository, const State *state)
{
	RepositoryStatus status;

	memset(&status, 0, sizeof(status));
	status.used = true;
	status.database = MyDatabaseId;
	status.id = repository->row->id;
	strlcpy(status.state, state->name, sizeof(status.state));
	strlcpy(status.reason, state->condition.reason, sizeof(status.reason));
	strlcpy(status.hint, state->condition.hint, sizeof(status.hint));
	status.is_watching = process_can_talk(repository) && repository->directories > 0 &&
		(repository->tree_state == PROTO_STATE_WATCHING ||
		 repository->tree_state == PROTO_STATE_DEGRADED);
	status.directories = repository->directories;
	status.pending = repository->pending;
	if (repository->run.phase != RUN_NONE)
	{
		status.operation_id = repository->run.operation_id;
		status.files_done = repository->run.files_done;
		status.bytes_done = repository->run.bytes_done;
	}
	else if (repository->place.phase != RUN_NONE)
	{
		status.operation_id = repository->place.operation_id;
		status.files_done = repository->place.files_done;
		status.bytes_done = repository->place.bytes_done;
	}
	else if (repository->verification.phase != RUN_NONE)
	{
		status.operation_id = repository->verification.operation_id;
		status.files_done = repository->verification.counts.files;
		status.bytes_done = repository->verification.counts.bytes;
	}
	strlcpy(status.reading, repository->reading, sizeof(status.reading));
	status.reading_done = repository->reading_done;
	status.reading_size = repository->reading_size;
	status.unread = repository->unread;
	status.flushed = repository->flushed;
	status.given_up = repository->flush_refused;
	status.runs_refused = runs_are_refused(repository);
	status.last_event = repository->last_event;
	status.tree_pid = repository->tree.pid;
	status.watches = repository->watches;
	if (repository->greeted && repository->missing[0] == '\0')
		strlcpy(status.sandbox, "complete", sizeof(status.sandbox));
	else if (repository->greeted)
		snprintf(status.sandbox, sizeof(status.sandbox), "no %s", repository->missing);
	status.worker_pid = MyProcPid;

	/* Both were zeroed before they were filled, padding included. */
	if (memcmp(&status, &repository->published, sizeof(status)) != 0 &&
		status_publish(&status))
		repository->published = status;
}

static void
store_work(WorkerRepository *repository, void *arg)
{
	State	   *state = arg;

	repository_store_state(&worker_objects, &repository->row->id, state->name,
						   state->condition.reason, state->condition.hint);
}

/*
 * The table keeps the state for when there is no worker.  That it cannot be
 * written is no reason to stop anything else.
 */
static void
store(WorkerRepository *repository, State *state, int64 now, int64 *deadline)
{
	if (strcmp(state->name, repository->stored_state) == 0 &&
		memcmp(&state->condition, &repository->stored, sizeof(Condition)) == 0)
		return;
	if (now < repository->store_at)
	{
		lower_deadline(deadline, repository->store_at);
		return;
	}
	if (worker_try(repository, store_work, state) == NULL)
	{
		strlcpy(repository->stored_state, state->name, sizeof(repository->stored_state));
		repository->stored = state->condition;
		repository->store_backoff_ms = STORE_INTERVAL_MS;
	}
	else
	{
		repository->store_backoff_ms = Min(Max(repository->store_backoff_ms * 2,
											   STORE_INTERVAL_MS), STORE_BACKOFF_MS);
		lower_deadline(deadline, now + repository->store_backoff_ms);
	}
	repository->store_at = now + repository->store_backoff_ms;
}

/* False when there is no room in shared memory for its status. */
bool
state_is_published(const WorkerRepository *repository)
{
	return repository->published.used;
}

void
state_publish(WorkerRepository *repository)
{
	State		state;

	derive_state(repository, &state);
	publish(repository, &state);
}

bool
state_is_hopeless(const WorkerRepository *repository)
{
	return !state_is_published(repository) || repository->silent ||
		(repository->trouble.reason[0] != '\0' && repository->hung && !repository->planned);
}

void
state_refresh(WorkerRepository *repository, int64 now, int64 *deadline)
{
	State		state;

	derive_state(repository, &state);
	publish(repository, &state);
	log_condition(repository, &state);
	store(repository, &state, now, deadline);
}
