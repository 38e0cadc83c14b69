/*-------------------------------------------------------------------------
 *
 * watch_tree.c
 *		The watched directories: what comes from and goes to the outside.
 *
 * See watch_resolve.c for how the tree follows the disk.
 *
 *-------------------------------------------------------------------------
 */
#include "watch_nodes.h"

#include "beneath.h"
#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

WatchTree *
watch_tree_create(int inotify_fd, const Filter *filter, bool utf8,
				  uint64_t max_watches, const WatchCallbacks *callbacks)
{
	WatchTree  *tree = calloc(1, sizeof(WatchTree));

	if (tree == NULL)
		return NULL;
	tree->inotify_fd = inotify_fd;
	tree->filter = filter;
	tree->spelling = spelling_create(NULL);
	if (tree->spelling == NULL ||
		(filter_uses_rules(filter) && (tree->rules = rules_create(filter)) == NULL))
	{
		spelling_free(tree->spelling);
		free(tree);
		return NULL;
	}
	tree->utf8 = utf8;
	tree->max_watches = max_watches;
	tree->callbacks = *callbacks;
	tree->status.version = 1;
	tree->last_touch = &tree->first_touch;
	tree->last_rescan = &tree->first_rescan;
	table_init(&tree->by_wd);
	table_init(&tree->by_alias);
	table_init(&tree->by_id);
	table_init(&tree->by_name);
	table_init(&tree->touches);
	return tree;
}

int
watch_tree_start(WatchTree *tree, int rootfd)
{
	FileInfo	info;
	struct statfs fs;
	int			wd;

	if (beneath_stat_fd(rootfd, &info) < 0)
		return -1;
	tree->leaves_known = fstatfs(rootfd, &fs) == 0 && identity_counts_directories(fs.f_type);
	wd = watch_add(tree, rootfd, &info);
	if (wd < 0)
		return -1;
	tree->root = watch_node_new(tree, "", 0);
	if (tree->root == NULL)
	{
		errno = ENOMEM;
		return -1;
	}
	tree->root->dev = info.dev;
	tree->root->ino = info.stat.inode;
	tree->root->readable = true;
	watch_node_set_wd(tree, tree->root, wd);
	watch_node_queue_rescan(tree, tree->root);
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
		watch_node_drop(tree, tree->limbo);
	if (tree->root != NULL)
		watch_node_drop(tree, tree->root);
	table_clear(&tree->by_wd);
	table_clear(&tree->by_alias);
	table_clear(&tree->by_id);
	table_clear(&tree->by_name);
	table_clear(&tree->touches);
	rules_free(tree->rules);
	spelling_free(tree->spelling);
	free(tree);
}

/* The event, as of one of the places of its directory; as watch_tree_event(). */
static bool
event_at(WatchTree *tree, WatchNode *node, const Event *event, const char *name)
{
	bool		resolve = false;

	if (event->name_len == 0)
	{
		if (node == tree->root)
			tree->root_changed = true;
		else if (node->parent != NULL && !(event->mask & IN_ATTRIB))
			watch_touch(tree, node->parent, node->name, node->name_len, false);
		return true;
	}
	if (tree->rules != NULL && strcmp(name, FILTER_RULES_NAME) == 0)
	{
		node->new_rules = resolve = true;
		watch_node_queue_recheck(tree, node);
	}
	if (filter_ignores_name(tree->filter, name, event->name_len))
	{
		if (event->mask & (IN_MODIFY | IN_CLOSE_WRITE))
			tree->callbacks.ignored(tree->callbacks.arg, node->id, name, event->name_len,
									event->mask);
		return resolve;
	}
	if (event->mask & IN_ISDIR)
	{
		watch_touch(tree, node, name, event->name_len,
					(event->mask & (IN_MOVED_FROM | IN_MOVED_TO)) != 0);
		return true;
	}
	tree->callbacks.name(tree->callbacks.arg, node->id, name, event->name_len,
						 event->mask, event->cookie);

	/* A directory that gave way to a file of its name. */
	if (!(event->mask & (IN_CREATE | IN_MOVED_TO)) ||
		watch_node_child(tree, node, name, event->name_len) == NULL)
		return resolve;
	watch_touch(tree, node, name, event->name_len, false);
	return true;
}

void
watch_tree_examined(WatchTree *tree)
{
	tree->examined = true;
}

bool
watch_tree_event(WatchTree *tree, const Event *event, const char *name)
{
	WatchNode  *node = watch_node_by_wd(tree, event->wd);
	bool		resolve;

	if (node == NULL)
		return false;			/* of a watch that we removed */
	if (event->mask & IN_IGNORED)
		watch_node_set_wd(tree, node, -1);
	resolve = event_at(tree, node, event, name);
	for (node = watch_alias_first(tree, event->wd); node; node = watch_alias_next(node))
		resolve |= event_at(tree, node, event, name);
	if (event->mask & IN_IGNORED)
		watch_alias_ended(tree, event->wd);
	return resolve;
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
		WatchNode  *child = watch_node_child(tree, node, path + at, n);

		if (child == NULL)
			break;
		node = child;
		at += n + (slash != NULL);
	}
	*rest = at;
	return node;
}

