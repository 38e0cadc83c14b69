/*-------------------------------------------------------------------------
 *
 * spelling.c
 *		Whether a name is the one that its directory lists.
 *
 * Paths come in order, so the directories of the last one are kept as levels,
 * each above the next, with what is known of them; of these the next path keeps
 * those that it is below.
 *
 * That two spellings lead to one file must not be concluded from a race: a file
 * that is renamed to and fro between them, while the directory is read, looks
 * the same for a moment.  So both are seen to be there several times by turns.
 *
 *-------------------------------------------------------------------------
 */
#include "spelling.h"

#include "grow.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* FUSE's longest name, in bytes; those of local file systems are shorter. */
#define SPELLING_NAME_MAX	1024

/* Both spellings are seen so often, by turns. */
#define SPELLING_TURNS		4

typedef struct Listed
{
	size_t		offset;			/* in the arena; terminated there */
	size_t		len;
	ino_t		ino;
} Listed;

typedef struct Listing
{
	char	   *arena;
	size_t		used;
	size_t		arena_cap;
	Listed	   *names;			/* in the order of compare_listed() */
	size_t		n;
	size_t		names_cap;
} Listing;

typedef enum LevelState
{
	LEVEL_UNKNOWN,
	LEVEL_EXACT,				/* names are what they are */
	LEVEL_FOLDS,
} LevelState;

typedef struct Level
{
	size_t		len;			/* of the directory's path */
	LevelState	state;
	bool		listed;
	Listing		listing;
} Level;

struct Spelling
{
	SpellingDevices folding;
	SpellingStat stat_at;
	Level	   *levels;
	size_t		n_levels;
	size_t		levels_cap;
	char		path[PATH_MAX]; /* of the last level */
};

Spelling *
spelling_create(const SpellingDevices *known)
{
	Spelling   *spelling = calloc(1, sizeof(Spelling));

	if (spelling == NULL)
		return NULL;
	if (known != NULL)
		spelling->folding = *known;
	spelling->stat_at = beneath_stat_at;
	return spelling;
}

void
spelling_set_stat(Spelling *spelling, SpellingStat stat_at)
{
	spelling->stat_at = stat_at;
}

const SpellingDevices *
spelling_devices(const Spelling *spelling)
{
	return &spelling->folding;
}

static void
pop_level(Spelling *spelling)
{
	Listing    *listing = &spelling->levels[--spelling->n_levels].listing;

	free(listing->arena);
	free(listing->names);
}

void
spelling_forget(Spelling *spelling)
{
	while (spelling->n_levels > 0)
		pop_level(spelling);
}

void
spelling_free(Spelling *spelling)
{
	if (spelling == NULL)
		return;
	spelling_forget(spelling);
	free(spelling->levels);
	free(spelling);
}

size_t
spelling_directory(const char *path, size_t len)
{
	const char *slash = memrchr(path, '/', len);

	return slash != NULL ? (size_t) (slash - path) + 1 : 0;
}

/* The same without the '/'. */
static size_t
directory_length(const char *path, size_t len)
{
	size_t		start = spelling_directory(path, len);

	return start > 0 ? start - 1 : 0;
}

/* ---- devices ---- */

static bool
device_folds(const Spelling *spelling, dev_t dev)
{
	size_t		n = spelling->folding.count;

	for (size_t i = 0; i < n && i < SPELLING_DEVICES; i++)
		if (spelling->folding.devices[i] == dev)
			return true;
	return false;
}

static void
remember_device(Spelling *spelling, dev_t dev)
{
	if (!device_folds(spelling, dev))
		spelling->folding.devices[spelling->folding.count++ % SPELLING_DEVICES] = dev;
}

/* ---- levels ---- */

/* Whether the first len bytes of path are the level's directory or above it. */
static bool
is_prefix(const Spelling *spelling, const Level *level, const char *path, size_t len)
{
	return level->len <= len && memcmp(spelling->path, path, level->len) == 0 &&
		(level->len == len || level->len == 0 || path[level->len] == '/');
}

