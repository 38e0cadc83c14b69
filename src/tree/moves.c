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
 * The disk runs ahead of the events that tell of it, and of scans.  So an end
 * that remains may be of a rename whose other end is at a place that we shall
 * only hear of; a row that was removed too early would come back with another
 * id.  It waits (halves.c) until all that was queued when it was seen has been
 * looked at (heard.c), or the other end comes: then both are looked at again,
 * together.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * A name whose directory is not where the watch tree has it waits for news of
 * that; after so many looks and so long all is compared instead.
 */
#define MOVES_STALE_US		INT64_C(10000000)
#define MOVES_STALE_LOOKS	8

/* What a move takes in a frame besides its two paths, at most. */
#define MOVES_BYTES			128

/* A ring of moves is told at once if it is not longer. */
#define MOVES_RING			(PROTO_MAX_MOVES / 2)
#define MOVES_RING_BYTES	(768 * 1024)

typedef struct Source
{
	int64_t		inode;
	int64_t		btime_ns;
	bool		deleted;
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
	/* of several names of a file, one that was renamed before one that was removed */
	if (x->deleted != y->deleted)
		return x->deleted ? 1 : -1;
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
 * directory.  So another ctime is that of the rename alone only where it was
 * watched, and all that had happened before had been seen.
 */
static bool
hash_survives(const Engine *engine, const Point *from, const Point *to)
{
	const ProtoBelief *b = &from->belief;
	const ProtoStat *s = &to->info.stat;

	if (!b->has_hash || b->btime_ns == PROTO_NO_TIME || b->btime_ns != s->btime_ns ||
		b->size != s->size || b->mtime_ns != s->mtime_ns)
		return false;
	if (((from->hints | to->hints) & (HINT_CONTENT | HINT_CLOSED | HINT_UNREAD)) ||
		hashing_due(engine, from->path, from->len))
		return false;
	return b->ctime_ns == s->ctime_ns ||
		((to->hints & HINT_ARRIVED) && changes_saw_all(engine));
}

/*
 * Whether it was the file that was renamed, and not a directory above it: then
 * what was at its new name has been overwritten.  A name that had been removed
 * before was not.
 */
static bool
itself_renamed(const ProtoBelief *b, const Point *to)
{
	return (to->hints & HINT_DELETED) == 0 &&
		((to->hints & HINT_ARRIVED) != 0 || b->ctime_ns != to->info.stat.ctime_ns);
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

static HalfFile
file_left(const Point *p)
{
	const ProtoBelief *b = &p->belief;

	return (HalfFile) {b->inode, b->btime_ns, b->size, b->mtime_ns};
}

static HalfFile
file_came(const Point *p)
{
	const ProtoStat *s = &p->info.stat;

	return (HalfFile) {s->inode, s->btime_ns, s->size, s->mtime_ns};
}

/* ---- what may become a rename ---- */

/*
 * After events were lost a scan of everything comes, which knows both halves;
 * but once it has begun, it may have passed here.
 */
static bool
left_to_scan(const Engine *engine, const Point *p)
{
	return engine->healing && !engine->heal_scan_runs && p->scan_id == 0;
}

/*
 * Whether events have told all about the point: it is no rename.  Not where a
 * directory has come or gone, as the row may be of a file in the one before,
 * nor where another name of the same file waits.
 */
static bool
certain(Engine *engine, const Point *p)
{
	HalfFile	file;

	if ((p->hints & (HINT_FOUND | HINT_MOVES)) || changes_covers(engine, p->path, p->len))
		return false;
	if (p->has_belief)
	{
		file = file_left(p);
		return (p->hints & HINT_DELETED) != 0 &&
			halves_find(&engine->halves, HALF_LEFT, &file) == NULL;
	}
	file = file_came(p);
	return halves_find(&engine->halves, HALF_CAME, &file) == NULL;
}

/* Whether the point is the same end of a rename, or both, as when it was seen. */
static bool
as_seen(const Point *p)
{
	HalfFile	left = file_left(p);
	HalfFile	came = file_came(p);

	return (!row_without_file(p) ||
			(p->seen[HALF_LEFT] && halves_same_file(&p->files[HALF_LEFT], &left))) &&
		(!file_without_row(p) ||
		 (p->seen[HALF_CAME] && halves_same_file(&p->files[HALF_CAME], &came)));
}

/*
 * Whether something is still to be found out of the directories above it, however
 * new: it may have been elsewhere since it was seen, and come back.
 */
static bool
moves_about(Engine *engine, const Point *p)
{
	return (engine->watches != NULL && watch_tree_touched(engine->watches, p->path, p->len)) ||
		changes_covers(engine, p->path, p->len) ||
		(engine->partial.scan != NULL && !engine->partial.drained &&
		 scan_covers(engine->partial.scan, p->path, p->len));
}

/* Whether all is known of the point that can be, though its other end is not. */
static bool
told(Engine *engine, const Point *p, uint64_t oldest)
{
	if (left_to_scan(engine, p))
		return false;
	return certain(engine, p) ||
		(p->waited != 0 && as_seen(p) && heard_all(engine, oldest, p->waited, p->scan_id) &&
		 !moves_about(engine, p)) ||
		heard_all(engine, oldest, NEWS_NONE - 1, p->scan_id);
}

/* Who waits and has the file of the point's row, or NULL. */
static Half *
who_took(const Engine *engine, const Point *p)
{
	HalfFile	file = file_left(p);

	/* Another disk's inode numbers and birth times prove nothing. */
	return engine->root.replaced || !row_without_file(p) ? NULL :
		halves_find(&engine->halves, HALF_CAME, &file);
}

/* Who waits and has the row of the point's file, or NULL. */
static Half *
who_lost(const Engine *engine, const Point *p)
{
	HalfFile	file = file_came(p);

	return engine->root.replaced || !file_without_row(p) ? NULL :
		halves_find(&engine->halves, HALF_LEFT, &file);
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
	bool		renamed = itself_renamed(b, to);
	ProtoStat	before;

	from->moved_away = true;
	hashing_row_came(engine, to->path, to->len, b);
	if (!engine->config.calculate_hashes || hash_survives(engine, from, to))
	{
		report_moved(engine, b->id, from->path, from->len, to->path, to->len, renamed, s,
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
	report_moved(engine, b->id, from->path, from->len, to->path, to->len, renamed, &before,
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
		sources[n].deleted = (p->hints & (HINT_DELETED | HINT_GONE)) == HINT_DELETED;
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
		HalfFile	left = file_left(from);
		HalfFile	came = file_came(to);

		if (sources[k].used || !halves_same_file(&left, &came))
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
hold_pairs(Engine *engine, Pair *pairs, size_t n, uint64_t oldest)
{
	for (size_t i = 0; i < n; i++)
	{
		Point	   *to = pairs[i].to;

		if (to->gives || !row_without_file(to) ||
			(who_took(engine, to) == NULL && told(engine, to, oldest)))
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
match(Engine *engine, uint64_t oldest)
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
	hold_pairs(engine, pairs, n_pairs, oldest);
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

/* ---- what waits ---- */

/* What the point is called where it waits: a name in its node's directory, or
 * its path. */
static const char *
waiting_name(const Point *p, size_t *len)
{
	const char *slash = memrchr(p->path, '/', p->len);
	const char *name = p->node != 0 && slash ? slash + 1 : p->path;

	*len = p->len - (name - p->path);
	return name;
}

/* Its directory has moved on: the name waits, with all that is known of it. */
static void
put_off(Engine *engine, Point *p)
{
	size_t		len;
	const char *name = waiting_name(p, &len);
	PendingName *waiting;

	p->settled = true;
	if (p->put_offs >= MOVES_STALE_LOOKS && p->put_off_us + MOVES_STALE_US < monotonic_us())
	{
		changes_want_subtree(engine, "", 0, p->epoch);
		heard_leave_to_places(engine, p->news);
		return;
	}
	waiting = pending_retry(&engine->pending, p->node, name, len, p->hints, 1, p->since_us,
							p->epoch, p->scan_id);
	if (waiting == NULL)
		return;
	if (p->retries > waiting->retries)
		waiting->retries = p->retries;
	if (p->news < waiting->news)
		waiting->news = p->news;
	waiting->put_offs = p->put_offs + 1;
	waiting->put_off_us = p->put_off_us ? p->put_off_us : monotonic_us();
}

/* The point waits for its other end; NULL when out of memory. */
static Half *
wait_for_other_end(Engine *engine, Point *p)
{
	size_t		len;
	const char *name = waiting_name(p, &len);
	HalfFile	left = file_left(p);
	HalfFile	came = file_came(p);
	const HalfFile *const ends[HALF_KINDS] = {
		[HALF_LEFT] = row_without_file(p) ? &left : NULL,
		[HALF_CAME] = file_without_row(p) ? &came : NULL
	};
	Half	   *half = halves_add(&engine->halves, p->node, name, len, ends,
							   engine->pending.news);

	p->settled = true;
	if (half == NULL)
	{
		/* all is compared anew, with what memory there is then */
		changes_want_subtree(engine, "", 0, p->epoch);
		return NULL;
	}
	half->hints |= p->hints | HINT_HALF;
	if (p->retries > half->retries)
		half->retries = p->retries;
	if (half->since_us == 0 || (p->since_us != 0 && p->since_us < half->since_us))
		half->since_us = p->since_us;
	if (p->epoch < half->epoch)
		half->epoch = p->epoch;
	half->scan_id = runs_who_waits(engine, p->scan_id, half->scan_id);
	return half;
}

/* What could be no rename any more goes on; the others wait. */
static void
settle(Engine *engine, Point *p, uint64_t oldest)
{
	Half	   *other;
	Half	   *half;

	if (p->settled || !(row_without_file(p) || file_without_row(p)))
		return;
	if (left_to_scan(engine, p))
	{
		p->settled = true;
		return;
	}

	/* What is held has met its other end, which it is held for. */
	other = p->held && p->received == NULL ? NULL : who_took(engine, p);
	if (other == NULL && !p->held)
	{
		other = who_lost(engine, p);
		if (other == NULL && told(engine, p, oldest))
			return;
	}
	half = wait_for_other_end(engine, p);
	if (half == NULL || other == NULL)
		return;
	halves_meet(&engine->halves, half, other);
	if (p->waited != 0 && as_seen(p))
		half->news = p->waited;	/* what it has heard counts for its other file */
}

static int
compare_inodes(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/*
 * Files that were seen at points, and are not there now, have moved on: who
 * waits for one of them waits for what was heard until now.
 */
static void
wait_for_those_gone(Engine *engine)
{
	int64_t    *inodes = calloc(engine->n_points + 1, sizeof(int64_t));
	size_t		n = 0;

	for (size_t i = 0; i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];
		HalfFile	now = file_came(p);

		if (!p->seen[HALF_CAME] || p->stale ||
			(p->error == 0 && halves_same_file(&p->files[HALF_CAME], &now)))
			continue;
		halves_renew(&engine->halves, HALF_LEFT, &p->files[HALF_CAME], engine->pending.news);
		if (inodes != NULL)
			inodes[n++] = p->files[HALF_CAME].inode;
	}
	if (n > 0)
		qsort(inodes, n, sizeof(int64_t), compare_inodes);
	for (size_t i = 0; i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];

		if (p->waited != 0 && p->has_belief &&
			(inodes == NULL ||
			 bsearch(&p->belief.inode, inodes, n, sizeof(int64_t), compare_inodes) != NULL))
			p->waited = 0;
	}
	free(inodes);
}

/*
 * Reports the renames among the points, and lets wait what cannot be decided
 * now.
 */
void
moves_decide(Engine *engine)
{
	uint64_t	oldest;

	wait_for_those_gone(engine);
	for (size_t i = 0; i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];

		if (p->settled)
			continue;
		if (p->stale)
			put_off(engine, p);
		else if (p->error == ENOENT && !p->has_belief && (p->hints & HINT_MOVES) &&
				 changes_covers(engine, p->path, p->len))
			heard_leave_to_places(engine, p->news);
	}
	oldest = heard_oldest(engine);
	match(engine, oldest);
	for (size_t i = 0; i < engine->n_points; i++)
		settle(engine, &engine->points[i], oldest);
	engine->pending.news++;
}
