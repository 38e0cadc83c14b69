/*-------------------------------------------------------------------------
 *
 * scan.c
 *		Comparing what is on disk with what the worker believes.
 *
 * The thread asks for the next page of beliefs before it compares the one it
 * has, so that the worker reads rows while files are examined here.  The
 * engine, which owns the socket, passes requests and pages on; both sides
 * share the fields below the lock.
 *
 *-------------------------------------------------------------------------
 */
#include "scan.h"

#include "path_order.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define SCAN_PAGE_ROWS		10000
/* Enough for the two halves of a rename of a hundred thousand files. */
#define SCAN_SPOOL_MEMORY	(16 * 1024 * 1024)

/* Longer than the kernel lets a page be dirty (30 s and a few, see proc(5),
 * dirty_expire_centisecs). */
#define SCAN_EARLY_US		(INT64_C(60) * 1000000)

/* Files between two looks at the throttle. */
#define SCAN_THROTTLE_FILES	64

typedef struct Page
{
	char	   *data;			/* the body, to which paths point */
	ProtoBelief *beliefs;
	size_t		count;
	bool		last;
} Page;

struct Scan
{
	ScanOptions options;
	MountSet	guarded;
	MountSet	remote;			/* mounts that are not for local places */
	ScanPlace  *places;
	size_t		n_places;
	pthread_t	thread;
	Candidates *candidates;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_bool cancel;
	bool		ended;
	atomic_int	error;
	bool		wanted;			/* request is to be sent */
	ProtoBeliefsRequest request;
	ProtoBuf	request_text;	/* what request points to */
	bool		arrived;		/* page holds an answer */
	Page		page;

	Findings	findings;		/* has a lock of its own */

	atomic_uint_fast64_t files;
	atomic_uint_fast64_t believed;
	atomic_bool direct;			/* no rows at all */

	/* the thread's own */
	ThrottleMeter meter;
	Page		current;
	size_t		at;				/* in current */
	bool		requested;
	bool		streaming;		/* more pages follow */
	Spelling   *spelling;		/* of places */
	char	   *unknown;		/* rows below this directory stay */
	size_t		unknown_len;
};

bool
scan_belief_matches(const ProtoBelief *belief, const ProtoStat *stat)
{
	return belief->size == stat->size && belief->mtime_ns == stat->mtime_ns &&
		belief->ctime_ns == stat->ctime_ns && belief->inode == stat->inode &&
		(belief->btime_ns == stat->btime_ns || belief->btime_ns == PROTO_NO_TIME);
}

/*
 * By the kernel's clock, since a program sets the mtime to what it likes.  One
 * that was ahead by more must not have the file read again in every scan.
 */
bool
scan_doubts(const ProtoBelief *belief, int64_t since_ns)
{
	int64_t		after_us = belief->scanned_us - belief->ctime_ns / 1000;

	return belief->has_hash && belief->ctime_ns >= since_ns &&
		after_us < SCAN_EARLY_US && after_us > -SCAN_EARLY_US;
}

/* ---- beliefs, a page ahead ---- */

static void
page_free(Page *page)
{
	free(page->data);
	free(page->beliefs);
	memset(page, 0, sizeof(*page));
}

/* Asks for the rows of a place after a path; text is copied. */
static void
request_range(Scan *scan, const ScanPlace *place, const char *after, size_t len,
			  bool inclusive)
{
	ProtoBuf   *text = &scan->request_text;
	ProtoBeliefsRequest *r = &scan->request;

	pthread_mutex_lock(&scan->lock);
	proto_buf_free(text);
	proto_buf_init(text);
	memset(r, 0, sizeof(*r));
	if (proto_buf_reserve(text, len + place->len + 2) == NULL)
		scan->error = ENOMEM;
	else
	{
		memcpy(text->data, after, len);
		memcpy(text->data + len, place->path, place->len);
		r->kind = PROTO_BELIEFS_RANGE;
		r->inclusive = inclusive;
		r->after.data = text->data;
		r->after.len = len;
		r->before.data = text->data + len;
		if (place->len > 0)
		{
			/* the first path after everything that begins with place/ */
			text->data[len + place->len] = '/' + 1;
			r->before.len = place->len + 1;
		}
		r->limit = SCAN_PAGE_ROWS;
		scan->wanted = true;
		scan->requested = true;
	}
	pthread_mutex_unlock(&scan->lock);
	eventfd_write(scan->options.notify_fd, 1);
}

