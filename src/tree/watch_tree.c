/*-------------------------------------------------------------------------
 *
 * watch_tree.c
 *		The watched directories, as nodes found by watch descriptor.
 *
 * watch_tree_event() only collects touched (directory, name) pairs.
 * watch_tree_resolve() looks at the disk for each:
 *
 *	- a directory that is not known gets a watch, and only then is read, so
 *	  that what comes into it meanwhile is either seen or reported;
 *	- a descriptor that is known at another place means that the directory
 *	  has moved, and its node moves with everything below it;
 *	- what is no longer where it was goes to limbo: another touched name may
 *	  still turn out to be its new place.  What is left there at the end has
 *	  been removed or has left the repository, and is no longer watched (a
 *	  directory that was moved out would go on delivering events).
 *
 * A touched name whose directory cannot be opened at the place the tree has
 * for it waits until the others are done: its directory may be among them.
 *
 *-------------------------------------------------------------------------
 */
#include "watch_tree.h"

#include "beneath.h"
#include "table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

/* truncate(2) and "touch -m" give only MODIFY; see inotify(7). */
#define WATCH_MASK	(IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | \
					 IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | \
					 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

typedef struct WatchNode
{
	TableLink	by_wd;			/* when wd >= 0 */
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
	bool		alias;			/* another node has its watch */
	bool		starved;		/* no watch left for it */
	bool		readable;
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
	size_t		name_len;
	char		name[];
} Touch;

struct WatchTree
{
	int			inotify_fd;
	const Filter *filter;
	bool		utf8;
	uint64_t	max_watches;
	WatchCallbacks callbacks;
	uint64_t	last_id;
	WatchNode  *root;
	WatchNode  *limbo;
	Table		by_wd;
	Table		by_id;
	Table		by_name;
	Table		touches;
	Touch	   *first_touch;
	Touch	  **last_touch;
	WatchNode  *first_rescan;
	WatchNode **last_rescan;
	WatchTreeStatus status;
	bool		root_changed;

	/* the directory that was opened last, of many touched names in one */
	uint64_t	open_node;
	int			open_fd;
};

static int64_t
monotonic_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

/* ---- nodes ---- */

static WatchNode *
node_by_wd(const WatchTree *tree, int wd)
{
	TableLink  *link;

	for (link = table_first(&tree->by_wd, table_hash(&wd, sizeof(wd), 1)); link;
		 link = table_next(link))
	{
		WatchNode  *node = table_container(link, WatchNode, by_wd);

		if (node->wd == wd)
			return node;
	}
	return NULL;
}

static WatchNode *
node_by_id(const WatchTree *tree, uint64_t id)
{
	TableLink  *link;

	for (link = table_first(&tree->by_id, table_hash(&id, sizeof(id), 2)); link;
		 link = table_next(link))
	{
		WatchNode  *node = table_container(link, WatchNode, by_id);

		if (node->id == id)
			return node;
	}
	return NULL;
}

static WatchNode *
node_child(const WatchTree *tree, const WatchNode *parent, const char *name, size_t len)
{
	TableLink  *link;

	for (link = table_first(&tree->by_name, table_hash(name, len, parent->id)); link;
		 link = table_next(link))
	{
		WatchNode  *node = table_container(link, WatchNode, by_name);

		if (node->parent == parent && node->name_len == len &&
			memcmp(node->name, name, len) == 0)
			return node;
	}
	return NULL;
}

static void
node_link(WatchNode **list, WatchNode *node)
{
	node->prev = NULL;
	node->next = *list;
	if (*list)
		(*list)->prev = node;
	*list = node;
}

static void
node_unlink(WatchNode **list, WatchNode *node)
{
	if (node->prev)
		node->prev->next = node->next;
	else
		*list = node->next;
	if (node->next)
		node->next->prev = node->prev;
}

static void
node_set_wd(WatchTree *tree, WatchNode *node, int wd)
{
	if (node->wd >= 0)
	{
		table_remove(&tree->by_wd, &node->by_wd);
		tree->status.watched--;
	}
	node->wd = -1;
	if (wd >= 0 && table_insert(&tree->by_wd, &node->by_wd,
								table_hash(&wd, sizeof(wd), 1)))
	{
		node->wd = wd;
		tree->status.watched++;
	}
}

