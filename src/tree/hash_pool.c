/*-------------------------------------------------------------------------
 *
 * hash_pool.c
 *		What the owner of a hash pool does: it submits, collects and cancels.
 *
 * Three lanes, each a queue with threads of its own: the small one with as many
 * threads as are allowed, the large and the low one with a single thread of low
 * priority.
 *
 *-------------------------------------------------------------------------
 */
#include "hash_threads.h"

#include "inode_hashes.h"

#include <errno.h>
#include <stdlib.h>

/* Takes the job out of the list; false: it is not there. */
static bool
list_remove(JobList *list, const HashJob *job)
{
	HashJob    *previous = NULL;
	HashJob    *at;

	for (at = list->head; at != NULL && at != job; at = at->next)
		previous = at;
	if (at == NULL)
		return false;
	if (previous != NULL)
		previous->next = at->next;
	else
		list->head = at->next;
	if (list->tail == at)
		list->tail = previous;
	at->next = NULL;
	return true;
}

static int
clamp_threads(int threads)
{
	if (threads < 1)
		return 1;
	return threads > MAX_SMALL_THREADS ? MAX_SMALL_THREADS : threads;
}

HashPool *
hash_pool_create(int threads, int notify_fd)
{
	HashPool   *pool = calloc(1, sizeof(HashPool));
	pthread_condattr_t monotonic;
	int			error;

	if (pool == NULL)
		return NULL;
	pool->small.wanted = clamp_threads(threads);
	pool->large.wanted = 1;
	pool->low.wanted = 1;
	pool->large.large = pool->low.large = pool->low.low = true;
	pool->rootfd = -1;
	pool->notify_fd = notify_fd;
	pool->shared = inode_hashes_create(INODE_HASHES_MAX);
	error = pool->shared == NULL ? errno : pthread_mutex_init(&pool->lock, NULL);
	if (error == 0)
		error = pthread_condattr_init(&monotonic);
	if (error == 0)
	{
		pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
		error = pthread_cond_init(&pool->small.work, &monotonic);
		if (error == 0)
			error = pthread_cond_init(&pool->large.work, &monotonic);
		if (error == 0)
			error = pthread_cond_init(&pool->low.work, &monotonic);
		pthread_condattr_destroy(&monotonic);
	}
	if (error != 0)
	{
		inode_hashes_free(pool->shared);
		free(pool);
		errno = error;
		return NULL;
	}
	return pool;
}

void
hash_pool_resize(HashPool *pool, int threads)
{
	Lane	   *lane = &pool->small;
	size_t		missing;

	pthread_mutex_lock(&pool->lock);
	lane->wanted = clamp_threads(threads);
	missing = lane->queued > (size_t) lane->idle ? lane->queued - (size_t) lane->idle : 0;
	while (missing-- > 0 && lane->running < lane->wanted)
	{
		/* fewer threads than allowed is no error: there is one already */
		if (hash_threads_start(pool, lane) != 0)
			break;
	}
	pthread_cond_broadcast(&lane->work);
	pthread_mutex_unlock(&pool->lock);
}

void
hash_pool_set_throttle(HashPool *pool, Throttle *throttle)
{
	pthread_mutex_lock(&pool->lock);
	pool->throttle = throttle;
	pthread_mutex_unlock(&pool->lock);
}

void
hash_pool_set_root(HashPool *pool, int rootfd)
{
	pthread_mutex_lock(&pool->lock);
	pool->rootfd = rootfd;
	pthread_mutex_unlock(&pool->lock);
}

void
hash_pool_doubt(HashPool *pool, const FileInfo *info)
{
	if (info != NULL)
		inode_hashes_doubt(pool->shared, info);
	else
		inode_hashes_doubt_all(pool->shared);
}

bool
hash_pool_is_doubted(HashPool *pool, const HashJob *job)
{
	return inode_hashes_is_doubted(pool->shared, job);
}

void
hash_pool_share_all(HashPool *pool, bool all)
{
	inode_hashes_share_all(pool->shared, all);
}

void
hash_pool_forget(HashPool *pool)
{
	inode_hashes_forget(pool->shared);
}

