/*-------------------------------------------------------------------------
 *
 * beneath.c
 *		Opening and examining paths that never lead outside the root.
 *
 * openat2() resolves a whole path in one call and refuses every symbolic link
 * on the way.  Where it is missing (Linux before 5.6) or forbidden (the
 * system call filters of some containers), a path is resolved one component
 * at a time with O_NOFOLLOW; that is as safe, only slower.  Which of the two
 * works is found out once for the whole process.
 *
 * Paths must be in normal form, as the walk and the table have them: no empty
 * components, no "." or "..", no NUL.  Nothing can be at any other path, so
 * the answer for it is ENOENT.
 *
 *-------------------------------------------------------------------------
 */
#include "beneath.h"

#include "open_how.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * The most bytes of a path that are given to the kernel at once: it refuses
 * PATH_MAX (4,096) and more, so longer paths are opened in pieces.
 */
#define CHUNK_MAX			3900

/*
 * A racing rename may make openat2() give up, with EAGAIN, or with EXDEV where
 * it took what was found away from below the root; then the steps are tried.
 */
#define OPENAT2_ATTEMPTS	8

static atomic_bool openat2_missing = false;

static int
call_openat2(int dirfd, const char *path, int flags)
{
	const struct open_how *how = open_how(flags);

	return how == NULL ? -1 : (int) syscall(SYS_openat2, dirfd, path, how, sizeof(*how));
}

/*
 * Whether an openat2() that failed with EPERM was forbidden as such: a file
 * may also refuse O_NOATIME with it.  The root itself refuses nothing to
 * O_PATH.
 */
