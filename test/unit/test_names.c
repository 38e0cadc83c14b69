/*-------------------------------------------------------------------------
 *
 * test_names.c
 *		What is inspected or hashed is found by the node and name of an event,
 *		whatever its path was.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "names.h"

#define COUNT	1000

typedef struct Item
{
	NameLink	by_name;
	char		path[64];
} Item;

static Table table;
static Item items[COUNT];

static int
count(uint64_t node, const char *name)
{
	int			n = 0;

	for (NameLink *link = names_first(&table, node, name, strlen(name)); link;
		 link = names_next(link))
		n++;
	return n;
}

static void
insert(Item *item, uint64_t node, const char *path)
{
	snprintf(item->path, sizeof(item->path), "%s", path);
	names_insert(&table, &item->by_name, node, item->path, strlen(path));
}

/* Fails if one of many is not found, or is another. */
static void
test_many(void)
{
	char		path[64];
	bool		found = true;

	for (int i = 0; i < COUNT; i++)
	{
		snprintf(path, sizeof(path), "d%d/e/name%d", i, i % 10);
		insert(&items[i], i / 10 + 1, path);
	}
	for (int i = 0; i < COUNT; i++)
	{
		NameLink   *link;

		snprintf(path, sizeof(path), "name%d", i % 10);
		link = names_first(&table, i / 10 + 1, path, strlen(path));
		found &= link == &items[i].by_name && names_next(link) == NULL;
	}
	HOLDS(found);
	EQUALS(count(COUNT, "name1"), 0);
	EQUALS(count(1, "name"), 0);
	EQUALS(count(1, "e/name1"), 0);
	EQUALS(count(1, ""), 0);
	for (int i = 0; i < COUNT; i += 2)
		names_remove(&table, &items[i].by_name);
	EQUALS(count(1, "name0"), 0);
	EQUALS(count(1, "name1"), 1);
	for (int i = 0; i < COUNT; i++)
		names_remove(&table, &items[i].by_name);
	EQUALS(table.count, 0);
}

/* Fails if a name at the root or one of two is missed, or node 0 is found. */
static void
test_few(void)
{
	insert(&items[0], 7, "top");
	insert(&items[1], 7, "old/top");
	insert(&items[2], 0, "top");
	EQUALS(count(7, "top"), 2);
	EQUALS(count(0, "top"), 0);
	names_remove(&table, &items[2].by_name);
	names_remove(&table, &items[0].by_name);
	EQUALS(count(7, "top"), 1);
	names_remove(&table, &items[1].by_name);
	names_remove(&table, &items[1].by_name);
	EQUALS(table.count, 0);
}

int
main(void)
{
	table_init(&table);
	test_many();
	test_few();
	table_clear(&table);
	return unit_done();
}
