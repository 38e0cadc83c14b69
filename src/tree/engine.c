/*-------------------------------------------------------------------------
 *
 * engine.c
 *		The loop of fsync-tree: the socket, the state of the root, flushes.
 *
 * One thread owns everything here and waits in one poll(2).  The threads that
 * read events, walk and hash hand over their results and write an eventfd.
 * While there is nothing to do nothing wakes, and nothing is kept open in the
 * tree, so that the user can unmount it.
 *
 * A root that is lost or replaced ends the process, which the worker starts
 * anew: the new one finds the root missing and waits for it.  So there is one
 * way to begin, and nothing to be taken back.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"
#include "settings.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define ENGINE_PROGRESS_US	200000
#define ENGINE_ROOT_POLL_US	1000000

/* Between two attempts to watch directories for which there was no watch. */
#define ENGINE_RETRY_US		30000000

/* ---- the root and the state ---- */

static void
root_state(Engine *engine, RootTrouble trouble, int error)
{
	char		reason[512];
	const char *hint;

	if (trouble == ROOT_REPLACED)
	{
		snprintf(reason, sizeof(reason),
				 "directory \"%.400s\" is not the one that was registered: another file system or directory is in its place",
				 engine->root.path);
		hint = "Mount the right one; or, if the change is meant, call fsync_reconcile(repository_id, force => true).";
	}
	else if (trouble == ROOT_OF_SERVER)
	{
		snprintf(reason, sizeof(reason),
				 "directory \"%.400s\" is one that PostgreSQL uses itself, or contains one",
				 engine->root.path);
		hint = "It is not read. Put the right directory in its place, or remove the repository.";
	}
	else if (error == ELOOP || error == ENOTDIR)
	{
		snprintf(reason, sizeof(reason), "could not open directory \"%.400s\": %s", engine->root.path,
				 error == ELOOP ? "there is a symbolic link in this path, which is not followed" :
				 "Not a directory, or a symbolic link, which is not followed");
		hint = "Rows are kept until the directory is back. If the change is meant, remove the repository and add the directory again.";
	}
	else
	{
		snprintf(reason, sizeof(reason), "could not open directory \"%.400s\": %s",
				 engine->root.path, strerror(error));
		hint = trouble == ROOT_STARVED ? shortage_hint(error) :
			"Rows are kept until the directory is back.";
	}
	report_state(engine, PROTO_STATE_UNAVAILABLE, reason, hint);
}

void
engine_root_trouble(Engine *engine, RootTrouble trouble)
{
	if (engine->exit_status >= 0)
		return;
	if (trouble == ROOT_STARVED)
	{
		(void) shortage_note(&engine->shortage, errno);
		return;
	}
	root_state(engine, trouble, errno);
	engine->exit_status = PROTO_EXIT_RESTART;
}

bool
engine_check_path(Engine *engine)
{
	engine->path_due_us = 0;

	/* perhaps the same one by another device number: identities tell */
	if (!root_path_leads_there(&engine->root_path))
	{
		RootTrouble trouble = root_verify(&engine->root);

		if (trouble == ROOT_STARVED)
		{
			engine->path_due_us = shortage_note(&engine->shortage, errno);
			return true;
		}
		if (trouble != ROOT_OK)
		{
			engine_root_trouble(engine, trouble);
			return false;
		}

		/* a copy of its file system: watched, and open to Landlock, is the other */
		if (engine->root_path.known && !root_path_leads_there(&engine->root_path))
		{
			report_state(engine, PROTO_STATE_DEGRADED,
						 "another file system with the same directory was mounted over it", "");
			engine->exit_status = PROTO_EXIT_RESTART;
			return false;
		}
	}
	(void) root_path_follow(&engine->root_path);
	if (engine->root_path.lacking != 0)
	{
		engine->path_due_us = shortage_note(&engine->shortage, engine->root_path.lacking);
		return true;
	}
	return !engine->root_path.astray;
}

