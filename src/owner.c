/*-------------------------------------------------------------------------
 *
 * owner.c
 *		The role that owns the extension's tables, and that it can do nothing.
 *
 * PostgreSQL runs code of other roles as the owner of a table: the check of a
 * foreign key calls an implicit cast of the referencing column's type as the
 * owner of the table that is referenced, in the referencing role's own INSERT;
 * and the worker and the functions run the triggers of whoever was granted
 * TRIGGER or REFERENCES as what they are themselves.  None of this can be
 * changed from here, so the tables belong to a role that has no attributes, is
 * a member of no other, and owns nothing else: what such code can do at worst
 * is to change these tables.
 *
 * A superuser can give the tables to somebody else (REASSIGN OWNED does, too),
 * or the role an attribute.  So this is looked at in each transaction of the
 * worker and in each call of a function, and nothing is done as a role that
 * has any power.  Members of the role are none of its powers: they can do to
 * the tables what it can.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_shdepend.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "compat.h"
#include "owner.h"
#include "requests.h"

PG_FUNCTION_INFO_V1(fsync_install_begin);
PG_FUNCTION_INFO_V1(fsync_install_end);

static const char *const tables[] = {
	"file_records", "fsync_repositories", "sync_operations", "fsync_problems",
	"fsync_verifications", "file_changes", "fsync_consumer_positions",
	"fsync_consumer_deliveries", "fsync_feed_history"
};

bool
owner_is_table_of_ours(const char *name)
{
	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		if (strcmp(name, tables[i]) == 0)
			return true;
	}
	return strcmp(name, REGISTRATIONS_TABLE) == 0;
}

/* ---------------------------------------------------------------------
 * What a role can do
 * ---------------------------------------------------------------------
 */

/* What the role can do besides owning tables; NULL: nothing. */
static const char *
power_of_role(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	Form_pg_authid form;
	const char *power = NULL;
	CatCList   *memberships;

	if (!HeapTupleIsValid(tuple))
		return "it does not exist";
	form = (Form_pg_authid) GETSTRUCT(tuple);
	if (form->rolsuper)
		power = "it is a superuser";
	else if (form->rolcanlogin)
		power = "it can log in";
	else if (form->rolcreaterole)
		power = "it can create roles";
	else if (form->rolcreatedb)
		power = "it can create databases";
	else if (form->rolreplication)
		power = "it can initiate replication";
	else if (form->rolbypassrls)
		power = "it bypasses row-level security";
	ReleaseSysCache(tuple);
	if (power != NULL)
		return power;

	memberships = SearchSysCacheList1(AUTHMEMMEMROLE, ObjectIdGetDatum(role));
	if (memberships->n_members > 0)
		power = "it is a member of another role";
	ReleaseSysCacheList(memberships);
	return power;
}

