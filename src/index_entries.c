/*-------------------------------------------------------------------------
 *
 * index_entries.c
 *		The index entries of many rows, index by index.
 *
 * The executor inserts a row's entries into one index after the other.  With
 * keys in random order, as hashes are, each entry then goes to a page that has
 * left the processor's caches since it was last touched.  A thousand entries of
 * one index in the order of their keys find root and branches warm, and go to
 * each leaf one after the other.
 *
 * A block-range index is told only once of rows of one block that have the same
 * key: the others would look up the summary of the range to find that it holds
 * the key already.
 *
 * Both is done where an entry is no more than the values of columns.  Indexes
 * with expressions, predicates, exclusion constraints, and of other access
 * methods are left to the executor, row by row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/sortsupport.h"

#include "compat.h"
#include "index_entries.h"
#include "records.h"
#ifdef RECORDS_BELOW_SQL
#include "records_compat.h"

/* How often an interrupt is looked for, in entries. */
#define INTERRUPT_EVERY		256

/* The rows, and the column by which an index tells them apart. */
typedef struct Order
{
	TupleTableSlot **slots;
	AttrNumber	attnum;
	SortSupportData sort;
} Order;

/* A row in the order of an index; key is abbreviated where the type can. */
typedef struct OrderedRow
{
	Datum		key;
	bool		isnull;
	int			row;
} OrderedRow;

/* Whether an entry is the values of columns, and no more. */
static bool
is_plain(Relation index, const IndexInfo *info)
{
	return (index->rd_rel->relam == BTREE_AM_OID || index->rd_rel->relam == BRIN_AM_OID) &&
		index->rd_index->indisvalid && info->ii_ReadyForInserts &&
		(!info->ii_Unique || index->rd_index->indimmediate) &&
		info->ii_Expressions == NIL && info->ii_Predicate == NIL &&
		info->ii_ExclusionOps == NULL;
}

/* ---------------------------------------------------------------------
 * The order
 * ---------------------------------------------------------------------
 */

static bool
same_value(TupleTableSlot *a, TupleTableSlot *b, AttrNumber attnum, Form_pg_attribute att)
{
	bool		a_isnull;
	bool		b_isnull;
	Datum		a_value = slot_getattr(a, attnum, &a_isnull);
	Datum		b_value = slot_getattr(b, attnum, &b_isnull);

	if (a_isnull || b_isnull)
		return a_isnull && b_isnull;
	return datumIsEqual(a_value, b_value, att->attbyval, att->attlen);
}

/* The first key column that is not the same in all rows; -1: there is none. */
static int
telling_column(Relation index, const IndexInfo *info, TupleTableSlot **slots, int n)
{
	for (int c = 0; c < info->ii_NumIndexKeyAttrs; c++)
	{
		AttrNumber	attnum = info->ii_IndexAttrNumbers[c];
		Form_pg_attribute att;

		if (attnum <= 0)
			return -1;
		att = TupleDescAttr(slots[0]->tts_tupleDescriptor, attnum - 1);
		for (int i = 1; i < n; i++)
		{
			if (!same_value(slots[0], slots[i], attnum, att))
				return c;
		}
	}
	return -1;
}

static int
compare_rows(const void *a, const void *b, void *arg)
{
	const OrderedRow *x = a;
	const OrderedRow *y = b;
	Order	   *order = arg;
	int			result = ApplySortComparator(x->key, x->isnull, y->key, y->isnull,
											 &order->sort);

	if (result == 0 && order->sort.abbrev_converter != NULL && !x->isnull)
	{
		bool		isnull;

		result = ApplySortAbbrevFullComparator(slot_getattr(order->slots[x->row],
															order->attnum, &isnull),
											   false,
											   slot_getattr(order->slots[y->row],
															order->attnum, &isnull),
											   false, &order->sort);
	}
	return result != 0 ? result : x->row - y->row;
}

/* Puts the rows in the order of the index. */
static void
sort_rows(Relation index, const IndexInfo *info, TupleTableSlot **slots, int n,
		  OrderedRow *rows)
{
	Order		order = {.slots = slots};
	int			column = telling_column(index, info, slots, n);

	for (int i = 0; i < n; i++)
		rows[i].row = i;
	if (column < 0)
		return;
	order.attnum = info->ii_IndexAttrNumbers[column];
	order.sort.ssup_cxt = CurrentMemoryContext;
	order.sort.ssup_collation = index->rd_indcollation[column];
	order.sort.ssup_attno = column + 1;
	order.sort.abbreviate = true;
	sort_support_from_index_compat(index, &order.sort);

	for (int i = 0; i < n; i++)
	{
		rows[i].key = slot_getattr(slots[i], order.attnum, &rows[i].isnull);
		if (order.sort.abbrev_converter != NULL && !rows[i].isnull)
			rows[i].key = order.sort.abbrev_converter(rows[i].key, &order.sort);
	}
	qsort_arg(rows, n, sizeof(OrderedRow), compare_rows, &order);
}

/* ---------------------------------------------------------------------
 * The entries
 * ---------------------------------------------------------------------
 */

