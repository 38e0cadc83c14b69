/*-------------------------------------------------------------------------
 *
 * functions_consumers.c
 *		Consumers of the change feed: fsync_create_consumer(), fsync_ack(),
 *		fsync_nack(), fsync_extend(), fsync_drop_consumer().
 *
 * A consumer begins at the last change that is visible when it is made, and
 * its files, if it wants those that exist, are those of the same snapshot: so
 * nothing falls between the two.
 *
 * A session says what became of the changes that it was handed by their ids.
 * No change of that id may be with it any more (the time was over, another has
 * it), so each of these functions returns how many it met.  No ids at all, as
 * array_agg() over nothing has them, are no error: a loop that found nothing to
 * do calls them like that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "functions.h"
#include "shown.h"

PG_FUNCTION_INFO_V1(fsync_create_consumer);
PG_FUNCTION_INFO_V1(fsync_ack);
PG_FUNCTION_INFO_V1(fsync_nack);
PG_FUNCTION_INFO_V1(fsync_extend);
PG_FUNCTION_INFO_V1(fsync_drop_consumer);

/* Names in a message. */
#define MAX_NAMED		10

static SessionPlan feed_plan = {
	.sql = "SELECT change_feed FROM %1$s.fsync_repositories"
	" WHERE repository_id = $1 FOR KEY SHARE",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan feeds_plan = {
	.sql = "SELECT repository_id, watch_root, count(*) OVER () FROM %1$s.fsync_repositories"
	" WHERE NOT change_feed ORDER BY created_at, repository_id LIMIT $1",
	.nargs = 1,
	.argtypes = {INT8OID},
};

static SessionPlan consumers_plan = {
	.sql = "SELECT name, count(*) OVER () FROM %1$s.fsync_consumer_positions"
	" WHERE repository_id IS NULL OR repository_id = $1 ORDER BY name LIMIT $2",
	.nargs = 2,
	.argtypes = {UUIDOID, INT8OID},
};

/* One statement, so that files and changes are of one moment. */
static SessionPlan create_plan = {
	.sql = "INSERT INTO %1$s.fsync_consumer_positions"
	" (name, repository_id, change_id, file_id, last_file_id)"
	" SELECT $1, $2, coalesce((SELECT max(change_id) FROM %1$s.file_changes), 0),"
	" CASE WHEN $3 THEN 0 END,"
	" CASE WHEN $3 THEN (SELECT max(id) FROM %1$s.file_records) END"
	" ON CONFLICT DO NOTHING",
	.nargs = 3,
	.argtypes = {TEXTOID, UUIDOID, BOOLOID},
};

static SessionPlan drop_plan = {
	.sql = "DELETE FROM %1$s.fsync_consumer_positions WHERE name = $1",
	.nargs = 1,
	.argtypes = {TEXTOID},
};

static SessionPlan drop_deliveries_plan = {
	.sql = "DELETE FROM %1$s.fsync_consumer_deliveries WHERE consumer = $1",
	.nargs = 1,
	.argtypes = {TEXTOID},
};

static SessionPlan known_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_consumer_positions WHERE name = $1",
	.nargs = 1,
	.argtypes = {TEXTOID},
};

static SessionPlan ack_plan = {
	.sql = "DELETE FROM %1$s.fsync_consumer_deliveries"
	" WHERE consumer = $1 AND change_id = ANY ($2) AND attempts > 0",
	.nargs = 2,
	.argtypes = {TEXTOID, INT8ARRAYOID},
};

/* Given back: also what came too late, as long as nobody acknowledged it. */
static SessionPlan nack_plan = {
	.sql = "UPDATE %1$s.fsync_consumer_deliveries SET visible_at = $3"
	" WHERE consumer = $1 AND change_id = ANY ($2) AND attempts > 0",
	.nargs = 3,
	.argtypes = {TEXTOID, INT8ARRAYOID, TIMESTAMPTZOID},
};

