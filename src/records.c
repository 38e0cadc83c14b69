/*-------------------------------------------------------------------------
 *
 * records.c
 *		file_records below SQL: its columns, and its rows by their path.
 *
 * A statement over arrays of thousands spends more time on building, unnesting
 * and planning them than on the table, and may find it best to read all of
 * the table.  So where file_records is what the extension made it, and that is
 * nearly everywhere, its rows are found and written through the interfaces
 * below SQL, as COPY and logical replication do.
 *
 * What those leave to their caller is looked at here, each time: rules,
 * row-level security, privileges, triggers, columns that users added or
 * altered.  Constraints and indexes, users' own too, are honoured by the
 * executor and index_entries.c.  Of triggers only those of foreign keys are
 * plain, which an application has that references a file, and the one that looks
 * whether somebody else writes rows.  Whatever else there
 * is, the table is left to SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "feed_history.h"
#include "records.h"
#ifdef RECORDS_BELOW_SQL
#include "records_compat.h"

static const struct
{
	const char *name;
	Oid			type;
}			columns[RECORDS_COLUMNS] =
{
	[RECORDS_ID] = {"id", INT8OID},
	[RECORDS_REPOSITORY_ID] = {"repository_id", UUIDOID},
	[RECORDS_FILE_PATH] = {"file_path", TEXTOID},
	[RECORDS_FILE_SIZE] = {"file_size", INT8OID},
	[RECORDS_MOD_TIME] = {"mod_time", TIMESTAMPTZOID},
	[RECORDS_CONTENT_HASH] = {"content_hash", BYTEAOID},
	[RECORDS_LAST_SCANNED] = {"last_scanned", TIMESTAMPTZOID},
	[RECORDS_SCAN_GENERATION] = {"scan_generation", INT8OID},
	[RECORDS_CREATED_AT] = {"created_at", TIMESTAMPTZOID},
	[RECORDS_UPDATED_AT] = {"updated_at", TIMESTAMPTZOID},
	[RECORDS_INODE] = {"inode", INT8OID},
	[RECORDS_MTIME_NS] = {"mtime_ns", INT8OID},
	[RECORDS_CTIME_NS] = {"ctime_ns", INT8OID},
	[RECORDS_BTIME_NS] = {"btime_ns", INT8OID},
	[RECORDS_MISSING_SINCE] = {"missing_since", TIMESTAMPTZOID},
	[RECORDS_MISSING_REASON] = {"missing_reason", TEXTOID},
};

/* ---------------------------------------------------------------------
 * Whether the table is plain
 * ---------------------------------------------------------------------
 */

static bool
triggers_are_plain(const TriggerDesc *triggers, CmdType operation)
{
	int16		event = operation == CMD_INSERT ? TRIGGER_TYPE_INSERT : TRIGGER_TYPE_UPDATE;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if ((trigger->tgtype & event) && trigger->tgenabled != TRIGGER_DISABLED &&
			RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_NONE &&
			!feed_history_is_trigger(trigger->tgfoid))
			return false;
	}
	return true;
}

/* A column of a user's, which stays NULL in a new row and as it is in others. */
static bool
other_column_is_plain(Relation rel, Form_pg_attribute att)
{
	return att->attgenerated == '\0' && att->attidentity == '\0' &&
		get_typtype(att->atttypid) != TYPTYPE_DOMAIN &&
		build_column_default(rel, att->attnum) == NULL;
}

static bool
find_columns(Records *records)
{
	TupleDesc	desc = RelationGetDescr(records->rel);
	int			found = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		int			c = 0;

		if (att->attisdropped)
			continue;
		while (c < RECORDS_COLUMNS && namestrcmp(&att->attname, columns[c].name) != 0)
			c++;
		if (c == RECORDS_COLUMNS)
		{
			if (!other_column_is_plain(records->rel, att))
				return false;
			continue;
		}
		if (att->atttypid != columns[c].type || att->attgenerated != '\0' ||
			(att->attidentity != '\0') != (c == RECORDS_ID))
			return false;
		records->attnums[c] = att->attnum;
		found++;
	}
	return found == RECORDS_COLUMNS;
}

static bool
has_privilege(Relation rel, AclMode mode)
{
	return pg_class_aclcheck(RelationGetRelid(rel), GetUserId(), mode) == ACLCHECK_OK;
}

static bool
is_plain(Records *records, CmdType operation)
{
	Relation	rel = records->rel;

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition ||
		rel->rd_rel->relhassubclass || !find_columns(records) ||
		!has_privilege(rel, ACL_SELECT) ||
		check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED)
		return false;
	if (operation == CMD_SELECT)
		return true;
	return rel->rd_rules == NULL && !XactReadOnly &&
		triggers_are_plain(rel->trigdesc, operation) &&
		has_privilege(rel, operation == CMD_INSERT ? ACL_INSERT : ACL_UPDATE);
}

