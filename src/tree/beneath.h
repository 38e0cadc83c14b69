/*-------------------------------------------------------------------------
 *
 * beneath.h
 *		Opening and examining paths that never lead outside the root.
 *
 * Every access to the watched tree goes through here.  No component of a path
 * is followed if it is a symbolic link (openat2 with RESOLVE_BENEATH and
 * RESOLVE_NO_SYMLINKS, or O_NOFOLLOW steps where the kernel or a container
 * refuses openat2), so a directory that is swapped for a link in a race gives
 * an error, not another tree.  Files are opened O_PATH first and examined:
 * opening a FIFO would wake its writer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_BENEATH_H
#define FSYNC_BENEATH_H

#include "protocol.h"

#include <sys/stat.h>
#include <sys/types.h>

typedef struct FileInfo
{
	ProtoStat	stat;
	mode_t		mode;
	dev_t		dev;
	uint32_t	nlink;
	uid_t		uid;
} FileInfo;

/*
 * The descriptor of the directory at path ("" is the root itself), opened
 * with flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, or -1 with errno.  ELOOP
 * and ENOTDIR mean that a component is not a directory (any more).
 */
extern int	beneath_open_directory(int rootfd, const char *path, size_t len, int flags);

/*
 * The descriptor (O_PATH) of the directory at an absolute path without symbolic
 * links, or -1 with errno: ELOOP where there is one in it now, or at its end.
 */
extern int	beneath_open_root(const char *path);

/* statx of name (no '/') in dirfd, not following; 0, or -1 with errno. */
extern int	beneath_stat_at(int dirfd, const char *name, FileInfo *info);

/* The same of the object behind a descriptor (O_PATH too). */
extern int	beneath_stat_fd(int fd, FileInfo *info);

/*
 * The same of a whole path.  ENOENT, ENOTDIR and ELOOP from the directory
 * part all mean that there is nothing at this path: they become ENOENT.
 */
extern int	beneath_stat(int rootfd, const char *path, size_t len, FileInfo *info);

/*
 * The directory in which a path was looked at last: of many paths in order
 * most are in the directory of the one before.  To be kept for one round of
 * looks only, since a directory may be renamed.
 */
typedef struct LastDirectory
{
	int			fd;				/* O_PATH; -1: there is none */
	int			error;			/* why there is none */
	FileInfo	info;			/* of the directory, where fd is one */
	size_t		len;
	char		path[PROTO_PATH_MAX + 1];
	bool		valid;
} LastDirectory;

/* Nothing is open; what path holds does not matter. */
static inline void
beneath_begin(LastDirectory *last)
{
	last->fd = -1;
	last->valid = false;
}

/*
 * As beneath_stat() of a terminated path that is not empty, by way of the last
 * directory where that is path's.
 */
extern int	beneath_stat_near(int rootfd, const char *path, size_t len,
							  LastDirectory *last, FileInfo *info);

/* Closes what is open. */
extern void beneath_end(LastDirectory *last);

/*
 * A descriptor to read the regular file at path, and what stat says of it, or
 * -1 with errno: EINVAL when it is not a regular file (nothing was opened),
 * EAGAIN when another process holds a lease.  O_NOATIME where permitted.
 */
extern int	beneath_open_file(int rootfd, const char *path, size_t len, FileInfo *info);

/* Whether the two are one state of one file, as far as stat can tell. */
extern bool beneath_same_state(const FileInfo *a, const FileInfo *b);

/* Seconds and nanoseconds to nanoseconds since 1970, saturating. */
extern int64_t beneath_ns(int64_t sec, int64_t nsec);

#endif							/* FSYNC_BENEATH_H */
