/*-------------------------------------------------------------------------
 *
 * inspect.c
 *		From points to observations: the one place where it is decided what
 *		has become of a path.
 *
 * Points are collected, the worker's beliefs about them asked for, and when
 * these have come, each is looked at on disk:
 *
 *	- rows whose file is no longer at their path, and files that no row of
 *	  their path speaks of, are matched by identity: those are renames;
 *	- rows left over are removed, if the root was the accepted one before and
 *	  after the look;
 *	- files that are new or differ are hashed, and reported when the hash
 *	  comes back and the file is still as it was hashed.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INSPECT_PATHS_PAGE	1000

/* A hash taken this soon after the mtime may not have seen a mapped write. */
#define INSPECT_MMAP_NS		(INT64_C(60) * 1000000000)

/* From this attempt on a file "keeps changing". */
#define INSPECT_RETRIES		2

bool
inspect_add(Engine *engine, const char *path, size_t len, unsigned hints,
			uint64_t epoch, int64_t scan_id, unsigned retries)
{
	Point	   *p;

	if (engine->n_points == engine->points_capacity)
	{
		size_t		n = engine->points_capacity ? engine->points_capacity * 2 : 64;

		p = realloc(engine->points, n * sizeof(Point));
		if (p == NULL)
			return false;
		engine->points = p;
		engine->points_capacity = n;
	}
	p = &engine->points[engine->n_points];
	memset(p, 0, sizeof(*p));
	p->path = strndup(path, len);
	if (p->path == NULL)
		return false;
	p->len = len;
	p->hints = hints;
	p->epoch = epoch;
	p->scan_id = scan_id;
	p->retries = retries;
	engine->n_points++;
	return true;
}

static int
compare_points(const void *a, const void *b)
{
	const Point *x = a;
	const Point *y = b;
	int			c = memcmp(x->path, y->path, x->len < y->len ? x->len : y->len);

	return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
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
		Point	   *last = &engine->points[kept > 0 ? kept - 1 : 0];

		if (kept == 0 || compare_points(last, p) != 0)
		{
			engine->points[kept++] = *p;
			continue;
		}
		last->hints |= p->hints;
		if (!(p->hints & HINT_FOUND) || !(last->hints & HINT_FOUND))
			last->hints &= ~HINT_FOUND; /* there was an event as well */
		if (p->epoch < last->epoch)
			last->epoch = p->epoch;
		if (p->scan_id != 0)
			last->scan_id = p->scan_id;
		if (p->retries > last->retries)
			last->retries = p->retries;
		free(p->path);
	}
	engine->n_points = kept;
}

/* Whether there can be a row of this path at all. */
static ProtoProblem
untrackable(const Engine *engine, const Point *p)
{
	if (p->len > PROTO_PATH_MAX)
		return PROTO_PROBLEM_TOO_LONG;
	if (engine->utf8 && !filter_valid_utf8(p->path, p->len))
		return PROTO_PROBLEM_ENCODING;
	return 0;
}

