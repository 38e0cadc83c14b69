/*-------------------------------------------------------------------------
 *
 * asked.c
 *		The scan of a part of the tree that somebody says has changed.
 *
 * It looks at one path, and at all below it, as the scan of places that events
 * named does; but who asked for it waits, and is told what was found.  So it
 * has an id, begins at once, is not held up by a scan of everything, and a
 * barrier that comes after it waits for it.  There is no threshold for what it
 * removes: somebody has named the place.
 *
 * A rename between the place and elsewhere is told by events.  Where directories
 * are not watched it is not, so if the place is among them, or they in it, all
 * of them are looked at, as a barrier does: an id is worth more than a walk.
 * Where others make the changes, on network file systems, nothing can be known
 * of elsewhere.
 *
 * Nothing is looked at while it is not known what went on in the tree: after a
 * start, or a loss of events, the scan of everything comes first, which knows
 * both ends of each rename.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"
#include "grow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool
asked_scan(Engine *engine, const ProtoScan *scan)
{
	ScanRun    *run = &engine->asked;
	char	   *place;

	if (engine->asked_place != NULL)
	{
		ScanRun		refused = {.id = scan->scan_id, .result = PROTO_SCAN_FAILED};

		snprintf(refused.message, sizeof(refused.message), "another scan of a part goes on");
		report_scan_done(engine, &refused);
		return true;
	}
	place = strndup(scan->place.data, scan->place.len);
	if (place == NULL)
		return false;

	/* What was reported before it was asked for belongs to it. */
	if (engine->reader != NULL)
	{
		events_drain(engine->reader);
		changes_process_events(engine);
	}
	memset(run, 0, sizeof(*run));
	engine->asked_place = place;
	run->id = scan->scan_id;
	run->flags = scan->flags;
	run->epoch = engine->epoch;
	run->since_us = monotonic_us();
	return true;
}

void
asked_forget(Engine *engine)
{
	free(engine->asked_place);
	engine->asked_place = NULL;
	runs_forget(&engine->asked);
}

void
asked_again(Engine *engine)
{
	int64_t		id = engine->asked.id;

	runs_forget(&engine->asked);
	engine->asked.id = id;
}

/* ---- places ---- */

typedef struct Places
{
	Engine	   *engine;
	ScanPlace  *places;
	size_t		n;
	size_t		capacity;
	bool		concerned;		/* a directory that is not watched is in the place,
								 * or it is in that */
	bool		failed;
} Places;

static void
add(Places *places, const char *path, size_t len, bool local)
{
	ScanPlace  *more = grow(places->places, &places->capacity, places->n + 1,
							sizeof(ScanPlace));

	if (more != NULL)
	{
		places->places = more;
		more += places->n;
		more->path = strndup(path, len);
		more->len = len;
		more->local = local;
		places->n += more->path != NULL;
		places->failed |= more->path == NULL;
	}
	else
		places->failed = true;
}

static bool
is_above(const char *above, size_t above_len, const char *path, size_t len)
{
	return above_len == 0 ||
		(len >= above_len && memcmp(path, above, above_len) == 0 &&
		 (len == above_len || path[above_len] == '/'));
}

int64_t
asked_owner(const Engine *engine, int64_t scan_id, const char *path, size_t len,
			int64_t since_us)
{
	const ScanRun *run = &engine->asked;

	/* else it would never end where files are written without end */
	if (scan_id != 0 || run->scan == NULL || run->result != PROTO_SCAN_COMPLETE ||
		(since_us != 0 ? since_us > run->since_us : run->drained))
		return scan_id;
	return is_above(engine->asked_place, strlen(engine->asked_place), path, len) ? run->id : 0;
}

static void
add_unwatched(void *arg, const char *path, size_t len)
{
	Places	   *places = arg;
	const char *asked = places->engine->asked_place;

	if (root_polls(&places->engine->root, path, len))
		return;
	add(places, path, len, true);
	places->concerned |= is_above(path, len, asked, strlen(asked)) ||
		is_above(asked, strlen(asked), path, len);
}

static void
free_places(Places *places)
{
	for (size_t i = 0; i < places->n; i++)
		free(places->places[i].path);
	free(places->places);
	memset(places, 0, sizeof(*places));
}

/* What is to be scanned; false when out of memory. */
static bool
find_places(Engine *engine, Places *places)
{
	*places = (Places) {.engine = engine};
	if (engine->watches == NULL)
		add_unwatched(places, "", 0);
	else
		watch_tree_unwatched(engine->watches, add_unwatched, places);
	if (!places->concerned && !places->failed)
		free_places(places);
	add(places, engine->asked_place, strlen(engine->asked_place), false);
	if (!places->failed)
		return true;
	free_places(places);
	return false;
}

/* ---- beginning ---- */

void
asked_start(Engine *engine)
{
	ScanRun    *run = &engine->asked;
	const char *path = engine->asked_place;
	size_t		len;
	Places		places = {0};
	FileInfo	info;
	RootTrouble trouble;

	if (path == NULL || run->scan != NULL || engine->building || engine->resolving ||
		engine->healing || engine->scan_due_us > monotonic_us())
		return;
	len = strlen(path);
	trouble = root_open(&engine->root, false);
	if (trouble != ROOT_OK && trouble != ROOT_STARVED)
	{
		engine_root_trouble(engine, trouble);
		run->result = PROTO_SCAN_FAILED;
		snprintf(run->message, sizeof(run->message), "%.255s", engine->reason);
		snprintf(run->hint, sizeof(run->hint), "%.255s", engine->hint);
		report_scan_done(engine, run);
		asked_forget(engine);
		return;
	}
	if (trouble == ROOT_STARVED || !find_places(engine, &places))
	{
		engine->scan_due_us = shortage_note(&engine->shortage,
											trouble == ROOT_STARVED ? errno : ENOMEM);
		return;
	}
	if (!runs_begin(engine, run, places.places, &places.n))
	{
		free_places(&places);
		return;
	}

	/* What is below the path the scan finds; what has the path itself is looked at
	 * as any name. */
	inspect_forget_rules(engine);
	run->named_files = beneath_stat(engine->root.fd, path, len, &info) == 0 &&
		S_ISREG(info.mode) && filter_accepts_size(engine->filter, info.stat.size) &&
		inspect_verdict(engine, path, len) != FILTER_REFUSED;
	(void) pending_retry(&engine->pending, 0, path, len, HINT_FOUND, 1, 0, run->epoch, run->id);
}
