/*-------------------------------------------------------------------------
 *
 * storm.c
 *		Random operations on a directory tree, the same for the same seed.
 *
 *		storm DIR SEED OPS [PROCESSES [all|make|moves]]
 *
 * "make" only makes files and directories, "moves" only renames and
 * exchanges them; both never use a name that is ignored or leave the tree, so
 * that each file can be followed by its inode number.  Trees go to
 * DIR.outside and come back from there.
 *
 * An operation that fails (the file is gone, another process was there first)
 * counts as any other: what matters is that the disk is as it is in the end.
 * When all is done no file is open, nothing is mapped, and all permissions
 * are back.
 *
 *-------------------------------------------------------------------------
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEPTH		6
#define MAX_FILES		600
#define MAX_DIRECTORIES	100
#define PATH_SPACE		4096

static uint64_t random_state;
static bool tame;				/* no ignored names, nothing outside */
static char root[PATH_SPACE];
static char outside[PATH_SPACE];
static char outside_file[PATH_SPACE + 16];

static uint64_t
next_random(void)
{
	/* xorshift64* */
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

static size_t
below(size_t n)
{
	return (size_t) ((next_random() >> 16) % n);
}

static bool
chance(size_t one_in)
{
	return below(one_in) == 0;
}

/* ---- choosing names; the directory at work is the tree's root ---- */

typedef enum Kind
{
	KIND_ANY,
	KIND_FILE,
	KIND_DIRECTORY,
} Kind;

static bool
is_kind(int dirfd, const struct dirent *entry, Kind kind)
{
	struct stat st;

	if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		strcmp(entry->d_name, "links") == 0)
		return false;
	if (kind == KIND_ANY)
		return true;
	if (fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return kind == KIND_FILE ? S_ISREG(st.st_mode) : S_ISDIR(st.st_mode);
}

/*
 * A random entry of this kind; sorted before it is chosen, as the order of
 * readdir is no work of the seed.
 */
static bool
pick_in(const char *directory, Kind kind, char *path)
{
	struct dirent **entries;
	int			n = scandir(directory, &entries, NULL, alphasort);
	int			kept = 0;
	int			dirfd;

	if (n < 0)
		return false;
	dirfd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < n; i++)
	{
		if (dirfd >= 0 && is_kind(dirfd, entries[i], kind))
			entries[kept++] = entries[i];
		else
			free(entries[i]);
	}
	if (kept > 0)
		snprintf(path, PATH_SPACE, "%s/%s", directory, entries[below(kept)]->d_name);
	for (int i = 0; i < kept; i++)
		free(entries[i]);
	free(entries);
	if (dirfd >= 0)
		close(dirfd);
	return kept > 0;
}

/* A random directory, "." at times. */
static void
pick_directory(char *path)
{
	size_t		depth = below(MAX_DEPTH);
	char		deeper[PATH_SPACE];

	strcpy(path, ".");
	while (depth-- > 0 && pick_in(path, KIND_DIRECTORY, deeper))
		strcpy(path, deeper);
}

static bool
pick(Kind kind, char *path)
{
	char		directory[PATH_SPACE];

	for (int tries = 0; tries < 5; tries++)
	{
		pick_directory(directory);
		if (pick_in(directory, kind, path))
			return true;
	}
	return false;
}

/* A name, new or not, in some directory. */
static void
pick_name(char *path)
{
	static const char *const odd[] = {
		"f with space", "f\xc3\xa4\xc3\xb6", "f\\b", "f\nl", "f'q\"", "f-", "f.d", "f~x",
	};
	char		directory[PATH_SPACE - 64];
	char		name[64];

	do
		pick_directory(directory);
	while (strlen(directory) > PATH_SPACE / 2);
	if (chance(12))
		snprintf(name, sizeof(name), "%s", odd[below(8)]);
	else
		snprintf(name, sizeof(name), "%c%zu", "fgd"[below(3)], below(tame ? 400 : 25));
	if (!tame && chance(15))
	{
		char		plain[48];

		snprintf(plain, sizeof(plain), "%.40s", name);
		switch (below(5))
		{
			case 0:
				snprintf(name, sizeof(name), ".%s", plain);
				break;
			case 1:
				snprintf(name, sizeof(name), "%s.tmp", plain);
				break;
			case 2:
				snprintf(name, sizeof(name), "%s~", plain);
				break;
			case 3:
				snprintf(name, sizeof(name), ".%s.tmp", plain);
				break;
			default:
				snprintf(name, sizeof(name), "Thumbs.db");
		}
	}
	snprintf(path, PATH_SPACE, "%s/%s", directory, name);
}

