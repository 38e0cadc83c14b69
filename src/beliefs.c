/*-------------------------------------------------------------------------
 *
 * beliefs.c
 *		Rows become pages of beliefs: what the worker tells fsync-tree.
 *
 * The rows of a page go from the executor straight into the message: a page is
 * never held in memory twice, and reading stops at the row that fills it.  Rows
 * of given paths are looked up one by one, where the table is plain (records.c):
 * for a statement with thousands of paths the planner would read all of it.
 *
 * The bounds and paths of a request are bytes from the disk, which need not be
 * valid in the database's encoding.  They are only compared with file_path,
 * whose collation compares bytes, and are never stored or shown.
 *
 * The row of a missing file is no belief: fsync-tree does not look for what is
 * known to be gone, and whatever comes to its path is new.
 *
 * Nor is a row whose path no file can have, which a user wrote: it is to be
 * removed.  One whose mod_time is not that of its nanoseconds is told as another
 * file's, so that it is written anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "beliefs.h"
#include "records.h"

/* A page that has grown this large is ended early. */
#define PAGE_BYTES		(4 * 1024 * 1024 - 64 * 1024)

#define BELIEF_COLUMNS \
	"id, file_path, file_size, inode, mtime_ns, ctime_ns, btime_ns," \
	" last_scanned, content_hash, mod_time FROM %1$s.file_records WHERE repository_id = $1" \
	" AND missing_since IS NULL"

static SessionPlan after_plan = {
	.sql = "SELECT " BELIEF_COLUMNS " AND file_path > $2"
	" ORDER BY file_path LIMIT $3",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, INT8OID},
	.index_only = true,
};

static SessionPlan from_plan = {
	.sql = "SELECT " BELIEF_COLUMNS " AND file_path >= $2"
	" ORDER BY file_path LIMIT $3",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, INT8OID},
	.index_only = true,
};

static SessionPlan after_before_plan = {
	.sql = "SELECT " BELIEF_COLUMNS " AND file_path > $2 AND file_path < $4"
	" ORDER BY file_path LIMIT $3",
	.nargs = 4,
	.argtypes = {UUIDOID, TEXTOID, INT8OID, TEXTOID},
	.index_only = true,
};

static SessionPlan from_before_plan = {
	.sql = "SELECT " BELIEF_COLUMNS " AND file_path >= $2 AND file_path < $4"
	" ORDER BY file_path LIMIT $3",
	.nargs = 4,
	.argtypes = {UUIDOID, TEXTOID, INT8OID, TEXTOID},
	.index_only = true,
};

/*
 * Where the table is not plain.  Few rows out of many: the order is restored by
 * a sort, which the settings of index_only would trade for reading the whole
 * repository in order.
 */
static SessionPlan paths_plan = {
	.sql = "SELECT " BELIEF_COLUMNS " AND file_path = ANY ($2)"
	" ORDER BY file_path",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTARRAYOID},
};

/* Where the columns of a belief are in a slot. */
typedef struct BeliefColumns
{
	AttrNumber	id;
	AttrNumber	path;
	AttrNumber	size;
	AttrNumber	inode;
	AttrNumber	mtime_ns;
	AttrNumber	ctime_ns;
	AttrNumber	btime_ns;
	AttrNumber	last_scanned;
	AttrNumber	hash;
	AttrNumber	mod_time;
} BeliefColumns;

static const BeliefColumns statement_columns = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

typedef struct PageReceiver
{
	DestReceiver pub;
	BeliefColumns columns;
	ProtoBuf	rows;
	uint32		count;
	uint32		seen;			/* with those that are no beliefs ... */
	int64		bytes;			/* ... their sizes ... */
	StringInfoData last;		/* ... and the path of the last one */
	MemoryContext context;		/* of impossible */
	List	   *impossible;		/* ApplyPurge *: rows that no file can have */
	bool		whole;			/* may not end early: exact paths were asked for */
	bool		full;			/* ended by its size */
} PageReceiver;

static void
page_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
page_shutdown(DestReceiver *self)
{
}

