/*-------------------------------------------------------------------------
 *
 * apply_rows.c
 *		Sets of observations as statements on file_records.
 *
 * Each statement takes its set as arrays.  UPDATE and DELETE name a row by its
 * id and its path, so that an observation about a row that has meanwhile
 * become another file's, or is gone, changes nothing.
 *
 * A move onto a path that another move of the same set leaves would fail with
 * a duplicate key, whichever came first in the statement.  Rows at such paths
 * first step aside to a path that no file can have: "/" and the row's id.
 * Other moves take one step, and triggers see nothing but their two paths.
 *
 * Where the repository marks missing files, a row whose file is gone stays and
 * is marked; so is, on request, that of a file which the settings do not track
 * any more.  What is found at its path later, whatever it contains, is the
 * file come back: it has that row again.  A marked row gives way to a row that
 * moves onto its path.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "apply_arrays.h"
#include "apply_corrupt.h"
#include "apply_direct.h"
#include "apply_totals.h"

static SessionPlan remove_plan = {
	.sql = "DELETE FROM %1$s.file_records f"
	" USING unnest($2, $3, $4) AS u (ord, id, file_path)"
	" WHERE f.repository_id = $1 AND f.file_path = u.file_path"
	" AND (f.id = u.id OR u.id = 0)"
	" RETURNING u.ord, f.missing_since IS NULL, f.file_size",
	.nargs = 4,
	.argtypes = {UUIDOID, INT4ARRAYOID, INT8ARRAYOID, TEXTARRAYOID},
};

static SessionPlan mark_plan = {
	.sql = "UPDATE %1$s.file_records f SET missing_since = $5, missing_reason = u.reason"
	" FROM unnest($2, $3, $4, $6) AS u (ord, id, file_path, reason)"
	" WHERE f.repository_id = $1 AND f.file_path = u.file_path AND f.id = u.id"
	" AND f.missing_since IS NULL RETURNING u.ord, true, f.file_size",
	.nargs = 6,
	.argtypes = {UUIDOID, INT4ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID,
	TEXTARRAYOID},
};

static SessionPlan purge_plan = {
	.sql = "DELETE FROM %1$s.file_records f"
	" USING unnest($2, $3) AS u (id, file_path)"
	" WHERE f.repository_id = $1 AND f.file_path = u.file_path AND f.id = u.id"
	" AND f.missing_since IS NOT NULL",
	.nargs = 3,
	.argtypes = {UUIDOID, INT8ARRAYOID, TEXTARRAYOID},
};

static SessionPlan left_plan = {
	.sql = "SELECT 1 FROM %1$s.file_records f"
	" JOIN unnest($2, $3) AS u (id, file_path)"
	" ON f.file_path = u.file_path AND (f.id = u.id OR u.id = 0)"
	" WHERE f.repository_id = $1 AND (f.missing_since IS NOT NULL) = $4 LIMIT 1",
	.nargs = 4,
	.argtypes = {UUIDOID, INT8ARRAYOID, TEXTARRAYOID, BOOLOID},
};

static SessionPlan step_aside_plan = {
	.sql = "UPDATE %1$s.file_records f SET file_path = '/' || f.id"
	" FROM unnest($2, $3) AS u (id, file_path)"
	" WHERE f.repository_id = $1 AND f.file_path = u.file_path AND f.id = u.id",
	.nargs = 3,
	.argtypes = {UUIDOID, INT8ARRAYOID, TEXTARRAYOID},
};

static SessionPlan overwrite_plan = {
	.sql = "DELETE FROM %1$s.file_records t"
	" USING unnest($2, $3, $4, $5) AS u (ord, id, old_path, file_path),"
	" %1$s.file_records s"
	" WHERE s.repository_id = $1 AND s.file_path = u.old_path AND s.id = u.id"
	" AND t.repository_id = $1 AND t.file_path = u.file_path AND t.id <> u.id"
	" RETURNING u.ord, t.missing_since IS NULL, t.file_size",
	.nargs = 5,
	.argtypes = {UUIDOID, INT4ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
};

static SessionPlan give_way_plan = {
	.sql = "DELETE FROM %1$s.file_records s"
	" USING unnest($2, $3, $4, $5) AS u (ord, id, old_path, file_path),"
	" %1$s.file_records t"
	" WHERE s.repository_id = $1 AND s.file_path = u.old_path AND s.id = u.id"
	" AND t.repository_id = $1 AND t.file_path = u.file_path AND t.id <> u.id"
	" RETURNING u.ord, s.missing_since IS NULL, s.file_size",
	.nargs = 5,
	.argtypes = {UUIDOID, INT4ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
};

static SessionPlan move_plan = {
	.sql = "UPDATE %1$s.file_records f SET file_path = u.file_path,"
	" file_size = u.file_size, mod_time = u.mod_time,"
	" content_hash = u.content_hash, last_scanned = u.last_scanned,"
	" scan_generation = $3, updated_at = $2, inode = u.inode, mtime_ns = u.mtime_ns,"
	" ctime_ns = u.ctime_ns, btime_ns = u.btime_ns, missing_since = NULL,"
	" missing_reason = NULL"
	" FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
	" AS u (ord, id, old_path, " STAT_COLUMNS ")"
	" WHERE f.repository_id = $1 AND f.file_path = u.old_path AND f.id = u.id"
	" RETURNING u.ord",
	.nargs = 15,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4ARRAYOID, INT8ARRAYOID,
	TEXTARRAYOID, STAT_TYPES},
};

/* Only if nothing that a reader sees is different after all. */
static SessionPlan touch_plan = {
	.sql = "UPDATE %1$s.file_records f SET last_scanned = u.last_scanned,"
	" scan_generation = $3, inode = u.inode, mtime_ns = u.mtime_ns,"
	" ctime_ns = u.ctime_ns, btime_ns = u.btime_ns"
	" FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
	" AS u (ord, " STAT_COLUMNS ")"
	" WHERE f.repository_id = $1 AND f.file_path = u.file_path"
	" AND f.file_size = u.file_size AND f.mod_time = u.mod_time"
	" AND f.content_hash IS NOT DISTINCT FROM u.content_hash"
	" AND f.missing_since IS NULL RETURNING u.ord",
	.nargs = 13,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4ARRAYOID, STAT_TYPES},
};

