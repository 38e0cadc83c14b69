/*-------------------------------------------------------------------------
 *
 * check.h
 *		Whether a directory can be registered.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_CHECK_H
#define FSYNC_CHECK_H

#include <stdbool.h>

/*
 * Writes to standard output, for the server, which does not touch the directory
 * itself: "error", a tab, a word, a tab and a message and a newline; or "ok", a
 * tab, the path without symbolic links, a zero byte, its identity, and for it
 * and each directory above it a newline, its device, a space and its inode.
 * Returns an exit status; PROTO_EXIT_UNCONFINED where the sandbox is to be
 * complete and is not.
 */
extern int	check_answer(const char *path, bool must_be_complete);

/*
 * The same of a directory that may not be there yet.  If it is not: "absent", a
 * tab, the path that it will have without symbolic links, a zero byte, and for
 * each directory above it that is there a newline, its device, a space and its
 * inode.
 */
extern int	check_absent(const char *path, bool must_be_complete);

#endif							/* FSYNC_CHECK_H */
