/*-------------------------------------------------------------------------
 *
 * runs.c
 *		Scans, and what is to be inspected now.
 *
 * What changed arrives in three shapes: pending names, places of a partial
 * scan, and a scan of everything that the worker asks for.  Scans yield
 * candidates, and in the end all becomes points, inspected by the same code
 * (inspect.c), one load at a time.
 *
 * A rename out of a renamed directory has one end among the candidates and one
 * among the pending names.  Ends that were noticed apart meet in moves.c.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Points inspected together, and candidates taken together. */
#define RUNS_NAMES			2000
#define RUNS_CANDIDATES		20000

/* Files that may wait for being hashed before more are looked for. */
#define RUNS_HASHING		2000

/* The same of those that are to be read after all others. */
#define RUNS_UNREAD			200000

/* ---- scans ---- */

bool
runs_is_full(const Engine *engine, const ScanRun *run)
{
	return run == &engine->full;
}

/* The user who asked for a part waits; the scan of everything comes again. */
int64_t
runs_who_waits(const Engine *engine, int64_t a, int64_t b)
{
	return a == 0 || (b != 0 && b == engine->asked.id) ? b : a;
}

/*
 * Begins to scan the places, which the scan takes over.  False when out of memory
 * or threads: then they are still there, and scan_due_us says when to try again.
 */
bool
runs_begin(Engine *engine, ScanRun *run, ScanPlace *places, size_t *n)
{
	ScanOptions options = {
		.rootfd = engine->root.fd,
		.filter = engine->filter,
		.utf8 = engine->utf8,
		.guarded = &engine->root.guarded,
		.mounts = &engine->root.now,
		.calculate_hashes = engine->config.calculate_hashes,
		.doubt_since_ns = changes_doubt_since(engine),
		.distrust = engine->root.replaced && engine->config.calculate_hashes,
		.spools = &engine->spools,
		.links = engine->links,
		.folding = *spelling_devices(engine->spelling),
		.throttle = runs_is_full(engine, run) ? &engine->throttle : NULL,
		.shortage = &engine->shortage,
		.notify_fd = engine->wake_fd
	};

	run->round = problems_next_round(&engine->problems);
	run->drained = run->put_off = run->winding_up = false;
	run->checked = NULL;
	run->request = 0;			/* an answer may still come to the scan before */
	run->bytes_hashed = 0;
	run->removals = 0;
	run->result = PROTO_SCAN_COMPLETE;
	run->error = 0;
	run->message[0] = run->hint[0] = '\0';
	run->news = engine->places_news;
	run->departures = engine->departures;
	run->times_blind = engine->times_blind;
	run->links_round = 0;
	for (size_t i = 0; i < *n; i++)
		if (places[i].len == 0)
			run->links_round = links_search(engine->links);
	if (options.doubt_since_ns != INT64_MAX)
		hash_pool_doubt(engine->pool, NULL);
	hash_pool_share_all(engine->pool, engine->n_mounted_files > 0 ||
						(engine->watches != NULL &&
						 watch_tree_status(engine->watches)->aliases > 0));
	run->scan = scan_start(places, n, &options);
	if (run->scan == NULL)
		engine->scan_due_us = shortage_note(&engine->shortage, errno);
	return run->scan != NULL;
}

/* The run is over; what it took goes back to the system. */
void
runs_forget(ScanRun *run)
{
	scan_free(run->scan);
	if (run->checked)
		candidates_free(run->checked);
	run->checked = NULL;
	run->scan = NULL;
	run->id = 0;
	malloc_trim(0);
}

/* Whether somebody waits for what may be found where directories have changed. */
static bool
places_wanted(const Engine *engine, const PendingRule *rule)
{
	return engine->n_places > 0 && engine->partial.scan == NULL &&
		heard_wanted(engine, engine->places_news, rule->flush_epoch);
}

