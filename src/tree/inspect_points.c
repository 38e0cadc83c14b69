/*-------------------------------------------------------------------------
 *
 * inspect_points.c
 *		Points to be inspected: collected, merged, and what the worker believes
 *		of them.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"
#include "grow.h"
#include "path_order.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the paths in one request; there are as many as PROTO_MAX_PATHS. */
#define INSPECT_PATHS_BYTES	(1024 * 1024)

/*
 * From so many points on, rows are asked for by ranges of paths; so many in the
 * first page and in the last.  They are worth it if one in so many is a point's.
 */
#define INSPECT_RANGE_POINTS	100
#define INSPECT_RANGE_FIRST		1250
#define INSPECT_RANGE_LAST		PROTO_MAX_RANGE
#define INSPECT_RANGE_WORTH		4

/* The new point; NULL when out of memory. */
Point *
inspect_add(Engine *engine, const char *path, size_t len, unsigned hints,
			uint64_t epoch, int64_t scan_id)
{
	Point	   *p;

	p = grow(engine->points, &engine->points_capacity, engine->n_points + 1, sizeof(Point));
	if (p == NULL)
		return NULL;
	engine->points = p;
	p += engine->n_points;
	memset(p, 0, sizeof(*p));
	p->path = strndup(path, len);
	if (p->path == NULL)
		return NULL;
	p->len = len;
	p->hints = hints;
	p->epoch = epoch;
	p->scan_id = scan_id;
	p->news = NEWS_NONE;
	engine->n_points++;
	return p;
}

/*
 * The new point of a name in a node's directory, or of a path where node is 0.
 * NULL when out of memory, or with *gone where the directory has no place: it
 * is gone, or has one only when all that was touched is looked at.
 */
Point *
inspect_add_name(Engine *engine, uint64_t node, const char *name, size_t len,
				 unsigned hints, uint64_t epoch, int64_t scan_id, bool *gone)
{
	char		path[PROTO_PATH_MAX + NAME_MAX + 2];
	ssize_t		at;
	Point	   *p;

	*gone = false;
	if (node == 0)
		return inspect_add(engine, name, len, hints, epoch, scan_id);
	at = engine->watches ? watch_tree_path(engine->watches, node, path) : -1;
	if (at < 0)
	{
		*gone = true;
		return NULL;
	}
	if (at > 0)
		path[at++] = '/';
	memcpy(path + at, name, len);
	p = inspect_add(engine, path, at + len, hints, epoch, scan_id);
	if (p != NULL)
		p->node = node;
	return p;
}

/* The hints of a name that is being inspected, or 0; news becomes no later than
 * its. */
unsigned
inspect_hints(const Engine *engine, uint64_t node, const char *name, size_t len,
			  uint64_t *news)
{
	unsigned	hints = 0;

	for (NameLink *link = names_first(&engine->points_by_name, node, name, len);
		 link; link = names_next(link))
	{
		const Point *p = table_container(link, Point, by_name);

		hints |= p->hints;
		if (p->news < *news)
			*news = p->news;
	}
	return hints;
}

static int
compare_points(const void *a, const void *b)
{
	const Point *x = a;
	const Point *y = b;

	return path_order(x->path, x->len, y->path, y->len);
}

/* Makes one point of two of the same path. */
static void
merge_point(Engine *engine, Point *into, const Point *p)
{
	unsigned	both = into->hints & p->hints & (HINT_FOUND | HINT_LINK);

	if (p->node != 0 && into->node != 0 && p->node != into->node)
	{
		/* One of the two directories has moved: its name waits. */
		const char *slash = memrchr(p->path, '/', p->len);
		const char *name = slash ? slash + 1 : p->path;

		pending_note(&engine->pending, p->node, name, p->len - (name - p->path),
					 p->hints, monotonic_us(), p->epoch);
		return;
	}
	if (p->node != 0)
		into->node = p->node;
	into->low |= p->low;

	/* what a scan found is no news of its own if there was an event as well */
	into->hints = ((into->hints | p->hints) & ~(HINT_FOUND | HINT_LINK)) | both;
	if (p->epoch < into->epoch)
		into->epoch = p->epoch;
	into->scan_id = runs_who_waits(engine, p->scan_id, into->scan_id);
	if (into->since_us == 0 || (p->since_us != 0 && p->since_us < into->since_us))
		into->since_us = p->since_us;
	if (p->retries > into->retries)
		into->retries = p->retries;
	if (into->put_off_us == 0 || (p->put_off_us != 0 && p->put_off_us < into->put_off_us))
		into->put_off_us = p->put_off_us;
	if (p->put_offs > into->put_offs)
		into->put_offs = p->put_offs;
	if (p->news < into->news)
		into->news = p->news;
	if (p->waited < into->waited)
		into->waited = p->waited;
	for (int kind = 0; kind < HALF_KINDS; kind++)
	{
		if (into->seen[kind])
			continue;
		into->seen[kind] = p->seen[kind];
		into->files[kind] = p->files[kind];
	}
}

/* Sorts the points and makes one of several of the same path. */
static void
merge_points(Engine *engine)
{
	size_t		kept = 0;

	qsort(engine->points, engine->n_points, sizeof(Point), compare_points);
	for (size_t i = 0; i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];

		if (kept == 0 || compare_points(&engine->points[kept - 1], p) != 0)
		{
			engine->points[kept++] = *p;
			continue;
		}
		merge_point(engine, &engine->points[kept - 1], p);
		free(p->path);
	}
	engine->n_points = kept;
}

