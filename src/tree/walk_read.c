/*-------------------------------------------------------------------------
 *
 * walk_read.c
 *		Reading directories for a walk, a piece at a time, on any thread.
 *
 *-------------------------------------------------------------------------
 */
#include "grow.h"
#include "path_order.h"
#include "rules.h"
#include "walk_read.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What one getdents64() may fill; more does not make it faster. */
#define DIRENT_BUFFER		(64 * 1024)

struct Reader
{
	ReadContext *context;
	char	   *dirents;
	char		path[DIRECTORY_PATH_MAX + 1 + READ_NAME_SPACE];
};

/* ---- waiting ---- */

/* So often an error that the process lacks something is believed where nothing
 * else tells: a file system may give it for a file of its for ever. */
#define READ_BELIEVED		20

/*
 * What cannot be looked at for want of what this errno says is to be tried again:
 * the walk stands still meanwhile.  False when it is to go on, whatever the error.
 * attempts are those before it.
 */
static bool
waits(const WalkOptions *options, int error, unsigned attempts)
{
	return options->shortage != NULL && shortage_is(error) &&
		(attempts < READ_BELIEVED || shortage_confirmed(error)) &&
		shortage_wait(options->shortage, error, options->cancel);
}

/* ---- names ---- */

static int
add_name(Directory *dir, const char *name, size_t len, bool directory, bool file,
		 bool refused)
{
	Name	   *n;
	char	   *p;

	if (dir->arena_used > UINT32_MAX)
	{
		errno = ENOMEM;
		return -1;
	}
	p = grow(dir->arena, &dir->arena_cap, dir->arena_used + len + 2, 1);
	if (p == NULL)
		return -1;
	dir->arena = p;
	n = grow(dir->names, &dir->names_cap, dir->n_names + 1, sizeof(Name));
	if (n == NULL)
		return -1;
	dir->names = n;
	n += dir->n_names++;
	n->offset = (uint32_t) dir->arena_used;
	n->directory = directory;
	n->file = file;
	n->refused = refused;
	dir->n_directories += directory;
	p = dir->arena + dir->arena_used;
	memcpy(p, name, len);
	if (directory)
		p[len++] = '/';
	p[len] = '\0';
	n->len = (uint16_t) len;
	dir->arena_used += len + 1;
	return 0;
}

static int
compare_names(const void *a, const void *b, void *arg)
{
	const Name *na = a;
	const Name *nb = b;
	const char *arena = arg;

	return path_order(arena + na->offset, na->len, arena + nb->offset, nb->len);
}

/*
 * Takes up one directory entry if it can be tracked, or lead to what can.  A
 * name of which nothing is known, because the file system gives no types and
 * stat fails, is taken up as both a file and a directory.  path is the
 * directory's, and has room for the name at its end.
 */
static int
take_entry(const WalkOptions *options, Directory *dir, int fd, char *path, size_t at,
		   const struct dirent64 *entry)
{
	const char *name = entry->d_name;
	size_t		len = strlen(name);
	bool		file = entry->d_type == DT_REG;
	bool		directory = entry->d_type == DT_DIR;
	bool		taken = false;

	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return 0;
	if (entry->d_type == DT_UNKNOWN)
	{
		FileInfo	info;
		unsigned	attempts = 0;
		int			error;

		do
			error = beneath_stat_at(fd, name, &info) < 0 ? errno : 0;
		while (error != 0 && waits(options, error, attempts++));
		if (error == 0)
		{
			file = S_ISREG(info.mode);
			directory = S_ISDIR(info.mode);
		}
		else if (error != ENOENT)
			file = directory = true;
	}
	if (!file && !directory && !options->refused)
		return 0;

	memcpy(path + at, name, len + 1);
	if (file && filter_accepts_file_in(options->filter, dir->rules, path, at + len))
	{
		taken = true;
		if (add_name(dir, name, len, false, entry->d_type == DT_REG, false) < 0)
			return -1;
	}
	if (directory && filter_accepts_directory_in(options->filter, dir->rules, path, at + len))
	{
		taken = true;
		if (add_name(dir, name, len, true, false, false) < 0)
			return -1;
	}
	if (!taken && options->refused)
		return add_name(dir, name, len, false, false, true);
	return 0;
}

/* A name that is removed and created anew may be read twice. */
static void
sort_names(Directory *dir)
{
	size_t		kept = 0;

	if (dir->n_names < 2)
		return;
	qsort_r(dir->names, dir->n_names, sizeof(Name), compare_names, dir->arena);
	for (size_t i = 0; i < dir->n_names; i++)
		if (kept == 0 ||
			compare_names(&dir->names[kept - 1], &dir->names[i], dir->arena) != 0)
			dir->names[kept++] = dir->names[i];
	dir->n_names = kept;
}

/*
 * Reads the open directory whole and sorts it.  0, or -1 when out of memory; an
 * error of the directory itself is left in dir->error.
 */
