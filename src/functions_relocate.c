/*-------------------------------------------------------------------------
 *
 * functions_relocate.c
 *		Directories of repositories that are known already:
 *		fsync_relocate_repository(), and what fsync_add_repository() does with
 *		if_not_exists.
 *
 * A repository that is somewhere else now keeps its rows.  Its new directory is
 * checked and registered as any other.  What the rows were read from stays in
 * fsync_repositories.root_identity until a scan of the new directory is complete:
 * where the two are not the same directory, inode numbers and times of birth in
 * the rows are another disk's, so nothing is taken for a rename and each file is
 * read again, while its row, found by its path, stays.  Rows without a file go as
 * in any reconciliation, hence not more than fsync.mass_delete_threshold: a wrong
 * directory is no disaster.
 *
 * The row's watch_root is part of a key.  So the UPDATE here waits for the
 * worker's transaction that has locked the row, and the next one of the former
 * directory does not find it: nothing that happens to the former files
 * afterwards, like being deleted, reaches the rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "functions.h"
#include "path_check.h"
#include "registrations.h"
#include "requests.h"
#include "shown.h"

PG_FUNCTION_INFO_V1(fsync_relocate_repository);

static SessionPlan area_plan = {
	.sql = "SELECT user_area FROM %1$s.fsync_repositories"
	" WHERE repository_id = $1 FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan relocate_plan = {
	.sql = "UPDATE %1$s.fsync_repositories SET path = $2, watch_root = $3, active = true,"
	" database_oid = $4, state = 'starting', state_reason = NULL, state_hint = NULL"
	" WHERE repository_id = $1",
	.nargs = 4,
	.argtypes = {UUIDOID, TEXTOID, TEXTOID, OIDOID},
};

static SessionPlan by_id_plan = {
	.sql = "SELECT repository_id, active AND database_oid = $2, watch_root"
	" FROM %1$s.fsync_repositories WHERE repository_id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, OIDOID},
};

static SessionPlan by_root_plan = {
	.sql = "SELECT repository_id, active AND database_oid = $2, watch_root"
	" FROM %1$s.fsync_repositories WHERE watch_root = $1",
	.nargs = 2,
	.argtypes = {TEXTOID, OIDOID},
};

/* ---------------------------------------------------------------------
 * What is registered already
 * ---------------------------------------------------------------------
 */

/* The next component of a path, if there is one; "." is none. */
static bool
next_name(const char **path, const char **name, size_t *len)
{
	do
	{
		*path += strspn(*path, "/");
		*name = *path;
		*len = strcspn(*path, "/");
		*path += *len;
	} while (*len == 1 && **name == '.');
	return *len > 0;
}

/* Whether two absolute paths are made of the same names. */
static bool
same_names(const char *a, const char *b)
{
	const char *name_a;
	const char *name_b;
	size_t		len_a;
	size_t		len_b;
	bool		more;

	do
	{
		more = next_name(&a, &name_a, &len_a);
		if (next_name(&b, &name_b, &len_b) != more)
			return false;
		if (len_a != len_b || memcmp(name_a, name_b, len_a) != 0)
			return false;
	} while (more);
	return true;
}

static const Registration *
find_given(List *registrations, const char *given)
{
	ListCell   *lc;

	foreach(lc, registrations)
	{
		const Registration *registration = lfirst(lc);

		if (registration->database == MyDatabaseId && same_names(registration->given, given))
			return registration;
	}
	return NULL;
}

pg_uuid_t *
functions_find_registered(const ExtensionObjects *objects, const char *given,
						  const char *root, const pg_uuid_t *wanted)
{
	List	   *registrations = registrations_load(objects);
	const Registration *registration = find_given(registrations, given);
	MemoryContext context = CurrentMemoryContext;
	SessionScope scope;
	Datum		values[2];
	pg_uuid_t  *id = NULL;
	bool		active = false;
	char	   *watch_root = NULL;
	uint64		n = 0;

	session_scope_enter(&scope, objects);
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	if (registration != NULL)
	{
		values[0] = UUIDPGetDatum(&registration->id);
		n = session_execute(objects, &by_id_plan, values, NULL, SPI_OK_SELECT);
	}
	if (n == 0 && root != NULL)
	{
		values[0] = CStringGetTextDatum(root);
		n = session_execute(objects, &by_root_plan, values, NULL, SPI_OK_SELECT);
	}
	if (n > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		id = MemoryContextAlloc(context, sizeof(pg_uuid_t));
		*id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull));
		active = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull)) && !isnull;
		watch_root = MemoryContextStrdup(context, SPI_getvalue(tuple, desc, 3));
	}
	session_scope_leave(&scope);
	if (id == NULL)
		return NULL;

	if (wanted != NULL && memcmp(id, wanted, sizeof(*id)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("directory \"%s\" is already registered", shown_path(given)),
				 errdetail("It is watched as repository \"%s\".", functions_uuid_text(id))));
	if (!active || registration_fit(registrations_find(registrations, id),
									watch_root) != REGISTRATION_FITS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("directory \"%s\" belongs to repository \"%s\", which is not active",
						shown_path(given), functions_uuid_text(id)),
				 errhint("fsync_status() says why. To track the directory in this database, call fsync_activate_repository().")));
	ereport(NOTICE,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("directory \"%s\" is already registered, skipping", shown_path(given))));
	return id;
}

/* ---------------------------------------------------------------------
 * Relocating
 * ---------------------------------------------------------------------
 */

/* The directory below new_path that is to be watched; NULL: no such repository. */
static char *
new_directory(const ExtensionObjects *objects, Datum id, const char *new_path)
{
	MemoryContext context = CurrentMemoryContext;
	SessionScope scope;
	char	   *directory = NULL;

	session_scope_enter(&scope, objects);
	if (session_execute(objects, &area_plan, &id, NULL, SPI_OK_SELECT) == 1)
	{
		char	   *user_area = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		MemoryContext old_context = MemoryContextSwitchTo(context);

		directory = functions_join_user_area(new_path, user_area);
		MemoryContextSwitchTo(old_context);
	}
	session_scope_leave(&scope);
	return directory;
}

Datum
fsync_relocate_repository(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	char	   *directory;
	CheckedPath checked;
	Datum		values[4];

	functions_require_workers();
	PreventCommandIfReadOnly("fsync_relocate_repository()");
	functions_require_right_to_register();
	functions_require_argument(fcinfo, 0, "repository_id");
	functions_require_argument(fcinfo, 1, "new_path");
	functions_find_extension(&objects);

	values[0] = PG_GETARG_DATUM(0);
	directory = new_directory(&objects, values[0], text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (directory == NULL)
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	path_check(directory, &checked);

	values[1] = PG_GETARG_DATUM(1);
	values[2] = CStringGetTextDatum(checked.root);
	values[3] = ObjectIdGetDatum(MyDatabaseId);
	session_scope_enter(&scope, &objects);
	functions_check_root_is_free(&objects, values[2], PG_GETARG_UUID_P(0));
	if (session_execute(&objects, &relocate_plan, values, NULL, SPI_OK_UPDATE) == 1)
		registration_store(&objects, PG_GETARG_UUID_P(0), checked.root, directory,
						   checked.identity);
	session_scope_leave(&scope);
	requests_wake_at_commit();
	PG_RETURN_VOID();
}
