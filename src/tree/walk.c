/*-------------------------------------------------------------------------
 *
 * walk.c
 *		The files below a directory, in byte order of their full paths.
 *
 * A stack of levels, one for each directory on the way down, instead of
 * recursion: how deep a tree is belongs to its owner, not to our stack.  The
 * names of all levels lie in one arena, and the index entries that are sorted
 * in one array; both grow and shrink like the stack does, so that there is no
 * allocation for a file or a directory.
 *
 * A directory is opened when the walk arrives at it, not when its name is
 * read, and only the deepest MAX_OPEN levels keep their descriptor.  A level
 * that lost its own is opened again by path; if that is another directory by
 * now, that is as well, since the path is what the entries speak of.
 *
 * The type in a directory entry decides how a name is sorted and is otherwise
 * a hint: stat and open have the last word.
 *
 *-------------------------------------------------------------------------
 */
#include "walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Descriptors of directories that are open at once. */
#define MAX_OPEN			64

/* What one getdents64() may fill; more does not make it faster. */
#define DIRENT_BUFFER		(64 * 1024)

/* The kernel gives no longer name than this, terminator included. */
#define NAME_SPACE			4096

/*
 * A directory whose path is longer than this holds no file that could be
 * tracked: the shortest name below it takes two bytes more.
 */
#define DIRECTORY_PATH_MAX	(PROTO_PATH_MAX - 2)

/* Each level below the prefix's adds two bytes, but the first one. */
#define MAX_LEVELS			(DIRECTORY_PATH_MAX / 2 + 3)

/* A name in the arena; a directory's has a '/' at its end, for sorting. */
typedef struct Name
{
	uint32_t	offset;			/* from the level's first byte */
	uint16_t	len;			/* with the '/' */
	bool		directory;
} Name;

typedef struct Level
{
	int			fd;				/* -1: closed */
	int			error;			/* of reading it, not yet reported */
	size_t		path_len;
	size_t		arena_start;	/* its names, to the end of the arena */
	size_t		names_start;
	size_t		names_next;		/* the next entry to visit */
	size_t		names_end;
} Level;

typedef enum WalkPhase
{
	PHASE_START,				/* the prefix was not yet looked at */
	PHASE_RUNNING,
	PHASE_END,
} WalkPhase;

struct Walk
{
	int			rootfd;
	WalkOptions options;
	WalkPhase	phase;
	size_t		prefix_len;

	char	   *path;			/* of the current entry; the paths of all
								 * levels are its beginnings */
	char	   *arena;
	size_t		arena_used;
	size_t		arena_cap;
	Name	   *names;
	size_t		names_used;
	size_t		names_cap;
	char	   *dirents;

	Level	   *levels;
	size_t		depth;
	size_t		first_open;		/* levels before this one are closed */
};

Walk *
walk_open(int rootfd, const char *prefix, size_t prefix_len, const WalkOptions *options)
{
	Walk	   *walk = calloc(1, sizeof(Walk));
	size_t		path_max = prefix_len > PROTO_PATH_MAX ? prefix_len : PROTO_PATH_MAX;

	if (walk == NULL)
		return NULL;
	walk->rootfd = rootfd;
	walk->options = *options;
	walk->phase = PHASE_START;
	walk->prefix_len = prefix_len;
	walk->path = malloc(path_max + 1 + NAME_SPACE);
	walk->dirents = malloc(DIRENT_BUFFER);
	walk->levels = malloc(MAX_LEVELS * sizeof(Level));
	if (walk->path == NULL || walk->dirents == NULL || walk->levels == NULL)
	{
		walk_close(walk);
		return NULL;
	}
	memcpy(walk->path, prefix, prefix_len);
	walk->path[prefix_len] = '\0';
	return walk;
}

void
walk_close(Walk *walk)
{
	if (walk == NULL)
		return;
	while (walk->depth > 0)
	{
		walk->depth--;
		if (walk->levels[walk->depth].fd >= 0)
			close(walk->levels[walk->depth].fd);
	}
	free(walk->path);
	free(walk->arena);
	free(walk->names);
	free(walk->dirents);
	free(walk->levels);
	free(walk);
}

