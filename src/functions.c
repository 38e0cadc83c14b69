/*-------------------------------------------------------------------------
 *
 * functions.c
 *		Registering repositories: SQL-callable functions, and the triggers on
 *		fsync_repositories.
 *
 * These functions touch no file: path_check.c lets fsync-tree do it.  They
 * work on the tables as their owner, so that EXECUTE alone says who may call
 * them; registering a path takes the right to read the server's files as well,
 * and that is asked for before anything that could tell whether a path exists.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "feed_history.h"
#include "functions.h"
#include "path_check.h"
#include "registrations.h"
#include "requests.h"
#include "shown.h"

PG_FUNCTION_INFO_V1(fsync_add_repository);
PG_FUNCTION_INFO_V1(fsync_remove_repository);
PG_FUNCTION_INFO_V1(fsync_activate_repository);
PG_FUNCTION_INFO_V1(fsync_repositories_guard);
PG_FUNCTION_INFO_V1(fsync_repositories_cleared);
PG_FUNCTION_INFO_V1(fsync_repositories_changed);

/* The row that is being inserted was checked: see fsync_repositories_guard(). */
static bool registering = false;

static SessionPlan insert_plan = {
	.sql = "INSERT INTO %1$s.fsync_repositories"
	" (repository_id, path, user_area, watch_root, active, database_oid, state)"
	" VALUES ($1, $2, $3, $4, true, $5, 'starting')"
	" ON CONFLICT DO NOTHING",
	.nargs = 5,
	.argtypes = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, OIDOID},
};

static SessionPlan same_root_plan = {
	.sql = "SELECT repository_id FROM %1$s.fsync_repositories WHERE watch_root = $1",
	.nargs = 1,
	.argtypes = {TEXTOID},
};

static SessionPlan delete_plan = {
	.sql = "DELETE FROM %1$s.fsync_repositories WHERE repository_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan path_plan = {
	.sql = "SELECT path, user_area, root_identity FROM %1$s.fsync_repositories"
	" WHERE repository_id = $1 FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan activate_plan = {
	.sql = "UPDATE %1$s.fsync_repositories SET active = true, database_oid = $2,"
	" watch_root = $3, state = 'starting', state_reason = NULL, state_hint = NULL"
	" WHERE repository_id = $1",
	.nargs = 3,
	.argtypes = {UUIDOID, OIDOID, TEXTOID},
};

/* ---------------------------------------------------------------------
 * Shared by all functions
 * ---------------------------------------------------------------------
 */

void
functions_find_extension(ExtensionObjects *objects)
{
	if (!session_find_extension(objects))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", EXTENSION_NAME)));
	if (strcmp(objects->version, EXTENSION_VERSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" has version %s in this database, but the library is of version %s",
						EXTENSION_NAME, objects->version, EXTENSION_VERSION),
				 errhint("Run ALTER EXTENSION %s UPDATE.", EXTENSION_NAME)));
}

static void
require_preloaded(void)
{
	if (!requests_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fsync must be loaded via shared_preload_libraries"),
				 errhint("Set shared_preload_libraries = 'fsync' in postgresql.conf and restart the server.")));
}

void
functions_require_workers(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("fsync does not work during recovery"),
				 errhint("On a standby file_records is what the primary has made it; call this function there.")));
	require_preloaded();
}

void
functions_require_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

void
functions_require_path_length(const char *path, const char *below)
{
	size_t		len = strlen(path);

	if (below != NULL)
		len += 1 + strlen(below);
	if (len >= PATH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path is too long"),
				 errdetail("It has %zu bytes; a path can have at most %d.", len,
						   PATH_MAX - 1)));
}

char *
functions_uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

void
functions_unknown_repository(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("repository \"%s\" does not exist", functions_uuid_text(id)),
			 errhint("fsync_status() lists the repositories of this database.")));
}

