/*-------------------------------------------------------------------------
 *
 * mounted_files.c
 *		Files that are mounted over files.
 *
 * What happens to such a file is reported in the directory that it came from,
 * under its name there, and that directory may be anywhere.  So the file itself
 * is watched, and what is heard of it is news of each path where it is mounted.
 * That it is mounted, or not any more, is in the list of mounts; that a directory
 * above it was renamed is not news of mounts, so the list is read again when a
 * file is not where it was.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define FILE_MASK	(IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB)

/* Something may have changed at the path, which is no longer than that. */
static void
note(Engine *engine, const char *path, unsigned hints)
{
	if (pending_note(&engine->pending, 0, path, strlen(path), hints, monotonic_us(),
					 engine->epoch) == NULL)
		engine->batch.lost = true;
}

/* An O_PATH descriptor of the regular file at path; -1: there is none. */
static int
open_file(const Engine *engine, const char *path)
{
	const char *slash = strrchr(path, '/');
	int			dirfd = beneath_open_directory(engine->root.fd, path,
											   slash ? (size_t) (slash - path) : 0, O_PATH);
	FileInfo	info;
	int			fd;

	if (dirfd < 0)
		return -1;
	fd = openat(dirfd, slash ? slash + 1 : path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	close(dirfd);
	if (fd >= 0 && (beneath_stat_fd(fd, &info) < 0 || !S_ISREG(info.mode)))
	{
		close(fd);
		return -1;
	}
	return fd;
}

/* Watches the file of the mount, if it is one; false: that is not to be had. */
static bool
watch(Engine *engine, const Mount *m, MountedFile *file)
{
	char		link[40];
	FileInfo	info;
	int			fd = open_file(engine, m->path);

	file->wd = -1;
	if (fd < 0)
		return true;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	file->path = strdup(m->path);
	if (beneath_stat_fd(fd, &info) == 0)
	{
		file->dev = info.dev;
		file->inode = info.stat.inode;
	}
	if (file->path != NULL && engine->reader != NULL)
		file->wd = inotify_add_watch(events_fd(engine->reader), link, FILE_MASK);
	close(fd);
	return file->wd >= 0;
}

static const MountedFile *
find(const MountedFile *files, size_t n, int wd, const char *path)
{
	for (size_t i = 0; i < n; i++)
		if ((wd < 0 || files[i].wd == wd) &&
			(path == NULL || strcmp(files[i].path, path) == 0))
			return &files[i];
	return NULL;
}

/* Whether the mount, or one on the way to it, is of a type that is polled: nothing
 * is opened there that need not be, and nothing is told of it. */
static bool
may_hang(const MountSet *mounts, const Mount *mount)
{
	for (size_t i = 0; i < mounts->count; i++)
	{
		const Mount *m = &mounts->mounts[i];

		if (m->polled && mount->len >= m->len && memcmp(mount->path, m->path, m->len) == 0 &&
			(mount->len == m->len || mount->path[m->len] == '/'))
			return true;
	}
	return false;
}

void
mounted_files_forget(Engine *engine)
{
	for (size_t i = 0; i < engine->n_mounted_files; i++)
		free(engine->mounted_files[i].path);
	free(engine->mounted_files);
	engine->mounted_files = NULL;
	engine->n_mounted_files = 0;
}

void
mounted_files_watch(Engine *engine)
{
	MountedFile *before = engine->mounted_files;
	size_t		n_before = engine->n_mounted_files;
	MountedFile *files = NULL;
	MountSet	mounts;
	size_t		n = 0;

	if (engine->root.fd < 0 || (engine->root.now.count == 0 && n_before == 0))
		return;
	if (mounts_read(engine->root.mountinfo_fd, engine->root.path, &mounts) < 0)
	{
		engine->root.polled = true;
		return;
	}
	if (mounts.count > 0 &&
		(files = calloc(mounts.count, sizeof(MountedFile))) == NULL)
	{
		mounts_free(&mounts);
		engine->root.polled = true;
		return;
	}
	for (size_t i = 0; i < mounts.count; i++)
	{
		if (may_hang(&mounts, &mounts.mounts[i]))
			continue;
		if (!watch(engine, &mounts.mounts[i], &files[n]))
			engine->root.polled = true;
		if (files[n].path == NULL)
			continue;
		if (find(before, n_before, files[n].wd, files[n].path) == NULL)
			note(engine, files[n].path, HINT_CONTENT);
		n++;
	}
	for (size_t i = 0; i < n_before; i++)
	{
		if (before[i].wd >= 0 && engine->reader != NULL &&
			find(files, n, before[i].wd, NULL) == NULL)
			inotify_rm_watch(events_fd(engine->reader), before[i].wd);
		if (find(files, n, -1, before[i].path) == NULL)
			note(engine, before[i].path, HINT_CONTENT);
	}
	mounts_free(&mounts);
	mounted_files_forget(engine);
	engine->mounted_files = files;
	engine->n_mounted_files = n;
}

void
mounted_files_accepted(Engine *engine, const Mount *mount)
{
	note(engine, mount->path, HINT_CONTENT);
}

/* Reads the mounts again if one of the watch's files is not where it was. */
static void
follow(Engine *engine, int wd)
{
	for (size_t i = 0; i < engine->n_mounted_files; i++)
	{
		const MountedFile *file = &engine->mounted_files[i];
		FileInfo	info;

		if (file->wd != wd || root_open(&engine->root, false) != ROOT_OK ||
			(beneath_stat(engine->root.fd, file->path, strlen(file->path), &info) == 0 &&
			 info.dev == file->dev && info.stat.inode == file->inode))
			continue;
		mounted_files_watch(engine);
		return;
	}
}

void
mounted_files_event(Engine *engine, const Event *event)
{
	unsigned	hints = 0;

	if (event->mask & IN_MODIFY)
		hints |= HINT_CONTENT;
	if (event->mask & IN_CLOSE_WRITE)
		hints |= HINT_CLOSED;
	if (event->mask & IN_ATTRIB)
		hints |= HINT_META;
	follow(engine, event->wd);
	for (size_t i = 0; hints != 0 && i < engine->n_mounted_files; i++)
		if (engine->mounted_files[i].wd == event->wd)
			note(engine, engine->mounted_files[i].path, hints);
}
