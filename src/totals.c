/*-------------------------------------------------------------------------
 *
 * totals.c
 *		How many files a repository has, and how many bytes: kept in shared
 *		memory, so that nobody has to read its rows for that.
 *
 * The worker knows what it writes, and adds it when its transaction commits.
 * Whoever else writes file_records, and be it a trigger within the worker's own
 * transaction, makes the totals of all repositories of the database unknown:
 * what they wrote is not known here.  The worker then counts anew, and until
 * that is done sessions count for themselves.
 *
 * That somebody wrote is seen by the lock: no way leads to the rows of a table,
 * be it a statement, COPY, TRUNCATE, ALTER TABLE, a cascade, logical replication
 * or what is written below SQL, that does not take a RowExclusiveLock or an
 * AccessExclusiveLock on it and keep it until the transaction ends.  So each
 * transaction that has an XID is asked at its commit whether it holds one; that
 * is a look into a hash table of the own process.  It is asked when its changes
 * have become visible and the lock is still held: who counts with an older
 * snapshot finds that the number of such transactions has grown.
 *
 * Prepared transactions hold locks, too, but are committed by others, who tell
 * nobody.  While there is one the totals are in doubt.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "common/int.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "parser/parsetree.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"

#include "compat.h"
#include "path_key.h"
#include "shared.h"
#include "totals.h"

/* The tables of this database, as they were at this generation. */
static uint32 tables_generation = 0;
static Oid	my_file_records = InvalidOid;
static Oid	my_problems = InvalidOid;

/* session: it prepares a transaction that wrote one of them */
static bool preparing = false;

/* worker: what its transaction has written */
static bool accounted = false;
static pg_uuid_t accounted_id;
static TotalsDelta accounted_delta;

/* worker: statements */
static bool statement_expected = false;
static bool others_wrote_within = false;
static ExecutorStart_hook_type previous_start_hook = NULL;

/* worker: TotalsCounts * of its repositories */
static List *registered = NIL;

/* ---------------------------------------------------------------------
 * Who writes
 * ---------------------------------------------------------------------
 */

static void
refresh_tables(void)
{
	uint32		generation = pg_atomic_read_u32(&shared->tables_generation);
	DatabaseSlot *slot;

	if (generation == tables_generation)
		return;
	LWLockAcquire(shared->lock, LW_SHARED);
	tables_generation = pg_atomic_read_u32(&shared->tables_generation);
	slot = registry_find_slot(MyDatabaseId);
	my_file_records = slot != NULL ? slot->file_records : InvalidOid;
	my_problems = slot != NULL ? slot->problems : InvalidOid;
	LWLockRelease(shared->lock);
}

static bool
holds_lock_of_writer(Oid table)
{
	LOCKTAG		tag;

	if (!OidIsValid(table))
		return false;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
	return lock_held_by_me_compat(&tag, RowExclusiveLock) ||
		lock_held_by_me_compat(&tag, AccessExclusiveLock);
}

/* Whether the transaction may have written the tables. */
static void
find_written(bool *file_records, bool *problems)
{
	*file_records = *problems = false;
	if (shared == NULL || !OidIsValid(MyDatabaseId) ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	refresh_tables();
	*file_records = holds_lock_of_writer(my_file_records);
	*problems = holds_lock_of_writer(my_problems);
}

static bool
add(Totals *to, const Totals *delta)
{
	return !pg_add_s64_overflow(to->files, delta->files, &to->files) &&
		!pg_add_s64_overflow(to->bytes, delta->bytes, &to->bytes) &&
		to->files >= 0 && to->bytes >= 0;
}

/* The worker has committed; the lock is held. */
static void
add_accounted(void)
{
	RepositoryStatus *status = status_find(MyDatabaseId, &accounted_id);
	TotalsCounts *counts = (TotalsCounts *) totals_find(&accounted_id);

	/* Out of range, they are as good as not known. */
	if (status != NULL && !add(&status->totals.sum, &accounted_delta.all))
		status->totals.known = false;
	for (int i = 0; counts != NULL && i < TOTALS_COUNTERS; i++)
	{
		TotalsCount *count = &counts->counts[i];

		if (count->going && !add(&count->sum, &accounted_delta.counted[i]))
			count->going = false;
	}
}

static void
note_commit(void)
{
	bool		file_records;
	bool		problems;
	DatabaseSlot *slot;

	find_written(&file_records, &problems);
	if (!file_records && !problems)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(MyDatabaseId);
	if (slot != NULL && problems)
		slot->problem_writes++;
	if (slot != NULL && file_records)
	{
		if (accounted && !others_wrote_within)
			add_accounted();
		else
		{
			slot->writes++;
			if (slot->proc != NULL)
				SetLatch(&slot->proc->procLatch);
		}
	}
	LWLockRelease(shared->lock);
}

static void
note_prepared(void)
{
	DatabaseSlot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(MyDatabaseId);
	if (slot != NULL)
	{
		slot->in_doubt = true;
		slot->doubts++;
		if (slot->proc != NULL)
			SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(shared->lock);
}

static void
end_transaction(void)
{
	preparing = false;
	accounted = false;
	statement_expected = false;
	others_wrote_within = false;
}

static void
xact_callback(XactEvent event, void *arg)
{
	bool		file_records;
	bool		problems;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			note_commit();
			end_transaction();
			break;
		case XACT_EVENT_PRE_PREPARE:

			/* Its locks are another's when it is prepared. */
			find_written(&file_records, &problems);
			preparing = file_records || problems;
			break;
		case XACT_EVENT_PREPARE:
			if (preparing)
				note_prepared();
			end_transaction();
			break;
		case XACT_EVENT_ABORT:
			end_transaction();
			break;
		default:
			break;
	}
}

void
totals_install(void)
{
	RegisterXactCallback(xact_callback, NULL);
}

/* ---------------------------------------------------------------------
 * Statements of others within those of the worker
 * ---------------------------------------------------------------------
 */

static bool
writes_file_records(const PlannedStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->resultRelations)
	{
		if (rt_fetch(lfirst_int(lc), statement->rtable)->relid == my_file_records)
			return true;
	}
	return false;
}