Tuplestorestate *
functions_begin_result(FunctionCallInfo fcinfo, TupleDesc *desc)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old_context;
	Tuplestorestate *store;

	if (info == NULL || !IsA(info, ReturnSetInfo) ||
		!(info->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	old_context = MemoryContextSwitchTo(info->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, desc) != TYPEFUNC_COMPOSITE)
		*desc = CreateTupleDescCopy(info->expectedDesc);
	store = tuplestore_begin_heap((info->allowedModes & SFRM_Materialize_Random) != 0,
								  false, work_mem);
	info->returnMode = SFRM_Materialize;
	info->setResult = store;
	info->setDesc = *desc;
	MemoryContextSwitchTo(old_context);
	return store;
}

/* SPI's column for each of the result's; 0: there is none. */
static int *
columns_by_name(TupleDesc desc)
{
	int		   *columns = palloc0(sizeof(int) * desc->natts);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		int			column = att->attisdropped ? 0 :
			SPI_fnumber(SPI_tuptable->tupdesc, NameStr(att->attname));

		if (column <= 0)
			continue;
		if (SPI_gettypeid(SPI_tuptable->tupdesc, column) != att->atttypid)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of a table of extension \"%s\" was given another type",
							NameStr(att->attname), EXTENSION_NAME)));
		columns[i] = column;
	}
	return columns;
}

void
functions_put_rows(Tuplestorestate *store, TupleDesc desc)
{
	int		   *columns = columns_by_name(desc);
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);

	for (uint64 row = 0; row < SPI_processed; row++)
	{
		for (int i = 0; i < desc->natts; i++)
		{
			nulls[i] = columns[i] == 0;
			if (!nulls[i])
				values[i] = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
										  columns[i], &nulls[i]);
		}
		tuplestore_putvalues(store, desc, values, nulls);
	}
}

/* ---------------------------------------------------------------------
 * Checks
 * ---------------------------------------------------------------------
 */

static void
require_right_to_read_files(void)
{
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to register a directory"),
				 errhint("Only roles with privileges of pg_read_server_files may do so.")));
}

/*
 * The directory to watch.  A user_area is a path below path, said in plain
 * steps; where its steps are symbolic links, path_check() resolves them.
 */
static char *
join_user_area(const char *path, const char *user_area)
{
	const char *p = user_area;

	functions_require_path_length(path, user_area);
	if (path[0] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path \"%s\" is not absolute", path),
				 errhint("Begin it with \"/\".")));
	if (user_area == NULL)
		return pstrdup(path);

	while (true)
	{
		size_t		len = strcspn(p, "/");

		if (len == 0 || (len == 1 && p[0] == '.') ||
			(len == 2 && p[0] == '.' && p[1] == '.'))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid user_area \"%s\"", user_area),
					 errhint("Name a sub-directory of path, without \".\", \"..\" or empty components.")));
		if (p[len] == '\0')
			break;
		p += len + 1;
	}
	return psprintf("%s/%s", path, user_area);
}

/* ---------------------------------------------------------------------
 * Functions
 * ---------------------------------------------------------------------
 */

/* Inserts; says which of the two unique keys is taken. */
static void
insert_repository(const ExtensionObjects *objects, Datum *values, const char *nulls)
{
	uint64		inserted;

	registering = true;
	PG_TRY();
	{
		inserted = session_execute(objects, &insert_plan, values, nulls, SPI_OK_INSERT);
	}
	PG_FINALLY();
	{
		registering = false;
	}
	PG_END_TRY();
	if (inserted == 1)
		return;

	if (session_execute(objects, &same_root_plan, &values[3], NULL, SPI_OK_SELECT) > 0)
	{
		bool		isnull;
		Datum		other = SPI_getbinval(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, 1, &isnull);

		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("directory \"%s\" is already registered",
						shown_path(TextDatumGetCString(values[3]))),
				 errdetail("It is watched as repository \"%s\".",
						   functions_uuid_text(DatumGetUUIDP(other)))));
	}
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("repository \"%s\" already exists",
					functions_uuid_text(DatumGetUUIDP(values[0])))));
}