/* Only what is in flight: the rest may be with another session already. */
static SessionPlan extend_plan = {
	.sql = "UPDATE %1$s.fsync_consumer_deliveries SET visible_at = greatest(visible_at, $3)"
	" WHERE consumer = $1 AND change_id = ANY ($2) AND attempts > 0 AND visible_at > $4",
	.nargs = 4,
	.argtypes = {TEXTOID, INT8ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
};

void
functions_require_consumer(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be null")));
}

void
functions_unknown_consumer(FunctionCallInfo fcinfo)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("consumer \"%s\" does not exist",
					text_to_cstring(PG_GETARG_TEXT_PP(0))),
			 errhint("Create it with fsync_create_consumer().")));
}

/* The repository exists and has a feed; the session's scope is entered. */
static void
check_feed(const ExtensionObjects *objects, const pg_uuid_t *id)
{
	Datum		values[1];
	bool		isnull;

	values[0] = UUIDPGetDatum(id);
	if (session_execute(objects, &feed_plan, values, NULL, SPI_OK_SELECT) == 0)
		functions_unknown_repository(id);
	if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
									1, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the change feed of repository \"%s\" is off",
						functions_uuid_text(id)),
				 errhint("Switch it on with fsync_configure_repository(repository_id, change_feed => true).")));
}

/* How many of so many things are named, and that there are more. */
static void
append_more(StringInfo out, int64 all)
{
	if (all > MAX_NAMED)
		appendStringInfo(out, ", and " INT64_FORMAT " more", all - MAX_NAMED);
}

/*
 * A consumer of all repositories gets what their feeds tell: of one whose feed is
 * off it would wait for ever.  The session's scope is entered.
 */
static void
warn_of_feeds(const ExtensionObjects *objects)
{
	Datum		limit = Int64GetDatum(MAX_NAMED);
	uint64		n = session_execute(objects, &feeds_plan, &limit, NULL, SPI_OK_SELECT);
	StringInfoData names;
	int64		all = 0;

	if (n == 0)
		return;
	initStringInfo(&names);
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		all = DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull));
		appendStringInfo(&names, "%s\"%s\" (%s)", i > 0 ? ", " : "",
						 shown_path(SPI_getvalue(tuple, desc, 2)), SPI_getvalue(tuple, desc, 1));
	}
	append_more(&names, all);
	ereport(WARNING,
			(errmsg("the consumer gets no changes of repositories whose change feed is off"),
			 errdetail("It is off for %s.", names.data),
			 errhint("Switch it on with fsync_configure_repository(repository_id, change_feed => true).")));
}

void
consumers_warn(const ExtensionObjects *objects, const pg_uuid_t *id)
{
	Datum		values[2];
	uint64		n;
	StringInfoData names;
	int64		all = 0;

	values[0] = UUIDPGetDatum(id);
	values[1] = Int64GetDatum(MAX_NAMED);
	n = session_execute(objects, &consumers_plan, values, NULL, SPI_OK_SELECT);
	if (n == 0)
		return;
	initStringInfo(&names);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		all = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2,
										  &isnull));
		appendStringInfo(&names, "%s\"%s\"", i > 0 ? ", " : "",
						 SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	}
	append_more(&names, all);
	ereport(WARNING,
			(errmsg("consumers get no changes of repository \"%s\", as its change feed is off",
					functions_uuid_text(id)),
			 errdetail("There is consumer %s.", names.data),
			 errhint("Switch it on with fsync_configure_repository(repository_id, change_feed => true).")));
}

void
consumers_warn_if_off(const ExtensionObjects *objects, const pg_uuid_t *id)
{
	Datum		value = UUIDPGetDatum(id);
	bool		isnull;

	if (session_execute(objects, &feed_plan, &value, NULL, SPI_OK_SELECT) == 1 &&
		!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)))
		consumers_warn(objects, id);
}

