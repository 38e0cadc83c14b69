/*-------------------------------------------------------------------------
 *
 * hashing.c
 *		Files that are hashed, and what comes of it.
 *
 * One hash of a path at a time: a newer one replaces it.  When the hash comes
 * back and the file is still as it was hashed, it is reported; else it is
 * looked at again, later and later.  A file that keeps changing has its row
 * meanwhile, with its last true hash or none, and a problem that says so.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* From this attempt on a file "keeps changing". */
#define HASHING_RETRIES		2

/* What could not be hashed for another reason than that it changes is tried
 * again after so long, however long the debounce. */
#define HASHING_RETRY_US	INT64_C(5000000)

/* Jobs that are handed to the pool together. */
#define HASHING_SUBMIT		64

/* Files that a scan of an empty repository found are not examined before. */
static bool
was_examined(const HashItem *item)
{
	return item->info.mode != 0;
}

static void
note_links(Engine *engine, const FileInfo *info, const char *path, size_t len)
{
	if (info->nlink > 1)
		links_note(engine->links, info, path, len);
}

static HashItem *
find_item(const Engine *engine, const char *path, size_t len)
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

/*
 * Whether a file of this size is still tracked: its size, or a .fsyncignore,
 * may be another than when it was inspected.
 */
static bool
is_wanted(Engine *engine, const char *path, size_t len, int64_t size, bool has_row)
{
	FilterVerdict verdict = FILTER_ACCEPTED;

	if (engine->rules != NULL)
		verdict = inspect_verdict(engine, path, len);
	return filter_accepts_size(engine->filter, size) &&
		(verdict == FILTER_ACCEPTED || (verdict == FILTER_UNSURE && has_row));
}

/* The row that a file without a hash has meanwhile, and why. */
static void
report_unhashed(Engine *engine, const char *path, size_t len, bool has_row,
				ProtoProblem problem, int error, int64_t scan_id)
{
	FileInfo	info;

	if (!has_row && beneath_stat(engine->root.fd, path, len, &info) == 0 &&
		S_ISREG(info.mode) && is_wanted(engine, path, len, info.stat.size, false))
		report_file(engine, PROTO_OP_ADDED, path, len, &info.stat, NULL, 0, 0, scan_id);
	report_problem(engine, problem, error, path, len, scan_id);
}

/*
 * Another hash of the path is under way, of an older state: the new one does
 * what it was to do.
 */
static void
supersede(Engine *engine, HashItem *before, HashItem *item)
{
	hash_pool_cancel(engine->pool, &before->job);
	before->superseded = true;
	if (before->epoch < item->epoch)
		item->epoch = before->epoch;
	item->scan_id = runs_who_waits(engine, item->scan_id, before->scan_id);
	if (before->since_us != 0 && (item->since_us == 0 || before->since_us < item->since_us))
		item->since_us = before->since_us;

	/* The file has changed; another look at the same state is no failure. */
	if (before->retries > item->retries)
		item->retries = before->retries;
	if (was_examined(before) && was_examined(item) &&
		!beneath_same_state(&before->info, &item->info))
		item->retries++;
	if (item->retries >= HASHING_RETRIES)
	{
		report_unhashed(engine, item->job.path, item->job.len, item->has_belief,
						PROTO_PROBLEM_CHANGING, 0, 0);
		item->epoch = EPOCH_NONE;
		item->scan_id = 0;
	}
	before->epoch = EPOCH_NONE;
	before->scan_id = 0;
}

