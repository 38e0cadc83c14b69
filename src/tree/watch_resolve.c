/*-------------------------------------------------------------------------
 *
 * watch_resolve.c
 *		Making the watch tree follow the disk.
 *
 * watch_tree_event() only collects touched (directory, name) pairs.
 * watch_tree_resolve() looks at the disk for each:
 *
 *	- a directory that is not known gets a watch, and only then is read, or seen
 *	  to have no directory in it, so that what comes into it meanwhile is either
 *	  seen or reported;
 *	- a descriptor that is known at another place means that the directory
 *	  has moved, and its node moves with everything below it;
 *	- what is no longer where it was goes to limbo: another touched name may
 *	  still turn out to be its new place.  What is left there at the end has
 *	  been removed or has left the repository, and is no longer watched (a
 *	  directory that was moved out would go on delivering events).
 *
 * A directory that cannot be opened at the place the tree has for it has moved
 * on, which another touched name or an event that is still to be read will
 * tell: what is to be looked at in it waits.
 *
 *-------------------------------------------------------------------------
 */
#include "watch_nodes.h"

#include "beneath.h"
#include "clock.h"
#include "shortage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
close_cached(WatchTree *tree)
{
	if (tree->open_node != 0)
		close(tree->open_fd);
	tree->open_node = 0;
}

/* So often an error that the process lacks something is believed where nothing
 * else tells: a file system may give it for a directory of its for ever. */
#define RESOLVE_BELIEVED	20

/*
 * Something could not be looked at.  True if that was for want of what this errno
 * says: then it is not done with.
 */
static bool
note_lack(WatchTree *tree, int error)
{
	if (!shortage_is(error) ||
		(tree->lacked >= RESOLVE_BELIEVED && !shortage_confirmed(error)))
		return false;
	tree->status.lacking = error;
	return true;
}

/*
 * A descriptor of the node's directory (valid until the next call), or -1
 * where the tree's place for it is not where it is, or cannot be reached.
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
	len = watch_node_path(tree, node, path);
	if (len < 0)
		return -1;
	fd = beneath_open_directory(rootfd, path, len, O_PATH);
	if (fd < 0)
	{
		/* what is closed has not moved: its opening is a change */
		tree->left |= errno != EACCES && errno != EPERM;
		(void) note_lack(tree, errno);
		return -1;
	}
	if (beneath_stat_fd(fd, &info) < 0)
	{
		tree->left = true;
		(void) note_lack(tree, errno);
		close(fd);
		return -1;
	}
	if (info.dev != node->dev || (ino_t) info.stat.inode != node->ino)
	{
		tree->left = true;
		close(fd);
		return -1;
	}
	tree->open_node = node->id;
	tree->open_fd = fd;
	return fd;
}

bool
watch_tree_renew(WatchTree *tree, int rootfd, uint64_t id)
{
	const WatchNode *node = watch_node_by_id(tree, id);
	int			fd = node == NULL || node->wd < 0 ? -1 : open_node(tree, rootfd, node);
	FileInfo	info;
	bool		renewed = fd >= 0 && beneath_stat_fd(fd, &info) == 0 &&
		watch_add(tree, fd, &info) == node->wd;

	close_cached(tree);
	return renewed;
}

/* 1 if the node's directory is where the tree has it, 0 if not, -1: for want of
 * something it is not known. */
static int
still_there(WatchTree *tree, int rootfd, const WatchNode *node)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len = watch_node_path(tree, node, path);
	FileInfo	info;

	if (len >= 0 && beneath_stat(rootfd, path, len, &info) < 0)
		return note_lack(tree, errno) ? -1 : 0;
	return len >= 0 && info.dev == node->dev && (ino_t) info.stat.inode == node->ino &&
		spelling_of(tree->spelling, rootfd, path, len, spelling_directory(path, len)) !=
		SPELLING_OTHER;
}

static void
report_subtree(WatchTree *tree, const WatchNode *node)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len = watch_node_path(tree, node, path);

	if (len >= 0)
		tree->callbacks.subtree(tree->callbacks.arg, path, len);
}

/* True if a is b or above it. */
static bool
is_ancestor(const WatchNode *a, const WatchNode *b)
{
	while (b != NULL && b != a)
		b = b->parent;
	return b == a;
}

