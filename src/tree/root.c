/*-------------------------------------------------------------------------
 *
 * root.c
 *		The root of the repository.
 *
 * Renaming an ancestor of the root, or mounting something over it, is
 * reported by no event.  So the path is opened anew whenever a row might be
 * removed, and its identity compared with the one that was accepted when the
 * repository was registered, or last read completely.
 *
 * Who can write above the root can put a symbolic link in its place, or move
 * another directory there.  So no link is followed, and whatever is opened is
 * looked up among the server's own directories by device and inode, which no
 * name can hide.
 *
 *-------------------------------------------------------------------------
 */
#include "root.h"

#include "beneath.h"
#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

int
root_init(Root *root, const ProtoInit *init, int mountinfo_fd)
{
	memset(root, 0, sizeof(*root));
	root->fd = -1;
	root->mountinfo_fd = mountinfo_fd;
	root->path = strndup(init->root.data, init->root.len);
	root->server = malloc(init->server.len + 1);
	if (root->path == NULL || root->server == NULL)
		return -1;
	memcpy(root->server, init->server.data, init->server.len);
	root->server_len = init->server.len;
	if (init->identity.len < sizeof(root->identity))
		memcpy(root->identity, init->identity.data, init->identity.len);
	root->replaced = init->rows_identity.len > 0 &&
		!identity_same(init->rows_identity, init->identity);
	return mounts_decode(init->mounts, &root->accepted);
}

void
root_free(Root *root)
{
	root_close(root);
	mounts_free(&root->accepted);
	mounts_free(&root->now);
	free(root->guarded.mounts);
	free(root->path);
	free(root->server);
}

/* Whether this is one of the places; below: the directory that lies above a root. */
static bool
is_of_server(const Root *root, dev_t device, ino_t inode, bool below)
{
	ProtoStr	list = {root->server, (uint32_t) root->server_len};
	ProtoPlace	place;

	while (proto_next_place(&list, &place))
	{
		if (place.inode == inode && place.device == device && (place.whole || !below))
			return true;
	}
	return false;
}

/*
 * Looks at the open root and at all directories above it: ROOT_OK where none is
 * one of the server's, ROOT_MISSING with errno where that cannot be told.
 */
static RootTrouble
check_places(Root *root, int rootfd)
{
	FileInfo	top;
	FileInfo	info;
	RootTrouble trouble = ROOT_MISSING;
	int			fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool		good = fd >= 0 && beneath_stat_fd(fd, &top) == 0 &&
		beneath_stat_fd(rootfd, &info) == 0;
	int			error;

	if (fd >= 0)
		close(fd);
	fd = rootfd;
	if (good && root->clear_inode != 0 && info.dev == root->clear_device &&
		(ino_t) info.stat.inode == root->clear_inode)
		return ROOT_OK;
	root->clear_inode = 0;
	if (good)
	{
		root->clear_device = info.dev;
		root->clear_inode = (ino_t) info.stat.inode;
	}
	while (good)
	{
		int			above;

		if (is_of_server(root, info.dev, (ino_t) info.stat.inode, fd != rootfd))
		{
			trouble = ROOT_OF_SERVER;
			break;
		}
		if (info.dev == top.dev && info.stat.inode == top.stat.inode)
		{
			trouble = ROOT_OK;
			break;
		}
		above = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		error = errno;
		if (fd != rootfd)
			close(fd);
		fd = above;
		errno = error;
		good = fd >= 0 && beneath_stat_fd(fd, &info) == 0;
	}
	error = errno;
	if (fd >= 0 && fd != rootfd)
		close(fd);
	if (trouble != ROOT_OK)
		root->clear_inode = 0;
	errno = error;
	return trouble;
}

static RootTrouble
open_checked(Root *root, bool accept, int *fd)
{
	char		identity[IDENTITY_MAX];
	ProtoStr	accepted;
	ProtoStr	now;
	RootTrouble trouble;

	*fd = identity_open_root(root->path, identity);
	if (*fd < 0)
		return shortage_is(errno) ? ROOT_STARVED : ROOT_MISSING;
	trouble = check_places(root, *fd);
	if (trouble != ROOT_OK)
	{
		int			error = errno;

		close(*fd);
		*fd = -1;
		errno = error;
		return trouble == ROOT_MISSING && shortage_is(error) ? ROOT_STARVED : trouble;
	}
	now.data = identity;
	now.len = strlen(identity);
	accepted.data = root->identity;
	accepted.len = strlen(root->identity);
	if (accepted.len == 0 || identity_same(accepted, now))
	{
		if (accept || accepted.len == 0)
			memcpy(root->identity, identity, sizeof(identity));
	}
	else if (accept)
	{
		memcpy(root->identity, identity, sizeof(identity));
		root->replaced = true;
	}
	else
	{
		close(*fd);
		*fd = -1;
		return ROOT_REPLACED;
	}

	/* The right one, but it says nothing of what is in it. */
	if (faccessat(*fd, ".", R_OK | X_OK, 0) < 0)
	{
		int			error = errno;

		close(*fd);
		*fd = -1;
		errno = error;
		return shortage_is(error) ? ROOT_STARVED : ROOT_MISSING;
	}
	return ROOT_OK;
}