/* Whether this is the index on (repository_id, file_path). */
static bool
is_path_index(const Records *records, Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisunique && form->indisvalid && form->indimmediate &&
		form->indnkeyatts == 2 && index->rd_rel->relam == BTREE_AM_OID &&
		form->indkey.values[0] == records->attnums[RECORDS_REPOSITORY_ID] &&
		form->indkey.values[1] == records->attnums[RECORDS_FILE_PATH] &&
		index->rd_opfamily[1] == TEXT_BTREE_FAM_OID &&
		RelationGetIndexPredicate(index) == NIL;
}

static bool
open_path_index(Records *records)
{
	List	   *indexes = RelationGetIndexList(records->rel);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (is_path_index(records, index))
		{
			records->path_index = index;
			break;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return records->path_index != NULL;
}

bool
records_open(Records *records, const ExtensionObjects *objects, CmdType operation)
{
	MemSet(records, 0, sizeof(*records));
	records->rel = table_open(objects->file_records, operation == CMD_SELECT ?
							  AccessShareLock : RowExclusiveLock);
	if (is_plain(records, operation) && open_path_index(records))
		return true;
	table_close(records->rel, NoLock);
	return false;
}

void
records_close(Records *records)
{
	index_close(records->path_index, NoLock);
	table_close(records->rel, NoLock);
}

/* ---------------------------------------------------------------------
 * Rows by their path
 * ---------------------------------------------------------------------
 */

void
records_lookup_begin(RecordsLookup *lookup, Records *records,
					 const pg_uuid_t *repository_id)
{
	records_lookup_begin_as(lookup, records, repository_id, GetActiveSnapshot());
}

void
records_lookup_begin_as(RecordsLookup *lookup, Records *records,
						const pg_uuid_t *repository_id, Snapshot snapshot)
{
	Relation	index = records->path_index;

	lookup->records = records;
	lookup->slot = table_slot_create(records->rel, NULL);
	lookup->scan = index_beginscan_compat(records->rel, index, snapshot, 2);
	ScanKeyInit(&lookup->keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(repository_id));
	ScanKeyEntryInitialize(&lookup->keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[1], F_TEXTEQ, (Datum) 0);
}

void
records_lookup_end(RecordsLookup *lookup)
{
	index_endscan(lookup->scan);
	ExecDropSingleTupleTableSlot(lookup->slot);
}

bool
records_lookup(RecordsLookup *lookup, ProtoStr path, int64 *id)
{
	text	   *key = cstring_to_text_with_len(path.data, path.len);
	bool		found;
	bool		isnull;

	lookup->keys[1].sk_argument = PointerGetDatum(key);
	index_rescan(lookup->scan, lookup->keys, 2, NULL, 0);
	found = index_getnext_slot(lookup->scan, ForwardScanDirection, lookup->slot);
	if (found)
		*id = DatumGetInt64(slot_getattr(lookup->slot,
										 lookup->records->attnums[RECORDS_ID], &isnull));
	pfree(key);
	return found;
}

/*
 * Entries of rows that are gone stay in the index until a vacuum, and each of
 * them is a step.
 */
bool
records_range_is_empty(RecordsLookup *lookup, ProtoStr first, ProtoStr last, int steps)
{
	Relation	index = lookup->records->path_index;
	IndexScanDesc scan;
	ScanKeyData keys[3];
	text	   *from;
	text	   *to;
	ItemPointer tid;

	/* The caller's first and last are those by bytes. */
	if (index->rd_indcollation[1] != C_COLLATION_OID)
		return false;
	from = cstring_to_text_with_len(first.data, first.len);
	to = cstring_to_text_with_len(last.data, last.len);
	keys[0] = lookup->keys[0];
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTGreaterEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXT_GE, PointerGetDatum(from));
	ScanKeyEntryInitialize(&keys[2], 0, 2, BTLessEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXT_LE, PointerGetDatum(to));
	scan = index_beginscan_compat(lookup->records->rel, index, GetActiveSnapshot(), 3);
	index_rescan(scan, keys, 3, NULL, 0);
	while ((tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		if (steps-- == 0 || index_fetch_heap(scan, lookup->slot))
			break;
	}
	index_endscan(scan);
	ExecClearTuple(lookup->slot);
	pfree(from);
	pfree(to);
	return tid == NULL;
}

#else

bool
records_open(Records *records, const ExtensionObjects *objects, CmdType operation)
{
	return false;
}

void
records_close(Records *records)
{
	pg_unreachable();
}

void
records_lookup_begin(RecordsLookup *lookup, Records *records, const pg_uuid_t *repository_id)
{
	pg_unreachable();
}

void
records_lookup_begin_as(RecordsLookup *lookup, Records *records,
						const pg_uuid_t *repository_id, Snapshot snapshot)
{
	pg_unreachable();
}

void
records_lookup_end(RecordsLookup *lookup)
{
	pg_unreachable();
}

bool
records_lookup(RecordsLookup *lookup, ProtoStr path, int64 *id)
{
	pg_unreachable();
}

bool
records_range_is_empty(RecordsLookup *lookup, ProtoStr first, ProtoStr last, int steps)
{
	pg_unreachable();
}

#endif							/* RECORDS_BELOW_SQL */