/* Whether a watched directory that has left its place is this one. */
static bool
is_in_limbo(const WatchTree *tree, const FileInfo *info)
{
	const WatchNode *node = tree->limbo;

	while (node != NULL && !(node->wd >= 0 && node->dev == info->dev &&
							 node->ino == (ino_t) info->stat.inode))
		node = node->next;
	return node != NULL;
}

/*
 * Whether a directory, which is watched already, has no other in it: most have
 * none, and need not be read.  One that comes now is an event.
 */
static bool
is_leaf(const WatchTree *tree, int fd)
{
	FileInfo	info;

	return tree->leaves_known && tree->rules == NULL && beneath_stat_fd(fd, &info) == 0 &&
		info.dev == tree->root->dev && info.nlink == 2;
}

/* Whether the node is a second place of a directory whose first is there. */
static bool
is_known_alias(WatchTree *tree, int rootfd, const WatchNode *node)
{
	const WatchNode *first = node->alias_wd < 0 ? NULL :
		watch_node_by_wd(tree, node->alias_wd);

	return first != NULL && still_there(tree, rootfd, first);
}

/*
 * The name in parent is a directory: fd is its O_PATH descriptor.  Makes the
 * tree say so; false if that must be tried again for want of something.
 */
static bool
place_directory(WatchTree *tree, int rootfd, WatchNode *parent, int parent_fd,
				const char *name, size_t len, int fd)
{
	WatchNode  *here = watch_node_child(tree, parent, name, len);
	WatchNode  *known;
	FileInfo	info;
	bool		readable;
	bool		alias = false;
	bool		starved = false;
	int			wd;

	if (beneath_stat_fd(fd, &info) < 0)
		return !note_lack(tree, errno);
	readable = faccessat(parent_fd, name, R_OK | X_OK, AT_EACCESS) == 0;
	if (!readable && note_lack(tree, errno))
		return false;
	if (here != NULL && here->dev == info.dev && here->ino == (ino_t) info.stat.inode &&
		(here->wd >= 0 || is_known_alias(tree, rootfd, here)))
	{
		/* the same directory as before; perhaps it can be read again */
		if (here->unread)
			watch_node_queue_rescan(tree, here);
		if (here->readable != readable)
		{
			here->readable = readable;
			watch_node_queue_rescan(tree, here);
			report_subtree(tree, here);
		}
		return true;
	}

	wd = -1;
	if (tree->status.watched >= tree->max_watches && !is_in_limbo(tree, &info))
	{
		starved = true;
		tree->status.error = 0;
	}
	else if ((wd = watch_add(tree, fd, &info)) < 0 && readable)
	{
		starved = true;
		tree->status.error = errno;
	}
	known = wd >= 0 ? watch_node_by_wd(tree, wd) : NULL;
	if (known != NULL && known != here)
	{
		int			there = still_there(tree, rootfd, known);

		if (there < 0)
			return false;
		alias = there > 0;
		if (!alias && is_ancestor(known, parent))
		{
			/* a tangle of moves that the model cannot follow */
			tree->status.rebuild = true;
			return true;
		}
	}

	if (known != NULL && known != here && !alias)
	{
		report_subtree(tree, known);	/* its old place */
		if (here != NULL)
			watch_node_to_limbo(tree, here);
		watch_node_detach(tree, known);
		close_cached(tree);
		known = watch_node_attach(tree, parent, known, name, len);
		if (known == NULL)
		{
			tree->status.rebuild = true;
			return true;
		}
		known->readable = readable;
		tree->placed++;
		if (filter_depends_on_place(tree->filter))
			watch_node_queue_recheck(tree, known);
		report_subtree(tree, known);
		return true;
	}

	if (here != NULL && (here->dev != info.dev || here->ino != (ino_t) info.stat.inode))
	{
		watch_node_to_limbo(tree, here);
		here = NULL;
	}
	if (here == NULL)
	{
		here = watch_node_new(tree, name, len);
		if (here != NULL)
			here = watch_node_attach(tree, parent, here, name, len);
		if (here == NULL)
		{
			tree->status.rebuild = true;
			return true;
		}
	}
	tree->placed++;
	here->dev = info.dev;
	here->ino = info.stat.inode;
	here->readable = readable;
	watch_alias_set(tree, here, alias ? wd : -1);
	watch_node_set_starved(tree, here, starved);
	if (wd >= 0)
	{
		if (!alias)
			watch_node_set_wd(tree, here, wd);
		if (!readable || !is_leaf(tree, fd))
			watch_node_queue_rescan(tree, here);
	}
	report_subtree(tree, here);
	return true;
}

