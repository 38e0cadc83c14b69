/*-------------------------------------------------------------------------
 *
 * operations.c
 *		The runs in sync_operations: begun, closed, pruned.
 *
 * A repository's generation is advanced in the transaction that records the
 * run, so that a generation that is written in a row always has its run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "operations.h"
#include "prune.h"
#include "registrations.h"

/* Rows that are deleted in one transaction. */
#define PRUNE_PAGE_ROWS		1000

static SessionPlan close_interrupted_plan = {
	.sql = "UPDATE %1$s.sync_operations"
	" SET status = 'failed', end_time = pg_catalog.now(),"
	" error_message = 'interrupted: the worker ended before the run did'"
	" WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$s.sync_operations"
	" WHERE status = 'running' FOR NO KEY UPDATE SKIP LOCKED))",
};

static SessionPlan next_generation_plan = {
	.sql = "UPDATE %1$s.fsync_repositories SET scan_generation = scan_generation + 1"
	" WHERE repository_id = $1 RETURNING scan_generation",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan known_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_repositories WHERE repository_id = $1 FOR KEY SHARE",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan begin_plan = {
	.sql = "INSERT INTO %1$s.sync_operations"
	" (repository_id, operation_type, reason, start_time)"
	" VALUES ($1, $2, $3, pg_catalog.now()) RETURNING id",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, TEXTOID},
};

static SessionPlan end_plan = {
	.sql = "UPDATE %1$s.sync_operations"
	" SET status = $2, error_message = $3, end_time = pg_catalog.now(),"
	" files_scanned = $4, files_added = $5, files_updated = $6,"
	" files_moved = $7, files_removed = $8, bytes_hashed = $9"
	" WHERE id = $1 RETURNING start_time",
	.nargs = 9,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID,
	INT8OID, INT8OID},
};

static SessionPlan complete_scan_plan = {
	.sql = "UPDATE %1$s.fsync_repositories"
	" SET last_complete_generation = $2, last_complete_scan = $3,"
	" root_identity = coalesce($4, root_identity), mounts = coalesce($5, mounts)"
	" WHERE repository_id = $1 AND watch_root = $6",
	.nargs = 6,
	.argtypes = {UUIDOID, INT8OID, TIMESTAMPTZOID, TEXTOID, BYTEAOID, TEXTOID},
};

static SessionPlan same_root_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_repositories"
	" WHERE repository_id = $1 AND watch_root = $2 FOR KEY SHARE",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID},
};

static SessionPlan first_scan_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_repositories"
	" WHERE repository_id = $1 AND last_complete_generation = 0",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan burst_plan = {
	.sql = "INSERT INTO %1$s.sync_operations"
	" (repository_id, operation_type, status, start_time, end_time,"
	" files_scanned, files_added, files_updated, files_moved, files_removed,"
	" bytes_hashed)"
	" SELECT repository_id, 'realtime', 'completed', $2, $3, $4, $5, $6, $7, $8, $9"
	" FROM %1$s.fsync_repositories WHERE repository_id = $1 FOR KEY SHARE",
	.nargs = 9,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID,
	INT8OID, INT8OID, INT8OID, INT8OID},
};

/* Rows that somebody holds are left for the next time. */
static SessionPlan old_plan = {
	.sql = "SELECT id FROM %1$s.sync_operations"
	" WHERE end_time < pg_catalog.now() - pg_catalog.make_interval(mins => $1)"
	" AND id > $2 ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED",
	.nargs = 3,
	.argtypes = {INT4OID, INT8OID, INT4OID},
};

static SessionPlan excess_plan = {
	.sql = "SELECT o.id FROM %1$s.fsync_repositories r JOIN %1$s.sync_operations o"
	" ON o.repository_id = r.repository_id AND o.status <> 'running'"
	" AND o.id <= (SELECT i.id FROM %1$s.sync_operations i"
	" WHERE i.repository_id = r.repository_id"
	" ORDER BY i.id DESC OFFSET $1 LIMIT 1)"
	" WHERE o.id > $2 ORDER BY o.id LIMIT $3 FOR UPDATE OF o SKIP LOCKED",
	.nargs = 3,
	.argtypes = {INT4OID, INT8OID, INT4OID},
};

static SessionPlan prune_plan = {
	.sql = "DELETE FROM %1$s.sync_operations WHERE id = ANY ($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID},
};

bool
operations_close_interrupted(const ExtensionObjects *objects)
{
	if (!session_begin(objects, "fsync: closing interrupted runs"))
		return false;
	(void) session_execute(objects, &close_interrupted_plan, NULL, NULL, SPI_OK_UPDATE);
	session_commit();
	return true;
}

int64
operations_begin(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
				 const char *type, const char *reason, int64 *generation)
{
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	bool		isnull;
	bool		known;
	int64		id = 0;

	if (!session_begin(objects, "fsync: beginning a run"))
		return 0;
	values[0] = UUIDPGetDatum(repository_id);
	known = generation == NULL ?
		session_execute(objects, &known_plan, values, NULL, SPI_OK_SELECT) == 1 :
		session_execute(objects, &next_generation_plan, values, NULL,
						SPI_OK_UPDATE_RETURNING) == 1;
	if (known)
	{
		if (generation != NULL)
			*generation = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
													  SPI_tuptable->tupdesc, 1, &isnull));
		values[1] = CStringGetTextDatum(type);
		if (reason != NULL)
			values[2] = CStringGetTextDatum(reason);
		else
			nulls[2] = 'n';
		(void) session_execute(objects, &begin_plan, values, nulls,
							   SPI_OK_INSERT_RETURNING);
		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 1, &isnull));
	}
	session_commit();
	return id;
}