/* A file that was missing is there again, as it was or not. */
static SessionPlan revive_plan = {
	.sql = "UPDATE %1$s.file_records f SET missing_since = NULL, missing_reason = NULL,"
	" file_size = u.file_size, mod_time = u.mod_time,"
	" content_hash = u.content_hash, last_scanned = u.last_scanned,"
	" scan_generation = $3, updated_at = $2, inode = u.inode, mtime_ns = u.mtime_ns,"
	" ctime_ns = u.ctime_ns, btime_ns = u.btime_ns"
	" FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
	" AS u (ord, " STAT_COLUMNS ")"
	" WHERE f.repository_id = $1 AND f.file_path = u.file_path"
	" AND f.missing_since IS NOT NULL RETURNING u.ord",
	.nargs = 13,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4ARRAYOID, STAT_TYPES},
};

#define INSERT_ROWS \
	"INSERT INTO %1$s.file_records AS f" \
	" (repository_id, scan_generation, created_at, updated_at, " STAT_COLUMNS ")" \
	" SELECT $1, $3, $2, $2, u.*" \
	" FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12) AS u (" STAT_COLUMNS ")"

/* For rows that are all said to be new: spares the speculative insertion. */
static SessionPlan insert_plan = {
	.sql = INSERT_ROWS,
	.nargs = 12,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, INT8OID, STAT_TYPES},
};

/* A row that was just inserted has been locked or updated by nobody. */
static SessionPlan write_plan = {
	.sql = INSERT_ROWS
	" ON CONFLICT (repository_id, file_path) DO UPDATE"
	" SET file_size = excluded.file_size, mod_time = excluded.mod_time,"
	" content_hash = excluded.content_hash, last_scanned = excluded.last_scanned,"
	" scan_generation = excluded.scan_generation,"
	" updated_at = CASE WHEN f.file_size = excluded.file_size"
	" AND f.mod_time = excluded.mod_time"
	" AND f.content_hash IS NOT DISTINCT FROM excluded.content_hash"
	" THEN f.updated_at ELSE excluded.updated_at END,"
	" inode = excluded.inode, mtime_ns = excluded.mtime_ns,"
	" ctime_ns = excluded.ctime_ns, btime_ns = excluded.btime_ns"
	" RETURNING f.xmax = 0",
	.nargs = 12,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, INT8OID, STAT_TYPES},
};

/* ---------------------------------------------------------------------
 * Statements
 * ---------------------------------------------------------------------
 */

