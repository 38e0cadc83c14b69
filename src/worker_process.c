/*-------------------------------------------------------------------------
 *
 * worker_process.c
 *		The life of a repository's fsync-tree: start, watchdog, end.
 *
 * A file system can hang for ever, and then so does whoever asks it.  An
 * fsync-tree that owes an answer and is silent is first asked for a sign of
 * life, then given up and killed; a process that cannot be killed (state D)
 * is never waited for.  Whatever the reason of an end, the next process
 * begins with a scan, because nobody watched in between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "miscadmin.h"

#include "compat.h"
#include "capacity.h"
#include "own_directories.h"
#include "worker.h"

#define START_BACKOFF_MIN_MS	100
#define START_BACKOFF_MAX_MS	60000
#define HEALTHY_MS				60000

/* Between closing the socket of a process and killing it. */
#define END_GRACE_MS			2000
#define REAP_MIN_MS				10
#define REAP_MAX_MS				30000

/* Directories that fsync-tree may watch without asking. */
#define FIRST_WATCHES			128

#define IDLE_PING_MS			(5 * 60 * 1000)

/* The default of debounce_max_delay is so many times that of debounce_interval. */
#define DEBOUNCE_MAX_TIMES		10

bool
process_can_talk(const WorkerRepository *repository)
{
	return repository->process == PROCESS_RUNNING && !repository->at_end;
}

/* Sends what is in the buffer, as far as the socket takes it. */
void
process_send(WorkerRepository *repository)
{
	if (repository->tree.fd < 0)
		return;

	/*
	 * When the other end is gone its last words may still be there to be
	 * read; the end of the stream comes after them.
	 */
	if (!tree_client_send(&repository->tree) && repository->tree.out.failed)
		process_fail(repository, "out of memory while talking to fsync-tree", NULL);
}

/* ---------------------------------------------------------------------
 * Start
 * ---------------------------------------------------------------------
 */

/* The limit is for all scans of this worker: they share it. */
static int
cpu_share(const WorkerRepository *repository, int scans)
{
	return runs_cpu_limit(repository) * 10000 / Max(scans, 1);
}

/*
 * A repository that waits for longer than the others waits for a file that never
 * is quiet as many times as long as they do by default, too, or it would wait for
 * nothing.
 */
static void
fill_config(ProtoConfig *config, WorkerRepository *repository)
{
	const RepositoryRow *row = repository->row;

	config->debounce_ms = setting_debounce_interval_ms;
	config->debounce_max_ms = setting_debounce_max_delay_ms;
	if (row->debounce_ms >= 0)
	{
		config->debounce_ms = (int32) row->debounce_ms;
		config->debounce_max_ms = Max(config->debounce_max_ms,
									  config->debounce_ms * DEBOUNCE_MAX_TIMES);
	}
	config->batch_size = setting_batch_size;
	config->max_concurrency = setting_max_concurrency;
	config->calculate_hashes = row->calculate_hashes;
	config->scan_cpu_ppm = repository->sent_cpu_ppm =
		cpu_share(repository, worker_scans());
	config->io_priority = setting_io_priority;
}

/* The limit is the user's, and so are the watches of all fsync-trees of the server. */
void
process_grant_watches(WorkerRepository *repository, int64 wanted)
{
	repository->watches = status_grant_watches(&repository->row->id, wanted,
											   capacity_watches());
}

static void
own_directories_work(WorkerRepository *repository, void *arg)
{
	*(List **) arg = own_directories();
}

void
process_send_config(WorkerRepository *repository)
{
	ProtoConfig config;

	/* The setting may be on now, or off, that decides which process may run. */
	if (repository->missing[0] != '\0')
	{
		repository->next_start = 0;
		if (setting_require_sandbox && repository->process == PROCESS_RUNNING)
		{
			worker_renew_wait_set();
			process_restart(repository, "fsync.require_sandbox was turned on");
		}
	}
	if (!process_can_talk(repository))
		return;
	fill_config(&config, repository);
	proto_begin(&repository->tree.out, PROTO_CONFIG);
	proto_put_config(&repository->tree.out, &config);
	proto_end(&repository->tree.out);
	process_send(repository);
}

/* So many scans go on: its share of the limit may be another than it was told. */
void
process_share_limit(WorkerRepository *repository, int scans)
{
	if (process_can_talk(repository) && repository->sent_cpu_ppm != cpu_share(repository, scans))
		process_send_config(repository);
}

static void
grow_start_backoff(WorkerRepository *repository, int64 now)
{
	if (repository->start_backoff_ms == 0 ||
		(repository->reported && now - repository->started_at >= HEALTHY_MS))
		repository->start_backoff_ms = START_BACKOFF_MIN_MS;
	else
		repository->start_backoff_ms = Min(repository->start_backoff_ms * 2,
										   START_BACKOFF_MAX_MS);
	repository->next_start = now + repository->start_backoff_ms;
}