/* Puts a job where it will be done. */
static void
submit_locked(HashPool *pool, HashJob *job)
{
	job->error = 0;
	job->bytes = 0;
	job->size = job->expected_size;
	job->duration_us = 0;
	job->rootfd = pool->rootfd;
	job->shared = pool->shared;
	job->reading = 0;
	pool->outstanding++;

	/* without a root nothing can be said of the file, so say nothing */
	if (pool->rootfd < 0 || __atomic_load_n(&job->cancelled, __ATOMIC_RELAXED) != 0)
	{
		job->result = HASH_CANCELLED;
		hash_threads_finish(pool, job);
		return;
	}
	hash_threads_enqueue(pool, job->low ? &pool->low :
						 job->expected_size >= HASH_LARGE_FILE ? &pool->large : &pool->small,
						 job);
}

void
hash_pool_submit(HashPool *pool, HashJob *jobs)
{
	size_t		n_done;
	bool		wake;

	pthread_mutex_lock(&pool->lock);
	n_done = pool->n_done;
	while (jobs != NULL)
	{
		HashJob    *job = jobs;

		jobs = job->next;
		submit_locked(pool, job);
	}
	wake = hash_threads_must_notify(pool, pool->n_done > n_done);
	pthread_mutex_unlock(&pool->lock);
	if (wake)
		hash_threads_notify(pool);
}

size_t
hash_pool_outstanding(HashPool *pool)
{
	size_t		n;

	pthread_mutex_lock(&pool->lock);
	n = pool->outstanding;
	pthread_mutex_unlock(&pool->lock);
	return n;
}

HashJob *
hash_pool_collect(HashPool *pool)
{
	HashJob    *list;
	HashJob    *job;

	pthread_mutex_lock(&pool->lock);
	list = pool->done.head;
	pool->done.head = pool->done.tail = NULL;
	pool->n_done = 0;
	pool->urgent_done = pool->notified = false;
	for (job = list; job != NULL; job = job->next)
		pool->outstanding--;
	pthread_mutex_unlock(&pool->lock);
	return list;
}

/*
 * A job in work sees its flag at the next chunk.  One that still waits in the
 * small lane will soon be taken up and dropped; in the others it could wait for
 * hours, so it is taken out.
 */
void
hash_pool_cancel(HashPool *pool, HashJob *job)
{
	Lane	   *lane = job->low ? &pool->low : &pool->large;
	bool		wake;

	pthread_mutex_lock(&pool->lock);
	__atomic_store_n(&job->cancelled, 1, __ATOMIC_RELAXED);
	if (list_remove(hash_threads_list(lane, job), job))
	{
		lane->queued--;
		job->result = HASH_CANCELLED;
		hash_threads_finish(pool, job);
	}
	wake = hash_threads_must_notify(pool, true);

	/* it may wait for its stamps */
	pthread_cond_broadcast(&pool->small.work);
	pthread_cond_broadcast(&pool->large.work);
	pthread_cond_broadcast(&pool->low.work);
	pthread_mutex_unlock(&pool->lock);
	if (wake)
		hash_threads_notify(pool);
}

static void
free_jobs(JobList *list)
{
	HashJob    *job;

	while ((job = job_list_take(list)) != NULL)
	{
		free(job->path);
		free(job);
	}
}

void
hash_pool_destroy(HashPool *pool)
{
	int			i;

	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->small.work);
	pthread_cond_broadcast(&pool->large.work);
	pthread_cond_broadcast(&pool->low.work);
	pthread_mutex_unlock(&pool->lock);

	/* only the workers themselves change their state now */
	for (i = 0; i < MAX_WORKERS; i++)
	{
		bool		exists;

		pthread_mutex_lock(&pool->lock);
		exists = pool->workers[i].state != WORKER_NONE;
		pthread_mutex_unlock(&pool->lock);
		if (exists)
			pthread_join(pool->workers[i].thread, NULL);
	}
	free_jobs(&pool->small.urgent);
	free_jobs(&pool->small.queue);
	free_jobs(&pool->large.urgent);
	free_jobs(&pool->large.queue);
	free_jobs(&pool->low.urgent);
	free_jobs(&pool->low.queue);
	free_jobs(&pool->done);
	pthread_cond_destroy(&pool->small.work);
	pthread_cond_destroy(&pool->large.work);
	pthread_cond_destroy(&pool->low.work);
	pthread_mutex_destroy(&pool->lock);
	inode_hashes_free(pool->shared);
	free(pool);
}