static size_t
depth_of(const char *path)
{
	size_t		n = 0;

	for (; *path; path++)
		n += *path == '/';
	return n;
}

/* ---- helpers ---- */

static void
fill(char *data, size_t len)
{
	for (size_t i = 0; i < len; i += 8)
	{
		uint64_t	r = next_random();

		memcpy(data + i, &r, len - i < 8 ? len - i : 8);
	}
}

static size_t
random_size(void)
{
	if (chance(40))
		return 100000 + below(1900000);
	return chance(10) ? 0 : below(5000);
}

static void
write_file(const char *path, int flags, size_t size)
{
	static char data[2000000];
	int			fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags,
						  0644);
	size_t		at = 0;

	if (fd < 0)
		return;
	fill(data, size);
	while (at < size)
	{
		size_t		n = size - at > 65536 ? 65536 : size - at;
		ssize_t		written = write(fd, data + at, n);

		if (written <= 0)
			break;
		at += written;
	}
	close(fd);
}

static DIR *
open_directory(const char *path)
{
	int			fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 ? fdopendir(fd) : NULL;
}

static void
remove_tree(const char *path)
{
	DIR		   *dir;
	struct dirent *entry;
	char		below_it[PATH_SPACE];

	if (unlink(path) == 0 || (errno != EISDIR && errno != EPERM) ||
		strlen(path) > PATH_SPACE - NAME_MAX - 2)
		return;
	dir = open_directory(path);
	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
	{
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(below_it, sizeof(below_it), "%.*s/%s", (int) (PATH_SPACE - NAME_MAX - 2),
				 path, entry->d_name);
		remove_tree(below_it);
	}
	closedir(dir);
	rmdir(path);
}

static void
copy_tree(const char *from, const char *to, size_t *budget)
{
	struct stat st;

	if (lstat(from, &st) < 0 || *budget == 0 || strlen(to) > PATH_SPACE - NAME_MAX - 2 ||
		strlen(from) > PATH_SPACE - NAME_MAX - 2)
		return;
	(*budget)--;
	if (S_ISREG(st.st_mode))
	{
		struct timespec times[2] = {st.st_atim, st.st_mtim};

		write_file(to, O_TRUNC, st.st_size > 2000000 ? 2000000 : st.st_size);
		if (chance(2))
			utimensat(AT_FDCWD, to, times, AT_SYMLINK_NOFOLLOW);
	}
	else if (S_ISDIR(st.st_mode) && mkdir(to, 0755) == 0)
	{
		DIR		   *dir = open_directory(from);
		struct dirent *entry;
		char		a[PATH_SPACE];
		char		b[PATH_SPACE];

		while (dir != NULL && (entry = readdir(dir)) != NULL)
		{
			if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
				continue;
			snprintf(a, sizeof(a), "%.*s/%s", (int) (PATH_SPACE - NAME_MAX - 2), from, entry->d_name);
			snprintf(b, sizeof(b), "%.*s/%s", (int) (PATH_SPACE - NAME_MAX - 2), to, entry->d_name);
			copy_tree(a, b, budget);
		}
		if (dir != NULL)
			closedir(dir);
	}
}

static void
count_tree(const char *path, size_t *files, size_t *directories)
{
	DIR		   *dir = open_directory(path);
	struct dirent *entry;
	char		deeper[PATH_SPACE];

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
	{
		if (entry->d_type == DT_REG)
			++*files;
		if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 ||
			strcmp(entry->d_name, "..") == 0 || strlen(path) > PATH_SPACE - NAME_MAX - 2)
			continue;
		++*directories;
		snprintf(deeper, sizeof(deeper), "%.*s/%s", (int) (PATH_SPACE - NAME_MAX - 2),
				 path, entry->d_name);
		count_tree(deeper, files, directories);
	}
	closedir(dir);
}

