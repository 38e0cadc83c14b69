/*-------------------------------------------------------------------------
 *
 * apply_changes.c
 *		The change feed: what a message of observations changed.
 *
 * The rows at all paths that a message names are read before it is written and
 * once more after it, and what differs is the feed: set-wise, three statements a
 * message, whatever way the rows were written and whatever a user's trigger
 * made of them.  A row that was refused, or for which only bookkeeping was
 * written, does not differ.  Rows are the same if their id is.  The row of a
 * missing file that is kept, marked, counts as none: the file is removed, and
 * added with the same id should it come back.
 *
 * A change has the time at which it is written, the last thing before the commit
 * that shows it (feed_history.h).
 *
 * The worker is the only one that inserts here, a transaction at a time, so
 * change_id grows in the order in which changes become visible: a reader that
 * has seen one will never find a smaller one that is new to it.  For the same
 * reason no session may insert.
 *
 * NOTIFY fails at the commit when its queue is full, which would take the rows
 * down with it; so none is sent while the queue is half full.  A notification
 * is a hint, the table is the feed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "apply_changes.h"
#include "feed_history.h"
#include "requests.h"

#define CHANNEL		"fsync"

/* Share of the notification queue from which on nothing is added to it. */
#define QUEUE_FULL	0.5

/* Columns of rows_plan: arrays of id, path, size, modification time, hash. */
#define ROW_COLUMNS	5
#define ROW_TYPES	INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, \
	BYTEAARRAYOID

/* Rows as arrays, one a column; null where there is no row. */
typedef struct RowArrays
{
	Datum		columns[ROW_COLUMNS];
	char		nulls[ROW_COLUMNS];
} RowArrays;

struct ChangedRows
{
	Datum		paths;			/* text[] */
	Datum		operations;		/* bigint[]: of each path, NULL: real time */
	RowArrays	before;
};

static SessionPlan rows_plan = {
	.sql = "SELECT array_agg(f.id), array_agg(f.file_path),"
	" array_agg(f.file_size), array_agg(f.mod_time), array_agg(f.content_hash)"
	" FROM %1$s.file_records f"
	" WHERE f.repository_id = $1 AND f.file_path = ANY ($2)"
	" AND f.missing_since IS NULL",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTARRAYOID},
	.index_only = true,
};

/*
 * Removals go first and additions last, so that who follows the feed meets no
 * two files at one path, but where files exchange their names.  A move with
 * new content is a move of the old content, and then an update.
 */
static SessionPlan changes_plan = {
	.sql = "WITH u AS (SELECT path, max(operation_id) AS operation_id"
	" FROM unnest($3, $4) AS u (path, operation_id) GROUP BY path),"
	" d AS (SELECT o.id AS old_id, o.path AS old_path, o.size AS old_size,"
	" o.mtime AS old_mtime, o.hash AS old_hash,"
	" n.id, n.file_path, n.file_size, n.mod_time, n.content_hash"
	" FROM unnest($5, $6, $7, $8, $9) AS o (id, path, size, mtime, hash)"
	" FULL JOIN unnest($10, $11, $12, $13, $14)"
	" AS n (id, file_path, file_size, mod_time, content_hash) ON n.id = o.id"
	" WHERE (o.id, o.path, o.size, o.mtime, o.hash) IS DISTINCT FROM"
	" (n.id, n.file_path, n.file_size, n.mod_time, n.content_hash)),"
	" c AS (SELECT v.step, v.operation, coalesce(d.id, d.old_id) AS file_id,"
	" coalesce(d.file_path, d.old_path) AS file_path,"
	" CASE v.operation WHEN 'moved' THEN d.old_path END AS old_path,"
	" CASE v.operation WHEN 'moved' THEN d.old_size ELSE d.file_size END AS file_size,"
	" CASE v.operation WHEN 'moved' THEN d.old_mtime ELSE d.mod_time END AS mod_time,"
	" CASE v.operation WHEN 'moved' THEN d.old_hash ELSE d.content_hash END AS content_hash,"
	" d.old_size, d.old_mtime, d.old_hash"
	" FROM d JOIN (VALUES (1, 'removed'), (2, 'moved'), (3, 'updated'), (4, 'added'))"
	" AS v (step, operation) ON CASE v.step"
	" WHEN 1 THEN d.id IS NULL"
	" WHEN 2 THEN d.file_path <> d.old_path"
	" WHEN 3 THEN d.id = d.old_id AND (d.file_size, d.mod_time, d.content_hash)"
	" IS DISTINCT FROM (d.old_size, d.old_mtime, d.old_hash)"
	" ELSE d.old_id IS NULL END),"
	" i AS (INSERT INTO %1$s.file_changes (repository_id, file_id, operation,"
	" file_path, old_path, file_size, mod_time, content_hash, old_size, old_mod_time,"
	" old_hash, changed_at, operation_id)"
	" SELECT $1, c.file_id, c.operation, c.file_path, c.old_path, c.file_size,"
	" c.mod_time, c.content_hash, c.old_size, c.old_mtime, c.old_hash, $2, u.operation_id"
	" FROM c LEFT JOIN u ON u.path = coalesce(c.old_path, c.file_path)"
	" ORDER BY c.step, c.file_path COLLATE \"C\""
	" RETURNING change_id, operation)"
	" SELECT count(*) FILTER (WHERE operation = 'added'),"
	" count(*) FILTER (WHERE operation = 'updated'),"
	" count(*) FILTER (WHERE operation = 'moved'),"
	" count(*) FILTER (WHERE operation = 'removed'),"
	" min(change_id), max(change_id), count(*) < (SELECT count(*) FROM c) FROM i",
	.nargs = 14,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, TEXTARRAYOID, INT8ARRAYOID, ROW_TYPES,
	ROW_TYPES},
};

