/*-------------------------------------------------------------------------
 *
 * apply_problems.c
 *		The rows of fsync_problems: recorded, cleared, expired.
 *
 * Nearly all repositories have no problem nearly all the time, so a batch
 * first asks whether there is any before it looks for those of its paths.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "apply.h"
#include "apply_problems.h"
#include "compat.h"

/* The longest rendering of a path, and of a message, in bytes. */
#define MAX_RENDERED	2500

static SessionPlan any_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_problems WHERE repository_id = $1 LIMIT 1",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan clear_plan = {
	.sql = "DELETE FROM %1$s.fsync_problems p USING unnest($2) u (path)"
	" WHERE p.repository_id = $1 AND sha256(p.path) = sha256(u.path)"
	" AND p.path = u.path AND p.problem NOT IN (" CORRUPT_PROBLEMS ")",
	.nargs = 2,
	.argtypes = {UUIDOID, BYTEAARRAYOID},
};

static SessionPlan record_plan = {
	.sql = "INSERT INTO %1$s.fsync_problems AS p"
	" (repository_id, path, file_path, problem, message, first_seen, last_seen)"
	" SELECT $1, u.path, u.file_path, u.problem, u.message, now(), now()"
	" FROM unnest($2, $3, $4, $5) AS u (path, file_path, problem, message)"
	" ON CONFLICT (repository_id, sha256(path)) DO UPDATE"
	" SET problem = excluded.problem, message = excluded.message,"
	" last_seen = excluded.last_seen, occurrences = p.occurrences + 1",
	.nargs = 5,
	.argtypes = {UUIDOID, BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
};

/* Of a problem that the database has with a row; NULL: it has gone. */
#define ROW_OF_PROBLEM \
	"(SELECT f.missing_since IS NOT NULL FROM %1$s.file_records f" \
	" WHERE f.repository_id = p.repository_id" \
	" AND f.file_path = convert_from(p.path, getdatabaseencoding()))"

/* A scan says nothing of missing files: what keeps their rows is kept. */
static SessionPlan expire_plan = {
	.sql = "DELETE FROM %1$s.fsync_problems p"
	" WHERE repository_id = $1 AND last_seen < $2"
	" AND problem NOT IN (" CORRUPT_PROBLEMS ")"
	" AND CASE WHEN problem IN ('still referenced', 'rejected by the database')"
	" THEN " ROW_OF_PROBLEM " IS NOT TRUE ELSE true END",
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID},
};

static SessionPlan clear_purged_plan = {
	.sql = "DELETE FROM %1$s.fsync_problems p"
	" WHERE repository_id = $1"
	" AND CASE WHEN problem = 'still referenced'"
	" THEN " ROW_OF_PROBLEM " IS NULL ELSE false END",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static Datum
bytes_to_bytea(ProtoStr s)
{
	bytea	   *result = palloc(VARHDRSZ + s.len);

	SET_VARSIZE(result, VARHDRSZ + s.len);
	memcpy(VARDATA(result), s.data, s.len);
	return PointerGetDatum(result);
}

static Datum
bytea_array(Datum *elements, int n)
{
	return PointerGetDatum(construct_array(elements, n, BYTEAOID, -1, false,
										   TYPALIGN_INT));
}

/*
 * Bytes as text that can be stored and read: what the encoding refuses,
 * control characters and backslashes are written as in bytea's escape format.
 */
static Datum
render(ProtoStr s)
{
	StringInfoData out;
	Datum		result;
	const unsigned char *p = (const unsigned char *) s.data;
	const unsigned char *end = p + s.len;

	initStringInfo(&out);
	while (p < end && out.len < MAX_RENDERED)
	{
		int			len = encoding_verifymbchar_compat(GetDatabaseEncoding(),
													   (const char *) p, end - p);

		if (*p == '\\')
			appendStringInfoString(&out, "\\\\");
		else if (len <= 0 || *p < ' ' || *p == 0x7f)
		{
			appendStringInfo(&out, "\\%03o", *p);
			len = 1;
		}
		else
			appendBinaryStringInfo(&out, (const char *) p, len);
		p += len;
	}
	if (p < end)
		appendStringInfoString(&out, "...");
	result = PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
	pfree(out.data);			/* there may be thousands */
	return result;
}

bool
problems_clear(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			   const ApplyPlan *plan)
{
	Datum		values[2];
	Datum	   *elements;

	if (plan->n_clears == 0)
		return false;
	values[0] = UUIDPGetDatum(repository_id);
	if (session_execute(objects, &any_plan, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	elements = palloc(sizeof(Datum) * plan->n_clears);
	for (int i = 0; i < plan->n_clears; i++)
		elements[i] = bytes_to_bytea(plan->clears[i]);
	values[1] = bytea_array(elements, plan->n_clears);
	return session_execute(objects, &clear_plan, values, NULL, SPI_OK_DELETE) > 0;
}

void
problems_record_all(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
					ApplyItem **items, int n)
{
	Datum		values[5];
	Datum	   *columns[4];
	bool	   *no_message = palloc(sizeof(bool) * Max(n, 1));
	int			dims[1] = {n};
	int			lbs[1] = {1};

	if (n == 0)
		return;
	for (int c = 0; c < 4; c++)
		columns[c] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		const ProtoObservation *obs = &items[i]->obs;

		columns[0][i] = bytes_to_bytea(obs->path);
		columns[1][i] = render(obs->path);
		columns[2][i] = CStringGetTextDatum(proto_problem_name(obs->problem));
		columns[3][i] = render(obs->message);
		no_message[i] = obs->message.len == 0;
	}
	values[0] = UUIDPGetDatum(repository_id);
	values[1] = bytea_array(columns[0], n);
	for (int c = 1; c < 4; c++)
		values[c + 1] = PointerGetDatum(construct_md_array(columns[c],
														   c == 3 ? no_message : NULL, 1,
														   dims, lbs, TEXTOID, -1, false,
														   TYPALIGN_INT));
	(void) session_execute(objects, &record_plan, values, NULL, SPI_OK_INSERT);
}

void
problems_record(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				ProtoStr path, uint8 problem, ProtoStr message)
{
	ApplyItem	item = {.obs = {.path = path,.problem = problem,.message = message}};
	ApplyItem  *items[1] = {&item};

	problems_record_all(objects, repository_id, items, 1);
}

void
problems_clear_purged(const ExtensionObjects *objects, const pg_uuid_t *repository_id)
{
	Datum		values[1];

	values[0] = UUIDPGetDatum(repository_id);
	(void) session_execute(objects, &clear_purged_plan, values, NULL, SPI_OK_DELETE);
}

void
apply_expire_problems(const ExtensionObjects *objects,
					  const pg_uuid_t *repository_id, TimestampTz seen_before)
{
	Datum		values[2];

	values[0] = UUIDPGetDatum(repository_id);
	values[1] = TimestampTzGetDatum(seen_before);
	(void) session_execute(objects, &expire_plan, values, NULL, SPI_OK_DELETE);
}
