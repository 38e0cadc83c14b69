/*-------------------------------------------------------------------------
 *
 * apply_corrupt.c
 *		Files that a verification found to be corrupt, or could not read.
 *
 * fsync_verifications keeps the verdict with the hash that it was a verdict
 * on.  It stands as long as the row has this hash, and the row keeps it until
 * the file really changes: its size, its modification time, its inode.  A
 * chmod, or a program that opens the file for writing and closes it, makes
 * fsync-tree hash it again, and what that finds must not take the place of the
 * good hash, which may be all that is left to find the right content by.
 *
 * The rows of fsync_problems follow from the verdicts that stand, through
 * renames too.  Nearly always there is none, and all of this costs one look
 * into an empty index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "apply_corrupt.h"
#include "apply_problems.h"

/* The order makes it the small index on just these rows. */
static SessionPlan any_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_verifications"
	" WHERE repository_id = $1 AND problem IS NOT NULL ORDER BY file_id LIMIT 1",
	.nargs = 1,
	.argtypes = {UUIDOID},
	.index_only = true,
};

static SessionPlan unchanged_plan = {
	.sql = "SELECT u.ord, v.file_id, v.expected_hash"
	" FROM unnest($2, $3, $4, $5, $6) AS u (ord, file_path, file_size, mtime_ns, inode)"
	" JOIN %1$s.file_records f ON f.repository_id = $1 AND f.file_path = u.file_path"
	" AND f.file_size = u.file_size AND f.mtime_ns = u.mtime_ns AND f.inode = u.inode"
	" JOIN %1$s.fsync_verifications v ON v.file_id = f.id"
	" AND v.expected_hash = f.content_hash WHERE v.problem IS NOT NULL",
	.nargs = 6,
	.argtypes = {UUIDOID, INT4ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID},
};

#define NO_PROBLEM \
	"problem = NULL, message = NULL, expected_hash = NULL, found_hash = NULL"

/* What another session holds is done with a later message. */
#define FREE_VERDICTS(condition) \
	"ctid = ANY (ARRAY(SELECT v.ctid FROM %1$s.fsync_verifications v WHERE " condition \
	" FOR NO KEY UPDATE SKIP LOCKED))"

static SessionPlan right_plan = {
	.sql = "UPDATE %1$s.fsync_verifications SET " NO_PROBLEM
	" WHERE " FREE_VERDICTS("v.file_id = $1"),
	.nargs = 1,
	.argtypes = {INT8OID},
};

static SessionPlan over_plan = {
	.sql = "UPDATE %1$s.fsync_verifications SET " NO_PROBLEM " WHERE "
	FREE_VERDICTS("v.repository_id = $1 AND v.problem IS NOT NULL"
				  " AND NOT EXISTS (SELECT FROM %1$s.file_records f WHERE f.id = v.file_id"
				  " AND f.content_hash = v.expected_hash AND f.missing_since IS NULL)"),
	.nargs = 1,
	.argtypes = {UUIDOID},
};

/* Files with a verdict that stands, and their paths as bytes. */
#define STANDING \
	"%1$s.fsync_verifications v JOIN %1$s.file_records f ON f.id = v.file_id" \
	" CROSS JOIN LATERAL convert_to(f.file_path, getdatabaseencoding()) AS b (path)" \
	" WHERE v.repository_id = $1 AND v.problem IS NOT NULL"

static SessionPlan cured_plan = {
	.sql = "DELETE FROM %1$s.fsync_problems WHERE ctid = ANY (ARRAY("
	"SELECT p.ctid FROM %1$s.fsync_problems p WHERE p.repository_id = $1"
	" AND p.problem IN (" CORRUPT_PROBLEMS ")"
	" AND NOT EXISTS (SELECT FROM " STANDING " AND b.path = p.path)"
	" FOR UPDATE SKIP LOCKED))",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan unreported_plan = {
	.sql = "SELECT f.file_path, v.problem = $2, v.message FROM " STANDING
	" AND NOT EXISTS (SELECT FROM %1$s.fsync_problems p WHERE p.repository_id = $1"
	" AND sha256(p.path) = sha256(b.path))",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID},
};

