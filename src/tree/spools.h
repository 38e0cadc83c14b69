/*-------------------------------------------------------------------------
 *
 * spools.h
 *		The temporary files that fsync-tree was given at its start.
 *
 * It cannot make files.  Those it has are without a name, and are used again
 * and again, emptied in between.  Used by one thread, but for reading and
 * writing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SPOOLS_H
#define FSYNC_SPOOLS_H

#include "protocol.h"

typedef struct Spools
{
	int			fds[PROTO_SPOOLS];	/* -1: there is none, or it is taken */
} Spools;

extern void spools_init(Spools *spools);

/* One more, which is empty; the descriptor stays the caller's where it is none. */
extern void spools_add(Spools *spools, int fd);

/* The descriptor of an empty file; -1: there is none left, or spools is NULL. */
extern int	spools_take(Spools *spools);

/* Gives it back. */
extern void spools_give(Spools *spools, int fd);

#endif							/* FSYNC_SPOOLS_H */