/* Starts the partial scan of places that changed, when they are quiet. */
static void
start_partial_scan(Engine *engine, const PendingRule *rule)
{
	RootTrouble trouble;

	if (engine->n_places == 0 || engine->partial.scan != NULL || engine->resolving ||
		engine->building || engine->scan_due_us > rule->now_us)
		return;
	if (engine->places_epoch > rule->flush_epoch && !places_wanted(engine, rule) &&
		engine->places_last_us + rule->debounce_us > rule->now_us &&
		engine->places_first_us + rule->debounce_max_us > rule->now_us)
		return;
	trouble = root_open(&engine->root, false);
	if (trouble != ROOT_OK || !changes_spare_place(engine))
	{
		if (trouble == ROOT_OK || trouble == ROOT_STARVED)
			engine->scan_due_us = shortage_note(&engine->shortage, trouble == ROOT_OK ? ENOMEM : errno);
		else
			engine_root_trouble(engine, trouble);
		return;
	}
	engine->partial.id = 0;
	engine->partial.epoch = engine->places_epoch;
	engine->partial.since_us = engine->places_first_us;
	engine->places_sorted = true;
	if (!runs_begin(engine, &engine->partial, engine->places, &engine->n_places))
		return;
	engine->places = NULL;
	engine->n_places = engine->places_capacity = 0;
}

/*
 * More removals than are allowed: are they really?  Names that the walk only
 * missed, and files that were replaced, are looked at; what the filter refuses
 * is not gone, but unwanted.  The candidates are copied, as they can be read
 * once.
 */
static bool
too_many_removals(Engine *engine, ScanRun *run, uint64_t believed)
{
	Candidates *from = scan_candidates(run->scan);
	Candidate	removed;
	Candidate	added;
	uint64_t	absent = 0;
	int			more;

	if (!runs_is_full(engine, run) || (run->flags & PROTO_SCAN_FORCE) ||
		candidates_count(from, CANDIDATE_REMOVED) <= run->threshold * believed)
		return false;
	run->checked = candidates_create(&engine->spools, 4 * 1024 * 1024);
	if (run->checked == NULL)
		return true;
	inspect_forget_rules(engine);
	while ((more = candidates_next(from, &removed, &added)) == 1)
	{
		FileInfo	info;

		if (added.path != NULL && candidates_add(run->checked, &added) < 0)
			return true;
		if (removed.path == NULL)
			continue;
		if (added.path == NULL &&
			inspect_verdict(engine, removed.path, removed.len) != FILTER_REFUSED &&
			(inspect_stat(engine, removed.path, removed.len, &info) == 0 ?
			 !S_ISREG(info.mode) : errno == ENOENT))
			absent++;
		if (candidates_add(run->checked, &removed) < 0)
			return true;
	}
	spelling_forget(engine->spelling);
	run->removals = absent;
	return more < 0 || candidates_match(run->checked) < 0 ||
		absent > run->threshold * believed;
}

static void
fail_run(ScanRun *run, int error)
{
	run->result = PROTO_SCAN_FAILED;
	run->error = error;
	snprintf(run->message, sizeof(run->message), "scan failed: %s", strerror(error));

	/* Nothing is written but what does not fit into memory. */
	if (error == ENOSPC || error == EDQUOT)
		snprintf(run->hint, sizeof(run->hint),
				 "Free space in the server's data directory, where base/pgsql_tmp has the scan's temporary files.");
	else if (error == ENOMEM)
		snprintf(run->hint, sizeof(run->hint), "%.255s", shortage_hint(error));
}

/* The thread is done: what it found is to be inspected, or not. */
static void
scan_ended(Engine *engine, ScanRun *run, const ScanStatus *status)
{
	/* What it missed, as it was renamed meanwhile, is known from here. */
	if (!runs_is_full(engine, run) && engine->reader != NULL)
	{
		events_drain(engine->reader);
		changes_process_events(engine);
	}
	if (!status->cancelled && !status->failed && !status->direct && run->links_round != 0)
		links_searched(engine->links, run->links_round);
	if (status->cancelled)
		run->drained = true;
	else if (status->failed)
	{
		run->drained = true;
		fail_run(run, status->error);
	}
	else if (too_many_removals(engine, run, status->believed))
	{
		/* What was renamed meanwhile may not be read yet. */
		if (engine->reader != NULL)
		{
			events_drain(engine->reader);
			changes_process_events(engine);
		}
		if (runs_restart(engine, run))
			return;
		run->drained = true;
		if (engine->departures != run->departures)
		{
			run->result = PROTO_SCAN_FAILED;
			snprintf(run->message, sizeof(run->message),
					 "too much was renamed or removed while the directory was scanned");
			return;
		}
		run->result = PROTO_SCAN_MASS_DELETE;
		snprintf(run->message, sizeof(run->message),
				 "%llu of %llu files are gone, which is more than fsync.mass_delete_threshold allows",
				 (unsigned long long) run->removals, (unsigned long long) status->believed);
		snprintf(run->hint, sizeof(run->hint),
				 "If they were removed on purpose, call fsync_reconcile(repository_id, force => true).");
	}
}

