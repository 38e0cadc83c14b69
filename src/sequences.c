/*-------------------------------------------------------------------------
 *
 * sequences.c
 *		The sequences of the tables' ids.
 *
 * Rows can come with ids of their own: by logical replication, by a restore of
 * data alone, or because an application keeps the ids that it had.  The sequence
 * knows nothing of that, and sooner or later gives out an id that is there
 * already.  So it is lifted above them, each time that the worker looks at
 * fsync_repositories: at its start, and when one is added or activated.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "sequences.h"

/* Nothing where a user has made the column another one, without a sequence. */
#define LIFT(table, id) \
	"SELECT setval(s.sequence, m.id)" \
	" FROM (SELECT pg_get_serial_sequence($1, '" id "')::regclass AS sequence) s" \
	" CROSS JOIN (SELECT max(" id ") AS id FROM %1$s." table ") m" \
	" WHERE s.sequence IS NOT NULL AND m.id > coalesce(pg_sequence_last_value(s.sequence), 0)"

static SessionPlan file_records_plan = {
	.sql = LIFT("file_records", "id"),
	.nargs = 1,
	.argtypes = {TEXTOID},
};

static SessionPlan operations_plan = {
	.sql = LIFT("sync_operations", "id"),
	.nargs = 1,
	.argtypes = {TEXTOID},
};

static SessionPlan changes_plan = {
	.sql = LIFT("file_changes", "change_id"),
	.nargs = 1,
	.argtypes = {TEXTOID},
};

static void
lift(const ExtensionObjects *objects, SessionPlan *plan, const char *table, const char *column)
{
	Oid			relid = get_relname_relid(table, objects->schema);
	char	   *schema = get_namespace_name(objects->schema);
	Datum		values[1];

	if (!OidIsValid(relid) || schema == NULL ||
		get_attnum(relid, column) == InvalidAttrNumber)
		return;
	values[0] = CStringGetTextDatum(quote_qualified_identifier(schema, table));
	(void) session_execute(objects, plan, values, NULL, SPI_OK_SELECT);
}

void
sequences_lift_files(const ExtensionObjects *objects)
{
	lift(objects, &file_records_plan, "file_records", "id");
}

void
sequences_lift(const ExtensionObjects *objects)
{
	if (!session_begin(objects, "fsync: looking at ids"))
		return;
	sequences_lift_files(objects);
	lift(objects, &operations_plan, "sync_operations", "id");
	lift(objects, &changes_plan, "file_changes", "change_id");
	session_commit();
}
