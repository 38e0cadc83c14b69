/*-------------------------------------------------------------------------
 *
 * compat.h
 *		What differs between the versions of PostgreSQL that fsync builds on
 *		(13 to 19), in one place.
 *
 * The names end in _compat, or are those of the later version; the rest of the
 * extension is written as if there were one version.  What the writes below SQL
 * need, which changes with nearly every version, is in records_compat.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_COMPAT_H
#define FSYNC_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "common/sha2.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "parser/parse_relation.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/sortsupport.h"
#if PG_VERSION_NUM >= 140000
#include "common/cryptohash.h"
#include "utils/backend_status.h"
#include "utils/wait_event.h"
#else
#include "pgstat.h"
#endif
#if PG_VERSION_NUM >= 170000
#include "common/file_utils.h"
#endif
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

#if PG_VERSION_NUM < 130000
#error "fsync needs PostgreSQL 13 or later"
#endif

/* Before the declaration, since 18. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Comments no longer count as one for 19's level of the warning. */
#ifndef pg_fallthrough
#define pg_fallthrough __attribute__((fallthrough))
#endif

/* Handlers have a type of their own, since 19. */
#ifndef PG_SIG_IGN
#define PG_SIG_IGN SIG_IGN
#endif

#if PG_VERSION_NUM < 140000
#define ROLE_PG_READ_SERVER_FILES DEFAULT_ROLE_READ_SERVER_FILES
#endif

/* Before 14 no warning was for the client alone. */
#ifndef WARNING_CLIENT_ONLY
#define WARNING_CLIENT_ONLY WARNING
#endif

/* The length of the character that a text begins with, or -1: it is none. */
static inline int
encoding_verifymbchar_compat(int encoding, const char *text, int len)
{
#if PG_VERSION_NUM >= 140000
	return pg_encoding_verifymbchar(encoding, text, len);
#else
	return pg_encoding_verifymb(encoding, text, len);
#endif
}

static inline Numeric
int64_to_numeric_compat(int64 value)
{
#if PG_VERSION_NUM >= 140000
	return int64_to_numeric(value);
#else
	return DatumGetNumeric(DirectFunctionCall1(int8_numeric, Int64GetDatum(value)));
#endif
}

/* In just this mode. */
static inline bool
lock_held_by_me_compat(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, mode, false);
#else
	return LockHeldByMe(tag, mode);
#endif
}

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

static inline bool
has_schema_usage_compat(Oid schema, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/*
 * SPI_OK_UTILITY if there is a dest: the rows went there, as they came (before
 * 14, when all were there).
 */
static inline int
execute_plan_compat(SPIPlanPtr plan, ParamListInfo params, DestReceiver *dest)
{
#if PG_VERSION_NUM >= 140000
	SPIExecuteOptions options = {.params = params, .dest = dest};

	return SPI_execute_plan_extended(plan, &options);
#else
	int			rc = SPI_execute_plan_with_paramlist(plan, params, false, 0);
	TupleTableSlot *slot;

	if (dest == NULL || rc != SPI_OK_SELECT)
		return rc;
	slot = MakeSingleTupleTableSlot(SPI_tuptable->tupdesc, &TTSOpsHeapTuple);
	dest->rStartup(dest, rc, SPI_tuptable->tupdesc);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		ExecStoreHeapTuple(SPI_tuptable->vals[i], slot, false);
		if (!dest->receiveSlot(slot, dest))
			break;
	}
	dest->rShutdown(dest);
	ExecDropSingleTupleTableSlot(slot);
	SPI_freetuptable(SPI_tuptable);
	return SPI_OK_UTILITY;
#endif
}

/* SHA-256 of what comes in pieces; what begins must end, or the transaction must. */
#if PG_VERSION_NUM >= 140000
typedef pg_cryptohash_ctx *Sha256Compat;
#else
typedef pg_sha256_ctx Sha256Compat;
#endif

static inline void
sha256_begin_compat(Sha256Compat *hash)
{
#if PG_VERSION_NUM >= 140000
	*hash = pg_cryptohash_create(PG_SHA256);
	if (*hash == NULL || pg_cryptohash_init(*hash) < 0)
		elog(ERROR, "could not begin a SHA-256");
#else
	pg_sha256_init(hash);
#endif
}

static inline void
sha256_update_compat(Sha256Compat *hash, const char *data, size_t len)
{
#if PG_VERSION_NUM >= 140000
	if (pg_cryptohash_update(*hash, (const uint8 *) data, len) < 0)
		elog(ERROR, "could not go on with a SHA-256");
#else
	pg_sha256_update(hash, (const uint8 *) data, len);
#endif
}

static inline void
sha256_end_compat(Sha256Compat *hash, uint8 digest[PG_SHA256_DIGEST_LENGTH])
{
#if PG_VERSION_NUM >= 140000
	if (pg_cryptohash_final(*hash, digest, PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not end a SHA-256");
	pg_cryptohash_free(*hash);
#else
	pg_sha256_final(hash, digest);
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
