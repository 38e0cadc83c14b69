/*-------------------------------------------------------------------------
 *
 * start.c
 *		What comes before the engine: what it needs is opened, then the sandbox
 *		is entered.
 *
 * Landlock allows to read below a directory, not below a path.  So a process
 * is made for one directory: where another is found at the path later, or the
 * first one, the process ends and the worker starts the next.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void
engine_prepare(EngineStart *start, const char *path)
{
	FileInfo	info;
	int			fd = beneath_open_root(path);

	memset(start, 0, sizeof(*start));
	spools_init(&start->spools);
	start->mountinfo_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	start->has_root = fd >= 0 && beneath_stat_fd(fd, &info) == 0;
	if (start->has_root)
	{
		start->root_device = info.dev;
		start->root_inode = (ino_t) info.stat.inode;
	}
	sandbox_enter(start->has_root ? fd : -1, &start->sandbox);
	if (fd >= 0)
		close(fd);
}

bool
engine_may_read(const EngineStart *start, int rootfd)
{
	FileInfo	info;

	return start->has_root && beneath_stat_fd(rootfd, &info) == 0 &&
		info.dev == start->root_device && (ino_t) info.stat.inode == start->root_inode;
}