/* Hashes the point's file, to be reported when that is done. */
void
hashing_submit(Engine *engine, const Point *p)
{
	HashItem   *item = calloc(1, sizeof(HashItem));
	HashItem   *before = find_item(engine, p->path, p->len);

	if (item != NULL)
		item->job.path = strndup(p->path, p->len);
	if (item == NULL || item->job.path == NULL ||
		!table_insert(&engine->items, &item->link, table_hash(p->path, p->len, 0)))
	{
		if (item != NULL)
			free(item->job.path);
		free(item);
		pending_starve(&engine->pending, 0, p->path, p->len, p->hints | HINT_CONTENT,
					   shortage_note(&engine->shortage, ENOMEM), p->since_us, p->epoch,
					   p->scan_id);
		return;
	}
	item->job.len = p->len;
	item->job.expected_size = p->info.stat.size;
	item->job.owner = item;
	item->node = p->node;
	item->info = p->info;
	item->hints = p->hints;
	item->epoch = p->epoch;
	item->scan_id = p->scan_id;
	item->retries = p->retries;
	item->since_us = p->since_us;
	item->batches_taken = engine->batches_taken;
	if (p->has_belief && !p->moved_away)
	{
		item->has_belief = true;
		item->belief = p->belief;
	}
	if (before != NULL)
		supersede(engine, before, item);
	names_insert(&engine->items_by_name, &item->by_name, item->node,
				 item->job.path, item->job.len);
	item->job.urgent = item->epoch != EPOCH_NONE || item->scan_id == 0;
	item->job.low = p->low;
	if (item->job.low)
		engine->low_items++;
	else if (!item->job.urgent)
		engine->scan_items++;
	*engine->to_submit_end = &item->job;
	engine->to_submit_end = &item->job.next;
	if (++engine->n_to_submit == HASHING_SUBMIT)
		hashing_start(engine);
}

void
hashing_start(Engine *engine)
{
	HashJob    *jobs = engine->to_submit;

	if (jobs == NULL)
		return;
	engine->to_submit = NULL;
	engine->to_submit_end = &engine->to_submit;
	engine->n_to_submit = 0;
	hash_pool_set_root(engine->pool, engine->root.fd);
	hash_pool_submit(engine->pool, jobs);
}

/*
 * A row has moved to a path whose file is being hashed, which was not examined
 * before: so it is the row's file, and no new one.
 */
void
hashing_row_came(Engine *engine, const char *path, size_t len, const ProtoBelief *row)
{
	HashItem   *item = find_item(engine, path, len);

	if (item == NULL || was_examined(item))
		return;
	item->has_belief = true;
	item->belief = *row;
}

/* There is no such file any more, and nobody is to wait for its hash. */
void
hashing_gone(Engine *engine, const char *path, size_t len)
{
	HashItem   *item = find_item(engine, path, len);

	if (item == NULL)
		return;
	hash_pool_cancel(engine->pool, &item->job);
	item->superseded = true;
	item->epoch = EPOCH_NONE;
	item->scan_id = 0;
}

/*
 * Large files, or what may be, that went with their directory: where they have no
 * row yet, the scan that ends here had nothing to say of them, and nobody else
 * would.
 */