static bool
has_members(Oid role)
{
	Relation	rel = table_open(AuthMemRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, Anum_pg_auth_members_roleid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan = systable_beginscan(rel, AuthMemRoleMemIndexId, true, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Whether it owns what the extension does not bring: anything in this database,
 * where the extension is about to be made, what is common to all databases, and
 * in others all but tables and their like, which can be those of the extension.
 */
static bool
owns_other_things(Oid role)
{
	Relation	rel = table_open(SharedDependRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&keys[0], Anum_pg_shdepend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(AuthIdRelationId));
	ScanKeyInit(&keys[1], Anum_pg_shdepend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan = systable_beginscan(rel, SharedDependReferenceIndexId, true, NULL, 2, keys);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_shdepend form = (Form_pg_shdepend) GETSTRUCT(tuple);

		found = form->deptype == SHARED_DEPENDENCY_OWNER &&
			(form->dbid == InvalidOid || form->dbid == MyDatabaseId ||
			 form->classid != RelationRelationId);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* ---------------------------------------------------------------------
 * In operation
 * ---------------------------------------------------------------------
 */

static char *
role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name != NULL ? name : psprintf("%u", role);
}

static Oid
owner_of_relation(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Somebody was granted something on a column of the table. */
static bool
has_shared_columns(Oid relid, int columns)
{
	bool		found = false;

	for (int i = 1; i <= columns && !found; i++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(i));
		bool		isnull = true;

		if (!HeapTupleIsValid(tuple))
			continue;
		(void) SysCacheGetAttr(ATTNUM, tuple, Anum_pg_attribute_attacl, &isnull);
		found = !isnull;
		ReleaseSysCache(tuple);
	}
	return found;
}

/* Somebody besides its owner was granted something on the table. */
static bool
is_shared(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	Datum		value;
	bool		isnull;
	bool		shared_with_others;

	if (!HeapTupleIsValid(tuple))
		return true;
	form = (Form_pg_class) GETSTRUCT(tuple);
	shared_with_others = has_shared_columns(relid, form->relnatts);
	value = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	if (!isnull)
	{
		Acl		   *acl = DatumGetAclP(value);

		for (int i = 0; i < ACL_NUM(acl); i++)
			shared_with_others |= ACL_DAT(acl)[i].ai_grantee != form->relowner;
	}
	ReleaseSysCache(tuple);
	return shared_with_others;
}

static bool
check_tables(const ExtensionObjects *objects, Oid role, OwnerTrouble *trouble)
{
	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		Oid			relid = get_relname_relid(tables[i], objects->schema);
		Oid			owner = OidIsValid(relid) ? owner_of_relation(relid) : InvalidOid;

		/* One that is gone is missed by whoever needs it. */
		if (!OidIsValid(owner) || owner == role)
			continue;
		trouble->reason = psprintf("table \"%s\" belongs to role \"%s\", and not to \"%s\"",
								   tables[i], role_name(owner), OWNER_ROLE);
		trouble->hint = psprintf("Run ALTER TABLE %s.%s OWNER TO %s.", objects->schema_name,
								 tables[i], OWNER_ROLE);
		return false;
	}
	return true;
}

/* Nobody but superusers can write what says what may be watched. */
static bool
check_registrations(const ExtensionObjects *objects, OwnerTrouble *trouble)
{
	Oid			owner = owner_of_relation(objects->registrations);

	if (!OidIsValid(owner))
	{
		trouble->reason = psprintf("table \"%s.%s\" does not exist", PRIVATE_SCHEMA,
								   REGISTRATIONS_TABLE);
		trouble->hint = pstrdup("Drop the extension and create it again.");
		return false;
	}
	if (!superuser_arg(owner))
	{
		trouble->reason = psprintf("table \"%s.%s\" belongs to role \"%s\", which is no superuser",
								   PRIVATE_SCHEMA, REGISTRATIONS_TABLE, role_name(owner));
		trouble->hint = pstrdup("Give it to a superuser.");
		return false;
	}
	if (is_shared(objects->registrations))
	{
		trouble->reason = psprintf("rights to table \"%s.%s\" were granted", PRIVATE_SCHEMA,
								   REGISTRATIONS_TABLE);
		trouble->hint = pstrdup("Revoke them: what may be watched is written by fsync_add_repository() alone.");
		return false;
	}
	return true;
}

bool
owner_find_trouble(const ExtensionObjects *objects, OwnerTrouble *trouble)
{
	Oid			role = get_role_oid(OWNER_ROLE, true);
	const char *power = power_of_role(role);

	if (power != NULL)
	{
		trouble->reason = psprintf("role \"%s\" must be able to do nothing, but %s",
								   OWNER_ROLE, power);
		trouble->hint = psprintf("Make it a role without attributes and memberships, which owns fsync's tables and nothing else.");
		return true;
	}
	if (!check_tables(objects, role, trouble) || !check_registrations(objects, trouble))
		return true;
	if (!has_schema_usage_compat(objects->schema, role))
	{
		trouble->reason = psprintf("role \"%s\" has no right to use schema %s", OWNER_ROLE,
								   objects->schema_name);
		trouble->hint = psprintf("Run GRANT USAGE ON SCHEMA %s TO %s.", objects->schema_name,
								 OWNER_ROLE);
		return true;
	}
	return false;
}

Oid
owner_require_powerless(const ExtensionObjects *objects)
{
	OwnerTrouble trouble;

	if (owner_find_trouble(objects, &trouble))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROLE_SPECIFICATION),
				 errmsg_internal("%s", trouble.reason),
				 errdetail("The extension's tables may not be written as a role that can do anything else."),
				 errhint("%s", trouble.hint)));
	return get_role_oid(OWNER_ROLE, false);
}

static bool
has_all_rights(Oid relid, Oid owner)
{
	const AclMode needed = ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE;

	return pg_class_aclmask(relid, owner, needed, ACLMASK_ALL) == needed;
}

/* FORCE ROW LEVEL SECURITY, which in our session is an error. */
static bool
is_hidden_from(Oid relid, Oid owner)
{
	return check_enable_rls(relid, owner, true) == RLS_ENABLED;
}

bool
owner_may_write_rows(const ExtensionObjects *objects)
{
	return has_schema_usage_compat(objects->schema, objects->owner) &&
		has_all_rights(objects->file_records, objects->owner) &&
		!is_hidden_from(objects->file_records, objects->owner);
}

bool
owner_find_lack(const ExtensionObjects *objects, OwnerTrouble *trouble)
{
	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		Oid			relid = get_relname_relid(tables[i], objects->schema);

		if (!OidIsValid(relid))
			continue;
		if (!has_all_rights(relid, objects->owner))
		{
			trouble->reason = psprintf("role \"%s\" has not all rights to its table \"%s\"",
									   OWNER_ROLE, tables[i]);
			trouble->hint = psprintf("Run GRANT ALL ON %s.%s TO %s.", objects->schema_name,
									 tables[i], OWNER_ROLE);
			return true;
		}
		if (is_hidden_from(relid, objects->owner))
		{
			trouble->reason = psprintf("row-level security is forced on table \"%s\"",
									   tables[i]);
			trouble->hint = psprintf("Run ALTER TABLE %s.%s NO FORCE ROW LEVEL SECURITY.",
									 objects->schema_name, tables[i]);
			return true;
		}
	}
	return false;
}