bool
watch_tree_touched(const WatchTree *tree, const char *path, size_t len)
{
	const WatchNode *node = tree->first_touch != NULL ? tree->root : NULL;
	const char *slash;

	while (node != NULL && (slash = memchr(path, '/', len)) != NULL)
	{
		size_t		n = slash - path;

		if (watch_is_touched(tree, node, path, n))
			return true;
		node = watch_node_child(tree, node, path, n);
		len -= n + 1;
		path = slash + 1;
	}
	return false;
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

		watch_touch(tree, node, path + rest,
			  slash ? (size_t) (slash - (path + rest)) : len - rest, false);
	}
	else if (node->parent != NULL)
		watch_touch(tree, node->parent, node->name, node->name_len, false);
	else
		watch_node_queue_rescan(tree, node);
}

void
watch_tree_retry(WatchTree *tree, uint64_t max_watches)
{
	tree->max_watches = max_watches;
	for (size_t i = 0; i < tree->by_id.n_buckets; i++)
	{
		for (TableLink *link = tree->by_id.buckets[i]; link; link = link->next)
		{
			WatchNode  *node = table_container(link, WatchNode, by_id);

			if (node->starved && node->parent != NULL)
				watch_touch(tree, node->parent, node->name, node->name_len, false);
		}
	}
}

/* Whether a directory above the node is not watched either. */
static bool
is_below_unwatched(const WatchNode *node)
{
	for (node = node->parent; node != NULL; node = node->parent)
		if (node->starved)
			return true;
	return false;
}

void
watch_tree_unwatched(const WatchTree *tree,
					 void (*each) (void *arg, const char *path, size_t len), void *arg)
{
	char		path[PROTO_PATH_MAX + 1];

	if (tree->status.unwatched == 0)
		return;
	for (size_t i = 0; i < tree->by_id.n_buckets; i++)
	{
		for (TableLink *link = tree->by_id.buckets[i]; link; link = link->next)
		{
			const WatchNode *node = table_container(link, WatchNode, by_id);
			ssize_t		len = node->starved && !is_below_unwatched(node) ?
				watch_node_path(tree, node, path) : -1;

			if (len >= 0)
				each(arg, path, (size_t) len);
		}
	}
}

ssize_t
watch_tree_path(const WatchTree *tree, uint64_t id, char path[PROTO_PATH_MAX + 1])
{
	WatchNode  *node = watch_node_by_id(tree, id);

	return node ? watch_node_path(tree, node, path) : -1;
}

bool
watch_tree_identify(const WatchTree *tree, int wd, dev_t *dev, ino_t *ino)
{
	const WatchNode *node = watch_node_by_wd(tree, wd);

	if (node == NULL)
		return false;
	*dev = node->dev;
	*ino = node->ino;
	return true;
}

uint64_t
watch_tree_find(const WatchTree *tree, dev_t dev, ino_t ino)
{
	for (size_t i = 0; i < tree->by_wd.n_buckets; i++)
	{
		for (TableLink *link = tree->by_wd.buckets[i]; link; link = link->next)
		{
			const WatchNode *node = table_container(link, WatchNode, by_wd);

			if (node->dev == dev && node->ino == ino)
				return node->id;
		}
	}
	return 0;
}

bool
watch_tree_is_at(const WatchTree *tree, uint64_t id, dev_t dev, ino_t ino)
{
	WatchNode  *node = watch_node_by_id(tree, id);

	return node != NULL && node->dev == dev && node->ino == ino;
}

uint64_t
watch_tree_node(const WatchTree *tree, const char *path, size_t len)
{
	size_t		rest;
	const WatchNode *node = find_node(tree, path, len, &rest);

	/* one that events can speak of */
	return node != NULL && rest == len && watch_node_by_id(tree, node->id) == node ?
		node->id : 0;
}

bool
watch_tree_knows(const WatchTree *tree, const char *path, size_t len)
{
	size_t		rest;

	return find_node(tree, path, len, &rest) != NULL && rest == len;
}

static bool
is_closed(int rootfd, const char *path, size_t len)
{
	int			fd = beneath_open_directory(rootfd, path, len, O_PATH);
	bool		closed = (fd < 0 || faccessat(fd, ".", R_OK | X_OK, AT_EACCESS) < 0) &&
		(errno == EACCES || errno == EPERM);

	if (fd >= 0)
		close(fd);
	return closed;
}

bool
watch_tree_closed(WatchTree *tree, int rootfd, const char *path, size_t len)
{
	WatchNode  *node = tree->root;
	size_t		at = 0;

	while (at < len)
	{
		const char *slash = memchr(path + at, '/', len - at);
		size_t		n = slash ? (size_t) (slash - (path + at)) : len - at;

		node = watch_node_child(tree, node, path + at, n);
		if (node == NULL)
			return false;
		if (is_closed(rootfd, path, at + n))
		{
			node->readable = false;
			return true;
		}
		at += n + (slash != NULL);
	}
	return false;
}

bool
watch_tree_left(const WatchTree *tree)
{
	return tree->left;
}

bool
watch_tree_missed(WatchTree *tree)
{
	bool		missed = tree->missed;

	tree->missed = false;
	return missed;
}

const WatchTreeStatus *
watch_tree_status(const WatchTree *tree)
{
	return &tree->status;
}

bool
watch_tree_root_watched(const WatchTree *tree)
{
	return tree->root->wd >= 0;
}

void
watch_tree_set_root_changed(WatchTree *tree)
{
	tree->root_changed = true;
}

bool
watch_tree_root_changed(WatchTree *tree)
{
	bool		changed = tree->root_changed;

	tree->root_changed = false;
	return changed;
}