/* The timestamp in microseconds since 1970; infinities stay extreme. */
static int64
unix_microseconds(TimestampTz t)
{
	int64		result;

	if (TIMESTAMP_NOT_FINITE(t))
		return t;
	if (pg_add_s64_overflow(t, (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
							USECS_PER_DAY, &result))
		return PG_INT64_MAX;
	return result;
}

/* A column that is not null. */
static Datum
column(const TupleTableSlot *slot, AttrNumber attnum)
{
	return slot->tts_values[attnum - 1];
}

static bool
column_is_null(const TupleTableSlot *slot, AttrNumber attnum)
{
	return slot->tts_isnull[attnum - 1];
}

/* Whether a file can have this path: components that are names. */
bool
beliefs_path_is_possible(ProtoStr path)
{
	const char *p = path.data;
	const char *end = path.data + path.len;

	if (path.len == 0 || path.len > PROTO_PATH_MAX)
		return false;
	while (p <= end)
	{
		const char *slash = memchr(p, '/', end - p);
		size_t		len = (slash != NULL ? slash : end) - p;

		if (len == 0 || len > NAME_MAX || (p[0] == '.' && len == 1) ||
			(p[0] == '.' && p[1] == '.' && len == 2))
			return false;
		p += len + 1;
	}
	return true;
}

/* mod_time is what it is for a file with these nanoseconds; or who knows. */
static bool
times_agree(int64 mtime_ns, TimestampTz mod_time)
{
	const int64 epoch_us = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64		us = mtime_ns / 1000 - (mtime_ns % 1000 < 0);

	return mtime_ns == PG_INT64_MAX || mtime_ns <= PROTO_NO_TIME + 1 || mod_time == us - epoch_us;
}

static void
note_impossible(PageReceiver *page, int64 id, ProtoStr path)
{
	MemoryContext old = MemoryContextSwitchTo(page->context);
	ApplyPurge   *row = palloc(sizeof(ApplyPurge) + path.len);

	row->id = id;
	row->path.data = (const char *) (row + 1);
	row->path.len = path.len;
	memcpy(row + 1, path.data, path.len);
	page->impossible = lappend(page->impossible, row);
	MemoryContextSwitchTo(old);
}

static bool
page_receive(TupleTableSlot *slot, DestReceiver *self)
{
	PageReceiver *page = (PageReceiver *) self;
	const BeliefColumns *c = &page->columns;
	ProtoBelief belief = {0};
	text	   *path;
	bytea	   *hash = NULL;

	slot_getallattrs(slot);
	path = DatumGetTextPP(column(slot, c->path));
	belief.id = DatumGetInt64(column(slot, c->id));
	belief.path.data = VARDATA_ANY(path);
	belief.path.len = VARSIZE_ANY_EXHDR(path);
	page->seen++;
	if (pg_add_s64_overflow(page->bytes, DatumGetInt64(column(slot, c->size)), &page->bytes))
		page->bytes = PG_INT64_MAX;
	resetStringInfo(&page->last);
	appendBinaryStringInfo(&page->last, belief.path.data, belief.path.len);
	if (!beliefs_path_is_possible(belief.path))
	{
		note_impossible(page, belief.id, belief.path);
		return true;
	}

	/* A row that was written by hand: no file has this size, so it is mended. */
	belief.size = Max(DatumGetInt64(column(slot, c->size)), 0);
	belief.inode = DatumGetInt64(column(slot, c->inode));
	belief.mtime_ns = DatumGetInt64(column(slot, c->mtime_ns));
	if (!times_agree(belief.mtime_ns, DatumGetTimestampTz(column(slot, c->mod_time))))
		belief.mtime_ns--;
	belief.ctime_ns = DatumGetInt64(column(slot, c->ctime_ns));
	belief.btime_ns = column_is_null(slot, c->btime_ns) ? PROTO_NO_TIME :
		DatumGetInt64(column(slot, c->btime_ns));
	belief.scanned_us = unix_microseconds(DatumGetTimestampTz(column(slot, c->last_scanned)));
	if (!column_is_null(slot, c->hash))
	{
		hash = DatumGetByteaPP(column(slot, c->hash));

		/* Anything else was not written by the worker: hash it again. */
		if (VARSIZE_ANY_EXHDR(hash) == PROTO_HASH_LEN)
		{
			belief.has_hash = true;
			memcpy(belief.hash, VARDATA_ANY(hash), PROTO_HASH_LEN);
		}
	}
	proto_put_belief(&page->rows, &belief);
	page->count++;

	if ((Pointer) path != DatumGetPointer(column(slot, c->path)))
		pfree(path);
	if (hash != NULL && (Pointer) hash != DatumGetPointer(column(slot, c->hash)))
		pfree(hash);

	page->full = page->rows.failed ||
		(!page->whole && proto_buf_pending(&page->rows) >= PAGE_BYTES);
	return !page->full;
}

static Datum
bytes_to_text(ProtoStr s)
{
	return PointerGetDatum(cstring_to_text_with_len(s.data, s.len));
}

/* The paths of a request as text[]. */
static Datum
paths_array(ProtoStr list)
{
	int			n = 0;
	int			room = 64;
	Datum	   *elements = palloc(sizeof(Datum) * room);
	ProtoStr	element;

	while (proto_list_next(&list, &element))
	{
		if (n == room)
		{
			room *= 2;
			elements = repalloc_huge(elements, sizeof(Datum) * room);
		}
		elements[n++] = bytes_to_text(element);
	}
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/* False: the table is not plain. */
static bool
look_up_paths(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			  ProtoStr list, PageReceiver *page)
{
	Records		records;
	RecordsLookup lookup;
	ProtoStr	path;
	int64		id;

	if (!records_open(&records, objects, CMD_SELECT))
		return false;
	page->columns.id = records.attnums[RECORDS_ID];
	page->columns.path = records.attnums[RECORDS_FILE_PATH];
	page->columns.size = records.attnums[RECORDS_FILE_SIZE];
	page->columns.inode = records.attnums[RECORDS_INODE];
	page->columns.mtime_ns = records.attnums[RECORDS_MTIME_NS];
	page->columns.ctime_ns = records.attnums[RECORDS_CTIME_NS];
	page->columns.btime_ns = records.attnums[RECORDS_BTIME_NS];
	page->columns.last_scanned = records.attnums[RECORDS_LAST_SCANNED];
	page->columns.hash = records.attnums[RECORDS_CONTENT_HASH];
	page->columns.mod_time = records.attnums[RECORDS_MOD_TIME];

	/* As of now: who held the lock may have written the table anew. */
	PushActiveSnapshot(GetTransactionSnapshot());
	records_lookup_begin(&lookup, &records, repository_id);
	while (proto_list_next(&list, &path))
	{
		CHECK_FOR_INTERRUPTS();
		if (records_lookup(&lookup, path, &id) &&
			slot_attisnull(lookup.slot, records.attnums[RECORDS_MISSING_SINCE]) &&
			!page_receive(lookup.slot, &page->pub))
			break;
	}
	records_lookup_end(&lookup);
	PopActiveSnapshot();
	records_close(&records);
	return true;
}

/* Reads the page; true when nothing follows it. */
static bool
read_page(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
		  const ProtoBeliefsRequest *request, PageReceiver *page)
{
	SessionPlan *plan;
	Datum		values[4];
	uint32		limit = request->limit;

	page->columns = statement_columns;
	values[0] = UUIDPGetDatum(repository_id);
	if (request->kind == PROTO_BELIEFS_PATHS)
	{
		page->whole = true;
		if (look_up_paths(objects, repository_id, request->paths, page))
			return true;
		values[1] = paths_array(request->paths);
		(void) session_stream(objects, &paths_plan, values, &page->pub);
		return true;
	}

	values[1] = bytes_to_text(request->after);
	values[2] = Int64GetDatum(limit);
	if (request->before.len > 0)
	{
		values[3] = bytes_to_text(request->before);
		plan = request->inclusive ? &from_before_plan : &after_before_plan;
	}
	else
		plan = request->inclusive ? &from_plan : &after_plan;
	(void) session_stream(objects, plan, values, &page->pub);
	return !page->full && page->seen < limit;
}

/* Puts the page into a frame at the end of out. */
static void
put_page(const PageReceiver *page, ProtoBeliefsHeader *header, ProtoBuf *out)
{
	size_t		len = proto_buf_pending(&page->rows);
	char	   *to;

	if (page->rows.failed)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	header->count = page->count;
	header->cpu_us = session_cpu_lap();
	proto_begin(out, PROTO_BELIEFS);
	proto_put_beliefs_header(out, header);
	to = proto_buf_reserve(out, len);
	if (to != NULL && len > 0)
	{
		memcpy(to, page->rows.data + page->rows.start, len);
		out->len += len;
	}
	proto_end(out);
}

bool
beliefs_answer(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			   const ProtoBeliefsRequest *request, List **impossible, BeliefsSeen *seen,
			   ProtoBuf *out)
{
	PageReceiver page = {.context = CurrentMemoryContext};
	ProtoBeliefsHeader header;
	volatile bool found = false;

	page.pub.receiveSlot = page_receive;
	page.pub.rStartup = page_startup;
	page.pub.rShutdown = page_shutdown;
	page.pub.rDestroy = page_shutdown;
	page.pub.mydest = DestNone;
	proto_buf_init(&page.rows);
	initStringInfo(&page.last);

	PG_TRY();
	{
		if (session_begin(objects, "fsync: reading file_records"))
		{
			header.request_id = request->request_id;
			header.last = read_page(objects, repository_id, request, &page);
			session_commit();
			found = true;
			if (impossible != NULL && page.impossible != NIL)
				*impossible = page.impossible;
			else
			{
				put_page(&page, &header, out);
				seen->rows = page.seen;
				seen->bytes = page.bytes;
				seen->path.data = page.last.data;
				seen->path.len = page.last.len;
				seen->last = header.last;
			}
		}
	}
	PG_FINALLY();
	{
		proto_buf_free(&page.rows);
	}
	PG_END_TRY();
	return found;
}