/* Waits for the page asked for and makes it the current one. */
static bool
next_page(Scan *scan)
{
	findings_flush(&scan->findings);
	pthread_mutex_lock(&scan->lock);
	while (!scan->arrived && !scan->cancel && scan->error == 0)
		pthread_cond_wait(&scan->changed, &scan->lock);
	page_free(&scan->current);
	if (scan->arrived)
	{
		scan->current = scan->page;
		memset(&scan->page, 0, sizeof(scan->page));
		scan->arrived = false;
	}
	scan->at = 0;
	scan->requested = false;
	pthread_mutex_unlock(&scan->lock);
	return !scan->cancel && scan->error == 0;
}

static bool
next_range_page(Scan *scan, const ScanPlace *place)
{
	if (!next_page(scan))
		return false;
	atomic_fetch_add(&scan->believed, scan->current.count);
	scan->streaming = !scan->current.last;
	if (scan->streaming && scan->current.count > 0)
	{
		const ProtoStr *path = &scan->current.beliefs[scan->current.count - 1].path;

		request_range(scan, place, path->data, path->len, false);
	}
	else
		scan->streaming = false;
	return true;
}

/* The belief to compare next, or NULL at the end of the place. */
static const ProtoBelief *
peek_belief(Scan *scan, const ScanPlace *place)
{
	while (scan->at == scan->current.count)
	{
		if (!scan->streaming || !next_range_page(scan, place))
			return NULL;
	}
	return &scan->current.beliefs[scan->at];
}

/* ---- results ---- */

static bool
add_finding(Scan *scan, FindingKind kind, const char *path, size_t len,
			ProtoProblem problem, int error)
{
	if (findings_add(&scan->findings, kind, path, len, problem, error))
		return true;
	scan->error = ENOMEM;
	return false;
}

static bool
add_problem(Scan *scan, const WalkEntry *entry)
{
	ProtoProblem problem = PROTO_PROBLEM_IO;

	if (entry->kind == WALK_BAD_NAME)
		problem = PROTO_PROBLEM_ENCODING;
	else if (entry->kind == WALK_TOO_LONG)
		problem = PROTO_PROBLEM_TOO_LONG;
	else if (entry->kind == WALK_GUARDED)
		problem = PROTO_PROBLEM_MOUNT;
	else if (entry->error == EACCES || entry->error == EPERM)
		problem = PROTO_PROBLEM_PERMISSION;
	return add_finding(scan, entry->kind == WALK_UNKNOWN_RULES ? FINDING_RULES :
					   FINDING_PROBLEM, entry->path, entry->len, problem,
					   entry->error);
}

static bool
add_candidate(Scan *scan, CandidateKind kind, const char *path, size_t len,
			  int64_t inode, int64_t btime_ns, int64_t size, int64_t mtime_ns)
{
	Candidate	c = {
		.kind = kind, .path = path, .len = len, .inode = inode,
		.btime_ns = btime_ns, .size = size, .mtime_ns = mtime_ns
	};

	if (candidates_add(scan->candidates, &c) == 0)
		return true;
	scan->error = errno;
	return false;
}

static bool
add_file(Scan *scan, const char *path, size_t len, const FileInfo *info)
{
	if (scan->direct)
		return add_finding(scan, FINDING_ADDED, path, len, 0, 0);
	return add_candidate(scan, CANDIDATE_ADDED, path, len, info->stat.inode,
						 info->stat.btime_ns, info->stat.size, info->stat.mtime_ns);
}

/* A row whose file the walk did not show. */
static bool
add_missing(Scan *scan, const ProtoBelief *b)
{
	if (scan->unknown != NULL && b->path.len > scan->unknown_len &&
		memcmp(b->path.data, scan->unknown, scan->unknown_len) == 0 &&
		b->path.data[scan->unknown_len] == '/')
		return true;
	return add_candidate(scan, CANDIDATE_REMOVED, b->path.data, b->path.len,
						 b->inode, b->btime_ns, b->size, b->mtime_ns);
}