/*
 * The level of a directory, the first len bytes of a path whose directory part
 * has `last` bytes: what is on the way there is kept.  NULL when out of memory, or
 * the path is too long.
 */
static Level *
level_of(Spelling *spelling, const char *path, size_t len, size_t last)
{
	size_t		low = 0;
	size_t		high;
	Level	   *level;

	if (last >= sizeof(spelling->path))
		return NULL;
	while (spelling->n_levels > 0 &&
		   !is_prefix(spelling, &spelling->levels[spelling->n_levels - 1], path, last))
		pop_level(spelling);
	high = spelling->n_levels;
	while (low < high)
	{
		size_t		middle = (low + high) / 2;

		if (spelling->levels[middle].len < len)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < spelling->n_levels && spelling->levels[low].len == len)
		return &spelling->levels[low];
	level = grow(spelling->levels, &spelling->levels_cap, spelling->n_levels + 1, sizeof(Level));
	if (level == NULL)
		return NULL;
	spelling->levels = level;
	level += low;
	memmove(level + 1, level, (spelling->n_levels++ - low) * sizeof(Level));
	memset(level, 0, sizeof(*level));
	level->len = len;
	memcpy(spelling->path, path, len);
	return level;
}

/* ---- listings ---- */

static int
compare_listed(const void *a, const void *b, void *arg)
{
	const Listed *x = a;
	const Listed *y = b;
	const char *arena = arg;
	size_t		len = x->len < y->len ? x->len : y->len;
	int			c = memcmp(arena + x->offset, arena + y->offset, len);

	return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

static bool
add_listed(Listing *listing, const struct dirent *entry)
{
	size_t		len = strlen(entry->d_name);
	Listed	   *names = grow(listing->names, &listing->names_cap, listing->n + 1, sizeof(Listed));
	char	   *arena;

	if (names == NULL)
		return false;
	listing->names = names;
	arena = grow(listing->arena, &listing->arena_cap, listing->used + len + 1, 1);
	if (arena == NULL)
		return false;
	listing->arena = arena;
	memcpy(arena + listing->used, entry->d_name, len + 1);
	names[listing->n].offset = listing->used;
	names[listing->n].len = len;
	names[listing->n++].ino = entry->d_ino;
	listing->used += len + 1;
	return true;
}

/* Reads the directory to its end, once a round; false: that was not possible. */
static bool
list(Level *level, int dirfd)
{
	Listing    *listing = &level->listing;
	int			fd;
	DIR		   *dir;
	struct dirent *entry;

	if (level->listed)
		return true;
	fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL)
	{
		if (fd >= 0)
			close(fd);
		return false;
	}
	listing->n = listing->used = 0;
	level->listed = true;
	for (errno = 0; level->listed && (entry = readdir(dir)) != NULL; errno = 0)
		level->listed = add_listed(listing, entry);
	if (errno != 0)
		level->listed = false;
	closedir(dir);
	if (level->listed && listing->n > 0)
		qsort_r(listing->names, listing->n, sizeof(Listed), compare_listed, listing->arena);
	return level->listed;
}

