/*-------------------------------------------------------------------------
 *
 * spool_files.h
 *		Temporary files for fsync-tree, which cannot make any.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SPOOL_FILES_H
#define FSYNC_SPOOL_FILES_H

#include "fsync.h"

#include "tree/protocol.h"

/*
 * Opens files without a name in PostgreSQL's directory for temporary files.
 * Returns how many; fewer than PROTO_SPOOLS where they cannot be made: then
 * fsync-tree keeps more in memory.
 */
extern int	spool_files_open(int fds[PROTO_SPOOLS]);

#endif							/* FSYNC_SPOOL_FILES_H */
