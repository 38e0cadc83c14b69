/*-------------------------------------------------------------------------
 *
 * verify.h
 *		Reading files again, to see whether their content is still what their
 *		hash says.
 *
 * One thread of low priority, which is in nobody's way: what has changed is
 * hashed by the pool's threads and never waits for it.  Files are read from
 * the disk, not from the page cache: what is cached of a file is dropped
 * before it is read, and again after that, lest a verification of everything
 * throw out what others use.
 *
 * Content is said to differ only if stat says, before and after, that the file
 * is as it was when it was hashed, and if a second reading gives the same
 * content as the first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_VERIFY_H
#define FSYNC_VERIFY_H

#include "beneath.h"

typedef struct VerifyItem
{
	struct VerifyItem *next;
	ProtoBelief belief;			/* with a hash; its path is below */
	ProtoVerified result;		/* its path and expected hash are unused */
	bool		cancelled;		/* there is no result */
	char		path[];			/* terminated */
} VerifyItem;

typedef struct Verify Verify;

/* notify_fd is an eventfd, written when results wait.  NULL with errno. */
extern Verify *verify_create(int notify_fd);

/*
 * Takes over a list of items, from malloc, to be read below rootfd (which is
 * duplicated) at most so many bytes a second; 0: as fast as it goes.  Nothing
 * may be outstanding.  0, or -1 with errno: the list is still the caller's.
 */
extern int	verify_submit(Verify *verify, VerifyItem *items, int rootfd, int64_t rate);

/* Ends the file that is being read, and drops the others. */
extern void verify_cancel(Verify *verify);

/*
 * Finished items, which become the caller's, oldest first, or NULL; never
 * waits.  *last: nothing is outstanding any more.
 */
extern VerifyItem *verify_collect(Verify *verify, bool *last);

#endif							/* FSYNC_VERIFY_H */
