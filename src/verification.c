/*-------------------------------------------------------------------------
 *
 * verification.c
 *		Verifications: which files are read again, what is kept of the result.
 *
 * When a file was last read, and found to be right, is kept in a table of its own:
 * a verification of everything would otherwise write every row of
 * file_records, and every entry of its indexes, anew.
 *
 * The files that come first, those that never were read again, are found by
 * going through file_records in path order, so many rows a transaction; the
 * others by the index on the time.  Either way a transaction is short, and what
 * happens meanwhile is not held up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "apply_corrupt.h"
#include "apply_problems.h"
#include "beliefs.h"
#include "verification.h"

/* Rows that are looked at in one transaction. */
#define PAGE_ROWS		1000

static SessionPlan begin_plan = {
	.sql = "INSERT INTO %1$s.sync_operations"
	" (repository_id, operation_type, reason, start_time)"
	" SELECT repository_id, 'verification', $2, now() FROM %1$s.fsync_repositories"
	" WHERE repository_id = $1 FOR KEY SHARE RETURNING id, start_time",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID},
};

static SessionPlan end_plan = {
	.sql = "UPDATE %1$s.sync_operations"
	" SET status = $2, error_message = $3, end_time = now(), files_scanned = $4,"
	" bytes_hashed = $5 WHERE id = $1",
	.nargs = 5,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, INT8OID, INT8OID},
};

#define FILE_COLUMNS \
	"f.id, f.file_path, f.file_size, f.inode, f.mtime_ns, f.ctime_ns, f.btime_ns," \
	" f.content_hash, v.last_read"

static SessionPlan first_plan = {
	.sql = "SELECT " FILE_COLUMNS " FROM %1$s.file_records f"
	" LEFT JOIN %1$s.fsync_verifications v ON v.file_id = f.id"
	" WHERE f.repository_id = $1 AND f.missing_since IS NULL AND f.file_path > $2"
	" ORDER BY f.file_path LIMIT $3",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, INT8OID},
	.index_only = true,
};

/* Those whose file has gone come too, without an id, to be forgotten. */
static SessionPlan again_plan = {
	.sql = "SELECT " FILE_COLUMNS ", v.file_id FROM %1$s.fsync_verifications v"
	" LEFT JOIN %1$s.file_records f ON f.id = v.file_id"
	" AND f.missing_since IS NULL"
	" WHERE v.repository_id = $1 AND v.last_read < $2"
	" AND (v.last_read, v.file_id) > ($3, $4)"
	" ORDER BY v.last_read, v.file_id LIMIT $5",
	.nargs = 5,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID},
	.index_only = true,
};

static SessionPlan forget_plan = {
	.sql = "DELETE FROM %1$s.fsync_verifications WHERE ctid = ANY (ARRAY("
	"SELECT v.ctid FROM %1$s.fsync_verifications v WHERE file_id = ANY ($1)"
	" AND NOT EXISTS (SELECT FROM %1$s.file_records f WHERE f.id = v.file_id)"
	" FOR UPDATE SKIP LOCKED))",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID},
};

static SessionPlan lock_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_repositories WHERE repository_id = $1"
	" FOR KEY SHARE",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

/*
 * Rows of fsync_verifications that are not there, or that can be had.  What
 * another session holds is left: the file's turn comes again, before others'.
 */
#define WITH_FREE(ids) \
	"WITH l AS MATERIALIZED (SELECT file_id FROM %1$s.fsync_verifications" \
	" WHERE file_id = ANY (" ids ") FOR NO KEY UPDATE SKIP LOCKED) "
#define IS_FREE \
	" AND (f.id IN (SELECT file_id FROM l) OR NOT EXISTS" \
	" (SELECT FROM %1$s.fsync_verifications w WHERE w.file_id = f.id))"

static SessionPlan right_plan = {
	.sql = WITH_FREE("$2") "INSERT INTO %1$s.fsync_verifications AS v"
	" (file_id, repository_id, last_read, last_verified)"
	" SELECT f.id, $1, now(), now() FROM unnest($2, $3) AS u (id, hash)"
	" JOIN %1$s.file_records f ON f.id = u.id AND f.content_hash = u.hash"
	" WHERE f.repository_id = $1" IS_FREE
	" ON CONFLICT (file_id) DO UPDATE SET last_read = excluded.last_read,"
	" last_verified = excluded.last_verified,"
	" problem = NULL, message = NULL, expected_hash = NULL, found_hash = NULL",
	.nargs = 3,
	.argtypes = {UUIDOID, INT8ARRAYOID, BYTEAARRAYOID},
};