/* Gives back what op_chmod() took. */
static void
restore_modes(const char *path)
{
	DIR		   *dir = open_directory(path);
	struct dirent *entry;
	char		deeper[PATH_SPACE];
	struct stat st;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
	{
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
			fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (!S_ISLNK(st.st_mode) &&
			(S_ISDIR(st.st_mode) ? (st.st_mode & 0700) != 0700 : (st.st_mode & 0700) == 0))
			fchmodat(dirfd(dir), entry->d_name, S_ISDIR(st.st_mode) ? 0755 : 0644,
					 AT_SYMLINK_NOFOLLOW);	/* it may be a link to / by now */
		if (!S_ISDIR(st.st_mode) || strlen(path) > PATH_SPACE - NAME_MAX - 2)
			continue;
		snprintf(deeper, sizeof(deeper), "%.*s/%s", (int) (PATH_SPACE - NAME_MAX - 2),
				 path, entry->d_name);
		restore_modes(deeper);
	}
	closedir(dir);
}

/* ---- operations ---- */

static void
op_write(void)
{
	char		path[PATH_SPACE];

	pick_name(path);
	write_file(path, tame ? O_EXCL : O_TRUNC, random_size());
}

static void
op_overwrite(void)
{
	char		path[PATH_SPACE];

	if (pick(KIND_FILE, path))
		write_file(path, chance(2) ? O_TRUNC : 0, random_size());
}

static void
op_append(void)
{
	char		path[PATH_SPACE];

	if (pick(KIND_FILE, path))
		write_file(path, O_APPEND, 1 + below(2000));
}

/* By name, but not through a link that took its place and leads out. */
static void
op_truncate(void)
{
	char		path[PATH_SPACE];
	char		magic[40];
	int			fd;

	if (!pick(KIND_FILE, path))
		return;
	fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	snprintf(magic, sizeof(magic), "/proc/self/fd/%d", fd);
	if (truncate(magic, (off_t) below(3000)) < 0)
		errno = 0;				/* it is no file any more */
	close(fd);
}

static void
op_rewrite_same(void)
{
	char		path[PATH_SPACE];
	char		data[512];
	struct stat st;
	int			fd;

	if (!pick(KIND_FILE, path))
		return;
	fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
	{
		struct timespec times[2] = {st.st_atim, st.st_mtim};
		size_t		len = st.st_size < 512 ? st.st_size : 512;

		fill(data, len);
		if (pwrite(fd, data, len, st.st_size - len) > 0 && chance(2))
			futimens(fd, times);
		else
		{
			close(fd);
			fd = -1;
			utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
		}
	}
	if (fd >= 0)
		close(fd);
}

static void
op_atomic_save(void)
{
	char		path[PATH_SPACE];
	char		temporary[PATH_SPACE + 16];
	char	   *name;

	if (!pick(KIND_FILE, path))
		return;
	name = strrchr(path, '/') + 1;
	switch (below(3))
	{
		case 0:
			snprintf(temporary, sizeof(temporary), "%.*s.%.100s.tmp", (int) (name - path), path, name);
			break;
		case 1:
			snprintf(temporary, sizeof(temporary), "%.*s%.100s~", (int) (name - path), path, name);
			break;
		default:
			snprintf(temporary, sizeof(temporary), "%.*snew-%zu", (int) (name - path), path, below(100));
	}
	write_file(temporary, O_TRUNC, random_size());
	rename(temporary, path);
}

/*
 * Hard links have a directory of their own, where no other operation comes: a
 * write is reported under the name through which it was made, and if that is
 * gone (or was never tracked), nobody can know which file it was.  So here each
 * change is followed by one under a name that is still there.
 */
