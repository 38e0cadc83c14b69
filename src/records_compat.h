/*-------------------------------------------------------------------------
 *
 * records_compat.h
 *		What differs between the versions of PostgreSQL for whoever reads and
 *		writes rows below SQL: records.c, apply_direct.c, index_entries.c.
 *
 * Only they include it, and only where RECORDS_BELOW_SQL is defined (records.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_RECORDS_COMPAT_H
#define FSYNC_RECORDS_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "parser/parse_relation.h"
#include "utils/sortsupport.h"

/* The sequence of an identity column. */
static inline Oid
identity_sequence_compat(Relation rel, AttrNumber attnum)
{
#if PG_VERSION_NUM >= 170000
	return getIdentitySequence(rel, attnum, false);
#else
	return getIdentitySequence(RelationGetRelid(rel), attnum, false);
#endif
}

/* A range table of this relation alone, with the columns that are updated. */
static inline void
executor_range_table_compat(EState *estate, Relation rel, Bitmapset *updated)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
#if PG_VERSION_NUM >= 160000
	List	   *permissions = NIL;
#endif

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
#if PG_VERSION_NUM >= 160000
	addRTEPermissionInfo(&permissions, rte)->updatedCols = updated;
#if PG_VERSION_NUM >= 180000
	ExecInitRangeTable(estate, list_make1(rte), permissions, bms_make_singleton(1));
#else
	ExecInitRangeTable(estate, list_make1(rte), permissions);
#endif
#else
	rte->updatedCols = updated;
	ExecInitRangeTable(estate, list_make1(rte));
#endif
}

static inline void
insert_index_entries_compat(ResultRelInfo *info, TupleTableSlot *slot, EState *estate,
							bool update)
{
#if PG_VERSION_NUM >= 190000
	(void) ExecInsertIndexTuples(info, estate, update ? EIIT_IS_UPDATE : 0, slot, NIL, NULL);
#elif PG_VERSION_NUM >= 160000
	(void) ExecInsertIndexTuples(info, slot, estate, update, false, NULL, NIL, false);
#elif PG_VERSION_NUM >= 140000
	(void) ExecInsertIndexTuples(info, slot, estate, update, false, NULL, NIL);
#else
	estate->es_result_relation_info = info;
	(void) ExecInsertIndexTuples(slot, estate, false, NULL, NIL);
#endif
}

/* The columns that executor_range_table_compat() was given. */
static inline Bitmapset *
updated_columns_compat(ResultRelInfo *info, EState *estate)
{
#if PG_VERSION_NUM >= 140000
	return ExecGetUpdatedCols(info, estate);
#else
	return exec_rt_fetch(info->ri_RangeTableIndex, estate)->updatedCols;
#endif
}

static inline void
index_insert_compat(Relation index, Datum *values, bool *isnull, ItemPointer tid,
					Relation rel, IndexUniqueCheck check, bool unchanged,
					IndexInfo *info)
{
#if PG_VERSION_NUM >= 140000
	(void) index_insert(index, values, isnull, tid, rel, check, unchanged, info);
#else
	(void) unchanged;
	(void) index_insert(index, values, isnull, tid, rel, check, info);
#endif
}

/* Fills in how a column of a btree index is compared. */
static inline void
sort_support_from_index_compat(Relation index, SortSupport sort)
{
#if PG_VERSION_NUM >= 180000
	PrepareSortSupportFromIndexRel(index, false, sort);
#else
	PrepareSortSupportFromIndexRel(index, BTLessStrategyNumber, sort);
#endif
}

/* Sets *index_entries if the new version of the row needs some. */
static inline TM_Result
update_row_compat(Relation rel, ItemPointer old, TupleTableSlot *slot, CommandId command,
				  Snapshot snapshot, TM_FailureData *failure, bool *index_entries)
{
	LockTupleMode mode;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes which;
#if PG_VERSION_NUM >= 190000
	TM_Result	result = table_tuple_update(rel, old, slot, command, 0, snapshot,
											InvalidSnapshot, true, failure, &mode,
											&which);
#else
	TM_Result	result = table_tuple_update(rel, old, slot, command, snapshot,
											InvalidSnapshot, true, failure, &mode,
											&which);
#endif

	*index_entries = which != TU_None;
	return result;
#else
	return table_tuple_update(rel, old, slot, command, snapshot, InvalidSnapshot, true,
							  failure, &mode, index_entries);
#endif
}

static inline IndexScanDesc
index_beginscan_compat(Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 190000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0, 0);
#elif PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

static inline void
after_row_update_compat(EState *estate, ResultRelInfo *info, ItemPointer old,
						TupleTableSlot *slot)
{
#if PG_VERSION_NUM >= 150000
	ExecARUpdateTriggers(estate, info, NULL, NULL, old, NULL, slot, NIL, NULL, false);
#else
	ExecARUpdateTriggers(estate, info, old, NULL, slot, NIL, NULL);
#endif
}

/* Closes what firing triggers has opened. */
static inline void
close_trigger_targets_compat(EState *estate)
{
#if PG_VERSION_NUM >= 140000
	ExecCloseResultRelations(estate);
#else
	ExecCleanUpTriggerState(estate);
#endif
}

#endif							/* FSYNC_RECORDS_COMPAT_H */
