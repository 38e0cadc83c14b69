/*-------------------------------------------------------------------------
 *
 * changes.c
 *		From events to names and places that changed.
 *
 * Names wait in the pending table for their debounce.  Directories that came,
 * went or moved become places of a partial scan, which finds out what is
 * different below them; so do mounts that appeared or vanished.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "grow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

/* So many directories changed that a scan of everything is simpler. */
#define CHANGES_PLACES		20000

/* Between two attempts to have what cannot be watched watched. */
#define CHANGES_RETRY_US	30000000

/* Watches that are asked for at least. */
#define WATCHES_STEP		64

/* One look at the disk for touched directories, between other work. */
#define CHANGES_RESOLVE_US	50000

/*
 * Where events were lost, whether a file was closed is in doubt if it changed
 * in the hour before: a mapping lasts, but not every file is to be read again.
 */
#define CHANGES_DOUBT_NS	(INT64_C(3600) * 1000000000)

/* ---- events ---- */

/* All is to be scanned: the first place, or the spare one, becomes the root. */
static void
want_everything(Engine *engine, bool local)
{
	for (size_t i = 0; i < engine->n_places; i++)
		local &= engine->places[i].local;
	if (engine->n_places == 0)
	{
		free(engine->places);
		engine->places = engine->spare_place;
		engine->places_capacity = engine->n_places = 1;
		engine->spare_place = NULL;
	}
	while (engine->n_places > 1)
		free(engine->places[--engine->n_places].path);
	engine->places[0].path[0] = '\0';
	engine->places[0].len = 0;
	engine->places[0].local = local;
}

/* One place more; false when out of memory. */
static bool
add_place(Engine *engine, const char *path, size_t len, bool local)
{
	ScanPlace  *place = grow(engine->places, &engine->places_capacity, engine->n_places + 1,
							 sizeof(ScanPlace));

	if (place == NULL)
		return false;
	engine->places = place;
	place += engine->n_places;
	place->path = strndup(path, len);
	place->len = len;
	place->local = local;
	engine->n_places += place->path != NULL;
	return place->path != NULL;
}

static void
want_place(Engine *engine, const char *path, size_t len, bool local, uint64_t epoch)
{
	bool		first = engine->n_places == 0;
	int64_t		now = monotonic_us();

	if (engine->n_places >= CHANGES_PLACES || !add_place(engine, path, len, local))
		want_everything(engine, local);
	engine->places_sorted = false;
	if (first)
	{
		engine->places_first_us = now;
		engine->places_epoch = EPOCH_NONE;
		engine->places_news = NEWS_NONE;
	}
	if (epoch < engine->places_epoch)
		engine->places_epoch = epoch;
	if (engine->pending.news < engine->places_news)
		engine->places_news = engine->pending.news;
	engine->places_last_us = now;
}

void
changes_want_subtree(Engine *engine, const char *path, size_t len, uint64_t epoch)
{
	want_place(engine, path, len, false, epoch);
}

void
changes_want_local_subtree(Engine *engine, const char *path, size_t len, uint64_t epoch)
{
	want_place(engine, path, len, true, epoch);
}

/*
 * Sees to it that a place can be noted without memory when these are gone; false
 * if there is none for that now.
 */
bool
changes_spare_place(Engine *engine)
{
	ScanPlace  *spare;

	if (engine->spare_place != NULL)
		return true;
	spare = calloc(1, sizeof(ScanPlace));
	if (spare == NULL || (spare->path = strdup("")) == NULL)
	{
		free(spare);
		return false;
	}
	engine->spare_place = spare;
	return true;
}

static void
on_subtree(void *arg, const char *path, size_t len)
{
	Engine	   *engine = arg;

	engine->departures++;

	/* While the watches are put up a scan of everything is due anyway. */
	if (engine->building)
		return;
	changes_want_subtree(engine, path, len, engine->resolve_epoch);
	if (engine->resolve_news < engine->places_news)
		engine->places_news = engine->resolve_news;

	/* A scan that runs may have looked for it where it is not any more. */
	if (engine->partial.scan != NULL && scan_concerns(engine->partial.scan, path, len))
		heard_leave_to_places(engine, engine->partial.news);
}

/*
 * Directories are to be looked at.  What is found there is news of the time
 * when that began, whatever flushes have come meanwhile.
 */
void
changes_must_resolve(Engine *engine)
{
	if (!engine->resolving)
	{
		engine->resolve_epoch = engine->epoch;
		if (engine->watches == NULL || !watch_tree_left(engine->watches))
			engine->resolve_news = engine->pending.news;
	}
	engine->resolving = true;
}

/*
 * The hints of the name that this one was renamed from.  If that was not looked
 * at yet, who waits for it waits for this one: the file that it spoke of is
 * here, if it has not moved on.
 */
