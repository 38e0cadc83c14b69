/*-------------------------------------------------------------------------
 *
 * changes.c
 *		From events and scans to points to be inspected.
 *
 * What changed arrives in three shapes.  Names wait in the pending table for
 * their debounce.  Directories that came, went or moved become places of a
 * partial scan, which finds out what is different below them.  And the worker
 * asks for a scan of everything.  Scans yield candidates, and in the end all
 * becomes points, inspected by the same code (inspect.c), one load at a time.
 *
 * A rename out of a renamed directory has one half among the candidates and
 * one among the pending names.  So names that were moved wait while a partial
 * scan is due or runs, and are inspected together with its last candidates.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>

/* Points inspected together, and candidates taken together. */
#define CHANGES_NAMES		2000
#define CHANGES_CANDIDATES	20000

/* Files that may wait for being hashed before more are looked for. */
#define CHANGES_HASHING		2000

/* The longest wait for the other half of a rename. */
#define CHANGES_RENAME_US	20000

/* So many directories changed that a scan of everything is simpler. */
#define CHANGES_PLACES		20000

/* One look at the disk for touched directories, between other work. */
#define CHANGES_RESOLVE_US	50000

/* ---- events ---- */

void
changes_want_subtree(Engine *engine, const char *path, size_t len)
{
	ScanPlace  *place;
	int64_t		now = engine_now_us();

	if (engine->n_places >= CHANGES_PLACES)
	{
		for (size_t i = 0; i < engine->n_places; i++)
			free(engine->places[i].path);
		engine->n_places = 0;
		len = 0;
	}
	if (engine->n_places == engine->places_capacity)
	{
		size_t		n = engine->places_capacity ? engine->places_capacity * 2 : 16;

		place = realloc(engine->places, n * sizeof(ScanPlace));
		if (place == NULL)
			return;
		engine->places = place;
		engine->places_capacity = n;
	}
	place = &engine->places[engine->n_places];
	place->path = strndup(path, len);
	place->len = len;
	if (place->path == NULL)
		return;
	if (engine->n_places++ == 0)
	{
		engine->places_first_us = now;
		engine->places_epoch = engine->epoch;
	}
	engine->places_last_us = now;
}

static void
on_subtree(void *arg, const char *path, size_t len)
{
	Engine	   *engine = arg;

	/* While the watches are put up a scan of everything is due anyway. */
	if (!engine->building)
		changes_want_subtree(engine, path, len);
}

/* The hints of the name that this one was renamed from. */
static unsigned
pair_rename(Engine *engine, uint32_t cookie)
{
	for (int i = 0; i < 64; i++)
		if (engine->renames[i].cookie == cookie)
		{
			engine->renames[i].cookie = 0;
			return engine->renames[i].hints & (HINT_CONTENT | HINT_CLOSED);
		}

	/* From outside, or from a name that is ignored: it may have been written
	 * there. */
	return HINT_CONTENT;
}

static void
on_name(void *arg, uint64_t node, const char *name, size_t len, uint32_t mask,
		uint32_t cookie)
{
	Engine	   *engine = arg;
	int64_t		now = engine_now_us();
	unsigned	hints = 0;

	if (mask & IN_MODIFY)
		hints |= HINT_CONTENT;
	if (mask & IN_CLOSE_WRITE)
		hints |= HINT_CLOSED;
	if (mask & (IN_DELETE | IN_MOVED_FROM))
		hints |= HINT_GONE;
	if (mask & IN_MOVED_TO)
		hints |= HINT_ARRIVED | pair_rename(engine, cookie);
	if (mask & IN_MOVED_FROM)
	{
		unsigned	i = engine->next_rename++ % 64;

		engine->renames[i].cookie = cookie;
		engine->renames[i].hints = pending_hints(&engine->pending, node, name, len);
		engine->renames[i].since_us = now;
	}
	if (!pending_note(&engine->pending, node, name, len, hints, now, engine->epoch))
		engine->batch.lost = true;
}

/* True if half a rename may still be on its way. */
static bool
rename_unpaired(const Engine *engine, int64_t now, int64_t *until)
{
	for (int i = 0; i < 64; i++)
		if (engine->renames[i].cookie != 0 &&
			engine->renames[i].since_us + CHANGES_RENAME_US > now)
		{
			*until = engine->renames[i].since_us + CHANGES_RENAME_US;
			return true;
		}
	return false;
}