/* ---------------------------------------------------------------------
 * Names
 * ---------------------------------------------------------------------
 */

/* Doubles an array until it holds need elements; 0, or -1 with errno. */
static int
grow(void **array, size_t *cap, size_t need, size_t element)
{
	size_t		new_cap = *cap ? *cap : 4096;
	void	   *p;

	if (need <= *cap)
		return 0;
	while (new_cap < need)
		new_cap *= 2;
	p = realloc(*array, new_cap * element);
	if (p == NULL)
	{
		errno = ENOMEM;
		return -1;
	}
	*array = p;
	*cap = new_cap;
	return 0;
}

static int
add_name(Walk *walk, Level *level, const char *name, size_t len, bool directory)
{
	size_t		offset = walk->arena_used - level->arena_start;
	Name	   *n;
	char	   *p;

	if (offset > UINT32_MAX)
	{
		errno = ENOMEM;
		return -1;
	}
	if (grow((void **) &walk->arena, &walk->arena_cap,
			 walk->arena_used + len + 2, 1) < 0 ||
		grow((void **) &walk->names, &walk->names_cap,
			 walk->names_used + 1, sizeof(Name)) < 0)
		return -1;
	p = walk->arena + walk->arena_used;
	memcpy(p, name, len);
	if (directory)
		p[len++] = '/';
	p[len] = '\0';
	walk->arena_used += len + 1;

	n = &walk->names[walk->names_used++];
	n->offset = (uint32_t) offset;
	n->len = (uint16_t) len;
	n->directory = directory;
	return 0;
}

static int
compare_names(const void *a, const void *b, void *arg)
{
	const Name *na = a;
	const Name *nb = b;
	const char *base = arg;
	size_t		len = na->len < nb->len ? na->len : nb->len;
	int			cmp = memcmp(base + na->offset, base + nb->offset, len);

	return cmp ? cmp : (int) na->len - (int) nb->len;
}

/* Puts name behind the level's path; returns the length of both. */
static size_t
build_path(Walk *walk, const Level *level, const char *name, size_t len)
{
	size_t		at = level->path_len;

	if (at > 0)
		walk->path[at++] = '/';
	memcpy(walk->path + at, name, len);
	walk->path[at + len] = '\0';
	return at + len;
}

/*
 * Takes up one directory entry if it can be tracked, or lead to what can.  A
 * name of which nothing is known, because the file system gives no types and
 * stat fails, is taken up as both a file and a directory.
 */
static int
take_entry(Walk *walk, Level *level, const struct dirent64 *entry)
{
	const char *name = entry->d_name;
	size_t		len = strlen(name);
	size_t		path_len;
	bool		file = entry->d_type == DT_REG;
	bool		directory = entry->d_type == DT_DIR;

	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return 0;
	if (entry->d_type == DT_UNKNOWN)
	{
		FileInfo	info;

		if (beneath_stat_at(level->fd, name, &info) == 0)
		{
			file = S_ISREG(info.mode);
			directory = S_ISDIR(info.mode);
		}
		else if (errno != ENOENT)
			file = directory = true;
	}
	if (!file && !directory)
		return 0;

	path_len = build_path(walk, level, name, len);
	if (file && filter_accepts_file_in(walk->options.filter, NULL, walk->path, path_len) &&
		add_name(walk, level, name, len, false) < 0)
		return -1;
	if (directory && filter_accepts_directory_in(walk->options.filter, NULL, walk->path, path_len) &&
		add_name(walk, level, name, len, true) < 0)
		return -1;
	return 0;
}

/*
 * Reads the level's directory whole and sorts it.  0, or -1 when out of
 * memory; an error of the directory itself is left in level->error.
 */
static int
read_names(Walk *walk, Level *level)
{
	for (;;)
	{
		long		n = syscall(SYS_getdents64, level->fd, walk->dirents, DIRENT_BUFFER);
		long		at = 0;

		if (n == 0)
			break;
		if (n < 0)
		{
			if (errno == EINTR)
				continue;
			/* ENOENT: it was removed, so there is nothing more in it */
			if (errno != ENOENT)
				level->error = errno;
			break;
		}
		while (at < n)
		{
			const struct dirent64 *entry = (const struct dirent64 *) (walk->dirents + at);

			if (take_entry(walk, level, entry) < 0)
				return -1;
			at += entry->d_reclen;
		}
	}
	level->names_end = walk->names_used;
	if (level->names_end - level->names_start > 1)
		qsort_r(walk->names + level->names_start, level->names_end - level->names_start,
				sizeof(Name), compare_names, walk->arena + level->arena_start);
	return 0;
}