/* Takes the root into use, if it can be; else it is tried again later. */
static void
start(Engine *engine, bool accept)
{
	bool		first = engine->root.identity[0] == '\0' || engine->fresh;
	RootTrouble trouble = root_open(&engine->root, accept);
	int			error = errno;

	if (trouble == ROOT_OK && (error = root_read_mounts(&engine->root)) != 0)
		trouble = ROOT_STARVED;
	if (trouble == ROOT_OK && !root_path_note(&engine->root_path, engine->root.fd) &&
		shortage_is(errno))
	{
		error = errno;
		trouble = ROOT_STARVED;
	}
	if (trouble != ROOT_OK)
	{
		root_state(engine, trouble, error);
		root_close(&engine->root);
		engine->retry_us = monotonic_us() + ENGINE_ROOT_POLL_US;
		return;
	}
	if (!engine_may_read(engine->start, engine->root.fd))
	{
		engine->exit_status = PROTO_EXIT_OTHER_ROOT;
		return;
	}
	(void) root_path_follow(&engine->root_path);
	if (first || accept)
		root_accept_mounts(&engine->root);
	engine->pool = hash_pool_create(engine->config.max_concurrency, engine->wake_fd);
	engine->links = links_create();
	engine->spelling = spelling_create(NULL);
	if (engine->pool == NULL || engine->links == NULL || engine->spelling == NULL)
	{
		engine->exit_status = EXIT_FAILURE;
		return;
	}
	hash_pool_set_throttle(engine->pool, &engine->throttle);

	/* What is found out now is known also when there is little to go by. */
	(void) spelling_folds(engine->spelling, engine->root.fd, "", 0);
	for (size_t i = 0; i < engine->root.now.count; i++)
		(void) spelling_folds(engine->spelling, engine->root.fd, engine->root.now.mounts[i].path,
							  engine->root.now.mounts[i].len);
	spelling_forget(engine->spelling);
	engine->running = true;
	engine->state_changed = true;
	(void) changes_start_watching(engine);
}

/* Whether anything is put off until what lacks is there. */
static bool
is_starved(const Engine *engine)
{
	int64_t		now = monotonic_us();

	return engine->pending.starved > 0 || engine->mounts_error != 0 ||
		(engine->path_due_us != 0 && engine->flushes != NULL) ||
		(engine->resolving && engine->resolve_due_us > now) ||
		(engine->scan_due_us > now && (engine->scan_queued || engine->n_places > 0 ||
									   (engine->asked_place != NULL && engine->asked.scan == NULL)));
}

/* What is to be done where directories, or all of it, are not watched for want of
 * what this errno says. */
static const char *
unwatched_hint(const Engine *engine, bool all, int error)
{
	if (error == ENOMEM)
		return shortage_hint(ENOMEM);
	if (all)
		return engine->root.polled ?
			"Raise fs.inotify.max_user_instances and fs.inotify.max_user_watches with sysctl. Until then fsync_wait() looks at all directories itself, except for what is on network, FUSE and overlay file systems, and they are reconciled more often." :
			"Raise fs.inotify.max_user_instances and fs.inotify.max_user_watches with sysctl. Until then fsync_wait() looks at all directories itself, and they are reconciled more often.";
	return engine->root.polled ?
		"Raise fs.inotify.max_user_watches with sysctl. Until then fsync_wait() looks at them itself, except for what is on network, FUSE and overlay file systems, and they are reconciled more often." :
		"Raise fs.inotify.max_user_watches with sysctl. Until then fsync_wait() looks at them itself, and they are reconciled more often.";
}

static void
update_state(Engine *engine)
{
	const WatchTreeStatus *watched;
	char		reason[512] = "";
	const char *hint = "";
	uint8_t		state = PROTO_STATE_DEGRADED;

	if (!engine->running)
		return;
	watched = engine->watches ? watch_tree_status(engine->watches) : NULL;
	if (shortage_lasts(&engine->shortage, is_starved(engine), reason, sizeof(reason), &hint))
		;
	else if (engine->building)
		state = PROTO_STATE_STARTING;
	else if (engine->root_path.astray)
	{
		snprintf(reason, sizeof(reason), "%s", engine->root_path.reason);
		hint = ROOT_PATH_HINT;
	}
	else if (watched == NULL)
	{
		snprintf(reason, sizeof(reason), "no inotify instance or watch is to be had: %s",
				 strerror(engine->watch_error));
		hint = unwatched_hint(engine, true, engine->watch_error);
	}
	else if (engine->watches_wanted != 0)
		return;					/* it is not known yet */
	else if (watched->unwatched > 0)
	{
		snprintf(reason, sizeof(reason), "%llu directories and what is below them are not watched",
				 (unsigned long long) watched->unwatched);
		hint = unwatched_hint(engine, false, watched->error);
	}
	else if (engine->root.guarded.count > 0)
	{
		snprintf(reason, sizeof(reason), "a file system was mounted or unmounted at \"%.400s\"",
				 engine->root.guarded.mounts[0].path);
		hint = "Rows below it are kept. If the change is meant to last, call fsync_reconcile(repository_id, force => true).";
	}
	else
	{
		/* That events were lost is for the worker to tell, which scans. */
		state = PROTO_STATE_WATCHING;
		if (engine->root.polled)
			snprintf(reason, sizeof(reason),
					 "part of the directory is on a file system that does not report changes made elsewhere; it is reconciled more often");
	}
	report_state(engine, state, reason, hint);
}