Datum
fsync_create_consumer(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	uint64		created;

	PreventCommandIfReadOnly("fsync_create_consumer()");
	functions_require_consumer(fcinfo);
	if (VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name must not be empty")));
	functions_find_extension(&objects);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = BoolGetDatum(!PG_ARGISNULL(2) && PG_GETARG_BOOL(2));
	if (PG_ARGISNULL(1))
		nulls[1] = 'n';

	session_scope_enter(&scope, &objects);
	if (!PG_ARGISNULL(1))
		check_feed(&objects, PG_GETARG_UUID_P(1));
	created = session_execute(&objects, &create_plan, values, nulls, SPI_OK_INSERT);
	if (created > 0 && PG_ARGISNULL(1))
		warn_of_feeds(&objects);
	session_scope_leave(&scope);
	if (created == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("consumer \"%s\" already exists",
						text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	PG_RETURN_VOID();
}

Datum
fsync_drop_consumer(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	Datum		values[1];
	uint64		dropped;

	PreventCommandIfReadOnly("fsync_drop_consumer()");
	functions_require_consumer(fcinfo);
	functions_find_extension(&objects);
	values[0] = PG_GETARG_DATUM(0);
	session_scope_enter(&scope, &objects);
	dropped = session_execute(&objects, &drop_plan, values, NULL, SPI_OK_DELETE);
	(void) session_execute(&objects, &drop_deliveries_plan, values, NULL, SPI_OK_DELETE);
	session_scope_leave(&scope);
	if (dropped == 0)
		functions_unknown_consumer(fcinfo);
	PG_RETURN_VOID();
}

/*
 * Runs a plan on the deliveries of a consumer that the second argument names,
 * with the values of its further parameters.  Returns how many it met; NULL
 * names none.  Error: there is no such consumer.
 */
static uint64
change_deliveries(FunctionCallInfo fcinfo, SessionPlan *plan, Datum *values, int expected)
{
	ExtensionObjects objects;
	SessionScope scope;
	bool		known = true;
	uint64		met = 0;

	functions_require_consumer(fcinfo);
	functions_find_extension(&objects);
	values[0] = PG_GETARG_DATUM(0);
	session_scope_enter(&scope, &objects);
	if (!PG_ARGISNULL(1))
	{
		values[1] = PG_GETARG_DATUM(1);
		met = session_execute(&objects, plan, values, NULL, expected);
	}
	if (met == 0)
		known = session_execute(&objects, &known_plan, values, NULL, SPI_OK_SELECT) == 1;
	session_scope_leave(&scope);
	if (!known)
		functions_unknown_consumer(fcinfo);
	return met;
}

/* So much later than now as the third argument says, which has that name. */
static TimestampTz
later_than(TimestampTz now, FunctionCallInfo fcinfo, const char *name, bool may_be_zero)
{
	TimestampTz later;

	functions_require_argument(fcinfo, 2, name);
	later = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													TimestampTzGetDatum(now),
													PG_GETARG_DATUM(2)));
	if (later < now || (later == now && !may_be_zero))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 may_be_zero ? errmsg("%s must not be negative", name) :
				 errmsg("%s must be greater than zero", name)));
	return later;
}

Datum
fsync_ack(PG_FUNCTION_ARGS)
{
	Datum		values[2];

	PreventCommandIfReadOnly("fsync_ack()");
	PG_RETURN_INT64((int64) change_deliveries(fcinfo, &ack_plan, values, SPI_OK_DELETE));
}

Datum
fsync_nack(PG_FUNCTION_ARGS)
{
	Datum		values[3];

	PreventCommandIfReadOnly("fsync_nack()");
	values[2] = TimestampTzGetDatum(later_than(GetCurrentTimestamp(), fcinfo, "delay", true));
	PG_RETURN_INT64((int64) change_deliveries(fcinfo, &nack_plan, values, SPI_OK_UPDATE));
}

Datum
fsync_extend(PG_FUNCTION_ARGS)
{
	Datum		values[4];
	TimestampTz now = GetCurrentTimestamp();

	PreventCommandIfReadOnly("fsync_extend()");
	values[2] = TimestampTzGetDatum(later_than(now, fcinfo, "visibility_timeout", false));
	values[3] = TimestampTzGetDatum(now);
	PG_RETURN_INT64((int64) change_deliveries(fcinfo, &extend_plan, values, SPI_OK_UPDATE));
}
