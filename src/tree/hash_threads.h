/*-------------------------------------------------------------------------
 *
 * hash_threads.h
 *		The threads of a hash pool, and what they share with its owner.
 *
 * One mutex guards everything; all functions are called with it held, but the
 * one that says otherwise.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_HASH_THREADS_H
#define FSYNC_HASH_THREADS_H

#include "hash.h"
#include "hash_lanes.h"

#include <pthread.h>

#define MAX_SMALL_THREADS	64
#define MAX_WORKERS			(MAX_SMALL_THREADS + 2)

typedef enum WorkerState
{
	WORKER_NONE = 0,			/* the slot is free */
	WORKER_RUNNING,
	WORKER_ENDED,				/* to be joined */
} WorkerState;

typedef struct JobList
{
	HashJob    *head;
	HashJob    *tail;
} JobList;

typedef struct Lane
{
	JobList		urgent;			/* taken first */
	JobList		queue;
	pthread_cond_t work;
	int			wanted;			/* threads allowed */
	int			running;		/* threads that exist */
	int			idle;			/* of these, waiting or about to take a job */
	size_t		queued;
	bool		large;			/* files of any size, by low priority */
	bool		low;			/* ... one at a time */
} Lane;

typedef struct Worker
{
	struct HashPool *pool;
	Lane	   *lane;
	bool		polite;			/* has low priority */
	bool		ends;			/* ... and is not needed any more */
	HashLanes  *lanes;			/* the thread's, once it runs */
	ThrottleMeter meter;
	pthread_t	thread;
	WorkerState state;
} Worker;

struct HashPool
{
	pthread_mutex_t lock;
	Lane		small;
	Lane		large;
	Lane		low;
	JobList		done;
	size_t		n_done;
	int64_t		done_us;		/* when the first of these was */
	bool		urgent_done;	/* one of these is */
	bool		notified;		/* of these, the owner was */
	Worker		workers[MAX_WORKERS];
	size_t		outstanding;
	Throttle   *throttle;
	struct InodeHashes *shared; /* has a lock of its own */
	int			rootfd;
	int			notify_fd;
	bool		stopping;
};

static inline void
job_list_append(JobList *list, HashJob *job)
{
	job->next = NULL;
	if (list->tail != NULL)
		list->tail->next = job;
	else
		list->head = job;
	list->tail = job;
}

static inline HashJob *
job_list_take(JobList *list)
{
	HashJob    *job = list->head;

	if (job != NULL)
	{
		list->head = job->next;
		if (list->head == NULL)
			list->tail = NULL;
		job->next = NULL;
	}
	return job;
}

/* Where a job of the lane waits. */
extern JobList *hash_threads_list(Lane *lane, const HashJob *job);

/*
 * Queues a job and sees to it that somebody does it; where no thread can be had
 * at all, the job has ended as HASH_STARVED.
 */
extern void hash_threads_enqueue(HashPool *pool, Lane *lane, HashJob *job);

/* Starts a thread of the lane; 0 or an error number. */
extern int	hash_threads_start(HashPool *pool, Lane *lane);

/* Puts a job, with its result, where the owner collects it. */
extern void hash_threads_finish(HashPool *pool, HashJob *job);

/*
 * Whether the owner is to be notified: at once if there is anything for it, or
 * for something urgent, or for many, or after a while.
 */
extern bool hash_threads_must_notify(HashPool *pool, bool at_once);

/* Notifies it, after unlocking. */
extern void hash_threads_notify(const HashPool *pool);

#endif							/* FSYNC_HASH_THREADS_H */