Datum
fsync_add_repository(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	char	   *path;
	char	   *user_area = NULL;
	char	   *root;
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};
	CheckedPath checked;

	functions_require_workers();
	PreventCommandIfReadOnly("fsync_add_repository()");
	require_right_to_read_files();

	/* Before the arguments: that of an older version has fewer of them. */
	functions_find_extension(&objects);
	functions_require_argument(fcinfo, 0, "path");
	functions_require_argument(fcinfo, 1, "repository_id");
	path = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(2))
		user_area = text_to_cstring(PG_GETARG_TEXT_PP(2));
	settings_check_arguments(fcinfo, 3);

	values[0] = PG_GETARG_DATUM(1);
	values[1] = PG_GETARG_DATUM(0);
	values[2] = user_area != NULL ? PG_GETARG_DATUM(2) : (Datum) 0;
	if (user_area == NULL)
		nulls[2] = 'n';
	path = join_user_area(path, user_area);
	path_check(path, &checked);
	root = checked.root;
	values[3] = CStringGetTextDatum(root);
	values[4] = ObjectIdGetDatum(MyDatabaseId);

	session_scope_enter(&scope, &objects);
	insert_repository(&objects, values, nulls);
	registration_store(&objects, DatumGetUUIDP(values[0]), root, path, checked.identity);
	(void) settings_store(&objects, values[0], fcinfo, 3);
	session_scope_leave(&scope);
	requests_wake_at_commit();

	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}

Datum
fsync_remove_repository(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	Datum		values[1];
	uint64		deleted;

	PreventCommandIfReadOnly("fsync_remove_repository()");
	functions_require_argument(fcinfo, 0, "repository_id");
	functions_find_extension(&objects);
	values[0] = PG_GETARG_DATUM(0);

	/* What the caller has pending, as the caller; then what this removes. */
	session_constraints_immediate();
	session_scope_enter(&scope, &objects);
	deleted = session_execute(&objects, &delete_plan, values, NULL, SPI_OK_DELETE);
	session_scope_leave(&scope);
	if (deleted == 0)
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	PG_RETURN_VOID();
}

Datum
fsync_activate_repository(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3];
	char	   *given = NULL;
	char	   *root;
	char	   *identity = NULL;
	CheckedPath checked;

	functions_require_workers();
	PreventCommandIfReadOnly("fsync_activate_repository()");
	require_right_to_read_files();
	functions_require_argument(fcinfo, 0, "repository_id");
	functions_find_extension(&objects);

	values[0] = PG_GETARG_DATUM(0);
	session_scope_enter(&scope, &objects);
	if (session_execute(&objects, &path_plan, values, NULL, SPI_OK_SELECT) == 1)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *path = SPI_getvalue(tuple, desc, 1);
		char	   *user_area = SPI_getvalue(tuple, desc, 2);
		MemoryContext old_context = MemoryContextSwitchTo(context);

		given = join_user_area(path, user_area);

		/* Restored on another disk, it is to be seen as another. */
		identity = SPI_getvalue(tuple, desc, 3);
		MemoryContextSwitchTo(old_context);
	}
	session_scope_leave(&scope);
	if (given == NULL)
		functions_unknown_repository(PG_GETARG_UUID_P(0));

	path_check(given, &checked);
	root = checked.root;
	if (identity == NULL)
		identity = checked.identity;
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	values[2] = CStringGetTextDatum(root);
	session_scope_enter(&scope, &objects);
	if (session_execute(&objects, &activate_plan, values, NULL, SPI_OK_UPDATE) == 1)
		registration_store(&objects, PG_GETARG_UUID_P(0), root, given, identity);
	session_scope_leave(&scope);
	requests_wake_at_commit();
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * Triggers
 * ---------------------------------------------------------------------
 */

/*
 * For whoever has EXECUTE on these functions could make a trigger of them on a
 * table of his own, they look which table calls them.
 */
static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	ExtensionObjects objects;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by a trigger")));
	if (session_find_extension(&objects) &&
		RelationGetRelid(data->tg_relation) != objects.repositories)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("trigger function is for table \"%s\" alone", "fsync_repositories")));
	return data;
}

