/*-------------------------------------------------------------------------
 *
 * root_path.h
 *		Whether the registered path still leads to the registered directory.
 *
 * That a directory above the root is renamed, replaced or removed is reported
 * by no event, and an open descriptor goes on showing the old one.  So both
 * paths are looked at, by one statx(2) each: the root's own, and the one that
 * the user gave, which may lead there through symbolic links.  A statx may
 * hang as any access to the tree, so only the engine's thread makes it, which
 * the worker watches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_ROOT_PATH_H
#define FSYNC_ROOT_PATH_H

#include "protocol.h"

typedef struct RootPath
{
	char	   *root;			/* without symbolic links */
	char	   *given;			/* NULL: it is the same, or there is none */
	bool		known;			/* what follows was read */
	uint32_t	dev_major;
	uint32_t	dev_minor;
	uint64_t	inode;
	int64_t		birth_sec;		/* 0 where the file system does not know it */
	uint32_t	birth_nsec;
	bool		astray;			/* the given path leads elsewhere, or nowhere */
	int			lacking;		/* the errno for want of which that could not be
								 * looked at the last time; 0: it was */
	char		reason[512];	/* ... and this is what is to be said of it */
} RootPath;

/* Keeps copies.  0, or -1 with errno. */
extern int	root_path_init(RootPath *path, ProtoStr root, ProtoStr given);
extern void root_path_free(RootPath *path);

/*
 * The root was opened and found to be the accepted one: remembers which it is.
 * False, with errno, if that cannot be read.
 */
extern bool root_path_note(RootPath *path, int rootfd);

/*
 * Whether the root's path leads to what was noted, and nothing else is in its
 * place.  False also where nothing was noted or the path cannot be followed.
 */
extern bool root_path_leads_there(const RootPath *path);

/*
 * Looks where the given path leads: sets astray and reason, or only lacking.
 * True if astray has changed by that.
 */
extern bool root_path_follow(RootPath *path);

#define ROOT_PATH_HINT \
	"Register the place where the files are now with fsync_add_repository(); symbolic links are not followed after a directory was registered."

#endif							/* FSYNC_ROOT_PATH_H */