static void
cannot_start(WorkerRepository *repository, int64 now, const char *reason, const char *hint)
{
	worker_set_condition(&repository->trouble, reason, hint);
	repository->planned = false;
	repository->hung = false;
	runs_process_ended(repository, false);
	grow_start_backoff(repository, now);
}

static void
start_process(WorkerRepository *repository, int64 now)
{
	ProtoConfig config;
	List	   *own = NIL;
	ErrorData  *error;
	int			errors;

	repository->at_end = false;
	repository->reported = false;
	repository->greeted = false;
	repository->busy_since = 0;
	repository->ping_sent = 0;
	repository->polled = false;
	repository->directories = 0;
	repository->pending = 0;
	repository->reading[0] = '\0';
	repository->unread = 0;
	repository->started_at = now;

	/* What the last process said of its root holds until this one speaks. */
	if (!repository->planned)
	{
		repository->tree_state = 0;
		worker_set_condition(&repository->tree_condition, NULL, NULL);
	}

	if (!state_is_published(repository))
	{
		cannot_start(repository, now, "there are more repositories than fsync.max_repositories",
					 "Increase fsync.max_repositories and restart the server.");
		return;
	}
	error = worker_try(repository, own_directories_work, &own);
	if (error != NULL)
	{
		cannot_start(repository, now, error->message, NULL);
		return;
	}
	if (!tree_client_start(&repository->tree, repository->row->root,
						   setting_require_sandbox, &errors))
	{
		char		reason[STATUS_TEXT_LEN];

		snprintf(reason, sizeof(reason), "could not start fsync-tree: %s", strerror(errno));
		cannot_start(repository, now, reason,
					 "Check the installation, and fsync.helper_path if it is set.");
		return;
	}
	repository->process = PROCESS_RUNNING;
	tree_errors_begin(&repository->errors, errors);
	fill_config(&config, repository);
	process_grant_watches(repository, FIRST_WATCHES);
	repository_put_init(repository->row, &config, repository->watches, own,
						&repository->tree.out);
	runs_process_started(repository);
	repository->started_before = true;
	memset(&repository->statistics, 0, sizeof(repository->statistics));
	process_send(repository);
}

/* ---------------------------------------------------------------------
 * End
 * ---------------------------------------------------------------------
 */

/* Gives the connection up; the process is reaped from process_advance(). */
static void
begin_end(WorkerRepository *repository)
{
	int64		now = clock_ms();

	tree_client_close(&repository->tree);
	repository->event_position = -1;
	repository->at_end = false;
	repository->has_frame = false;
	repository->frames_left = false;
	repository->process = PROCESS_ENDING;
	repository->killed = false;
	repository->given_up = false;
	repository->hung = false;
	repository->silent = false;
	repository->planned = false;
	repository->watches = 0;
	repository->ended_at = now;
	repository->reap_ms = REAP_MIN_MS;
	repository->reap_at = now;
	repository->busy_since = 0;
	repository->ping_sent = 0;
}

/* The stream has ended, and all that was in it is done. */
void
process_ended(WorkerRepository *repository)
{
	begin_end(repository);
}

/* fsync-tree, or what it says, is of no use: another is started later. */
void
process_fail(WorkerRepository *repository, const char *reason, const char *hint)
{
	if (repository->process != PROCESS_RUNNING)
		return;
	worker_set_condition(&repository->trouble, reason, hint);
	kill(repository->tree.pid, SIGKILL);
	begin_end(repository);
	repository->killed = true;
	repository->given_up = true;
	runs_process_ended(repository, false);
}

/* Starts anew, to follow a change of the repository's settings. */
void
process_restart(WorkerRepository *repository, const char *reason)
{
	worker_set_condition(&repository->trouble, reason, NULL);
	repository->planned = true;
	tree_client_abandon(&repository->tree);
	tree_errors_end(&repository->errors);
	repository->event_position = -1;
	repository->at_end = false;
	repository->has_frame = false;
	repository->frames_left = false;
	repository->process = PROCESS_NONE;
	repository->watches = 0;
	repository->next_start = 0;
	runs_process_ended(repository, false);
}

/*
 * Takes note of how it ended.  It ends by itself when its root was lost or
 * replaced: the next process must not carry anything over from that root.
 */
static void
note_end(WorkerRepository *repository, int status, int64 now)
{
	char		reason[STATUS_TEXT_LEN];
	int			code = status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (code == PROTO_EXIT_RESTART || code == PROTO_EXIT_OTHER_ROOT)
	{
		repository->trouble = repository->tree_condition;
		if (repository->trouble.reason[0] == '\0')
			worker_set_condition(&repository->trouble, "the root was lost or replaced", NULL);
		repository->planned = true;
	}
	else if (code == PROTO_EXIT_UNCONFINED)
	{
		snprintf(reason, sizeof(reason), "fsync-tree cannot confine itself: there is no %s",
				 repository->missing);
		worker_set_condition(&repository->trouble, reason,
							 "fsync.require_sandbox is on. Run a kernel and a build that have it, or turn the setting off.");
	}
	else
	{
		tree_client_describe_end(status, reason, sizeof(reason));
		worker_set_condition(&repository->trouble, reason, NULL);
	}
	runs_process_ended(repository, code == PROTO_EXIT_OTHER_ROOT);
	if (repository->planned && now - repository->started_at >= START_BACKOFF_MIN_MS)
		repository->next_start = now;
	else
		grow_start_backoff(repository, now);
}