static void
node_set_starved(WatchTree *tree, WatchNode *node, bool starved)
{
	if (node->starved != starved)
		tree->status.unwatched += starved ? 1 : -1;
	node->starved = starved;
}

static void
node_set_alias(WatchTree *tree, WatchNode *node, bool alias)
{
	if (node->alias != alias)
		tree->status.aliases += alias ? 1 : -1;
	node->alias = alias;
}

/* Takes a node, with all below it, out of its place. */
static void
node_detach(WatchTree *tree, WatchNode *node)
{
	if (node->parent != NULL)
	{
		table_remove(&tree->by_name, &node->by_name);
		node_unlink(&node->parent->children, node);
		node->parent = NULL;
	}
	else if (node->limbo)
	{
		node_unlink(&tree->limbo, node);
		node->limbo = false;
	}
}

static void
node_to_limbo(WatchTree *tree, WatchNode *node)
{
	node_detach(tree, node);
	node->limbo = true;
	node_link(&tree->limbo, node);
}

/* Forgets a detached node and all below it, without recursion. */
static void
node_drop(WatchTree *tree, WatchNode *top)
{
	WatchNode  *node = top;

	for (;;)
	{
		WatchNode  *parent;

		while (node->children != NULL)
			node = node->children;
		parent = node->parent;
		if (node->wd >= 0)
		{
			int			wd = node->wd;

			node_set_wd(tree, node, -1);
			inotify_rm_watch(tree->inotify_fd, wd);
		}
		node_set_starved(tree, node, false);
		node_set_alias(tree, node, false);
		node_detach(tree, node);
		table_remove(&tree->by_id, &node->by_id);
		if (node->queued)
		{
			WatchNode **p = &tree->first_rescan;

			while (*p != node)
				p = &(*p)->next_rescan;
			*p = node->next_rescan;
			if (tree->last_rescan == &node->next_rescan)
				tree->last_rescan = p;
		}
		free(node);
		if (node == top)
			return;
		node = parent;
	}
}

/* A new node; in no place yet. */
static WatchNode *
node_new(WatchTree *tree, const char *name, size_t len)
{
	WatchNode  *node = calloc(1, sizeof(WatchNode) + len + 1);

	if (node == NULL)
		return NULL;
	node->id = ++tree->last_id;
	node->wd = -1;
	node->name_len = len;
	memcpy(node->name, name, len);
	if (!table_insert(&tree->by_id, &node->by_id,
					  table_hash(&node->id, sizeof(node->id), 2)))
	{
		free(node);
		return NULL;
	}
	return node;
}

/* Puts a detached node into its place; the node is renamed, so it may move. */
static WatchNode *
node_attach(WatchTree *tree, WatchNode *parent, WatchNode *node,
			const char *name, size_t len)
{
	if (node->name_len != len || memcmp(node->name, name, len) != 0)
	{
		WatchNode  *renamed = calloc(1, sizeof(WatchNode) + len + 1);

		if (renamed == NULL)
			return NULL;
		*renamed = *node;
		renamed->name_len = len;
		memcpy(renamed->name, name, len);
		table_remove(&tree->by_id, &node->by_id);
		table_insert(&tree->by_id, &renamed->by_id, node->by_id.hash);
		if (node->wd >= 0)
		{
			table_remove(&tree->by_wd, &node->by_wd);
			table_insert(&tree->by_wd, &renamed->by_wd, node->by_wd.hash);
		}
		for (WatchNode *c = renamed->children; c; c = c->next)
			c->parent = renamed;
		if (node->queued)
		{
			WatchNode **p = &tree->first_rescan;

			while (*p != node)
				p = &(*p)->next_rescan;
			*p = renamed;
			if (tree->last_rescan == &node->next_rescan)
				tree->last_rescan = &renamed->next_rescan;
		}
		free(node);
		node = renamed;
	}
	node->parent = parent;
	node_link(&parent->children, node);
	if (!table_insert(&tree->by_name, &node->by_name,
					  table_hash(name, len, parent->id)))
	{
		node_unlink(&parent->children, node);
		node->parent = NULL;
		node_to_limbo(tree, node);
		return NULL;
	}
	return node;
}