/* Asks for the beliefs of the next points; false when all are known. */
static bool
ask(Engine *engine)
{
	ProtoBuf	paths;
	ProtoBeliefsRequest request = {.kind = PROTO_BELIEFS_PATHS};
	size_t		n = 0;

	proto_buf_init(&paths);
	engine->points_asked = engine->points_answered;
	while (engine->points_asked < engine->n_points && n < INSPECT_PATHS_PAGE)
	{
		const Point *p = &engine->points[engine->points_asked++];

		if (untrackable(engine, p) != 0)
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

static void examine(Engine *engine);

void
inspect_start(Engine *engine)
{
	RootTrouble trouble;

	if (engine->n_points == 0)
		return;
	trouble = root_open(&engine->root, false);
	if (trouble != ROOT_OK)
	{
		engine_root_trouble(engine, trouble);
		return;
	}
	merge_points(engine);
	engine->inspecting = true;
	engine->points_answered = 0;
	if (!ask(engine))
		examine(engine);
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
	engine->points_answered = header->last ? engine->points_asked : at;
	if (!header->last && header->count == 0)
		return false;
	if (!ask(engine))
		examine(engine);
	return true;
}

/* ---- looking at the disk ---- */

/* The directory of the point looked at last: points come in path order. */
typedef struct DirectoryCache
{
	int			fd;
	int			error;
	char	   *path;
	size_t		len;
	bool		valid;
} DirectoryCache;

static void
stat_point(Engine *engine, Point *p, DirectoryCache *cache)
{
	const char *slash = memrchr(p->path, '/', p->len);
	size_t		dir_len = slash ? (size_t) (slash - p->path) : 0;
	const char *name = slash ? slash + 1 : p->path;

	if (!cache->valid || cache->len != dir_len || memcmp(cache->path, p->path, dir_len) != 0)
	{
		if (cache->valid && cache->fd >= 0)
			close(cache->fd);
		cache->path = p->path;
		cache->len = dir_len;
		cache->valid = true;
		cache->fd = beneath_open_directory(engine->root.fd, p->path, dir_len, O_PATH);
		cache->error = cache->fd < 0 ? errno : 0;
	}
	if (cache->fd < 0)
		p->error = cache->error;
	else if (beneath_stat_at(cache->fd, name, &p->info) < 0)
		p->error = errno;
	else
		p->error = 0;
	if (p->error == ENOTDIR || p->error == ELOOP)
		p->error = ENOENT;
	if (p->error == 0 &&
		(!S_ISREG(p->info.mode) || !filter_accepts_file(engine->filter, p->path, p->len)))
	{
		/* Not a file that is tracked.  A directory may be news to the watch
		 * tree, if this name's events were mixed up with another's. */
		if (S_ISDIR(p->info.mode) && engine->watches &&
			!watch_tree_knows(engine->watches, p->path, p->len))
		{
			watch_tree_touch(engine->watches, p->path, p->len);
			engine->resolving = true;
		}
		p->error = ENOENT;
	}
}

static bool
same_identity(const Point *p)
{
	const ProtoBelief *b = &p->belief;

	return b->inode == p->info.stat.inode &&
		(b->btime_ns == p->info.stat.btime_ns || b->btime_ns == PROTO_NO_TIME ||
		 p->info.stat.btime_ns == PROTO_NO_TIME);
}

static bool
same_state(const FileInfo *a, const FileInfo *b)
{
	return a->dev == b->dev && a->stat.inode == b->stat.inode &&
		a->stat.size == b->stat.size &&
		a->stat.mtime_sec == b->stat.mtime_sec &&
		a->stat.mtime_nsec == b->stat.mtime_nsec &&
		a->stat.ctime_ns == b->stat.ctime_ns;
}

/* ---- hashing ---- */

static HashItem *
find_item(Engine *engine, const char *path, size_t len)
{
	for (TableLink *link = table_first(&engine->items, table_hash(path, len, 0));
		 link; link = table_next(link))
	{
		HashItem   *item = table_container(link, HashItem, link);

		if (!item->superseded && item->job.len == len &&
			memcmp(item->job.path, path, len) == 0)
			return item;
	}
	return NULL;
}

static void
free_item(Engine *engine, HashItem *item)
{
	table_remove(&engine->items, &item->link);
	free(item->moved_from);
	free(item->job.path);
	free(item);
}

/* The row that a file without a hash has meanwhile, and why. */
static void
report_unhashed(Engine *engine, const char *path, size_t len, bool has_row,
				ProtoProblem problem, int error, int64_t scan_id)
{
	FileInfo	info;

	if (!has_row && beneath_stat(engine->root.fd, path, len, &info) == 0 &&
		S_ISREG(info.mode))
		report_file(engine, PROTO_OP_ADDED, path, len, &info.stat, NULL, scan_id);
	report_problem(engine, problem, error, path, len, scan_id);
}

/*
 * Hashes the file, to be reported as what the point says of it; the row of
 * source, if any, moves to it.
 */
static void
submit(Engine *engine, Point *p, const Point *source)
{
	HashItem   *item = calloc(1, sizeof(HashItem));
	HashItem   *before;

	if (item == NULL)
		return;
	item->job.path = strndup(p->path, p->len);
	item->job.len = p->len;
	item->job.expected_size = p->info.stat.size;
	item->job.owner = item;
	item->hints = p->hints;
	item->epoch = p->epoch;
	item->scan_id = p->scan_id;
	item->retries = p->retries;
	if (source != NULL)
	{
		item->has_belief = true;
		item->belief = source->belief;
		item->moved_from = strndup(source->path, source->len);
		item->moved_from_len = source->len;
	}
	else if (p->has_belief && !p->moved_away)
	{
		item->has_belief = true;
		item->belief = p->belief;
	}
	if (item->job.path == NULL || (source && item->moved_from == NULL))
	{
		free(item->job.path);
		free(item->moved_from);
		free(item);
		return;
	}

	/*
	 * One hash of a path at a time.  The one under way is of an older state;
	 * what it was to do is done by this one.
	 */
	before = find_item(engine, p->path, p->len);
	if (before != NULL)
	{
		hash_pool_cancel(engine->pool, &before->job);
		before->superseded = true;
		if (before->epoch < item->epoch)
			item->epoch = before->epoch;
		if (item->scan_id == 0)
			item->scan_id = before->scan_id;
		if (source == NULL && before->moved_from != NULL && !item->has_belief)
		{
			item->has_belief = true;
			item->belief = before->belief;
			item->moved_from = before->moved_from;
			item->moved_from_len = before->moved_from_len;
			before->moved_from = NULL;
		}
		if (before->retries + 1 > item->retries)
			item->retries = before->retries + 1;
		if (item->retries >= INSPECT_RETRIES)
		{
			report_unhashed(engine, p->path, p->len, item->has_belief,
							PROTO_PROBLEM_CHANGING, 0, 0);
			item->epoch = EPOCH_NONE;
			item->scan_id = 0;
		}
		before->epoch = EPOCH_NONE;
		before->scan_id = 0;
	}
	if (!table_insert(&engine->items, &item->link, table_hash(p->path, p->len, 0)))
	{
		free(item->job.path);
		free(item->moved_from);
		free(item);
		return;
	}
	hash_pool_set_root(engine->pool, engine->root.fd);
	hash_pool_submit(engine->pool, &item->job);
}

void
inspect_new_file(Engine *engine, const Finding *finding, uint64_t epoch, int64_t scan_id)
{
	Point		p = {
		.path = (char *) finding->path, .len = finding->len, .hints = HINT_FOUND,
		.epoch = epoch, .scan_id = scan_id, .info = finding->info
	};

	if (engine->config.calculate_hashes)
		submit(engine, &p, NULL);
	else if (beneath_stat(engine->root.fd, p.path, p.len, &p.info) == 0 &&
			 S_ISREG(p.info.mode))
		report_file(engine, PROTO_OP_ADDED, p.path, p.len, &p.info.stat, NULL, scan_id);
}

/* ---- renames ---- */

typedef struct Source
{
	int64_t		inode;
	int64_t		btime_ns;
	size_t		point;
	bool		used;
} Source;

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
hash_survives(const Point *from, const Point *to)
{
	const ProtoBelief *b = &from->belief;
	const ProtoStat *s = &to->info.stat;
	unsigned	hints = from->hints | to->hints;

	if (!b->has_hash || b->btime_ns == PROTO_NO_TIME || b->btime_ns != s->btime_ns ||
		b->size != s->size || b->mtime_ns != s->mtime_ns)
		return false;
	if (b->ctime_ns == s->ctime_ns)
		return true;
	if (hints & (HINT_CONTENT | HINT_CLOSED))
		return false;
	return (to->hints & (HINT_ARRIVED | HINT_TRUSTED)) != 0;
}

static void
match_moves(Engine *engine)
{
	Source	   *sources = calloc(engine->n_points + 1, sizeof(Source));
	size_t		n = 0;

	if (sources == NULL)
		return;					/* then they are removals and additions */
	for (size_t i = 0; i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];

		if (p->settled || !p->has_belief ||
			!(p->error == ENOENT || (p->error == 0 && !same_identity(p))))
			continue;
		sources[n].inode = p->belief.inode;
		sources[n].btime_ns = p->belief.btime_ns;
		sources[n].point = i;
		n++;
	}
	qsort(sources, n, sizeof(Source), compare_sources);

	/* All moves in one frame: they may overlap. */
	report_end_frame(engine);
	for (size_t i = 0; n > 0 && i < engine->n_points; i++)
	{
		Point	   *to = &engine->points[i];
		const ProtoStat *s = &to->info.stat;
		size_t		k;

		if (to->settled || to->error != 0 || (to->has_belief && same_identity(to)))
			continue;
		for (k = find_source(sources, n, s->inode, s->btime_ns);
			 k < n && sources[k].inode == s->inode && sources[k].btime_ns == s->btime_ns; k++)
		{
			Point	   *from = &engine->points[sources[k].point];
			const ProtoBelief *b = &from->belief;

			if (sources[k].used || from == to)
				continue;
			/* Without a birth time an inode number says little. */
			if (b->btime_ns == PROTO_NO_TIME &&
				(b->size != s->size || b->mtime_ns != s->mtime_ns))
				continue;
			sources[k].used = true;
			from->moved_away = true;
			to->settled = true;
			if (engine->config.calculate_hashes && !hash_survives(from, to))
				submit(engine, to, from);
			else
				report_moved(engine, b->id, from->path, from->len, to->path, to->len, s,
							 engine->config.calculate_hashes ? b->hash : NULL,
							 to->scan_id);
			break;
		}
	}
	report_end_frame(engine);
	free(sources);
}

/* ---- decisions ---- */

static void
add_link_name(void *arg, const char *path, size_t len)
{
	Engine	   *engine = arg;

	pending_retry(&engine->pending, path, len, HINT_FOUND, 1, engine->epoch, 0, 0);
}

/* A write through one name is a change of all names. */
static void
look_at_links(Engine *engine, const Point *p)
{
	links_note(engine->links, &p->info, p->path, p->len);
	if ((p->hints & HINT_FOUND) || !(p->hints & (HINT_CONTENT | HINT_CLOSED)))
		return;
	if (!links_others(engine->links, &p->info, p->path, p->len, add_link_name, engine))
		changes_want_subtree(engine, "", 0);
}

static void
decide_file(Engine *engine, Point *p)
{
	const ProtoBelief *b = &p->belief;
	const ProtoStat *s = &p->info.stat;
	bool		known = p->has_belief && !p->moved_away;
	bool		calculate = engine->config.calculate_hashes;

	if (known && scan_belief_matches(b, s) && (b->has_hash || !calculate))
	{
		bool		mapped = calculate && (p->hints & HINT_CLOSED) &&
			(engine->root.volatile_times ||
			 b->scanned_us - b->mtime_ns / 1000 < INSPECT_MMAP_NS / 1000);

		if (!mapped)
		{
			if (problems_forget(&engine->problems, p->path, p->len))
				report_cured(engine, p->path, p->len, p->scan_id);
			return;
		}
	}
	if (p->info.nlink > 1)
		look_at_links(engine, p);
	if (calculate)
		submit(engine, p, NULL);
	else
	{
		ProtoOp		op = PROTO_OP_ADDED;

		if (known)
			op = b->size == s->size && b->mtime_ns == s->mtime_ns ?
				PROTO_OP_TOUCHED : PROTO_OP_UPDATED;
		report_file(engine, op, p->path, p->len, s, NULL, p->scan_id);
	}
}

static void
decide(Engine *engine, Point *p)
{
	if (p->settled)
		return;
	if (p->error == 0)
		decide_file(engine, p);
	else if (p->error == ENOENT)
	{
		if (p->has_belief && !p->moved_away)
		{
			report_removed(engine, p->belief.id, p->path, p->len, p->scan_id);
			problems_forget(&engine->problems, p->path, p->len);
		}
		else if (problems_forget(&engine->problems, p->path, p->len))
			report_cured(engine, p->path, p->len, p->scan_id);
	}
	else
		report_problem(engine,
					   p->error == EACCES || p->error == EPERM ?
					   PROTO_PROBLEM_PERMISSION : PROTO_PROBLEM_IO,
					   p->error, p->path, p->len, p->scan_id);
}

static void
clear_points(Engine *engine)
{
	for (size_t i = 0; i < engine->n_points; i++)
		free(engine->points[i].path);
	engine->n_points = 0;
	engine->inspecting = false;
	if (engine->points_capacity > 8192)
	{
		free(engine->points);
		engine->points = NULL;
		engine->points_capacity = 0;
	}
}

static bool
mounts_changed(const Root *root)
{
	struct pollfd pfd = {.fd = root->mountinfo_fd, .events = POLLPRI};

	return root->mountinfo_fd >= 0 && poll(&pfd, 1, 0) > 0 &&
		(pfd.revents & (POLLPRI | POLLERR));
}

static void
examine(Engine *engine)
{
	DirectoryCache cache = {.fd = -1};
	RootTrouble trouble = root_verify(&engine->root);

	for (size_t i = 0; trouble == ROOT_OK && i < engine->n_points; i++)
	{
		Point	   *p = &engine->points[i];
		ProtoProblem problem = untrackable(engine, p);

		stat_point(engine, p, &cache);
		if (problem != 0 && p->error == 0)
		{
			report_problem(engine, problem, 0, p->path, p->len, p->scan_id);
			p->settled = true;
		}
	}
	if (cache.valid && cache.fd >= 0)
		close(cache.fd);
	if (mounts_changed(&engine->root))
		changes_read_mounts(engine);
	if (trouble == ROOT_OK)
		trouble = root_verify(&engine->root);
	if (trouble != ROOT_OK)
	{
		engine_root_trouble(engine, trouble);
		return;
	}
	for (size_t i = 0; i < engine->n_points; i++)
	{
		if (root_guards(&engine->root, engine->points[i].path, engine->points[i].len))
			engine->points[i].settled = true;
	}
	match_moves(engine);
	for (size_t i = 0; i < engine->n_points; i++)
		decide(engine, &engine->points[i]);
	clear_points(engine);
}

/* ---- hashes that come back ---- */

static void
look_again(Engine *engine, const HashItem *item, int64_t delay_us, uint64_t epoch,
		   int64_t scan_id)
{
	int64_t		due = engine_now_us() + delay_us;
	unsigned	hints = (item->hints & ~HINT_FOUND) | HINT_CONTENT;

	pending_retry(&engine->pending, item->job.path, item->job.len, hints, due,
				  epoch, scan_id, item->retries + 1);
	if (item->moved_from)
		pending_retry(&engine->pending, item->moved_from, item->moved_from_len,
					  HINT_GONE, due, epoch, scan_id, 0);
}

/* The file is not what was hashed, or nothing could be hashed. */
static void
hash_failed(Engine *engine, const HashItem *item)
{
	const HashJob *job = &item->job;
	int64_t		delay = job->duration_us * 10;
	int64_t		longest = (int64_t) engine->config.debounce_max_ms * 1000;

	if (delay < (int64_t) engine->config.debounce_ms * 1000)
		delay = (int64_t) engine->config.debounce_ms * 1000;
	if (delay > longest && job->duration_us < 1000000)
		delay = longest;

	switch (job->result)
	{
		case HASH_ERROR:
			if (job->error == EMFILE || job->error == ENFILE || job->error == ENOMEM)
			{
				look_again(engine, item, longest, EPOCH_NONE, item->scan_id);
				return;
			}
			report_problem(engine,
						   job->error == EACCES || job->error == EPERM ?
						   PROTO_PROBLEM_PERMISSION : PROTO_PROBLEM_IO,
						   job->error, job->path, job->len, item->scan_id);
			return;
		case HASH_LEASED:
			report_unhashed(engine, job->path, job->len, item->has_belief,
							PROTO_PROBLEM_LEASE, 0, item->scan_id);
			look_again(engine, item, longest, EPOCH_NONE, 0);
			return;
		case HASH_GONE:
			look_again(engine, item, item->retries < INSPECT_RETRIES ? 0 : delay,
					   item->epoch, item->scan_id);
			return;
		default:
			if (item->retries + 1 < INSPECT_RETRIES)
				look_again(engine, item, delay, item->epoch, item->scan_id);
			else
			{
				report_unhashed(engine, job->path, job->len, item->has_belief,
								PROTO_PROBLEM_CHANGING, 0, item->scan_id);
				look_again(engine, item, delay, EPOCH_NONE, 0);
			}
			return;
	}
}

static void
hash_done(Engine *engine, const HashItem *item)
{
	const HashJob *job = &item->job;
	const ProtoBelief *b = &item->belief;
	const ProtoStat *s = &job->info.stat;
	FileInfo	now;

	if (job->result != HASH_DONE ||
		beneath_stat(engine->root.fd, job->path, job->len, &now) < 0 ||
		!same_state(&now, &job->info))
	{
		hash_failed(engine, item);
		return;
	}
	if (item->moved_from != NULL)
	{
		report_moved(engine, b->id, item->moved_from, item->moved_from_len,
					 job->path, job->len, s, job->hash, item->scan_id);
		return;
	}
	report_file(engine,
				!item->has_belief ? PROTO_OP_ADDED :
				b->has_hash && b->size == s->size && b->mtime_ns == s->mtime_ns &&
				memcmp(b->hash, job->hash, PROTO_HASH_LEN) == 0 ?
				PROTO_OP_TOUCHED : PROTO_OP_UPDATED,
				job->path, job->len, s, job->hash, item->scan_id);
}

void
inspect_hashed(Engine *engine)
{
	HashJob    *job = hash_pool_collect(engine->pool);

	if (job != NULL && root_open(&engine->root, false) != ROOT_OK)
	{
		engine_root_trouble(engine, ROOT_MISSING);
		return;
	}
	while (job != NULL)
	{
		HashItem   *item = job->owner;
		HashJob    *next = job->next;

		if (!item->superseded)
		{
			if (item->scan_id != 0 && item->scan_id == engine->full.id)
				engine->full.bytes_hashed += job->bytes;
			hash_done(engine, item);
		}
		free_item(engine, item);
		job = next;
	}
}

uint64_t
inspect_min_epoch(const Engine *engine)
{
	uint64_t	min = EPOCH_NONE;

	for (size_t i = 0; i < engine->n_points; i++)
		if (engine->points[i].epoch < min)
			min = engine->points[i].epoch;
	for (size_t i = 0; i < engine->items.n_buckets; i++)
		for (TableLink *link = engine->items.buckets[i]; link; link = link->next)
		{
			const HashItem *item = table_container(link, HashItem, link);

			if (item->epoch < min)
				min = item->epoch;
		}
	return min;
}

bool
inspect_has_scan(const Engine *engine, int64_t scan_id)
{
	for (size_t i = 0; i < engine->n_points; i++)
		if (engine->points[i].scan_id == scan_id)
			return true;
	for (size_t i = 0; i < engine->items.n_buckets; i++)
		for (TableLink *link = engine->items.buckets[i]; link; link = link->next)
			if (table_container(link, HashItem, link)->scan_id == scan_id)
				return true;
	return false;
}

void
inspect_drop_scan(Engine *engine, int64_t scan_id)
{
	for (size_t i = 0; i < engine->items.n_buckets; i++)
		for (TableLink *link = engine->items.buckets[i]; link; link = link->next)
		{
			HashItem   *item = table_container(link, HashItem, link);

			if (item->scan_id == scan_id && item->epoch == EPOCH_NONE)
			{
				hash_pool_cancel(engine->pool, &item->job);
				item->superseded = true;
			}
		}
}
