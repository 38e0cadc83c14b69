/*-------------------------------------------------------------------------
 *
 * apply_locks.c
 *		Rows that other transactions hold.
 *
 * An application may lock the row of a file, update it, reference it from a row
 * that is not committed yet, or insert one of its own at the path of a file that
 * is new.  To wait for it would make all other files wait, too, and all
 * repositories of the worker; so rows that cannot be had at once are left alone.
 *
 * What SKIP LOCKED cannot show is a row that is not committed: it is invisible,
 * and the unique index waits for it all the same.  These are looked for with a
 * dirty snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply_locks.h"
#include "records.h"

/* The paths of a set of items, and whose they are. */
typedef struct PathSet
{
	Datum	   *paths;			/* text */
	Datum	   *items;			/* int4: the place of the item in its set */
	ProtoStr   *strings;
	int			n;
} PathSet;

#define HELD_ROWS(strength) \
	"WITH l AS MATERIALIZED (SELECT f.id FROM %1$s.file_records f" \
	" WHERE f.repository_id = $1 AND f.file_path = ANY ($3) FOR " strength " SKIP LOCKED)" \
	" SELECT u.item, f.ctid FROM unnest($2, $3) AS u (item, file_path)" \
	" JOIN %1$s.file_records f ON f.repository_id = $1 AND f.file_path = u.file_path" \
	" WHERE NOT EXISTS (SELECT FROM l WHERE l.id = f.id)"

static SessionPlan held_plan = {
	.sql = HELD_ROWS("NO KEY UPDATE"),
	.nargs = 3,
	.argtypes = {UUIDOID, INT4ARRAYOID, TEXTARRAYOID},
};

static SessionPlan held_by_key_plan = {
	.sql = HELD_ROWS("UPDATE"),
	.nargs = 3,
	.argtypes = {UUIDOID, INT4ARRAYOID, TEXTARRAYOID},
};

/* A subtransaction that has an id holds a lock on it, too. */
static SessionPlan holder_plan = {
	.sql = "SELECT l.pid, a.application_name,"
	" (SELECT gid FROM pg_prepared_xacts WHERE transaction = $1 LIMIT 1)"
	" FROM pg_locks l"
	" LEFT JOIN LATERAL pg_stat_get_activity(l.pid) a ON l.pid IS NOT NULL"
	" WHERE l.locktype = 'transactionid' AND l.transactionid = $1 AND l.granted LIMIT 1",
	.nargs = 1,
	.argtypes = {XIDOID},
};

static SessionPlan members_plan = {
	.sql = "SELECT xid FROM pg_get_multixact_members($1)",
	.nargs = 1,
	.argtypes = {XIDOID},
};

static void
add_path(PathSet *set, ProtoStr path, int item)
{
	set->paths[set->n] = PointerGetDatum(cstring_to_text_with_len(path.data, path.len));
	set->items[set->n] = Int32GetDatum(item);
	set->strings[set->n++] = path;
}

static PathSet
collect_paths(ApplyItem **items, int n)
{
	PathSet		set = {0};

	set.paths = palloc(sizeof(Datum) * 2 * n);
	set.items = palloc(sizeof(Datum) * 2 * n);
	set.strings = palloc(sizeof(ProtoStr) * 2 * n);
	for (int i = 0; i < n; i++)
	{
		add_path(&set, items[i]->obs.path, i);
		if (items[i]->obs.op == PROTO_OP_MOVED)
			add_path(&set, items[i]->obs.old_path, i);
	}
	return set;
}

/* ---------------------------------------------------------------------
 * Who it is
 * ---------------------------------------------------------------------
 */

static bool
is_other_running(TransactionId xid)
{
	return TransactionIdIsNormal(xid) && !TransactionIdIsCurrentTransactionId(xid) &&
		TransactionIdIsInProgress(xid);
}

/* Of several transactions that hold a row together, one that runs. */
static TransactionId
running_member(const ExtensionObjects *objects, TransactionId multixact)
{
	Datum		values[1];
	uint64		n;
	TransactionId member = InvalidTransactionId;

	values[0] = TransactionIdGetDatum(multixact);
	n = session_execute(objects, &members_plan, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n && !TransactionIdIsValid(member); i++)
	{
		bool		isnull;
		TransactionId xid = DatumGetTransactionId(SPI_getbinval(SPI_tuptable->vals[i],
																SPI_tuptable->tupdesc, 1,
																&isnull));

		if (is_other_running(xid))
			member = xid;
	}
	return member;
}

/* One of the transactions that hold the row, if it is still there. */
static TransactionId
holder_of_row(const ExtensionObjects *objects, Relation rel, ItemPointer tid)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TransactionId xmax = InvalidTransactionId;
	bool		several = false;

	if (TTS_IS_BUFFERTUPLE(slot) &&
		table_tuple_fetch_row_version(rel, tid, SnapshotAny, slot))
	{
		bool		should_free;
		HeapTupleHeader header = ExecFetchSlotHeapTuple(slot, false, &should_free)->t_data;

		if (!(header->t_infomask & HEAP_XMAX_INVALID))
			xmax = HeapTupleHeaderGetRawXmax(header);
		several = (header->t_infomask & HEAP_XMAX_IS_MULTI) != 0;
	}
	ExecDropSingleTupleTableSlot(slot);
	if (!TransactionIdIsValid(xmax))
		return InvalidTransactionId;
	if (several)
		return running_member(objects, xmax);
	return is_other_running(xmax) ? xmax : InvalidTransactionId;
}

