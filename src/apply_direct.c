/*-------------------------------------------------------------------------
 *
 * apply_direct.c
 *		Sets of observations written to file_records without a statement.
 *
 * These are the two that come in great numbers: files that are new, in a first
 * sync, and files that moved, when a directory is renamed.  records.c says when
 * the table can be written this way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply_arrays.h"
#include "apply_direct.h"
#include "apply_totals.h"
#include "compat.h"
#include "index_entries.h"
#include "path_key.h"
#include "records.h"
#ifdef RECORDS_BELOW_SQL
#include "records_compat.h"

/* Rows that go to the table together, and then to each index. */
#define BATCH_ROWS		5000

/* file_records as the executor's target. */
typedef struct Target
{
	Records		records;
	EState	   *estate;
	ResultRelInfo *info;		/* its indexes are open */
} Target;

/* What put_observation() writes. */
static const RecordsColumn observed_columns[] = {
	RECORDS_FILE_PATH, RECORDS_FILE_SIZE, RECORDS_MOD_TIME, RECORDS_CONTENT_HASH,
	RECORDS_LAST_SCANNED, RECORDS_SCAN_GENERATION, RECORDS_UPDATED_AT,
	RECORDS_INODE, RECORDS_MTIME_NS, RECORDS_CTIME_NS, RECORDS_BTIME_NS,
	RECORDS_MISSING_SINCE, RECORDS_MISSING_REASON
};

/* ---------------------------------------------------------------------
 * The target
 * ---------------------------------------------------------------------
 */

/* A deferred constraint would have to be checked again. */
static bool
constraints_are_immediate(const ResultRelInfo *info)
{
	for (int i = 0; i < info->ri_NumIndices; i++)
	{
		if (!info->ri_IndexRelationDescs[i]->rd_index->indimmediate)
			return false;
	}
	return true;
}

static void
begin_executor(Target *target, CmdType operation)
{
	Relation	rel = target->records.rel;
	Bitmapset  *updated = NULL;

	for (int i = 0; i < (int) lengthof(observed_columns) && operation == CMD_UPDATE; i++)
		updated = bms_add_member(updated, target->records.attnums[observed_columns[i]] -
								 FirstLowInvalidHeapAttributeNumber);
	target->estate = CreateExecutorState();
	executor_range_table_compat(target->estate, rel, updated);
	target->info = makeNode(ResultRelInfo);
	InitResultRelInfo(target->info, rel, 1, NULL, 0);
	ExecOpenIndices(target->info, false);
	target->estate->es_output_cid = GetCurrentCommandId(true);
	AfterTriggerBeginQuery();
}

/*
 * Fires what is left of triggers, those of foreign keys, and makes the rows
 * visible to the statements that follow.
 */
static void
target_close(Target *target)
{
	AfterTriggerEndQuery(target->estate);
	ExecResetTupleTable(target->estate->es_tupleTable, false);
	ExecCloseIndices(target->info);
	close_trigger_targets_compat(target->estate);
	FreeExecutorState(target->estate);
	records_close(&target->records);
	CommandCounterIncrement();
}

static bool
target_open(Target *target, const ExtensionObjects *objects, CmdType operation)
{
	if (!records_open(&target->records, objects, operation))
		return false;
	CheckCmdReplicaIdentity(target->records.rel, operation);
	begin_executor(target, operation);
	if (constraints_are_immediate(target->info))
		return true;
	target_close(target);
	return false;
}

/* Sets a column of the slot. */
static void
put(const Target *target, TupleTableSlot *slot, RecordsColumn column, Datum value)
{
	int			i = target->records.attnums[column] - 1;

	slot->tts_values[i] = value;
	slot->tts_isnull[i] = false;
}

/* What stat and hashing say; values are allocated in the current context. */
static void
put_observation(const Target *target, TupleTableSlot *slot, const ApplyRun *run,
				const ProtoObservation *obs)
{
	const ProtoStat *st = &obs->stat;

	put(target, slot, RECORDS_FILE_PATH,
		PointerGetDatum(cstring_to_text_with_len(obs->path.data, obs->path.len)));
	put(target, slot, RECORDS_FILE_SIZE, Int64GetDatum(st->size));
	put(target, slot, RECORDS_MOD_TIME, apply_mod_time(st));
	slot->tts_isnull[target->records.attnums[RECORDS_CONTENT_HASH] - 1] = true;
	if (obs->has_hash)
		put(target, slot, RECORDS_CONTENT_HASH, apply_hash(obs));
	put(target, slot, RECORDS_LAST_SCANNED, apply_last_scanned(obs, run->now));
	put(target, slot, RECORDS_SCAN_GENERATION, Int64GetDatum(run->generation));
	put(target, slot, RECORDS_UPDATED_AT, TimestampTzGetDatum(run->now));
	put(target, slot, RECORDS_INODE, Int64GetDatum(st->inode));
	put(target, slot, RECORDS_MTIME_NS, Int64GetDatum(st->mtime_ns));
	put(target, slot, RECORDS_CTIME_NS, Int64GetDatum(st->ctime_ns));
	slot->tts_isnull[target->records.attnums[RECORDS_BTIME_NS] - 1] = true;
	if (st->btime_ns != PROTO_NO_TIME)
		put(target, slot, RECORDS_BTIME_NS, Int64GetDatum(st->btime_ns));
	slot->tts_isnull[target->records.attnums[RECORDS_MISSING_SINCE] - 1] = true;
	slot->tts_isnull[target->records.attnums[RECORDS_MISSING_REASON] - 1] = true;
}