/* ---- watching ---- */

static uint64_t
watch_budget(void)
{
	FILE	   *f = fopen("/proc/sys/fs/inotify/max_user_watches", "re");
	unsigned long long limit = 8192;

	if (f != NULL)
	{
		if (fscanf(f, "%llu", &limit) != 1)
			limit = 8192;
		fclose(f);
	}
	return limit / 5 * 4;		/* the user's other programs need some */
}

/*
 * Puts a watch on the root; the others follow in changes_resolve().  False
 * when there is no inotify instance or watch to be had: then the tree is only
 * reconciled.
 */
bool
changes_start_watching(Engine *engine)
{
	WatchCallbacks callbacks = {engine, on_subtree, on_name};

	engine->building = true;
	engine->reader = events_start(engine->wake_fd);
	if (engine->reader != NULL)
		engine->watches = watch_tree_create(events_fd(engine->reader), engine->filter,
											engine->utf8, watch_budget(), &callbacks);
	if (engine->watches == NULL ||
		watch_tree_start(engine->watches, engine->root.fd) < 0)
	{
		int			error = errno;

		changes_stop_watching(engine);
		engine->building = false;
		errno = error;
		return false;
	}
	engine->resolving = true;
	return true;
}

void
changes_stop_watching(Engine *engine)
{
	if (engine->reader != NULL)
		events_stop(engine->reader);	/* closing it ends all its watches */
	engine->reader = NULL;
	if (engine->watches != NULL)
		watch_tree_free(engine->watches);
	engine->watches = NULL;
	engine->resolving = false;
	pending_clear(&engine->pending);
	for (size_t i = 0; i < engine->n_places; i++)
		free(engine->places[i].path);
	engine->n_places = 0;
	memset(engine->renames, 0, sizeof(engine->renames));
}

/* Begins anew: new watches first, then a scan of everything. */
static void
heal(Engine *engine, const char *reason)
{
	if (!engine->healing)
		engine_log(engine, 'L', "%s: watching anew, then comparing everything", reason);
	engine->healing = true;
	engine->heal_scan_runs = false;
	changes_stop_watching(engine);
	changes_start_watching(engine);
	report_end_frame(engine);
	proto_begin(&engine->out, PROTO_SCAN_WANTED);
	proto_put_str(&engine->out, reason, strlen(reason));
	proto_end(&engine->out);
}

void
changes_process_events(Engine *engine)
{
	struct timespec ts;

	if (engine->reader == NULL || !events_take(engine->reader, &engine->batch))
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	engine->last_event_us = ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
	engine->progress_due = true;
	for (size_t i = 0; i < engine->batch.count && !engine->batch.lost; i++)
	{
		const Event *e = &engine->batch.events[i];

		watch_tree_event(engine->watches, e, engine->batch.names + e->name);
	}
	engine->resolving = true;
	if (engine->batch.lost)
		heal(engine, "events were lost (the inotify queue overflowed)");
	events_batch_free(&engine->batch);
}

/* Looks at touched directories; true when nothing is left. */
bool
changes_resolve(Engine *engine)
{
	RootTrouble trouble;

	if (engine->watches == NULL || !engine->resolving)
		return true;
	trouble = root_open(&engine->root, false);
	if (trouble == ROOT_OK && watch_tree_root_changed(engine->watches))
		trouble = root_verify(&engine->root);
	if (trouble != ROOT_OK)
	{
		engine_root_trouble(engine, trouble);
		return true;
	}
	engine->resolving = !watch_tree_resolve(engine->watches, engine->root.fd,
											CHANGES_RESOLVE_US);
	if (watch_tree_status(engine->watches)->rebuild)
		heal(engine, "the directories changed faster than they could be followed");
	if (!engine->resolving && engine->building)
	{
		engine->building = false;
		engine->state_changed = true;
	}
	return !engine->resolving;
}

/* ---- mounts ---- */

static void
look_at_mounts(Engine *engine)
{
	for (size_t i = 0; i < engine->root.guarded.count; i++)
	{
		const Mount *m = &engine->root.guarded.mounts[i];

		if (engine->watches != NULL)
		{
			watch_tree_touch(engine->watches, m->path, m->len);
			engine->resolving = true;
		}
		changes_want_subtree(engine, m->path, m->len);
	}
}

