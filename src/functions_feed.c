/*-------------------------------------------------------------------------
 *
 * functions_feed.c
 *		Handing out changes to the consumers of the feed: fsync_next_changes().
 *
 * A consumer is a position in file_changes, and the deliveries up to there
 * that are not acknowledged.  So it costs nothing to be far behind, and what
 * is kept for it is what its sessions work on.  fsync_next_changes() locks the
 * position, which puts the sessions of a consumer in a row for a millisecond;
 * acknowledging locks nothing but the deliveries themselves.
 *
 * A change must not overtake an earlier one of the same file, and not one of
 * the same path either: an application may well name things by path.  A change
 * that is held up by a delivery of another session is passed over and waits
 * among the deliveries, so that one file holds up no other.
 *
 * A consumer from the start first gets the files that were there when it was
 * made, which the feed need not tell any more.  They have the ids of no
 * change, but minus the file's, and are delivered as they are at that time:
 * whatever happened since its making comes as a change later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "functions.h"
#include "path_key.h"

PG_FUNCTION_INFO_V1(fsync_next_changes);

#define MAX_ROWS		10000

/* Deliveries that are held up, beyond which the feed is read no further. */
#define MAX_HELD_UP		10000

static SessionPlan lock_plan = {
	.sql = "SELECT repository_id, change_id, file_id, last_file_id, lost_changes"
	" FROM %1$s.fsync_consumer_positions WHERE name = $1 FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {TEXTOID},
};

/* In their order: the files that were there first, then changes. */
static SessionPlan deliveries_plan = {
	.sql = "SELECT d.change_id, d.repository_id, d.file_id, d.file_path, d.old_path,"
	" d.visible_at <= $2 AS ready, d.change_id < 0 AND f.id IS NULL AS gone"
	" FROM %1$s.fsync_consumer_deliveries d"
	" LEFT JOIN %1$s.file_records f ON d.change_id < 0 AND f.id = d.file_id"
	" AND f.missing_since IS NULL"
	" WHERE d.consumer = $1 ORDER BY d.change_id > 0, abs(d.change_id)",
	.nargs = 2,
	.argtypes = {TEXTOID, TIMESTAMPTZOID},
};

static SessionPlan files_plan = {
	.sql = "SELECT -id, repository_id, id, file_path, NULL FROM %1$s.file_records"
	" WHERE id > $1 AND id <= $2 AND ($3 IS NULL OR repository_id = $3)"
	" AND missing_since IS NULL"
	" ORDER BY id LIMIT $4",
	.nargs = 4,
	.argtypes = {INT8OID, INT8OID, UUIDOID, INT4OID},
	.index_only = true,
};

static SessionPlan changes_plan = {
	.sql = "SELECT change_id, repository_id, file_id, file_path, old_path"
	" FROM %1$s.file_changes"
	" WHERE change_id > $1 AND ($2 IS NULL OR repository_id = $2)"
	" ORDER BY change_id LIMIT $3",
	.nargs = 3,
	.argtypes = {INT8OID, UUIDOID, INT4OID},
	.index_only = true,
};

static SessionPlan deliver_again_plan = {
	.sql = "UPDATE %1$s.fsync_consumer_deliveries"
	" SET visible_at = $3, attempts = attempts + 1"
	" WHERE consumer = $1 AND change_id = ANY ($2)",
	.nargs = 3,
	.argtypes = {TEXTOID, INT8ARRAYOID, TIMESTAMPTZOID},
};

static SessionPlan forget_plan = {
	.sql = "DELETE FROM %1$s.fsync_consumer_deliveries"
	" WHERE consumer = $1 AND change_id = ANY ($2)",
	.nargs = 2,
	.argtypes = {TEXTOID, INT8ARRAYOID},
};

static SessionPlan deliver_plan = {
	.sql = "INSERT INTO %1$s.fsync_consumer_deliveries"
	" (consumer, change_id, repository_id, file_id, file_path, old_path,"
	" visible_at, attempts)"
	" SELECT $1, c.change_id, c.repository_id, c.file_id, c.file_path, c.old_path,"
	" CASE WHEN c.taken THEN $2 ELSE '-infinity' END, c.taken::integer"
	" FROM unnest($3, $4, $5, $6, $7, $8)"
	" AS c (change_id, repository_id, file_id, file_path, old_path, taken)",
	.nargs = 8,
	.argtypes = {TEXTOID, TIMESTAMPTZOID, INT8ARRAYOID, UUIDARRAYOID, INT8ARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID},
};

static SessionPlan advance_plan = {
	.sql = "UPDATE %1$s.fsync_consumer_positions"
	" SET change_id = $2, file_id = $3, last_file_id = $4 WHERE name = $1",
	.nargs = 4,
	.argtypes = {TEXTOID, INT8OID, INT8OID, INT8OID},
};