/* ---------------------------------------------------------------------
 * Levels
 * ---------------------------------------------------------------------
 */

/* Errors which mean that there is no such directory (any more). */
static bool
means_absent(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ELOOP;
}

/* Makes the open directory at path[0..path_len) the deepest level. */
static int
push_level(Walk *walk, int fd, size_t path_len)
{
	Level	   *level;

	/* walk->depth - first_open descriptors are open, this one not counted */
	while (walk->depth - walk->first_open >= MAX_OPEN)
	{
		Level	   *closing = &walk->levels[walk->first_open++];

		if (closing->fd >= 0)
			close(closing->fd);
		closing->fd = -1;
	}
	level = &walk->levels[walk->depth++];
	level->fd = fd;
	level->error = 0;
	level->path_len = path_len;
	level->arena_start = walk->arena_used;
	level->names_start = walk->names_used;
	level->names_next = walk->names_used;
	level->names_end = walk->names_used;
	return read_names(walk, level);
}

static void
pop_level(Walk *walk)
{
	Level	   *level = &walk->levels[--walk->depth];

	if (level->fd >= 0)
		close(level->fd);
	walk->arena_used = level->arena_start;
	walk->names_used = level->names_start;
	if (walk->first_open > walk->depth)
		walk->first_open = walk->depth;
}

/*
 * Gives the deepest level its descriptor back if it was closed; 0, or -1
 * with errno.
 */
static int
reopen_level(Walk *walk)
{
	Level	   *level = &walk->levels[walk->depth - 1];

	if (level->fd >= 0)
		return 0;
	level->fd = beneath_open_directory(walk->rootfd, walk->path, level->path_len, O_PATH);
	if (level->fd < 0)
		return -1;
	walk->first_open = walk->depth - 1;
	return 0;
}

static int
compare_mount(const void *key, const void *element)
{
	const ProtoStr *path = key;
	const Mount *mount = element;
	size_t		len = path->len < mount->len ? path->len : mount->len;
	int			cmp = len ? memcmp(path->data, mount->path, len) : 0;

	if (cmp != 0)
		return cmp;
	return path->len < mount->len ? -1 : path->len > mount->len;
}

static bool
is_guarded(const Walk *walk, size_t path_len)
{
	const MountSet *set = walk->options.guarded;
	ProtoStr	key = {walk->path, (uint32_t) path_len};

	return set != NULL && set->count > 0 &&
		bsearch(&key, set->mounts, set->count, sizeof(Mount), compare_mount) != NULL;
}

/* ---------------------------------------------------------------------
 * Steps
 * ---------------------------------------------------------------------
 */

static int
yield(Walk *walk, WalkEntry *entry, WalkKind kind, bool directory, size_t path_len, int error)
{
	walk->path[path_len] = '\0';
	entry->kind = kind;
	entry->directory = directory;
	entry->path = walk->path;
	entry->len = path_len;
	entry->error = error;
	return 1;
}

/*
 * Enters the directory at path[0..path_len), the name at its end in the
 * directory dirfd.  1 with an entry, 0 to go on, -1 when out of memory.
 */
static int
enter(Walk *walk, WalkEntry *entry, int dirfd, const char *name, size_t len, size_t path_len)
{
	int			fd;

	if (path_len > DIRECTORY_PATH_MAX)
		return yield(walk, entry, WALK_TOO_LONG, true, path_len, 0);
	if (is_guarded(walk, path_len))
		return yield(walk, entry, WALK_GUARDED, true, path_len, 0);
	fd = beneath_open_directory(dirfd, name, len, O_RDONLY | O_NOATIME);
	if (fd < 0)
	{
		if (means_absent(errno))
			return 0;
		return yield(walk, entry, WALK_UNKNOWN_DIRECTORY, true, path_len, errno);
	}
	return push_level(walk, fd, path_len);
}

