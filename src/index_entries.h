/*-------------------------------------------------------------------------
 *
 * index_entries.h
 *		The index entries of many rows, index by index.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_INDEX_ENTRIES_H
#define FSYNC_INDEX_ENTRIES_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/execnodes.h"

/*
 * Inserts the entries of these rows, which are in the table, into all indexes
 * of info; throws what a statement would.  A unique index is checked against
 * the rows as they are in the end, not as they were in between.  update: the
 * rows are new versions.
 */
extern void index_entries_insert(ResultRelInfo *info, EState *estate,
								 TupleTableSlot **slots, int n, bool update);

#endif							/* FSYNC_INDEX_ENTRIES_H */