/* Files that were there before the consumer, as changes. */
static SessionPlan files_result_plan = {
	.sql = "SELECT -id AS change_id, repository_id, id AS file_id,"
	" 'added'::text AS operation, file_path, file_size, mod_time, content_hash,"
	" updated_at AS changed_at FROM %1$s.file_records"
	" WHERE id = ANY ($1) AND missing_since IS NULL ORDER BY id",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID},
};

static SessionPlan changes_result_plan = {
	.sql = "SELECT * FROM %1$s.file_changes WHERE change_id = ANY ($1)"
	" ORDER BY change_id",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID},
};

/* A change as far as handing it out goes. */
typedef struct FeedChange
{
	int64		change_id;
	Datum		repository_id;
	int64		file_id;
	Datum		file_path;
	Datum		old_path;
	bool		no_old_path;
	bool		taken;
} FeedChange;

/* What is held up: paths, and files as "/" and their id, which is no path. */
typedef struct HeldKey
{
	ProtoStr	key;
	uint32		hash;
	char		status;
} HeldKey;

#define SH_PREFIX heldtable
#define SH_ELEMENT_TYPE HeldKey
#define SH_KEY_TYPE ProtoStr
#define SH_KEY key
#define SH_HASH_KEY(tb, k)	path_hash(k)
#define SH_EQUAL(tb, a, b)	path_equal(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* A call of fsync_next_changes(). */
typedef struct Handout
{
	const ExtensionObjects *objects;
	Datum		name;
	int			max_rows;
	TimestampTz now;

	/* the consumer's position */
	Datum		repository_id;
	char		all_repositories;	/* 'n': repository_id is NULL, else ' ' */
	int64		change_id;
	int64		file_id;
	int64		last_file_id;	/* no files are left when file_id has got here */
	bool		moved;			/* the position */

	int64	   *taken;			/* change_id of those handed out */
	int			n_taken;
	int			n_again;		/* the first of these were delivered before */
	int64	   *gone;			/* deliveries of files that are no more */
	int			n_gone;
	List	   *fresh;			/* FeedChange *, to become deliveries */
	heldtable_hash *held;
	int			n_held;			/* changes */
} Handout;

static Datum
column(uint64 row, int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

/* False when there is no such consumer. */
static bool
lock_position(Handout *handout)
{
	bool		isnull;
	bool		no_files;
	int64		lost;

	if (session_execute(handout->objects, &lock_plan, &handout->name, NULL,
						SPI_OK_SELECT) == 0)
		return false;
	handout->repository_id = column(0, 1, &isnull);
	handout->all_repositories = isnull ? 'n' : ' ';
	handout->change_id = DatumGetInt64(column(0, 2, &isnull));
	handout->file_id = DatumGetInt64(column(0, 3, &isnull));
	handout->last_file_id = DatumGetInt64(column(0, 4, &no_files));
	if (no_files)
		handout->last_file_id = handout->file_id;
	lost = DatumGetInt64(column(0, 5, &isnull));
	if (lost > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("consumer \"%s\" has lost " INT64_FORMAT " changes",
						TextDatumGetCString(handout->name), lost),
				 errdetail("They were removed because there were more than fsync.change_max_rows."),
				 errhint("Drop the consumer, and create it again with from_start => true.")));
	return true;
}

static ProtoStr
path_key(Datum path)
{
	text	   *t = DatumGetTextPP(path);
	ProtoStr	key = {.data = VARDATA_ANY(t),.len = VARSIZE_ANY_EXHDR(t)};

	return key;
}

/* The keys of a change; returns their number. */
static int
change_keys(const FeedChange *change, ProtoStr keys[3])
{
	char	   *file = psprintf("/" INT64_FORMAT, change->file_id);
	int			n = 0;

	keys[n].data = file;
	keys[n++].len = strlen(file);
	keys[n++] = path_key(change->file_path);
	if (!change->no_old_path)
		keys[n++] = path_key(change->old_path);
	return n;
}

/*
 * Takes the change, unless it is with another session (not ready) or held up
 * by one that is.
 */
static bool
take(Handout *handout, const FeedChange *change, bool ready)
{
	ProtoStr	keys[3];
	int			n = change_keys(change, keys);
	bool		found;

	for (int i = 0; i < n && ready; i++)
		ready = heldtable_lookup(handout->held, keys[i]) == NULL;
	if (ready)
	{
		handout->taken[handout->n_taken++] = change->change_id;
		return true;
	}
	for (int i = 0; i < n; i++)
		(void) heldtable_insert(handout->held, keys[i], &found);
	handout->n_held++;
	return false;
}

