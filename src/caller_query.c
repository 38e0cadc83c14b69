/*-------------------------------------------------------------------------
 *
 * caller_query.c
 *		Queries of the SQL-callable functions with the rights of their caller.
 *
 * What a function tells of the tables it reads as its caller, so that grants on
 * the tables and row-level security say who sees what.  The caller may have put
 * operators and functions of his own, or of others, in his search_path: so it is
 * a fixed one while the query is parsed and run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"

#include "caller_query.h"
#include "functions.h"

#define FETCH_ROWS		5000

static void
pin(const char *setting, const char *value)
{
	(void) set_config_option(setting, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
caller_query(const ExtensionObjects *objects, const char *format, int nargs,
			 Oid *argtypes, Datum *values, const char *nulls, CallerRows take, void *arg)
{
	char	   *sql = psprintf(format, objects->schema_name);
	int			nestlevel;
	Portal		portal;

	SPI_connect();
	nestlevel = NewGUCNestLevel();
	pin("search_path", "pg_catalog, pg_temp");
	pin("jit", "off");
	portal = SPI_cursor_open_with_args(NULL, sql, nargs, argtypes, values, nulls, true,
									   CURSOR_OPT_NO_SCROLL);
	do
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		if (SPI_processed > 0)
			take(arg);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(portal);
	AtEOXact_GUC(false, nestlevel);
	SPI_finish();
}

void
caller_put_rows(void *result)
{
	const CallerResult *into = result;

	functions_put_rows(into->store, into->desc);
}

void
caller_require_select(const ExtensionObjects *objects, const char *table)
{
	Oid			relid = get_relname_relid(table, objects->schema);

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT,
								  ACLMASK_ANY) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, table);
}
