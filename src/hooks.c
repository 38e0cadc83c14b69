/*-------------------------------------------------------------------------
 *
 * hooks.c
 *		Statements of other sessions that a worker must know of.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE and CREATE
 * DATABASE ... TEMPLATE fail while somebody is connected to the database.  A
 * worker is connected all the time, so it is stopped before such a statement
 * and may come back after it.  Whoever would be refused the statement must not
 * stop a worker with it, so what PostgreSQL will ask is asked before.
 *
 * A worker that sleeps learns nothing of DROP EXTENSION and ALTER EXTENSION
 * (it processes no invalidations until its next transaction), so it is woken
 * when they commit; and when the extension's tables get another owner, or that
 * role another attribute.
 *
 * Whoever adds a column to a table of the extension is warned, since a dump of
 * the database then cannot be restored.
 *
 * Code of others that runs as the owner of the tables, as PostgreSQL lets it
 * (owner.c), can write rows.  That it cannot alter the tables, hand out rights
 * to them, or put rules and policies on them that would run as whoever reads
 * them next, is seen to here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "hooks.h"
#include "owner.h"
#include "requests.h"

static ProcessUtility_hook_type previous_utility_hook = NULL;
static object_access_hook_type previous_access_hook = NULL;

static const char *
string_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

static bool
may_create_databases(void)
{
	bool		result = false;
	HeapTuple	tuple;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* What createdb() asks before it looks who is connected. */
static bool
may_copy(Oid database, const CreatedbStmt *statement)
{
	return may_create_databases() &&
		(is_template(database) || database_ownercheck_compat(database, GetUserId())) &&
		!OidIsValid(get_database_oid(statement->dbname, true));
}

/* The same of the other statements, which are for owners. */
static bool
may_alter(Oid database, Node *statement)
{
	if (database == MyDatabaseId || !database_ownercheck_compat(database, GetUserId()))
		return false;
	if (IsA(statement, DropdbStmt))
		return !is_template(database);
	if (IsA(statement, RenameStmt))
		return may_create_databases();
	return true;
}

/*
 * The database that must be free of connections for this statement, or
 * InvalidOid; also where the statement will be refused.
 */
static pg_noinline Oid
database_to_be_free(Node *statement)
{
	const char *name = NULL;
	bool		copied = false;
	Oid			database;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			name = ((DropdbStmt *) statement)->dbname;
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				name = ((RenameStmt *) statement)->subname;
			break;
		case T_AlterDatabaseStmt:
			if (string_option(((AlterDatabaseStmt *) statement)->options, "tablespace"))
				name = ((AlterDatabaseStmt *) statement)->dbname;
			break;
		case T_CreatedbStmt:
			name = string_option(((CreatedbStmt *) statement)->options, "template");
			if (name == NULL)
				name = "template1";
			copied = true;
			break;
		default:
			break;
	}
	if (name == NULL)
		return InvalidOid;

	database = get_database_oid(name, true);
	if (!OidIsValid(database))
		return InvalidOid;
	if (copied ? may_copy(database, (CreatedbStmt *) statement) :
		may_alter(database, statement))
		return database;
	return InvalidOid;
}

/* SET ROLE is not meant: whoever may do that may do this. */
static void
refuse_ddl_to_owner(Node *statement)
{
	if (!InLocalUserIdChange() || GetCommandLogLevel(statement) != LOGSTMT_DDL ||
		GetUserId() != get_role_oid(OWNER_ROLE, true))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to run this command as role \"%s\"", OWNER_ROLE),
			 errdetail("Triggers, casts and functions that run as the owner of fsync's tables cannot change objects.")));
}

static void
run_utility(UTILITY_HOOK_PARAMS)
{
	if (previous_utility_hook)
		previous_utility_hook(UTILITY_HOOK_ARGS);
	else
		standard_ProcessUtility(UTILITY_HOOK_ARGS);
}

static void
release_on_error(int code, Datum arg)
{
	requests_release_database(DatumGetObjectId(arg));
}

static void
utility_hook(UTILITY_HOOK_PARAMS)
{
	const Oid	database = context == PROCESS_UTILITY_TOPLEVEL && requests_available() ?
		database_to_be_free(pstmt->utilityStmt) : InvalidOid;

	refuse_ddl_to_owner(pstmt->utilityStmt);
	if (!OidIsValid(database))
	{
		run_utility(UTILITY_HOOK_ARGS);
		return;
	}

	/* Not PG_FINALLY: a terminated session must release it as well. */
	requests_stop_worker(database);
	PG_ENSURE_ERROR_CLEANUP(release_on_error, ObjectIdGetDatum(database));
	{
		run_utility(UTILITY_HOOK_ARGS);
	}
	PG_END_ENSURE_ERROR_CLEANUP(release_on_error, ObjectIdGetDatum(database));
	requests_release_database(database);
}

/* A table of ours, or the role that owns them. */
static bool
concerns_owner(Oid classId, Oid objectId)
{
	char	   *name = NULL;
	bool		result = false;

	if (classId == RelationRelationId)
	{
		name = get_rel_name(objectId);
		result = name != NULL && owner_is_table_of_ours(name);
	}
	else if (classId == AuthIdRelationId)
	{
		name = GetUserNameFromId(objectId, true);
		result = name != NULL && strcmp(name, OWNER_ROLE) == 0;
	}
	if (name != NULL)
		pfree(name);
	return result;
}

/*
 * A dump has the rows of these with all their columns, and CREATE EXTENSION in
 * the restored database knows nothing of one that was added.
 */
static bool
rows_are_dumped(const char *table)
{
	return strcmp(table, "file_records") == 0 || strcmp(table, "fsync_repositories") == 0 ||
		strcmp(table, "file_changes") == 0 ||
		strcmp(table, "fsync_consumer_positions") == 0 ||
		strcmp(table, "fsync_consumer_deliveries") == 0;
}

/* Neither its own script nor pg_upgrade adds columns that are a user's. */
static void
warn_of_column(Oid relid)
{
	char	   *name = get_rel_name(relid);
	Oid			extension;

	if (creating_extension || IsBinaryUpgrade || name == NULL || !owner_is_table_of_ours(name))
		return;
	extension = getExtensionOfObject(RelationRelationId, relid);
	if (!OidIsValid(extension) || extension != get_extension_oid(EXTENSION_NAME, true))
		return;
	ereport(WARNING,
			(errmsg("a column was added to table \"%s\", which belongs to extension \"%s\"",
					name, EXTENSION_NAME),
			 rows_are_dumped(name) ?
			 errdetail("A dump of this database cannot be restored: CREATE EXTENSION makes the table without the column, and then its rows do not load.") :
			 errdetail("The column is not in a dump of this database, nor in a database that is restored from it."),
			 errhint("Drop the column, and keep what it is for in a table of your own, for instance one whose key references file_records; doc/your-own-data.md says how.")));
}

static void
access_hook(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (previous_access_hook)
		previous_access_hook(access, classId, objectId, subId, arg);

	if (classId == ExtensionRelationId &&
		(access == OAT_DROP || access == OAT_POST_ALTER))
	{
		const char *name = get_extension_name(objectId);

		if (name != NULL && strcmp(name, EXTENSION_NAME) == 0)
			requests_wake_at_commit();
	}
	if (access == OAT_POST_CREATE && classId == RelationRelationId && subId > 0)
		warn_of_column(objectId);
	if (access == OAT_POST_ALTER && concerns_owner(classId, objectId))
		requests_wake_at_commit();
}

void
hooks_install(void)
{
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
	previous_access_hook = object_access_hook;
	object_access_hook = access_hook;
}