static ssize_t
node_path(const WatchTree *tree, const WatchNode *node, char path[PROTO_PATH_MAX + 1])
{
	size_t		len = 0;
	const WatchNode *n;
	char	   *p;

	for (n = node; n != tree->root; n = n->parent)
	{
		if (n->parent == NULL)
			return -1;			/* below something in limbo */
		len += n->name_len + (n->parent != tree->root);
	}
	if (len > PROTO_PATH_MAX)
		return -1;
	p = path + len;
	*p = '\0';
	for (n = node; n != tree->root; n = n->parent)
	{
		p -= n->name_len;
		memcpy(p, n->name, n->name_len);
		if (n->parent != tree->root)
			*--p = '/';
	}
	return len;
}

static void
node_queue_rescan(WatchTree *tree, WatchNode *node)
{
	if (node->queued)
		return;
	node->queued = true;
	node->next_rescan = NULL;
	*tree->last_rescan = node;
	tree->last_rescan = &node->next_rescan;
}

static void
touch(WatchTree *tree, const WatchNode *node, const char *name, size_t len)
{
	uint64_t	hash = table_hash(name, len, node->id);
	Touch	   *t;

	for (TableLink *link = table_first(&tree->touches, hash); link; link = table_next(link))
	{
		t = table_container(link, Touch, link);
		if (t->node == node->id && t->name_len == len && memcmp(t->name, name, len) == 0)
			return;
	}
	t = malloc(sizeof(Touch) + len + 1);
	if (t == NULL || !table_insert(&tree->touches, &t->link, hash))
	{
		free(t);
		tree->status.rebuild = true;
		return;
	}
	t->next = NULL;
	t->node = node->id;
	t->name_len = len;
	memcpy(t->name, name, len);
	t->name[len] = '\0';
	*tree->last_touch = t;
	tree->last_touch = &t->next;
}

/* ---- looking at the disk ---- */

static void
close_cached(WatchTree *tree)
{
	if (tree->open_node != 0)
		close(tree->open_fd);
	tree->open_node = 0;
}

/*
 * A descriptor of the node's directory (valid until the next call), or -1
 * where the tree's place for it is not where it is.
 */
static int
open_node(WatchTree *tree, int rootfd, const WatchNode *node)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len;
	FileInfo	info;
	int			fd;

	if (tree->open_node == node->id)
		return tree->open_fd;
	close_cached(tree);
	len = node_path(tree, node, path);
	if (len < 0)
		return -1;
	fd = beneath_open_directory(rootfd, path, len, O_PATH);
	if (fd < 0)
		return -1;
	if (beneath_stat_fd(fd, &info) < 0 || info.dev != node->dev ||
		(ino_t) info.stat.inode != node->ino)
	{
		close(fd);
		return -1;
	}
	tree->open_node = node->id;
	tree->open_fd = fd;
	return fd;
}

static bool
still_there(WatchTree *tree, int rootfd, const WatchNode *node)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len = node_path(tree, node, path);
	FileInfo	info;

	return len >= 0 && beneath_stat(rootfd, path, len, &info) == 0 &&
		info.dev == node->dev && (ino_t) info.stat.inode == node->ino;
}

static void
report_subtree(WatchTree *tree, const WatchNode *node)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len = node_path(tree, node, path);

	if (len >= 0)
		tree->callbacks.subtree(tree->callbacks.arg, path, len);
}

/* The watch of an O_PATH descriptor; -1 with errno. */
static int
add_watch(WatchTree *tree, int fd)
{
	char		link[40];

	/*
	 * Through /proc, as a path could be renamed between the steps that led
	 * here and the watch, and the wrong directory be watched.
	 */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return inotify_add_watch(tree->inotify_fd, link, WATCH_MASK);
}

/* True if a is b or above it. */
static bool
is_ancestor(const WatchNode *a, const WatchNode *b)
{
	while (b != NULL && b != a)
		b = b->parent;
	return b == a;
}

/*
 * The name in parent is a directory: fd is its O_PATH descriptor.  Makes the
 * tree say so.
 */