void
operations_accept_root(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
					   const char *root, const char *identity)
{
	Datum		values[2];

	if (!session_begin(objects, "fsync: accepting a root"))
		return;
	values[0] = UUIDPGetDatum(repository_id);
	values[1] = CStringGetTextDatum(root);
	if (session_execute(objects, &same_root_plan, values, NULL, SPI_OK_SELECT) == 1)
		registration_accept(objects, repository_id, identity);
	session_commit();
}

/* What else a completed run brings about, in its transaction. */
static void
complete_scan(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			  const OperationEnd *end, TimestampTz start_time)
{
	Datum		values[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = UUIDPGetDatum(repository_id);
	values[1] = Int64GetDatum(end->generation);
	values[2] = TimestampTzGetDatum(start_time);
	if (end->identity != NULL && end->identity[0] != '\0')
		values[3] = CStringGetTextDatum(end->identity);
	else
		nulls[3] = 'n';
	if (end->identity != NULL && end->mounts != NULL)
	{
		bytea	   *mounts = palloc(VARHDRSZ + end->mounts_len);

		SET_VARSIZE(mounts, VARHDRSZ + end->mounts_len);
		memcpy(VARDATA(mounts), end->mounts, end->mounts_len);
		values[4] = PointerGetDatum(mounts);
	}
	else
		nulls[4] = 'n';
	values[5] = CStringGetTextDatum(end->root);

	/* First the row, as whoever registers another directory does. */
	if (session_execute(objects, &complete_scan_plan, values, nulls, SPI_OK_UPDATE) == 1 &&
		nulls[3] == ' ')
		registration_accept(objects, repository_id, end->identity);
	apply_expire_problems(objects, repository_id, start_time);
}

bool
operations_end(const ExtensionObjects *objects, const pg_uuid_t *repository_id,
			   const OperationEnd *end, bool *first_scan)
{
	Datum		values[9];
	char		nulls[9] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};

	*first_scan = false;
	if (!session_begin(objects, "fsync: ending a run"))
		return false;
	values[0] = UUIDPGetDatum(repository_id);
	if (end->completed && end->generation != 0)
		*first_scan = session_execute(objects, &first_scan_plan, values, NULL,
									  SPI_OK_SELECT) == 1;

	values[0] = Int64GetDatum(end->id);
	values[1] = CStringGetTextDatum(end->completed ? "completed" :
									end->cancelled ? "cancelled" : "failed");
	if (end->error != NULL)
		values[2] = CStringGetTextDatum(end->error);
	else
		nulls[2] = 'n';
	values[3] = Int64GetDatum(end->files_scanned);
	values[4] = Int64GetDatum(end->counts.added);
	values[5] = Int64GetDatum(end->counts.updated);
	values[6] = Int64GetDatum(end->counts.moved);
	values[7] = Int64GetDatum(end->counts.removed);
	values[8] = Int64GetDatum(end->bytes_hashed);
	if (session_execute(objects, &end_plan, values, nulls,
						SPI_OK_UPDATE_RETURNING) == 1 && end->completed &&
		end->generation != 0)
	{
		bool		isnull;
		Datum		start = SPI_getbinval(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, 1, &isnull);

		complete_scan(objects, repository_id, end, DatumGetTimestampTz(start));
	}
	session_commit();
	return true;
}

bool
operations_record_burst(const ExtensionObjects *objects,
						const pg_uuid_t *repository_id,
						TimestampTz start, TimestampTz end,
						const ApplyCounts *counts, int64 files_scanned,
						int64 bytes_hashed)
{
	Datum		values[9];

	if (!session_begin(objects, "fsync: recording a burst of changes"))
		return false;
	values[0] = UUIDPGetDatum(repository_id);
	values[1] = TimestampTzGetDatum(start);
	values[2] = TimestampTzGetDatum(end);
	values[3] = Int64GetDatum(files_scanned);
	values[4] = Int64GetDatum(counts->added);
	values[5] = Int64GetDatum(counts->updated);
	values[6] = Int64GetDatum(counts->moved);
	values[7] = Int64GetDatum(counts->removed);
	values[8] = Int64GetDatum(bytes_hashed);
	(void) session_execute(objects, &burst_plan, values, NULL, SPI_OK_INSERT);
	session_commit();
	return true;
}

/* ---------------------------------------------------------------------
 * Pruning
 * ---------------------------------------------------------------------
 */

/* Deletes what the plan selects, a page a transaction. */
static void
prune(const ExtensionObjects *objects, SessionPlan *plan, int limit)
{
	MemoryContext context = CurrentMemoryContext;
	int64		last = 0;
	uint64		n;

	do
	{
		Datum		values[3];
		Datum	   *ids;
		bool		isnull;

		if (!session_begin(objects, "fsync: pruning sync_operations"))
			return;
		values[0] = Int32GetDatum(limit);
		values[1] = Int64GetDatum(last);
		values[2] = Int32GetDatum(PRUNE_PAGE_ROWS);
		n = session_execute(objects, plan, values, NULL, SPI_OK_SELECT);
		ids = MemoryContextAlloc(context, sizeof(Datum) * Max(n, 1));
		for (uint64 i = 0; i < n; i++)
			ids[i] = Int64GetDatum(DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
															   SPI_tuptable->tupdesc, 1,
															   &isnull)));
		if (n > 0)
			last = DatumGetInt64(ids[n - 1]);
		(void) prune_rows(objects, &prune_plan, ids, (int) n);
		session_commit();
		pfree(ids);
	} while (n == PRUNE_PAGE_ROWS);
}

void
operations_prune(const ExtensionObjects *objects)
{
	if (setting_history_retention_min > 0)
		prune(objects, &old_plan, setting_history_retention_min);
	if (setting_history_max_rows > 0)
		prune(objects, &excess_plan, setting_history_max_rows);
}