/* ---- messages of the worker ---- */

static bool
on_init(Engine *engine, ProtoReader body)
{
	ProtoInit	m;

	if (!proto_get_init(&body, &m) || m.version != PROTO_VERSION || engine->initialized)
		return false;
	engine->initialized = true;
	engine->config = m.config;
	engine->utf8 = m.utf8;
	engine->watches_granted = m.watches;
	engine->fresh = m.fresh;
	engine->filter = settings_filter(&m);
	if (engine->filter != NULL && m.use_ignore_files &&
		(engine->rules = rules_create(engine->filter)) == NULL)
		return false;
	if (engine->filter == NULL || root_init(&engine->root, &m, engine->start->mountinfo_fd) < 0 ||
		root_path_init(&engine->root_path, m.root, m.given) < 0)
		return false;
	start(engine, false);
	return true;
}

static bool
on_config(Engine *engine, ProtoReader body)
{
	ProtoConfig config;

	if (!proto_get_config(&body, &config))
		return false;
	if (engine->pool && config.max_concurrency != engine->config.max_concurrency)
		hash_pool_resize(engine->pool, config.max_concurrency);
	engine->config = config;
	return true;
}

static bool
on_scan(Engine *engine, ProtoReader body)
{
	ProtoScan	scan;

	if (!proto_get_scan(&body, &scan))
		return false;
	if (!engine->running)
		start(engine, (scan.flags & PROTO_SCAN_FORCE) != 0);
	if (engine->running)
	{
		/* a state between two events of the root shows only here */
		RootTrouble trouble = root_verify(&engine->root);

		if (trouble == ROOT_OK || trouble == ROOT_STARVED)
		{
			if (scan.place.len == 0)
				runs_start_scan(engine, &scan);
			else if (!asked_scan(engine, &scan))
				return false;
		}
		if (trouble != ROOT_OK)
			engine_root_trouble(engine, trouble);
	}
	if (!engine->running && engine->exit_status >= 0)
		return true;			/* OTHER_ROOT: the next one is asked */
	if (!engine->running || engine->exit_status >= 0)
	{
		ScanRun		run = {.id = scan.scan_id, .result = PROTO_SCAN_FAILED};

		snprintf(run.message, sizeof(run.message), "%.255s", engine->reason);
		snprintf(run.hint, sizeof(run.hint), "%.255s", engine->hint);
		report_scan_done(engine, &run);
	}
	return true;
}

static void
answer_flush(Engine *engine, int64_t token, ProtoFlushResult result)
{
	report_end_frame(engine);
	proto_begin(&engine->out, PROTO_FLUSHED);
	proto_put_i64(&engine->out, token);
	proto_put_u8(&engine->out, result);
	proto_end(&engine->out);
}

static bool
on_flush(Engine *engine, ProtoReader body)
{
	int64_t		token = proto_get_i64(&body);
	FlushWait  *wait;

	if (body.failed)
		return false;

	/* Somebody waits for it: perhaps the root is back just now. */
	if (!engine->running)
		start(engine, false);
	if (!engine->running && engine->exit_status >= 0)
		return true;			/* the next process is asked */
	if (!engine->running || !engine_check_path(engine))
	{
		if (engine->exit_status < 0)
			update_state(engine);
		else if (engine->state != PROTO_STATE_UNAVAILABLE)
			return true;		/* the same */
		answer_flush(engine, token, PROTO_FLUSH_IN_VAIN);
		return true;
	}
	wait = calloc(1, sizeof(FlushWait));
	if (wait == NULL)
		return false;
	wait->token = token;
	if (engine->reader != NULL)
	{
		events_drain(engine->reader);
		changes_process_events(engine);
		noisy_poll(engine, true);
	}
	wait->epoch = engine->epoch++;
	unwatched_look(engine, wait->epoch);
	inspect_renew(engine, wait->epoch);
	hashing_renew(engine, wait->epoch);
	runs_renew(engine, wait->epoch);
	pending_renew(&engine->pending, wait->epoch);
	wait->next = engine->flushes;
	engine->flushes = wait;
	return true;
}

