/*-------------------------------------------------------------------------
 *
 * path_check.h
 *		Whether a directory can be registered.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PATH_CHECK_H
#define FSYNC_PATH_CHECK_H

#include "fsync.h"

typedef struct CheckedPath
{
	char	   *root;			/* the real path */
	char	   *identity;		/* of the directory that was there, as
								 * ProtoInit.identity; NULL: there was none */
	uint64		device;			/* of it, or of the one above it that is there */
	uint64		inode;
} CheckedPath;

/*
 * Looks at a directory that the server's user can read and that keeps clear of
 * the server's own files; otherwise an error that says why not.
 */
extern void path_check(const char *path, CheckedPath *checked);

/* The same of one that may come later; what is above it is looked at now. */
extern void path_check_ahead(const char *path, CheckedPath *checked);

/*
 * Looks at the words of a path inside a repository's directory, of a file or a
 * directory, and at no disk: an error if it is not written as file_path is.
 */
extern void path_check_inside(const char *path);

#endif							/* FSYNC_PATH_CHECK_H */