static bool
take_name(void *arg, const PendingName *name)
{
	Engine	   *engine = arg;
	bool		gone;
	Point	   *p = inspect_add_name(engine, name->node, name->name, name->name_len,
									 name->hints, name->epoch, name->scan_id, &gone);

	if (gone && !engine->resolving)
	{
		/* a scan of where its directory was covers it */
		if (name->hints & HINT_MOVES)
			heard_leave_to_places(engine, name->news);
		return true;
	}
	if (p == NULL)
		return false;
	p->scan_id = asked_owner(engine, name->scan_id, p->path, p->len, name->since_us);
	p->retries = name->retries;
	p->since_us = name->since_us;
	p->put_off_us = name->put_off_us;
	p->put_offs = name->put_offs;
	p->low = name->low;
	p->news = name->news;
	heard_take_name(engine, name->node, name->name, name->name_len);
	return true;
}

static void
take_pending(Engine *engine, const PendingRule *rule, size_t max)
{
	if (engine->n_points < max)
		pending_collect(&engine->pending, rule, max - engine->n_points, take_name, engine);
}

/* False when out of memory. */
static bool
add_candidate(Engine *engine, const ScanRun *run, const Candidate *c)
{
	Point	   *p;

	if (c->path == NULL)
		return true;
	p = inspect_add(engine, c->path, c->len, HINT_FOUND, run->epoch, run->id != 0 ? run->id :
					asked_owner(engine, 0, c->path, c->len, 0));
	if (p == NULL)
		return false;
	p->since_us = run->since_us;
	if (c->kind != CANDIDATE_REMOVED)
	{
		p->seen[HALF_CAME] = true;
		p->files[HALF_CAME] = (HalfFile) {c->inode, c->btime_ns, c->size, c->mtime_ns};
	}
	heard_take_name(engine, 0, c->path, c->len);
	return true;
}

/* The next candidates become points; with the last go the pending moves. */
static void
drain(Engine *engine, ScanRun *run, const PendingRule *rule)
{
	Candidates *candidates = run->checked ? run->checked : scan_candidates(run->scan);
	Candidate	removed;
	Candidate	added;
	int			more = 1;

	while (engine->n_points < RUNS_CANDIDATES &&
		   (more = candidates_next(candidates, &removed, &added)) == 1)
	{
		engine->done++;
		engine->done_for_scan += runs_is_full(engine, run);
		if (!add_candidate(engine, run, &removed) || !add_candidate(engine, run, &added))
		{
			errno = ENOMEM;
			more = -1;
			break;
		}
		if (removed.path == NULL)
			heard_take_other_end(engine, &added);
		else if (added.path == NULL)
			heard_take_other_end(engine, &removed);
	}
	if (more < 0)
		fail_run(run, errno);
	if (more != 1)
	{
		PendingRule moves = *rule;

		run->drained = true;
		moves.moves = true;
		moves.hold_moves = false;
		take_pending(engine, &moves, RUNS_CANDIDATES);
	}
	inspect_start(engine);
}

/*
 * Whether the run may take up more now.  Files of a scan that wait for being
 * hashed are no reason for changes to wait, and the throttle is for the scan.
 */
static bool
may_go_on(Engine *engine, ScanRun *run)
{
	size_t		hashing = engine->items.count - engine->low_items -
		(runs_is_full(engine, run) ? 0 : engine->scan_items);

	if (engine->inspecting || hashing >= RUNS_HASHING || report_congested(engine) ||
		unread_count(engine) >= RUNS_UNREAD)
		return false;
	run->put_off = runs_is_full(engine, run) && !run->drained && throttle_delay_ns(&engine->throttle) > 0;
	return !run->put_off;
}