/* The ordinal in a row of RETURNING u.ord. */
static int
returned_ordinal(uint64 row)
{
	bool		isnull;

	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[row],
									   SPI_tuptable->tupdesc, 1, &isnull));
}

/* The second column of a row of RETURNING u.ord, ... */
static bool
returned_flag(uint64 row)
{
	bool		isnull;

	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, 2, &isnull));
}

/* The third one. */
static int64
returned_size(uint64 row)
{
	bool		isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[row],
									   SPI_tuptable->tupdesc, 3, &isnull));
}

static ApplyCounts *
counts_of(ApplyRun *run, const ApplyItem *item)
{
	if (item->obs.scan_id == 0)
		return &run->result->realtime;
	return item->obs.scan_id == run->place_scan ? &run->result->place : &run->result->scan;
}

static void
row_left_out(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("a trigger on table \"%s\" left out a row", "file_records")));
}

/*
 * Fewer rows were removed or moved than were named: because they were not
 * there, which is fine, or because a trigger left them out.
 */
static void
check_not_left(ApplyRun *run, Datum row_ids, Datum row_paths, bool marked)
{
	Datum		values[4];

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = row_ids;
	values[2] = row_paths;
	values[3] = BoolGetDatum(marked);
	if (session_execute(run->objects, &left_plan, values, NULL, SPI_OK_SELECT) > 0)
		row_left_out();
}

/*
 * Counts what RETURNING u.ord, ... says; a file is gone only once.  The rows were
 * at the items' paths or, with old_paths, where those of moves are.
 */