static bool
compare_file(Scan *scan, const ProtoBelief *b, const FileInfo *info)
{
	if (scan_belief_matches(b, &info->stat) && !scan->options.distrust &&
		(!scan->options.calculate_hashes ||
		 (b->has_hash && !scan_doubts(b, scan->options.doubt_since_ns))))
		return true;

	/*
	 * Another file under the name: its row may have moved elsewhere, and it
	 * may have come from elsewhere.  The engine sorts it out; here both halves
	 * count for matching.
	 */
	if (b->btime_ns != PROTO_NO_TIME && info->stat.btime_ns != PROTO_NO_TIME &&
		(b->inode != info->stat.inode || b->btime_ns != info->stat.btime_ns))
		return add_candidate(scan, CANDIDATE_REMOVED, b->path.data, b->path.len,
							 b->inode, b->btime_ns, b->size, b->mtime_ns) &&
			add_candidate(scan, CANDIDATE_ADDED, b->path.data, b->path.len,
						  info->stat.inode, info->stat.btime_ns,
						  info->stat.size, info->stat.mtime_ns);
	return add_candidate(scan, CANDIDATE_CHANGED, b->path.data, b->path.len,
						 info->stat.inode, info->stat.btime_ns,
						 info->stat.size, info->stat.mtime_ns);
}

/* ---- the merge ---- */

/*
 * Whether files that are new need not be examined here: who gets them will,
 * and what size they have does not matter before.
 */
static bool
engine_examines_all(const ScanOptions *options)
{
	return !options->calculate_hashes ||
		(filter_accepts_size(options->filter, 0) &&
		 filter_accepts_size(options->filter, INT64_MAX));
}

static bool
scan_place(Scan *scan, const ScanPlace *place)
{
	WalkOptions options = {
		.filter = scan->options.filter,
		.utf8 = scan->options.utf8,
		.guarded = &scan->guarded,
		.remote = place->local ? &scan->remote : NULL,
		.throttle = scan->options.throttle,
		.shortage = scan->options.shortage,
		.cancel = &scan->cancel
	};
	Walk	   *walk = NULL;
	WalkEntry	entry;
	const ProtoBelief *b;
	char		after[PROTO_PATH_MAX + 2];
	bool		there;
	bool		ok = false;
	int			more;

	/* a spelling that no directory lists: there is nothing at this path */
	there = place->len == 0 ||
		spelling_of(scan->spelling, scan->options.rootfd, place->path, place->len, 0) !=
		SPELLING_OTHER;
	memcpy(after, place->path, place->len);
	after[place->len] = '/';
	request_range(scan, place, after, place->len > 0 ? place->len + 1 : 0, true);
	if (!next_range_page(scan, place))
		return false;
	scan->direct = place->len == 0 && scan->current.count == 0 && !scan->streaming;
	options.names_only = scan->direct && engine_examines_all(&scan->options);
	walk = walk_open(scan->options.rootfd, place->path, place->len, &options);
	if (walk == NULL)
	{
		scan->error = ENOMEM;
		return false;
	}

	while ((more = there ? walk_next(walk, &entry) : 0) == 1)
	{
		int			c = -1;

		if (scan->cancel)
			goto done;
		if (entry.kind == WALK_UNKNOWN_RULES)
		{
			if (!add_problem(scan, &entry))
				goto done;
			continue;
		}
		while ((b = peek_belief(scan, place)) != NULL &&
			   (c = path_order(b->path.data, b->path.len, entry.path, entry.len)) < 0)
		{
			if (!add_missing(scan, b))
				goto done;
			scan->at++;
		}
		if (b == NULL)
		{
			if (scan->error != 0)
				goto done;
			c = 1;
		}
		switch (entry.kind)
		{
			case WALK_FILE:
				if (atomic_fetch_add(&scan->files, 1) % SCAN_THROTTLE_FILES == 0)
					throttle_pass(&scan->meter, &scan->cancel);
				if (!options.names_only && entry.info.nlink > 1)
					links_note(scan->options.links, &entry.info, entry.path, entry.len);
				if (c == 0 ? !compare_file(scan, b, &entry.info) :
					!entry.unsure && !add_file(scan, entry.path, entry.len, &entry.info))
					goto done;
				break;
			case WALK_UNKNOWN_DIRECTORY:
			case WALK_GUARDED:
			case WALK_REMOTE:
				/* a row of the directory's own name is not below it */
				if (c == 0 && !add_missing(scan, b))
					goto done;
				free(scan->unknown);
				scan->unknown = strndup(entry.path, entry.len);
				scan->unknown_len = entry.len;
				if (scan->unknown == NULL)
				{
					scan->error = ENOMEM;
					goto done;
				}
				/* FALLTHROUGH */
			case WALK_REFUSED:
			case WALK_UNKNOWN_RULES:
			case WALK_UNKNOWN_FILE:
			case WALK_BAD_NAME:
			case WALK_TOO_LONG:
				if (entry.kind != WALK_REMOTE && !add_problem(scan, &entry))
					goto done;
				break;
		}
		if (c == 0)
			scan->at++;
	}
	if (more < 0)
	{
		scan->error = errno;
		goto done;
	}
	while ((b = peek_belief(scan, place)) != NULL)
	{
		if (!add_missing(scan, b))
			goto done;
		scan->at++;
	}
	ok = scan->error == 0;
done:
	walk_close(walk);
	free(scan->unknown);
	scan->unknown = NULL;
	return ok;
}