static bool
on_frame(Engine *engine, uint8_t type, ProtoReader body)
{
	ProtoBeliefsHeader header;
	int64_t		value;

	if (type != PROTO_INIT && !engine->initialized)
		return false;
	switch (type)
	{
		case PROTO_INIT:
			return on_init(engine, body);
		case PROTO_CONFIG:
			return on_config(engine, body);
		case PROTO_SCAN:
			return on_scan(engine, body);
		case PROTO_FLUSH:
			return on_flush(engine, body);
		case PROTO_SCAN_CANCEL:
			value = proto_get_i64(&body);
			if (!body.failed && engine->running)
			{
				runs_cancel_scan(engine, value);
				verifying_cancel(engine, value);
			}
			return !body.failed;
		case PROTO_VERIFY:
			return verifying_start(engine, body);
		case PROTO_BELIEFS:
			return proto_get_beliefs_header(&body, &header) &&
				(!engine->running || runs_beliefs(engine, &header, body));
		case PROTO_APPLIED:
			value = proto_get_i64(&body);
			if (body.failed || engine->unacknowledged == 0)
				return false;
			report_applied(engine, value);
			return true;
		case PROTO_WATCHES:
			value = proto_get_i64(&body);
			if (body.failed || engine->watches_wanted == 0)
				return false;
			changes_watches_granted(engine, value);
			return true;
		case PROTO_REFUSED:
			return refused_take(engine, body);
		case PROTO_LOOK:
			return refused_look(engine, body);
		case PROTO_PING:
			value = proto_get_i64(&body);
			if (body.failed)
				return false;
			if (engine->running && engine->exit_status < 0)
				(void) engine_check_path(engine);
			report_end_frame(engine);
			proto_begin(&engine->out, PROTO_PONG);
			proto_put_i64(&engine->out, value);
			proto_end(&engine->out);
			return true;
		default:
			return false;
	}
}

/* Reads what is there; false when the worker is gone. */
static bool
receive(Engine *engine)
{
	uint8_t		type;
	ProtoReader body;
	int			more;
	ssize_t		n = proto_recv(engine->socket, &engine->in);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return false;
	while ((more = proto_next(&engine->in, &type, &body)) == 1)
	{
		if (!on_frame(engine, type, body))
		{
			fprintf(stderr, "fsync-tree: message of type 0x%02x could not be understood\n", type);
			return false;
		}
	}
	return more == 0;
}

/* ---- flushes ---- */

/* Whether the root's path leads there, also where that could not be looked at. */
static bool
path_is_known(Engine *engine)
{
	if (engine->path_due_us == 0)
		return true;
	if (monotonic_us() < engine->path_due_us)
		return false;
	if (engine_check_path(engine))
		return engine->path_due_us == 0;
	while (engine->flushes != NULL && engine->exit_status < 0)
	{
		FlushWait  *wait = engine->flushes;

		answer_flush(engine, wait->token, PROTO_FLUSH_IN_VAIN);
		engine->flushes = wait->next;
		free(wait);
	}
	return false;
}

static void
answer_flushes(Engine *engine)
{
	FlushWait **p = &engine->flushes;
	uint64_t	min;

	if (*p == NULL || !engine->running || engine->building || engine->watches_wanted != 0 ||
		!path_is_known(engine))
		return;
	min = runs_min_epoch(engine);
	while (*p != NULL)
	{
		FlushWait  *wait = *p;

		if (min <= wait->epoch)
		{
			p = &wait->next;
			continue;
		}
		answer_flush(engine, wait->token, PROTO_FLUSH_DONE);
		*p = wait->next;
		free(wait);
	}
}

/* ---- the loop ---- */

static bool
is_idle(const Engine *engine)
{
	return engine->items.count == 0 && engine->n_points == 0 && engine->n_places == 0 &&
		engine->full.scan == NULL && engine->partial.scan == NULL &&
		engine->asked_place == NULL && !engine->scan_queued && !engine->resolving &&
		hash_pool_outstanding(engine->pool) == 0;
}

