/*-------------------------------------------------------------------------
 *
 * watch_nodes.h
 *		The watch tree from inside: watch_nodes.c keeps the nodes,
 *		watch_resolve.c looks at the disk, watch_aliases.c knows directories with
 *		several places, watch_tree.c is the outside.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_WATCH_NODES_H
#define FSYNC_WATCH_NODES_H

#include "watch_tree.h"

#include "beneath.h"
#include "rules.h"
#include "spelling.h"
#include "table.h"

#include <sys/types.h>

typedef struct WatchNode
{
	TableLink	by_wd;			/* when wd >= 0 */
	TableLink	by_alias;		/* when alias_wd >= 0 */
	TableLink	by_id;
	TableLink	by_name;		/* when parent != NULL */
	uint64_t	id;
	struct WatchNode *parent;	/* NULL: the root, or in limbo */
	struct WatchNode *children;
	struct WatchNode *next;		/* sibling, or next in limbo */
	struct WatchNode *prev;
	dev_t		dev;
	ino_t		ino;
	int			wd;				/* -1: not watched */
	bool		limbo;
	int			alias_wd;		/* another node has its watch; -1: none has */
	bool		starved;		/* no watch left for it */
	bool		readable;
	bool		unread;			/* not yet looked through for directories */
	bool		recheck;		/* ... and those known may be refused by now */
	bool		new_rules;		/* what is accepted below it may have changed */
	bool		queued;			/* in the rescan queue */
	struct WatchNode *next_rescan;
	size_t		name_len;
	char		name[];
} WatchNode;

/* A touched name. */
typedef struct Touch
{
	TableLink	link;
	struct Touch *next;
	uint64_t	node;
	bool		moved;			/* a directory of that name came or left */
	size_t		name_len;
	char		name[];
} Touch;

struct WatchTree
{
	int			inotify_fd;
	const Filter *filter;
	Rules	   *rules;			/* NULL: the tree has none that count */
	Spelling   *spelling;
	bool		utf8;
	uint64_t	max_watches;
	WatchCallbacks callbacks;
	uint64_t	last_id;
	WatchNode  *root;
	bool		leaves_known;	/* by their links, on the root's file system */
	WatchNode  *limbo;
	Table		by_wd;
	Table		by_alias;
	Table		by_id;
	Table		by_name;
	Table		touches;
	Touch	   *first_touch;
	Touch	  **last_touch;
	WatchNode  *first_rescan;
	WatchNode **last_rescan;
	WatchTreeStatus status;
	unsigned	lacked;			/* looks in turn at the end of which it was so */
	bool		root_changed;
	uint64_t	placed;			/* directories that were given a place, ever */
	bool		any_unread;		/* a node is unread and not queued */
	bool		left;			/* a directory is not where the tree has it */
	bool		missed;			/* a touched name was not there */
	bool		examined;		/* see watch_tree_examined() */

	/* the directory that was opened last, of many touched names in one */
	uint64_t	open_node;
	int			open_fd;
};

/* ---- finding nodes ---- */
extern WatchNode *watch_node_by_wd(const WatchTree *tree, int wd);
extern WatchNode *watch_node_by_id(const WatchTree *tree, uint64_t id);
extern WatchNode *watch_node_child(const WatchTree *tree, const WatchNode *parent,
								   const char *name, size_t len);

/* As watch_tree_path(). */
extern ssize_t watch_node_path(const WatchTree *tree, const WatchNode *node,
							   char path[PROTO_PATH_MAX + 1]);

/* ---- placing nodes ---- */

/* A new node; in no place yet. */
extern WatchNode *watch_node_new(WatchTree *tree, const char *name, size_t len);

/*
 * Puts a detached node into its place.  It takes the name, for which its
 * memory may move: the node is the one returned.  NULL when out of memory.
 */
extern WatchNode *watch_node_attach(WatchTree *tree, WatchNode *parent, WatchNode *node,
									const char *name, size_t len);

/* Takes a node, with all below it, out of its place. */
extern void watch_node_detach(WatchTree *tree, WatchNode *node);
extern void watch_node_to_limbo(WatchTree *tree, WatchNode *node);

/* Forgets a node and all below it, and their watches. */
extern void watch_node_drop(WatchTree *tree, WatchNode *top);

/* ---- what is known of nodes ---- */
extern void watch_node_set_wd(WatchTree *tree, WatchNode *node, int wd);
extern void watch_node_set_starved(WatchTree *tree, WatchNode *node, bool starved);

/* ---- directories with several places, watch_aliases.c ---- */

/* The node is a second place of the directory with this watch; -1: of none. */
extern void watch_alias_set(WatchTree *tree, WatchNode *node, int wd);

/* The first second place of a watched directory, and the next; NULL: no more. */
extern WatchNode *watch_alias_first(const WatchTree *tree, int wd);
extern WatchNode *watch_alias_next(const WatchNode *node);

/* The node is another one in memory now. */
extern void watch_alias_moved(WatchTree *tree, const WatchNode *from, WatchNode *to);

/* The node that has the watch gives it away; false: there is no second place. */
extern bool watch_alias_inherit(WatchTree *tree, WatchNode *node);

/* The watch has ended: second places are to be looked at. */
extern void watch_alias_ended(WatchTree *tree, int wd);

/* ---- what is to be done ---- */

/* The watch of the directory behind an O_PATH descriptor, of which stat says
 * this; -1 with errno. */
extern int	watch_add(WatchTree *tree, int fd, const FileInfo *info);

/* The node's directory is to be read for its sub-directories. */
extern void watch_node_queue_rescan(WatchTree *tree, WatchNode *node);

/* The same of all below it: which of them are accepted may have changed. */
extern void watch_node_queue_recheck(WatchTree *tree, WatchNode *top);

/* Whether it is. */
extern bool watch_is_touched(const WatchTree *tree, const WatchNode *node, const char *name,
							 size_t len);

/*
 * A name in the node's directory is to be looked at; moved: a directory of that
 * name is said to have come or left.
 */
extern void watch_touch(WatchTree *tree, const WatchNode *node, const char *name, size_t len,
						bool moved);

#endif							/* FSYNC_WATCH_NODES_H */