typedef struct PathList
{
	Datum	   *paths;
	Datum	   *operations;
	bool	   *realtime;
	int			n;
} PathList;

static void
add_path(PathList *list, ProtoStr path, const ApplyItem *item)
{
	list->paths[list->n] = PointerGetDatum(cstring_to_text_with_len(path.data, path.len));
	list->operations[list->n] = Int64GetDatum(item->obs.scan_id);
	list->realtime[list->n] = item->obs.scan_id == 0;
	list->n++;
}

static void
add_paths(PathList *list, const ApplyList *items)
{
	for (int i = 0; i < items->n; i++)
	{
		const ApplyItem *item = items->items[i];

		add_path(list, item->obs.path, item);
		if (item->obs.op == PROTO_OP_MOVED)
			add_path(list, item->obs.old_path, item);
	}
}

/* Every path at which the plan may add, change or remove a row; false: none. */
static bool
collect_paths(const ApplyPlan *plan, ChangedRows *rows)
{
	int			room = 2 * (plan->removals.n + plan->moves.n +
							plan->late_removals.n + plan->upserts.n);
	PathList	list;
	int			dims[1];
	int			lbs[1] = {1};

	if (room == 0)
		return false;
	list.paths = palloc(sizeof(Datum) * room);
	list.operations = palloc(sizeof(Datum) * room);
	list.realtime = palloc(sizeof(bool) * room);
	list.n = 0;
	add_paths(&list, &plan->removals);
	add_paths(&list, &plan->moves);
	add_paths(&list, &plan->late_removals);
	add_paths(&list, &plan->upserts);

	dims[0] = list.n;
	rows->paths = PointerGetDatum(construct_array(list.paths, list.n, TEXTOID, -1,
												  false, TYPALIGN_INT));
	rows->operations = PointerGetDatum(construct_md_array(list.operations,
														  list.realtime, 1, dims, lbs,
														  INT8OID, sizeof(int64),
														  FLOAT8PASSBYVAL,
														  TYPALIGN_DOUBLE));
	return true;
}

static void
read_rows(ApplyRun *run, Datum paths, RowArrays *rows)
{
	Datum		values[2];

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = paths;
	(void) session_execute(run->objects, &rows_plan, values, NULL, SPI_OK_SELECT);
	for (int i = 0; i < ROW_COLUMNS; i++)
	{
		bool		isnull;

		rows->columns[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										 i + 1, &isnull);
		rows->nulls[i] = isnull ? 'n' : ' ';
	}
}

ChangedRows *
changes_begin(ApplyRun *run)
{
	ChangedRows *rows = palloc0(sizeof(ChangedRows));

	if (!collect_paths(run->plan, rows))
		return NULL;
	read_rows(run, rows->paths, &rows->before);
	return rows;
}

static int64
returned_int64(int column)
{
	bool		isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
									   column, &isnull));
}

static void
notify(const ApplyRun *run)
{
	char	   *id;

	if (DatumGetFloat8(OidFunctionCall0(F_PG_NOTIFICATION_QUEUE_USAGE)) > QUEUE_FULL)
		return;
	id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(run->repository_id)));
	Async_Notify(CHANNEL,
				 psprintf("{\"repository_id\": \"%s\", \"added\": " INT64_FORMAT
						  ", \"updated\": " INT64_FORMAT ", \"moved\": " INT64_FORMAT
						  ", \"removed\": " INT64_FORMAT ", \"first_change_id\": " INT64_FORMAT
						  ", \"last_change_id\": " INT64_FORMAT "}", id, returned_int64(1),
						  returned_int64(2), returned_int64(3), returned_int64(4),
						  returned_int64(5), returned_int64(6)));
}

void
changes_end(ApplyRun *run, const ChangedRows *rows)
{
	RowArrays	after;
	Datum		values[4 + 2 * ROW_COLUMNS];
	char		nulls[4 + 2 * ROW_COLUMNS];
	bool		none;
	bool		incomplete;		/* a user's trigger has left out a change */
	bool		isnull;

	read_rows(run, rows->paths, &after);
	memset(nulls, ' ', sizeof(nulls));
	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = TimestampTzGetDatum(feed_history_time(run->objects, run->repository_id));
	values[2] = rows->paths;
	values[3] = rows->operations;
	for (int i = 0; i < ROW_COLUMNS; i++)
	{
		values[4 + i] = rows->before.columns[i];
		nulls[4 + i] = rows->before.nulls[i];
		values[4 + ROW_COLUMNS + i] = after.columns[i];
		nulls[4 + ROW_COLUMNS + i] = after.nulls[i];
	}
	(void) session_execute(run->objects, &changes_plan, values, nulls, SPI_OK_SELECT);
	(void) SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &none);
	incomplete = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
											7, &isnull));
	if (!none)
		notify(run);
	if (incomplete)
	{
		feed_history_end(run->objects, run->repository_id);
		requests_wake_at_commit();
	}
}
