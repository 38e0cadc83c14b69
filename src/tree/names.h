/*-------------------------------------------------------------------------
 *
 * names.h
 *		Finding a path by the directory and the name that an event speaks of.
 *
 * An event knows a node of the watch tree and a name in it.  What is inspected
 * or hashed has a path, which was computed when that began and may be another
 * by now; so it is found by what does not change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_NAMES_H
#define FSYNC_NAMES_H

#include "table.h"

/* Part of what is to be found. */
typedef struct NameLink
{
	TableLink	link;
	uint64_t	node;			/* 0: cannot be found */
	const char *name;			/* the last component of the owner's path */
	size_t		len;
} NameLink;

/*
 * Makes it findable, unless node is 0 or memory is short; path must stay until
 * it is taken out, or the table cleared.
 */
extern void names_insert(Table *table, NameLink *link, uint64_t node,
						 const char *path, size_t len);
extern void names_remove(Table *table, NameLink *link);

/* The first of this node and name, and the next after one; NULL at the end. */
extern NameLink *names_first(const Table *table, uint64_t node, const char *name, size_t len);
extern NameLink *names_next(const NameLink *link);

#endif							/* FSYNC_NAMES_H */
