/*-------------------------------------------------------------------------
 *
 * noisy.c
 *		Directories whose files are written faster than events can be read.
 *
 * Two files that are written by turns fill the kernel's queue in some twenty
 * milliseconds, and each time that it overflows everything has to be compared.
 * So a directory that made it overflow twice is watched without IN_MODIFY:
 * names that come and go, and files that are closed, are reported as before;
 * what is written without being closed is found by looking at the directory's
 * files every second, and at each flush.  Once they are quiet, IN_MODIFY
 * returns.
 *
 * A look compares each file's stat, of which a fingerprint is kept, with that
 * of the look before.  It only says which names are to be inspected.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "beneath.h"
#include "grow.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A directory is to blame for an overflow with a third of at least so many. */
#define NOISY_EVENTS		1000
#define NOISY_OVERFLOWS		2
#define NOISY_FORGET_US		(INT64_C(600) * 1000000)

/* Between two looks: this, or more where a look takes more than a twentieth. */
#define NOISY_PAUSE_US		1000000
#define NOISY_PAUSE_LOOKS	20

/* Nothing is written to its files any more. */
#define NOISY_QUIET_US		(INT64_C(30) * 1000000)

/* ---- which directories ---- */

static void
forget(NoisyDirectory *d)
{
	free(d->seen);
	memset(d, 0, sizeof(*d));
}

/* The directory's entry; a new one if there is room, else NULL. */
static NoisyDirectory *
entry_of(Engine *engine, dev_t dev, ino_t ino, int64_t now)
{
	NoisyDirectory *unused = NULL;

	for (int i = 0; i < NOISY_MAX; i++)
	{
		NoisyDirectory *d = &engine->noisy[i];

		if (!d->polled && now - d->last_us > NOISY_FORGET_US)
			forget(d);
		if (d->overflows == 0)
			unused = d;
		else if (d->dev == dev && d->ino == ino)
			return d;
	}
	if (unused != NULL)
	{
		unused->dev = dev;
		unused->ino = ino;
	}
	return unused;
}

static void
log_path(Engine *engine, NoisyDirectory *d, const char *what)
{
	char		path[PROTO_PATH_MAX + 1];

	if (!watch_tree_is_at(engine->watches, d->node, d->dev, d->ino))
		d->node = watch_tree_find(engine->watches, d->dev, d->ino);
	if (watch_tree_path(engine->watches, d->node, path) >= 0)
		engine_log(engine, 'L', "directory \"%.500s\": %s", path[0] != '\0' ? path : ".", what);
}

bool
noisy_is_polled(const Engine *engine, dev_t dev, ino_t ino)
{
	for (int i = 0; i < NOISY_MAX; i++)
		if (engine->noisy[i].polled && engine->noisy[i].dev == dev && engine->noisy[i].ino == ino)
			return true;
	return false;
}

bool
noisy_any_polled(const Engine *engine)
{
	for (int i = 0; i < NOISY_MAX; i++)
		if (engine->noisy[i].polled)
			return true;
	return false;
}

void
noisy_overflow(Engine *engine)
{
	int64_t		now = monotonic_us();

	for (int i = 0; i < EVENTS_BUSIEST; i++)
	{
		const BusyWatch *busy = &engine->batch.busiest[i];
		NoisyDirectory *d;
		dev_t		dev;
		ino_t		ino;

		if (busy->modified < NOISY_EVENTS || busy->modified < engine->batch.decoded / 3 ||
			!watch_tree_identify(engine->watches, busy->wd, &dev, &ino))
			continue;
		d = entry_of(engine, dev, ino, now);
		if (d == NULL || d->polled)
			continue;
		d->last_us = now;
		if (++d->overflows < NOISY_OVERFLOWS)
			continue;
		d->polled = true;
		d->due_us = now;
		log_path(engine, d, "files are written faster than events can be read: they are looked at every second");
	}
}

/* ---- looking at their files ---- */

static int
compare_fingerprints(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a;
	uint64_t	y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

static uint64_t
fingerprint(const char *name, const ProtoStat *stat)
{
	int64_t		key[] = {stat->inode, stat->size, stat->mtime_ns, stat->ctime_ns};

	return table_hash(key, sizeof(key), table_hash(name, strlen(name), 0));
}

/* Without memory a file is only noted more often than it need be. */
static void
keep(uint64_t **prints, size_t *n, size_t *capacity, uint64_t print)
{
	uint64_t   *p = grow(*prints, capacity, *n + 1, sizeof(uint64_t));

	if (p == NULL)
		return;
	*prints = p;
	p[(*n)++] = print;
}

/* A descriptor of the directory where the tree has it, or -1. */
static int
open_directory(Engine *engine, const NoisyDirectory *d)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len = watch_tree_path(engine->watches, d->node, path);
	FileInfo	info;
	int			fd = len < 0 ? -1 :
		beneath_open_directory(engine->root.fd, path, (size_t) len, O_RDONLY);

	if (fd >= 0 && (beneath_stat_fd(fd, &info) < 0 || info.dev != d->dev ||
					(ino_t) info.stat.inode != d->ino))
	{
		close(fd);
		errno = ENOENT;
		return -1;
	}
	return fd;
}

typedef struct NoisyName
{
	Engine	   *engine;
	const char *name;
	size_t		len;
	int64_t		now_us;
	bool		noted;
} NoisyName;

static void
note(void *arg, uint64_t node)
{
	NoisyName  *n = arg;

	n->noted &= pending_note(&n->engine->pending, node, n->name, n->len, HINT_META, n->now_us,
							 n->engine->epoch) != NULL;
}