/* The mounts changed: what was guarded may be free, and the other way round. */
void
changes_read_mounts(Engine *engine)
{
	look_at_mounts(engine);
	root_read_mounts(&engine->root);
	look_at_mounts(engine);
	engine->guard_next = 0;
	engine->guard_request = 0;
	engine->state_changed = true;
}

/* Asks whether there is a row below the next guarded mount. */
static void
ask_about_guard(Engine *engine)
{
	const Mount *m;
	char		after[PROTO_PATH_MAX + 1];
	char		before[PROTO_PATH_MAX + 1];
	ProtoBeliefsRequest request = {
		.kind = PROTO_BELIEFS_RANGE, .inclusive = true, .limit = 1
	};

	if (engine->guard_request != 0 || engine->guard_next >= engine->root.guarded.count)
		return;
	m = &engine->root.guarded.mounts[engine->guard_next];
	if (m->len >= PROTO_PATH_MAX)
	{
		engine->guard_next++;
		return;
	}
	memcpy(after, m->path, m->len);
	memcpy(before, m->path, m->len);
	after[m->len] = '/';
	before[m->len] = '/' + 1;
	request.after.data = after;
	request.before.data = before;
	request.after.len = request.before.len = m->len + 1;
	engine->guard_request = request.request_id = ++engine->last_request;
	report_request_beliefs(engine, &request);
}

static void
guard_answered(Engine *engine, const ProtoBeliefsHeader *header)
{
	const Mount *m;

	engine->guard_request = 0;
	if (engine->guard_next >= engine->root.guarded.count)
		return;
	m = &engine->root.guarded.mounts[engine->guard_next];
	if (header->count > 0)
	{
		engine->guard_next++;
		return;
	}

	/* Nothing to lose below it: it is part of the tree from now on. */
	if (engine->watches != NULL)
	{
		watch_tree_touch(engine->watches, m->path, m->len);
		engine->resolving = true;
	}
	changes_want_subtree(engine, m->path, m->len);
	root_accept_mount(&engine->root, m->path, m->len);
	engine->guard_next = 0;
	engine->state_changed = true;
}

/* ---- scans ---- */

static void
begin_run(Engine *engine, ScanRun *run, ScanPlace *places, size_t n)
{
	ScanOptions options = {
		.rootfd = engine->root.fd,
		.filter = engine->filter,
		.utf8 = engine->utf8,
		.guarded = &engine->root.guarded,
		.calculate_hashes = engine->config.calculate_hashes,
		.spool_dir = engine->spool_dir,
		.links = engine->links,
		.notify_fd = engine->wake_fd
	};

	run->round = problems_next_round(&engine->problems);
	run->drained = false;
	run->checked = NULL;
	run->bytes_hashed = 0;
	run->removals = 0;
	run->result = PROTO_SCAN_COMPLETE;
	run->message[0] = run->hint[0] = '\0';
	run->scan = scan_start(places, n, &options);
}

static void
refuse_scan(Engine *engine, const ProtoScan *scan, const char *message)
{
	ScanRun		run = {.id = scan->scan_id, .result = PROTO_SCAN_FAILED};

	snprintf(run.message, sizeof(run.message), "%s", message);
	snprintf(run.hint, sizeof(run.hint), "%.255s", engine->hint);
	report_scan_done(engine, &run);
}

/* Starts the scan of everything that is queued, when its time has come. */
static void
start_queued_scan(Engine *engine)
{
	ProtoScan  *scan = &engine->queued_scan;
	ScanPlace  *place;
	RootTrouble trouble;

	if (!engine->scan_queued || engine->building || engine->resolving ||
		engine->full.scan != NULL)
		return;
	engine->scan_queued = false;
	trouble = root_open(&engine->root, false);
	if (trouble != ROOT_OK)
	{
		engine_root_trouble(engine, trouble);
		refuse_scan(engine, scan, engine->reason);
		return;
	}
	place = malloc(sizeof(ScanPlace));
	if (place == NULL || (place->path = strdup("")) == NULL)
	{
		free(place);
		refuse_scan(engine, scan, "out of memory");
		return;
	}
	place->len = 0;
	if (scan->flags & PROTO_SCAN_FORCE)
	{
		look_at_mounts(engine);
		root_accept_mounts(&engine->root);
		engine->state_changed = true;
	}
	engine->full.id = scan->scan_id;
	engine->full.flags = scan->flags;
	engine->full.threshold = scan->mass_delete_threshold;
	engine->full.epoch = EPOCH_NONE;
	engine->heal_scan_runs = engine->healing;
	begin_run(engine, &engine->full, place, 1);
	if (engine->full.scan == NULL)
	{
		engine->full.id = 0;
		refuse_scan(engine, scan, "could not start a thread");
	}
}