/* ---------------------------------------------------------------------
 * For the install script
 * ---------------------------------------------------------------------
 */

static void
execute_utility(const char *sql)
{
	int			rc = SPI_execute(sql, false, 0);

	if (rc != SPI_OK_UTILITY)
		elog(ERROR, "unexpected result of \"%s\": %s", sql, SPI_result_code_string(rc));
}

/* Only a script, which only a superuser runs, may do what these two do. */
static void
require_install_script(void)
{
	if (!creating_extension || !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function can only be called from a script executed by CREATE EXTENSION")));
}

static void
refuse_role(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("role \"%s\" is not fit to own fsync's tables", OWNER_ROLE),
			 errdetail("The owner must be able to do nothing, but %s.", why),
			 errhint("Rename or drop the role, and one that is fit is made; or take from it what it has too much.")));
}

/*
 * Makes the owner, or looks whether the role of its name is powerless.  There
 * may be one for long, which other databases use, or somebody made it for this.
 */
Datum
fsync_install_begin(PG_FUNCTION_ARGS)
{
	Oid			role;
	const char *power;

	if (!requests_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fsync must be loaded via shared_preload_libraries"),
				 errhint("Add fsync to shared_preload_libraries in postgresql.conf and restart the server.")));
	require_install_script();
	role = get_role_oid(OWNER_ROLE, true);
	if (!OidIsValid(role))
	{
		SPI_connect();
		execute_utility("CREATE ROLE " OWNER_ROLE " NOLOGIN NOSUPERUSER NOCREATEDB"
						" NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS");
		SPI_finish();
		PG_RETURN_VOID();
	}
	power = power_of_role(role);
	if (power != NULL)
		refuse_role(power);
	if (has_members(role))
		refuse_role("other roles are members of it");
	if (owns_other_things(role))
		refuse_role("it owns other things");
	PG_RETURN_VOID();
}

/* Takes away what default privileges have granted. */
static void
revoke_all(const char *kind, const char *name, const char *acl_query)
{
	char	   *sql = psprintf("SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC'"
							   " ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END"
							   " FROM (%s) c (acl, owner)"
							   " CROSS JOIN LATERAL pg_catalog.aclexplode(c.acl) a"
							   " WHERE a.grantee <> c.owner", acl_query);
	SPITupleTable *grantees;
	uint64		n;

	if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the privileges of \"%s\"", name);
	grantees = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
		execute_utility(psprintf("REVOKE ALL ON %s %s FROM %s CASCADE", kind, name,
								 SPI_getvalue(grantees->vals[i], grantees->tupdesc, 1)));
}

/*
 * A function of another role's with the name of one of ours and other arguments
 * would be called where these fit better.
 */
static void
refuse_overloads(const char *schema_name)
{
	Oid			argtypes[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(CurrentExtensionObject)};
	const char *sql = "SELECT p.oid::regprocedure::text"
		" FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_proc o"
		" ON o.pronamespace = p.pronamespace AND o.proname = p.proname"
		" JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass"
		" AND d.objid = o.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass"
		" AND d.refobjid = $1 AND d.deptype = 'e'"
		" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend m"
		" WHERE m.classid = d.classid AND m.objid = p.oid"
		" AND m.refclassid = d.refclassid AND m.refobjid = $1 AND m.deptype = 'e')";

	if (SPI_execute_with_args(sql, 1, argtypes, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for functions");
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_FUNCTION),
				 errmsg("schema %s has a function %s already", schema_name,
						SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
				 errdetail("A function of the extension has that name, and calls could go to either of them."),
				 errhint("Drop the function, or create the extension in a schema where only superusers can create objects.")));
}

/*
 * USAGE is granted apart from the script: what a script grants is noted as the
 * initial privileges of the schema, which outlive the extension and the role.
 */
static void
grant_usage(const char *schema_name)
{
	bool		save_creating = creating_extension;

	creating_extension = false;
	PG_TRY();
	{
		execute_utility(psprintf("GRANT USAGE ON SCHEMA %s TO %s", schema_name, OWNER_ROLE));
	}
	PG_FINALLY();
	{
		creating_extension = save_creating;
	}
	PG_END_TRY();
}

Datum
fsync_install_end(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;

	require_install_script();
	if (!session_find_extension(&objects))
		elog(ERROR, "the extension's tables are missing");
	SPI_connect();
	refuse_overloads(objects.schema_name);
	grant_usage(objects.schema_name);
	revoke_all("SCHEMA", PRIVATE_SCHEMA,
			   "SELECT nspacl, nspowner FROM pg_catalog.pg_namespace"
			   " WHERE nspname = '" PRIVATE_SCHEMA "'");
	revoke_all("TABLE", PRIVATE_SCHEMA "." REGISTRATIONS_TABLE,
			   "SELECT relacl, relowner FROM pg_catalog.pg_class"
			   " WHERE oid = '" PRIVATE_SCHEMA "." REGISTRATIONS_TABLE "'::regclass");
	SPI_finish();
	CommandCounterIncrement();
	(void) owner_require_powerless(&objects);
	PG_RETURN_VOID();
}
