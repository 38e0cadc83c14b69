/*-------------------------------------------------------------------------
 *
 * hash.c
 *		Jobs of hashing, and the hash of a single file.
 *
 *-------------------------------------------------------------------------
 */
#include "hash.h"

#include "hash_lanes.h"

#include <errno.h>
#include <time.h>

int64_t
hash_bytes(const HashJob *job)
{
	return __atomic_load_n(&job->bytes, __ATOMIC_RELAXED);
}

int64_t
hash_size(const HashJob *job)
{
	return __atomic_load_n(&job->size, __ATOMIC_RELAXED);
}

void
hash_sleep_until(int64_t due_us)
{
	struct timespec due = {
		.tv_sec = due_us / 1000000, .tv_nsec = due_us % 1000000 * 1000
	};

	(void) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

void
hash_file(int rootfd, HashJob *job)
{
	HashLanes  *lanes = hash_lanes_create(&sha256_single, INT64_MAX);

	job->rootfd = rootfd;
	if (lanes == NULL)
	{
		job->result = HASH_ERROR;
		job->error = ENOMEM;
		return;
	}
	hash_lanes_add(lanes, job);
	while (hash_lanes_take_done(lanes) == NULL)
	{
		int64_t		due = hash_lanes_due(lanes, false);

		if (due > 0)
			hash_sleep_until(due);
		hash_lanes_step(lanes, false);
	}
	hash_lanes_free(lanes);
}