/* Moves a scan on by a step. */
static void
step_run(Engine *engine, ScanRun *run, const PendingRule *rule)
{
	ProtoBeliefsRequest request;
	ScanStatus	status;
	LastDirectory last;

	if (run->scan == NULL)
		return;
	if (scan_wants_beliefs(run->scan, &request))
	{
		run->request = request.request_id = ++engine->last_request;
		report_request_beliefs(engine, &request);
	}
	run->put_off = false;
	beneath_begin(&last);
	while (may_go_on(engine, run))
	{
		Finding    *finding = scan_take_finding(run->scan);

		if (finding == NULL)
			break;
		engine->done++;
		engine->done_for_scan += runs_is_full(engine, run);
		if (run->result == PROTO_SCAN_CANCELLED)
			;					/* nobody wants it */
		else if (finding->kind == FINDING_ADDED)
			hashing_new_file(engine, finding, run->epoch, run->id, &last);
		else
		{
			/* closed for a moment only: what is there is still to be compared */
			if (finding->kind == FINDING_PROBLEM &&
				finding->problem == PROTO_PROBLEM_PERMISSION &&
				!problems_has(&engine->problems, finding->path, finding->len) &&
				!changes_closed(engine, finding->path, finding->len))
				changes_want_subtree(engine, finding->path, finding->len, run->epoch);
			report_problem(engine, finding->problem, finding->error,
						   finding->path, finding->len, run->id);
		}
		free(finding);
	}
	beneath_end(&last);
	scan_status(run->scan, &status);
	if (run->id != 0)
		engine->progress_due = true;	/* also while a large file is hashed */
	if (!status.finished)
		return;
	run->winding_up = status.direct;
	if (!run->drained && run->checked == NULL)
		scan_ended(engine, run, &status);
	if (run->scan == NULL)
		return;					/* it begins anew */

	/* what was reported should be under way, to be worked on meanwhile */
	if (!run->drained && proto_buf_pending(&engine->out) == 0 && may_go_on(engine, run))
		drain(engine, run, rule);

	/* at once, if there was nothing to drain: no one would wake us for it */
	if (!run->drained)
		return;
	if (run->id == 0 ? !engine->inspecting && !engine->resolving :
			 !inspect_has_scan(engine, run->id) && !hashing_has_scan(engine, run->id) &&
			 !pending_has_scan(&engine->pending, run->id) &&
			 !halves_has_scan(&engine->halves, run->id))
		runs_end(engine, run);
}

static bool
take_beliefs(Engine *engine, const ProtoBeliefsHeader *header, ProtoReader body)
{
	int64_t		id = header->request_id;

	if (id == engine->points_request && engine->inspecting)
		return inspect_beliefs(engine, header, body);
	if (id == engine->guard_request)
		changes_guard_answered(engine, header);
	else if (id == engine->partial.request && engine->partial.scan)
		return scan_give_beliefs(engine->partial.scan, header, body);
	else if (id == engine->asked.request && engine->asked.scan)
		return scan_give_beliefs(engine->asked.scan, header, body);
	else if (id == engine->full.request && engine->full.scan)
		return scan_give_beliefs(engine->full.scan, header, body);
	return true;
}

/* The full scan pays for the beliefs about what it found. */
bool
runs_beliefs(Engine *engine, const ProtoBeliefsHeader *header, ProtoReader body)
{
	size_t		of_scan = 0;
	size_t		all = 1;

	if (header->request_id == engine->full.request)
		of_scan = all = header->count + 1;
	else if (header->request_id == engine->points_request &&
			 throttle_clock(&engine->throttle) >= 0)
	{
		all = engine->n_points;
		for (size_t i = 0; i < all; i++)
			of_scan += engine->points[i].scan_id != 0 &&
				engine->points[i].scan_id == engine->full.id;
	}
	engine->done += all;
	engine->done_for_scan += of_scan;
	if (of_scan > 0)
		throttle_charge(&engine->throttle, header->cpu_us * 1000.0 * of_scan / all);
	return take_beliefs(engine, header, body);
}

/* As hashing_renew(): what nobody waited for so far is done before the flush. */
void
runs_renew(Engine *engine, uint64_t epoch)
{
	if (engine->n_places > 0 && engine->places_epoch == EPOCH_NONE)
		engine->places_epoch = epoch;
	if (engine->partial.scan != NULL && engine->partial.epoch == EPOCH_NONE)
		engine->partial.epoch = epoch;
}

/* ---- what is to be done now ---- */

/* A scan that makes up for lost events may hold halves of renames. */
bool
runs_heal_undrained(const Engine *engine)
{
	return engine->heal_scan_runs && engine->full.scan != NULL && !engine->full.drained;
}