/* Tries again what could not be had: the root, an instance, watches. */
static void
retry(Engine *engine)
{
	if (engine->retry_us == 0 || monotonic_us() < engine->retry_us)
		return;
	engine->retry_us = 0;
	if (!engine->running)
	{
		start(engine, false);
		return;
	}
	if (engine->root_path.astray)
		(void) engine_check_path(engine);
	if (engine->exit_status >= 0)
		return;
	changes_note_blindness(engine);
	if (engine->watches == NULL)
	{
		RootTrouble trouble = root_open(&engine->root, false);

		if (trouble == ROOT_STARVED)
			engine->retry_us = shortage_note(&engine->shortage, errno);
		else if (trouble == ROOT_OK && changes_start_watching(engine))
			changes_ask_for_scan(engine, "directories that could not be watched are watched now");
	}
	else if (watch_tree_status(engine->watches)->unwatched > 0)
	{
		engine->watches_refused = false;
		watch_tree_retry(engine->watches, (uint64_t) engine->watches_granted);
		changes_must_resolve(engine);
	}
}

/* Reads the mounts, which have changed or could not be read the last time. */
static void
read_mounts(Engine *engine)
{
	RootTrouble trouble = root_verify(&engine->root);

	if (trouble == ROOT_STARVED)
	{
		engine->mounts_error = errno;
		engine->mounts_due_us = shortage_note(&engine->shortage, errno);
	}
	else if (trouble != ROOT_OK)
		engine_root_trouble(engine, trouble);
	else if (engine_check_path(engine) || engine->exit_status < 0)
		changes_read_mounts(engine);
}

static void
step(Engine *engine)
{
	retry(engine);
	if (engine->running && engine->mounts_error != 0 && engine->mounts_due_us <= monotonic_us())
		read_mounts(engine);
	if (engine->running && engine->exit_status < 0)
	{
		changes_process_events(engine);
		heard_retry(engine);
		changes_resolve(engine);
		if (engine->exit_status < 0)
			noisy_poll(engine, false);
		hashing_collect(engine);
		if (engine->exit_status < 0)
			runs_step(engine);
		hashing_start(engine);
		if (engine->exit_status < 0)
			inspect_look_ahead(engine);
		if (engine->exit_status < 0)
			verifying_report(engine);
		if (engine->exit_status >= 0)
			return;
		unwatched_report(engine, false);
		update_state(engine);
		if (engine->retry_us == 0 && engine->root_path.astray)
			engine->retry_us = monotonic_us() + ENGINE_RETRY_US;
		if (engine->retry_us == 0 && engine->watches_wanted == 0 &&
			(engine->watches == NULL || watch_tree_status(engine->watches)->unwatched > 0))
		{
			engine->retry_us = monotonic_us() + ENGINE_RETRY_US;
			changes_note_blindness(engine);
		}
	}
	answer_flushes(engine);

	/* who waits for a large file will want to know how much of it is read */
	if (engine->flushes != NULL && engine->items.count > 0)
		engine->progress_due = true;
	report_offer_frame(engine);
	if (engine->running && is_idle(engine))
		root_close(&engine->root);
	if (engine->progress_due &&
		monotonic_us() - engine->last_progress_us >= ENGINE_PROGRESS_US)
		report_progress(engine);
}

/* Milliseconds until there is something to do; -1: until something happens. */
static int
next_timeout(Engine *engine)
{
	int64_t		now = monotonic_us();
	int64_t		due = INT64_MAX;
	int64_t		noisy;

	if (engine->running)
	{
		if ((engine->resolving && engine->resolve_due_us <= now) || engine->sent_all ||
			inspect_looks_ahead(engine))
			return 0;
		due = runs_due(engine);
		if (engine->resolving && engine->resolve_due_us < due)
			due = engine->resolve_due_us;
		if (unwatched_due(engine) < due)
			due = unwatched_due(engine);
		if (engine->mounts_error != 0 && engine->mounts_due_us < due)
			due = engine->mounts_due_us;
		if (engine->path_due_us != 0 && engine->flushes != NULL && engine->path_due_us < due)
			due = engine->path_due_us;
		if (shortage_due(&engine->shortage) < due)
			due = shortage_due(&engine->shortage);
		noisy = noisy_due(engine);
		if (noisy < due)
			due = noisy;
		if (engine->scan_queued && engine->scan_restarts > 0 &&
			engine->restart_due_us < due)
			due = engine->restart_due_us;
	}
	if (engine->retry_us != 0 && engine->retry_us < due)
		due = engine->retry_us;
	if (engine->progress_due &&
		engine->last_progress_us + ENGINE_PROGRESS_US < due)
		due = engine->last_progress_us + ENGINE_PROGRESS_US;
	if (due == INT64_MAX)
		return -1;
	if (due <= now)
		return 0;
	return due - now > 3600000000 ? 3600000 : (due - now + 999) / 1000;
}

