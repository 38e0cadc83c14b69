/*-------------------------------------------------------------------------
 *
 * apply_problems.c
 *		The rows of fsync_problems: recorded, cleared, expired.
 *
 * Nearly all repositories have no problem nearly all the time, so a batch
 * first asks whether there is any before it looks for those of its paths.
 *
 * Rows that another session holds are passed over: a problem that is not counted
 * again, or that outlives its cause until the next complete scan, is a small
 * matter beside files that wait for somebody's lock.
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
#include "shown.h"

/* The longest rendering of a path, and of a message, in bytes. */
#define MAX_RENDERED	2500

static SessionPlan any_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_problems WHERE repository_id = $1 LIMIT 1",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

/*
 * Deletes what can be had.  Locked in an array, because a row may be joined only
 * once it is locked, and a condition need be looked at again then.
 */
#define DELETE_FREE(condition) \
	"DELETE FROM %1$s.fsync_problems WHERE ctid = ANY (ARRAY(" \
	"SELECT p.ctid FROM %1$s.fsync_problems p WHERE p.repository_id = $1 AND " condition \
	" FOR UPDATE SKIP LOCKED))"

static SessionPlan clear_plan = {
	.sql = DELETE_FREE("sha256(p.path) IN (SELECT sha256(u) FROM unnest($2) u)"
					   " AND p.path = ANY ($2) AND p.problem NOT IN (" CORRUPT_PROBLEMS ")"),
	.nargs = 2,
	.argtypes = {UUIDOID, BYTEAARRAYOID},
};

#define NEW_PROBLEMS "unnest($2, $3, $4, $5) AS u (path, file_path, problem, message)"

static SessionPlan count_again_plan = {
	.sql = "UPDATE %1$s.fsync_problems p SET problem = u.problem,"
	" message = nullif(u.message, ''), last_seen = now(), occurrences = p.occurrences + 1"
	" FROM " NEW_PROBLEMS " WHERE p.path = u.path"
	" AND p.ctid = ANY (ARRAY(SELECT q.ctid FROM %1$s.fsync_problems q"
	" WHERE q.repository_id = $1 AND sha256(q.path) IN (SELECT sha256(v) FROM unnest($2) v)"
	" FOR NO KEY UPDATE SKIP LOCKED))",
	.nargs = 5,
	.argtypes = {UUIDOID, BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
};

static SessionPlan add_plan = {
	.sql = "INSERT INTO %1$s.fsync_problems"
	" (repository_id, path, file_path, problem, message, first_seen, last_seen)"
	" SELECT $1, u.path, u.file_path, u.problem, nullif(u.message, ''), now(), now()"
	" FROM " NEW_PROBLEMS " WHERE NOT EXISTS (SELECT FROM %1$s.fsync_problems p"
	" WHERE p.repository_id = $1 AND sha256(p.path) = sha256(u.path))"
	" ON CONFLICT DO NOTHING",
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
	.sql = DELETE_FREE("p.last_seen < $2"
					   " AND p.problem NOT IN (" CORRUPT_PROBLEMS ")"
					   " AND CASE WHEN p.problem IN ('still referenced', 'rejected by the database')"
					   " THEN " ROW_OF_PROBLEM " IS NOT TRUE ELSE true END"),
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID},
};

static SessionPlan clear_purged_plan = {
	.sql = DELETE_FREE("CASE WHEN p.problem = 'still referenced'"
					   " THEN " ROW_OF_PROBLEM " IS NULL ELSE false END"),
	.nargs = 1,
	.argtypes = {UUIDOID},
};

/* Of rows that were held. */
static SessionPlan forget_held_plan = {
	.sql = DELETE_FREE("p.problem = 'row is locked'"
					   " AND sha256(p.path) IN (SELECT sha256(u) FROM unnest($2) u)"),
	.nargs = 2,
	.argtypes = {UUIDOID, BYTEAARRAYOID},
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

/* Bytes as text that can be stored and read. */
static Datum
render(ProtoStr s)
{
	StringInfoData out;
	Datum		result;

	initStringInfo(&out);
	shown_append(&out, s, true, MAX_RENDERED);
	result = PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
	pfree(out.data);			/* there may be thousands */
	return result;
}

static Datum
paths_array(const ProtoStr *paths, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		elements[i] = bytes_to_bytea(paths[i]);
	return bytea_array(elements, n);
}

/* True if there were any. */
static bool
clear_problems(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			   const ApplyPlan *plan)
{
	Datum		values[2];

	if (plan->n_clears == 0)
		return false;
	values[0] = UUIDPGetDatum(repository_id);
	if (session_execute(objects, &any_plan, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	values[1] = paths_array(plan->clears, plan->n_clears);
	return session_execute(objects, &clear_plan, values, NULL, SPI_OK_DELETE) > 0;
}

static Datum
text_array(Datum *elements, int n)
{
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

void
problems_record_all(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
					const NewProblem *problems, int n)
{
	Datum	   *columns[4];
	Datum		values[5];

	if (n == 0)
		return;
	for (int c = 0; c < 4; c++)
		columns[c] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		columns[0][i] = bytes_to_bytea(problems[i].path);
		columns[1][i] = render(problems[i].path);
		columns[2][i] = CStringGetTextDatum(proto_problem_name(problems[i].problem));
		columns[3][i] = render(problems[i].message);
	}
	values[0] = UUIDPGetDatum(repository_id);
	values[1] = bytea_array(columns[0], n);
	for (int c = 1; c < 4; c++)
		values[c + 1] = text_array(columns[c], n);
	if (session_execute(objects, &count_again_plan, values, NULL, SPI_OK_UPDATE) < (uint64) n)
		(void) session_execute(objects, &add_plan, values, NULL, SPI_OK_INSERT);
}

void
problems_record(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				ProtoStr path, uint8 problem, ProtoStr message)
{
	NewProblem	one = {path, problem, message};

	problems_record_all(objects, repository_id, &one, 1);
}

void
problems_write(ApplyRun *run)
{
	ApplyPlan  *plan = run->plan;
	NewProblem *problems = palloc(sizeof(NewProblem) * Max(plan->problems.n, 1));

	if (clear_problems(run->objects, run->repository_id, plan))
		run->result->problems_changed = true;
	for (int i = 0; i < plan->problems.n; i++)
	{
		const ProtoObservation *obs = &plan->problems.items[i]->obs;

		problems[i].path = obs->path;
		problems[i].problem = obs->problem;
		problems[i].message = obs->message;
	}
	problems_record_all(run->objects, run->repository_id, problems, plan->problems.n);
	if (plan->problems.n > 0)
		run->result->problems_changed = true;
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

void
apply_forget_held(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				  const ProtoStr *paths, int n)
{
	Datum		values[2];

	if (!session_begin(objects, "fsync: writing fsync_problems"))
		return;
	values[0] = UUIDPGetDatum(repository_id);
	values[1] = paths_array(paths, n);
	(void) session_execute(objects, &forget_held_plan, values, NULL, SPI_OK_DELETE);
	session_commit();
}
