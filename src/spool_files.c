/*-------------------------------------------------------------------------
 *
 * spool_files.c
 *		Temporary files for fsync-tree, which cannot make any.
 *
 * They lie where PostgreSQL's own temporary files do, outside of every watched
 * tree.  A name is taken away at once; should the server crash in between, it
 * is one that PostgreSQL removes at its next start.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "compat.h"
#include "spool_files.h"

static int
open_named(const char *directory, int number)
{
	char		path[MAXPGPATH];
	int			fd;

	snprintf(path, sizeof(path), "%s/%sfsync.%d.%d", directory, PG_TEMP_FILE_PREFIX,
			 MyProcPid, number);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, PG_FILE_MODE_OWNER);
	if (fd >= 0)
		(void) unlink(path);
	return fd;
}

int
spool_files_open(int fds[PROTO_SPOOLS])
{
	const char *directory = "base/" PG_TEMP_FILES_DIR;
	int			n = 0;

	(void) MakePGDirectory(directory);
	while (n < PROTO_SPOOLS)
	{
		fds[n] = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, PG_FILE_MODE_OWNER);
		if (fds[n] < 0)
			fds[n] = open_named(directory, n);
		if (fds[n] < 0)
			break;
		n++;
	}
	return n;
}
