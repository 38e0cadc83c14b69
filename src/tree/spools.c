/*-------------------------------------------------------------------------
 *
 * spools.c
 *		The temporary files that fsync-tree was given at its start.
 *
 *-------------------------------------------------------------------------
 */
#include "spools.h"

#include <sys/stat.h>
#include <unistd.h>

void
spools_init(Spools *spools)
{
	for (int i = 0; i < PROTO_SPOOLS; i++)
		spools->fds[i] = -1;
}

static void
put(Spools *spools, int fd)
{
	for (int i = 0; i < PROTO_SPOOLS; i++)
	{
		if (spools->fds[i] < 0)
		{
			spools->fds[i] = fd;
			return;
		}
	}
}

void
spools_add(Spools *spools, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		put(spools, fd);
}

int
spools_take(Spools *spools)
{
	for (int i = 0; spools != NULL && i < PROTO_SPOOLS; i++)
	{
		int			fd = spools->fds[i];

		if (fd >= 0)
		{
			spools->fds[i] = -1;
			return fd;
		}
	}
	return -1;
}

void
spools_give(Spools *spools, int fd)
{
	/* What cannot be emptied is written over. */
	if (ftruncate(fd, 0) < 0)
	{
		/* it only takes room on the disk */
	}
	put(spools, fd);
}
