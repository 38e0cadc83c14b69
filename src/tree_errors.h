/*-------------------------------------------------------------------------
 *
 * tree_errors.h
 *		What fsync-tree writes to its standard error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TREE_ERRORS_H
#define FSYNC_TREE_ERRORS_H

#include "fsync.h"

/* Of one repository, whichever process it has. */
typedef struct TreeErrors
{
	int			fd;				/* the pipe's end to read, -1: there is none */
	int64		since;			/* begin of the minute, in ms */
	int			lines;			/* logged in it */
	int64		dropped;		/* bytes that were not logged */
} TreeErrors;

extern void tree_errors_init(TreeErrors *errors);

/*
 * Takes over the end to read.  What has come is logged by tree_errors_log():
 * a few lines a minute, cut and escaped, in the name of the repository's root.
 */
extern void tree_errors_begin(TreeErrors *errors, int fd);
extern void tree_errors_log(TreeErrors *errors, const char *root, int64 now);
extern void tree_errors_end(TreeErrors *errors);

#endif							/* FSYNC_TREE_ERRORS_H */