/* The same of the prefix, of which nothing was checked yet. */
static int
enter_prefix(Walk *walk, WalkEntry *entry)
{
	const char *prefix = walk->path;
	size_t		len = walk->prefix_len;
	size_t		i;

	if (!filter_accepts_directory(walk->options.filter, NULL, prefix, len))
		return 0;
	if (walk->options.utf8 && !filter_valid_utf8(prefix, len))
		return yield(walk, entry, WALK_BAD_NAME, true, len, 0);
	for (i = 0; i < len; i++)
	{
		if ((i == 0 || prefix[i] == '/') && is_guarded(walk, i))
			return yield(walk, entry, WALK_GUARDED, true, len, 0);
	}
	return enter(walk, entry, walk->rootfd, prefix, len, len);
}

/* A file (as far as we know) of the deepest level; as enter(). */
static int
visit_file(Walk *walk, WalkEntry *entry, const char *name, size_t len, size_t path_len)
{
	const Level *level = &walk->levels[walk->depth - 1];
	int			error = 0;

	if (beneath_stat_at(level->fd, name, &entry->info) < 0)
	{
		error = errno;
		if (error == ENOENT)
			return 0;
	}
	else if (!S_ISREG(entry->info.mode) ||
			 !filter_accepts_size(walk->options.filter, entry->info.stat.size))
		return 0;

	if (walk->options.utf8 && !filter_valid_utf8(name, len))
		return yield(walk, entry, WALK_BAD_NAME, false, path_len, 0);
	if (path_len > PROTO_PATH_MAX)
		return yield(walk, entry, WALK_TOO_LONG, false, path_len, 0);
	return yield(walk, entry, error ? WALK_UNKNOWN_FILE : WALK_FILE, false, path_len, error);
}

/* Visits the next name of the deepest level; as enter(). */
static int
visit_next(Walk *walk, WalkEntry *entry)
{
	Level	   *level = &walk->levels[walk->depth - 1];
	const Name *n = &walk->names[level->names_next];
	const char *base = walk->arena + level->arena_start;
	const char *name = base + n->offset;
	size_t		len = n->len;
	size_t		path_len;

	/* a name that is removed and created anew may be read twice */
	if (level->names_next++ > level->names_start && compare_names(n - 1, n, (void *) base) == 0)
		return 0;

	if (n->directory)
		len--;
	path_len = build_path(walk, level, name, len);
	if (reopen_level(walk) < 0)
	{
		int			error = errno;

		if (means_absent(error))
		{
			level->names_next = level->names_end;
			return 0;
		}
		return yield(walk, entry, n->directory ? WALK_UNKNOWN_DIRECTORY : WALK_UNKNOWN_FILE,
					 n->directory, path_len, error);
	}
	if (!n->directory)
		return visit_file(walk, entry, name, len, path_len);
	if (walk->options.utf8 && !filter_valid_utf8(name, len))
		return yield(walk, entry, WALK_BAD_NAME, true, path_len, 0);
	return enter(walk, entry, level->fd, name, len, path_len);
}

int
walk_next(Walk *walk, WalkEntry *entry)
{
	int			result = 0;

	memset(entry, 0, sizeof(*entry));
	if (walk->phase == PHASE_START)
	{
		walk->phase = PHASE_RUNNING;
		result = enter_prefix(walk, entry);
	}
	while (result == 0 && walk->phase == PHASE_RUNNING)
	{
		Level	   *level;

		if (walk->depth == 0)
		{
			walk->phase = PHASE_END;
			break;
		}
		level = &walk->levels[walk->depth - 1];
		if (level->error != 0)
		{
			int			error = level->error;

			level->error = 0;
			result = yield(walk, entry, WALK_UNKNOWN_DIRECTORY, true, level->path_len, error);
		}
		else if (level->names_next == level->names_end)
			pop_level(walk);
		else
			result = visit_next(walk, entry);
	}
	if (result < 0)
	{
		/* what was read is incomplete: no further step would mean anything */
		walk->phase = PHASE_END;
		errno = ENOMEM;
	}
	return result;
}