static unsigned
pair_rename(Engine *engine, uint32_t cookie, uint64_t *news)
{
	for (int i = 0; i < 64; i++)
		if (engine->renames[i].cookie == cookie)
		{
			engine->renames[i].cookie = 0;
			*news = engine->renames[i].news;
			return (engine->renames[i].hints & (HINT_CONTENT | HINT_CLOSED)) |
				(engine->renames[i].hints & HINT_UNREAD ? HINT_CONTENT : 0);
		}

	/* From outside, or from a name that is ignored: it may have been written
	 * there. */
	return HINT_CONTENT;
}

/* A name is renamed away: what is known of it goes with the event's cookie. */
static void
note_departure(Engine *engine, uint32_t cookie, const PendingName *p)
{
	unsigned	i = engine->next_rename++ % 64;
	const Half *half = halves_of_name(&engine->halves, p->node, p->name, p->name_len);

	engine->renames[i].cookie = cookie;
	engine->renames[i].news = p->news;
	engine->renames[i].hints = p->hints | (half ? half->hints : 0) |
		inspect_hints(engine, p->node, p->name, p->name_len, &engine->renames[i].news) |
		hashing_hints(engine, p->node, p->name, p->name_len);
}

static void
on_name(void *arg, uint64_t node, const char *name, size_t len, uint32_t mask,
		uint32_t cookie)
{
	Engine	   *engine = arg;
	int64_t		now = monotonic_us();
	unsigned	hints = 0;
	uint64_t	news = NEWS_NONE;
	PendingName *waiting;

	if (mask & IN_MODIFY)
		hints |= HINT_CONTENT;
	if (mask & IN_CLOSE_WRITE)
		hints |= HINT_CLOSED;
	if (mask & IN_ATTRIB)
		hints |= HINT_META;
	if (mask & IN_DELETE)
		hints |= HINT_DELETED;
	if (mask & IN_MOVED_FROM)
		hints |= HINT_GONE;
	engine->departures += (mask & (IN_MOVED_FROM | IN_DELETE)) != 0;
	if (mask & IN_MOVED_TO)
		hints |= HINT_ARRIVED | pair_rename(engine, cookie, &news);
	waiting = pending_note(&engine->pending, node, name, len, hints, now, engine->epoch);
	if (waiting == NULL)
		engine->batch.lost = true;
	else if (news < waiting->news)
		waiting->news = news;
	if (waiting != NULL && (mask & IN_MOVED_FROM))
		note_departure(engine, cookie, waiting);
}

/* A name that is ignored counts where files have several names. */
static void
on_ignored(void *arg, uint64_t node, const char *name, size_t len, uint32_t mask)
{
	Engine	   *engine = arg;

	if (links_any(engine->links))
		on_name(arg, node, name, len, mask, 0);
}

static bool
is_polled(void *arg, dev_t dev, ino_t ino)
{
	return noisy_is_polled(arg, dev, ino);
}

/* Whether a place that is still to be scanned lies at or above the path. */
bool
changes_covers(Engine *engine, const char *path, size_t len)
{
	if (engine->n_places > 0 && !engine->places_sorted)
	{
		engine->n_places = scan_reduce_places(engine->places, engine->n_places);
		engine->places_sorted = true;
	}
	return scan_place_covers(engine->places, engine->n_places, path, len) ||
		(engine->partial.scan != NULL && !engine->partial.drained &&
		 scan_covers(engine->partial.scan, path, len));
}

/*
 * Something at or below path could not be reached or read for lack of rights.
 * False if nothing on the way there is closed by now; else the opening is a
 * change, of which an event will tell.
 */
bool
changes_closed(Engine *engine, const char *path, size_t len)
{
	RootTrouble trouble = engine->watches == NULL ? ROOT_OK : root_open(&engine->root, false);

	if (engine->watches == NULL || trouble == ROOT_STARVED)
		return engine->watches == NULL;
	return trouble != ROOT_OK ||
		watch_tree_closed(engine->watches, engine->root.fd, path, len);
}

/* ---- watching ---- */

/*
 * The watches of all fsync-trees of the server together are bounded, so they are
 * handed out by the worker, little by little.
 */
void
changes_want_watches(Engine *engine)
{
	const WatchTreeStatus *status;
	int64_t		more = WATCHES_STEP;

	if (engine->watches == NULL || engine->resolving || engine->watches_wanted != 0 ||
		engine->watches_refused)
		return;
	status = watch_tree_status(engine->watches);
	if (status->unwatched == 0 || (int64_t) status->watched < engine->watches_granted)
		return;
	if (more < (int64_t) status->watched / 8)
		more = (int64_t) status->watched / 8;
	if (more < 2 * (int64_t) status->unwatched)
		more = 2 * (int64_t) status->unwatched;
	engine->watches_wanted = (int64_t) status->watched + more;
	report_end_frame(engine);
	proto_begin(&engine->out, PROTO_WATCHES_WANTED);
	proto_put_i64(&engine->out, engine->watches_wanted);
	proto_end(&engine->out);
}