static void
place_directory(WatchTree *tree, int rootfd, WatchNode *parent, int parent_fd,
				const char *name, size_t len, int fd)
{
	WatchNode  *here = node_child(tree, parent, name, len);
	WatchNode  *known;
	FileInfo	info;
	bool		readable;
	bool		alias = false;
	bool		starved = false;
	int			wd;

	if (beneath_stat_fd(fd, &info) < 0)
		return;
	readable = faccessat(parent_fd, name, R_OK | X_OK, AT_EACCESS) == 0;
	if (here != NULL && here->wd >= 0 && here->dev == info.dev &&
		here->ino == (ino_t) info.stat.inode)
	{
		/* the same directory as before; perhaps it can be read again */
		if (here->readable != readable)
		{
			here->readable = readable;
			node_queue_rescan(tree, here);
			report_subtree(tree, here);
		}
		return;
	}

	wd = -1;
	if (tree->status.watched >= tree->max_watches)
		starved = true;
	else
	{
		wd = add_watch(tree, fd);
		if (wd < 0 && (errno == ENOSPC || errno == ENOMEM))
			starved = true;
	}
	known = wd >= 0 ? node_by_wd(tree, wd) : NULL;
	if (known != NULL && known != here)
	{
		if (is_ancestor(known, parent))
		{
			/* A mount that shows a directory inside itself, or a tangle of
			 * moves that the model cannot follow. */
			if (still_there(tree, rootfd, known))
				alias = true;
			else
			{
				tree->status.rebuild = true;
				return;
			}
		}
		else if (still_there(tree, rootfd, known))
			alias = true;
	}

	if (known != NULL && known != here && !alias)
	{
		report_subtree(tree, known);	/* its old place */
		if (here != NULL)
			node_to_limbo(tree, here);
		node_detach(tree, known);
		close_cached(tree);
		known = node_attach(tree, parent, known, name, len);
		if (known == NULL)
		{
			tree->status.rebuild = true;
			return;
		}
		known->readable = readable;
		report_subtree(tree, known);
		return;
	}

	if (here != NULL && (here->dev != info.dev || here->ino != (ino_t) info.stat.inode))
	{
		node_to_limbo(tree, here);
		here = NULL;
	}
	if (here == NULL)
	{
		here = node_new(tree, name, len);
		if (here != NULL)
			here = node_attach(tree, parent, here, name, len);
		if (here == NULL)
		{
			tree->status.rebuild = true;
			return;
		}
	}
	here->dev = info.dev;
	here->ino = info.stat.inode;
	here->readable = readable;
	node_set_alias(tree, here, alias);
	node_set_starved(tree, here, starved);
	if (!alias && wd >= 0)
	{
		node_set_wd(tree, here, wd);
		node_queue_rescan(tree, here);
	}
	report_subtree(tree, here);
}

/*
 * Looks at one name in a directory of the tree.  False when the directory
 * cannot be opened where the tree has it.
 */
static bool
look_at(WatchTree *tree, int rootfd, WatchNode *parent, const char *name, size_t len,
		bool new_only)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		path_len;
	WatchNode  *here;
	int			parent_fd;
	int			fd = -1;

	path_len = node_path(tree, parent, path);
	if (path_len < 0)
		return false;
	parent_fd = open_node(tree, rootfd, parent);
	if (parent_fd < 0)
		return false;
	here = node_child(tree, parent, name, len);
	if (new_only && here != NULL)
		return true;

	/* A directory too deep for any file below it to be tracked is the walk's
	 * to report. */
	if (path_len + len + 1 <= PROTO_PATH_MAX &&
		!(tree->utf8 && !filter_valid_utf8(name, len)))
	{
		if (path_len > 0)
			path[path_len++] = '/';
		memcpy(path + path_len, name, len);
		path_len += len;
		path[path_len] = '\0';
		if (filter_accepts_directory(tree->filter, path, path_len))
			fd = openat(parent_fd, name,
						O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd >= 0)
	{
		place_directory(tree, rootfd, parent, parent_fd, name, len, fd);
		close(fd);
	}
	else if (here != NULL)
	{
		report_subtree(tree, here);
		node_to_limbo(tree, here);
		close_cached(tree);
	}
	return true;
}

