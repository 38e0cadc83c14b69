/*-------------------------------------------------------------------------
 *
 * watch_tree.h
 *		The watched directories, as nodes found by watch descriptor.
 *
 * inotify reports (descriptor, name), and where the descriptor's directory is
 * by the time the event is read is not said.  So a directory is a node, the
 * kernel's descriptor its identity (adding a watch to the same directory
 * gives the same descriptor), and a path is only computed, never stored.
 * Events are hints: they mark (directory, name) as touched, and once the
 * queue is read the disk is looked at and the tree follows it.
 *
 * Used by one thread.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_WATCH_TREE_H
#define FSYNC_WATCH_TREE_H

#include "events.h"
#include "filter.h"
#include "protocol.h"

#include <sys/types.h>

typedef struct WatchTree WatchTree;

typedef struct WatchCallbacks
{
	void	   *arg;

	/* A directory came, went or moved at path: compare all below it. */
	void		(*subtree) (void *arg, const char *path, size_t len);

	/* Something happened to a name, not a directory, in the node's directory;
	 * name is terminated. */
	void		(*name) (void *arg, uint64_t node, const char *name, size_t len,
						 uint32_t mask, uint32_t cookie);

	/* A name that is ignored was written; it may be one of a file that is not. */
	void		(*ignored) (void *arg, uint64_t node, const char *name, size_t len,
							uint32_t mask);

	/* Whether this directory is to be watched without IN_MODIFY. */
	bool		(*is_polled) (void *arg, dev_t dev, ino_t ino);
} WatchCallbacks;

/* max_watches: at most so many directories are watched.  NULL: no memory. */
extern WatchTree *watch_tree_create(int inotify_fd, const Filter *filter, bool utf8,
									uint64_t max_watches,
									const WatchCallbacks *callbacks);

/* The watches themselves end with the inotify instance. */
extern void watch_tree_free(WatchTree *tree);

/*
 * Watches the root; what is below it is found by watch_tree_resolve().  0, or
 * -1 with errno.
 */
extern int	watch_tree_start(WatchTree *tree, int rootfd);

/* Takes note of one event; true if there is something to be resolved now. */
extern bool watch_tree_event(WatchTree *tree, const Event *event, const char *name);

/*
 * Something is said of a path, or was looked at: if a directory above it is
 * touched by a move, then what is below that one's names is reported when it is
 * looked at (subtree), even where it is back by then and nothing else tells.
 */
extern void watch_tree_examined(WatchTree *tree);

/* Whether a directory above path is to be looked at, as it may have moved. */
extern bool watch_tree_touched(const WatchTree *tree, const char *path, size_t len);

/* The directory at path (or where one may be now) is to be looked at. */
extern void watch_tree_touch(WatchTree *tree, const char *path, size_t len);

/* The same for all directories that could not be watched so far, with as many
 * watches as there may be by now. */
extern void watch_tree_retry(WatchTree *tree, uint64_t max_watches);

/* Calls each for all directories that are not watched, in no order, but not for
 * those below others. */
extern void watch_tree_unwatched(const WatchTree *tree,
								 void (*each) (void *arg, const char *path, size_t len),
								 void *arg);

/*
 * Looks at the disk for what was touched, for about budget_us microseconds.
 * Returns true when nothing is left to do; else the status says whether it is
 * for want of something, or of time.
 */
extern bool watch_tree_resolve(WatchTree *tree, int rootfd, int64_t budget_us);

/*
 * Whether something that was touched could not be looked at, as its directory
 * has moved on, of which an event is still to be read.
 */
extern bool watch_tree_left(const WatchTree *tree);

/*
 * Whether a touched name was not there since this was last asked: a directory
 * that had come there may have moved on.
 */
extern bool watch_tree_missed(WatchTree *tree);

/*
 * Writes the path of a node's directory, relative to the root; its length, or
 * -1 when the node is gone or longer than PROTO_PATH_MAX.
 */
extern ssize_t watch_tree_path(const WatchTree *tree, uint64_t node,
							   char path[PROTO_PATH_MAX + 1]);

/* The directory of a watch descriptor; false: it has none. */
extern bool watch_tree_identify(const WatchTree *tree, int wd, dev_t *dev, ino_t *ino);

/* The node of a directory, or 0; slow. */
extern uint64_t watch_tree_find(const WatchTree *tree, dev_t dev, ino_t ino);

/* Calls each() for all other places of the node's directory. */
extern void watch_tree_aliases(const WatchTree *tree, uint64_t node,
							   void (*each) (void *arg, uint64_t alias), void *arg);

/* Watches the node's directory as is_polled() says by now; false: it is not
 * where it was. */
extern bool watch_tree_renew(WatchTree *tree, int rootfd, uint64_t node);

/* Whether this is the node's directory. */
extern bool watch_tree_is_at(const WatchTree *tree, uint64_t node, dev_t dev, ino_t ino);

/* The node of the directory at path, or 0: it is not known. */
extern uint64_t watch_tree_node(const WatchTree *tree, const char *path, size_t len);

/* Whether the directory at path is known. */
extern bool watch_tree_knows(const WatchTree *tree, const char *path, size_t len);

/*
 * Something at or below path could not be reached or read for lack of rights.
 * True if a directory on the way there is closed now; then the tree knows, so
 * that its opening is a change that is reported.
 */
extern bool watch_tree_closed(WatchTree *tree, int rootfd, const char *path, size_t len);

typedef struct WatchTreeStatus
{
	uint64_t	watched;		/* directories with a watch */
	uint64_t	unwatched;		/* directories without; those below them are not
								 * counted */
	int			error;			/* of the last of these; 0: it was one too many */
	int			lacking;		/* the errno for want of which something could not
								 * be looked at: it is still to be resolved */
	uint64_t	aliases;		/* second places of watched directories (bind
								 * mounts); what is heard of one is reported
								 * of all */
	uint64_t	version;		/* another one where other directories may be
								 * unwatched, or they elsewhere; never 0 */
	bool		rebuild;		/* the tree cannot follow: make a new one */
} WatchTreeStatus;

extern const WatchTreeStatus *watch_tree_status(const WatchTree *tree);

/* Whether something happened to the root itself since this was last asked. */
extern bool watch_tree_root_changed(WatchTree *tree);

/* It was asked in vain: what happened is still to be found out. */
extern void watch_tree_set_root_changed(WatchTree *tree);

/* False once the root was removed, or its file system unmounted. */
extern bool watch_tree_root_watched(const WatchTree *tree);

#endif							/* FSYNC_WATCH_TREE_H */
