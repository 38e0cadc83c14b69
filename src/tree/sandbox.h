/*-------------------------------------------------------------------------
 *
 * sandbox.h
 *		What fsync-tree takes from itself before it looks at a user's files.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SANDBOX_H
#define FSYNC_SANDBOX_H

/*
 * Dies with its parent, is the kernel's first choice when memory runs out,
 * and gains no privileges.  Exits if the parent is gone already.
 */
extern void sandbox_process(void);

/*
 * From now on this thread and those it makes can read below the open
 * directory rootfd and write below spool_dir (NULL: nowhere), as far as the
 * kernel's Landlock goes.  Returns 0, or -1 with errno where there is none.
 */
extern int	sandbox_confine(int rootfd, const char *spool_dir);

#endif							/* FSYNC_SANDBOX_H */
