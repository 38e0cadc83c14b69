/*-------------------------------------------------------------------------
 *
 * functions_copies.c
 *		Where the same content is: fsync_uncopied(), fsync_missing_copies(),
 *		fsync_rescue().
 *
 * A copy is another file with the same SHA-256 that was not found to be corrupt.
 * What is not another file, but another name of the same one, has its inode and
 * its times.  The device is not known, so two files of different disks could be
 * taken for one; the time of birth, in nanoseconds, keeps them apart, or that
 * of the inode's last change where there is no time of birth.  To take two files for
 * one is the mistake that does no harm: a copy too many is asked for.  For
 * the same reason a name of a corrupt file is corrupt, verified itself or not.
 *
 * What is corrupt is read as the owner of the tables: who may read file_records
 * is not to be told of a copy which is none, for want of a right to know that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "caller_query.h"
#include "functions.h"

PG_FUNCTION_INFO_V1(fsync_uncopied);
PG_FUNCTION_INFO_V1(fsync_missing_copies);
PG_FUNCTION_INFO_V1(fsync_rescue);

/* What is the same for all names of a file. */
#define IDENTITY(f) \
	f ".inode, " f ".mtime_ns, coalesce(" f ".btime_ns, " f ".ctime_ns)"

/* Corrupt files, as arrays: CORRUPT_COLUMNS of them. */
static const char corrupt_sql[] =
"SELECT array_agg(f.id), array_agg(v.problem), array_agg(f.inode), array_agg(f.mtime_ns),"
" array_agg(coalesce(f.btime_ns, f.ctime_ns))"
" FROM %1$s.fsync_verifications v JOIN %1$s.file_records f ON f.id = v.file_id"
" WHERE v.problem IS NOT NULL";

#define CORRUPT_COLUMNS		5
#define CORRUPT_TYPES		INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID

/* The parameters from 1 on are these arrays. */
#define CORRUPT \
	"corrupt AS MATERIALIZED (SELECT * FROM unnest($1, $2, $3, $4, $5)" \
	" AS c (id, problem, inode, mtime_ns, btime_ns))"
#define IS_GOOD(f) \
	f ".missing_since IS NULL AND NOT EXISTS (SELECT FROM corrupt x" \
	" WHERE (x.inode, x.mtime_ns, x.btime_ns) = (" IDENTITY(f) "))"

static const char uncopied_sql[] =
"WITH " CORRUPT
" SELECT f.id, f.file_path, f.file_size, f.mod_time, f.content_hash"
" FROM %1$s.file_records f WHERE f.repository_id = $6 AND f.missing_since IS NULL"
" AND NOT EXISTS (SELECT FROM %1$s.file_records c WHERE c.repository_id = $7"
" AND c.content_hash = f.content_hash AND (" IDENTITY("c") ") <> (" IDENTITY("f") ")"
" AND " IS_GOOD("c") ")"
" ORDER BY f.file_path";

static const char missing_copies_sql[] =
"WITH " CORRUPT ","
" files AS (SELECT DISTINCT f.content_hash, " IDENTITY("f") " FROM %1$s.file_records f"
" WHERE f.content_hash IS NOT NULL AND " IS_GOOD("f") "),"
" counted AS (SELECT content_hash, count(*) AS copies FROM files GROUP BY content_hash)"
" SELECT f.repository_id, f.id, f.file_path, f.file_size, f.mod_time, f.content_hash,"
" CASE WHEN f.content_hash IS NOT NULL THEN coalesce(c.copies, 0) END AS copies"
" FROM %1$s.file_records f LEFT JOIN counted c ON c.content_hash = f.content_hash"
" WHERE f.missing_since IS NULL"
" AND CASE WHEN f.content_hash IS NULL THEN 1 ELSE coalesce(c.copies, 0) END < $6"
" ORDER BY f.repository_id, f.file_path";

