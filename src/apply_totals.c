/*-------------------------------------------------------------------------
 *
 * apply_totals.c
 *		What a message does to the totals of its repository.
 *
 * What is inserted and deleted is known from the message and from what the
 * statements return.  Where a row is written anew its old size is asked for
 * before.
 *
 * That holds as long as nobody else decides what is written: a trigger that
 * fires before a row is, a rule, a table that inherits from this one, a column
 * of another type.  Where there is such a thing no account is given, and the
 * transaction is taken for one of others (totals.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply_arrays.h"
#include "apply_totals.h"
#include "records.h"
#include "totals.h"

/* Where the table is not plain. */
static SessionPlan before_plan = {
	.sql = "SELECT u.ord, f.file_size FROM %1$s.file_records f"
	" JOIN unnest($2, $3) AS u (ord, file_path) ON f.file_path = u.file_path"
	" WHERE f.repository_id = $1 AND f.missing_since IS NULL",
	.nargs = 3,
	.argtypes = {UUIDOID, INT4ARRAYOID, TEXTARRAYOID},
};

/* A column that is stored as it is written, in the order of bytes if it has one. */
static bool
column_is_plain(Relation rel, const char *name, Oid type)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);
	Form_pg_attribute att;

	if (attnum == InvalidAttrNumber)
		return false;
	att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
	return att->atttypid == type && att->attgenerated == '\0' &&
		(att->attcollation == InvalidOid || att->attcollation == C_COLLATION_OID);
}

static bool
others_have_a_say(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;

	return rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relhassubclass ||
		rel->rd_rules != NULL ||
		!column_is_plain(rel, "file_size", INT8OID) ||
		!column_is_plain(rel, "file_path", TEXTOID) ||
		!column_is_plain(rel, "repository_id", UUIDOID) ||
		!column_is_plain(rel, "missing_since", TIMESTAMPTZOID) ||
		(triggers != NULL &&
		 (triggers->trig_insert_before_row || triggers->trig_update_before_row ||
		  triggers->trig_delete_before_row));
}

void
account_begin(ApplyRun *run)
{
	Relation	rel = table_open(run->objects->file_records, AccessShareLock);

	run->counts = totals_find(run->repository_id);
	run->accounts = !others_have_a_say(rel);
	table_close(rel, NoLock);
}

void
account_end(const ApplyRun *run)
{
	if (run->accounts)
		totals_account(run->repository_id, &run->result->totals);
}

void
account_changed(const ApplyRun *run, ProtoStr path, int64 files, int64 bytes)
{
	if (run->accounts)
		totals_changed(&run->result->totals, run->counts, path, files, bytes);
}

static bool
look_below_sql(const ApplyRun *run, ApplyItem **items, int n, bool old_paths,
			   ApplyBefore *before)
{
	Records		records;
	RecordsLookup lookup;

	if (!records_open(&records, run->objects, CMD_SELECT))
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	records_lookup_begin(&lookup, &records, run->repository_id);
	for (int i = 0; i < n; i++)
	{
		ProtoStr	path = old_paths ? items[i]->obs.old_path : items[i]->obs.path;
		int64		id;
		bool		isnull;

		if (!records_lookup(&lookup, path, &id) ||
			!slot_attisnull(lookup.slot, records.attnums[RECORDS_MISSING_SINCE]))
			continue;
		before[i].counts = true;
		before[i].size =
			DatumGetInt64(slot_getattr(lookup.slot, records.attnums[RECORDS_FILE_SIZE], &isnull));
	}
	records_lookup_end(&lookup);
	PopActiveSnapshot();
	records_close(&records);
	return true;
}

ApplyBefore *
account_look(const ApplyRun *run, ApplyItem **items, int n, bool old_paths)
{
	ApplyBefore *before = palloc0(sizeof(ApplyBefore) * Max(n, 1));
	Datum		values[3];
	uint64		found;

	if (!run->accounts || look_below_sql(run, items, n, old_paths, before))
		return before;
	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = apply_ordinals(n);
	values[2] = old_paths ? apply_old_paths(items, n, false) : apply_paths(items, n);
	found = session_execute(run->objects, &before_plan, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;
		int			ordinal = DatumGetInt32(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1,
														  &isnull));

		before[ordinal].counts = true;
		before[ordinal].size = DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2,
														   &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return before;
}