static SessionPlan wrong_plan = {
	.sql = WITH_FREE("ARRAY[$2]") "INSERT INTO %1$s.fsync_verifications AS v"
	" (file_id, repository_id, last_read, problem, message, expected_hash, found_hash)"
	" SELECT f.id, $1, now(), $4, $5, f.content_hash, $6 FROM %1$s.file_records f"
	" WHERE f.id = $2 AND f.content_hash = $3 AND f.repository_id = $1"
	" AND f.missing_since IS NULL" IS_FREE
	" ON CONFLICT (file_id) DO UPDATE SET last_read = excluded.last_read,"
	" problem = excluded.problem,"
	" message = excluded.message, expected_hash = excluded.expected_hash,"
	" found_hash = excluded.found_hash"
	" RETURNING (SELECT f.file_path FROM %1$s.file_records f WHERE f.id = v.file_id)",
	.nargs = 6,
	.argtypes = {UUIDOID, INT8OID, BYTEAOID, TEXTOID, TEXTOID, BYTEAOID},
};

/* ---------------------------------------------------------------------
 * Runs
 * ---------------------------------------------------------------------
 */

int64
verification_begin(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				   const char *reason, TimestampTz *start)
{
	Datum		values[2];
	int64		id = 0;

	if (!session_begin(objects, "fsync: beginning a verification"))
		return 0;
	values[0] = UUIDPGetDatum(repository_id);
	values[1] = CStringGetTextDatum(reason);
	if (session_execute(objects, &begin_plan, values, NULL, SPI_OK_INSERT_RETURNING) == 1)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		*start = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &isnull));
	}
	session_commit();
	return id;
}

bool
verification_end(const ExtensionObjects *objects, int64 operation_id, const char *status,
				 const char *message, const VerificationCounts *counts)
{
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};

	if (!session_begin(objects, "fsync: ending a verification"))
		return false;
	values[0] = Int64GetDatum(operation_id);
	values[1] = CStringGetTextDatum(status);
	if (message != NULL)
		values[2] = CStringGetTextDatum(message);
	else
		nulls[2] = 'n';
	values[3] = Int64GetDatum(counts->files);
	values[4] = Int64GetDatum(counts->bytes);
	(void) session_execute(objects, &end_plan, values, nulls, SPI_OK_UPDATE);
	session_commit();
	return true;
}

/* ---------------------------------------------------------------------
 * What comes next
 * ---------------------------------------------------------------------
 */

static int64
int8_column(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;

	return DatumGetInt64(SPI_getbinval(tuple, desc, column, &isnull));
}

/* The row as a belief; false: it has no hash (or is not there). */
static bool
read_belief(HeapTuple tuple, TupleDesc desc, ProtoBelief *belief)
{
	bool		isnull;
	bytea	   *hash;
	text	   *path;
	Datum		value;

	memset(belief, 0, sizeof(*belief));
	value = SPI_getbinval(tuple, desc, 8, &isnull);
	if (isnull)
		return false;
	hash = DatumGetByteaPP(value);
	if (VARSIZE_ANY_EXHDR(hash) != PROTO_HASH_LEN)
		return false;
	belief->has_hash = true;
	memcpy(belief->hash, VARDATA_ANY(hash), PROTO_HASH_LEN);
	path = DatumGetTextPP(SPI_getbinval(tuple, desc, 2, &isnull));
	belief->path.data = VARDATA_ANY(path);
	belief->path.len = VARSIZE_ANY_EXHDR(path);
	if (!beliefs_path_is_possible(belief->path))
		return false;
	belief->id = int8_column(tuple, desc, 1);
	belief->size = int8_column(tuple, desc, 3);
	belief->inode = int8_column(tuple, desc, 4);
	belief->mtime_ns = int8_column(tuple, desc, 5);
	belief->ctime_ns = int8_column(tuple, desc, 6);
	value = SPI_getbinval(tuple, desc, 7, &isnull);
	belief->btime_ns = isnull ? PROTO_NO_TIME : DatumGetInt64(value);
	return true;
}