/*
 * An event spoke of a directory that is not there, and not known.  Where names
 * fold it may be known by another spelling.
 */
static void
look_for_other_spellings(WatchTree *tree, int rootfd, const WatchNode *parent)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len = watch_node_path(tree, parent, path);

	if (parent->children == NULL || len < 0 ||
		!spelling_folds(tree->spelling, rootfd, path, len))
		return;
	for (const WatchNode *child = parent->children; child != NULL; child = child->next)
		watch_touch(tree, parent, child->name, child->name_len, false);
}

/*
 * Looks at one name in a directory of the tree, which the directory lists or an
 * event spoke of.  False when the directory cannot be opened where the tree has
 * it.
 */
static bool
look_at(WatchTree *tree, int rootfd, WatchNode *parent, const char *name, size_t len,
		bool listed, bool new_only)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		path_len;
	WatchNode  *here;
	const FilterRules *rules = NULL;
	bool		failed = false;
	bool		placed = true;
	int			parent_fd;
	int			fd = -1;

	path_len = watch_node_path(tree, parent, path);
	if (path_len < 0)
		return false;
	parent_fd = open_node(tree, rootfd, parent);
	if (parent_fd < 0)
		return false;
	here = watch_node_child(tree, parent, name, len);
	if (new_only && here != NULL)
		return true;
	if (tree->rules != NULL)
		rules = rules_of(tree->rules, rootfd, path, path_len, &failed);
	if (failed)
	{
		(void) note_lack(tree, errno);
		return false;
	}

	/*
	 * A directory that cannot be tracked, for its name or its depth, is a
	 * problem that comes and goes with it; a walk of its parent sees that.
	 */
	if (path_len + len + 1 > PROTO_PATH_MAX ||
		(tree->utf8 && !filter_valid_utf8(name, len)))
		report_subtree(tree, parent);
	else
	{
		if (path_len > 0)
			path[path_len++] = '/';
		memcpy(path + path_len, name, len);
		path_len += len;
		path[path_len] = '\0';
		if (filter_accepts_directory(tree->filter, rules, path, path_len))
		{
			fd = openat(parent_fd, name,
						O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (fd < 0 && note_lack(tree, errno))
			{
				tree->left = true;
				return false;
			}
			if (fd < 0 && (errno == EACCES || errno == EPERM))
			{
				/* that it may be searched again is a change, and then it is read */
				parent->readable = false;
				return new_only;
			}
		}
	}
	if (fd >= 0 && !listed &&
		spelling_of(tree->spelling, rootfd, path, path_len,
					spelling_directory(path, path_len)) == SPELLING_OTHER)
	{
		/* it has another name, as the directory's listing tells */
		close(fd);
		fd = -1;
		watch_node_queue_rescan(tree, parent);
	}
	if (fd >= 0)
	{
		/* what was read of this path may be another directory's */
		if (tree->rules != NULL)
			rules_forget_below(tree->rules, path, path_len);
		placed = place_directory(tree, rootfd, parent, parent_fd, name, len, fd);
		close(fd);
	}
	else
	{
		tree->missed = true;
		if (here != NULL)
		{
			report_subtree(tree, here);
			watch_node_to_limbo(tree, here);
			close_cached(tree);
		}
		else if (!listed)
			look_for_other_spellings(tree, rootfd, parent);
	}
	return placed;
}

/*
 * Reads a directory for its sub-directories: new ones, or all where they are
 * to be judged anew.  One that cannot be reached has moved, which an event
 * will tell: it remains unread.
 */
static void
rescan(WatchTree *tree, int rootfd, WatchNode *node)
{
	int			fd = open_node(tree, rootfd, node);
	uint64_t	id = node->id;
	bool		recheck = node->recheck;
	DIR		   *dir = NULL;
	struct dirent *entry;

	if (fd >= 0)
	{
		fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && (errno == EACCES || errno == EPERM))
		{
			/* the walk reports it; that it may be read again is a change */
			node->unread = node->readable = false;
			return;
		}
		if (fd < 0)
			(void) note_lack(tree, errno);
	}
	if (fd >= 0 && (dir = fdopendir(fd)) == NULL)
	{
		(void) note_lack(tree, errno);
		close(fd);
	}
	if (dir == NULL)
	{
		tree->any_unread = true;
		return;
	}
	node->unread = node->recheck = false;
	if (node->new_rules)
		report_subtree(tree, node);
	node->new_rules = false;
	while ((errno = 0, entry = readdir(dir)) != NULL)
	{
		size_t		len = strlen(entry->d_name);

		if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)
			continue;
		if (filter_ignores_name(tree->filter, entry->d_name, len))
			continue;			/* "." and ".." too */
		if (!look_at(tree, rootfd, node, entry->d_name, len, true, !recheck))
		{
			node->unread = tree->any_unread = true;
			node->recheck |= recheck;
		}
		node = watch_node_by_id(tree, id);	/* it may have been moved */
		if (node == NULL)
			break;
	}
	if (entry == NULL && note_lack(tree, errno))
	{
		node->unread = tree->any_unread = true;
		node->recheck |= recheck;
	}
	closedir(dir);
}