/* The last column, copy_verified, is filled in afterwards. */
static const char rescue_sql[] =
"WITH " CORRUPT ","
" lost AS (SELECT f.id, coalesce(x.problem, 'missing') AS problem"
" FROM %1$s.file_records f LEFT JOIN corrupt x ON x.id = f.id AND f.missing_since IS NULL"
" WHERE ($6 IS NULL OR f.repository_id = $6) AND f.content_hash IS NOT NULL"
" AND (x.id IS NOT NULL OR f.missing_since IS NOT NULL))"
" SELECT f.repository_id, f.id, f.file_path, l.problem, f.content_hash,"
" c.repository_id AS copy_repository_id, c.id AS copy_id, c.file_path AS copy_path"
" FROM lost l JOIN %1$s.file_records f ON f.id = l.id"
" LEFT JOIN %1$s.file_records c ON c.content_hash = f.content_hash AND " IS_GOOD("c")
" ORDER BY f.repository_id, f.file_path, c.repository_id, c.file_path";

static const char verified_sql[] =
"SELECT v.last_verified FROM unnest($1) WITH ORDINALITY AS u (id, place)"
" LEFT JOIN %1$s.fsync_verifications v ON v.file_id = u.id ORDER BY u.place";

static const char exists_sql[] =
"SELECT 1 FROM %1$s.fsync_repositories WHERE repository_id = $1";

/* A query as the owner, within a session_scope, with the active snapshot. */
static void
owner_query(const ExtensionObjects *objects, const char *format, int nargs,
			Oid *argtypes, Datum *values)
{
	char	   *sql = psprintf(format, objects->schema_name);

	if (SPI_execute_with_args(sql, nargs, argtypes, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\"", sql);
}

static void
require_repository(const ExtensionObjects *objects, Datum id)
{
	Oid			argtypes[1] = {UUIDOID};

	owner_query(objects, exists_sql, 1, argtypes, &id);
	if (SPI_processed == 0)
		functions_unknown_repository(DatumGetUUIDP(id));
}

/*
 * Reads what is corrupt, into the caller's memory, and looks whether the
 * repositories exist.
 */
static void
begin(ExtensionObjects *objects, Datum *corrupt, char *nulls, Datum *repositories, int n)
{
	MemoryContext caller = CurrentMemoryContext;
	SessionScope scope;

	functions_find_extension(objects);
	caller_require_select(objects, "file_records");
	session_scope_enter(&scope, objects);
	for (int i = 0; i < n; i++)
		require_repository(objects, repositories[i]);
	owner_query(objects, corrupt_sql, 0, NULL, NULL);
	for (int i = 0; i < CORRUPT_COLUMNS; i++)
	{
		bool		isnull;
		Datum		array = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										  i + 1, &isnull);
		MemoryContext old_context = MemoryContextSwitchTo(caller);

		nulls[i] = isnull ? 'n' : ' ';
		corrupt[i] = isnull ? (Datum) 0 :
			PointerGetDatum(DatumGetArrayTypePCopy(array));
		MemoryContextSwitchTo(old_context);
	}
	session_scope_leave(&scope);
}

Datum
fsync_uncopied(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	CallerResult result;
	Oid			argtypes[CORRUPT_COLUMNS + 2] = {CORRUPT_TYPES, UUIDOID, UUIDOID};
	Datum		values[CORRUPT_COLUMNS + 2];
	char		nulls[CORRUPT_COLUMNS + 2] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};

	result.store = functions_begin_result(fcinfo, &result.desc);
	functions_require_argument(fcinfo, 0, "repository_id");
	functions_require_argument(fcinfo, 1, "in_repository");
	if (memcmp(PG_GETARG_UUID_P(0), PG_GETARG_UUID_P(1), UUID_LEN) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("in_repository must be another repository")));
	values[CORRUPT_COLUMNS] = PG_GETARG_DATUM(0);
	values[CORRUPT_COLUMNS + 1] = PG_GETARG_DATUM(1);
	begin(&objects, values, nulls, &values[CORRUPT_COLUMNS], 2);
	caller_query(&objects, uncopied_sql, CORRUPT_COLUMNS + 2, argtypes, values, nulls,
				 caller_put_rows, &result);
	return (Datum) 0;
}