/* The rows behind the cursor. */
static uint64
read_page(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
		  const VerificationCursor *cursor)
{
	Datum		values[5];

	values[0] = UUIDPGetDatum(repository_id);
	if (!cursor->again)
	{
		values[1] = PointerGetDatum(cstring_to_text_with_len(cursor->path,
															 cursor->path_len));
		values[2] = Int64GetDatum(PAGE_ROWS);
		return session_execute(objects, &first_plan, values, NULL, SPI_OK_SELECT);
	}
	values[1] = TimestampTzGetDatum(cursor->start);
	values[2] = TimestampTzGetDatum(cursor->id == 0 ? DT_NOBEGIN : cursor->last_read);
	values[3] = Int64GetDatum(cursor->id);
	values[4] = Int64GetDatum(PAGE_ROWS);
	return session_execute(objects, &again_plan, values, NULL, SPI_OK_SELECT);
}

/* Moves the cursor behind the row; whether the row's turn has come. */
static bool
pass_row(VerificationCursor *cursor, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		last_read = SPI_getbinval(tuple, desc, 9, &isnull);

	if (cursor->again)
	{
		cursor->last_read = DatumGetTimestampTz(last_read);
		cursor->id = int8_column(tuple, desc, 10);
		return true;
	}
	else
	{
		bool		path_isnull;
		text	   *path = DatumGetTextPP(SPI_getbinval(tuple, desc, 2, &path_isnull));

		cursor->path_len = Min(VARSIZE_ANY_EXHDR(path), PROTO_PATH_MAX);
		memcpy(cursor->path, VARDATA_ANY(path), cursor->path_len);
		return isnull;
	}
}

static void
forget(const ExtensionObjects *objects, Datum *ids, int n)
{
	Datum		values[1];

	if (n == 0)
		return;
	values[0] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	(void) session_execute(objects, &forget_plan, values, NULL, SPI_OK_DELETE);
}

/* Puts the next files into the message that is open in out. */
static uint32
put_files(const ExtensionObjects *objects, const pg_uuid_t *repository_id, int64 bytes,
		  VerificationCursor *cursor, ProtoBuf *out)
{
	uint64		n = read_page(objects, repository_id, cursor);
	SPITupleTable *page = SPI_tuptable;
	Datum	   *gone = palloc(sizeof(Datum) * Max(n, 1));
	int			n_gone = 0;
	uint32		count = 0;
	uint64		i;

	for (i = 0; i < n; i++)
	{
		ProtoBelief belief;
		VerificationCursor before = *cursor;
		bool		isnull;

		if (!pass_row(cursor, page->vals[i], page->tupdesc))
			continue;
		if (cursor->again &&
			(SPI_getbinval(page->vals[i], page->tupdesc, 1, &isnull), isnull))
		{
			gone[n_gone++] = Int64GetDatum(cursor->id);
			continue;
		}
		if (!read_belief(page->vals[i], page->tupdesc, &belief))
			continue;
		if (count > 0 && belief.size > bytes)
		{
			*cursor = before;
			break;
		}
		bytes -= Min(belief.size, bytes);
		proto_put_belief(out, &belief);
		count++;
	}
	forget(objects, gone, n_gone);
	if (i == n && n < PAGE_ROWS)
	{
		cursor->done = cursor->again;
		cursor->again = true;
	}
	return count;
}

bool
verification_next(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				  int64 operation_id, int64 rate, int64 bytes,
				  VerificationCursor *cursor, uint32 *count, ProtoBuf *out)
{
	ProtoBuf	files;
	ProtoVerify header = {.run_id = operation_id, .rate = rate};
	VerificationCursor moved = *cursor;
	volatile bool found = false;

	proto_buf_init(&files);
	PG_TRY();
	{
		if (session_begin(objects, "fsync: reading file_records"))
		{
			header.count = put_files(objects, repository_id, bytes, &moved, &files);
			session_commit();
			found = true;
			if (files.failed)
				ereport(ERROR,
						(errcode(ERRCODE_OUT_OF_MEMORY),
						 errmsg("out of memory")));
			*cursor = moved;
			*count = header.count;
			if (header.count > 0)
			{
				proto_begin(out, PROTO_VERIFY);
				proto_put_verify(out, &header);
				proto_put_bytes(out, files.data + files.start,
								proto_buf_pending(&files));
				proto_end(out);
			}
		}
	}
	PG_FINALLY();
	{
		proto_buf_free(&files);
	}
	PG_END_TRY();
	return found;
}

/* ---------------------------------------------------------------------
 * What came of it
 * ---------------------------------------------------------------------
 */

