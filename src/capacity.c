/*-------------------------------------------------------------------------
 *
 * capacity.c
 *		What there is only so much of, and how much of it is used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/fd.h"

#include "capacity.h"
#include "shared.h"

/* What Linux gives a user who has set nothing. */
#define MAX_USER_WATCHES	8192

int64
capacity_inotify(const char *name, int64 otherwise)
{
	char		path[MAXPGPATH];
	long long	limit = otherwise;
	FILE	   *f;

	snprintf(path, sizeof(path), "/proc/sys/fs/inotify/%s", name);
	f = AllocateFile(path, "r");
	if (f != NULL)
	{
		if (fscanf(f, "%lld", &limit) != 1)
			limit = otherwise;
		FreeFile(f);
	}
	return limit;
}

/* The limit is the user's, whose other programs need some, too. */
int64
capacity_watches(void)
{
	return capacity_inotify("max_user_watches", MAX_USER_WATCHES) / 5 * 4;
}

void
capacity_get(CapacityUsed *out)
{
	memset(out, 0, sizeof(*out));
	if (shared == NULL)
		return;
	out->waiting_max = SHARED_REQUESTS;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_repositories; i++)
	{
		const RepositoryStatus *status = &shared->repositories[i];

		if (!status->used)
			continue;
		out->repositories++;
		out->trees += status->tree_pid != 0;
		out->watches += status->watches;
	}
	for (int i = 0; i < SHARED_REQUESTS; i++)
		out->waiting += shared->requests[i].phase != REQUEST_FREE;
	LWLockRelease(shared->lock);
}