void
hashing_look_for_files(Engine *engine, const Scan *scan)
{
	for (size_t i = 0; i < engine->items.n_buckets; i++)
		for (TableLink *link = engine->items.buckets[i]; link; link = link->next)
		{
			const HashItem *item = table_container(link, HashItem, link);
			const HashJob *job = &item->job;
			FileInfo	info;

			if (!item->superseded &&
				(job->expected_size >= HASH_LARGE_FILE || !was_examined(item)) &&
				scan_covers(scan, job->path, job->len) &&
				beneath_stat(engine->root.fd, job->path, job->len, &info) < 0 &&
				(errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
				hashing_gone(engine, job->path, job->len);
		}
}

/* Bytes that were read of files whose hash is not there yet. */
uint64_t
hashing_bytes_under_way(const Engine *engine, int64_t scan_id)
{
	uint64_t	bytes = 0;

	for (size_t i = 0; i < engine->items.n_buckets; i++)
		for (TableLink *link = engine->items.buckets[i]; link; link = link->next)
		{
			const HashItem *item = table_container(link, HashItem, link);

			if (item->scan_id == scan_id)
				bytes += hash_bytes(&item->job);
		}
	return bytes;
}

/*
 * The largest file that is to be hashed, as far as their sizes are known: those of
 * a first scan are not before they are opened.  NULL: there is none.
 */
const HashJob *
hashing_largest(const Engine *engine)
{
	const HashJob *largest = NULL;

	for (size_t i = 0; i < engine->items.n_buckets; i++)
		for (TableLink *link = engine->items.buckets[i]; link; link = link->next)
		{
			const HashItem *item = table_container(link, HashItem, link);

			if (!item->superseded &&
				(largest == NULL || hash_size(&item->job) > hash_size(largest)))
				largest = &item->job;
		}
	return largest;
}

/* A file of a repository without rows, found by a scan and not examined yet. */
void
hashing_new_file(Engine *engine, const Finding *finding, uint64_t epoch, int64_t scan_id,
				 LastDirectory *last)
{
	Point		p = {
		.path = (char *) finding->path, .len = finding->len, .hints = HINT_FOUND,
		.epoch = epoch, .scan_id = scan_id
	};

	if (engine->config.calculate_hashes)
	{
		hashing_submit(engine, &p);
		return;
	}
	if (beneath_stat_near(engine->root.fd, p.path, p.len, last, &p.info) < 0)
	{
		/* what the trouble is, and whether it lasts, an inspection tells */
		if (errno != ENOENT)
			pending_retry(&engine->pending, 0, p.path, p.len, p.hints, monotonic_us(), 0,
						  epoch, scan_id);
		return;
	}
	if (engine->rules != NULL && inspect_verdict(engine, p.path, p.len) == FILTER_UNSURE)
	{
		/* the same: rules that could not be read */
		pending_retry(&engine->pending, 0, p.path, p.len, p.hints, monotonic_us(), 0, epoch,
					  scan_id);
		return;
	}
	if (!S_ISREG(p.info.mode) ||
		!is_wanted(engine, p.path, p.len, p.info.stat.size, false))
		return;
	note_links(engine, &p.info, p.path, p.len);
	report_file(engine, PROTO_OP_ADDED, p.path, p.len, &p.info.stat, NULL, 0, 0, scan_id);
}

/* Whether the row of this path is known not to have the file's hash. */
bool
hashing_due(const Engine *engine, const char *path, size_t len)
{
	const Half *half = halves_of_name(&engine->halves, 0, path, len);
	unsigned	hints = pending_hints(&engine->pending, 0, path, len) | (half ? half->hints : 0);

	return find_item(engine, path, len) != NULL || (hints & (HINT_CONTENT | HINT_CLOSED)) != 0;
}

/* The hints of a name whose file is being hashed, or 0. */
unsigned
hashing_hints(const Engine *engine, uint64_t node, const char *name, size_t len)
{
	unsigned	hints = 0;

	for (NameLink *link = names_first(&engine->items_by_name, node, name, len);
		 link; link = names_next(link))
		hints |= table_container(link, HashItem, by_name)->hints | HINT_CONTENT;
	return hints;
}

/* ---- hashes that come back ---- */

/* What the item is called in the pending table: a name in its node's directory,
 * or the path. */
static const char *
pending_key(const HashItem *item)
{
	const char *slash = memrchr(item->job.path, '/', item->job.len);

	return item->node != 0 && slash ? slash + 1 : item->job.path;
}

static void
look_again(Engine *engine, const HashItem *item, unsigned hints, int64_t delay_us,
		   uint64_t epoch, int64_t scan_id)
{
	const char *name = pending_key(item);
	PendingName *p;

	p = pending_retry(&engine->pending, item->node, name,
					  item->job.len - (name - item->job.path),
					  item->hints | hints,
					  monotonic_us() + delay_us, item->since_us, epoch, scan_id);
	if (p != NULL)
		p->retries = item->retries + 1;
}

/*
 * The file could not be looked at for want of what this errno says: no news, and
 * whoever waits for it goes on waiting.
 */
static void
starve(Engine *engine, const HashItem *item, int error)
{
	const char *name = pending_key(item);
	PendingName *p;

	p = pending_starve(&engine->pending, item->node, name,
					   item->job.len - (name - item->job.path),
					   item->hints | HINT_CONTENT, shortage_note(&engine->shortage, error),
					   item->since_us, item->epoch, item->scan_id);
	if (p != NULL && item->retries > p->retries)
		p->retries = item->retries;
}

/* The file is not what was hashed, or nothing could be hashed. */
static void
hash_failed(Engine *engine, const HashItem *item)
{
	const HashJob *job = &item->job;
	int64_t		delay = job->duration_us * 10;
	int64_t		longest = (int64_t) engine->config.debounce_max_ms * 1000;
	int64_t		retry;

	if (delay < (int64_t) engine->config.debounce_ms * 1000)
		delay = (int64_t) engine->config.debounce_ms * 1000;
	if (delay > longest && job->duration_us < 1000000)
		delay = longest;
	retry = longest < HASHING_RETRY_US ? longest : HASHING_RETRY_US;

	switch (job->result)
	{
		case HASH_STARVED:
			if (inspect_starved(engine, job->path, job->len, job->error))
			{
				starve(engine, item, job->error);
				return;
			}
			/* FALLTHROUGH */
		case HASH_ERROR:
			if ((job->error == EACCES || job->error == EPERM) &&
				item->retries < HASHING_RETRIES &&
				!changes_closed(engine, job->path, job->len))
			{
				look_again(engine, item, HINT_CONTENT, 0, item->epoch, item->scan_id);
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
			look_again(engine, item, HINT_CONTENT, retry, EPOCH_NONE, 0);
			return;
		case HASH_GONE:
			look_again(engine, item, HINT_CONTENT | HINT_HALF,
					   item->retries < HASHING_RETRIES ? 0 :
					   delay < retry ? delay : retry,
					   item->epoch, item->scan_id);
			return;
		default:
			if (item->retries + 1 < HASHING_RETRIES)
				look_again(engine, item, HINT_CONTENT, delay, item->epoch, item->scan_id);
			else
			{
				report_unhashed(engine, job->path, job->len, item->has_belief,
								PROTO_PROBLEM_CHANGING, 0, item->scan_id);
				look_again(engine, item, HINT_CONTENT, delay, EPOCH_NONE, 0);
			}
			return;
	}
}

/*
 * Whether an event says that the file was written since it was inspected.  The
 * times do not move within one write(2), so a hash taken in the middle of one
 * shows only by the event at its end.
 */
static bool
written_since(const Engine *engine, const HashItem *item)
{
	const HashJob *job = &item->job;
	const char *name = pending_key(item);

	return (pending_hints(&engine->pending, item->node, name,
						  job->len - (name - job->path)) & HINT_CONTENT) != 0;
}

/*
 * Whether the path still names the file that was hashed.  It did when it was
 * opened; where everything is watched and no event has come since, it does.
 * *error is the errno where that could not be found out, or 0.
 */
static bool
is_still_there(Engine *engine, const HashItem *item, LastDirectory *last, int *error)
{
	const HashJob *job = &item->job;
	FileInfo	now;

	*error = 0;
	if (item->batches_taken == engine->batches_taken && changes_sees_all(engine))
		return true;
	if (beneath_stat_near(engine->root.fd, job->path, job->len, last, &now) < 0)
	{
		*error = errno;
		return false;
	}
	return beneath_same_state(&now, &job->info) && !written_since(engine, item);
}

static void
hash_done(Engine *engine, const HashItem *item, LastDirectory *last)
{
	const HashJob *job = &item->job;
	const ProtoBelief *b = &item->belief;
	const ProtoStat *s = &job->info.stat;
	int			error;

	if (job->result == HASH_DONE &&
		((was_examined(item) &&
		  (s->inode != item->info.stat.inode || s->btime_ns != item->info.stat.btime_ns)) ||
		 !is_wanted(engine, job->path, job->len, s->size, item->has_belief)))
	{
		/* Another file has come to this name: whose row it has is not known.
		 * Or it has become one that is not tracked. */
		look_again(engine, item, HINT_CONTENT | HINT_HALF, 0, item->epoch, item->scan_id);
		return;
	}
	if (job->result != HASH_DONE)
	{
		if (job->result == HASH_DONE)
			hash_pool_doubt(engine->pool, &job->info);
		hash_failed(engine, item);
		return;
	}
	if (!is_still_there(engine, item, last, &error))
	{
		if (inspect_starved(engine, job->path, job->len, error))
			starve(engine, item, error);
		else
			hash_failed(engine, item);
		return;
	}
	note_links(engine, &job->info, job->path, job->len);
	if (hash_pool_is_doubted(engine->pool, job))
	{
		/* an event of another name, which did not know of this one yet */
		look_again(engine, item, HINT_CONTENT | HINT_LINK, 0, item->epoch, item->scan_id);
		return;
	}
	report_file(engine,
				!item->has_belief ? PROTO_OP_ADDED :
				b->has_hash && b->size == s->size && b->mtime_ns == s->mtime_ns &&
				memcmp(b->hash, job->hash, PROTO_HASH_LEN) == 0 ?
				PROTO_OP_TOUCHED : PROTO_OP_UPDATED,
				job->path, job->len, s, job->hash, job->begun_us, job->bytes, item->scan_id);
}

/*
 * Reports what has been hashed.  Not while beliefs are on their way: they
 * would be older than what is sent here.
 */
void
hashing_collect(Engine *engine)
{
	HashJob    *job;
	LastDirectory last;
	RootTrouble trouble;

	if (engine->inspecting)
		return;
	inspect_forget_rules(engine);
	if (engine->items.count == 0)
		return;
	trouble = root_open(&engine->root, false);
	if (trouble != ROOT_OK)
	{
		engine_root_trouble(engine, trouble);
		return;
	}
	job = hash_pool_collect(engine->pool);
	if (job != NULL && engine->reader != NULL)
	{
		events_drain(engine->reader);
		changes_process_events(engine);
	}
	beneath_begin(&last);
	while (job != NULL)
	{
		HashItem   *item = job->owner;
		HashJob    *next = job->next;

		engine->done++;
		engine->done_for_scan += !job->urgent;
		if (job->low)
			engine->low_items--;
		else if (!job->urgent)
			engine->scan_items--;
		if (!item->superseded)
		{
			if (item->scan_id != 0 && item->scan_id == engine->full.id)
				engine->full.bytes_hashed += job->bytes;
			if (item->scan_id != 0 && item->scan_id == engine->asked.id)
				engine->asked.bytes_hashed += job->bytes;
			engine->statistics.counted.files_hashed++;
			engine->statistics.counted.bytes_hashed += job->bytes;
			engine->cause_us = job->low ? 0 : item->since_us;	/* nobody waited for that */
			hash_done(engine, item, &last);
			engine->cause_us = 0;
		}
		table_remove(&engine->items, &item->link);
		names_remove(&engine->items_by_name, &item->by_name);
		free(item->job.path);
		free(item);
		job = next;
	}
	beneath_end(&last);
}

/* ---- who waits for it ---- */

static void
for_each(const Engine *engine, void (*each) (Engine *, HashItem *, void *), void *arg)
{
	for (size_t i = 0; i < engine->items.n_buckets; i++)
		for (TableLink *link = engine->items.buckets[i]; link; link = link->next)
			each((Engine *) engine, table_container(link, HashItem, link), arg);
}

static void
min_epoch(Engine *engine, HashItem *item, void *arg)
{
	uint64_t   *min = arg;

	(void) engine;
	if (item->epoch < *min)
		*min = item->epoch;
}

uint64_t
hashing_min_epoch(const Engine *engine)
{
	uint64_t	min = EPOCH_NONE;

	for_each(engine, min_epoch, &min);
	return min;
}

typedef struct ScanUse
{
	int64_t		scan_id;
	bool		found;
} ScanUse;

static void
is_of_scan(Engine *engine, HashItem *item, void *arg)
{
	ScanUse    *use = arg;

	(void) engine;
	use->found |= item->scan_id == use->scan_id;
}

bool
hashing_has_scan(const Engine *engine, int64_t scan_id)
{
	ScanUse		use = {.scan_id = scan_id};

	for_each(engine, is_of_scan, &use);
	return use.found;
}

static void
drop_of_scan(Engine *engine, HashItem *item, void *arg)
{
	ScanUse    *use = arg;

	if (item->scan_id != use->scan_id)
		return;
	if (item->epoch == EPOCH_NONE)
	{
		hash_pool_cancel(engine->pool, &item->job);
		item->superseded = true;
	}
	item->scan_id = 0;
}

/* The scan waits for no file any more; those that an event named go on. */
void
hashing_drop_scan(Engine *engine, int64_t scan_id)
{
	ScanUse		use = {.scan_id = scan_id};

	for_each(engine, drop_of_scan, &use);
}

static void
renew(Engine *engine, HashItem *item, void *arg)
{
	(void) engine;
	item->retries = 0;
	if (item->epoch == EPOCH_NONE && item->scan_id == 0 && !item->superseded)
		item->epoch = *(uint64_t *) arg;
}

/*
 * A flush waits for what kept changing as well: for one more attempt, which
 * succeeds if the file is quiet by now.
 */
void
hashing_renew(Engine *engine, uint64_t epoch)
{
	for_each(engine, renew, &epoch);
}

static void
forget_node(Engine *engine, HashItem *item, void *arg)
{
	(void) arg;
	names_remove(&engine->items_by_name, &item->by_name);
	item->node = 0;
}

/* The watch tree is made anew: its nodes are others. */
void
hashing_forget_nodes(Engine *engine)
{
	for_each(engine, forget_node, NULL);
	for (size_t i = 0; i < engine->n_points; i++)
	{
		names_remove(&engine->points_by_name, &engine->points[i].by_name);
		engine->points[i].node = 0;
	}
}