/* For people to read. */
static char *
look_up(const ExtensionObjects *objects, TransactionId xid)
{
	Datum		values[1];
	char	   *pid;
	char	   *application;
	char	   *gid;

	values[0] = TransactionIdGetDatum(xid);
	if (!TransactionIdIsValid(xid) ||
		session_execute(objects, &holder_plan, values, NULL, SPI_OK_SELECT) != 1)
		return pstrdup("another transaction holds it");
	pid = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	application = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	gid = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3);
	if (gid != NULL)
		return psprintf("the prepared transaction \"%s\" holds it", gid);
	if (pid == NULL)
		return pstrdup("another transaction holds it");
	return psprintf("process %s (application \"%s\") holds it", pid,
					application != NULL ? application : "");
}

typedef struct Holder
{
	TransactionId xid;
	char	   *text;			/* NULL: none is known yet */
} Holder;

/* As look_up(): most often it is the same one for many rows. */
static char *
describe(const ExtensionObjects *objects, TransactionId xid, Holder *last)
{
	if (last->text == NULL || last->xid != xid)
	{
		last->text = look_up(objects, xid);
		last->xid = xid;
	}
	return last->text;
}

/* ---------------------------------------------------------------------
 * Which rows
 * ---------------------------------------------------------------------
 */

static void
find_held_rows(ApplyRun *run, const PathSet *set, bool key, char **held)
{
	Relation	rel;
	Datum		values[3];
	uint64		n;
	SPITupleTable *rows;
	Holder		last = {InvalidTransactionId, NULL};

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = PointerGetDatum(construct_array(set->items, set->n, INT4OID,
												sizeof(int32), true, TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_array(set->paths, set->n, TEXTOID, -1, false,
												TYPALIGN_INT));
	n = session_execute(run->objects, key ? &held_by_key_plan : &held_plan, values, NULL,
						SPI_OK_SELECT);
	rows = SPI_tuptable;
	rel = table_open(run->objects->file_records, NoLock);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int			item = DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 1,
													   &isnull));
		ItemPointer tid = (ItemPointer)
			DatumGetPointer(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));

		if (held[item] == NULL)
			held[item] = describe(run->objects, holder_of_row(run->objects, rel, tid), &last);
	}
	table_close(rel, NoLock);
	SPI_freetuptable(rows);
}

/* Rows at these paths that somebody has inserted and not committed. */
static void
find_unborn_rows(ApplyRun *run, const PathSet *set, char **held)
{
	Records		records;
	RecordsLookup lookup;
	SnapshotData dirty;
	Holder		last = {InvalidTransactionId, NULL};

	if (!records_open(&records, run->objects, CMD_SELECT))
		return;
	InitDirtySnapshot(dirty);
	records_lookup_begin_as(&lookup, &records, run->repository_id, &dirty);
	for (int i = 0; i < set->n; i++)
	{
		int			item = DatumGetInt32(set->items[i]);
		int64		id;

		CHECK_FOR_INTERRUPTS();
		if (held[item] == NULL && records_lookup(&lookup, set->strings[i], &id) &&
			is_other_running(dirty.xmin))
			held[item] = describe(run->objects, dirty.xmin, &last);
	}
	records_lookup_end(&lookup);
	records_close(&records);
}

/* Whether a column that is written at each change is part of a user's key. */
static bool
has_other_key(const ExtensionObjects *objects)
{
	Relation	rel = table_open(objects->file_records, NoLock);
	Bitmapset  *keys = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_KEY);
	const char *const ours[] = {"id", "repository_id", "file_path"};

	for (int i = 0; i < (int) lengthof(ours); i++)
		keys = bms_del_member(keys, get_attnum(RelationGetRelid(rel), ours[i]) -
							  FirstLowInvalidHeapAttributeNumber);
	table_close(rel, NoLock);
	return !bms_is_empty(keys);
}

char **
locks_take(ApplyRun *run, ApplyItem **items, int n, bool key)
{
	char	  **held = palloc0(sizeof(char *) * n);
	PathSet		set = collect_paths(items, n);

	key = key || has_other_key(run->objects);
	find_held_rows(run, &set, key, held);
	find_unborn_rows(run, &set, held);
	return held;
}

bool *
apply_still_held(const ExtensionObjects *objects, const pg_uuid_t *repository_id, List *held)
{
	int			n = list_length(held);
	MemoryContext context = CurrentMemoryContext;
	bool	   *still = palloc0(sizeof(bool) * n);
	ApplyItem  *all = palloc0(sizeof(ApplyItem) * n);
	ApplyItem **items = palloc(sizeof(ApplyItem *) * n);
	ApplyRun	run = {.objects = objects,.repository_id = repository_id};

	if (!session_begin(objects, "fsync: looking at locks of file_records"))
		return still;
	MemoryContextSwitchTo(context);
	for (int key = 0; key <= 1; key++)
	{
		int			n_items = 0;
		char	  **why;

		for (int i = 0; i < n; i++)
		{
			const ApplyHeld *h = list_nth(held, i);

			all[i].obs.path = h->path;
			if (h->key == (key == 1))
				items[n_items++] = &all[i];
		}
		why = n_items > 0 ? locks_take(&run, items, n_items, key == 1) : NULL;
		for (int i = 0; i < n_items; i++)
			still[items[i] - all] = why[i] != NULL;
	}
	session_commit();
	return still;
}
