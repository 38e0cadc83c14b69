/*-------------------------------------------------------------------------
 *
 * compat.h
 *		What differs between the versions of PostgreSQL that fsync builds on
 *		(13 to 18), in one place.
 *
 * The names end in _compat; the rest of the extension is written as if there
 * were one version.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_COMPAT_H
#define FSYNC_COMPAT_H

#include "postgres.h"

#include "catalog/pg_database.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#else
#include "pgstat.h"
#endif
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

#if PG_VERSION_NUM < 130000
#error "fsync needs PostgreSQL 13 or later"
#endif

/* A set that lives as long as the process. */
static inline WaitEventSet *
create_wait_event_set_compat(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

static inline void
mark_guc_prefix_reserved_compat(const char *prefix)
{
#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved(prefix);
#else
	EmitWarningsOnPlaceholders(prefix);
#endif
}

/*
 * The wait event of this name, which pg_stat_activity shows from 17 on; before
 * there is one for all extensions.  *info keeps it, and is zero at first.
 */
static inline uint32
wait_event_compat(uint32 *info, const char *name)
{
#if PG_VERSION_NUM >= 170000
	if (*info == 0)
		*info = WaitEventExtensionNew(name);
	return *info;
#else
	(void) info;
	(void) name;
	return PG_WAIT_EXTENSION;
#endif
}

static inline bool
database_ownercheck_compat(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, role);
#else
	return pg_database_ownercheck(database, role);
#endif
}

/* Left behind by a DROP DATABASE that was interrupted; minor releases. */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB		(-2)
#endif

/* The arguments of a ProcessUtility hook, declared and passed on. */
#if PG_VERSION_NUM >= 140000
#define UTILITY_HOOK_PARAMS \
	PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, \
	ProcessUtilityContext context, ParamListInfo params, \
	QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc
#define UTILITY_HOOK_ARGS \
	pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc
#else
#define UTILITY_HOOK_PARAMS \
	PlannedStmt *pstmt, const char *queryString, \
	ProcessUtilityContext context, ParamListInfo params, \
	QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc
#define UTILITY_HOOK_ARGS \
	pstmt, queryString, context, params, queryEnv, dest, qc
#endif

#endif							/* FSYNC_COMPAT_H */