void
changes_watches_granted(Engine *engine, int64_t granted)
{
	engine->watches_refused = granted < engine->watches_wanted;
	engine->watches_wanted = 0;
	if (engine->watches != NULL && granted > engine->watches_granted)
		watch_tree_retry(engine->watches, (uint64_t) granted);
	engine->watches_granted = granted;
	changes_must_resolve(engine);
}

/*
 * Puts a watch on the root; the others follow in changes_resolve().  False
 * when there is no inotify instance or watch to be had: then the tree is only
 * looked at by barriers and reconciled, and this is due again at retry_us.
 */
bool
changes_start_watching(Engine *engine)
{
	WatchCallbacks callbacks = {engine, on_subtree, on_name, on_ignored, is_polled};

	engine->building = true;
	engine->reader = events_start(engine->wake_fd);
	if (engine->reader != NULL)
		engine->watches = watch_tree_create(events_fd(engine->reader), engine->filter,
											engine->utf8, (uint64_t) engine->watches_granted,
											&callbacks);
	if (engine->watches == NULL ||
		watch_tree_start(engine->watches, engine->root.fd) < 0)
	{
		engine->watch_error = errno;
		changes_stop_watching(engine);
		engine->building = false;

		/* EMFILE may also mean that there are too many instances */
		if (engine->watch_error == SHORTAGE_OF_THREADS || engine->watch_error == ENOMEM ||
			shortage_confirmed(engine->watch_error))
			engine->retry_us = shortage_note(&engine->shortage, engine->watch_error);
		else
			engine->retry_us = monotonic_us() + CHANGES_RETRY_US;
		return false;
	}
	mounted_files_watch(engine);
	changes_must_resolve(engine);
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
	mounted_files_forget(engine);
	engine->batches_taken++;
	engine->resolving = false;
	hashing_forget_nodes(engine);
	pending_clear(&engine->pending);
	halves_clear(&engine->halves);
	for (size_t i = 0; i < engine->n_places; i++)
		free(engine->places[i].path);
	engine->n_places = 0;
	engine->resolve_due_us = 0;
	memset(engine->renames, 0, sizeof(engine->renames));
}

static bool
is_watched(const Engine *engine)
{
	const WatchTreeStatus *status;

	if (engine->reader == NULL || engine->watches == NULL || engine->root.polled)
		return false;
	status = watch_tree_status(engine->watches);
	return status->unwatched == 0;
}

bool
changes_sees_all(const Engine *engine)
{
	return is_watched(engine) && !engine->building && !engine->resolving &&
		engine->root.mounts_known && !noisy_any_polled(engine);
}

static void
go_blind(Engine *engine, int64_t since_ns)
{
	if (since_ns < engine->blind_since_ns)
		engine->blind_since_ns = since_ns;
	engine->times_blind++;
	engine->compared = false;
}

void
changes_note_blindness(Engine *engine)
{
	if (!is_watched(engine))
		go_blind(engine, INT64_MIN);
}

int64_t
changes_doubt_since(const Engine *engine)
{
	return is_watched(engine) ? engine->blind_since_ns : INT64_MIN;
}

void
changes_scanned(Engine *engine, uint64_t times_blind)
{
	if (is_watched(engine) && times_blind == engine->times_blind)
	{
		engine->blind_since_ns = INT64_MAX;
		engine->compared = true;
	}
}

bool
changes_saw_all(const Engine *engine)
{
	return is_watched(engine) && engine->compared;
}

/* Begins anew: new watches first, then a scan of everything. */
void
changes_heal(Engine *engine, const char *reason)
{
	RootTrouble trouble;

	if (!engine->healing)
		engine_log(engine, 'L', "%s: watching anew, then comparing everything", reason);
	engine->healing = true;
	engine->heal_scan_runs = false;
	go_blind(engine, clock_ns(CLOCK_REALTIME) - CHANGES_DOUBT_NS);
	changes_stop_watching(engine);

	/* While nothing was to be done nothing was kept open. */
	trouble = root_open(&engine->root, false);
	if (trouble == ROOT_STARVED)
		engine->retry_us = shortage_note(&engine->shortage, errno);
	else if (trouble == ROOT_OK)
		changes_start_watching(engine);
	else
	{
		engine_root_trouble(engine, trouble);
		return;
	}
	changes_ask_for_scan(engine, reason);
}

/* The worker is to have everything compared. */
void
changes_ask_for_scan(Engine *engine, const char *reason)
{
	report_end_frame(engine);
	proto_begin(&engine->out, PROTO_SCAN_WANTED);
	proto_put_str(&engine->out, reason, strlen(reason));
	proto_end(&engine->out);
}