static void
reap_process(WorkerRepository *repository, int64 now, int64 *deadline)
{
	if (now >= repository->reap_at)
	{
		int			status;

		if (tree_client_reap(&repository->tree, &status))
		{
			tree_errors_log(&repository->errors, repository->row->root, now);
			tree_errors_end(&repository->errors);
			if (repository->given_up)
				grow_start_backoff(repository, now);
			else
				note_end(repository, status, now);
			repository->process = PROCESS_NONE;
			worker_request_reload();
			lower_deadline(deadline, repository->next_start);
			return;
		}
		repository->reap_ms = Min(repository->reap_ms * 2, REAP_MAX_MS);
		repository->reap_at = now + repository->reap_ms;
	}
	if (!repository->killed)
	{
		if (now >= repository->ended_at + END_GRACE_MS)
		{
			kill(repository->tree.pid, SIGKILL);
			repository->killed = true;
			repository->reap_ms = REAP_MIN_MS;
		}
		else
			lower_deadline(deadline, repository->ended_at + END_GRACE_MS);
	}
	lower_deadline(deadline, repository->reap_at);
}

/* ---------------------------------------------------------------------
 * Watchdog
 * ---------------------------------------------------------------------
 */

/* Whether fsync-tree has something to say before long. */
static bool
owes_an_answer(const WorkerRepository *repository)
{
	return !repository->reported ||
		repository->run.phase == RUN_RUNNING ||
		places_outstanding(repository) ||
		repository->ping_sent != 0 ||
		flush_outstanding(repository) ||
		proto_buf_pending(&repository->tree.out) > 0;
}

void
process_ping(WorkerRepository *repository)
{
	if (!process_can_talk(repository) || repository->ping_sent != 0)
		return;
	proto_begin(&repository->tree.out, PROTO_PING);
	proto_put_i64(&repository->tree.out, ++repository->next_token);
	proto_end(&repository->tree.out);
	repository->ping_sent = clock_ms();
	process_send(repository);
}

/*
 * Comes after all that may have asked for an answer in this turn.  An answer
 * that is outstanding for a quarter of the timeout is asked for again with a
 * ping, which a busy fsync-tree answers at once; after a half the state says
 * that it is silent, and at the end it is killed.
 */
void
process_watch(WorkerRepository *repository, int64 now, int64 *deadline)
{
	int64		timeout = setting_helper_timeout_s * INT64CONST(1000);
	bool		blocked = messages_are_blocked(repository);
	int64		silence;

	tree_errors_log(&repository->errors, repository->row->root, now);
	if (repository->process != PROCESS_RUNNING)
		return;
	repository->silent = false;

	/* While nothing is read the silence is ours. */
	if (repository->stalled || repository->at_end)
	{
		repository->busy_since = 0;
		return;
	}

	if (!owes_an_answer(repository) && now - repository->tree.last_byte >= IDLE_PING_MS)
		process_ping(repository);
	if (!owes_an_answer(repository))
	{
		repository->busy_since = 0;
		lower_deadline(deadline, repository->tree.last_byte + IDLE_PING_MS);
		return;
	}

	/*
	 * Bytes that are there but not heard yet: we were slow, not it.  Unless it
	 * takes no answers, for which reason nothing is read.
	 */
	if (repository->busy_since == 0 ||
		(!blocked && (repository->frames_left || tree_client_readable(&repository->tree))))
		repository->busy_since = now;
	silence = now - Max(repository->busy_since, blocked ? repository->tree.last_taken :
						repository->tree.last_byte);

	if (silence >= timeout)
	{
		process_fail(repository, PROCESS_SILENT, PROCESS_SILENT_HINT);
		repository->hung = true;
		lower_deadline(deadline, repository->reap_at);
		return;
	}
	if (silence >= timeout / 4)
		process_ping(repository);
	repository->silent = silence >= timeout / 2;
	lower_deadline(deadline, now - silence +
				   (silence >= timeout / 2 ? timeout :
					silence >= timeout / 4 ? timeout / 2 : timeout / 4));
}

void
process_advance(WorkerRepository *repository, int64 now, int64 *deadline)
{
	if (repository->process == PROCESS_NONE)
	{
		if (now >= repository->next_start)
			start_process(repository, now);
		if (repository->process == PROCESS_NONE)
			lower_deadline(deadline, repository->next_start);
	}
	if (repository->process == PROCESS_ENDING)
		reap_process(repository, now, deadline);
}
