/*-------------------------------------------------------------------------
 *
 * root_path.c
 *		Whether the registered path still leads to the registered directory.
 *
 * Device, inode number and time of birth say within the life of one process
 * which directory it is; across processes identity.c does.  A device number
 * that is another one because the disk was unmounted and mounted again looks
 * like another directory here, and is then examined as a new root is.
 *
 * Where the given path leads elsewhere it is not followed: whoever can change
 * a link would choose what the server reads.
 *
 *-------------------------------------------------------------------------
 */
#include "root_path.h"

#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int
root_path_init(RootPath *path, ProtoStr root, ProtoStr given)
{
	memset(path, 0, sizeof(*path));
	path->root = strndup(root.data, root.len);
	if (path->root == NULL)
		return -1;
	if (given.len == 0 || (given.len == root.len &&
						   memcmp(given.data, root.data, root.len) == 0))
		return 0;
	path->given = strndup(given.data, given.len);
	return path->given != NULL ? 0 : -1;
}

void
root_path_free(RootPath *path)
{
	free(path->root);
	free(path->given);
	memset(path, 0, sizeof(*path));
}

/* As little as tells a directory: no server need be asked for its size. */
static int
examine(int dirfd, const char *name, int flags, struct statx *st)
{
	if (statx(dirfd, name, flags | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO | STATX_BTIME,
			  st) < 0)
		return -1;
	if ((st->stx_mask & STATX_BTIME) == 0)
		memset(&st->stx_btime, 0, sizeof(st->stx_btime));
	return 0;
}

bool
root_path_note(RootPath *path, int rootfd)
{
	struct statx st;

	path->known = examine(rootfd, "", AT_EMPTY_PATH, &st) == 0;
	if (!path->known)
		return false;
	path->dev_major = st.stx_dev_major;
	path->dev_minor = st.stx_dev_minor;
	path->inode = st.stx_ino;
	path->birth_sec = st.stx_btime.tv_sec;
	path->birth_nsec = st.stx_btime.tv_nsec;
	return true;
}

static bool
is_noted(const RootPath *path, const struct statx *st)
{
	return path->known && st->stx_dev_major == path->dev_major &&
		st->stx_dev_minor == path->dev_minor && st->stx_ino == path->inode &&
		st->stx_btime.tv_sec == path->birth_sec && st->stx_btime.tv_nsec == path->birth_nsec;
}

bool
root_path_leads_there(const RootPath *path)
{
	struct statx st;

	return examine(AT_FDCWD, path->root, AT_SYMLINK_NOFOLLOW, &st) == 0 &&
		is_noted(path, &st);
}

bool
root_path_follow(RootPath *path)
{
	bool		before = path->astray;
	struct statx st;
	int			error;

	path->lacking = 0;
	if (path->given == NULL || !path->known)
		return false;
	error = examine(AT_FDCWD, path->given, 0, &st) < 0 ? errno : 0;
	if (shortage_is(error))
	{
		path->lacking = error;
		return false;
	}
	path->astray = error != 0 || !is_noted(path, &st);

	/* Where it leads is not said: who changes a link would learn what there is. */
	if (path->astray)
		snprintf(path->reason, sizeof(path->reason),
				 "path \"%.200s\" does not lead to the registered directory \"%.200s\" any more",
				 path->given, path->root);
	return path->astray != before;
}
