/*-------------------------------------------------------------------------
 *
 * no_worker.c
 *		Why nobody takes care of a repository, and what is to be done.
 *
 * Mostly a worker is just being started.  But where a limit is in the way
 * nothing will happen by itself, so that is to be known here, with the number
 * that would do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "utils/syscache.h"

#include "no_worker.h"
#include "registry.h"
#include "requests.h"

static bool
database_is_template(void)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* What the launcher and the worker, if there is one, have found. */
static void
explain_limits(const char **reason, const char **hint)
{
	RegistryLack lack;

	registry_get_lack(&lack);
	if (lack.has_worker && lack.repositories > 0)
	{
		*reason = psprintf("there are more repositories than fsync.max_repositories, which is %d",
						   setting_max_repositories);
		*hint = psprintf("Set fsync.max_repositories to %d or more in postgresql.conf and restart the server.",
						 setting_max_repositories + lack.repositories);
	}
	else if (!lack.has_launcher)
	{
		*reason = "fsync's launcher is not running";
		*hint = psprintf("It is started again within seconds. If not, max_worker_processes, which is %d, has no place for it: add one for the launcher and one for each database with repositories, and restart the server.",
						 max_worker_processes);
	}
	else if (lack.no_slot)
	{
		*reason = psprintf("there are too many databases for fsync.max_repositories, which is %d",
						   setting_max_repositories);
		*hint = psprintf("Set fsync.max_repositories to %d or more in postgresql.conf and restart the server.",
						 setting_max_repositories + lack.databases);
	}
	else if (lack.no_process)
	{
		*reason = psprintf("no worker can be started: all places of max_worker_processes, which is %d, are taken",
						   max_worker_processes);
		*hint = psprintf("Set max_worker_processes to %d or more in postgresql.conf and restart the server. Until then it is tried again each minute.",
						 max_worker_processes + lack.databases);
	}
}

void
no_worker_explain(const char **reason, const char **hint)
{
	*reason = "no worker is running";
	*hint = "It is started within seconds; if not, the server's log says why.";
	if (RecoveryInProgress())
	{
		*reason = "the server is a standby";
		*hint = "file_records is what the primary has made it.";
	}
	else if (!requests_available())
		*hint = "Add fsync to shared_preload_libraries in postgresql.conf and restart the server.";
	else if (database_is_template())
	{
		*reason = "the database is a template";
		*hint = "Use ALTER DATABASE … IS_TEMPLATE false; the worker comes by itself within half a minute.";
	}
	else
		explain_limits(reason, hint);
}