/*
 * New versions of rows have the key of the old ones: a hint, with which a btree
 * looks for versions to delete before it divides a leaf.
 */
static bool
is_unchanged(ResultRelInfo *info, EState *estate, int i)
{
	const IndexInfo *index_info = info->ri_IndexRelationInfo[i];
	Bitmapset  *updated = updated_columns_compat(info, estate);

	for (int c = 0; c < index_info->ii_NumIndexKeyAttrs; c++)
	{
		if (bms_is_member(index_info->ii_IndexAttrNumbers[c] -
						  FirstLowInvalidHeapAttributeNumber, updated))
			return false;
	}
	return true;
}

static void
insert_entry(ResultRelInfo *info, EState *estate, int i, TupleTableSlot *slot,
			 bool unchanged)
{
	Relation	index = info->ri_IndexRelationDescs[i];
	IndexInfo  *index_info = info->ri_IndexRelationInfo[i];
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	FormIndexDatum(index_info, slot, estate, values, isnull);
	index_insert_compat(index, values, isnull, &slot->tts_tid, info->ri_RelationDesc,
						index_info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
						unchanged, index_info);
}

static void
insert_in_order(ResultRelInfo *info, EState *estate, int i, TupleTableSlot **slots, int n,
				bool update)
{
	OrderedRow *rows = palloc(sizeof(OrderedRow) * n);
	bool		unchanged = update && is_unchanged(info, estate, i);

	sort_rows(info->ri_IndexRelationDescs[i], info->ri_IndexRelationInfo[i], slots, n,
			  rows);
	for (int r = 0; r < n; r++)
	{
		if (r % INTERRUPT_EVERY == 0)
			CHECK_FOR_INTERRUPTS();
		insert_entry(info, estate, i, slots[rows[r].row], unchanged);
	}
}

/* The row is in the block of the other one, and has the same key. */
static bool
is_summarized(const IndexInfo *index_info, TupleTableSlot *slot, TupleTableSlot *other)
{
	if (ItemPointerGetBlockNumber(&slot->tts_tid) !=
		ItemPointerGetBlockNumber(&other->tts_tid))
		return false;
	for (int c = 0; c < index_info->ii_NumIndexAttrs; c++)
	{
		AttrNumber	attnum = index_info->ii_IndexAttrNumbers[c];

		if (attnum <= 0 ||
			!same_value(slot, other, attnum,
						TupleDescAttr(slot->tts_tupleDescriptor, attnum - 1)))
			return false;
	}
	return true;
}

/* All rows are in the table by now, so whoever summarizes the range sees them. */
static void
insert_block_ranges(ResultRelInfo *info, EState *estate, int i, TupleTableSlot **slots, int n)
{
	TupleTableSlot *last = NULL;

	for (int r = 0; r < n; r++)
	{
		if (last != NULL && is_summarized(info->ri_IndexRelationInfo[i], slots[r], last))
			continue;
		CHECK_FOR_INTERRUPTS();
		insert_entry(info, estate, i, slots[r], false);
		last = slots[r];
	}
}

/*
 * Moves the plain indexes to the end of the executor's arrays, and returns how
 * many are before them.
 */
static int
part_indexes(ResultRelInfo *info)
{
	int			n_other = 0;

	for (int i = 0; i < info->ri_NumIndices; i++)
	{
		Relation	index = info->ri_IndexRelationDescs[i];
		IndexInfo  *index_info = info->ri_IndexRelationInfo[i];

		if (is_plain(index, index_info))
			continue;
		info->ri_IndexRelationDescs[i] = info->ri_IndexRelationDescs[n_other];
		info->ri_IndexRelationInfo[i] = info->ri_IndexRelationInfo[n_other];
		info->ri_IndexRelationDescs[n_other] = index;
		info->ri_IndexRelationInfo[n_other] = index_info;
		n_other++;
	}
	return n_other;
}

/* With only the first so many indexes there for the executor to see. */
static void
insert_by_executor(ResultRelInfo *info, EState *estate, int n_indexes,
				   TupleTableSlot **slots, int n, bool update)
{
	int			all = info->ri_NumIndices;

	info->ri_NumIndices = n_indexes;
	for (int r = 0; r < n && n_indexes > 0; r++)
	{
		CHECK_FOR_INTERRUPTS();
		insert_index_entries_compat(info, slots[r], estate, update);
		ResetPerTupleExprContext(estate);
	}
	info->ri_NumIndices = all;
}

void
index_entries_insert(ResultRelInfo *info, EState *estate, TupleTableSlot **slots, int n,
					 bool update)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fsync index entries",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int			n_other = part_indexes(info);

	insert_by_executor(info, estate, n_other, slots, n, update);
	for (int i = n_other; i < info->ri_NumIndices; i++)
	{
		if (info->ri_IndexRelationDescs[i]->rd_rel->relam == BRIN_AM_OID)
			insert_block_ranges(info, estate, i, slots, n);
		else
			insert_in_order(info, estate, i, slots, n, update);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

#endif							/* RECORDS_BELOW_SQL */