/* Reads a newly watched directory for its sub-directories. */
static void
rescan(WatchTree *tree, int rootfd, WatchNode *node)
{
	int			fd = open_node(tree, rootfd, node);
	uint64_t	id = node->id;
	DIR		   *dir;
	struct dirent *entry;

	if (fd < 0)
		return;					/* moved or gone: its parent was touched */
	fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;					/* unreadable: the walk reports it */
	dir = fdopendir(fd);
	if (dir == NULL)
	{
		close(fd);
		tree->status.rebuild = true;
		return;
	}
	while ((entry = readdir(dir)) != NULL)
	{
		size_t		len = strlen(entry->d_name);

		if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)
			continue;
		if (filter_ignores_name(entry->d_name, len))
			continue;			/* "." and ".." too */
		look_at(tree, rootfd, node, entry->d_name, len, true);
		node = node_by_id(tree, id);	/* it may have been moved */
		if (node == NULL)
			break;
	}
	closedir(dir);
}

bool
watch_tree_resolve(WatchTree *tree, int rootfd, int64_t budget_us)
{
	int64_t		stop = monotonic_us() + budget_us;
	bool		progress = true;

	while (!tree->status.rebuild)
	{
		Touch	  **p = &tree->first_touch;

		/* touched names, as often as one of them makes way for another */
		while (progress && tree->first_touch != NULL)
		{
			progress = false;
			for (p = &tree->first_touch; *p != NULL;)
			{
				Touch	   *t = *p;
				WatchNode  *parent = node_by_id(tree, t->node);

				if (parent != NULL &&
					!look_at(tree, rootfd, parent, t->name, t->name_len, false))
				{
					p = &t->next;
					continue;
				}
				progress = true;
				*p = t->next;
				if (tree->last_touch == &t->next)
					tree->last_touch = p;
				table_remove(&tree->touches, &t->link);
				free(t);
				if (monotonic_us() > stop)
				{
					close_cached(tree);
					return false;
				}
			}
		}

		if (tree->first_rescan == NULL)
			break;
		while (tree->first_rescan != NULL)
		{
			WatchNode  *node = tree->first_rescan;

			tree->first_rescan = node->next_rescan;
			if (tree->first_rescan == NULL)
				tree->last_rescan = &tree->first_rescan;
			node->queued = false;
			rescan(tree, rootfd, node);
			if (monotonic_us() > stop)
			{
				close_cached(tree);
				return false;
			}
		}
		progress = true;		/* a rescan may have found a lost parent */
	}

	/* Names in directories that are nowhere: nothing is there to be seen. */
	while (tree->first_touch != NULL)
	{
		Touch	   *t = tree->first_touch;

		tree->first_touch = t->next;
		free(t);
	}
	tree->last_touch = &tree->first_touch;
	table_clear(&tree->touches);
	while (tree->limbo != NULL)
		node_drop(tree, tree->limbo);
	close_cached(tree);
	return true;
}

/* ---- the outside ---- */

WatchTree *
watch_tree_create(int inotify_fd, const Filter *filter, bool utf8,
				  uint64_t max_watches, const WatchCallbacks *callbacks)
{
	WatchTree  *tree = calloc(1, sizeof(WatchTree));

	if (tree == NULL)
		return NULL;
	tree->inotify_fd = inotify_fd;
	tree->filter = filter;
	tree->utf8 = utf8;
	tree->max_watches = max_watches;
	tree->callbacks = *callbacks;
	tree->last_touch = &tree->first_touch;
	tree->last_rescan = &tree->first_rescan;
	table_init(&tree->by_wd);
	table_init(&tree->by_id);
	table_init(&tree->by_name);
	table_init(&tree->touches);
	return tree;
}

int
watch_tree_start(WatchTree *tree, int rootfd)
{
	FileInfo	info;
	int			wd;

	if (beneath_stat_fd(rootfd, &info) < 0)
		return -1;
	wd = add_watch(tree, rootfd);
	if (wd < 0)
		return -1;
	tree->root = node_new(tree, "", 0);
	if (tree->root == NULL)
	{
		errno = ENOMEM;
		return -1;
	}
	tree->root->dev = info.dev;
	tree->root->ino = info.stat.inode;
	tree->root->readable = true;
	node_set_wd(tree, tree->root, wd);
	node_queue_rescan(tree, tree->root);
	return 0;
}