static bool
find_name_of(const char *directory, dev_t dev, ino_t ino, char *path)
{
	DIR		   *dir = open_directory(directory);
	struct dirent *entry;
	bool		found = false;

	while (dir != NULL && !found && (entry = readdir(dir)) != NULL)
	{
		struct stat st;

		if (entry->d_name[0] == '.' ||
			fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		snprintf(path, PATH_SPACE, "%.3000s/%s", directory, entry->d_name);
		if (S_ISREG(st.st_mode))
			found = st.st_ino == ino && st.st_dev == dev;
		else if (S_ISDIR(st.st_mode))
		{
			char		deeper[PATH_SPACE];

			strcpy(deeper, path);
			found = find_name_of(deeper, dev, ino, path);
		}
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

static void
tell(const struct stat *st, const char *name)
{
	char		path[PATH_SPACE];
	struct stat now;
	struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};

	if (lstat(name, &now) == 0 && now.st_ino == st->st_ino && now.st_dev == st->st_dev)
		return;
	for (int tries = 0; tries < 5 && find_name_of("./links", st->st_dev, st->st_ino, path); tries++)
		if (utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0)
			break;
}

static void
pick_link(char *path)
{
	if (chance(2))
		snprintf(path, PATH_SPACE, "./links/d%zu/n%zu", below(5), below(12));
	else
		snprintf(path, PATH_SPACE, "./links/n%zu", below(12));
}

static void
op_link(void)
{
	char		path[PATH_SPACE];
	char		to[PATH_SPACE];
	struct stat st;
	struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};

	mkdir("./links", 0755);
	snprintf(path, sizeof(path), "./links/d%zu", below(5));
	snprintf(to, sizeof(to), "./links/d%zu", below(5));
	if (chance(6))
		mkdir(path, 0755);
	else if (chance(6))
	{
		renameat2(AT_FDCWD, path, AT_FDCWD, to, chance(2) ? RENAME_NOREPLACE : RENAME_EXCHANGE);
		return;
	}
	pick_link(path);
	pick_link(to);
	if (lstat(path, &st) < 0)
	{
		write_file(path, O_EXCL, below(3000));
		return;
	}
	switch (below(8))
	{
		case 0:
		case 1:
			if (link(path, to) == 0 && chance(2))
				write_file(to, O_APPEND, 1 + below(2000));
			break;
		case 2:
			renameat2(AT_FDCWD, path, AT_FDCWD, to,
					  chance(2) ? RENAME_NOREPLACE : RENAME_EXCHANGE);
			break;
		case 3:
			unlink(path);
			break;
		case 4:
			utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
			break;
		default:
			write_file(path, chance(2) ? O_APPEND : O_TRUNC, 1 + below(2000));
	}
	tell(&st, path);
}

static void
op_rename_file(void)
{
	char		from[PATH_SPACE];
	char		to[PATH_SPACE];

	if (!pick(KIND_FILE, from))
		return;
	if (!tame && chance(3) && pick(KIND_FILE, to))
	{
		rename(from, to);
		return;
	}
	pick_name(to);
	renameat2(AT_FDCWD, from, AT_FDCWD, to, tame ? RENAME_NOREPLACE : 0);
}

static void
op_rename_directory(void)
{
	char		from[PATH_SPACE];
	char		to[PATH_SPACE];

	if (!pick(KIND_DIRECTORY, from))
		return;
	pick_name(to);
	if (depth_of(to) < MAX_DEPTH + 3)
		renameat2(AT_FDCWD, from, AT_FDCWD, to, tame ? RENAME_NOREPLACE : 0);
}

/* d/d becomes d, with what is in it. */
static void
op_lift_directory(void)
{
	char		from[PATH_SPACE];
	char		parent[PATH_SPACE];
	char		aside[PATH_SPACE + 16];

	if (!pick(KIND_DIRECTORY, parent) || !pick_in(parent, KIND_DIRECTORY, from))
		return;
	snprintf(aside, sizeof(aside), "%s.aside", parent);
	if (rename(from, aside) < 0)
		return;
	if (tame)
	{
		/* everything stays somewhere */
		renameat2(AT_FDCWD, parent, AT_FDCWD, aside, RENAME_EXCHANGE);
		return;
	}
	remove_tree(parent);
	rename(aside, parent);
}

static void
op_exchange(void)
{
	char		a[PATH_SPACE];
	char		b[PATH_SPACE];
	Kind		kind = (Kind) below(3);

	if (pick(kind, a) && pick(kind, b))
		renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

static void
op_move_out(void)
{
	char		from[PATH_SPACE];
	char		to[PATH_SPACE + 16];

	snprintf(to, sizeof(to), "%s/o%zu", outside, below(10));
	if (pick(chance(2) ? KIND_FILE : KIND_DIRECTORY, from))
	{
		remove_tree(to);
		rename(from, to);
	}
}

static void
op_move_in(void)
{
	char		from[PATH_SPACE];
	char		deeper[PATH_SPACE];
	char		to[PATH_SPACE];

	if (!pick_in(outside, KIND_ANY, from))
		return;
	if (chance(2))
	{
		/* change it first, which nobody sees */
		if (pick_in(from, KIND_FILE, deeper))
			write_file(deeper, O_TRUNC, below(3000));
	}
	pick_name(to);
	rename(from, to);
}

static void
op_remove_file(void)
{
	char		path[PATH_SPACE];

	if (pick(KIND_FILE, path))
		unlink(path);
}

static void
op_remove_tree(void)
{
	char		path[PATH_SPACE];

	if (pick(KIND_DIRECTORY, path))
		remove_tree(path);
}

static void
op_copy_tree(void)
{
	char		from[PATH_SPACE];
	char		to[PATH_SPACE];
	size_t		budget = 60;

	if (!pick(KIND_DIRECTORY, from))
		return;
	pick_name(to);
	if (depth_of(to) < MAX_DEPTH + 3 && strncmp(from, to, strlen(from)) != 0)
		copy_tree(from, to, &budget);
}

static void
op_make_directory(void)
{
	char		path[PATH_SPACE];

	pick_name(path);
	if (depth_of(path) > MAX_DEPTH)
		return;

	/* as mkdir -p, with files at once */
	for (size_t n = 1 + below(3); n > 0; n--)
	{
		char		file[PATH_SPACE + 32];

		if (mkdir(path, 0755) < 0)
			return;
		for (size_t i = below(3); i > 0; i--)
		{
			snprintf(file, sizeof(file), "%s/f%zu", path, below(20));
			write_file(file, tame ? O_EXCL : O_TRUNC, below(3000));
		}
		snprintf(path + strlen(path), 32, "/d%zu", below(10));
	}
}

static void
op_file_to_directory(void)
{
	char		path[PATH_SPACE];
	char		file[PATH_SPACE + 8];

	if (!pick(KIND_FILE, path))
		return;
	unlink(path);
	mkdir(path, 0755);
	snprintf(file, sizeof(file), "%s/f1", path);
	write_file(file, O_TRUNC, below(3000));
}

static void
op_directory_to_file(void)
{
	char		path[PATH_SPACE];

	if (!pick(KIND_DIRECTORY, path))
		return;
	remove_tree(path);
	write_file(path, O_TRUNC, below(3000));
}

/* A name that starts, or stops, being ignored. */
static void
op_rename_ignored(void)
{
	char		from[PATH_SPACE];
	char		to[PATH_SPACE + 16];
	char	   *name;
	size_t		len;

	if (!pick(KIND_ANY, from))
		return;
	name = strrchr(from, '/') + 1;
	len = strlen(name);
	if (name[0] == '.' && len > 1)
		snprintf(to, sizeof(to), "%.*s%s", (int) (name - from), from, name + 1);
	else if (len > 4 && strcmp(name + len - 4, ".tmp") == 0)
		snprintf(to, sizeof(to), "%.*s", (int) (strlen(from) - 4), from);
	else if (len > 1 && name[len - 1] == '~')
		snprintf(to, sizeof(to), "%.*s", (int) (strlen(from) - 1), from);
	else if (chance(3))
		snprintf(to, sizeof(to), "%.*s.%.200s", (int) (name - from), from, name);
	else
		snprintf(to, sizeof(to), "%s%s", from, chance(2) ? ".tmp" : "~");
	rename(from, to);
}

static void
op_mmap(void)
{
	char		path[PATH_SPACE];
	struct stat st;
	int			fd;

	if (!pick(KIND_FILE, path))
		return;
	fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_size > 0)
	{
		size_t		len = st.st_size < 65536 ? st.st_size : 65536;
		char	   *data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (data != MAP_FAILED)
		{
			/*
			 * Several stores, the later ones into a page that is dirty
			 * already; another process may truncate the file, so writes go
			 * through the kernel, which gives EFAULT where we would die.
			 */
			for (int i = 0; i < 3; i++)
			{
				char		bytes[16];
				int			pipe_fds[2];

				fill(bytes, sizeof(bytes));
				if (len < sizeof(bytes) || pipe(pipe_fds) < 0)
					break;
				if (write(pipe_fds[1], bytes, sizeof(bytes)) < 0 ||
					read(pipe_fds[0], data + below(len - 15), sizeof(bytes)) < 0)
					i = 3;
				close(pipe_fds[0]);
				close(pipe_fds[1]);
				if (chance(4))
					usleep(below(8000));
			}
			munmap(data, len);
		}
	}
	close(fd);
}

static void
op_symlink(void)
{
	const char *targets[] = {outside_file, root, ".", "nowhere", "f1", "d1"};
	char		path[PATH_SPACE];

	if (chance(2))
		pick_name(path);
	else if (!pick(KIND_ANY, path))
		return;
	if (chance(2))
		remove_tree(path);
	if (symlink(targets[below(6)], path) < 0)
		unlink(path);
}

static void
op_fifo(void)
{
	char		path[PATH_SPACE];

	pick_name(path);
	if (chance(2))
		remove_tree(path);
	mkfifo(path, 0644);
}

/* Not through a symbolic link, which may be here by now. */
static void
change_mode(const char *path, mode_t mode)
{
	int			fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char		link_path[40];
	struct stat st;

	snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", fd);
	if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISLNK(st.st_mode))
		chmod(link_path, mode);
	if (fd >= 0)
		close(fd);
}

