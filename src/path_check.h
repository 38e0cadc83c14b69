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

/*
 * The real path of a directory that the server's user can read and that keeps
 * clear of the server's own files; otherwise an error that says why not.
 */
extern char *path_check(const char *path);

#endif							/* FSYNC_PATH_CHECK_H */
