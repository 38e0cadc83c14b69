/*-------------------------------------------------------------------------
 *
 * moves.c
 *		Which points are the two ends of a rename.
 *
 * A row whose file is no longer at its path, and a file that no row of its
 * path speaks of, are one rename if inode number and birth time are equal.  The
 * row moves at once, as it was; what else has changed follows when the file has
 * been hashed.
 *
 * The disk runs ahead of the events that tell of it.  So a half that remains
 * may belong to a rename whose other half is at a place that we shall only
 * hear of.  It waits, as long as there is something to be heard; a row that
 * was removed too early would come back with another id.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * How long a half waits while the tree does not come to rest, and how often it
 * is looked at meanwhile: on a busy machine a look may take seconds.
 */
#define MOVES_WAIT_US		INT64_C(10000000)
#define MOVES_LOOKS			8

/* What a move takes in a frame besides its two paths, at most. */
#define MOVES_BYTES			128

/* A ring of moves is told at once if it is not longer. */
#define MOVES_RING			(PROTO_MAX_MOVES / 2)
#define MOVES_RING_BYTES	(768 * 1024)

typedef struct Source
{
	int64_t		inode;
	int64_t		btime_ns;
	size_t		point;
	bool		used;
} Source;

/* Whether the file is the one that the row of its path speaks of. */
static bool
same_file(const Point *p)
{
	const ProtoBelief *b = &p->belief;

	return b->inode == p->info.stat.inode &&
		(b->btime_ns == p->info.stat.btime_ns || b->btime_ns == PROTO_NO_TIME ||
		 p->info.stat.btime_ns == PROTO_NO_TIME);
}

static bool
row_without_file(const Point *p)
{
	return p->has_belief && !p->moved_away &&
		(p->error == ENOENT || (p->error == 0 && !same_file(p)));
}

static bool
file_without_row(const Point *p)
{
	return p->error == 0 && (!p->has_belief || !same_file(p));
}

static int
compare_sources(const void *a, const void *b)
{
	const Source *x = a;
	const Source *y = b;

	if (x->inode != y->inode)
		return x->inode < y->inode ? -1 : 1;
	if (x->btime_ns != y->btime_ns)
		return x->btime_ns < y->btime_ns ? -1 : 1;
	return (x->point > y->point) - (x->point < y->point);
}