static void
count_removed(ApplyRun *run, ApplyItem **items, uint64 returned, bool old_paths)
{
	for (uint64 i = 0; i < returned; i++)
	{
		ApplyItem  *item = items[returned_ordinal(i)];

		if (!returned_flag(i))
			continue;
		counts_of(run, item)->removed++;
		account_changed(run, old_paths ? item->obs.old_path : item->obs.path, -1,
						-returned_size(i));
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Deletes the rows, or marks them. */
static void
remove_rows(ApplyRun *run, ApplyItem **items, int n, bool mark)
{
	Datum		values[6];
	uint64		removed;

	if (n == 0)
		return;
	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = apply_ordinals(n);
	values[2] = apply_ids(items, n);
	values[3] = apply_paths(items, n);
	values[4] = TimestampTzGetDatum(run->now);
	if (mark)
		values[5] = apply_gone_words(items, n);
	removed = session_execute(run->objects, mark ? &mark_plan : &remove_plan, values,
							  NULL, mark ? SPI_OK_UPDATE_RETURNING :
							  SPI_OK_DELETE_RETURNING);
	count_removed(run, items, removed, false);
	if (removed < (uint64) n)
		check_not_left(run, values[2], values[3], false);
}

/* A file that was overwritten is not missing. */
bool
rows_are_marked(const ApplyRun *run, const ApplyItem *item)
{
	if (item->obs.id == APPLY_ANY_ID || item->impossible)
		return false;
	switch (item->obs.gone)
	{
		case PROTO_GONE_ABSENT:
			return run->mark_missing;
		case PROTO_GONE_TYPE:
			return run->mark_type_change;
		case PROTO_GONE_EXCLUDED:
			return run->mark_excluded;
		default:
			return false;
	}
}

void
rows_remove(ApplyRun *run, ApplyItem **items, int n)
{
	ApplyItem **deleted = palloc(sizeof(ApplyItem *) * n);
	ApplyItem **marked = palloc(sizeof(ApplyItem *) * n);
	int			n_deleted = 0;
	int			n_marked = 0;

	for (int i = 0; i < n; i++)
	{
		if (rows_are_marked(run, items[i]))
			marked[n_marked++] = items[i];
		else
			deleted[n_deleted++] = items[i];
	}
	remove_rows(run, deleted, n_deleted, false);
	remove_rows(run, marked, n_marked, true);
	if (n_marked > 0)
	{
		run->has_missing = true;
		run->result->marked = true;
	}
}

void
rows_purge(ApplyRun *run, ApplyItem **items, int n)
{
	Datum		values[3];

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = apply_ids(items, n);
	values[2] = apply_paths(items, n);
	if (session_execute(run->objects, &purge_plan, values, NULL, SPI_OK_DELETE) <
		(uint64) n)
		check_not_left(run, values[1], values[2], true);
}

static void
step_aside(ApplyRun *run, ApplyItem **items, int n)
{
	ApplyItem **leaving = palloc(sizeof(ApplyItem *) * n);
	int			n_leaving = 0;
	Datum		values[3];

	for (int i = 0; i < n; i++)
	{
		if (items[i]->vacate)
			leaving[n_leaving++] = items[i];
	}
	if (n_leaving == 0)
		return;
	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = apply_ids(leaving, n_leaving);
	values[2] = apply_old_paths(leaving, n_leaving, false);
	(void) session_execute(run->objects, &step_aside_plan, values, NULL, SPI_OK_UPDATE);
}

/*
 * Of files that were renamed onto one with a row, missing or not, removes their
 * own: what they contain is then written as that one's new content.  Not of a
 * file that is gone already, which nothing would be written of.
 */
static void
give_way(ApplyRun *run, ApplyItem **items, int n)
{
	ApplyItem **renamed = palloc(sizeof(ApplyItem *) * n);
	int			n_renamed = 0;
	Datum		values[5];
	uint64		removed;

	for (int i = 0; i < n; i++)
	{
		if (items[i]->obs.renamed && !items[i]->short_lived)
			renamed[n_renamed++] = items[i];
	}
	if (n_renamed == 0)
		return;
	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = apply_ordinals(n_renamed);
	values[2] = apply_ids(renamed, n_renamed);
	values[3] = apply_old_paths(renamed, n_renamed, true);
	values[4] = apply_paths(renamed, n_renamed);
	removed = session_execute(run->objects, &give_way_plan, values, NULL,
							  SPI_OK_DELETE_RETURNING);
	count_removed(run, renamed, removed, true);
}

/* Removes the rows of files onto which a file with a row was renamed. */
static void
remove_overwritten(ApplyRun *run, ApplyItem **items, int n)
{
	Datum		values[5];
	uint64		removed;

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = apply_ordinals(n);
	values[2] = apply_ids(items, n);
	values[3] = apply_old_paths(items, n, true);
	values[4] = apply_paths(items, n);
	removed = session_execute(run->objects, &overwrite_plan, values, NULL,
							  SPI_OK_DELETE_RETURNING);
	count_removed(run, items, removed, false);
}

static void
move_by_statements(ApplyRun *run, ApplyItem **items, int n, bool *done)
{
	Datum		values[6 + STAT_COUNT];
	ApplyBefore *before = account_look(run, items, n, true);
	uint64		moved;

	step_aside(run, items, n);
	if (run->keep_overwritten)
		give_way(run, items, n);
	remove_overwritten(run, items, n);

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = TimestampTzGetDatum(run->now);
	values[2] = Int64GetDatum(run->generation);
	values[3] = apply_ordinals(n);
	values[4] = apply_ids(items, n);
	values[5] = apply_old_paths(items, n, true);
	apply_stat_columns(&values[6], items, n, run->now);
	moved = session_execute(run->objects, &move_plan, values, NULL,
							SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < moved; i++)
	{
		int			ordinal = returned_ordinal(i);
		const ProtoObservation *obs = &items[ordinal]->obs;

		done[ordinal] = true;
		if (before[ordinal].counts)
			account_changed(run, obs->old_path, -1, -before[ordinal].size);
		account_changed(run, obs->path, 1, obs->stat.size);
	}
	SPI_freetuptable(SPI_tuptable);
	if (moved < (uint64) n)
		check_not_left(run, values[4], apply_old_paths(items, n, false), false);
}

static bool
any_vacates(ApplyItem **items, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (items[i]->vacate)
			return true;
	}
	return false;
}

void
rows_move(ApplyRun *run, ApplyItem **items, int n)
{
	bool	   *done = palloc0(sizeof(bool) * n);

	if (!run->trusting || any_vacates(items, n) || !direct_move(run, items, n, done))
		move_by_statements(run, items, n, done);

	for (int i = 0; i < n; i++)
	{
		if (done[i])
			counts_of(run, items[i])->moved++;
		else if (!items[i]->short_lived)
			run->plan->upserts.items[run->plan->upserts.n++] = items[i];
	}
}

/*
 * Writes rows that are there by touch_plan or revive_plan.  Moves what is left
 * to be written to the end of rest, and returns its new length.
 */
static int
update_rows(ApplyRun *run, SessionPlan *plan, ApplyItem **items, int n, ApplyItem **rest,
			int n_rest)
{
	Datum		values[4 + STAT_COUNT];
	bool	   *done = palloc0(sizeof(bool) * n);
	uint64		updated;

	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = TimestampTzGetDatum(run->now);
	values[2] = Int64GetDatum(run->generation);
	values[3] = apply_ordinals(n);
	apply_stat_columns(&values[4], items, n, run->now);
	updated = session_execute(run->objects, plan, values, NULL, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < updated; i++)
	{
		const ApplyItem *item = items[returned_ordinal(i)];

		done[returned_ordinal(i)] = true;
		if (plan == &revive_plan)
			account_changed(run, item->obs.path, 1, item->obs.stat.size);
	}
	SPI_freetuptable(SPI_tuptable);

	for (int i = 0; i < n; i++)
	{
		if (!done[i])
			rest[n_rest++] = items[i];
	}
	return n_rest;
}

static void
check_written(uint64 written, int n)
{
	if (written != (uint64) n)
		row_left_out();
}

static bool
all_added(ApplyItem **items, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (items[i]->obs.op != PROTO_OP_ADDED)
			return false;
	}
	return true;
}