/* Column 1 to 5 of a row: as deliveries_plan, files_plan, changes_plan have them. */
static void
read_change(uint64 row, FeedChange *change)
{
	bool		isnull;

	change->change_id = DatumGetInt64(column(row, 1, &isnull));
	change->repository_id = column(row, 2, &isnull);
	change->file_id = DatumGetInt64(column(row, 3, &isnull));
	change->file_path = column(row, 4, &isnull);
	change->old_path = column(row, 5, &change->no_old_path);
}

static void
take_deliveries(Handout *handout)
{
	Datum		values[2];
	uint64		n;

	values[0] = handout->name;
	values[1] = TimestampTzGetDatum(handout->now);
	n = session_execute(handout->objects, &deliveries_plan, values, NULL, SPI_OK_SELECT);
	handout->gone = palloc(sizeof(int64) * Max(n, 1));
	for (uint64 i = 0; i < n && handout->n_taken < handout->max_rows; i++)
	{
		FeedChange	change;
		bool		isnull;
		bool		ready = DatumGetBool(column(i, 6, &isnull));

		read_change(i, &change);
		if (ready && DatumGetBool(column(i, 7, &isnull)))
			handout->gone[handout->n_gone++] = change.change_id;
		else
			(void) take(handout, &change, ready);
	}
	handout->n_again = handout->n_taken;
}

/* Rows of files_plan or changes_plan; returns the last one's change_id. */
static int64
take_fresh(Handout *handout, uint64 n)
{
	int64		last = 0;

	for (uint64 i = 0; i < n && handout->n_taken < handout->max_rows; i++)
	{
		FeedChange *change = palloc(sizeof(FeedChange));

		read_change(i, change);
		change->taken = take(handout, change, true);
		handout->fresh = lappend(handout->fresh, change);
		last = change->change_id;
		handout->moved = true;
	}
	return last;
}

static bool
wants_more(const Handout *handout)
{
	return handout->n_taken < handout->max_rows && handout->n_held < MAX_HELD_UP;
}

static void
take_files(Handout *handout)
{
	while (handout->file_id < handout->last_file_id && wants_more(handout))
	{
		Datum		values[4];
		char		nulls[4] = {' ', ' ', handout->all_repositories, ' '};
		uint64		n;

		values[0] = Int64GetDatum(handout->file_id);
		values[1] = Int64GetDatum(handout->last_file_id);
		values[2] = handout->repository_id;
		values[3] = Int32GetDatum(handout->max_rows);
		n = session_execute(handout->objects, &files_plan, values, nulls, SPI_OK_SELECT);
		if (n > 0)
			handout->file_id = -take_fresh(handout, n);
		else
			handout->file_id = handout->last_file_id;
		handout->moved = true;
	}
}

static void
take_changes(Handout *handout)
{
	uint64		n;

	while (handout->file_id >= handout->last_file_id && wants_more(handout))
	{
		Datum		values[3];
		char		nulls[3] = {' ', handout->all_repositories, ' '};

		values[0] = Int64GetDatum(handout->change_id);
		values[1] = handout->repository_id;
		values[2] = Int32GetDatum(handout->max_rows);
		n = session_execute(handout->objects, &changes_plan, values, nulls,
							SPI_OK_SELECT);
		if (n == 0)
			break;
		handout->change_id = take_fresh(handout, n);
	}
}

