/*-------------------------------------------------------------------------
 *
 * check.c
 *		Whether a directory can be registered.
 *
 * The path is opened once, and all that is said is said of that directory: its
 * real path is asked of the kernel, and holds when opening it without following
 * any link leads to the same directory.  Whatever is at the path a moment later
 * has another identity than the one that the server remembers.
 *
 *-------------------------------------------------------------------------
 */
#include "check.h"

#include "beneath.h"
#include "identity.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int
fail(const char *word, int error)
{
	printf("error\t%s\t%s\n", word, strerror(error));
	return 1;
}

static int
fail_to_open(const char *path, int error)
{
	struct stat st;

	if (error == ENOTDIR && stat(path, &st) == 0)
		return fail("not_directory", error);
	return fail(error == ENOENT || error == ENOTDIR ? "missing" :
				error == EACCES || error == EPERM ? "not_readable" : "other", error);
}

static bool
same_directory(const FileInfo *a, const FileInfo *b)
{
	return a->dev == b->dev && a->stat.inode == b->stat.inode;
}

/* Where the open directory is, as the kernel knows it. */
static bool
real_path(int fd, char path[PATH_MAX])
{
	char		name[40];
	ssize_t		len;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	len = readlink(name, path, PATH_MAX - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	return true;
}

/* The directory and those above it, up to the top; false with errno. */
static bool
print_places(int fd)
{
	FileInfo	info;
	FileInfo	top;
	int			at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool		good = at >= 0 && beneath_stat_fd(at, &top) == 0;

	if (at >= 0)
		close(at);
	for (at = fd; good;)
	{
		int			above;

		good = beneath_stat_fd(at, &info) == 0;
		if (!good)
			break;
		printf("\n%" PRIu64 " %" PRIu64, (uint64_t) info.dev, (uint64_t) info.stat.inode);
		if (same_directory(&info, &top))
			break;
		above = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (at != fd)
			close(at);
		at = above;
		good = at >= 0;
	}
	if (at >= 0 && at != fd)
		close(at);
	return good;
}

/*
 * Opens the deepest directory above the path that is there; the path is not.
 * *len: of the part of the path that names it.  -1 with errno; ELOOP: there is a
 * link that leads nowhere.
 */
static int
open_above(const char *path, size_t *len)
{
	char		part[PATH_MAX];
	size_t		n = strlen(path);
	struct stat st;
	int			fd;

	if (n >= sizeof(part))
	{
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(part, path, n + 1);
	do
	{
		while (n > 1 && part[n - 1] == '/')
			part[--n] = '\0';
		if (lstat(part, &st) == 0)
		{
			errno = S_ISLNK(st.st_mode) ? ELOOP : EAGAIN;
			return -1;
		}
		while (n > 0 && part[n - 1] != '/')
			part[--n] = '\0';
		if (n == 0)
		{
			errno = ENOENT;
			return -1;
		}
		fd = open(part, O_PATH | O_DIRECTORY | O_CLOEXEC);
	} while (fd < 0 && errno == ENOENT);
	*len = n;
	return fd;
}

/* Names that are to come below a directory; false: they could lead elsewhere. */
static bool
join_names(char path[PATH_MAX], const char *names)
{
	size_t		n = strlen(path);

	while (*names != '\0')
	{
		size_t		len = strcspn(names, "/");

		if (len == 2 && names[0] == '.' && names[1] == '.')
			return false;
		if (len > 0 && !(len == 1 && names[0] == '.'))
		{
			if (n + 1 + len >= PATH_MAX)
				return false;
			if (path[n - 1] != '/')
				path[n++] = '/';
			memcpy(path + n, names, len);
			n += len;
			path[n] = '\0';
		}
		names += len;
		names += strspn(names, "/");
	}
	return true;
}

int
check_absent(const char *path, bool must_be_complete)
{
	Sandbox		sandbox;
	char		real[PATH_MAX];
	size_t		len = 0;
	int			fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int			error = errno;

	if (fd >= 0)
	{
		close(fd);
		return check_answer(path, must_be_complete);
	}
	if (error == ENOENT)
	{
		fd = open_above(path, &len);
		error = errno;
	}
	sandbox_process();
	sandbox_enter(-1, &sandbox);
	if (must_be_complete && !sandbox.complete)
		return PROTO_EXIT_UNCONFINED;
	if (fd < 0)
		return error == ELOOP ? fail("link", error) : fail_to_open(path, error);
	if (!real_path(fd, real) || !join_names(real, path + len))
		return fail("missing", ENOENT);
	printf("absent\t%s%c", real, '\0');
	if (!print_places(fd))
		return 1;
	putchar('\n');
	return 0;
}

int
check_answer(const char *path, bool must_be_complete)
{
	Sandbox		sandbox;
	FileInfo	info;
	FileInfo	again_info;
	char		identity[IDENTITY_MAX];
	char		real[PATH_MAX];
	int			fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int			error = errno;
	int			again;

	sandbox_process();
	sandbox_enter(fd, &sandbox);
	if (must_be_complete && !sandbox.complete)
		return PROTO_EXIT_UNCONFINED;
	if (fd < 0)
		return fail_to_open(path, error);
	if (beneath_stat_fd(fd, &info) < 0)
		return fail_to_open(path, errno);
	if (faccessat(fd, ".", R_OK | X_OK, AT_EACCESS) < 0)
		return fail_to_open(path, errno);
	if (!real_path(fd, real) || identity_of(fd, identity) < 0)
		return fail_to_open(path, errno);
	again = beneath_open_root(real);
	if (again < 0)
		return fail_to_open(path, errno);
	if (beneath_stat_fd(again, &again_info) < 0 || !same_directory(&info, &again_info))
		return fail("other", ESTALE);
	printf("ok\t%s%c%s", real, '\0', identity);
	if (!print_places(fd))
		return 1;
	putchar('\n');
	return 0;
}
