/*-------------------------------------------------------------------------
 *
 * counters.c
 *		What was done for each repository, for fsync_stat.
 *
 * Like the cumulative statistics of PostgreSQL these are for people and
 * monitoring, so they live in shared memory and end with the server.  They
 * outlive the worker: a slot is given to another repository only when no
 * worker speaks of its own any more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "shared.h"

/* ---------------------------------------------------------------------
 * Slots; the lock is held
 * ---------------------------------------------------------------------
 */

static RepositoryCounters *
find_counters(const pg_uuid_t *id)
{
	for (int i = 0; i < shared->n_repositories; i++)
	{
		RepositoryCounters *counters = &shared->counters[i];

		if (counters->used && counters->database == MyDatabaseId &&
			memcmp(&counters->id, id, sizeof(*id)) == 0)
			return counters;
	}
	return NULL;
}

static bool
is_abandoned(const RepositoryCounters *counters)
{
	if (!counters->used)
		return true;
	for (int i = 0; i < shared->n_repositories; i++)
	{
		const RepositoryStatus *status = &shared->repositories[i];

		if (status->used && status->database == counters->database &&
			memcmp(&status->id, &counters->id, sizeof(counters->id)) == 0)
			return false;
	}
	return true;
}

static void
clear_counters(RepositoryCounters *counters, const pg_uuid_t *id, TimestampTz now)
{
	memset(counters, 0, sizeof(*counters));
	counters->used = true;
	counters->database = MyDatabaseId;
	counters->id = *id;
	counters->reset = now;
}

static RepositoryCounters *
claim_counters(const pg_uuid_t *id, TimestampTz now)
{
	for (int i = 0; i < shared->n_repositories; i++)
	{
		if (is_abandoned(&shared->counters[i]))
		{
			clear_counters(&shared->counters[i], id, now);
			return &shared->counters[i];
		}
	}
	return NULL;
}

/* ---------------------------------------------------------------------
 * For the worker, and for who reads them
 * ---------------------------------------------------------------------
 */

void
counters_add(const pg_uuid_t *id, const RepositoryCounters *more)
{
	TimestampTz now = GetCurrentTimestamp();
	RepositoryCounters *to;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	to = find_counters(id);
	if (to == NULL)
		to = claim_counters(id, now);
	if (to != NULL)
	{
		to->events += more->events;
		to->overflows += more->overflows;
		to->inspections += more->inspections;
		to->files_hashed += more->files_hashed;
		to->bytes_hashed += more->bytes_hashed;
		to->files_added += more->files_added;
		to->files_updated += more->files_updated;
		to->files_moved += more->files_moved;
		to->files_removed += more->files_removed;
		to->commits += more->commits;
		to->errors += more->errors;
		for (int i = 0; i < LAG_BUCKETS; i++)
			to->lag[i] += more->lag[i];
	}
	LWLockRelease(shared->lock);
}

bool
counters_get(const pg_uuid_t *id, RepositoryCounters *out)
{
	RepositoryCounters *counters;

	if (shared == NULL)
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	counters = find_counters(id);
	if (counters != NULL)
		*out = *counters;
	LWLockRelease(shared->lock);
	return counters != NULL;
}

bool
counters_reset(const pg_uuid_t *id)
{
	TimestampTz now = GetCurrentTimestamp();
	RepositoryCounters *counters;

	if (shared == NULL)
		return false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	counters = find_counters(id);
	if (counters != NULL)
		clear_counters(counters, id, now);
	LWLockRelease(shared->lock);
	return counters != NULL;
}
