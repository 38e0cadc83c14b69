/*-------------------------------------------------------------------------
 *
 * table.h
 *		A chained hash table whose links live inside the members.
 *
 * The table owns no member and compares none: a caller steps through the
 * members of one hash value and decides which is his.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TABLE_H
#define FSYNC_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TableLink
{
	struct TableLink *next;
	uint64_t	hash;
} TableLink;

typedef struct Table
{
	TableLink **buckets;
	size_t		n_buckets;		/* a power of two, or 0 */
	size_t		count;
} Table;

#define table_container(link, type, member) \
	((type *) ((char *) (link) - offsetof(type, member)))

extern void table_init(Table *table);

/* Forgets all members without touching them. */
extern void table_clear(Table *table);

/* False when out of memory (the member is then not in the table). */
extern bool table_insert(Table *table, TableLink *link, uint64_t hash);
extern void table_remove(Table *table, TableLink *link);

/* The first member of this hash, and the next after one; NULL at the end. */
extern TableLink *table_first(const Table *table, uint64_t hash);
extern TableLink *table_next(const TableLink *link);

/* FNV-1a with a final mix; seed distinguishes kinds of keys. */
extern uint64_t table_hash(const void *data, size_t len, uint64_t seed);

#endif							/* FSYNC_TABLE_H */