void
changes_start_scan(Engine *engine, const ProtoScan *scan)
{
	if (engine->scan_queued)
		refuse_scan(engine, &engine->queued_scan, "another scan took its place");
	engine->queued_scan = *scan;
	engine->scan_queued = true;
}

void
changes_cancel_scan(Engine *engine, int64_t scan_id)
{
	if (engine->scan_queued && engine->queued_scan.scan_id == scan_id)
	{
		engine->scan_queued = false;
		refuse_scan(engine, &engine->queued_scan, "cancelled");
	}
	if (engine->full.scan == NULL || engine->full.id != scan_id)
		return;
	scan_cancel(engine->full.scan);
	engine->full.drained = true;
	engine->full.result = PROTO_SCAN_CANCELLED;
	snprintf(engine->full.message, sizeof(engine->full.message), "cancelled");
	inspect_drop_scan(engine, scan_id);
}

/* Starts the partial scan of places that changed, when they are quiet. */
static void
start_partial_scan(Engine *engine, const PendingRule *rule)
{
	ScanPlace  *places = engine->places;

	if (engine->n_places == 0 || engine->partial.scan != NULL || engine->resolving ||
		engine->building)
		return;
	if (engine->places_epoch > rule->flush_epoch &&
		engine->places_last_us + rule->debounce_us > rule->now_us &&
		engine->places_first_us + rule->debounce_max_us > rule->now_us)
		return;
	if (root_open(&engine->root, false) != ROOT_OK)
		return;					/* the inspection that follows says so */
	engine->partial.id = 0;
	engine->partial.epoch = engine->places_epoch;
	begin_run(engine, &engine->partial, places, engine->n_places);
	engine->places = NULL;
	engine->n_places = engine->places_capacity = 0;
	if (engine->partial.scan == NULL)
		heal(engine, "out of memory");
}

typedef struct Cure
{
	Engine	   *engine;
	Scan	   *scan;
} Cure;

static bool
cure_covers(void *arg, const char *path, size_t len)
{
	return scan_covers(((Cure *) arg)->scan, path, len);
}

static void
cure_report(void *arg, const char *path, size_t len)
{
	report_cured(((Cure *) arg)->engine, path, len, 0);
}

static void
end_run(Engine *engine, ScanRun *run)
{
	Cure		cure = {engine, run->scan};

	if (run->result == PROTO_SCAN_COMPLETE)
	{
		problems_expire(&engine->problems, run->round, cure_covers, cure_report, &cure);
		if (scan_covers(run->scan, "", 0))
			links_searched(engine->links);
	}
	if (run->id != 0)
	{
		if (engine->heal_scan_runs && run->result == PROTO_SCAN_COMPLETE)
		{
			engine_log(engine, 'L', "everything has been compared after events were lost");
			engine->healing = engine->heal_scan_runs = false;
		}
		report_scan_done(engine, run);
	}
	else if (run->result != PROTO_SCAN_COMPLETE)
		heal(engine, run->message);
	scan_free(run->scan);
	if (run->checked)
		candidates_free(run->checked);
	run->checked = NULL;
	run->scan = NULL;
	run->id = 0;
	malloc_trim(0);
}

/*
 * More removals than are allowed: are they really?  Names that the walk only
 * missed, and files that were replaced, are looked at; the candidates are
 * copied, as they can be read once.
 */
static bool
too_many_removals(Engine *engine, ScanRun *run, uint64_t believed)
{
	Candidates *from = scan_candidates(run->scan);
	Candidate	removed;
	Candidate	added;
	uint64_t	absent = 0;
	int			more;

	if (run->id == 0 || (run->flags & PROTO_SCAN_FORCE) ||
		candidates_count(from, CANDIDATE_REMOVED) <= run->threshold * believed)
		return false;
	run->checked = candidates_create(engine->spool_dir, 4 * 1024 * 1024);
	if (run->checked == NULL)
		return true;
	while ((more = candidates_next(from, &removed, &added)) == 1)
	{
		FileInfo	info;

		if (added.path != NULL && candidates_add(run->checked, &added) < 0)
			return true;
		if (removed.path == NULL)
			continue;
		if (added.path == NULL &&
			(beneath_stat(engine->root.fd, removed.path, removed.len, &info) == 0 ?
			 !S_ISREG(info.mode) : errno == ENOENT))
			absent++;
		if (candidates_add(run->checked, &removed) < 0)
			return true;
	}
	run->removals = absent;
	return more < 0 || candidates_match(run->checked) < 0 ||
		absent > run->threshold * believed;
}