static void
op_chmod(void)
{
	char		path[PATH_SPACE];
	struct stat st;
	mode_t		mode;

	if (!pick(chance(3) ? KIND_DIRECTORY : KIND_FILE, path) || lstat(path, &st) < 0)
		return;
	mode = S_ISDIR(st.st_mode) ? 0755 : 0644;
	change_mode(path, 0);
	usleep(below(3000));
	if (!chance(3))
		change_mode(path, mode);
}

static void
op_restore_modes(void)
{
	restore_modes(".");
}

static void
op_touch(void)
{
	char		path[PATH_SPACE];
	struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};

	if (!pick(KIND_FILE, path))
		return;
	if (chance(3))
	{
		times[1].tv_sec = (time_t) below(2000000000);
		times[1].tv_nsec = (long) below(1000000000);
	}
	utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

typedef struct Operation
{
	const char *name;
	void		(*run) (void);
	unsigned	weight[3];		/* all, make, moves */
} Operation;

/* The makers outweigh the removers, which take whole trees at a time. */
static const Operation operations[] = {
	{"write", op_write, {22, 12, 0}},
	{"overwrite", op_overwrite, {6, 0, 0}},
	{"append", op_append, {5, 0, 0}},
	{"truncate", op_truncate, {4, 0, 0}},
	{"rewrite", op_rewrite_same, {5, 0, 0}},
	{"save", op_atomic_save, {5, 0, 0}},
	{"link", op_link, {8, 0, 0}},
	{"rename", op_rename_file, {8, 0, 10}},
	{"rename-dir", op_rename_directory, {6, 0, 8}},
	{"lift-dir", op_lift_directory, {1, 0, 2}},
	{"exchange", op_exchange, {4, 0, 6}},
	{"move-out", op_move_out, {2, 0, 0}},
	{"move-in", op_move_in, {3, 0, 0}},
	{"remove", op_remove_file, {4, 0, 0}},
	{"rm-rf", op_remove_tree, {1, 0, 0}},
	{"copy", op_copy_tree, {5, 0, 0}},
	{"mkdir", op_make_directory, {9, 5, 0}},
	{"file-to-dir", op_file_to_directory, {1, 0, 0}},
	{"dir-to-file", op_directory_to_file, {1, 0, 0}},
	{"ignore", op_rename_ignored, {3, 0, 0}},
	{"mmap", op_mmap, {4, 0, 0}},
	{"symlink", op_symlink, {2, 0, 0}},
	{"fifo", op_fifo, {1, 0, 0}},
	{"chmod", op_chmod, {3, 0, 0}},
	{"modes", op_restore_modes, {1, 0, 0}},
	{"touch", op_touch, {4, 0, 0}},
};