/* The first source with this identity in the sorted array, or n. */
static size_t
find_source(const Source *sources, size_t n, int64_t inode, int64_t btime_ns)
{
	size_t		low = 0;
	size_t		high = n;

	while (low < high)
	{
		size_t		mid = low + (high - low) / 2;

		if (sources[mid].inode < inode ||
			(sources[mid].inode == inode && sources[mid].btime_ns < btime_ns))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/*
 * Whether the row's hash is still that of its file at the new place.  A
 * rename moves the ctime of the file, but not of files below a renamed
 * directory.
 */
static bool
hash_survives(const Engine *engine, const Point *from, const Point *to)
{
	const ProtoBelief *b = &from->belief;
	const ProtoStat *s = &to->info.stat;

	if (!b->has_hash || b->btime_ns == PROTO_NO_TIME || b->btime_ns != s->btime_ns ||
		b->size != s->size || b->mtime_ns != s->mtime_ns)
		return false;
	if (((from->hints | to->hints) & (HINT_CONTENT | HINT_CLOSED)) ||
		hashing_due(engine, from->path, from->len))
		return false;
	return b->ctime_ns == s->ctime_ns || (to->hints & (HINT_ARRIVED | HINT_TRUSTED));
}

/* What stat said when the row was written. */
static ProtoStat
stat_of_row(const ProtoBelief *b, const ProtoStat *now)
{
	ProtoStat	s = {
		.size = b->size, .inode = b->inode, .mtime_ns = b->mtime_ns,
		.ctime_ns = b->ctime_ns, .btime_ns = b->btime_ns
	};

	if (b->mtime_ns == now->mtime_ns)
	{
		s.mtime_sec = now->mtime_sec;
		s.mtime_nsec = now->mtime_nsec;
		return s;
	}
	s.mtime_sec = b->mtime_ns / 1000000000;
	s.mtime_nsec = b->mtime_ns % 1000000000;
	if (s.mtime_nsec < 0)
	{
		s.mtime_nsec += 1000000000;
		s.mtime_sec--;
	}
	return s;
}

static bool
waited_long(const Point *p)
{
	return p->put_offs >= MOVES_LOOKS && p->put_off_us + MOVES_WAIT_US < monotonic_us();
}

/* Whether something is still to be heard, or was since the points were taken. */
static bool
restless(Engine *engine)
{
	int64_t		until;

	return engine->resolving || engine->moves_seen != engine->points_moves_seen ||
		engine->n_places > 0 ||
		(engine->partial.scan != NULL && !engine->partial.drained) ||
		runs_heal_undrained(engine) || changes_rename_unpaired(engine, monotonic_us(), &until);
}

/*
 * After events were lost a scan of everything comes, which knows both halves;
 * but once it has begun, it may have passed here.
 */
static bool
left_to_scan(const Engine *engine, const Point *p)
{
	return engine->healing && !engine->heal_scan_runs && p->scan_id == 0;
}

/* Whether events have told all about the point: it is no rename. */
static bool
certain(Engine *engine, const Point *p)
{
	if (p->hints & (HINT_FOUND | HINT_MOVES))
		return false;
	if (p->has_belief)
		return (p->hints & HINT_DELETED) != 0;
	return !changes_covers(engine, p->path, p->len);
}

/* ---- renames ---- */

/* A rename, and the row that goes with it. */
typedef struct Pair
{
	Point	   *from;
	Point	   *to;
	ProtoBelief row;
	bool		told;
	bool		lost;			/* the row gives way to the one that comes */
} Pair;

/*
 * When the row's hash was taken.  A rename gives the file another ctime: what
 * is in doubt for the time since the old one stays so for the time since this.
 */
static int64_t
hashed_us(const ProtoBelief *b, const ProtoStat *now)
{
	if (b->ctime_ns != now->ctime_ns && scan_doubts(b, INT64_MIN))
		return now->ctime_ns / 1000;
	return b->scanned_us;
}

static void
report_pair(Engine *engine, const Pair *pair)
{
	Point	   *from = pair->from;
	Point	   *to = pair->to;
	const ProtoBelief *b = &pair->row;
	const ProtoStat *s = &to->info.stat;
	ProtoStat	before;

	from->moved_away = true;
	hashing_row_came(engine, to->path, to->len, b);
	if (!engine->config.calculate_hashes || hash_survives(engine, from, to))
	{
		report_moved(engine, b->id, from->path, from->len, to->path, to->len, s,
					 engine->config.calculate_hashes ? b->hash : NULL, hashed_us(b, s),
					 to->scan_id);
		to->settled = true;
		inspect_links(engine, to);
		return;
	}

	/*
	 * The row as it was goes to the new path now, while all moves of this
	 * inspection can be made together; the file is hashed.
	 */
	before = stat_of_row(b, s);
	report_moved(engine, b->id, from->path, from->len, to->path, to->len, &before,
				 b->has_hash ? b->hash : NULL, b->scanned_us, to->scan_id);
}

/* The sources' sorted array, and how many there are. */
static size_t
collect_sources(const Engine *engine, Source *sources)
{
	size_t		n = 0;

	/* Another disk's inode numbers and birth times prove nothing. */
	if (engine->root.replaced)
		return 0;
	for (size_t i = 0; i < engine->n_points; i++)
	{
		const Point *p = &engine->points[i];

		if (p->settled || p->stale || !row_without_file(p))
			continue;
		sources[n].inode = p->belief.inode;
		sources[n].btime_ns = p->belief.btime_ns;
		sources[n].point = i;
		n++;
	}
	if (n > 0)
		qsort(sources, n, sizeof(Source), compare_sources);
	return n;
}

/* Takes the source that is the file of this point; NULL: none. */
static Point *
take_source(Engine *engine, Source *sources, size_t n, const Point *to)
{
	const ProtoStat *s = &to->info.stat;

	for (size_t k = find_source(sources, n, s->inode, s->btime_ns);
		 k < n && sources[k].inode == s->inode && sources[k].btime_ns == s->btime_ns; k++)
	{
		Point	   *from = &engine->points[sources[k].point];
		const ProtoBelief *b = &from->belief;

		/* Without a birth time an inode number says little. */
		if (sources[k].used ||
			(b->btime_ns == PROTO_NO_TIME &&
			 (b->size != s->size || b->mtime_ns != s->mtime_ns)))
			continue;
		sources[k].used = true;
		return from;
	}
	return NULL;
}

/*
 * A row whose place another one takes, and whose file was not found, would be
 * gone.  If its file may still be heard of, the rename that takes the place
 * has to wait, and with it the one that takes the place of that one's row.
 */
static void
hold_pairs(Engine *engine, Pair *pairs, size_t n, bool waiting)
{
	for (size_t i = 0; i < n; i++)
	{
		Point	   *to = pairs[i].to;

		if (to->gives || !row_without_file(to) || waited_long(to) ||
			certain(engine, to) || !(waiting || left_to_scan(engine, to)))
			continue;
		while (to != NULL && to->received != NULL && !to->held)
		{
			Point	   *from = to->received->from;

			to->held = true;
			from->gives = false;
			to = row_without_file(from) ? from : NULL;
		}
	}
}

/* ---- the order of telling ---- */

/* Of each point, 1 and the pair of which it is an end; 0: of none. */
typedef struct Ends
{
	size_t	   *gives;
	size_t	   *takes;
} Ends;

/* The pair that ends where this one begins, or n. */
static size_t
pair_before(const Engine *engine, const Ends *ends, const Pair *pair, size_t n)
{
	size_t		before = ends->takes[pair->from - engine->points];

	return before > 0 ? before - 1 : n;
}

static size_t
move_bytes(const Pair *pair)
{
	return pair->from->len + pair->to->len + MOVES_BYTES;
}

/* This one, whose place is free, then the one that comes to where it was ... */
static void
tell_chain(Engine *engine, const Ends *ends, Pair *pairs, size_t n, size_t last)
{
	for (size_t i = last; i < n && !pairs[i].told && !pairs[i].lost;
		 i = pair_before(engine, ends, &pairs[i], n))
	{
		if (!report_room_for_moves(engine, 1, move_bytes(&pairs[i])))
			report_end_frame(engine);
		engine->cause_us = pairs[i].to->since_us;
		report_pair(engine, &pairs[i]);
		pairs[i].told = true;
	}
}

/*
 * No place of a ring is free.  It goes into one frame; if it is too long for
 * that, one row gives way, and its file gets another one.
 */
static void
tell_ring(Engine *engine, const Ends *ends, Pair *pairs, size_t n, size_t first)
{
	size_t		length = 0;
	size_t		bytes = 0;
	size_t		i = first;

	do
	{
		length++;
		bytes += move_bytes(&pairs[i]);
		i = pair_before(engine, ends, &pairs[i], n);
	} while (i != first);
	if (length > MOVES_RING || bytes > MOVES_RING_BYTES)
	{
		pairs[first].lost = true;
		first = pair_before(engine, ends, &pairs[first], n);
	}
	else if (!report_room_for_moves(engine, length, bytes))
		report_end_frame(engine);
	tell_chain(engine, ends, pairs, n, first);
}

/*
 * Moves of one frame happen together, and the worker takes frames of a limited
 * size.  So a row goes only where none is, or none any more, and what cannot be
 * brought into such an order stays together.  Returns false when out of memory.
 */
static bool
tell_pairs(Engine *engine, Pair *pairs, size_t n)
{
	Ends		ends;
	bool		good;

	ends.gives = calloc(engine->n_points, sizeof(size_t));
	ends.takes = calloc(engine->n_points, sizeof(size_t));
	good = ends.gives != NULL && ends.takes != NULL;
	for (size_t i = 0; good && i < n; i++)
	{
		ends.gives[pairs[i].from - engine->points] = i + 1;
		ends.takes[pairs[i].to - engine->points] = i + 1;
	}
	for (size_t i = 0; good && i < n; i++)
	{
		if (ends.gives[pairs[i].to - engine->points] == 0)
			tell_chain(engine, &ends, pairs, n, i);
	}
	for (size_t i = 0; good && i < n; i++)
	{
		if (!pairs[i].told && !pairs[i].lost)
			tell_ring(engine, &ends, pairs, n, i);
	}
	free(ends.gives);
	free(ends.takes);
	return good;
}

/* Finds the renames among the points, and reports them. */
static void
match(Engine *engine, bool waiting)
{
	Source	   *sources = calloc(engine->n_points + 1, sizeof(Source));
	size_t		n = sources ? collect_sources(engine, sources) : 0;
	Pair	   *pairs = n > 0 ? calloc(n, sizeof(Pair)) : NULL;
	size_t		n_pairs = 0;
	size_t		kept = 0;

	for (size_t i = 0; pairs != NULL && n_pairs < n && i < engine->n_points; i++)
	{
		Point	   *to = &engine->points[i];
		Point	   *from;

		if (to->settled || to->stale || !file_without_row(to) ||
			(from = take_source(engine, sources, n, to)) == NULL)
			continue;
		from->gives = true;
		to->received = &pairs[n_pairs];
		pairs[n_pairs].from = from;
		pairs[n_pairs].to = to;
		pairs[n_pairs++].row = from->belief;
	}
	hold_pairs(engine, pairs, n_pairs, waiting);
	for (size_t i = 0; i < n_pairs; i++)
	{
		if (pairs[i].to->held)
			pairs[i].from->held = true;
		else
			pairs[kept++] = pairs[i];
	}

	/* Nothing else in their frames: they may overlap. */
	if (kept > 0)
	{
		report_end_frame(engine);
		if (!tell_pairs(engine, pairs, kept))
			engine->out.failed = true;	/* ids would be lost: begin anew */
		engine->cause_us = 0;
		report_end_frame(engine);
	}

	/* What gave its row away may have got another. */
	for (size_t i = 0; i < kept; i++)
	{
		Point	   *to = pairs[i].to;

		if (pairs[i].lost)
			continue;
		to->has_belief = true;
		to->moved_away = false;
		to->belief = pairs[i].row;
		to->belief.path.data = to->path;
		to->belief.path.len = to->len;
	}
	free(pairs);
	free(sources);
}

/* ---- what may become a rename ---- */

/* The point's name or path waits, with all that is known of it. */
static void
put_off(Engine *engine, Point *p, unsigned hints)
{
	const char *slash = memrchr(p->path, '/', p->len);
	const char *name = p->node != 0 && slash ? slash + 1 : p->path;
	PendingName *waiting;

	waiting = pending_retry(&engine->pending, p->node, name, p->len - (name - p->path),
							p->hints | hints, 1, p->since_us, p->epoch, p->scan_id);
	if (waiting != NULL)
	{
		if (p->retries > waiting->retries)
			waiting->retries = p->retries;
		waiting->put_offs = p->put_offs + 1;
		waiting->put_off_us = p->put_off_us ? p->put_off_us : monotonic_us();
	}
	p->settled = true;
}

/* Halves of renames, and names in directories that have moved on. */
static void
put_off_halves(Engine *engine, bool waiting)
{
	for (size_t i = 0; i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];

		if (p->settled)
			continue;
		if (p->stale)
		{
			if (!waited_long(p))
				put_off(engine, p, 0);
			else
			{
				changes_want_subtree(engine, "", 0, p->epoch);
				p->settled = true;
			}
		}
		else if ((row_without_file(p) || file_without_row(p)) && !waited_long(p))
		{
			if (left_to_scan(engine, p))
				p->settled = true;
			else if (p->held || (waiting && !certain(engine, p)))
				put_off(engine, p, HINT_HALF);
		}
	}
}

/*
 * Reports the renames among the points, and puts off what cannot be decided
 * now.
 */
void
moves_decide(Engine *engine)
{
	bool		waiting = restless(engine);

	match(engine, waiting);
	put_off_halves(engine, waiting);
}
