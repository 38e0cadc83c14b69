/*-------------------------------------------------------------------------
 *
 * registrations.c
 *		What may be watched: the private table fsync_private.registrations.
 *
 * A row of fsync_repositories may be written by whoever was granted that, comes
 * back with a dump and is copied with a database; a trigger that guards it is
 * no wall, as the table's owner may disable it.  So it does not say what is
 * watched.  That stands in a table that belongs to whoever installed the
 * extension and on which nobody has rights (owner.c looks), and this file alone
 * writes it: for fsync_add_repository(), fsync_activate_repository() and
 * fsync_relocate_repository(), after they have asked for the right to read the
 * server's files.
 *
 * It is read and written below SQL, as catalogs are: so no trigger, rule,
 * policy or cast is met on the way, and nothing need run as its owner.  A
 * statement that inserts or updates a row is refused, also a superuser's, and
 * what logical replication brings from another cluster is left out.
 *
 * pg_upgrade brings the rows into a cluster with another identifier.  There a
 * registration holds for the very directory that was accepted before: what
 * fsync-tree finds at its path must have the same identity.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "owner.h"
#include "registrations.h"

PG_FUNCTION_INFO_V1(fsync_registrations_guard);

/* Columns, as the install script makes them. */
enum
{
	COL_REPOSITORY_ID,
	COL_WATCH_ROOT,
	COL_GIVEN_PATH,
	COL_ROOT_IDENTITY,
	COL_DATABASE_OID,
	COL_SYSTEM_IDENTIFIER,
	COL_REGISTERED_AT,
	COLUMNS
};

static Relation
open_registrations(const ExtensionObjects *objects, LOCKMODE lockmode)
{
	Relation	rel = table_open(objects->registrations, lockmode);

	if (rel->rd_rel->relkind != RELKIND_RELATION || RelationGetDescr(rel)->natts != COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.%s\" was altered", PRIVATE_SCHEMA, REGISTRATIONS_TABLE),
				 errhint("Drop the extension and create it again.")));
	return rel;
}

/* As the last commit, and this transaction, have left it. */
static SysScanDesc
begin_scan(Relation rel)
{
	return systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
}

static pg_uuid_t *
tuple_id(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;

	return DatumGetUUIDP(heap_getattr(tuple, COL_REPOSITORY_ID + 1, desc, &isnull));
}

List *
registrations_load(const ExtensionObjects *objects)
{
	Relation	rel = open_registrations(objects, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = begin_scan(rel);
	HeapTuple	tuple;
	List	   *registrations = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Registration *registration = palloc(sizeof(Registration));
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		heap_deform_tuple(tuple, desc, values, nulls);
		registration->id = *DatumGetUUIDP(values[COL_REPOSITORY_ID]);
		registration->root = TextDatumGetCString(values[COL_WATCH_ROOT]);
		registration->given = TextDatumGetCString(values[COL_GIVEN_PATH]);
		registration->identity = nulls[COL_ROOT_IDENTITY] ? pstrdup("") :
			TextDatumGetCString(values[COL_ROOT_IDENTITY]);
		registration->database = DatumGetObjectId(values[COL_DATABASE_OID]);
		registration->system = DatumGetInt64(values[COL_SYSTEM_IDENTIFIER]);
		registrations = lappend(registrations, registration);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return registrations;
}

const Registration *
registrations_find(List *registrations, const pg_uuid_t *id)
{
	ListCell   *lc;

	foreach(lc, registrations)
	{
		const Registration *registration = lfirst(lc);

		if (memcmp(&registration->id, id, sizeof(*id)) == 0)
			return registration;
	}
	return NULL;
}

RegistrationFit
registration_fit(const Registration *registration, const char *root)
{
	if (registration == NULL || registration->database != MyDatabaseId)
		return REGISTRATION_MISSING;
	if (registration->system != (int64) GetSystemIdentifier() &&
		registration->identity[0] == '\0')
		return REGISTRATION_MISSING;
	return strcmp(registration->root, root) == 0 ? REGISTRATION_FITS :
		REGISTRATION_OTHER_ROOT;
}

/* ---------------------------------------------------------------------
 * Writing
 * ---------------------------------------------------------------------
 */

/* Deletes the row of the id; NULL: all rows. */
static void
delete_rows(Relation rel, const pg_uuid_t *id)
{
	SysScanDesc scan = begin_scan(rel);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (id == NULL ||
			memcmp(tuple_id(tuple, RelationGetDescr(rel)), id, sizeof(*id)) == 0)
			CatalogTupleDelete(rel, &tuple->t_self);
	}
	systable_endscan(scan);
	CommandCounterIncrement();
}

void
registration_store(const ExtensionObjects *objects, const pg_uuid_t *id,
				   const char *root, const char *given, const char *identity)
{
	Relation	rel = open_registrations(objects, RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	delete_rows(rel, id);
	values[COL_REPOSITORY_ID] = UUIDPGetDatum(id);
	values[COL_WATCH_ROOT] = CStringGetTextDatum(root);
	values[COL_GIVEN_PATH] = CStringGetTextDatum(given);
	nulls[COL_ROOT_IDENTITY] = identity == NULL;
	values[COL_ROOT_IDENTITY] = identity == NULL ? (Datum) 0 : CStringGetTextDatum(identity);
	values[COL_DATABASE_OID] = ObjectIdGetDatum(MyDatabaseId);
	values[COL_SYSTEM_IDENTIFIER] = Int64GetDatum((int64) GetSystemIdentifier());
	values[COL_REGISTERED_AT] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	CommandCounterIncrement();
	table_close(rel, NoLock);
}

void
registration_accept(const ExtensionObjects *objects, const pg_uuid_t *id,
					const char *identity)
{
	Relation	rel = open_registrations(objects, RowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = begin_scan(rel);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[COLUMNS] = {0};
		bool		nulls[COLUMNS] = {false};
		bool		replaced[COLUMNS] = {false};
		Datum		old[COLUMNS];
		bool		old_nulls[COLUMNS];

		if (memcmp(tuple_id(tuple, desc), id, sizeof(*id)) != 0)
			continue;
		heap_deform_tuple(tuple, desc, old, old_nulls);
		if (!old_nulls[COL_ROOT_IDENTITY] &&
			strcmp(TextDatumGetCString(old[COL_ROOT_IDENTITY]), identity) == 0 &&
			DatumGetInt64(old[COL_SYSTEM_IDENTIFIER]) == (int64) GetSystemIdentifier())
			break;
		values[COL_ROOT_IDENTITY] = CStringGetTextDatum(identity);
		replaced[COL_ROOT_IDENTITY] = true;
		values[COL_SYSTEM_IDENTIFIER] = Int64GetDatum((int64) GetSystemIdentifier());
		replaced[COL_SYSTEM_IDENTIFIER] = true;
		CatalogTupleUpdate(rel, &tuple->t_self,
						   heap_modify_tuple(tuple, desc, values, nulls, replaced));
		break;
	}
	systable_endscan(scan);
	CommandCounterIncrement();
	table_close(rel, NoLock);
}

void
registration_remove(const ExtensionObjects *objects, const pg_uuid_t *id)
{
	Relation	rel = open_registrations(objects, RowExclusiveLock);

	delete_rows(rel, id);
	table_close(rel, NoLock);
}

/* Trigger: statements write nothing here. */
Datum
fsync_registrations_guard(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by a trigger")));
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return PointerGetDatum(NULL);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("what may be watched is written by fsync_add_repository(), fsync_activate_repository() and fsync_relocate_repository() alone")));
}