/* What could not be reached before may have a place again. */
static void
queue_unread(WatchTree *tree)
{
	if (!tree->any_unread)
		return;
	tree->any_unread = false;
	for (size_t i = 0; i < tree->by_id.n_buckets; i++)
	{
		for (TableLink *link = tree->by_id.buckets[i]; link; link = link->next)
		{
			WatchNode  *node = table_container(link, WatchNode, by_id);

			if (node->unread)
				watch_node_queue_rescan(tree, node);
		}
	}
}

/*
 * A directory that was moved may be back by now, so that the tree does not see
 * that it was away.  What was said of paths meanwhile may be of where it was, so
 * they are compared.
 */
static void
report_moved(WatchTree *tree, const WatchNode *parent, const Touch *t)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		len = watch_node_path(tree, parent, path);

	if (!t->moved || !tree->examined || len < 0 || len + t->name_len + 1 > PROTO_PATH_MAX)
		return;
	if (len > 0)
		path[len++] = '/';
	memcpy(path + len, t->name, t->name_len);
	tree->callbacks.subtree(tree->callbacks.arg, path, len + t->name_len);
}

/*
 * Looks at all touched names, as often as one of them makes way for another.
 * False when time is up.
 */
static bool
resolve_touches(WatchTree *tree, int rootfd, int64_t stop)
{
	bool		progress = true;

	while (progress && tree->first_touch != NULL)
	{
		progress = tree->left = false;
		for (Touch **p = &tree->first_touch; *p != NULL;)
		{
			Touch	   *t = *p;
			WatchNode  *parent = watch_node_by_id(tree, t->node);

			if (parent != NULL &&
				!look_at(tree, rootfd, parent, t->name, t->name_len, false, false))
			{
				p = &t->next;
				continue;
			}
			if (parent != NULL)
				report_moved(tree, parent, t);
			progress = true;
			*p = t->next;
			if (tree->last_touch == &t->next)
				tree->last_touch = p;
			table_remove(&tree->touches, &t->link);
			free(t);
			if (tree->status.rebuild || monotonic_us() > stop)
				return false;
		}
	}
	return true;
}

static bool
resolve_rescans(WatchTree *tree, int rootfd, int64_t stop)
{
	while (tree->first_rescan != NULL)
	{
		WatchNode  *node = tree->first_rescan;

		tree->first_rescan = node->next_rescan;
		if (tree->first_rescan == NULL)
			tree->last_rescan = &tree->first_rescan;
		node->queued = false;
		rescan(tree, rootfd, node);
		if (tree->status.rebuild || monotonic_us() > stop)
			return false;
	}
	return true;
}

bool
watch_tree_resolve(WatchTree *tree, int rootfd, int64_t budget_us)
{
	int64_t		stop = monotonic_us() + budget_us;
	uint64_t	placed;
	bool		done;

	tree->status.lacking = 0;
	if (tree->rules != NULL)
		rules_forget(tree->rules);
	do
	{
		/* again when something got a place: no event need come after it */
		queue_unread(tree);
		placed = tree->placed;
		tree->left = false;
		done = resolve_touches(tree, rootfd, stop) && resolve_rescans(tree, rootfd, stop);
	}
	while (done && placed != tree->placed);
	close_cached(tree);
	spelling_forget(tree->spelling);
	tree->lacked = tree->status.lacking != 0 ? tree->lacked + 1 : 0;
	if (!done || tree->status.lacking != 0)
		return false;

	/*
	 * What is in limbo now is gone.  Names in directories that are nowhere
	 * else are kept: the directory has moved, and its event comes.
	 */
	while (tree->limbo != NULL)
		watch_node_drop(tree, tree->limbo);
	if (tree->first_touch == NULL)
		tree->examined = false;
	return true;
}
