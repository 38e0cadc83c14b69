/*-------------------------------------------------------------------------
 *
 * watch_aliases.c
 *		Directories that have several places in the tree.
 *
 * Where a directory is mounted at a second place, both are the same inode, and
 * the kernel gives it one watch descriptor.  The place that was found first has
 * the watch.  Each other one is a node as well, an alias, with nodes for all
 * directories below it, which are aliases too; an event of the descriptor is
 * one of all places.  When the first place goes, one of the others gets the watch,
 * which goes on without a gap.
 *
 *-------------------------------------------------------------------------
 */
#include "watch_nodes.h"

static uint64_t
hash_of(int wd)
{
	return table_hash(&wd, sizeof(wd), 3);
}

void
watch_alias_set(WatchTree *tree, WatchNode *node, int wd)
{
	if (node->alias_wd == wd)
		return;
	if (node->alias_wd >= 0)
	{
		table_remove(&tree->by_alias, &node->by_alias);
		tree->status.aliases--;
	}
	node->alias_wd = -1;
	if (wd < 0)
		return;
	if (!table_insert(&tree->by_alias, &node->by_alias, hash_of(wd)))
	{
		tree->status.rebuild = true;
		return;
	}
	node->alias_wd = wd;
	tree->status.aliases++;
}

/* The first of a chain that has this watch. */
static WatchNode *
match(TableLink *link, int wd)
{
	for (; link != NULL; link = table_next(link))
	{
		WatchNode  *node = table_container(link, WatchNode, by_alias);

		if (node->alias_wd == wd)
			return node;
	}
	return NULL;
}

WatchNode *
watch_alias_first(const WatchTree *tree, int wd)
{
	return match(table_first(&tree->by_alias, hash_of(wd)), wd);
}

WatchNode *
watch_alias_next(const WatchNode *node)
{
	return match(table_next(&node->by_alias), node->alias_wd);
}

void
watch_alias_moved(WatchTree *tree, const WatchNode *from, WatchNode *to)
{
	if (from->alias_wd < 0)
		return;
	table_remove(&tree->by_alias, (TableLink *) &from->by_alias);
	table_insert(&tree->by_alias, &to->by_alias, from->by_alias.hash);
}

bool
watch_alias_inherit(WatchTree *tree, WatchNode *node)
{
	int			wd = node->wd;
	WatchNode  *heir = watch_alias_first(tree, wd);

	if (heir == NULL)
		return false;
	watch_node_set_wd(tree, node, -1);
	watch_alias_set(tree, heir, -1);
	watch_node_set_wd(tree, heir, wd);
	return true;
}

void
watch_alias_ended(WatchTree *tree, int wd)
{
	WatchNode  *node;

	while ((node = watch_alias_first(tree, wd)) != NULL)
	{
		watch_alias_set(tree, node, -1);
		if (node->parent != NULL)
			watch_touch(tree, node->parent, node->name, node->name_len, false);
	}
}

void
watch_tree_aliases(const WatchTree *tree, uint64_t id,
				   void (*each) (void *arg, uint64_t alias), void *arg)
{
	const WatchNode *node = watch_node_by_id(tree, id);

	if (node == NULL || node->wd < 0)
		return;
	for (const WatchNode *alias = watch_alias_first(tree, node->wd); alias;
		 alias = watch_alias_next(alias))
		each(arg, alias->id);
}