/* The thread is done: what it found is to be inspected, or not. */
static void
scan_ended(Engine *engine, ScanRun *run, const ScanStatus *status)
{
	if (status->cancelled)
		run->drained = true;
	else if (status->failed)
	{
		run->drained = true;
		run->result = PROTO_SCAN_FAILED;
		snprintf(run->message, sizeof(run->message), "scan failed: %s",
				 strerror(status->error));
	}
	else if (too_many_removals(engine, run, status->believed))
	{
		run->drained = true;
		run->result = PROTO_SCAN_MASS_DELETE;
		snprintf(run->message, sizeof(run->message),
				 "%llu of %llu files are gone, which is more than fsync.mass_delete_threshold allows",
				 (unsigned long long) run->removals, (unsigned long long) status->believed);
		snprintf(run->hint, sizeof(run->hint),
				 "If they were removed on purpose, call fsync_reconcile(repository_id, force => true).");
	}
}

static void
take_pending(Engine *engine, const PendingRule *rule, size_t max)
{
	PendingName *name;
	char		path[PROTO_PATH_MAX + NAME_MAX + 2];

	while (engine->n_points < max && (name = pending_take(&engine->pending, rule)) != NULL)
	{
		ssize_t		len = 0;

		if (name->node == 0)
			inspect_add(engine, name->name, name->name_len, name->hints,
						name->epoch, name->scan_id, name->retries);
		else if (engine->watches != NULL &&
				 (len = watch_tree_path(engine->watches, name->node, path)) >= 0)
		{
			if (len > 0)
				path[len++] = '/';
			memcpy(path + len, name->name, name->name_len);
			inspect_add(engine, path, len + name->name_len, name->hints,
						name->epoch, name->scan_id, name->retries);
		}
		free(name);				/* its directory is gone: a scan covers it */
	}
}

static void
add_candidate(Engine *engine, const ScanRun *run, const Candidate *c)
{
	if (c->path != NULL)
		inspect_add(engine, c->path, c->len,
					HINT_FOUND | ((run->flags & PROTO_SCAN_STARTUP) && run->id != 0 ?
								  HINT_TRUSTED : 0),
					run->epoch, run->id, 0);
}

/* The next candidates become points; with the last go the pending moves. */
static void
drain(Engine *engine, ScanRun *run, const PendingRule *rule)
{
	Candidates *candidates = run->checked ? run->checked : scan_candidates(run->scan);
	Candidate	removed;
	Candidate	added;
	int			more = 1;

	while (engine->n_points < CHANGES_CANDIDATES &&
		   (more = candidates_next(candidates, &removed, &added)) == 1)
	{
		add_candidate(engine, run, &removed);
		add_candidate(engine, run, &added);
	}
	if (more < 0)
	{
		run->result = PROTO_SCAN_FAILED;
		snprintf(run->message, sizeof(run->message), "scan failed: %s", strerror(errno));
	}
	if (more != 1)
	{
		PendingRule moves = *rule;

		run->drained = true;
		moves.moves = true;
		moves.hold_moves = false;
		take_pending(engine, &moves, CHANGES_CANDIDATES);
	}
	inspect_start(engine);
}

/* Moves a scan on by a step. */
static void
step_run(Engine *engine, ScanRun *run, int64_t *request_id, const PendingRule *rule)
{
	ProtoBeliefsRequest request;
	ScanStatus	status;

	if (run->scan == NULL)
		return;
	if (scan_wants_beliefs(run->scan, &request))
	{
		*request_id = request.request_id = ++engine->last_request;
		report_request_beliefs(engine, &request);
	}
	while (engine->items.count < CHANGES_HASHING && !report_congested(engine))
	{
		Finding    *finding = scan_take_finding(run->scan);

		if (finding == NULL)
			break;
		if (finding->kind == FINDING_ADDED)
			inspect_new_file(engine, finding, run->epoch, run->id);
		else
			report_problem(engine, finding->problem, finding->error,
						   finding->path, finding->len, run->id);
		free(finding);
	}
	scan_status(run->scan, &status);
	if (run->id != 0 && !run->drained)
		engine->progress_due = true;
	if (!status.finished)
		return;
	if (!run->drained && run->checked == NULL)
		scan_ended(engine, run, &status);
	if (!run->drained)
	{
		if (!engine->inspecting && engine->items.count < CHANGES_HASHING &&
			!report_congested(engine))
			drain(engine, run, rule);
	}
	else if (run->id == 0 ? !engine->inspecting :
			 !inspect_has_scan(engine, run->id) && !pending_has_scan(&engine->pending, run->id))
		end_run(engine, run);
}

