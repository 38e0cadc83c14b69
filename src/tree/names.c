/*-------------------------------------------------------------------------
 *
 * names.c
 *		Finding a path by the directory and the name that an event speaks of.
 *
 *-------------------------------------------------------------------------
 */
#include "names.h"

#include <string.h>

void
names_insert(Table *table, NameLink *link, uint64_t node, const char *path, size_t len)
{
	const char *slash = memrchr(path, '/', len);

	link->name = slash ? slash + 1 : path;
	link->len = len - (size_t) (link->name - path);
	link->node = node;
	if (node != 0 && !table_insert(table, &link->link, table_hash(link->name, link->len, node)))
		link->node = 0;
}

void
names_remove(Table *table, NameLink *link)
{
	if (link->node != 0)
		table_remove(table, &link->link);
	link->node = 0;
}

static NameLink *
match(TableLink *at, uint64_t node, const char *name, size_t len)
{
	for (; at != NULL; at = table_next(at))
	{
		NameLink   *link = table_container(at, NameLink, link);

		if (link->node == node && link->len == len && memcmp(link->name, name, len) == 0)
			return link;
	}
	return NULL;
}

NameLink *
names_first(const Table *table, uint64_t node, const char *name, size_t len)
{
	return match(table_first(table, table_hash(name, len, node)), node, name, len);
}

NameLink *
names_next(const NameLink *link)
{
	return match(table_next(&link->link), link->node, link->name, link->len);
}