static bool
is_listed(const Listing *listing, const char *name, size_t len)
{
	size_t		low = 0;
	size_t		high = listing->n;

	while (low < high)
	{
		size_t		middle = (low + high) / 2;
		const Listed *l = &listing->names[middle];
		size_t		shorter = len < l->len ? len : l->len;
		int			c = memcmp(name, listing->arena + l->offset, shorter);

		if (c == 0)
			c = (len > l->len) - (len < l->len);
		if (c == 0)
			return true;
		if (c < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

/* ---- one name ---- */

static bool
is_there(const Spelling *spelling, int dirfd, const char *name)
{
	FileInfo	info;

	return spelling->stat_at(dirfd, name, &info) == 0;
}

/* Whether both are there, at the same time. */
static bool
are_there(const Spelling *spelling, int dirfd, const char *one, const char *other)
{
	bool		there = true;

	for (int i = 0; there && i < SPELLING_TURNS; i++)
		there = is_there(spelling, dirfd, one) && is_there(spelling, dirfd, other);
	return there;
}

/* Swaps the cases of ASCII letters; false: there are none. */
static bool
swap_cases(char *name)
{
	bool		any = false;

	for (; *name != '\0'; name++)
	{
		unsigned char c = (unsigned char) *name;

		if (c < 0x80 && isalpha(c))
		{
			*name = (char) (c ^ 0x20);
			any = true;
		}
	}
	return any;
}

/*
 * Finds out what kind of directory it is, by a name that was there.  False: it
 * could not be listed.
 */
static bool
probe(Spelling *spelling, Level *level, int dirfd, const char *name, size_t len)
{
	char		swapped[SPELLING_NAME_MAX + 1];
	FileInfo	directory;

	if (beneath_stat_fd(dirfd, &directory) < 0)
		return true;
	if (device_folds(spelling, directory.dev))
	{
		level->state = LEVEL_FOLDS;
		return true;
	}
	memcpy(swapped, name, len + 1);
	if (level->state != LEVEL_UNKNOWN || !swap_cases(swapped))
		return true;
	if (!is_there(spelling, dirfd, swapped))
	{
		/* unless the name has gone meanwhile, which says nothing */
		if (errno == ENOENT && is_there(spelling, dirfd, name))
			level->state = LEVEL_EXACT;
		return true;
	}
	if (!list(level, dirfd))
		return false;
	if (is_listed(&level->listing, name, len) && is_listed(&level->listing, swapped, len))
		level->state = LEVEL_EXACT;
	else if (are_there(spelling, dirfd, name, swapped))
	{
		level->state = LEVEL_FOLDS;
		remember_device(spelling, directory.dev);
	}
	return true;
}

/*
 * The name is a part of path, which is not terminated behind it; `last` as in
 * level_of().
 */
static SpellingVerdict
check_name(Spelling *spelling, int rootfd, const char *path, size_t start, size_t len,
		   size_t last)
{
	size_t		directory = start > 0 ? start - 1 : 0;
	Level	   *level = level_of(spelling, path, directory, last);
	SpellingVerdict verdict = SPELLING_RIGHT;
	char		name[SPELLING_NAME_MAX + 1];
	int			dirfd;

	if (level == NULL || len > SPELLING_NAME_MAX)
		return SPELLING_UNSURE;
	if (level->state == LEVEL_EXACT)
		return SPELLING_RIGHT;
	memcpy(name, path + start, len);
	name[len] = '\0';
	if (level->state != LEVEL_FOLDS || !level->listed)
	{
		bool		known;

		dirfd = beneath_open_directory(rootfd, path, directory, O_PATH);
		if (dirfd < 0)
			return SPELLING_UNSURE;
		known = probe(spelling, level, dirfd, name, len) &&
			(level->state != LEVEL_FOLDS || list(level, dirfd));
		close(dirfd);
		if (!known)
			return SPELLING_UNSURE;
	}
	if (level->state == LEVEL_FOLDS && !is_listed(&level->listing, name, len))
		verdict = SPELLING_OTHER;
	return verdict;
}

/* ---- paths ---- */

SpellingVerdict
spelling_of(Spelling *spelling, int rootfd, const char *path, size_t len, size_t known)
{
	SpellingVerdict worst = SPELLING_RIGHT;
	size_t		last = directory_length(path, len);

	for (size_t start = known; start < len;)
	{
		const char *slash = memchr(path + start, '/', len - start);
		size_t		end = slash != NULL ? (size_t) (slash - path) : len;
		SpellingVerdict verdict = check_name(spelling, rootfd, path, start, end - start,
											 last);

		if (verdict == SPELLING_OTHER)
			return verdict;
		if (verdict == SPELLING_UNSURE)
			worst = verdict;
		start = end + 1;
	}
	return worst;
}

static bool
has_other_letters(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) name[i] >= 0x80)
			return true;
	return false;
}

SpellingVerdict
spelling_of_missed(Spelling *spelling, int rootfd, const char *path, size_t len,
				   const FileInfo *info)
{
	SpellingVerdict verdict = spelling_of(spelling, rootfd, path, len, 0);
	size_t		start = spelling_directory(path, len);
	size_t		last = directory_length(path, len);
	const char *name = path + start;
	Level	   *level;
	int			dirfd;

	if (verdict != SPELLING_RIGHT || info->nlink > 1 || !has_other_letters(name, len - start))
		return verdict;
	level = level_of(spelling, path, last, last);
	if (level == NULL || level->state == LEVEL_FOLDS)
		return verdict;
	dirfd = beneath_open_directory(rootfd, path, level->len, O_PATH);
	if (dirfd < 0)
		return verdict;
	if (list(level, dirfd) && !is_listed(&level->listing, name, len - start))
	{
		const Listing *listing = &level->listing;

		for (size_t i = 0; i < listing->n && verdict == SPELLING_RIGHT; i++)
		{
			const char *other = listing->arena + listing->names[i].offset;

			if (listing->names[i].ino != (ino_t) info->stat.inode ||
				!are_there(spelling, dirfd, name, other))
				continue;
			level->state = LEVEL_FOLDS;
			remember_device(spelling, info->dev);
			verdict = SPELLING_OTHER;
		}
	}
	close(dirfd);
	return verdict;
}

bool
spelling_folds(Spelling *spelling, int rootfd, const char *directory, size_t len)
{
	Level	   *level = level_of(spelling, directory, len, len);
	int			dirfd = level == NULL ? -1 :
		beneath_open_directory(rootfd, directory, len, O_RDONLY);
	DIR		   *dir = dirfd >= 0 ? fdopendir(dirfd) : NULL;
	struct dirent *entry;

	if (dir == NULL)
	{
		if (dirfd >= 0)
			close(dirfd);
		return false;
	}
	(void) probe(spelling, level, dirfd, "", 0);	/* by its device */
	while (level->state == LEVEL_UNKNOWN && (entry = readdir(dir)) != NULL)
	{
		size_t		name_len = strlen(entry->d_name);

		if (name_len <= SPELLING_NAME_MAX)
			(void) probe(spelling, level, dirfd, entry->d_name, name_len);
	}
	closedir(dir);
	return level->state == LEVEL_FOLDS;
}

/*
 * FUSE keeps what it knows of each spelling apart, for a second or so: the file
 * by its listed name would seem to be as it was.
 */
static void
refresh(int dirfd, const char *name)
{
	struct statx st;

	(void) statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st);
}

