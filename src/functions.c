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

static SessionPlan overlap_plan = {
	.sql = "SELECT repository_id, watch_root, starts_with($2, watch_root || '/')"
	" FROM %1$s.fsync_repositories WHERE repository_id <> $1"
	" AND (starts_with($2, watch_root || '/') OR starts_with(watch_root, $2 || '/'))"
	" ORDER BY watch_root, repository_id LIMIT 10",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID},
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
				 errhint("Add fsync to shared_preload_libraries in postgresql.conf and restart the server.")));
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

void
functions_require_columns(TupleDesc desc, int columns)
{
	if (desc->natts != columns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("type \"%s\" was altered", format_type_be(desc->tdtypeid)),
				 errdetail("It has %d columns, and %d are expected.", desc->natts, columns),
				 errhint("Drop the attributes that were added to it.")));
	for (int i = 0; i < columns; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("type \"%s\" was altered", format_type_be(desc->tdtypeid)),
					 errdetail("An attribute was dropped."),
					 errhint("Drop the extension and create it again.")));
	}
}

TupleDesc
functions_row_type(FunctionCallInfo fcinfo, int columns)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	functions_require_columns(desc, columns);
	return BlessTupleDesc(desc);
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

void
functions_require_right_to_register(void)
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
char *
functions_join_user_area(const char *path, const char *user_area)
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

/* False where one of the two unique keys is taken. */
static bool
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
	return inserted == 1;
}

void
functions_check_root_is_free(const ExtensionObjects *objects, Datum root, const pg_uuid_t *id)
{
	bool		isnull;
	Datum		other;

	if (session_execute(objects, &same_root_plan, &root, NULL, SPI_OK_SELECT) == 0)
		return;
	other = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (id != NULL && memcmp(DatumGetUUIDP(other), id, sizeof(*id)) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("directory \"%s\" is already registered",
					shown_path(TextDatumGetCString(root))),
			 errdetail("It is watched as repository \"%s\".",
					   functions_uuid_text(DatumGetUUIDP(other)))));
}

/* A boolean that must not be NULL. */
static bool
boolean_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	functions_require_argument(fcinfo, arg, name);
	return PG_GETARG_BOOL(arg);
}

/*
 * Says with which repositories a new one overlaps, by its path; or as the same
 * directory that is mounted at another.  The session's scope is entered.
 */
static void
notice_overlaps(const ExtensionObjects *objects, Datum id, const char *root,
				const char *identity)
{
	Datum		values[2];
	uint64		n;
	ListCell   *lc;

	values[0] = id;
	values[1] = CStringGetTextDatum(root);
	n = session_execute(objects, &overlap_plan, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *other = SPI_getvalue(tuple, desc, 2);
		bool		isnull;
		bool		within = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
		const char *inner = within ? root + strlen(other) : other + strlen(root);

		ereport(NOTICE,
				(errmsg("directory \"%s\" %s \"%s\", which is watched as repository \"%s\"",
						shown_path(root), within ? "lies within" : "contains",
						shown_path(other), SPI_getvalue(tuple, desc, 1)),
				 errdetail("Each file that both track has a row in each of them."),
				 errhint("To leave it to the inner one, exclude \"%s/\" from the outer one.",
						 shown_path(inner))));
	}
	foreach(lc, registrations_load(objects))
	{
		Registration *other = lfirst(lc);

		if (memcmp(&other->id, DatumGetUUIDP(id), UUID_LEN) != 0 && identity[0] != '\0' &&
			strcmp(other->identity, identity) == 0 && strcmp(other->root, root) != 0)
			ereport(NOTICE,
					(errmsg("directory \"%s\" is the same as \"%s\", which is watched as repository \"%s\"",
							shown_path(root), shown_path(other->root),
							functions_uuid_text(&other->id)),
					 errdetail("Each file that both track has a row in each of them.")));
	}
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
	bool		if_not_exists;
	bool		must_exist;
	const pg_uuid_t *wanted;
	pg_uuid_t  *existing = NULL;
	bool		inserted;

	functions_require_workers();
	PreventCommandIfReadOnly("fsync_add_repository()");
	functions_require_right_to_register();

	/* Before the arguments: that of an older version has fewer of them. */
	functions_find_extension(&objects);
	functions_require_argument(fcinfo, 0, "path");
	wanted = PG_ARGISNULL(1) ? NULL : PG_GETARG_UUID_P(1);
	path = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(2))
		user_area = text_to_cstring(PG_GETARG_TEXT_PP(2));
	settings_check_arguments(fcinfo, 3);
	if_not_exists = boolean_argument(fcinfo, PG_NARGS() - 2, "if_not_exists");
	must_exist = boolean_argument(fcinfo, PG_NARGS() - 1, "must_exist");

	values[1] = PG_GETARG_DATUM(0);
	values[2] = user_area != NULL ? PG_GETARG_DATUM(2) : (Datum) 0;
	if (user_area == NULL)
		nulls[2] = 'n';
	path = functions_join_user_area(path, user_area);
	if (if_not_exists)
		existing = functions_find_registered(&objects, path, NULL, wanted);
	if (existing != NULL)
		PG_RETURN_UUID_P(existing);

	if (must_exist)
		path_check(path, &checked);
	else
		path_check_ahead(path, &checked);
	root = checked.root;
	values[0] = wanted != NULL ? PG_GETARG_DATUM(1) :
		DirectFunctionCall1(gen_random_uuid, (Datum) 0);
	values[3] = CStringGetTextDatum(root);
	values[4] = ObjectIdGetDatum(MyDatabaseId);

	session_scope_enter(&scope, &objects);
	inserted = insert_repository(&objects, values, nulls);
	if (inserted)
	{
		/* One that may come later is accepted with its first file. */
		registration_store(&objects, DatumGetUUIDP(values[0]), root, path,
						   must_exist ? checked.identity : NULL);
		(void) settings_store(&objects, values[0], fcinfo, 3);
		notice_overlaps(&objects, values[0], root, must_exist ? checked.identity : "");
		consumers_warn_if_off(&objects, DatumGetUUIDP(values[0]));
	}
	session_scope_leave(&scope);
	if (!inserted)
	{
		if (if_not_exists)
			existing = functions_find_registered(&objects, path, root, wanted);
		if (existing != NULL)
			PG_RETURN_UUID_P(existing);
		session_scope_enter(&scope, &objects);
		functions_check_root_is_free(&objects, values[3], NULL);
		session_scope_leave(&scope);
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("repository \"%s\" already exists",
						functions_uuid_text(DatumGetUUIDP(values[0]))),
				 errhint("fsync_relocate_repository() gives it another directory.")));
	}
	requests_wake_at_commit();

	PG_RETURN_DATUM(values[0]);
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
	functions_require_right_to_register();
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

		given = functions_join_user_area(path, user_area);

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
	{
		registration_store(&objects, PG_GETARG_UUID_P(0), root, given, identity);
		notice_overlaps(&objects, values[0], root, checked.identity);
		consumers_warn_if_off(&objects, PG_GETARG_UUID_P(0));
	}
	session_scope_leave(&scope);
	requests_wake_at_commit();
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * Triggers
 * ---------------------------------------------------------------------
 */

TriggerData *
functions_trigger_data(FunctionCallInfo fcinfo)
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
	TriggerData *data = functions_trigger_data(fcinfo);
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
	TriggerData *data = functions_trigger_data(fcinfo);
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
	(void) functions_trigger_data(fcinfo);
	if (requests_available() && !RecoveryInProgress())
		requests_wake_at_commit();
	return PointerGetDatum(NULL);
}