static PendingRule
present_rule(Engine *engine)
{
	PendingRule rule = {
		.now_us = monotonic_us(),
		.debounce_us = (int64_t) engine->config.debounce_ms * 1000,
		.debounce_max_us = (int64_t) engine->config.debounce_max_ms * 1000
	};

	for (FlushWait *wait = engine->flushes; wait; wait = wait->next)
		if (wait->epoch > rule.flush_epoch)
			rule.flush_epoch = wait->epoch;
	rule.hold_moves = engine->resolving || runs_heal_undrained(engine);
	rule.moves = engine->halves.waiting.first != NULL;
	rule.low = unread_room(engine);
	return rule;
}

void
runs_step(Engine *engine)
{
	PendingRule rule = present_rule(engine);

	/* Changes and barriers wait for a scan that makes up for lost events. */
	throttle_set(&engine->throttle, engine->healing ? 0 : engine->config.scan_cpu_ppm,
				 engine->healing ? PROTO_IO_NONE : engine->config.io_priority);
	if (engine->pending.lost)
	{
		changes_heal(engine, "there was no memory for names that changed");
		if (engine->exit_status >= 0)
			return;
	}
	runs_start_queued(engine);
	start_partial_scan(engine, &rule);
	changes_ask_about_guard(engine);
	step_run(engine, &engine->partial, &rule);
	asked_start(engine);
	step_run(engine, &engine->asked, &rule);
	if (!engine->inspecting && !engine->building && !report_congested(engine))
	{
		take_pending(engine, &rule, rule.moves ? RUNS_CANDIDATES : RUNS_NAMES);
		for (size_t i = 0; i < engine->n_points && !rule.hold_moves; i++)
		{
			/* one end of a rename goes best with the other */
			if (engine->points[i].hints & (HINT_GONE | HINT_ARRIVED))
			{
				rule.moves = true;
				take_pending(engine, &rule, RUNS_CANDIDATES);
				break;
			}
		}
		heard_take(engine, RUNS_CANDIDATES);
		inspect_start(engine);
	}
	step_run(engine, &engine->full, &rule);
}

/* When runs_step() has something to do, in microseconds; INT64_MAX. */
int64_t
runs_due(Engine *engine)
{
	PendingRule rule = present_rule(engine);
	int64_t		due;

	if (engine->inspecting || engine->building || report_congested(engine))
		return INT64_MAX;		/* something else wakes us */
	due = pending_due(&engine->pending, &rule);
	if (heard_retry_due(engine) < due)
		due = heard_retry_due(engine);
	if (engine->full.scan != NULL && engine->full.put_off)
	{
		int64_t		enough = rule.now_us + throttle_delay_ns(&engine->throttle) / 1000 + 1;

		due = enough < due ? enough : due;
	}
	if (heard_ready(engine) ||
		(places_wanted(engine, &rule) && engine->scan_due_us <= rule.now_us) ||
		(rule.moves && !rule.hold_moves && engine->pending.starved == 0 &&
		 pending_min_news(&engine->pending) != NEWS_NONE))
		return rule.now_us;
	if (engine->n_places > 0 && engine->partial.scan == NULL)
	{
		int64_t		quiet = engine->places_last_us + rule.debounce_us;
		int64_t		longest = engine->places_first_us + rule.debounce_max_us;

		quiet = longest < quiet ? longest : quiet;
		quiet = engine->scan_due_us > quiet ? engine->scan_due_us : quiet;
		due = quiet < due ? quiet : due;
	}
	if ((engine->scan_queued || (engine->asked_place != NULL && engine->asked.scan == NULL)) &&
		engine->scan_due_us > rule.now_us && engine->scan_due_us < due)
		due = engine->scan_due_us;
	return due;
}

uint64_t
runs_min_epoch(Engine *engine)
{
	uint64_t	min = inspect_min_epoch(engine);
	uint64_t	hashing = hashing_min_epoch(engine);
	uint64_t	pending = pending_min_epoch(&engine->pending);
	uint64_t	halves = halves_min_epoch(&engine->halves);

	if (engine->healing || engine->resolving || engine->pending.lost || engine->mounts_error != 0)
		return 0;
	if (pending < min)
		min = pending;
	if (halves < min)
		min = halves;
	if (hashing < min)
		min = hashing;
	if (engine->n_places > 0 && engine->places_epoch < min)
		min = engine->places_epoch;
	if (engine->partial.scan != NULL && engine->partial.epoch < min)
		min = engine->partial.epoch;
	if (engine->asked_place != NULL && engine->asked.epoch < min)
		min = engine->asked.epoch;
	return min;
}