void
spelling_listed(Spelling *spelling, int rootfd, const char *path, size_t len,
				const FileInfo *info,
				void (*found) (void *arg, const char *name, size_t len), void *arg)
{
	size_t		start = spelling_directory(path, len);
	size_t		last = directory_length(path, len);
	Level	   *level = level_of(spelling, path, last, last);
	const Listing *listing;
	bool		any = false;
	int			dirfd;

	if (level == NULL || !level->listed ||
		(dirfd = beneath_open_directory(rootfd, path, level->len, O_PATH)) < 0)
		return;
	listing = &level->listing;
	for (size_t i = 0; i < listing->n; i++)
	{
		const Listed *l = &listing->names[i];

		if (l->len != len - start ||
			strncasecmp(listing->arena + l->offset, path + start, l->len) != 0)
			continue;
		refresh(dirfd, listing->arena + l->offset);
		found(arg, listing->arena + l->offset, l->len);
		any = true;
	}

	/* Folded in another way: what looks the same may be it. */
	for (size_t i = 0; i < listing->n && !any; i++)
	{
		const char *name = listing->arena + listing->names[i].offset;
		FileInfo	other;

		refresh(dirfd, name);
		if (spelling->stat_at(dirfd, name, &other) == 0 && other.dev == info->dev &&
			other.mode == info->mode && other.stat.size == info->stat.size &&
			other.stat.mtime_ns == info->stat.mtime_ns)
			found(arg, name, listing->names[i].len);
	}
	close(dirfd);
}
