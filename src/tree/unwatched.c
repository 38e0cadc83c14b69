/*-------------------------------------------------------------------------
 *
 * unwatched.c
 *		Directories that have no watch: barriers look at them, and
 *		fsync_problems names them.
 *
 * A barrier promises what the kernel reports, and of these it reports nothing.
 * So each has the top-most of them compared by a partial scan before it is
 * answered.  They are places like any other: what came before the scan began is
 * served by it, and one that gets its watch meanwhile becomes a place once more,
 * for the scan after it.  Not so what is on file systems whose changes are made
 * elsewhere: a look at every barrier could take for ever there.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"
#include "path_order.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More of them are only counted. */
#define UNWATCHED_NAMED		100

/* Between two looks for which they are. */
#define UNWATCHED_PAUSE_US	1000000

/* ---- barriers ---- */

typedef struct Barrier
{
	Engine	   *engine;
	uint64_t	epoch;
} Barrier;

static void
look_at(void *arg, const char *path, size_t len)
{
	Barrier    *barrier = arg;

	if (!root_polls(&barrier->engine->root, path, len))
		changes_want_local_subtree(barrier->engine, path, len, barrier->epoch);
}

void
unwatched_look(Engine *engine, uint64_t epoch)
{
	Barrier		barrier = {engine, epoch};

	if (!engine->running || engine->building)
		return;
	if (engine->watches == NULL)
		look_at(&barrier, "", 0);
	else
		watch_tree_unwatched(engine->watches, look_at, &barrier);
}

/* ---- problems ---- */

/* The first of them in path order. */
typedef struct Named
{
	Engine	   *engine;
	ProtoStr	paths[UNWATCHED_NAMED]; /* owned */
	size_t		n;
	uint64_t	all;
} Named;

static void
choose(void *arg, const char *path, size_t len)
{
	Named	   *named = arg;
	ProtoStr   *last = &named->paths[UNWATCHED_NAMED - 1];
	size_t		at = named->n;
	char	   *copy;

	/* one problem a path */
	if (problems_has(&named->engine->problems, path, len))
		return;
	named->all++;
	if (named->n == UNWATCHED_NAMED && path_order(path, len, last->data, last->len) > 0)
		return;
	copy = strndup(path, len);
	if (copy == NULL)
		return;					/* it is counted */
	if (named->n == UNWATCHED_NAMED)
	{
		free((char *) last->data);
		at--;
	}
	else
		named->n++;
	for (; at > 0 && path_order(path, len, named->paths[at - 1].data,
								named->paths[at - 1].len) < 0; at--)
		named->paths[at] = named->paths[at - 1];
	named->paths[at].data = copy;
	named->paths[at].len = (uint32_t) len;
}

static void
name(Engine *engine, const char *path, size_t len, bool anew, const char *message)
{
	if (anew || !problems_has(&engine->unwatched, path, len))
		report_not_watched(engine, path, len, message);
	problems_note(&engine->unwatched, path, len);
}

static bool
any_path(void *arg, const char *path, size_t len)
{
	(void) arg;
	(void) path;
	(void) len;
	return true;
}

/* It is watched; but by now it may have another problem. */
static void
report_watched(void *arg, const char *path, size_t len)
{
	Engine	   *engine = arg;

	if (!problems_has(&engine->problems, path, len))
		report_cured(engine, path, len, 0);
}

static void
name_directories(Engine *engine, bool anew)
{
	Named		named = {.engine = engine};
	char		message[128];
	int			error = watch_tree_status(engine->watches)->error;

	watch_tree_unwatched(engine->watches, choose, &named);
	snprintf(message, sizeof(message), "%s", error == 0 || error == ENOSPC ?
			 "there is no inotify watch left for it" : strerror(error));
	for (size_t i = 0; i < named.n; i++)
	{
		name(engine, named.paths[i].data, named.paths[i].len, anew, message);
		free((char *) named.paths[i].data);
	}
	if (named.all <= named.n)
		return;
	snprintf(message, sizeof(message), "%llu directories are not watched, the first %zu are named",
			 (unsigned long long) named.all, named.n);
	anew |= engine->unwatched_counted != named.all;
	engine->unwatched_counted = named.all;
	name(engine, "", 0, anew, message);
}

void
unwatched_report(Engine *engine, bool anew)
{
	uint64_t	version = engine->watches ? watch_tree_status(engine->watches)->version : 0;
	int64_t		now = monotonic_us();
	uint64_t	round;

	if (!engine->running || engine->building ||
		(!anew && (version == engine->unwatched_version || now < engine->unwatched_due_us)))
		return;
	engine->unwatched_version = version;
	engine->unwatched_due_us = now + UNWATCHED_PAUSE_US;
	round = problems_next_round(&engine->unwatched);
	if (engine->watches == NULL)
		name(engine, "", 0, anew, "no inotify instance or watch is to be had");
	else
		name_directories(engine, anew);
	problems_expire(&engine->unwatched, round, any_path, report_watched, engine);
}

int64_t
unwatched_due(const Engine *engine)
{
	uint64_t	version = engine->watches ? watch_tree_status(engine->watches)->version : 0;

	return engine->building || version == engine->unwatched_version ? INT64_MAX :
		engine->unwatched_due_us;
}