static void
check_constraints(Target *target, TupleTableSlot *slot)
{
	if (RelationGetDescr(target->records.rel)->constr != NULL)
		ExecConstraints(target->info, slot, target->estate);
}

/*
 * With a copy of the table's descriptor, because each slot registers its one,
 * if it is counted, in a table that takes long when there are thousands of the
 * same.
 */
static TupleTableSlot **
create_slots(const Target *target, int n)
{
	Relation	rel = target->records.rel;
	TupleDesc	desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * n);

	for (int i = 0; i < n; i++)
		slots[i] = MakeSingleTupleTableSlot(desc, table_slot_callbacks(rel));
	return slots;
}

static void
drop_slots(TupleTableSlot **slots, int n)
{
	for (int i = 0; i < n; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	pfree(slots);
}

/* ---------------------------------------------------------------------
 * Files that are new
 * ---------------------------------------------------------------------
 */

static void
form_new_row(Target *target, TupleTableSlot *slot, Oid id_sequence, const ApplyRun *run,
			 const ApplyItem *item)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   RelationGetDescr(target->records.rel)->natts * sizeof(bool));
	put(target, slot, RECORDS_ID, Int64GetDatum(nextval_internal(id_sequence, false)));
	put(target, slot, RECORDS_REPOSITORY_ID, UUIDPGetDatum(run->repository_id));
	put(target, slot, RECORDS_CREATED_AT, TimestampTzGetDatum(run->now));
	put_observation(target, slot, run, &item->obs);
	ExecStoreVirtualTuple(slot);
	check_constraints(target, slot);
}

static void
insert_rows(Target *target, TupleTableSlot **slots, int n)
{
	EState	   *estate = target->estate;

	table_multi_insert(target->records.rel, slots, n, estate->es_output_cid, 0, NULL);
	index_entries_insert(target->info, estate, slots, n, false);
	for (int i = 0; i < n; i++)
		ExecARInsertTriggers(estate, target->info, slots[i], NIL, NULL);
	ResetPerTupleExprContext(estate);
}

static int
compare_paths(const void *a, const void *b)
{
	const ApplyItem *const *x = a;
	const ApplyItem *const *y = b;

	return path_compare((*x)->obs.path, (*y)->obs.path);
}