/* before: the rows that were there, NULL: none were. */
static void
account_written(const ApplyRun *run, ApplyItem **items, int n, const ApplyBefore *before)
{
	for (int i = 0; i < n; i++)
	{
		const ProtoObservation *obs = &items[i]->obs;
		bool		replaces = before != NULL && before[i].counts;

		account_changed(run, obs->path, replaces ? 0 : 1,
						obs->stat.size - (replaces ? before[i].size : 0));
	}
}

static void
write_rows(ApplyRun *run, ApplyItem **items, int n, ApplyCounts *counts)
{
	Datum		values[3 + STAT_COUNT];
	uint64		written;
	ApplyBefore *before;
	bool		inserting;

	if (n > 0 && run->has_missing)
	{
		ApplyItem **rest = palloc(sizeof(ApplyItem *) * n);
		int			n_rest = update_rows(run, &revive_plan, items, n, rest, 0);

		counts->added += n - n_rest;
		items = rest;
		n = n_rest;
	}
	if (n == 0)
		return;
	inserting = run->trusting && all_added(items, n);
	if (inserting && direct_insert(run, items, n))
	{
		counts->added += n;
		return;
	}
	values[0] = UUIDPGetDatum(run->repository_id);
	values[1] = TimestampTzGetDatum(run->now);
	values[2] = Int64GetDatum(run->generation);
	apply_stat_columns(&values[3], items, n, run->now);
	if (inserting)
	{
		written = session_execute(run->objects, &insert_plan, values, NULL,
								  SPI_OK_INSERT);
		check_written(written, n);
		counts->added += written;
		account_written(run, items, n, NULL);
		return;
	}
	before = account_look(run, items, n, false);
	written = session_execute(run->objects, &write_plan, values, NULL,
							  SPI_OK_INSERT_RETURNING);
	check_written(written, n);
	account_written(run, items, n, before);
	for (uint64 i = 0; i < written; i++)
	{
		bool		isnull;

		if (DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i],
									   SPI_tuptable->tupdesc, 1, &isnull)))
			counts->added++;
		else
			counts->updated++;
	}
	SPI_freetuptable(SPI_tuptable);
}

void
rows_write(ApplyRun *run, ApplyItem **items, int n)
{
	ApplyItem **touched = palloc(sizeof(ApplyItem *) * n);
	ApplyItem **full = palloc(sizeof(ApplyItem *) * n);
	ApplyItem **part = palloc(sizeof(ApplyItem *) * n);
	ApplyCounts *const counts[] = {
		&run->result->realtime, &run->result->scan, &run->result->place
	};
	int			n_touched = 0;
	int			n_full = 0;

	if (run->has_corrupt)
		corrupt_protect(run, items, n);
	for (int i = 0; i < n; i++)
	{
		if (items[i]->obs.op == PROTO_OP_TOUCHED)
			touched[n_touched++] = items[i];
		else
			full[n_full++] = items[i];
	}
	if (n_touched > 0)
		n_full = update_rows(run, &touch_plan, touched, n_touched, full, n_full);

	/* What a statement inserts is counted as a whole: one for each count. */
	for (int c = 0; c < (int) lengthof(counts); c++)
	{
		int			n_part = 0;

		for (int i = 0; i < n_full; i++)
		{
			if (counts_of(run, full[i]) == counts[c])
				part[n_part++] = full[i];
		}
		write_rows(run, part, n_part, counts[c]);
	}
}