#define N_OPERATIONS	(sizeof(operations) / sizeof(operations[0]))

static void
storm(unsigned long ops, int mode, uint64_t *counts)
{
	unsigned	total = 0;

	for (size_t i = 0; i < N_OPERATIONS; i++)
		total += operations[i].weight[mode];
	for (unsigned long n = 0; n < ops; n++)
	{
		size_t		at = below(total);
		size_t		i = 0;

		if (mode == 0 && n % 50 == 0)
		{
			size_t		files = 0;
			size_t		directories = 0;

			count_tree(".", &files, &directories);
			while (files > MAX_FILES || directories > MAX_DIRECTORIES)
			{
				op_remove_tree();
				files = files > 20 ? files - 20 : 0;
				directories = directories > 5 ? directories - 5 : 0;
			}
		}
		while (at >= operations[i].weight[mode])
			at -= operations[i++].weight[mode];
		operations[i].run();
		counts[i]++;
		if (chance(20))
			usleep(below(3000));
		if (chance(400))
			usleep(below(100000));
	}
}

/*
 * A path is resolved again and again, and any part of it may be a symbolic
 * link by then.  So links lead nowhere but into the tree or to its outside,
 * and Landlock sees to it that nothing else is ever changed.
 */
static int
confine(void)
{
	struct landlock_ruleset_attr attr = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
		LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
		LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
		LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
		LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |
		LANDLOCK_ACCESS_FS_REFER
	};
	const char *allowed[2] = {root, outside};
	int			ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (ruleset < 0)
		return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -1;
	for (int i = 0; i < 2; i++)
	{
		struct landlock_path_beneath_attr rule = {
			.allowed_access = attr.handled_access_fs,
			.parent_fd = open(allowed[i], O_PATH | O_DIRECTORY | O_CLOEXEC)
		};

		if (rule.parent_fd < 0 ||
			syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
			return -1;
		close(rule.parent_fd);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return -1;
	close(ruleset);
	return 0;
}

int
main(int argc, char **argv)
{
	static const char *const modes[] = {"all", "make", "moves"};
	uint64_t	seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	unsigned long ops = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	int			processes = argc > 4 ? atoi(argv[4]) : 1;
	int			mode = 0;
	uint64_t   *counts;
	char	   *real;

	while (argc > 5 && mode < 3 && strcmp(argv[5], modes[mode]) != 0)
		mode++;
	if (argc < 4 || argc > 6 || processes < 1 || mode == 3)
	{
		fprintf(stderr, "usage: storm DIR SEED OPS [PROCESSES [all|make|moves]]\n");
		return 2;
	}
	tame = mode != 0;
	real = realpath(argv[1], NULL);
	if (real == NULL || chdir(real) < 0)
	{
		perror(argv[1]);
		return 2;
	}
	snprintf(root, sizeof(root), "%.4000s", real);
	snprintf(outside, sizeof(outside), "%.4000s.outside", real);
	mkdir(outside, 0755);
	snprintf(outside_file, sizeof(outside_file), "%s/secret", outside);
	write_file(outside_file, O_TRUNC, 100);
	if (confine() < 0)
	{
		perror("storm: could not confine itself");
		return 2;
	}
	counts = mmap(NULL, processes * N_OPERATIONS * sizeof(uint64_t), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		return 2;
	for (int p = 0; p < processes; p++)
	{
		pid_t		pid = fork();

		if (pid < 0)
			return 2;
		if (pid > 0)
			continue;
		random_state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) +
			(uint64_t) p * UINT64_C(0xbf58476d1ce4e5b9);
		if (random_state == 0)
			random_state = 1;
		for (int i = 0; i < 8; i++)
			next_random();
		storm(ops / processes, mode, counts + p * N_OPERATIONS);
		_exit(0);
	}
	for (int p = 0; p < processes; p++)
	{
		int			status;

		if (wait(&status) < 0 || status != 0)
		{
			fprintf(stderr, "storm: a process ended with status 0x%x\n", status);
			return 1;
		}
	}
	restore_modes(".");
	restore_modes(outside);
	for (size_t i = 0; i < N_OPERATIONS; i++)
	{
		uint64_t	sum = 0;

		for (int p = 0; p < processes; p++)
			sum += counts[p * N_OPERATIONS + i];
		if (sum > 0)
			printf("%s %" PRIu64 " ", operations[i].name, sum);
	}
	printf("\n");
	free(real);
	return 0;
}