void
watch_tree_free(WatchTree *tree)
{
	while (tree->first_touch != NULL)
	{
		Touch	   *t = tree->first_touch;

		tree->first_touch = t->next;
		free(t);
	}
	while (tree->limbo != NULL)
		node_drop(tree, tree->limbo);
	if (tree->root != NULL)
		node_drop(tree, tree->root);
	table_clear(&tree->by_wd);
	table_clear(&tree->by_id);
	table_clear(&tree->by_name);
	table_clear(&tree->touches);
	free(tree);
}

void
watch_tree_event(WatchTree *tree, const Event *event, const char *name)
{
	WatchNode  *node = node_by_wd(tree, event->wd);

	if (node == NULL)
		return;					/* of a watch that we removed */
	if (event->mask & IN_IGNORED)
		node_set_wd(tree, node, -1);
	if (event->name_len == 0)
	{
		if (node == tree->root)
			tree->root_changed = true;
		else if (node->parent != NULL && !(event->mask & IN_ATTRIB))
			touch(tree, node->parent, node->name, node->name_len);
		return;
	}
	if (filter_ignores_name(name, event->name_len))
		return;
	if (event->mask & IN_ISDIR)
		touch(tree, node, name, event->name_len);
	else
	{
		/* A directory that gave way to a file of its name. */
		if ((event->mask & (IN_CREATE | IN_MOVED_TO)) &&
			node_child(tree, node, name, event->name_len) != NULL)
			touch(tree, node, name, event->name_len);
		tree->callbacks.name(tree->callbacks.arg, node->id, name, event->name_len,
							 event->mask, event->cookie);
	}
}

/* The node of the longest known part of a path; *rest is what follows it. */
static WatchNode *
find_node(const WatchTree *tree, const char *path, size_t len, size_t *rest)
{
	WatchNode  *node = tree->root;
	size_t		at = 0;

	while (node != NULL && at < len)
	{
		const char *slash = memchr(path + at, '/', len - at);
		size_t		n = slash ? (size_t) (slash - (path + at)) : len - at;
		WatchNode  *child = node_child(tree, node, path + at, n);

		if (child == NULL)
			break;
		node = child;
		at += n + (slash != NULL);
	}
	*rest = at;
	return node;
}

void
watch_tree_touch(WatchTree *tree, const char *path, size_t len)
{
	size_t		rest;
	WatchNode  *node = find_node(tree, path, len, &rest);

	if (node == NULL)
		return;
	if (rest < len)
	{
		const char *slash = memchr(path + rest, '/', len - rest);

		touch(tree, node, path + rest,
			  slash ? (size_t) (slash - (path + rest)) : len - rest);
	}
	else if (node->parent != NULL)
		touch(tree, node->parent, node->name, node->name_len);
	else
		node_queue_rescan(tree, node);
}

void
watch_tree_retry(WatchTree *tree)
{
	for (size_t i = 0; i < tree->by_id.n_buckets; i++)
	{
		for (TableLink *link = tree->by_id.buckets[i]; link; link = link->next)
		{
			WatchNode  *node = table_container(link, WatchNode, by_id);

			if (node->starved && node->parent != NULL)
				touch(tree, node->parent, node->name, node->name_len);
		}
	}
}

ssize_t
watch_tree_path(const WatchTree *tree, uint64_t id, char path[PROTO_PATH_MAX + 1])
{
	WatchNode  *node = node_by_id(tree, id);

	return node ? node_path(tree, node, path) : -1;
}

bool
watch_tree_knows(const WatchTree *tree, const char *path, size_t len)
{
	size_t		rest;

	return find_node(tree, path, len, &rest) != NULL && rest == len;
}

const WatchTreeStatus *
watch_tree_status(const WatchTree *tree)
{
	return &tree->status;
}

bool
watch_tree_root_changed(WatchTree *tree)
{
	bool		changed = tree->root_changed;

	tree->root_changed = false;
	return changed;
}