static bool
openat2_forbidden(int dirfd)
{
	int			fd = call_openat2(dirfd, ".", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
	{
		close(fd);
		return false;
	}
	return errno == EPERM;
}

/* Resolves a terminated path one component at a time. */
static int
open_stepwise(int dirfd, char *path, int flags)
{
	int			at = dirfd;
	char	   *name = path;

	for (;;)
	{
		char	   *slash = strchr(name, '/');
		int			fd;
		int			save_errno;

		if (slash == NULL)
			fd = openat(at, name, flags);
		else
		{
			*slash = '\0';
			fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			*slash = '/';
		}
		save_errno = errno;
		if (at != dirfd)
			close(at);
		errno = save_errno;
		if (fd < 0 || slash == NULL)
			return fd;
		at = fd;
		name = slash + 1;
	}
}

/* Opens a terminated path in normal form of at most CHUNK_MAX bytes. */
static int
open_chunk(int dirfd, char *path, int flags)
{
	if (!atomic_load_explicit(&openat2_missing, memory_order_relaxed))
	{
		int			attempt;

		for (attempt = 0; attempt < OPENAT2_ATTEMPTS; attempt++)
		{
			int			fd = call_openat2(dirfd, path, flags);

			if (fd >= 0)
				return fd;
			if (errno == EAGAIN || errno == EINTR || errno == EXDEV)
				continue;
			if (errno == ENOSYS)
			{
				atomic_store_explicit(&openat2_missing, true, memory_order_relaxed);
				break;
			}
			if (errno != EPERM)
				return -1;
			if (!openat2_forbidden(dirfd))
			{
				errno = EPERM;
				return -1;
			}
			atomic_store_explicit(&openat2_missing, true, memory_order_relaxed);
			break;
		}
	}
	return open_stepwise(dirfd, path, flags);
}

static bool
normal_form(const char *path, size_t len)
{
	const char *end = path + len;

	if (len == 0)
		return true;
	if (memchr(path, '\0', len) != NULL)
		return false;
	for (;;)
	{
		const char *slash = memchr(path, '/', (size_t) (end - path));
		size_t		n = (size_t) ((slash ? slash : end) - path);

		if (n == 0 ||
			(n == 1 && path[0] == '.') ||
			(n == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		if (slash == NULL)
			return true;
		path = slash + 1;
	}
}

/* Opens a path of any length; O_NOFOLLOW and O_CLOEXEC are added to flags. */
static int
open_path(int rootfd, const char *path, size_t len, int flags)
{
	char		chunk[CHUNK_MAX + 1];
	int			at = rootfd;
	int			fd;
	int			save_errno;

	flags |= O_NOFOLLOW | O_CLOEXEC;
	if (!normal_form(path, len))
	{
		errno = ENOENT;
		return -1;
	}
	while (len > CHUNK_MAX)
	{
		size_t		n = CHUNK_MAX;

		while (n > 0 && path[n] != '/')
			n--;
		if (n == 0)
		{
			if (at != rootfd)
				close(at);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(chunk, path, n);
		chunk[n] = '\0';
		fd = open_chunk(at, chunk, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		save_errno = errno;
		if (at != rootfd)
			close(at);
		errno = save_errno;
		if (fd < 0)
			return -1;
		at = fd;
		path += n + 1;
		len -= n + 1;
	}
	if (len == 0)
		strcpy(chunk, ".");
	else
	{
		memcpy(chunk, path, len);
		chunk[len] = '\0';
	}
	fd = open_chunk(at, chunk, flags);
	save_errno = errno;
	if (at != rootfd)
		close(at);
	errno = save_errno;
	return fd;
}

/*
 * O_NOATIME in flags is a wish: only the owner of a directory may have it.
 */
int
beneath_open_directory(int rootfd, const char *path, size_t len, int flags)
{
	int			fd = open_path(rootfd, path, len, flags | O_DIRECTORY);

	if (fd < 0 && errno == EPERM && (flags & O_NOATIME) != 0)
		fd = open_path(rootfd, path, len, (flags & ~O_NOATIME) | O_DIRECTORY);
	return fd;
}

/*
 * Below the directory "/", where also openat2() may be missing: then a link in
 * the place of a directory is told by ENOTDIR, as at one step's end.
 */
int
beneath_open_root(const char *path)
{
	int			top;
	int			fd;
	int			save_errno;

	if (path[0] != '/')
	{
		errno = ENOENT;
		return -1;
	}
	top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		return -1;
	fd = beneath_open_directory(top, path + 1, strlen(path + 1), O_PATH);
	save_errno = errno;
	close(top);
	errno = save_errno;
	return fd;
}

int64_t
beneath_ns(int64_t sec, int64_t nsec)
{
	int64_t		ns;

	/*
	 * The earliest second that can be held is only held in part, so compute
	 * towards zero: (sec + 1) s - (1 s - nsec) for times before 1970.
	 */
	if (sec < 0)
	{
		sec++;
		nsec -= INT64_C(1000000000);
	}
	if (__builtin_mul_overflow(sec, INT64_C(1000000000), &ns) ||
		__builtin_add_overflow(ns, nsec, &ns))
		return sec <= 0 ? PROTO_NO_TIME + 1 : INT64_MAX;

	/* the least value stands for no time */
	return ns == PROTO_NO_TIME ? PROTO_NO_TIME + 1 : ns;
}

static int
stat_with(int dirfd, const char *name, int flags, FileInfo *info)
{
	struct statx stx;

	if (statx(dirfd, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
			  STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
		return -1;
	info->stat.size = stx.stx_size > INT64_MAX ? INT64_MAX : (int64_t) stx.stx_size;
	info->stat.inode = (int64_t) stx.stx_ino;
	info->stat.mtime_sec = stx.stx_mtime.tv_sec;
	info->stat.mtime_nsec = (int32_t) stx.stx_mtime.tv_nsec;
	info->stat.mtime_ns = beneath_ns(stx.stx_mtime.tv_sec, stx.stx_mtime.tv_nsec);
	info->stat.ctime_ns = beneath_ns(stx.stx_ctime.tv_sec, stx.stx_ctime.tv_nsec);
	if ((stx.stx_mask & STATX_BTIME) != 0)
		info->stat.btime_ns = beneath_ns(stx.stx_btime.tv_sec, stx.stx_btime.tv_nsec);
	else
		info->stat.btime_ns = PROTO_NO_TIME;
	info->mode = stx.stx_mode;
	info->dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	info->nlink = stx.stx_nlink;
	info->uid = stx.stx_uid;
	return 0;
}

int
beneath_stat_at(int dirfd, const char *name, FileInfo *info)
{
	return stat_with(dirfd, name, 0, info);
}

int
beneath_stat_fd(int fd, FileInfo *info)
{
	return stat_with(fd, "", AT_EMPTY_PATH, info);
}

int
beneath_stat(int rootfd, const char *path, size_t len, FileInfo *info)
{
	const char *slash = len > 0 ? memrchr(path, '/', len) : NULL;
	const char *base = slash ? slash + 1 : path;
	size_t		base_len = len - (size_t) (base - path);
	char		name[CHUNK_MAX + 1];
	int			dirfd = rootfd;
	int			result;

	if (!normal_form(path, len))
	{
		errno = ENOENT;
		return -1;
	}
	if (len == 0)
		return beneath_stat_fd(rootfd, info);
	if (base_len > CHUNK_MAX)
	{
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(name, base, base_len);
	name[base_len] = '\0';
	if (slash != NULL)
	{
		dirfd = beneath_open_directory(rootfd, path, (size_t) (slash - path), O_PATH);
		if (dirfd < 0)
		{
			if (errno == ENOTDIR || errno == ELOOP)
				errno = ENOENT;
			return -1;
		}
	}
	result = beneath_stat_at(dirfd, name, info);
	if (dirfd != rootfd)
	{
		int			save_errno = errno;

		close(dirfd);
		errno = save_errno;
	}
	return result;
}

void
beneath_end(LastDirectory *last)
{
	if (last->fd >= 0)
		close(last->fd);
	beneath_begin(last);
}

/* Makes the directory at path the last one. */
static void
enter(int rootfd, const char *path, size_t len, LastDirectory *last)
{
	if (last->valid && last->len == len && memcmp(last->path, path, len) == 0)
		return;
	beneath_end(last);
	last->fd = beneath_open_directory(rootfd, path, len, O_PATH);
	last->error = errno;
	if (last->fd >= 0 && beneath_stat_fd(last->fd, &last->info) < 0)
	{
		last->error = errno;
		close(last->fd);
		last->fd = -1;
	}
	last->valid = len < sizeof(last->path);
	last->len = len;
	if (last->valid)
		memcpy(last->path, path, len);
}

int
beneath_stat_near(int rootfd, const char *path, size_t len, LastDirectory *last,
				  FileInfo *info)
{
	const char *slash = memrchr(path, '/', len);
	const char *name = slash ? slash + 1 : path;

	if (len == 0 || !normal_form(path, len))
	{
		errno = ENOENT;
		return -1;
	}
	enter(rootfd, path, slash ? (size_t) (slash - path) : 0, last);
	if (last->fd >= 0)
		return beneath_stat_at(last->fd, name, info);
	errno = last->error == ENOTDIR || last->error == ELOOP ? ENOENT : last->error;
	return -1;
}

static pthread_once_t descriptors_once = PTHREAD_ONCE_INIT;
static int	descriptors = -1;	/* this process's /proc/self/fd, O_PATH; -1: it
								 * could not be opened */
static uid_t user;				/* and who it is */

static void
open_descriptors(void)
{
	if (descriptors >= 0)
		close(descriptors);
	descriptors = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	user = geteuid();
}

static void
open_descriptors_once(void)
{
	open_descriptors();
	(void) pthread_atfork(NULL, NULL, open_descriptors);
}

/*
 * Opens for reading what an O_PATH descriptor stands for: the very object
 * that was examined, whatever its path names by now.
 */
static int
reopen(int pathfd, uid_t owner)
{
	const int	flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	char		name[sizeof("/proc/self/fd/") + 11];
	int			fd;

	pthread_once(&descriptors_once, open_descriptors_once);
	snprintf(name, sizeof(name), "%s%d", descriptors < 0 ? "/proc/self/fd/" : "", pathfd);
	fd = openat(descriptors, name, owner == user || user == 0 ? flags | O_NOATIME : flags);
	if (fd < 0 && errno == EPERM)
		fd = openat(descriptors, name, flags);
	if (fd < 0 && errno == ENOENT && access("/proc/self/fd", F_OK) < 0)
		errno = ENOSYS;			/* no /proc; that says nothing of the file */
	else if (fd < 0 && errno == EINVAL)
		errno = EIO;			/* EINVAL is for what is not a regular file */
	return fd;
}

int
beneath_open_file(int rootfd, const char *path, size_t len, FileInfo *info)
{
	int			pathfd = open_path(rootfd, path, len, O_PATH);
	int			fd = -1;
	int			save_errno;

	if (pathfd < 0)
		return -1;
	if (beneath_stat_fd(pathfd, info) == 0)
	{
		if (S_ISREG(info->mode))
			fd = reopen(pathfd, info->uid);
		else
			errno = EINVAL;
	}
	save_errno = errno;
	close(pathfd);
	errno = save_errno;
	return fd;
}

bool
beneath_same_state(const FileInfo *a, const FileInfo *b)
{
	return a->dev == b->dev &&
		a->stat.inode == b->stat.inode &&
		a->stat.size == b->stat.size &&
		a->stat.mtime_sec == b->stat.mtime_sec &&
		a->stat.mtime_nsec == b->stat.mtime_nsec &&
		a->stat.ctime_ns == b->stat.ctime_ns;
}