/* Whether there can be a row of this path at all. */
ProtoProblem
inspect_untrackable(const Engine *engine, const Point *p)
{
	if (p->len > PROTO_PATH_MAX)
		return PROTO_PROBLEM_TOO_LONG;
	if (engine->utf8 && !filter_valid_utf8(p->path, p->len))
		return PROTO_PROBLEM_ENCODING;
	return 0;
}

/* ---- beliefs ---- */

/* Asks for the beliefs of just the next points' paths. */
static bool
ask_paths(Engine *engine)
{
	ProtoBuf	paths;
	ProtoBeliefsRequest request = {.kind = PROTO_BELIEFS_PATHS};
	size_t		n = 0;

	proto_buf_init(&paths);
	engine->points_asked = engine->points_answered;
	while (engine->points_asked < engine->n_points && n < PROTO_MAX_PATHS &&
		   paths.len < INSPECT_PATHS_BYTES)
	{
		const Point *p = &engine->points[engine->points_asked++];

		if (inspect_untrackable(engine, p) != 0)
			continue;
		proto_put_str(&paths, p->path, p->len);
		n++;
	}
	if (n > 0)
	{
		engine->points_request = request.request_id = ++engine->last_request;
		request.paths.data = paths.data;
		request.paths.len = paths.len;
		report_request_beliefs(engine, &request);
	}
	proto_buf_free(&paths);
	return n > 0;
}

/*
 * Asks for the rows from the next point's path to the last one's, so many of
 * them as a page has.
 */
static void
ask_range(Engine *engine)
{
	const Point *first = &engine->points[engine->points_answered];
	const Point *last = &engine->points[engine->n_points - 1];
	ProtoBeliefsRequest request = {.kind = PROTO_BELIEFS_RANGE, .inclusive = true};
	char		before[PROTO_PATH_MAX + 1];

	engine->points_asked = engine->n_points;
	engine->points_request = request.request_id = ++engine->last_request;
	request.after.data = first->path;
	request.after.len = first->len;
	if (last->len <= PROTO_PATH_MAX)
	{
		/* the next path after the last one's, as none holds a byte less than 1 */
		memcpy(before, last->path, last->len);
		before[last->len] = '\001';
		request.before.data = before;
		request.before.len = last->len + 1;
	}
	request.limit = engine->points_page;
	report_request_beliefs(engine, &request);
}

/*
 * Asks for the beliefs of the next points; false when all are known.
 *
 * Of a directory that was renamed, all rows of the old place are wanted, and
 * there is none at the new one: there pages of rows in path order are much
 * cheaper than naming each path.  Each range begins at the next point, so rows
 * between two points that lie apart are read once, and if there were too many
 * of them, the next points are asked for by path.
 */
static bool
ask(Engine *engine)
{
	while (engine->points_answered < engine->n_points &&
		   inspect_untrackable(engine, &engine->points[engine->points_answered]) != 0)
		engine->points_answered++;
	if (engine->n_points - engine->points_answered < INSPECT_RANGE_POINTS ||
		engine->points_sparse)
	{
		engine->points_sparse = false;
		return ask_paths(engine);
	}
	ask_range(engine);
	return true;
}

/* The answer to a range had so many rows, for so many points. */
static void
choose_next_page(Engine *engine, uint32_t rows, size_t points)
{
	engine->points_sparse = rows / INSPECT_RANGE_WORTH > points;
	if (engine->points_sparse)
		engine->points_page = INSPECT_RANGE_FIRST;
	else if (engine->points_page < INSPECT_RANGE_LAST)
		engine->points_page *= 2;
}

void
inspect_start(Engine *engine)
{
	RootTrouble trouble;

	if (engine->n_points == 0)
		return;
	trouble = root_open(&engine->root, false);
	if (trouble == ROOT_STARVED)
	{
		inspect_starve(engine, errno);
		return;
	}
	if (trouble != ROOT_OK)
	{
		engine_root_trouble(engine, trouble);
		return;
	}
	merge_points(engine);
	for (size_t i = 0; i < engine->n_points; i++)
		names_insert(&engine->points_by_name, &engine->points[i].by_name,
					 engine->points[i].node, engine->points[i].path, engine->points[i].len);
	engine->inspecting = true;
	engine->points_answered = engine->points_looked = 0;
	engine->points_page = INSPECT_RANGE_FIRST;
	engine->points_sparse = false;
	if (!ask(engine))
		inspect_examine(engine);
}

bool
inspect_beliefs(Engine *engine, const ProtoBeliefsHeader *header, ProtoReader body)
{
	size_t		at = engine->points_answered;

	for (uint32_t i = 0; i < header->count; i++)
	{
		ProtoBelief belief;
		int			c = 1;

		if (!proto_get_belief(&body, &belief))
			return false;
		for (; at < engine->points_asked; at++)
		{
			Point	   *p = &engine->points[at];
			Point		key = {.path = (char *) belief.path.data, .len = belief.path.len};

			c = compare_points(p, &key);
			if (c < 0)
				continue;
			if (c == 0)
			{
				p->has_belief = true;
				p->belief = belief;
				p->belief.path.data = p->path;
				at++;
			}
			break;
		}
	}
	if (header->last)
		at = engine->points_asked;
	else if (header->count == 0)
		return false;
	choose_next_page(engine, header->count, at - engine->points_answered);
	engine->points_answered = at;
	if (!ask(engine))
		inspect_examine(engine);
	return true;
}
