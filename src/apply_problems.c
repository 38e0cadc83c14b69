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
	.sql = "DELETE FROM %1$s.fsync_problems WHERE repository_id = $1"
	" AND sha256(path) IN (SELECT sha256(u) FROM unnest($2) u)"
	" AND path = ANY ($2) AND problem NOT IN (" CORRUPT_PROBLEMS ")",
	.nargs = 2,
	.argtypes = {UUIDOID, BYTEAARRAYOID},
};

/* Those that are reported anew are left, to keep their first_seen. */
static SessionPlan clear_under_plan = {
	.sql = "DELETE FROM %1$s.fsync_problems WHERE repository_id = $1"
	" AND problem NOT IN (" CORRUPT_PROBLEMS ")"
	" AND (octet_length($2) = 0 OR path = $2"
	" OR substring(path, 1, octet_length($2) + 1) = $2 || '\\x2f'::bytea)"
	" AND NOT EXISTS (SELECT FROM unnest($3) u WHERE u = path)",
	.nargs = 3,
	.argtypes = {UUIDOID, BYTEAOID, BYTEAARRAYOID},
};

static SessionPlan record_plan = {
	.sql = "INSERT INTO %1$s.fsync_problems AS p"
	" (repository_id, path, file_path, problem, message, first_seen, last_seen)"
	" VALUES ($1, $2, $3, $4, $5, now(), now())"
	" ON CONFLICT (repository_id, sha256(path)) DO UPDATE"
	" SET problem = excluded.problem, message = excluded.message,"
	" last_seen = excluded.last_seen, occurrences = p.occurrences + 1",
	.nargs = 5,
	.argtypes = {UUIDOID, BYTEAOID, TEXTOID, TEXTOID, TEXTOID},
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
	return PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
}

static bool
clear_paths(const ExtensionObjects *objects, Datum *values, const ApplyPlan *plan)
{
	Datum	   *elements;

	if (plan->n_clears == 0)
		return false;
	elements = palloc(sizeof(Datum) * plan->n_clears);
	for (int i = 0; i < plan->n_clears; i++)
		elements[i] = bytes_to_bytea(plan->clears[i]);
	values[1] = bytea_array(elements, plan->n_clears);
	return session_execute(objects, &clear_plan, values, NULL, SPI_OK_DELETE) > 0;
}

static bool
clear_directories(const ExtensionObjects *objects, Datum *values,
				  const ApplyPlan *plan)
{
	Datum	   *elements;
	bool		changed = false;

	if (plan->clears_under.n == 0)
		return false;
	elements = palloc(sizeof(Datum) * Max(plan->problems.n, 1));
	for (int i = 0; i < plan->problems.n; i++)
		elements[i] = bytes_to_bytea(plan->problems.items[i]->obs.path);
	values[2] = bytea_array(elements, plan->problems.n);
	for (int i = 0; i < plan->clears_under.n; i++)
	{
		values[1] = bytes_to_bytea(plan->clears_under.items[i]->obs.path);
		if (session_execute(objects, &clear_under_plan, values, NULL,
							SPI_OK_DELETE) > 0)
			changed = true;
	}
	return changed;
}

bool
problems_clear(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			   const ApplyPlan *plan)
{
	Datum		values[3];
	bool		changed;

	if (plan->n_clears == 0 && plan->clears_under.n == 0)
		return false;
	values[0] = UUIDPGetDatum(repository_id);
	if (session_execute(objects, &any_plan, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	changed = clear_paths(objects, values, plan);
	return clear_directories(objects, values, plan) || changed;
}

void
problems_record(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				ProtoStr path, uint8 problem, ProtoStr message)
{
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};

	values[0] = UUIDPGetDatum(repository_id);
	values[1] = bytes_to_bytea(path);
	values[2] = render(path);
	values[3] = CStringGetTextDatum(proto_problem_name(problem));
	if (message.len > 0)
		values[4] = render(message);
	else
		nulls[4] = 'n';
	(void) session_execute(objects, &record_plan, values, nulls, SPI_OK_INSERT);
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
