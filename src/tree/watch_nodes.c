/*-------------------------------------------------------------------------
 *
 * watch_nodes.c
 *		The nodes of the watch tree.
 *
 * A node is found by its watch descriptor, by its id, or by its name in its
 * parent.  It has a place below the root, or it is in limbo: no longer where it
 * was, and not yet found elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#include "watch_nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

/* truncate(2) and "touch -m" give only MODIFY; see inotify(7). */
#define WATCH_MASK	(IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | \
					 IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | \
					 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

WatchNode *
watch_node_by_wd(const WatchTree *tree, int wd)
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

WatchNode *
watch_node_by_id(const WatchTree *tree, uint64_t id)
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

WatchNode *
watch_node_child(const WatchTree *tree, const WatchNode *parent, const char *name, size_t len)
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

void
watch_node_set_wd(WatchTree *tree, WatchNode *node, int wd)
{
	if (node->wd >= 0)
	{
		table_remove(&tree->by_wd, &node->by_wd);
		tree->status.watched--;
	}
	node->wd = -1;
	if (wd < 0)
		return;
	if (!table_insert(&tree->by_wd, &node->by_wd, table_hash(&wd, sizeof(wd), 1)))
	{
		tree->status.rebuild = true;
		return;
	}
	node->wd = wd;
	tree->status.watched++;
}

void
watch_node_set_starved(WatchTree *tree, WatchNode *node, bool starved)
{
	if (node->starved != starved)
	{
		tree->status.unwatched += starved ? 1 : -1;
		tree->status.version++;
	}
	node->starved = starved;
}

void
watch_node_detach(WatchTree *tree, WatchNode *node)
{
	tree->status.version += tree->status.unwatched > 0;
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

void
watch_node_to_limbo(WatchTree *tree, WatchNode *node)
{
	watch_node_detach(tree, node);
	node->limbo = true;
	node_link(&tree->limbo, node);
}

/* Without recursion: how deep a tree is belongs to its owner. */
void
watch_node_drop(WatchTree *tree, WatchNode *top)
{
	WatchNode  *node = top;

	for (;;)
	{
		WatchNode  *parent;

		while (node->children != NULL)
			node = node->children;
		parent = node->parent;
		if (node->wd >= 0 && !watch_alias_inherit(tree, node))
		{
			int			wd = node->wd;

			watch_node_set_wd(tree, node, -1);
			inotify_rm_watch(tree->inotify_fd, wd);
		}
		watch_node_set_starved(tree, node, false);
		watch_alias_set(tree, node, -1);
		watch_node_detach(tree, node);
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

WatchNode *
watch_node_new(WatchTree *tree, const char *name, size_t len)
{
	WatchNode  *node = calloc(1, sizeof(WatchNode) + len + 1);

	if (node == NULL)
		return NULL;
	node->id = ++tree->last_id;
	node->wd = node->alias_wd = -1;
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

WatchNode *
watch_node_attach(WatchTree *tree, WatchNode *parent, WatchNode *node,
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
		watch_alias_moved(tree, node, renamed);
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
		watch_node_to_limbo(tree, node);
		return NULL;
	}
	return node;
}

ssize_t
watch_node_path(const WatchTree *tree, const WatchNode *node, char path[PROTO_PATH_MAX + 1])
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

void
watch_node_queue_rescan(WatchTree *tree, WatchNode *node)
{
	if (node->queued)
		return;
	node->queued = true;
	node->unread = true;
	node->next_rescan = NULL;
	*tree->last_rescan = node;
	tree->last_rescan = &node->next_rescan;
}

void
watch_node_queue_recheck(WatchTree *tree, WatchNode *top)
{
	WatchNode  *node = top;

	for (;;)
	{
		node->recheck = true;
		watch_node_queue_rescan(tree, node);
		if (node->children != NULL)
			node = node->children;
		else
		{
			while (node != top && node->next == NULL)
				node = node->parent;
			if (node == top)
				return;
			node = node->next;
		}
	}
}

static Touch *
find_touch(const WatchTree *tree, const WatchNode *node, const char *name, size_t len)
{
	uint64_t	hash = table_hash(name, len, node->id);

	for (TableLink *link = table_first(&tree->touches, hash); link; link = table_next(link))
	{
		Touch	   *t = table_container(link, Touch, link);

		if (t->node == node->id && t->name_len == len && memcmp(t->name, name, len) == 0)
			return t;
	}
	return NULL;
}

bool
watch_is_touched(const WatchTree *tree, const WatchNode *node, const char *name, size_t len)
{
	return find_touch(tree, node, name, len) != NULL;
}

void
watch_touch(WatchTree *tree, const WatchNode *node, const char *name, size_t len, bool moved)
{
	uint64_t	hash = table_hash(name, len, node->id);
	Touch	   *t = find_touch(tree, node, name, len);

	if (t != NULL)
	{
		t->moved |= moved;
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
	t->moved = moved;
	t->name_len = len;
	memcpy(t->name, name, len);
	t->name[len] = '\0';
	*tree->last_touch = t;
	tree->last_touch = &t->next;
}

int
watch_add(WatchTree *tree, int fd, const FileInfo *info)
{
	uint32_t	mask = WATCH_MASK;
	char		link[40];

	/*
	 * Through /proc, as a path could be renamed between the steps that led
	 * here and the watch, and the wrong directory be watched.
	 */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (tree->callbacks.is_polled(tree->callbacks.arg, info->dev, (ino_t) info->stat.inode))
		mask &= ~(uint32_t) IN_MODIFY;
	return inotify_add_watch(tree->inotify_fd, link, mask);
}
