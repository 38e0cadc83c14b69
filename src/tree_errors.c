/*-------------------------------------------------------------------------
 *
 * tree_errors.c
 *		What fsync-tree writes to its standard error.
 *
 * That is little: what a library or the C runtime says before it gives up.  The
 * server's log is none of the process's business, which could write anything
 * there, and without end.  The pipe takes so much and no more: whoever writes
 * to a full one gets an error and does not wait, so it is read when there is
 * something else to do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "storage/fd.h"

#include "shown.h"
#include "tree_errors.h"
#include "worker.h"

#define MINUTE_MS			60000
#define LINES_A_MINUTE		10
#define LINE_MAX_BYTES		400

/* More than a pipe holds is not read in one turn. */
#define CHUNKS				20

void
tree_errors_init(TreeErrors *errors)
{
	memset(errors, 0, sizeof(*errors));
	errors->fd = -1;
}

void
tree_errors_begin(TreeErrors *errors, int fd)
{
	tree_errors_end(errors);
	errors->fd = fd;
}

void
tree_errors_end(TreeErrors *errors)
{
	if (errors->fd < 0)
		return;
	close(errors->fd);
	ReleaseExternalFD();
	errors->fd = -1;
}

static void
log_line(TreeErrors *errors, const char *root, const char *line, size_t len)
{
	char		text[LINE_MAX_BYTES];

	if (len == 0)
		return;
	if (errors->lines >= LINES_A_MINUTE)
	{
		errors->dropped += len;
		return;
	}
	errors->lines++;
	worker_copy_text(text, sizeof(text), (ProtoStr) {line, (uint32) len});
	ereport(LOG,
			(errmsg("fsync-tree of repository \"%s\" says: %s", shown_path(root), text)));
}

void
tree_errors_log(TreeErrors *errors, const char *root, int64 now)
{
	char		chunk[4096];

	if (errors->fd < 0)
		return;
	if (now - errors->since >= MINUTE_MS)
	{
		if (errors->dropped > 0)
			ereport(LOG,
					(errmsg("fsync-tree of repository \"%s\" has said more, which is not shown (" INT64_FORMAT " bytes)",
							shown_path(root), errors->dropped)));
		errors->since = now;
		errors->lines = 0;
		errors->dropped = 0;
	}
	for (int i = 0; i < CHUNKS; i++)
	{
		ssize_t		n = read(errors->fd, chunk, sizeof(chunk));
		char	   *line = chunk;

		if (n <= 0)
			return;
		while (line < chunk + n)
		{
			char	   *end = memchr(line, '\n', chunk + n - line);

			if (end == NULL)
				end = chunk + n;
			log_line(errors, root, line, end - line);
			line = end + 1;
		}
	}
}