static Datum
hash_datum(const uint8 *hash)
{
	bytea	   *result = palloc(VARHDRSZ + PROTO_HASH_LEN);

	SET_VARSIZE(result, VARHDRSZ + PROTO_HASH_LEN);
	memcpy(VARDATA(result), hash, PROTO_HASH_LEN);
	return PointerGetDatum(result);
}

static char *
hash_text(const uint8 *hash)
{
	char	   *text = palloc(2 * PROTO_HASH_LEN + 1);

	(void) hex_encode((const char *) hash, PROTO_HASH_LEN, text);
	text[2 * PROTO_HASH_LEN] = '\0';
	return text;
}

static void
record_right(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			 Datum *ids, Datum *hashes, int n)
{
	Datum		values[3];

	if (n == 0)
		return;
	values[0] = UUIDPGetDatum(repository_id);
	values[1] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[2] = PointerGetDatum(construct_array(hashes, n, BYTEAOID, -1, false,
												TYPALIGN_INT));
	(void) session_execute(objects, &right_plan, values, NULL, SPI_OK_INSERT);
}

/* True if the row is still what the verdict is about. */
static bool
record_wrong(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			 const ProtoVerified *verdict)
{
	bool		corrupt = verdict->verdict == PROTO_VERIFIED_CORRUPT;
	uint8		problem = corrupt ? PROTO_PROBLEM_CORRUPT : PROTO_PROBLEM_UNREADABLE;
	Datum		values[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};
	char	   *message;
	bool		isnull;
	text	   *path;
	ProtoStr	path_str;
	ProtoStr	message_str;

	message = corrupt ?
		psprintf("SHA-256 of the content is %s, and was %s", hash_text(verdict->found),
				 hash_text(verdict->expected)) :
		pstrdup(strerror(verdict->error));
	values[0] = UUIDPGetDatum(repository_id);
	values[1] = Int64GetDatum(verdict->id);
	values[2] = hash_datum(verdict->expected);
	values[3] = CStringGetTextDatum(proto_problem_name(problem));
	values[4] = CStringGetTextDatum(message);
	if (corrupt)
		values[5] = hash_datum(verdict->found);
	else
		nulls[5] = 'n';
	if (session_execute(objects, &wrong_plan, values, nulls, SPI_OK_INSERT_RETURNING) != 1)
		return false;

	path = DatumGetTextPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										&isnull));
	path_str.data = VARDATA_ANY(path);
	path_str.len = VARSIZE_ANY_EXHDR(path);
	message_str.data = message;
	message_str.len = strlen(message);
	problems_record(objects, repository_id, path_str, problem, message_str);
	return true;
}

bool
verification_record(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
					ProtoReader verdicts, uint32 count, VerificationCounts *counts)
{
	VerificationCounts added = {0};
	Datum		values[1];
	Datum	   *ids = palloc(sizeof(Datum) * Max(count, 1));
	Datum	   *hashes = palloc(sizeof(Datum) * Max(count, 1));
	int			n_right = 0;
	bool		had_problems;
	bool		found;

	if (!session_begin(objects, "fsync: writing fsync_verifications"))
		return false;
	values[0] = UUIDPGetDatum(repository_id);
	found = session_execute(objects, &lock_plan, values, NULL, SPI_OK_SELECT) == 1;
	had_problems = found && corrupt_any(objects, repository_id);
	for (uint32 i = 0; found && i < count; i++)
	{
		ProtoVerified verdict;

		if (!proto_get_verified(&verdicts, &verdict))
			ereport(ERROR,
					(errcode(ERRCODE_BAD_MESSAGE),
					 errmsg("invalid message from fsync-tree")));
		added.bytes += verdict.bytes;
		switch (verdict.verdict)
		{
			case PROTO_VERIFIED_RIGHT:
				ids[n_right] = Int64GetDatum(verdict.id);
				hashes[n_right++] = hash_datum(verdict.expected);
				added.files++;
				break;
			case PROTO_VERIFIED_CORRUPT:
				if (record_wrong(objects, repository_id, &verdict))
				{
					added.files++;
					added.corrupt++;
				}
				break;
			case PROTO_VERIFIED_UNREADABLE:
				if (record_wrong(objects, repository_id, &verdict))
					added.unreadable++;
				break;
			default:
				break;
		}
	}
	record_right(objects, repository_id, ids, hashes, n_right);
	if (had_problems)
		corrupt_follow(objects, repository_id);
	session_commit();

	counts->files += added.files;
	counts->bytes += added.bytes;
	counts->corrupt += added.corrupt;
	counts->unreadable += added.unreadable;
	return found;
}
