/*-------------------------------------------------------------------------
 *
 * apply_plan.h
 *		What a message of observations comes to: a few lists that can be
 *		written one after the other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_PLAN_H
#define FSYNC_APPLY_PLAN_H

#include "fsync.h"

#include "tree/protocol.h"

/* An id in a removal that means the row at this path, whichever it is. */
#define APPLY_ANY_ID	0

typedef struct ApplyItem
{
	ProtoObservation obs;
	bool		superseded;		/* by a later item of the message */
	int			chain;			/* moves that depend on each other have the
								 * same number and are neighbours */
	bool		vacate;			/* moves: another one ends where this begins */
	bool		short_lived;	/* moves: the row is among late_removals */
	bool		impossible;		/* removals: no file can have this path */
	bool		keeps_hash;		/* obs.hash is the row's, see corrupt_protect() */
} ApplyItem;

typedef struct ApplyList
{
	ApplyItem **items;
	int			n;
} ApplyList;

/*
 * To be written in the order of the fields.  Items point into the message.
 * upserts has room for all moves as well: those whose row is gone.
 */
typedef struct ApplyPlan
{
	ApplyList	purges;			/* of rows of missing files; not from a message */
	ApplyList	removals;
	ApplyList	moves;
	ApplyList	late_removals;	/* of rows at the path they were moved to */
	ApplyList	upserts;

	ProtoStr   *clears;			/* paths whose problem is over */
	int			n_clears;
	ApplyList	problems;		/* each of another path */
} ApplyPlan;

/*
 * Parses the body of a PROTO_OBSERVATIONS that talk_hear() let pass.  All memory
 * is of the current context.  Throws ERRCODE_BAD_MESSAGE.
 */
extern ApplyPlan *apply_plan_create(ProtoReader body);

#endif							/* FSYNC_APPLY_PLAN_H */
