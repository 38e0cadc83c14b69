/*-------------------------------------------------------------------------
 *
 * table.c
 *		A chained hash table whose links live inside the members.
 *
 * The hash is FNV-1a (draft-eastlake-fnv) with the finalizer of MurmurHash3,
 * as the table uses the low bits.
 *
 *-------------------------------------------------------------------------
 */
#include "table.h"

#include <stdlib.h>

#define TABLE_MIN_BUCKETS	64

void
table_init(Table *table)
{
	table->buckets = NULL;
	table->n_buckets = 0;
	table->count = 0;
}

void
table_clear(Table *table)
{
	free(table->buckets);
	table_init(table);
}

static bool
table_grow(Table *table)
{
	size_t		n = table->n_buckets ? table->n_buckets * 2 : TABLE_MIN_BUCKETS;
	TableLink **buckets = calloc(n, sizeof(TableLink *));

	if (buckets == NULL)
		return table->n_buckets > 0;	/* longer chains still work */
	for (size_t i = 0; i < table->n_buckets; i++)
	{
		TableLink  *link = table->buckets[i];

		while (link != NULL)
		{
			TableLink  *next = link->next;
			TableLink **slot = &buckets[link->hash & (n - 1)];

			link->next = *slot;
			*slot = link;
			link = next;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->n_buckets = n;
	return true;
}

bool
table_insert(Table *table, TableLink *link, uint64_t hash)
{
	TableLink **slot;

	if (table->count >= table->n_buckets && !table_grow(table))
		return false;
	slot = &table->buckets[hash & (table->n_buckets - 1)];
	link->hash = hash;
	link->next = *slot;
	*slot = link;
	table->count++;
	return true;
}

void
table_remove(Table *table, TableLink *link)
{
	TableLink **slot = &table->buckets[link->hash & (table->n_buckets - 1)];

	while (*slot != link)
		slot = &(*slot)->next;
	*slot = link->next;
	table->count--;
}

static TableLink *
table_match(TableLink *link, uint64_t hash)
{
	while (link != NULL && link->hash != hash)
		link = link->next;
	return link;
}

TableLink *
table_first(const Table *table, uint64_t hash)
{
	if (table->n_buckets == 0)
		return NULL;
	return table_match(table->buckets[hash & (table->n_buckets - 1)], hash);
}

TableLink *
table_next(const TableLink *link)
{
	return table_match(link->next, link->hash);
}

uint64_t
table_hash(const void *data, size_t len, uint64_t seed)
{
	const unsigned char *p = data;
	uint64_t	h = UINT64_C(0xcbf29ce484222325) ^ seed;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return h;
}