static Datum
int8_array(const int64 *numbers, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(elements, n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
insert_deliveries(Handout *handout, TimestampTz visible_at)
{
	int			n = list_length(handout->fresh);
	int64	   *change_ids = palloc(sizeof(int64) * n);
	int64	   *file_ids = palloc(sizeof(int64) * n);
	Datum	   *repositories = palloc(sizeof(Datum) * n);
	Datum	   *paths = palloc(sizeof(Datum) * n);
	Datum	   *old_paths = palloc(sizeof(Datum) * n);
	bool	   *no_old_paths = palloc(sizeof(bool) * n);
	Datum	   *taken = palloc(sizeof(Datum) * n);
	int			dims[1] = {n};
	int			lbs[1] = {1};
	Datum		values[8];

	for (int i = 0; i < n; i++)
	{
		FeedChange *change = list_nth(handout->fresh, i);

		change_ids[i] = change->change_id;
		file_ids[i] = change->file_id;
		repositories[i] = change->repository_id;
		paths[i] = change->file_path;
		old_paths[i] = change->old_path;
		no_old_paths[i] = change->no_old_path;
		taken[i] = BoolGetDatum(change->taken);
	}
	values[0] = handout->name;
	values[1] = TimestampTzGetDatum(visible_at);
	values[2] = int8_array(change_ids, n);
	values[3] = PointerGetDatum(construct_array(repositories, n, UUIDOID, UUID_LEN,
												false, TYPALIGN_CHAR));
	values[4] = int8_array(file_ids, n);
	values[5] = PointerGetDatum(construct_array(paths, n, TEXTOID, -1, false,
												TYPALIGN_INT));
	values[6] = PointerGetDatum(construct_md_array(old_paths, no_old_paths, 1, dims,
												   lbs, TEXTOID, -1, false,
												   TYPALIGN_INT));
	values[7] = PointerGetDatum(construct_array(taken, n, BOOLOID, sizeof(bool), true,
												TYPALIGN_CHAR));
	(void) session_execute(handout->objects, &deliver_plan, values, NULL, SPI_OK_INSERT);
}

/* Writes what was taken, and how far the consumer is now. */
static void
write_handout(Handout *handout, TimestampTz visible_at)
{
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	values[0] = handout->name;
	if (handout->n_gone > 0)
	{
		values[1] = int8_array(handout->gone, handout->n_gone);
		(void) session_execute(handout->objects, &forget_plan, values, NULL,
							   SPI_OK_DELETE);
	}
	if (handout->n_again > 0)
	{
		values[1] = int8_array(handout->taken, handout->n_again);
		values[2] = TimestampTzGetDatum(visible_at);
		(void) session_execute(handout->objects, &deliver_again_plan, values, NULL,
							   SPI_OK_UPDATE);
	}
	if (handout->fresh != NIL)
		insert_deliveries(handout, visible_at);
	if (handout->moved)
	{
		values[1] = Int64GetDatum(handout->change_id);
		values[2] = Int64GetDatum(handout->file_id);
		values[3] = Int64GetDatum(handout->last_file_id);
		if (handout->file_id >= handout->last_file_id)
			nulls[2] = nulls[3] = 'n';
		(void) session_execute(handout->objects, &advance_plan, values, nulls,
							   SPI_OK_UPDATE);
	}
}

static void
return_changes(Handout *handout, Tuplestorestate *store, TupleDesc desc)
{
	int64	   *files = palloc(sizeof(int64) * Max(handout->n_taken, 1));
	int			n_files = 0;
	Datum		values[1];

	for (int i = 0; i < handout->n_taken; i++)
	{
		if (handout->taken[i] < 0)
			files[n_files++] = -handout->taken[i];
	}
	if (n_files > 0)
	{
		values[0] = int8_array(files, n_files);
		(void) session_execute(handout->objects, &files_result_plan, values, NULL,
							   SPI_OK_SELECT);
		functions_put_rows(store, desc);
	}
	values[0] = int8_array(handout->taken, handout->n_taken);
	(void) session_execute(handout->objects, &changes_result_plan, values, NULL,
						   SPI_OK_SELECT);
	functions_put_rows(store, desc);
}

static TimestampTz
add_interval(TimestampTz t, FunctionCallInfo fcinfo, int arg)
{
	TimestampTz later = t;

	if (!PG_ARGISNULL(arg))
		later = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														TimestampTzGetDatum(t),
														PG_GETARG_DATUM(arg)));
	if (later <= t)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("visibility_timeout must be greater than zero")));
	return later;
}

Datum
fsync_next_changes(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	TupleDesc	desc;
	Tuplestorestate *store = functions_begin_result(fcinfo, &desc);
	Handout		handout = {0};
	TimestampTz visible_at;

	PreventCommandIfReadOnly("fsync_next_changes()");
	functions_require_consumer(fcinfo);
	if (PG_ARGISNULL(1) || PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) > MAX_ROWS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be between 1 and %d", MAX_ROWS)));
	(void) add_interval(GetCurrentTimestamp(), fcinfo, 2);
	functions_find_extension(&objects);

	session_scope_enter(&scope, &objects);
	handout.objects = &objects;
	handout.name = PG_GETARG_DATUM(0);
	handout.max_rows = PG_GETARG_INT32(1);
	if (!lock_position(&handout))
		functions_unknown_consumer(fcinfo);

	/* The lock may have been long in coming. */
	handout.now = GetCurrentTimestamp();
	visible_at = add_interval(handout.now, fcinfo, 2);
	handout.taken = palloc(sizeof(int64) * handout.max_rows);
	handout.held = heldtable_create(CurrentMemoryContext, 256, NULL);
	take_deliveries(&handout);
	take_files(&handout);
	take_changes(&handout);
	write_handout(&handout, visible_at);
	return_changes(&handout, store, desc);
	session_scope_leave(&scope);
	return (Datum) 0;
}