bool
direct_insert(const ApplyRun *run, ApplyItem **items, int n)
{
	Target		target;
	Oid			id_sequence;
	TupleTableSlot **slots;
	int			n_slots = Min(n, BATCH_ROWS);
	MemoryContext values;
	MemoryContext old;

	if (!target_open(&target, run->objects, CMD_INSERT))
		return false;
	id_sequence = identity_sequence_compat(target.records.rel,
										   target.records.attnums[RECORDS_ID]);
	slots = create_slots(&target, n_slots);

	/* Ids, places in the table and paths then ascend together. */
	qsort(items, n, sizeof(ApplyItem *), compare_paths);
	values = AllocSetContextCreate(CurrentMemoryContext, "fsync rows", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(values);
	for (int first = 0; first < n; first += n_slots)
	{
		int			part = Min(n - first, n_slots);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < part; i++)
			form_new_row(&target, slots[i], id_sequence, run, items[first + i]);
		insert_rows(&target, slots, part);
		for (int i = 0; i < part; i++)
			account_changed(run, items[first + i]->obs.path, 1,
							items[first + i]->obs.stat.size);
		MemoryContextReset(values);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(values);

	drop_slots(slots, n_slots);
	target_close(&target);
	return true;
}

/* ---------------------------------------------------------------------
 * Files that moved
 * ---------------------------------------------------------------------
 */

/*
 * A directory that is renamed comes to where nothing is: one look may do.  What
 * is overlooked here, the unique index refuses.
 */
static bool
targets_are_vacant(RecordsLookup *lookup, ApplyItem **items, int n)
{
	ProtoStr	first = items[0]->obs.path;
	ProtoStr	last = first;

	for (int i = 1; i < n; i++)
	{
		if (path_compare(items[i]->obs.path, first) < 0)
			first = items[i]->obs.path;
		else if (path_compare(items[i]->obs.path, last) > 0)
			last = items[i]->obs.path;
	}
	if (records_range_is_empty(lookup, first, last, n / 2))
		return true;
	for (int i = 0; i < n; i++)
	{
		int64		id;

		if (records_lookup(lookup, items[i]->obs.path, &id) && id != items[i]->obs.id)
			return false;
	}
	return true;
}

static void
account_move(const Target *target, TupleTableSlot *old, const ApplyRun *run,
			 const ApplyItem *item)
{
	const AttrNumber *attnums = target->records.attnums;
	bool		isnull;

	if (slot_attisnull(old, attnums[RECORDS_MISSING_SINCE]))
		account_changed(run, item->obs.old_path, -1,
						-DatumGetInt64(slot_getattr(old, attnums[RECORDS_FILE_SIZE], &isnull)));
	account_changed(run, item->obs.path, 1, item->obs.stat.size);
}

/*
 * Writes the row anew, with what was observed, and leaves it in the slot.
 * False: it is where the indexes have it already.
 */
static bool
move_row(Target *target, TupleTableSlot *old, TupleTableSlot *slot, const ApplyRun *run,
		 const ApplyItem *item)
{
	Relation	rel = target->records.rel;
	EState	   *estate = target->estate;
	int			natts = RelationGetDescr(rel)->natts;
	TM_FailureData failure;
	bool		index_entries;

	ExecClearTuple(slot);
	slot_getallattrs(old);
	memcpy(slot->tts_values, old->tts_values, sizeof(Datum) * natts);
	memcpy(slot->tts_isnull, old->tts_isnull, sizeof(bool) * natts);
	put_observation(target, slot, run, &item->obs);
	ExecStoreVirtualTuple(slot);
	check_constraints(target, slot);
	account_move(target, old, run, item);

	if (update_row_compat(rel, &old->tts_tid, slot, estate->es_output_cid,
						  GetActiveSnapshot(), &failure, &index_entries) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of table \"%s\" was changed by another session",
						"file_records")));
	after_row_update_compat(estate, target->info, &old->tts_tid, slot);
	return index_entries;
}

/* Moves the rows, as many as there are slots, and then their index entries. */
static void
move_batch(Target *target, RecordsLookup *lookup, TupleTableSlot **slots,
		   const ApplyRun *run, ApplyItem **items, int n, bool *done)
{
	int			n_entries = 0;

	for (int i = 0; i < n; i++)
	{
		MemoryContext old;
		int64		id;

		CHECK_FOR_INTERRUPTS();
		done[i] = records_lookup(lookup, items[i]->obs.old_path, &id) &&
			id == items[i]->obs.id;
		if (!done[i])
			continue;
		old = MemoryContextSwitchTo(GetPerTupleMemoryContext(target->estate));
		if (move_row(target, lookup->slot, slots[n_entries], run, items[i]))
			n_entries++;
		MemoryContextSwitchTo(old);
		ResetPerTupleExprContext(target->estate);
	}
	index_entries_insert(target->info, target->estate, slots, n_entries, true);
}

/* False: there is a row at a new path, and no row was moved. */
static bool
move_rows(Target *target, const ApplyRun *run, ApplyItem **items, int n, bool *done)
{
	RecordsLookup lookup;
	int			n_slots = Min(n, BATCH_ROWS);
	TupleTableSlot **slots = create_slots(target, n_slots);
	bool		vacant;

	records_lookup_begin(&lookup, &target->records, run->repository_id);
	vacant = targets_are_vacant(&lookup, items, n);
	for (int first = 0; first < n && vacant; first += n_slots)
		move_batch(target, &lookup, slots, run, items + first, Min(n - first, n_slots),
				   done + first);
	records_lookup_end(&lookup);
	drop_slots(slots, n_slots);
	return vacant;
}

bool
direct_move(const ApplyRun *run, ApplyItem **items, int n, bool *done)
{
	Target		target;
	bool		moved;

	if (!target_open(&target, run->objects, CMD_UPDATE))
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	moved = move_rows(&target, run, items, n, done);
	PopActiveSnapshot();
	target_close(&target);
	return moved;
}

#else

bool
direct_insert(const ApplyRun *run, ApplyItem **items, int n)
{
	return false;
}

bool
direct_move(const ApplyRun *run, ApplyItem **items, int n, bool *done)
{
	return false;
}

#endif							/* RECORDS_BELOW_SQL */