static void
start_hook(QueryDesc *query, int eflags)
{
	if (statement_expected)
		statement_expected = false;
	else if (writes_file_records(query->plannedstmt))
		others_wrote_within = true;
	if (previous_start_hook)
		previous_start_hook(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

void
totals_watch_statements(void)
{
	previous_start_hook = ExecutorStart_hook;
	ExecutorStart_hook = start_hook;
}

void
totals_expect_statement(bool expected)
{
	statement_expected = expected;
}

/* ---------------------------------------------------------------------
 * Sessions
 * ---------------------------------------------------------------------
 */

/*
 * A transaction that reads as of its beginning, or has written, sees others.  The
 * table that the worker follows may have been dropped, and made again.
 */
static bool
sees_what_is_committed(Oid table, Oid followed, bool written)
{
	return table == followed && !IsolationUsesXactSnapshot() && !written &&
		!has_subclass(table);
}

bool
totals_get(Oid file_records, const pg_uuid_t *id, Totals *out)
{
	bool		written;
	bool		problems;
	const DatabaseSlot *slot;
	const RepositoryStatus *status;
	bool		known;

	if (shared == NULL)
		return false;
	refresh_tables();
	find_written(&written, &problems);
	if (!sees_what_is_committed(file_records, my_file_records, written))
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	slot = registry_find_slot(MyDatabaseId);
	status = status_find(MyDatabaseId, id);
	known = slot != NULL && status != NULL && !slot->in_doubt && status->totals.known &&
		status->totals.writes == slot->writes;
	if (known)
		*out = status->totals.sum;
	LWLockRelease(shared->lock);
	return known;
}

bool
totals_get_problems(Oid table, const pg_uuid_t *id, int64 *problems, uint64 *writes)
{
	bool		file_records;
	bool		written;
	const DatabaseSlot *slot;
	const RepositoryStatus *status;
	bool		known = false;

	*writes = UINT64_MAX;
	if (shared == NULL)
		return false;
	refresh_tables();
	find_written(&file_records, &written);
	if (!sees_what_is_committed(table, my_problems, written))
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	slot = registry_find_slot(MyDatabaseId);
	status = status_find(MyDatabaseId, id);
	if (slot != NULL && status != NULL && !slot->in_doubt)
	{
		*writes = slot->problem_writes;
		known = status->totals.problems_known &&
			status->totals.problem_writes == slot->problem_writes;
		*problems = status->totals.problems;
	}
	LWLockRelease(shared->lock);
	return known;
}

void
totals_put_problems(const pg_uuid_t *id, int64 problems, uint64 writes)
{
	const DatabaseSlot *slot;
	RepositoryStatus *status;

	if (writes == UINT64_MAX)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(MyDatabaseId);
	status = status_find(MyDatabaseId, id);
	if (slot != NULL && status != NULL && slot->problem_writes == writes)
	{
		status->totals.problems_known = true;
		status->totals.problem_writes = writes;
		status->totals.problems = problems;
	}
	LWLockRelease(shared->lock);
}

/* ---------------------------------------------------------------------
 * Worker
 * ---------------------------------------------------------------------
 */

/*
 * Transactions that were prepared before may have written; what others do that
 * are under way is noticed, as they are asked when their changes are visible.
 */
void
totals_follow(Oid file_records, Oid problems)
{
	DatabaseSlot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(MyDatabaseId);
	if (slot != NULL && (slot->file_records != file_records || slot->problems != problems))
	{
		slot->file_records = file_records;
		slot->problems = problems;
		slot->writes++;
		slot->problem_writes++;
		slot->in_doubt = max_prepared_xacts > 0;
		pg_atomic_fetch_add_u32(&shared->tables_generation, 1);
	}
	LWLockRelease(shared->lock);
	refresh_tables();
}

void
totals_register(TotalsCounts *counts)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	registered = lappend(registered, counts);
	MemoryContextSwitchTo(old);
}

void
totals_forget(TotalsCounts *counts)
{
	registered = list_delete_ptr(registered, counts);
}

const TotalsCounts *
totals_find(const pg_uuid_t *id)
{
	ListCell   *lc;

	foreach(lc, registered)
	{
		TotalsCounts *counts = lfirst(lc);

		if (memcmp(&counts->id, id, sizeof(*id)) == 0)
			return counts;
	}
	return NULL;
}

static void
change(Totals *totals, int64 files, int64 bytes)
{
	totals->files += files;
	if (pg_add_s64_overflow(totals->bytes, bytes, &totals->bytes))
		totals->bytes = bytes < 0 ? PG_INT64_MIN : PG_INT64_MAX;
}

void
totals_changed(TotalsDelta *delta, const TotalsCounts *counts, ProtoStr path, int64 files,
			   int64 bytes)
{
	change(&delta->all, files, bytes);
	for (int i = 0; counts != NULL && i < TOTALS_COUNTERS; i++)
	{
		const TotalsCount *count = &counts->counts[i];
		ProtoStr	to = {count->path, count->len};

		if (count->going && !count->empty && path_compare(path, to) <= 0)
			change(&delta->counted[i], files, bytes);
	}
}

void
totals_account(const pg_uuid_t *id, const TotalsDelta *delta)
{
	accounted = true;
	accounted_id = *id;
	accounted_delta = *delta;
}

uint64
totals_writes(void)
{
	const DatabaseSlot *slot;
	uint64		writes;

	LWLockAcquire(shared->lock, LW_SHARED);
	slot = registry_find_slot(MyDatabaseId);
	writes = slot != NULL ? slot->writes : 0;
	LWLockRelease(shared->lock);
	return writes;
}

bool
totals_are_known(const pg_uuid_t *id)
{
	const DatabaseSlot *slot;
	const RepositoryStatus *status;
	bool		known;

	LWLockAcquire(shared->lock, LW_SHARED);
	slot = registry_find_slot(MyDatabaseId);
	status = status_find(MyDatabaseId, id);
	known = slot != NULL && status != NULL && status->totals.known &&
		status->totals.writes == slot->writes;
	LWLockRelease(shared->lock);
	return known;
}

bool
totals_are_in_doubt(uint32 *doubts)
{
	const DatabaseSlot *slot;
	bool		in_doubt;

	LWLockAcquire(shared->lock, LW_SHARED);
	slot = registry_find_slot(MyDatabaseId);
	in_doubt = slot != NULL && slot->in_doubt;
	*doubts = slot != NULL ? slot->doubts : 0;
	LWLockRelease(shared->lock);
	return in_doubt;
}

void
totals_are_certain(uint32 doubts)
{
	DatabaseSlot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(MyDatabaseId);
	if (slot != NULL && slot->doubts == doubts)
	{
		slot->in_doubt = false;
		slot->writes++;
		slot->problem_writes++;
	}
	LWLockRelease(shared->lock);
}

bool
totals_set(const pg_uuid_t *id, const TotalsCount *count, bool *differ, Totals *before)
{
	const DatabaseSlot *slot;
	RepositoryStatus *status;
	bool		done = false;

	*differ = false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = registry_find_slot(MyDatabaseId);
	status = status_find(MyDatabaseId, id);
	if (slot != NULL && status != NULL && !slot->in_doubt && slot->writes == count->writes)
	{
		RepositoryTotals *totals = &status->totals;

		*before = totals->sum;
		*differ = totals->known && totals->writes == slot->writes &&
			memcmp(&totals->sum, &count->sum, sizeof(Totals)) != 0;
		totals->known = true;
		totals->writes = slot->writes;
		totals->sum = count->sum;
		done = true;
	}
	LWLockRelease(shared->lock);
	return done;
}