static void
loop(Engine *engine)
{
	while (engine->exit_status < 0)
	{
		struct pollfd fds[3] = {
			{.fd = engine->socket, .events = POLLIN},
			{.fd = engine->wake_fd, .events = POLLIN},
			{.fd = engine->running ? engine->root.mountinfo_fd : -1, .events = POLLPRI},
		};
		uint64_t	count;
		int64_t		clock;
		bool		sending;

		if (proto_buf_pending(&engine->out) > 0)
			fds[0].events |= POLLOUT;
		if (poll(fds, 3, next_timeout(engine)) < 0)
		{
			if (errno != EINVAL)
				continue;

			/* fewer descriptors are allowed than it is to look at */
			(void) shortage_wait(&engine->shortage, EMFILE, NULL);
			fds[0].revents = POLLIN;
			fds[1].revents = fds[2].revents = 0;
		}
		clock = throttle_clock(&engine->throttle);
		engine->done = engine->done_for_scan = 0;
		if (fds[1].revents && read(engine->wake_fd, &count, sizeof(count)) < 0)
			continue;
		if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		{
			if (!receive(engine))
				engine->exit_status = 0;
		}
		if (engine->running && (fds[2].revents & (POLLPRI | POLLERR)))
			read_mounts(engine);
		if (engine->exit_status < 0)
			step(engine);
		sending = proto_buf_pending(&engine->out) > 0;
		if (engine->out.failed || proto_send(engine->socket, &engine->out) < 0)
		{
			if (engine->out.failed || errno != EAGAIN)
				engine->exit_status = engine->exit_status < 0 ? EXIT_FAILURE : engine->exit_status;
		}
		engine->sent_all = sending && proto_buf_pending(&engine->out) == 0 &&
			(engine->full.scan != NULL || engine->partial.scan != NULL ||
			 engine->asked.scan != NULL);
		throttle_charge_since(&engine->throttle, clock, engine->done_for_scan, engine->done);
	}
}

/*
 * Serves the worker at the other end of the socket until it closes it.
 * Returns the process's exit status.
 */
int
engine_run(int socket, const EngineStart *start)
{
	Engine	   *engine = calloc(1, sizeof(Engine));
	int			status;

	if (engine == NULL)
		return EXIT_FAILURE;
	engine->socket = socket;
	engine->start = start;
	engine->spools = start->spools;
	engine->exit_status = -1;
	engine->blind_since_ns = INT64_MAX;
	engine->epoch = 1;
	engine->root.fd = engine->root.mountinfo_fd = -1;
	engine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	proto_buf_init(&engine->in);
	proto_buf_init(&engine->out);
	shortage_init(&engine->shortage, engine->wake_fd);
	pending_init(&engine->pending);
	halves_init(&engine->halves);
	problems_init(&engine->problems);
	problems_init(&engine->refused);
	problems_init(&engine->unwatched);
	table_init(&engine->items);
	engine->to_submit_end = &engine->to_submit;
	throttle_init(&engine->throttle, NULL);
	table_init(&engine->items_by_name);
	table_init(&engine->points_by_name);
	if (engine->wake_fd < 0 || !changes_spare_place(engine))
		return EXIT_FAILURE;
	proto_begin(&engine->out, PROTO_HELLO);
	proto_put_u32(&engine->out, PROTO_VERSION);
	proto_put_str(&engine->out, start->sandbox.missing, strlen(start->sandbox.missing));
	proto_end(&engine->out);
	if (start->must_be_complete && !start->sandbox.complete)
		engine->exit_status = PROTO_EXIT_UNCONFINED;

	loop(engine);

	/* What it said last, why it ends, should arrive. */
	report_end_frame(engine);
	for (int tries = 0; tries < 100 && proto_buf_pending(&engine->out) > 0; tries++)
	{
		struct pollfd pfd = {.fd = socket, .events = POLLOUT};

		if (proto_send(socket, &engine->out) < 0 && errno != EAGAIN)
			break;
		poll(&pfd, 1, 10);
	}

	/* A thread may hang in a dead file system: the kernel cleans up. */
	status = engine->exit_status;
	fflush(NULL);
	_exit(status);
}
