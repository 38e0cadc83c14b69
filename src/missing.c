/*-------------------------------------------------------------------------
 *
 * missing.c
 *		Rows of missing files, and their end.
 *
 * A purge goes through the rows that are due in the order of their marking, a
 * page a transaction, and does not come back to a row before it begins anew:
 * one that another table references is refused, and must neither stop the
 * others nor keep the worker busy.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "missing.h"

#define PAGE_ROWS			1000

/* Rows that were refused are tried again so often, and those that others held. */
#define REFUSED_INTERVAL_MS	(3600 * INT64CONST(1000))
#define HELD_INTERVAL_MS	(30 * INT64CONST(1000))

/* Rows marked before this moment are due; NULL: none ever. */
static SessionPlan due_before_plan = {
	.sql = "SELECT CASE WHEN on_missing <> 'mark' AND on_type_change <> 'mark'"
	" AND on_excluded <> 'mark' THEN 'infinity' ELSE now() - missing_retention END"
	" FROM %1$s.fsync_repositories WHERE repository_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan page_plan = {
	.sql = "SELECT id, file_path, missing_since FROM %1$s.file_records"
	" WHERE repository_id = $1 AND missing_since IS NOT NULL AND missing_since < $2"
	" AND (missing_since, id) > ($3, $4)"
	" ORDER BY missing_since, id LIMIT $5",
	.nargs = 5,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID},
	.index_only = true,
};

/* Milliseconds, rounded up, until the next row is due. */
static SessionPlan next_plan = {
	.sql = "SELECT ceil(extract(epoch FROM missing_since - $2) * 1000)::int8"
	" FROM %1$s.file_records"
	" WHERE repository_id = $1 AND missing_since IS NOT NULL AND missing_since >= $2"
	" ORDER BY missing_since LIMIT 1",
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID},
	.index_only = true,
};

/* The rows of the page; the cursor goes to its last. */
static ApplyPurge *
take_page(MissingCursor *cursor, uint64 n, MemoryContext context)
{
	ApplyPurge *rows = MemoryContextAlloc(context, sizeof(ApplyPurge) * n);

	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		text	   *path;

		cursor->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		path = DatumGetTextPP(SPI_getbinval(tuple, desc, 2, &isnull));
		cursor->missing_since =
			DatumGetTimestampTz(SPI_getbinval(tuple, desc, 3, &isnull));
		rows[i].id = cursor->id;
		rows[i].path.len = VARSIZE_ANY_EXHDR(path);
		rows[i].path.data = MemoryContextAlloc(context, rows[i].path.len + 1);
		memcpy((char *) rows[i].path.data, VARDATA_ANY(path), rows[i].path.len);
	}
	return rows;
}

int64
missing_purge(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			  MissingCursor *cursor)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[5];
	bool		isnull;
	uint64		n = 0;
	ApplyPurge *rows = NULL;
	int64		next = -1;
	int			refused;
	int			held;

	if (!session_begin(objects, "fsync: looking for rows to be purged"))
		return -1;
	values[0] = UUIDPGetDatum(repository_id);
	if (session_execute(objects, &due_before_plan, values, NULL, SPI_OK_SELECT) == 1)
	{
		values[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
								  &isnull);
		values[2] = TimestampTzGetDatum(cursor->id == 0 ? DT_NOBEGIN :
										cursor->missing_since);
		values[3] = Int64GetDatum(cursor->id);
		values[4] = Int64GetDatum(PAGE_ROWS);
		if (!isnull)
		{
			n = session_execute(objects, &page_plan, values, NULL, SPI_OK_SELECT);
			rows = take_page(cursor, n, context);
			if (n < PAGE_ROWS &&
				session_execute(objects, &next_plan, values, NULL, SPI_OK_SELECT) == 1)
				next = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
												   SPI_tuptable->tupdesc, 1, &isnull));
		}
	}
	session_commit();

	if (n > 0)
	{
		(void) apply_purge(objects, repository_id, rows, (int) n, &refused, &held);
		cursor->refused |= refused > 0;
		cursor->held |= held > 0;
	}
	if (n == PAGE_ROWS)
		return 0;
	if (cursor->refused && (next < 0 || next > REFUSED_INTERVAL_MS))
		next = REFUSED_INTERVAL_MS;
	if (cursor->held && (next < 0 || next > HELD_INTERVAL_MS))
		next = HELD_INTERVAL_MS;
	memset(cursor, 0, sizeof(*cursor));
	return next;
}