static void *
scan_main(void *arg)
{
	Scan	   *scan = arg;
	bool		ok = true;

	throttle_begin(&scan->meter, scan->options.throttle);
	for (size_t i = 0; ok && i < scan->n_places; i++)
		ok = scan_place(scan, &scan->places[i]);
	spelling_forget(scan->spelling);
	if (ok && candidates_match(scan->candidates) < 0)
		scan->error = errno;
	throttle_end(&scan->meter);
	findings_flush(&scan->findings);
	pthread_mutex_lock(&scan->lock);
	page_free(&scan->current);
	scan->ended = true;
	pthread_mutex_unlock(&scan->lock);
	eventfd_write(scan->options.notify_fd, 1);
	return NULL;
}

/* ---- the engine's side ---- */

bool
scan_covers(const Scan *scan, const char *path, size_t len)
{
	return scan_place_covers(scan->places, scan->n_places, path, len);
}

bool
scan_concerns(const Scan *scan, const char *path, size_t len)
{
	size_t		low = 0;
	size_t		high = scan->n_places;

	if (scan_covers(scan, path, len))
		return true;
	while (low < high)
	{
		size_t		mid = low + (high - low) / 2;
		const ScanPlace *place = &scan->places[mid];

		if (path_order(place->path, place->len, path, len) < 0)
			low = mid + 1;
		else
			high = mid;
	}

	/* what begins with path comes at once, but not only what is below it */
	for (; low < scan->n_places; low++)
	{
		const ScanPlace *place = &scan->places[low];

		if (place->len < len || memcmp(place->path, path, len) != 0)
			return false;
		if (len == 0 || place->path[len] == '/')
			return true;
	}
	return false;
}

static void
free_places(ScanPlace *places, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(places[i].path);
	free(places);
}

static bool
copy_mounts(MountSet *to, const MountSet *from)
{
	if (from == NULL || from->count == 0)
		return true;
	to->mounts = calloc(from->count, sizeof(Mount));
	if (to->mounts == NULL)
		return false;
	for (; to->count < from->count; to->count++)
	{
		Mount	   *m = &to->mounts[to->count];

		*m = from->mounts[to->count];
		m->path = strndup(m->path, m->len);
		if (m->path == NULL)
			return false;
	}
	return true;
}

/* Copies those that are polled. */
static bool
copy_remote_mounts(MountSet *to, const MountSet *from)
{
	MountSet	polled = {0};
	bool		copied = true;

	for (size_t i = 0; from != NULL && i < from->count; i++)
		polled.count += from->mounts[i].polled;
	if (polled.count == 0)
		return true;
	polled.mounts = calloc(polled.count, sizeof(Mount));
	if (polled.mounts == NULL)
		return false;
	polled.count = 0;
	for (size_t i = 0; i < from->count; i++)
		if (from->mounts[i].polled)
			polled.mounts[polled.count++] = from->mounts[i];
	copied = copy_mounts(to, &polled);
	free(polled.mounts);
	return copied;
}