static Datum
get_column(HeapTuple tuple, TupleDesc desc, const char *name, bool *isnull)
{
	int			attnum = SPI_fnumber(desc, name);

	if (attnum <= 0)
		elog(ERROR, "column \"%s\" does not exist", name);
	return SPI_getbinval(tuple, desc, attnum, isnull);
}

/* What a row becomes that a restored dump, or somebody's INSERT, brings. */
static HeapTuple
make_inactive(HeapTuple tuple, TupleDesc desc)
{
	int			columns[4];
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	columns[0] = SPI_fnumber(desc, "active");
	values[0] = BoolGetDatum(false);
	columns[1] = SPI_fnumber(desc, "state");
	values[1] = CStringGetTextDatum("inactive");
	columns[2] = SPI_fnumber(desc, "state_reason");
	values[2] = CStringGetTextDatum("the repository was not added in this database");
	columns[3] = SPI_fnumber(desc, "state_hint");
	values[3] = CStringGetTextDatum("Call fsync_activate_repository() to track its directory here.");
	return heap_modify_tuple_by_cols(tuple, desc, 4, columns, values, nulls);
}

Datum
fsync_repositories_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	bool		is_update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	HeapTuple	tuple = is_update ? data->tg_newtuple : data->tg_trigtuple;
	bool		isnull;

	if (is_update)
	{
		Datum		before = get_column(data->tg_trigtuple, desc, "repository_id", &isnull);
		Datum		after = get_column(tuple, desc, "repository_id", &isnull);

		if (isnull || !DatumGetBool(DirectFunctionCall2(uuid_eq, before, after)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("repository_id cannot be changed"),
					 errhint("Remove the repository and add it again.")));
	}
	else if (!registering)
		tuple = make_inactive(tuple, desc);

	settings_check_row(tuple, desc);
	return PointerGetDatum(tuple);
}

/*
 * Deletes from a table what belongs to the repository, or to any: id is NULL.
 * Consumers of all repositories have a NULL there, and stay.
 */
static void
delete_rows(const ExtensionObjects *objects, const char *table, Datum *id)
{
	Oid			argtypes[1] = {UUIDOID};
	char	   *sql = psprintf("DELETE FROM %s.%s%s", objects->schema_name, table,
							   id != NULL ? " WHERE repository_id = $1" :
							   " WHERE repository_id IS NOT NULL");
	int			rc = SPI_execute_with_args(sql, id != NULL ? 1 : 0, argtypes, id,
										   NULL, false, 0);

	if (rc != SPI_OK_DELETE)
		elog(ERROR, "unexpected result of \"%s\": %s", sql, SPI_result_code_string(rc));
}

Datum
fsync_repositories_cleared(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	ExtensionObjects objects;
	SessionScope scope;
	Datum		id = (Datum) 0;
	Datum	   *one = NULL;
	bool		isnull;
	int			own_depth;
	static const char *const tables[] = {
		"file_records", "fsync_verifications", "fsync_problems", "sync_operations",
		"fsync_consumer_positions", "fsync_consumer_deliveries", "file_changes",
		"fsync_feed_history"
	};

	/* When the extension itself goes, so do the tables. */
	if (!session_find_extension(&objects))
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
	{
		id = get_column(data->tg_trigtuple, RelationGetDescr(data->tg_relation),
						"repository_id", &isnull);
		one = &id;
	}
	session_constraints_immediate();
	session_scope_enter(&scope, &objects);
	registration_remove(&objects, one != NULL ? DatumGetUUIDP(id) : NULL);
	own_depth = feed_history_own_depth(feed_history_depth());
	PG_TRY();
	{
		for (int i = 0; i < (int) lengthof(tables); i++)
			delete_rows(&objects, tables[i], one);
	}
	PG_FINALLY();
	{
		(void) feed_history_own_depth(own_depth);
	}
	PG_END_TRY();
	session_scope_leave(&scope);
	return PointerGetDatum(NULL);
}

Datum
fsync_repositories_changed(PG_FUNCTION_ARGS)
{
	(void) trigger_data(fcinfo);
	if (requests_available() && !RecoveryInProgress())
		requests_wake_at_commit();
	return PointerGetDatum(NULL);
}