bool
changes_beliefs(Engine *engine, const ProtoBeliefsHeader *header, ProtoReader body)
{
	int64_t		id = header->request_id;

	if (id == engine->points_request && engine->inspecting)
		return inspect_beliefs(engine, header, body);
	if (id == engine->guard_request)
		guard_answered(engine, header);
	else if (id == engine->partial_request && engine->partial.scan)
		return scan_give_beliefs(engine->partial.scan, header, body);
	else if (id == engine->full_request && engine->full.scan)
		return scan_give_beliefs(engine->full.scan, header, body);
	return true;
}

/* ---- what is to be done now ---- */

static PendingRule
present_rule(Engine *engine)
{
	PendingRule rule = {
		.now_us = engine_now_us(),
		.debounce_us = (int64_t) engine->config.debounce_ms * 1000,
		.debounce_max_us = (int64_t) engine->config.debounce_max_ms * 1000
	};
	int64_t		until;

	for (FlushWait *wait = engine->flushes; wait; wait = wait->next)
		if (wait->epoch > rule.flush_epoch)
			rule.flush_epoch = wait->epoch;
	rule.hold_moves = engine->n_places > 0 || engine->partial.scan != NULL ||
		rename_unpaired(engine, rule.now_us, &until);
	return rule;
}

void
changes_step(Engine *engine)
{
	PendingRule rule = present_rule(engine);

	start_queued_scan(engine);
	start_partial_scan(engine, &rule);
	ask_about_guard(engine);
	step_run(engine, &engine->partial, &engine->partial_request, &rule);
	if (!engine->inspecting && !engine->building && !report_congested(engine))
	{
		take_pending(engine, &rule, CHANGES_NAMES);
		for (size_t i = 0; i < engine->n_points && !rule.hold_moves; i++)
		{
			/* half a rename must not go without the other */
			if (engine->points[i].hints & (HINT_GONE | HINT_ARRIVED))
			{
				rule.moves = true;
				take_pending(engine, &rule, CHANGES_CANDIDATES);
				break;
			}
		}
		inspect_start(engine);
	}
	step_run(engine, &engine->full, &engine->full_request, &rule);
}

/* When changes_step() has something to do, in microseconds; INT64_MAX. */
int64_t
changes_due(Engine *engine)
{
	PendingRule rule = present_rule(engine);
	int64_t		due;
	int64_t		until;

	if (engine->inspecting || engine->building || report_congested(engine))
		return INT64_MAX;		/* something else wakes us */
	due = pending_due(&engine->pending, &rule);
	if (rule.hold_moves && rename_unpaired(engine, rule.now_us, &until) && until > due)
		due = until;
	if (engine->partial.scan != NULL && due <= rule.now_us)
		due = rule.now_us + CHANGES_RENAME_US;	/* held until it has ended */
	if (engine->n_places > 0 && engine->partial.scan == NULL)
	{
		int64_t		quiet = engine->places_last_us + rule.debounce_us;
		int64_t		longest = engine->places_first_us + rule.debounce_max_us;

		if (due <= rule.now_us)
			due = INT64_MAX;
		due = quiet < due ? quiet : due;
		due = longest < due ? longest : due;
	}
	return due;
}

uint64_t
changes_min_epoch(Engine *engine)
{
	uint64_t	min = inspect_min_epoch(engine);
	uint64_t	pending = pending_min_epoch(&engine->pending);

	if (engine->healing || engine->resolving)
		return 0;
	if (pending < min)
		min = pending;
	if (engine->n_places > 0 && engine->places_epoch < min)
		min = engine->places_epoch;
	if (engine->partial.scan != NULL && engine->partial.epoch < min)
		min = engine->partial.epoch;
	return min;
}