static int
read_names(Reader *reader, Directory *dir, int fd)
{
	size_t		at = dir->path_len;
	unsigned	attempts = 0;

	memcpy(reader->path, dir->path, at);
	if (at > 0)
		reader->path[at++] = '/';
	for (;;)
	{
		long		n = syscall(SYS_getdents64, fd, reader->dirents, DIRENT_BUFFER);
		long		done = 0;

		if (n == 0)
			break;
		if (n < 0)
		{
			if (errno == EINTR || waits(&reader->context->options, errno, attempts++))
				continue;
			/* ENOENT: it was removed, so there is nothing more in it */
			if (errno != ENOENT)
				dir->error = errno;
			break;
		}
		while (done < n)
		{
			const struct dirent64 *entry = (const struct dirent64 *) (reader->dirents + done);

			if (take_entry(&reader->context->options, dir, fd, reader->path, at, entry) < 0)
				return -1;
			done += entry->d_reclen;
		}
	}
	sort_names(dir);
	return 0;
}

/* ---- reading a piece ---- */

/* The directory, open for its first piece or once more; -1 with errno. */
static int
open_directory(const ReadContext *context, const Directory *dir, int flags)
{
	const Directory *parent = dir->parent;
	size_t		skip;

	if (parent == NULL || parent->fd < 0)
		return beneath_open_directory(context->rootfd, dir->path, dir->path_len, flags);
	skip = parent->path_len > 0 ? parent->path_len + 1 : 0;
	return beneath_open_directory(parent->fd, dir->path + skip, dir->path_len - skip, flags);
}

/* The same; waits for a descriptor where none is to be had. */
static int
await_directory(const ReadContext *context, const Directory *dir, int flags)
{
	unsigned	attempts = 0;
	int			fd;

	do
		fd = open_directory(context, dir, flags);
	while (fd < 0 && waits(&context->options, errno, attempts++));
	return fd;
}

/* Keeps the directory open if anything is to be read in it later. */
static void
keep_open(ReadContext *context, Directory *dir, int fd, size_t done)
{
	if ((dir->n_directories > 0 || done < dir->n_names) &&
		atomic_fetch_add(&context->open, 1) < context->keep)
	{
		dir->fd = fd;
		return;
	}
	if (dir->n_directories > 0 || done < dir->n_names)
		atomic_fetch_sub(&context->open, 1);
	close(fd);
}

/* Adds the rules of the directory's own file; 0, or -1 when out of memory. */
static int
read_rules(const WalkOptions *options, Directory *dir, int fd)
{
	FilterRules *above = dir->rules;

	if (!filter_uses_rules(options->filter))
		return 0;
	for (unsigned attempts = 0;; attempts++)
	{
		if (!rules_read(options->filter, above, fd, dir->path, dir->path_len, &dir->rules))
		{
			dir->rules = above;
			return -1;
		}
		dir->rules_error = dir->rules != above ? filter_rules_error(dir->rules) : 0;
		if (dir->rules_error == 0 || !waits(options, dir->rules_error, attempts))
			break;
		filter_rules_release(dir->rules);
	}
	filter_rules_release(above);
	return 0;
}

/* Examines the piece's names in the open directory; 0, or -1 when out of memory. */
static int
look_at_names(const WalkOptions *options, Piece *piece, int fd)
{
	const Directory *dir = piece->dir;

	piece->looks = malloc((piece->to - piece->from + 1) * sizeof(Look));
	if (piece->looks == NULL)
		return -1;
	for (size_t i = piece->from; i < piece->to; i++)
	{
		const Name *name = &dir->names[i];
		Look	   *look = &piece->looks[i - piece->from];
		unsigned	attempts = 0;

		do
		{
			look->error = 0;
			if (!name->directory && !(name->file && options->names_only) &&
				beneath_stat_at(fd, dir->arena + name->offset, &look->info) < 0)
				look->error = errno;
		}
		while (look->error != 0 && waits(options, look->error, attempts++));
	}
	return 0;
}

int
reader_read(Reader *reader, Piece *piece)
{
	Directory  *dir = piece->dir;
	bool		first = piece->from == 0;
	bool		failed = false;
	int			fd = dir->fd;

	if (fd < 0)
		fd = await_directory(reader->context, dir, first ? O_RDONLY | O_NOATIME : O_PATH);
	if (fd < 0)
	{
		if (first)
			dir->error = errno;
		else
			piece->error = errno;
		return 0;
	}
	if (first)
	{
		dir->opened = true;
		if (read_rules(&reader->context->options, dir, fd) < 0 ||
			read_names(reader, dir, fd) < 0)
		{
			close(fd);
			return -1;
		}
		piece->to = dir->n_names < READ_NAMES ? dir->n_names : READ_NAMES;
	}
	if (look_at_names(&reader->context->options, piece, fd) < 0)
		failed = true;
	if (first)
		keep_open(reader->context, dir, fd, piece->to);
	else if (fd != dir->fd)
		close(fd);
	return failed ? -1 : 0;
}

void
read_free_directory(ReadContext *context, Directory *dir)
{
	if (dir->fd >= 0)
	{
		close(dir->fd);
		atomic_fetch_sub(&context->open, 1);
	}
	filter_rules_release(dir->rules);
	free(dir->names);
	free(dir->arena);
	free(dir);
}

Reader *
reader_create(ReadContext *context)
{
	Reader	   *reader = malloc(sizeof(Reader));

	if (reader == NULL)
		return NULL;
	reader->context = context;
	reader->dirents = malloc(DIRENT_BUFFER);
	if (reader->dirents == NULL)
	{
		free(reader);
		return NULL;
	}
	return reader;
}

void
reader_free(Reader *reader)
{
	if (reader != NULL)
		free(reader->dirents);
	free(reader);
}
