/*-------------------------------------------------------------------------
 *
 * session.c
 *		The worker's own session: pinned settings, transactions, and SPI as
 *		the owner of the extension's tables.
 *
 * Every transaction first takes a share lock on the extension itself, before
 * any of its tables.  DROP EXTENSION locks the extension first too, so the two
 * queue up there instead of meeting half-way through the tables and ending in
 * a deadlock, which the user's DROP might lose.
 *
 * SET CONSTRAINTS ALL IMMEDIATE comes at the start: a deferred foreign key or
 * constraint trigger then fires at the end of its statement, where the row at
 * fault can still be told apart, and as the owner.  It comes again before the
 * commit, because a user's trigger may have deferred them again, and whatever
 * is still pending must not run after the owner's identity was given up.  For
 * the same reason each session, and each statement in it, has a GUC level of
 * its own, which takes back what a trigger has SET.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/genam.h"
#include "access/relation.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "owner.h"
#include "session.h"
#include "totals.h"

/*
 * Where plans of index_only are made: a generic plan of a table that was never
 * analysed would otherwise sort the rest of the table for every page.
 */
static const char *const index_only_settings[] = {
	"enable_seqscan", "enable_bitmapscan", "enable_sort"
};

static const struct
{
	const char *name;
	const char *value;
}			pinned_settings[] =
{
	{"default_transaction_read_only", "off"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_deferrable", "off"},
	{"session_replication_role", "origin"},
	{"row_security", "off"},
	{"search_path", "pg_catalog, pg_temp"},
	{"lock_timeout", CppAsString2(SESSION_LOCK_WAIT_MS)},
	{"statement_timeout", "0"},
	{"transaction_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"jit", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"enable_indexscan", "on"},
	{"enable_nestloop", "on"},
	{"plan_cache_mode", "auto"},
};

/* What session_begin() changed, for commit and abort to put back. */
static MemoryContext caller_context;
static Oid	caller_userid;
static int	caller_sec_context;
static int	guc_nestlevel;

static bool lock_waits_limited;

/* The plans that exist, and the schema's name that is written in them. */
static List *kept_plans = NIL;
static const char *kept_schema_name = NULL;

/* Who entered the last scope that was in no other, and as whom it runs. */
static Oid scope_caller = InvalidOid;
static Oid scope_owner = InvalidOid;

static char *interned_schema_name = NULL;
static char *interned_version = NULL;

/*
 * Settings that a later version added, or an earlier one lacks, are passed
 * over.  PGC_S_OVERRIDE also outlives a reload of postgresql.conf.
 */
void
session_pin_settings(void)
{
	for (int i = 0; i < (int) lengthof(pinned_settings); i++)
	{
		if (GetConfigOption(pinned_settings[i].name, true, false) != NULL)
			SetConfigOption(pinned_settings[i].name, pinned_settings[i].value,
							PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/*
 * The one copy of a string: objects that are looked up again and again share
 * it, and comparing pointers tells whether the schema was renamed.  What a
 * rename gives up is not freed, because an older ExtensionObjects may hold it.
 */
static char *
intern(char **kept, const char *string)
{
	if (*kept == NULL || strcmp(*kept, string) != 0)
		*kept = MemoryContextStrdup(TopMemoryContext, string);
	return *kept;
}

/*
 * The schema's name as it is now, quoted; NULL: it is gone.  Looked up for
 * each statement, because a worker learns of ALTER SCHEMA only by looking.
 */
static char *
find_schema_name(Oid schema)
{
	char	   *name = get_namespace_name(schema);

	if (name == NULL)
		return NULL;
	return intern(&interned_schema_name, quote_identifier(name));
}

/* Schema and version of the extension, from its row in pg_extension. */
static bool
find_extension_row(ExtensionObjects *objects)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		found = false;

	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(EXTENSION_NAME));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion,
										   RelationGetDescr(rel), &isnull);

		objects->extension = form->oid;
		objects->schema = form->extnamespace;
		objects->version = intern(&interned_version,
								  isnull ? "" : TextDatumGetCString(version));
		found = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* InvalidOid where it is missing, or is not the extension's. */
static Oid
find_registrations(Oid extension)
{
	Oid			schema = get_namespace_oid(PRIVATE_SCHEMA, true);
	Oid			table = OidIsValid(schema) ?
		get_relname_relid(REGISTRATIONS_TABLE, schema) : InvalidOid;

	if (OidIsValid(table) &&
		getExtensionOfObject(RelationRelationId, table) != extension)
		return InvalidOid;
	return table;
}

bool
session_find_extension(ExtensionObjects *objects)
{
	HeapTuple	tuple;

	MemSet(objects, 0, sizeof(*objects));
	if (!find_extension_row(objects))
		return false;
	objects->schema_name = find_schema_name(objects->schema);
	if (objects->schema_name == NULL)
		return false;

	objects->file_records = get_relname_relid("file_records", objects->schema);
	objects->repositories = get_relname_relid("fsync_repositories", objects->schema);
	objects->operations = get_relname_relid("sync_operations", objects->schema);
	objects->problems = get_relname_relid("fsync_problems", objects->schema);
	if (!OidIsValid(objects->file_records) || !OidIsValid(objects->repositories) ||
		!OidIsValid(objects->operations) || !OidIsValid(objects->problems))
		return false;
	objects->registrations = find_registrations(objects->extension);

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(objects->file_records));
	if (!HeapTupleIsValid(tuple))
		return false;
	objects->owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return true;
}

/* Locks out a DROP for this transaction; false: it came first. */
static bool
lock_extension(const ExtensionObjects *objects)
{
	Relation	rel;

	LockDatabaseObject(ExtensionRelationId, objects->extension, 0, AccessShareLock);
	if (get_extension_name(objects->extension) == NULL)
		return false;
	rel = try_relation_open(objects->file_records, AccessShareLock);
	if (rel == NULL)
		return false;
	relation_close(rel, AccessShareLock);
	return true;
}

void
session_constraints_immediate(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	totals_expect_statement(false);
	stmt->constraints = NIL;
	stmt->deferred = false;
	AfterTriggerSetState(stmt);
	pfree(stmt);
}

bool
session_begin(const ExtensionObjects *objects, const char *activity)
{
	Oid			owner;

	caller_context = CurrentMemoryContext;
	GetUserIdAndSecContext(&caller_userid, &caller_sec_context);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!lock_extension(objects))
	{
		AbortCurrentTransaction();
		MemoryContextSwitchTo(caller_context);
		return false;
	}
	owner = owner_require_powerless(objects);
	pgstat_report_activity(STATE_RUNNING, activity);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	guc_nestlevel = NewGUCNestLevel();
	lock_waits_limited = false;
	SetUserIdAndSecContext(owner,
						   caller_sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	session_constraints_immediate();
	return true;
}

void
session_commit(void)
{
	session_constraints_immediate();
	AtEOXact_GUC(false, guc_nestlevel);
	SPI_finish();
	PopActiveSnapshot();
	SetUserIdAndSecContext(caller_userid, caller_sec_context);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller_context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* The abort itself puts back the user and whatever SPI and GUC had open. */
void
session_abort(void)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(caller_context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
session_limit_lock_waits(int ms)
{
	char		value[16];

	snprintf(value, sizeof(value), "%d", ms);
	(void) set_config_option("lock_timeout", value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	lock_waits_limited = ms < SESSION_LOCK_WAIT_MS;
}

bool
session_lost_to_row_lock(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && lock_waits_limited;
}

/*
 * A restricted operation, as the worker's: a trigger that is deferred would run
 * when the caller commits, as the caller, so it is refused to be queued.  Where
 * it is an application's, session_constraints_immediate() goes before.
 * row_security = off turns a policy that would hide rows from the owner into an
 * error.
 */
void
session_scope_enter(SessionScope *scope, const ExtensionObjects *objects)
{
	const Oid	owner = owner_require_powerless(objects);

	SPI_connect();
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	scope_owner = owner;
	if (scope->save_userid != owner)
		scope_caller = scope->save_userid;
	scope->save_nestlevel = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	(void) set_config_option("row_security", "off",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	SetUserIdAndSecContext(owner,
						   scope->save_sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
}

void
session_reader_enter(SessionScope *scope)
{
	SPI_connect();
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	scope->save_nestlevel = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

void
session_scope_leave(SessionScope *scope)
{
	AtEOXact_GUC(false, scope->save_nestlevel);
	SetUserIdAndSecContext(scope->save_userid, scope->save_sec_context);
	SPI_finish();
}

Oid
session_caller(void)
{
	if (InLocalUserIdChange() && GetUserId() == scope_owner && OidIsValid(scope_caller))
		return scope_caller;
	return GetUserId();
}

/*
 * One of them may be what called the trigger from which this comes, and so is
 * not freed: a few kilobytes for each time that the schema gets another name.
 */
static void
forget_plans(void)
{
	ListCell   *lc;

	foreach(lc, kept_plans)
	{
		SessionPlan *plan = lfirst(lc);

		plan->plan = NULL;
	}
	list_free(kept_plans);
	kept_plans = NIL;
}

/*
 * Statements over arrays are planned each time with the arrays at hand: that
 * costs 0.1 ms a batch, where a generic plan made while the table was empty
 * would go on reading all of a table that has grown.
 */
static void
prepare_plan(const ExtensionObjects *objects, SessionPlan *plan)
{
	SPIPlanPtr	prepared;
	char	   *schema_name = find_schema_name(objects->schema);
	char	   *sql;
	MemoryContext old_context;

	if (schema_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("the schema of extension \"%s\" does not exist",
						EXTENSION_NAME)));
	if (kept_schema_name != schema_name)
	{
		forget_plans();
		kept_schema_name = schema_name;
	}
	if (plan->plan != NULL)
		return;

	sql = psprintf(plan->sql, schema_name);
	prepared = SPI_prepare_cursor(sql, plan->nargs, plan->argtypes,
								  plan->index_only ? CURSOR_OPT_GENERIC_PLAN :
								  CURSOR_OPT_CUSTOM_PLAN);
	if (prepared == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql,
			 SPI_result_code_string(SPI_result));
	pfree(sql);
	SPI_keepplan(prepared);
	plan->plan = prepared;

	old_context = MemoryContextSwitchTo(TopMemoryContext);
	kept_plans = lappend(kept_plans, plan);
	MemoryContextSwitchTo(old_context);
}

/*
 * What a user's trigger has SET is taken back at the end of its statement: the
 * next one must not look for its operators in a search_path of that trigger.
 *
 * Where the plan says so the planner's hands are tied.  These settings must
 * hold at each execution, because an invalidation makes it plan anew.
 */
static int
execute_plan(SessionPlan *plan, ParamListInfo params, DestReceiver *dest)
{
	int			nestlevel = NewGUCNestLevel();
	int			rc;

	for (int i = 0; plan->index_only && i < (int) lengthof(index_only_settings); i++)
		(void) set_config_option(index_only_settings[i], "off",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	totals_expect_statement(true);
	rc = execute_plan_compat(plan->plan, params, dest);
	totals_expect_statement(false);
	AtEOXact_GUC(false, nestlevel);
	return rc;
}

/*
 * SPI leaves its own memory context behind, which goes with the transaction:
 * what the caller allocates next may be meant to last longer.
 */
static uint64
execute_to(const ExtensionObjects *objects, SessionPlan *plan, Datum *values,
		   const char *nulls, int expected, DestReceiver *dest)
{
	MemoryContext caller = CurrentMemoryContext;
	ParamListInfo params = NULL;
	int			rc;

	prepare_plan(objects, plan);
	if (plan->nargs > 0)
	{
		params = makeParamList(plan->nargs);
		for (int i = 0; i < plan->nargs; i++)
		{
			ParamExternData *param = &params->params[i];

			param->value = values[i];
			param->isnull = nulls != NULL && nulls[i] == 'n';
			param->pflags = PARAM_FLAG_CONST;
			param->ptype = plan->argtypes[i];
		}
	}
	rc = execute_plan(plan, params, dest);
	MemoryContextSwitchTo(caller);
	if (rc != expected)
		elog(ERROR, "unexpected result of \"%s\": %s", plan->sql,
			 SPI_result_code_string(rc));
	return SPI_processed;
}

uint64
session_execute(const ExtensionObjects *objects, SessionPlan *plan,
				Datum *values, const char *nulls, int expected)
{
	return execute_to(objects, plan, values, nulls, expected, NULL);
}

uint64
session_stream(const ExtensionObjects *objects, SessionPlan *plan,
			   Datum *values, DestReceiver *dest)
{
	/* What SPI calls a SELECT whose rows it did not collect. */
	return execute_to(objects, plan, values, NULL, SPI_OK_UTILITY, dest);
}

bool
session_error_blames_no_row(const ExtensionObjects *objects, int sqlerrcode)
{
	if (sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		return !owner_may_write_rows(objects);
	return session_error_is_transient(sqlerrcode);
}

/*
 * Internal errors (class XX) are not among these: one that passes is gone when
 * half of the batch is tried again, and one that stays belongs to a row, which
 * then must not hold up all others.
 */
bool
session_error_is_transient(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_INVALID_TRANSACTION_STATE: /* read-only, too */
		case ERRCODE_TRANSACTION_ROLLBACK:	/* deadlock, serialization */
		case ERRCODE_INSUFFICIENT_RESOURCES:	/* disk full, out of memory */
		case ERRCODE_OPERATOR_INTERVENTION: /* cancelled, shutting down */
		case ERRCODE_SYSTEM_ERROR:	/* I/O error */
			return true;
		default:
			break;
	}
	switch (sqlerrcode)
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_OBJECT_IN_USE:
		case ERRCODE_INSUFFICIENT_PRIVILEGE:	/* the owner's: a policy, a REVOKE */
			return true;
		default:
			return false;
	}
}

bool
session_error_is_of_publication(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_INVALID_COLUMN_REFERENCE ||
		sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

int64
session_cpu_lap(void)
{
	static int64 last = 0;
	int64		lap;
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	lap = ts.tv_sec * INT64CONST(1000000) + ts.tv_nsec / 1000 - last;
	last += lap;
	return lap;
}
