/*-------------------------------------------------------------------------
 *
 * feed_retention.c
 *		How long file_changes keeps a change.
 *
 * A change goes when it is older than fsync.change_retention and every consumer
 * that gets it has acknowledged it.  So a consumer that is behind, or is
 * forgotten by its application, keeps changes for ever; that ends at
 * fsync.change_max_rows, where the oldest go whoever waits for them.  What a
 * consumer loses like that is counted before it goes, and logged, and
 * fsync_next_changes() tells it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "feed_history.h"
#include "feed_retention.h"
#include "prune.h"

#define BATCH		10000

/* The newest change that is too many. */
static SessionPlan surplus_plan = {
	.sql = "SELECT change_id FROM %1$s.file_changes"
	" ORDER BY change_id DESC OFFSET $1 LIMIT 1",
	.nargs = 1,
	.argtypes = {INT4OID},
	.index_only = true,
};

static SessionPlan lose_plan = {
	.sql = "UPDATE %1$s.fsync_consumer_positions p"
	" SET lost_changes = p.lost_changes + l.n, change_id = greatest(p.change_id, $1)"
	" FROM %1$s.fsync_consumer_positions q CROSS JOIN LATERAL (SELECT"
	" (SELECT count(*) FROM %1$s.file_changes c"
	" WHERE c.change_id > q.change_id AND c.change_id <= $1"
	" AND (q.repository_id IS NULL OR c.repository_id = q.repository_id)) +"
	" (SELECT count(*) FROM %1$s.fsync_consumer_deliveries d"
	" WHERE d.consumer = q.name AND d.change_id > 0 AND d.change_id <= $1) AS n) l"
	" WHERE q.name = p.name AND l.n > 0 RETURNING p.name, l.n",
	.nargs = 1,
	.argtypes = {INT8OID},
};

static SessionPlan forget_plan = {
	.sql = "DELETE FROM %1$s.fsync_consumer_deliveries"
	" WHERE change_id > 0 AND change_id <= $1",
	.nargs = 1,
	.argtypes = {INT8OID},
};

/* Those that somebody holds are left for the next time. */
static SessionPlan first_plan = {
	.sql = "SELECT change_id FROM %1$s.file_changes WHERE change_id <= $1"
	" ORDER BY change_id LIMIT $2 FOR UPDATE SKIP LOCKED",
	.nargs = 2,
	.argtypes = {INT8OID, INT4OID},
};

static SessionPlan remove_plan = {
	.sql = "DELETE FROM %1$s.file_changes WHERE change_id = ANY ($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID},
};

/*
 * Some changes behind a position; they are in the order of their time, so where
 * one is not old the rest is not.
 */
#define PAGE \
	"(SELECT change_id, repository_id," \
	" changed_at < now() - make_interval(mins => $1) AS is_old" \
	" FROM %1$s.file_changes WHERE change_id > $2 ORDER BY change_id LIMIT $3) page"

static SessionPlan old_plan = {
	.sql = "SELECT c.change_id FROM " PAGE " JOIN %1$s.file_changes c USING (change_id)"
	" WHERE page.is_old"
	" AND NOT EXISTS (SELECT FROM %1$s.fsync_consumer_positions p"
	" WHERE p.change_id < page.change_id"
	" AND (p.repository_id IS NULL OR p.repository_id = page.repository_id))"
	" AND NOT EXISTS (SELECT FROM %1$s.fsync_consumer_deliveries d"
	" WHERE d.change_id = page.change_id) FOR UPDATE OF c SKIP LOCKED",
	.nargs = 3,
	.argtypes = {INT4OID, INT8OID, INT4OID},
};

static SessionPlan next_plan = {
	.sql = "SELECT max(change_id) FROM " PAGE
	" HAVING count(*) = $3 AND bool_and(is_old)",
	.nargs = 3,
	.argtypes = {INT4OID, INT8OID, INT4OID},
};

/* The number in a row of a result. */
static int64
result_int64(uint64 row, int column)
{
	bool		isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
									   column, &isnull));
}

/* Tells the consumers that lose changes up to this one. */
static void
lose(const ExtensionObjects *objects, int64 change_id)
{
	Datum		values[1];
	uint64		n;

	values[0] = Int64GetDatum(change_id);
	n = session_execute(objects, &lose_plan, values, NULL, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < n; i++)
		ereport(WARNING,
				(errmsg("consumer \"%s\" of the change feed has lost " INT64_FORMAT " changes",
						SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
						result_int64(i, 2)),
				 errdetail("There were more than fsync.change_max_rows (%d).",
						   setting_change_max_rows)));
	(void) session_execute(objects, &forget_plan, values, NULL, SPI_OK_DELETE);
}

/* Removes what the plan says, as far as it can go; how many went. */
static uint64
remove_changes(const ExtensionObjects *objects, SessionPlan *plan, Datum *values)
{
	uint64		n = session_execute(objects, plan, values, NULL, SPI_OK_SELECT);
	Datum	   *ids = palloc(sizeof(Datum) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
		ids[i] = Int64GetDatum(result_int64(i, 1));
	if (n > 0)
		feed_history_shorten(objects,
							 PointerGetDatum(construct_array(ids, (int) n, INT8OID,
															 sizeof(int64), FLOAT8PASSBYVAL,
															 TYPALIGN_DOUBLE)));
	return prune_rows(objects, &remove_plan, ids, (int) n);
}

/* False: there was no surplus, or none that can go. */
static bool
remove_surplus(const ExtensionObjects *objects)
{
	Datum		values[2];

	values[0] = Int32GetDatum(setting_change_max_rows);
	if (session_execute(objects, &surplus_plan, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	values[0] = Int64GetDatum(result_int64(0, 1));
	lose(objects, DatumGetInt64(values[0]));
	values[1] = Int32GetDatum(BATCH);
	return remove_changes(objects, &first_plan, values) > 0;
}

/* False: the end was reached. */
static bool
remove_old(const ExtensionObjects *objects, int64 *position)
{
	Datum		values[3];
	bool		more;
	int64		next;

	values[0] = Int32GetDatum(setting_change_retention_min);
	values[1] = Int64GetDatum(*position);
	values[2] = Int32GetDatum(BATCH);
	more = session_execute(objects, &next_plan, values, NULL, SPI_OK_SELECT) == 1;
	next = more ? result_int64(0, 1) : 0;
	(void) remove_changes(objects, &old_plan, values);
	*position = next;
	return more;
}

bool
feed_prune(const ExtensionObjects *objects, int64 *position)
{
	bool		more = false;

	if (!session_begin(objects, "fsync: pruning file_changes"))
		return false;
	if (setting_change_max_rows > 0)
		more = remove_surplus(objects);
	if (!more && setting_change_retention_min > 0)
		more = remove_old(objects, position);
	session_commit();
	return more;
}