/* Takes note of what was read; false if that is nothing. */
bool
changes_process_events(Engine *engine)
{
	if (engine->reader == NULL || !events_take(engine->reader, &engine->batch))
		return false;
	engine->batches_taken++;
	engine->last_event_us = clock_us(CLOCK_REALTIME);
	engine->progress_due = true;
	for (size_t i = 0; i < engine->batch.count && !engine->batch.lost; i++)
	{
		const Event *e = &engine->batch.events[i];

		if (e->name_len == 0)
			mounted_files_event(engine, e);
		if (watch_tree_event(engine->watches, e, engine->batch.names + e->name))
			changes_must_resolve(engine);
	}
	engine->statistics.counted.events += engine->batch.count;
	engine->statistics.changed = true;
	if (engine->batch.lost)
	{
		engine->statistics.counted.overflows++;
		noisy_overflow(engine);
		changes_heal(engine, "events were lost (the inotify queue overflowed)");
	}
	events_batch_free(&engine->batch);
	return true;
}

/*
 * What is no longer at a name that was touched has moved on, which was queued
 * before we looked.  Who waits for the one waits for the other.
 */
static void
hear_of_missed(Engine *engine)
{
	uint64_t	news = engine->pending.news;

	if (engine->reader == NULL || !watch_tree_missed(engine->watches))
		return;
	events_drain(engine->reader);
	engine->pending.news = engine->resolve_news;
	changes_process_events(engine);
	engine->pending.news = news;
}

/* Looks at touched directories; true when nothing is left. */
bool
changes_resolve(Engine *engine)
{
	const WatchTreeStatus *status;
	RootTrouble trouble;

	if (engine->watches == NULL || !engine->resolving)
		return true;
	if (engine->resolve_due_us > monotonic_us())
		return false;
	engine->resolve_due_us = 0;
	trouble = root_open(&engine->root, false);
	if (trouble == ROOT_OK && watch_tree_root_changed(engine->watches))
		trouble = root_verify(&engine->root);
	if (trouble == ROOT_STARVED)
	{
		watch_tree_set_root_changed(engine->watches);
		engine->resolve_due_us = shortage_note(&engine->shortage, errno);
		return false;
	}
	if (trouble != ROOT_OK)
	{
		engine_root_trouble(engine, trouble);
		return true;
	}
	if (!watch_tree_root_watched(engine->watches))
	{
		/*
		 * It went and is back already, unmounted and mounted again.  Neither
		 * the watches nor what Landlock allows refer to it any more.
		 */
		if (engine->exit_status < 0)
			engine->exit_status = PROTO_EXIT_RESTART;
		return true;
	}
	engine->resolving = !watch_tree_resolve(engine->watches, engine->root.fd,
											CHANGES_RESOLVE_US);
	status = watch_tree_status(engine->watches);
	if (status->lacking != 0)
		engine->resolve_due_us = shortage_note(&engine->shortage, status->lacking);
	if (status->rebuild)
		changes_heal(engine, "the directories changed faster than they could be followed");
	changes_want_watches(engine);
	if (!engine->resolving && engine->building && engine->watches_wanted == 0)
	{
		engine->building = false;
		engine->state_changed = true;
	}
	if (!engine->resolving)
		hear_of_missed(engine);
	return !engine->resolving;
}

/* ---- mounts ---- */

void
changes_look_at_mounts(Engine *engine)
{
	for (size_t i = 0; i < engine->root.guarded.count; i++)
	{
		const Mount *m = &engine->root.guarded.mounts[i];

		if (engine->watches != NULL)
		{
			watch_tree_touch(engine->watches, m->path, m->len);
			changes_must_resolve(engine);
		}
		changes_want_subtree(engine, m->path, m->len, engine->epoch);
	}
}

/* The mounts changed: what was guarded may be free, and the other way round. */
void
changes_read_mounts(Engine *engine)
{
	changes_look_at_mounts(engine);
	engine->mounts_error = root_read_mounts(&engine->root);
	if (engine->mounts_error != 0)
		engine->mounts_due_us = shortage_note(&engine->shortage, engine->mounts_error);
	changes_look_at_mounts(engine);
	if (root_open(&engine->root, false) == ROOT_OK)
		mounted_files_watch(engine);
	engine->guard_next = 0;
	engine->guard_request = 0;
	engine->state_changed = true;
}

/* Asks whether there is a row below the next guarded mount. */
void
changes_ask_about_guard(Engine *engine)
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

void
changes_guard_answered(Engine *engine, const ProtoBeliefsHeader *header)
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
		changes_must_resolve(engine);
	}
	changes_want_subtree(engine, m->path, m->len, engine->epoch);
	mounted_files_accepted(engine, m);
	root_accept_mount(&engine->root, m->path, m->len);
	engine->guard_next = 0;
	engine->state_changed = true;
}
