/*-------------------------------------------------------------------------
 *
 * walk.h
 *		The files below a directory, in byte order of their full paths.
 *
 * Each directory is read whole, the names of directories sorted as if they
 * ended in '/'; a depth-first walk in that order then is path order, as in
 * git's trees, and comparing with the table is a merge of two streams.
 *
 * Of a large tree, directories are read and files examined ahead of the walk by
 * other threads; an entry is as old as it takes to get there.
 *
 * A walk's silence is not absence: readdir misses names that are renamed
 * while it reads.  What is missing here is looked at again before anything is
 * removed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_WALK_H
#define FSYNC_WALK_H

#include "beneath.h"
#include "filter.h"
#include "identity.h"
#include "shortage.h"
#include "throttle.h"

typedef enum WalkKind
{
	WALK_FILE,					/* a regular file that is tracked; info filled,
								 * but with names_only */
	WALK_UNKNOWN_FILE,			/* it is there, but stat failed: error is its
								 * errno; its row stays */
	WALK_UNKNOWN_DIRECTORY,		/* could not be opened, or read to its end:
								 * error is the errno; rows below it stay.
								 * Sorted as path + '/', and comes before the
								 * entries that could be read below it */
	WALK_BAD_NAME,				/* a name that is not valid UTF-8 (directories
								 * too: they are not entered) */
	WALK_TOO_LONG,				/* longer than PROTO_PATH_MAX: a file, or a
								 * directory below which no file can be
								 * tracked, and which is not entered */
	WALK_UNKNOWN_RULES,			/* a .fsyncignore that could not be read: error
								 * is the errno; in no order */
	WALK_GUARDED,				/* a directory of the guard list: not entered,
								 * rows below it stay; sorted as path + '/' */
	WALK_REMOTE,				/* the same of the list of remote mounts */
	WALK_REFUSED,				/* on request: a name that is not tracked, a
								 * directory among them, which is not entered.
								 * Sorted as a file; info filled, or error is
								 * the errno */
} WalkKind;

typedef struct WalkEntry
{
	WalkKind	kind;
	bool		directory;		/* what BAD_NAME and TOO_LONG speak of */
	const char *path;			/* relative to the root, terminated; valid
								 * until the next call */
	size_t		len;
	FileInfo	info;
	int			error;
	const FilterRules *rules;	/* of the directory that the path is in */
	bool		unsure;			/* a .fsyncignore that could not be read may
								 * exclude it: a row stays, none is made */
} WalkEntry;

typedef struct WalkOptions
{
	const Filter *filter;
	bool		utf8;			/* names must be valid UTF-8 */
	bool		names_only;		/* files of a known type are not examined, nor
								 * their sizes accepted */
	bool		refused;		/* names that are not tracked are entries, too */
	const MountSet *guarded;	/* directories not to enter; may be NULL */
	const MountSet *remote;		/* the same; may be NULL */
	Throttle   *throttle;		/* of threads that help; NULL: none */
	Shortage   *shortage;		/* where the walk waits for descriptors or memory
								 * of the kernel; NULL: it does not, and what
								 * lacks them is unknown */
	const atomic_bool *cancel;	/* ends that waiting; may be NULL */
} WalkOptions;

typedef struct Walk Walk;

/*
 * prefix is "" for the whole tree, or a directory below the root; entries
 * have full paths either way.  A prefix that is absent, no directory, or not
 * accepted by the filter gives an empty walk.  rootfd must stay open.  NULL
 * when out of memory.
 */
extern Walk *walk_open(int rootfd, const char *prefix, size_t prefix_len,
					   const WalkOptions *options);

/* 1 and an entry, 0 at the end, -1 with errno when out of memory. */
extern int	walk_next(Walk *walk, WalkEntry *entry);
extern void walk_close(Walk *walk);

#endif							/* FSYNC_WALK_H */
