/*-------------------------------------------------------------------------
 *
 * status.c
 *		What each repository is doing, for fsync_status().
 *
 * Progress changes several times a second and nobody needs it after a
 * restart, so it lives in shared memory; what must outlive the worker is in
 * fsync_repositories.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "shared.h"

RepositoryStatus *
status_find(Oid database, const pg_uuid_t *id)
{
	for (int i = 0; i < shared->n_repositories; i++)
	{
		RepositoryStatus *status = &shared->repositories[i];

		if (status->used && status->database == database &&
			memcmp(&status->id, id, sizeof(*id)) == 0)
			return status;
	}
	return NULL;
}

bool
status_get(const pg_uuid_t *id, RepositoryStatus *out)
{
	RepositoryStatus *status;

	if (shared == NULL)
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	status = status_find(MyDatabaseId, id);
	if (status != NULL)
		*out = *status;
	LWLockRelease(shared->lock);
	return status != NULL;
}

bool
status_publish(const RepositoryStatus *status)
{
	RepositoryStatus *slot;
	RepositoryTotals totals = {0};

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = status_find(status->database, &status->id);
	if (slot != NULL)
		totals = slot->totals;
	for (int i = 0; slot == NULL && i < shared->n_repositories; i++)
	{
		if (!shared->repositories[i].used)
			slot = &shared->repositories[i];
	}
	if (slot != NULL)
	{
		*slot = *status;
		slot->used = true;
		slot->totals = totals;
	}
	LWLockRelease(shared->lock);
	return slot != NULL;
}

int64
status_grant_watches(const pg_uuid_t *id, int64 wanted, int64 total)
{
	RepositoryStatus *own;
	int64		left = total;
	int64		granted = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	own = status_find(MyDatabaseId, id);
	for (int i = 0; i < shared->n_repositories; i++)
	{
		if (shared->repositories[i].used && &shared->repositories[i] != own)
			left -= shared->repositories[i].watches;
	}
	if (own != NULL)
		granted = own->watches = Max(own->watches, Min(wanted, Max(left, 0)));
	LWLockRelease(shared->lock);
	return granted;
}

void
status_withdraw(const pg_uuid_t *id)
{
	RepositoryStatus *status;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	status = status_find(MyDatabaseId, id);
	if (status != NULL)
		status->used = false;
	LWLockRelease(shared->lock);
}

void
status_withdraw_all(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->n_repositories; i++)
	{
		RepositoryStatus *status = &shared->repositories[i];

		if (status->used && status->worker_pid == MyProcPid)
			status->used = false;
	}
	LWLockRelease(shared->lock);
}