/* In all places of the directory; false when out of memory. */
static bool
note_everywhere(Engine *engine, uint64_t node, const char *name, size_t len, int64_t now_us)
{
	NoisyName	n = {engine, name, len, now_us, true};

	note(&n, node);
	watch_tree_aliases(engine->watches, node, note, &n);
	return n.noted;
}

/*
 * What could not be looked at for want of anything is compared later, and whoever
 * waits for the look waits for that.
 */
static void
put_off(Engine *engine, const NoisyDirectory *d)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len = watch_tree_path(engine->watches, d->node, path);

	if (len >= 0)
		changes_want_subtree(engine, path, (size_t) len, engine->epoch);
}

/*
 * Notes the files that are not as they were when this was last called.  One
 * that cannot be examined, and a directory that is not where it was or may not
 * be read, are for the events that they come with.  False with errno if the
 * directory could not be read.
 */
static bool
look(Engine *engine, NoisyDirectory *d)
{
	int			fd = open_directory(engine, d);
	DIR		   *dir = fd >= 0 ? fdopendir(fd) : NULL;
	int64_t		now = monotonic_us();
	struct dirent *entry;
	uint64_t   *prints = NULL;
	size_t		n = 0;
	size_t		capacity = 0;
	bool		lacking = false;

	if (dir == NULL)
	{
		int			error = errno;

		if (fd >= 0)
			close(fd);
		if (shortage_is(error))
			put_off(engine, d);
		errno = error;
		return false;
	}
	while ((errno = 0, entry = readdir(dir)) != NULL)
	{
		size_t		len = strlen(entry->d_name);
		FileInfo	info;
		uint64_t	print;

		/* what is not tracked fills the queue all the same */
		if (entry->d_type == DT_DIR)
			continue;
		if (beneath_stat_at(dirfd(dir), entry->d_name, &info) < 0)
		{
			lacking |= shortage_is(errno);
			continue;
		}
		if (S_ISDIR(info.mode))
			continue;
		print = fingerprint(entry->d_name, &info.stat);
		if (d->n_seen == 0 || bsearch(&print, d->seen, d->n_seen, sizeof(uint64_t),
									  compare_fingerprints) == NULL)
		{
			d->last_us = now;
			if (S_ISREG(info.mode) && !filter_ignores_name(engine->filter, entry->d_name, len) &&
				!note_everywhere(engine, d->node, entry->d_name, len, now))
				continue;		/* no memory: everything is compared */
		}
		keep(&prints, &n, &capacity, print);
	}
	if (lacking || shortage_is(errno))
		put_off(engine, d);
	closedir(dir);
	if (n > 0)
		qsort(prints, n, sizeof(uint64_t), compare_fingerprints);
	free(d->seen);
	d->seen = prints;
	d->n_seen = n;
	return true;
}

/* Has writing reported again, and looks for what was written until then. */
static void
listen_again(Engine *engine, NoisyDirectory *d)
{
	d->polled = false;
	if (!watch_tree_renew(engine->watches, engine->root.fd, d->node))
	{
		d->polled = true;
		return;
	}
	(void) look(engine, d);
	free(d->seen);
	d->seen = NULL;
	d->n_seen = 0;
	d->overflows = NOISY_OVERFLOWS - 1;
	log_path(engine, d, "its files are quiet: what is written to them is an event again");
}

static void
poll_directory(Engine *engine, NoisyDirectory *d)
{
	int64_t		start = monotonic_us();
	int64_t		pause = NOISY_PAUSE_US;

	if (!watch_tree_is_at(engine->watches, d->node, d->dev, d->ino))
		d->node = watch_tree_find(engine->watches, d->dev, d->ino);
	if (d->node != 0 && !look(engine, d) && (errno == EACCES || errno == EPERM))
		pause = NOISY_QUIET_US; /* that it may be read again is an event */
	if (d->node == 0 && !engine->resolving)
	{
		forget(d);				/* it is gone */
		return;
	}
	if (d->node != 0 && start - d->last_us > NOISY_QUIET_US)
		listen_again(engine, d);
	if (pause < (monotonic_us() - start) * NOISY_PAUSE_LOOKS)
		pause = (monotonic_us() - start) * NOISY_PAUSE_LOOKS;
	d->due_us = monotonic_us() + pause;
}

void
noisy_poll(Engine *engine, bool all)
{
	int64_t		now = monotonic_us();
	RootTrouble trouble = ROOT_OK;
	bool		looked = false;

	if (engine->watches == NULL || engine->building)
		return;
	for (int i = 0; i < NOISY_MAX && trouble == ROOT_OK; i++)
	{
		NoisyDirectory *d = &engine->noisy[i];

		if (!d->polled || (!all && d->due_us > now))
			continue;
		trouble = root_open(&engine->root, false);
		if (trouble == ROOT_OK)
			poll_directory(engine, d);
		else if (trouble == ROOT_STARVED)
		{
			d->due_us = shortage_note(&engine->shortage, errno);
			put_off(engine, d);
			trouble = ROOT_OK;
			continue;
		}
		looked = true;
	}
	if (trouble != ROOT_OK)
		engine_root_trouble(engine, trouble);
	else if (looked)
	{
		/* a name that a rename brought is no news without its events */
		events_drain(engine->reader);
		changes_process_events(engine);
	}
}

int64_t
noisy_due(const Engine *engine)
{
	int64_t		due = INT64_MAX;

	if (engine->watches == NULL || engine->building)
		return INT64_MAX;
	for (int i = 0; i < NOISY_MAX; i++)
		if (engine->noisy[i].polled && engine->noisy[i].due_us < due)
			due = engine->noisy[i].due_us;
	return due;
}