bool
corrupt_any(const ExtensionObjects *objects, const pg_uuid_t *repository_id)
{
	Datum		values[1];

	values[0] = UUIDPGetDatum(repository_id);
	return session_execute(objects, &any_plan, values, NULL, SPI_OK_SELECT) == 1;
}

static Datum
array_of(Datum *elements, int n, Oid type)
{
	return PointerGetDatum(construct_array(elements, n, type,
										   type == TEXTOID ? -1 :
										   type == INT4OID ? 4 : 8,
										   type != TEXTOID &&
										   (type == INT4OID || FLOAT8PASSBYVAL),
										   type == INT8OID ? TYPALIGN_DOUBLE :
										   TYPALIGN_INT));
}

void
corrupt_protect(ApplyRun *run, ApplyItem **items, int n)
{
	Datum	   *columns[5];
	Datum		values[6];
	uint64		found;
	int64	   *right = palloc(sizeof(int64) * Max(n, 1));
	int			n_right = 0;

	for (int c = 0; c < 5; c++)
		columns[c] = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const ProtoObservation *obs = &items[i]->obs;

		columns[0][i] = Int32GetDatum(i);
		columns[1][i] = PointerGetDatum(cstring_to_text_with_len(obs->path.data,
																 obs->path.len));
		columns[2][i] = Int64GetDatum(obs->stat.size);
		columns[3][i] = Int64GetDatum(obs->stat.mtime_ns);
		columns[4][i] = Int64GetDatum(obs->stat.inode);
	}
	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = array_of(columns[0], n, INT4OID);
	values[2] = array_of(columns[1], n, TEXTOID);
	for (int c = 2; c < 5; c++)
		values[c + 1] = array_of(columns[c], n, INT8OID);

	found = session_execute(run->objects, &unchanged_plan, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int			ord = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		bytea	   *hash = DatumGetByteaPP(SPI_getbinval(tuple, desc, 3, &isnull));
		ProtoObservation *obs = &items[ord]->obs;

		if (!obs->has_hash || VARSIZE_ANY_EXHDR(hash) != PROTO_HASH_LEN)
			continue;
		if (!items[ord]->keeps_hash &&
			memcmp(obs->hash, VARDATA_ANY(hash), PROTO_HASH_LEN) == 0)
			right[n_right++] = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
		else
		{
			memcpy(obs->hash, VARDATA_ANY(hash), PROTO_HASH_LEN);
			obs->op = PROTO_OP_TOUCHED;
			items[ord]->keeps_hash = true;
		}
	}
	for (int i = 0; i < n_right; i++)
	{
		values[0] = Int64GetDatum(right[i]);
		(void) session_execute(run->objects, &right_plan, values, NULL, SPI_OK_UPDATE);
	}
}

void
corrupt_follow(const ExtensionObjects *objects, const pg_uuid_t *repository_id)
{
	Datum		values[2];
	SPITupleTable *unreported;
	uint64		n;

	values[0] = UUIDPGetDatum(repository_id);
	(void) session_execute(objects, &over_plan, values, NULL, SPI_OK_UPDATE);
	(void) session_execute(objects, &cured_plan, values, NULL, SPI_OK_DELETE);
	values[1] = CStringGetTextDatum(proto_problem_name(PROTO_PROBLEM_CORRUPT));
	n = session_execute(objects, &unreported_plan, values, NULL, SPI_OK_SELECT);
	unreported = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = unreported->vals[i];
		TupleDesc	desc = unreported->tupdesc;
		bool		isnull;
		text	   *path = DatumGetTextPP(SPI_getbinval(tuple, desc, 1, &isnull));
		bool		corrupt = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull));
		char	   *message = SPI_getvalue(tuple, desc, 3);
		ProtoStr	path_str = {VARDATA_ANY(path), VARSIZE_ANY_EXHDR(path)};
		ProtoStr	message_str = {message != NULL ? message : "", 0};

		message_str.len = strlen(message_str.data);
		problems_record(objects, repository_id, path_str,
						corrupt ? PROTO_PROBLEM_CORRUPT : PROTO_PROBLEM_UNREADABLE,
						message_str);
	}
}