Scan *
scan_start(ScanPlace *places, size_t *n_places, const ScanOptions *options)
{
	Scan	   *scan = calloc(1, sizeof(Scan));
	pthread_attr_t attr;
	int			error = ENOMEM;

	if (scan == NULL)
	{
		errno = error;
		return NULL;
	}
	scan->options = *options;
	scan->places = places;
	scan->n_places = *n_places = scan_reduce_places(places, *n_places);
	findings_init(&scan->findings, options->notify_fd);
	proto_buf_init(&scan->request_text);
	pthread_mutex_init(&scan->lock, NULL);
	pthread_cond_init(&scan->changed, NULL);
	scan->candidates = candidates_create(options->spools, SCAN_SPOOL_MEMORY);
	scan->spelling = spelling_create(&options->folding);
	if (scan->candidates != NULL && scan->spelling != NULL &&
		copy_mounts(&scan->guarded, options->guarded) &&
		copy_remote_mounts(&scan->remote, options->mounts))
	{
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 256 * 1024);
		error = pthread_create(&scan->thread, &attr, scan_main, scan);
		pthread_attr_destroy(&attr);
		if (error == 0)
			return scan;
	}
	scan->thread = pthread_self();
	scan->places = NULL;
	scan->n_places = 0;
	scan_free(scan);
	errno = error;
	return NULL;
}

void
scan_cancel(Scan *scan)
{
	pthread_mutex_lock(&scan->lock);
	scan->cancel = true;
	pthread_cond_broadcast(&scan->changed);
	pthread_mutex_unlock(&scan->lock);
	findings_cancel(&scan->findings);
}

void
scan_free(Scan *scan)
{
	if (!pthread_equal(scan->thread, pthread_self()))
	{
		scan_cancel(scan);
		pthread_join(scan->thread, NULL);
	}
	findings_free(&scan->findings);
	page_free(&scan->page);
	page_free(&scan->current);
	proto_buf_free(&scan->request_text);
	if (scan->candidates != NULL)
		candidates_free(scan->candidates);
	spelling_free(scan->spelling);
	mounts_free(&scan->guarded);
	mounts_free(&scan->remote);
	free_places(scan->places, scan->n_places);
	pthread_mutex_destroy(&scan->lock);
	pthread_cond_destroy(&scan->changed);
	free(scan);
}

bool
scan_wants_beliefs(Scan *scan, ProtoBeliefsRequest *request)
{
	bool		wanted;

	pthread_mutex_lock(&scan->lock);
	wanted = scan->wanted;
	if (wanted)
		*request = scan->request;
	scan->wanted = false;
	pthread_mutex_unlock(&scan->lock);
	return wanted;
}

bool
scan_give_beliefs(Scan *scan, const ProtoBeliefsHeader *header, ProtoReader body)
{
	Page		page = {.count = header->count, .last = header->last};
	size_t		len = body.end - body.p;
	ProtoReader r;

	/* each belief takes more than one byte: a count cannot be that large */
	if (header->count > len)
		return false;
	page.data = malloc(len + 1);
	page.beliefs = calloc(header->count + 1, sizeof(ProtoBelief));
	if (page.data == NULL || page.beliefs == NULL)
	{
		page_free(&page);
		return false;
	}
	memcpy(page.data, body.p, len);
	r = proto_reader(page.data, len);
	for (size_t i = 0; i < page.count; i++)
	{
		if (!proto_get_belief(&r, &page.beliefs[i]))
		{
			page_free(&page);
			return false;
		}
	}
	pthread_mutex_lock(&scan->lock);
	page_free(&scan->page);
	scan->page = page;
	scan->arrived = true;
	pthread_cond_broadcast(&scan->changed);
	pthread_mutex_unlock(&scan->lock);
	return true;
}

Finding *
scan_take_finding(Scan *scan)
{
	return findings_take(&scan->findings);
}

void
scan_status(Scan *scan, ScanStatus *status)
{
	pthread_mutex_lock(&scan->lock);
	status->finished = scan->ended;
	status->cancelled = scan->cancel;
	status->error = scan->error;
	status->failed = scan->error != 0;
	pthread_mutex_unlock(&scan->lock);
	status->finished = status->finished && !findings_left(&scan->findings);
	status->direct = scan->direct;
	status->files = atomic_load(&scan->files);
	status->believed = atomic_load(&scan->believed);
}

const ScanPlace *
scan_places_of(const Scan *scan, size_t *n)
{
	*n = scan->n_places;
	return scan->places;
}

Candidates *
scan_candidates(Scan *scan)
{
	return scan->candidates;
}