RootTrouble
root_open(Root *root, bool accept)
{
	RootTrouble trouble;
	struct statfs fs;

	if (root->fd >= 0 && !accept)
		return ROOT_OK;
	root_close(root);
	trouble = open_checked(root, accept, &root->fd);
	if (trouble != ROOT_OK)
		return trouble;
	if (fstatfs(root->fd, &fs) == 0)
		root->volatile_times = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
	return ROOT_OK;
}

RootTrouble
root_verify(Root *root)
{
	int			fd;
	RootTrouble trouble = open_checked(root, false, &fd);

	if (fd >= 0)
		close(fd);
	return trouble;
}

void
root_close(Root *root)
{
	if (root->fd >= 0)
		close(root->fd);
	root->fd = -1;
}

static void
update_guarded(Root *root)
{
	size_t		max = root->accepted.count + root->now.count;
	const Mount **differing;

	free(root->guarded.mounts);
	root->guarded.mounts = NULL;
	root->guarded.count = 0;
	if (max == 0)
		return;
	differing = calloc(max, sizeof(Mount *));
	root->guarded.mounts = calloc(max, sizeof(Mount));
	if (differing != NULL && root->guarded.mounts != NULL)
	{
		size_t		n = mounts_diff(&root->accepted, &root->now, differing, max);

		for (size_t i = 0; i < n; i++)
			root->guarded.mounts[i] = *differing[i];
		root->guarded.count = n;
	}
	free(differing);
}

int
root_read_mounts(Root *root)
{
	MountSet	set = {0};

	if (root->mountinfo_fd < 0)
		return 0;
	if (mounts_read(root->mountinfo_fd, root->path, &set) < 0)
		return shortage_is(errno) ? errno : 0;
	mounts_free(&root->now);
	root->now = set;
	root->mounts_known = true;
	root->polled = set.root_polled;
	for (size_t i = 0; i < set.count; i++)
		root->polled |= set.mounts[i].polled;
	update_guarded(root);
	return 0;
}

/* The accepted set becomes a copy of now, or only at one path. */
static void
accept(Root *root, const char *path, size_t len)
{
	MountSet	set = {0};
	MountSet   *from[2] = {&root->accepted, &root->now};
	ProtoBuf	text;
	ProtoStr	list;

	set.mounts = calloc(root->accepted.count + root->now.count + 1, sizeof(Mount));
	if (set.mounts == NULL)
		return;

	/* of the accepted ones what is not at path, of the others what is */
	for (int which = 0; which < 2; which++)
		for (size_t i = 0; i < from[which]->count; i++)
		{
			const Mount *m = &from[which]->mounts[i];
			bool		at = path == NULL ||
				(m->len == len && memcmp(m->path, path, len) == 0);

			if (at == (which == 1))
				set.mounts[set.count++] = *m;
		}

	/* an independent copy, in order again */
	proto_buf_init(&text);
	mounts_encode(&set, &text);
	free(set.mounts);
	if (!text.failed)
	{
		list.data = text.data;
		list.len = text.len;
		mounts_free(&root->accepted);
		mounts_decode(list, &root->accepted);
	}
	proto_buf_free(&text);
	update_guarded(root);
}

void
root_accept_mounts(Root *root)
{
	accept(root, NULL, 0);
}

void
root_accept_mount(Root *root, const char *path, size_t len)
{
	accept(root, path, len);
}

/* Whether path lies at the mount or below it. */
static bool
is_on_mount(const Mount *m, const char *path, size_t len)
{
	return len >= m->len && memcmp(m->path, path, m->len) == 0 &&
		(len == m->len || path[m->len] == '/');
}

bool
root_guards(const Root *root, const char *path, size_t len)
{
	for (size_t i = 0; i < root->guarded.count; i++)
		if (is_on_mount(&root->guarded.mounts[i], path, len))
			return true;
	return false;
}

bool
root_polls(const Root *root, const char *path, size_t len)
{
	const Mount *deepest = NULL;

	for (size_t i = 0; i < root->now.count; i++)
	{
		const Mount *m = &root->now.mounts[i];

		if (is_on_mount(m, path, len) && (deepest == NULL || m->len > deepest->len))
			deepest = m;
	}
	return deepest != NULL ? deepest->polled : root->now.root_polled;
}