Datum
fsync_missing_copies(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	CallerResult result;
	Oid			argtypes[CORRUPT_COLUMNS + 1] = {CORRUPT_TYPES, INT4OID};
	Datum		values[CORRUPT_COLUMNS + 1];
	char		nulls[CORRUPT_COLUMNS + 1] = {' ', ' ', ' ', ' ', ' ', ' '};

	result.store = functions_begin_result(fcinfo, &result.desc);
	functions_require_argument(fcinfo, 0, "min_copies");
	if (PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("min_copies must be at least 1")));
	values[CORRUPT_COLUMNS] = PG_GETARG_DATUM(0);
	begin(&objects, values, nulls, NULL, 0);
	caller_query(&objects, missing_copies_sql, CORRUPT_COLUMNS + 1, argtypes, values, nulls,
				 caller_put_rows, &result);
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * fsync_rescue()
 * ---------------------------------------------------------------------
 */

typedef struct Rescue
{
	const ExtensionObjects *objects;
	CallerResult result;
} Rescue;

/* Columns of the result, and of rescue_sql in the same order but for the last. */
#define RESCUE_COLUMNS		9
#define COPY_ID				6

/*
 * When the copies of these rows were verified, as the owner: in the order of
 * the rows, in SPI_tuptable.
 */
static void
read_verified(const Rescue *rescue, const SPITupleTable *rows, uint64 n)
{
	Oid			argtypes[1] = {INT8ARRAYOID};
	Datum		values[1];
	Datum	   *ids = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc(sizeof(bool) * n);
	int			dims[1] = {(int) n};
	int			lbs[1] = {1};

	for (uint64 i = 0; i < n; i++)
		ids[i] = SPI_getbinval(rows->vals[i], rows->tupdesc, COPY_ID + 1, &nulls[i]);
	values[0] = PointerGetDatum(construct_md_array(ids, nulls, 1, dims, lbs, INT8OID,
												   sizeof(int64), FLOAT8PASSBYVAL,
												   TYPALIGN_DOUBLE));
	owner_query(rescue->objects, verified_sql, 1, argtypes, values);
}

static void
put_rescue(void *arg)
{
	Rescue	   *rescue = arg;
	SPITupleTable *rows = SPI_tuptable;
	uint64		n = SPI_processed;
	SessionScope scope;

	session_scope_enter(&scope, rescue->objects);
	read_verified(rescue, rows, n);
	for (uint64 i = 0; i < n; i++)
	{
		Datum		values[RESCUE_COLUMNS];
		bool		nulls[RESCUE_COLUMNS];

		for (int c = 0; c < RESCUE_COLUMNS - 1; c++)
			values[c] = SPI_getbinval(rows->vals[i], rows->tupdesc, c + 1, &nulls[c]);
		values[RESCUE_COLUMNS - 1] = SPI_getbinval(SPI_tuptable->vals[i],
												   SPI_tuptable->tupdesc, 1,
												   &nulls[RESCUE_COLUMNS - 1]);
		tuplestore_putvalues(rescue->result.store, rescue->result.desc, values, nulls);
	}
	session_scope_leave(&scope);
}

Datum
fsync_rescue(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	Rescue		rescue = {.objects = &objects};
	Oid			argtypes[CORRUPT_COLUMNS + 1] = {CORRUPT_TYPES, UUIDOID};
	Datum		values[CORRUPT_COLUMNS + 1];
	char		nulls[CORRUPT_COLUMNS + 1] = {' ', ' ', ' ', ' ', ' ', ' '};

	rescue.result.store = functions_begin_result(fcinfo, &rescue.result.desc);
	values[CORRUPT_COLUMNS] = PG_GETARG_DATUM(0);
	if (PG_ARGISNULL(0))
		nulls[CORRUPT_COLUMNS] = 'n';
	begin(&objects, values, nulls, &values[CORRUPT_COLUMNS], PG_ARGISNULL(0) ? 0 : 1);
	caller_query(&objects, rescue_sql, CORRUPT_COLUMNS + 1, argtypes, values, nulls,
				 put_rescue, &rescue);
	return (Datum) 0;
}
