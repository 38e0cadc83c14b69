/*-------------------------------------------------------------------------
 *
 * hash_pool.c
 *		Threads that hash files.
 *
 * Two lanes, each a queue with workers of its own: the small one with as many
 * threads as are allowed, the large one with a single thread of low priority.
 * Threads come into being when there is work for them and then wait on a
 * condition without a timeout, so that an idle pool wakes nobody.
 *
 * One mutex guards everything; it is held for a few instructions at a time,
 * never while a file is touched.  A file that proves large when it is opened
 * by the small lane is handed over.
 *
 * A throttle holds up jobs that are not urgent: the small lane does not begin
 * one, the large one pauses within it.  A thread that waits for that waits on
 * its lane's condition, and so an urgent job is never behind it.
 *
 *-------------------------------------------------------------------------
 */
#include "hash.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_SMALL_THREADS	64
#define MAX_WORKERS			(MAX_SMALL_THREADS + 1)
#define THREAD_STACK		(256 * 1024)
#define LARGE_NICE			10

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
	int			idle;			/* of these, waiting */
	size_t		queued;
	bool		large;
} Lane;

typedef struct Worker
{
	struct HashPool *pool;
	Lane	   *lane;
	pthread_t	thread;
	WorkerState state;
	HashJob    *job;			/* in work */
	ThrottleMeter meter;
} Worker;

struct HashPool
{
	pthread_mutex_t lock;
	Lane		small;
	Lane		large;
	JobList		done;
	Worker		workers[MAX_WORKERS];
	size_t		outstanding;
	Throttle   *throttle;
	int			rootfd;
	int			notify_fd;
	bool		stopping;
};

static void
list_append(JobList *list, HashJob *job)
{
	job->next = NULL;
	if (list->tail != NULL)
		list->tail->next = job;
	else
		list->head = job;
	list->tail = job;
}

static HashJob *
list_take(JobList *list)
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

/* Adds a finished job; true when the owner is to be notified after unlocking. */
static bool
finish_locked(HashPool *pool, HashJob *job)
{
	bool		first = pool->done.head == NULL;

	list_append(&pool->done, job);
	return first;
}

/* An eventfd whose counter is full has been written anyway. */
static void
notify(const HashPool *pool)
{
	const uint64_t one = 1;
	ssize_t		n;

	do
		n = write(pool->notify_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

/* ---------------------------------------------------------------------
 * Threads
 * ---------------------------------------------------------------------
 */

static int64_t
monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/*
 * The thread's work on one job, unlocked.  True when the job is done, false
 * when it belongs to the large lane.
 */
static bool
run_job(HashScratch *scratch, HashJob *job, bool large)
{
	int64_t		start = monotonic_us();

	if (scratch == NULL)
	{
		job->result = HASH_ERROR;
		job->error = ENOMEM;
		return true;
	}
	/* without a root nothing can be said of the file, so say nothing */
	if (job->rootfd < 0)
	{
		job->result = HASH_CANCELLED;
		return true;
	}
	job->result = hash_with_scratch(scratch, job->rootfd, job->path, job->len,
									large ? INT64_MAX : HASH_LARGE_FILE,
									&job->cancelled, &job->info, job->hash,
									&job->bytes, &job->error);
	job->duration_us = monotonic_us() - start;
	return large || job->result != HASH_CHANGED || job->info.stat.size < HASH_LARGE_FILE;
}

static JobList *
list_of(Lane *lane, const HashJob *job)
{
	return job->urgent ? &lane->urgent : &lane->queue;
}

static void enqueue_locked(HashPool *pool, Lane *lane, HashJob *job, bool *wake);

/* Waits for work, or so many nanoseconds; 0: without end. */
static void
wait_locked(HashPool *pool, Lane *lane, int64_t ns)
{
	struct timespec until;

	lane->idle++;
	if (ns == 0)
		pthread_cond_wait(&lane->work, &pool->lock);
	else
	{
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += ns < THROTTLE_SLEEP_NS ? ns : THROTTLE_SLEEP_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		(void) pthread_cond_timedwait(&lane->work, &pool->lock, &until);
	}
	lane->idle--;
}

/* The next job; or NULL, and how long to wait for it. */
static HashJob *
take_locked(HashPool *pool, Lane *lane, int64_t *wait_ns)
{
	HashJob    *job = list_take(&lane->urgent);

	*wait_ns = 0;
	if (job == NULL && lane->queue.head != NULL && pool->throttle != NULL &&
		__atomic_load_n(&lane->queue.head->cancelled, __ATOMIC_RELAXED) == 0)
		*wait_ns = throttle_delay_ns(pool->throttle);
	if (job == NULL && *wait_ns == 0)
		job = list_take(&lane->queue);
	return job;
}

/* Between two pieces of a large file.  Who waits behind it ends the pause. */
static void
pause_large(void *arg)
{
	Worker	   *worker = arg;
	HashPool   *pool = worker->pool;
	int64_t		wait_ns = throttle_used(&worker->meter);

	if (wait_ns == 0)
		return;
	pthread_mutex_lock(&pool->lock);
	while (wait_ns > 0 && worker->lane->urgent.head == NULL && !pool->stopping &&
		   __atomic_load_n(&worker->job->cancelled, __ATOMIC_RELAXED) == 0)
	{
		wait_locked(pool, worker->lane, wait_ns);
		wait_ns = throttle_delay_ns(pool->throttle);
	}
	pthread_mutex_unlock(&pool->lock);
}

static void *
worker_main(void *arg)
{
	Worker	   *worker = arg;
	HashPool   *pool = worker->pool;
	Lane	   *lane = worker->lane;
	HashScratch *scratch = hash_scratch_create();

	/* Linux has priorities for each thread; failing, it is only less polite */
	if (lane->large)
	{
		(void) setpriority(PRIO_PROCESS, (id_t) syscall(SYS_gettid), LARGE_NICE);
		if (scratch != NULL)
			hash_scratch_set_pause(scratch, pause_large, worker);
	}

	pthread_mutex_lock(&pool->lock);
	while (!pool->stopping && lane->running <= lane->wanted)
	{
		int64_t		wait_ns;
		HashJob    *job = take_locked(pool, lane, &wait_ns);
		Throttle   *throttle = pool->throttle;
		bool		done;
		bool		wake = false;

		if (job == NULL)
		{
			wait_locked(pool, lane, wait_ns);
			continue;
		}
		lane->queued--;
		worker->job = job;
		pthread_mutex_unlock(&pool->lock);

		throttle_begin(&worker->meter, job->urgent ? NULL : throttle);
		done = run_job(scratch, job, lane->large);
		throttle_end(&worker->meter);

		pthread_mutex_lock(&pool->lock);
		worker->job = NULL;
		if (!done && __atomic_load_n(&job->cancelled, __ATOMIC_RELAXED) != 0)
		{
			/* the large lane's queue is no place for it, see hash_pool_cancel() */
			job->result = HASH_CANCELLED;
			done = true;
		}
		if (done)
			wake = finish_locked(pool, job);
		else
			enqueue_locked(pool, &pool->large, job, &wake);
		if (wake)
		{
			pthread_mutex_unlock(&pool->lock);
			notify(pool);
			pthread_mutex_lock(&pool->lock);
		}
	}
	lane->running--;
	worker->state = WORKER_ENDED;
	pthread_mutex_unlock(&pool->lock);
	hash_scratch_free(scratch);
	return NULL;
}

/* Starts a worker of the lane; 0 or an error number. */
static int
start_worker_locked(HashPool *pool, Lane *lane)
{
	Worker	   *worker = NULL;
	pthread_attr_t attr;
	sigset_t	all;
	sigset_t	old;
	int			error;
	int			i;

	for (i = 0; i < MAX_WORKERS; i++)
	{
		Worker	   *slot = &pool->workers[i];

		/* an ended worker only has to return, and needs no lock for that */
		if (slot->state == WORKER_ENDED)
		{
			pthread_join(slot->thread, NULL);
			slot->state = WORKER_NONE;
		}
		if (slot->state == WORKER_NONE && worker == NULL)
			worker = slot;
	}
	if (worker == NULL)
		return EAGAIN;

	error = pthread_attr_init(&attr);
	if (error != 0)
		return error;
	worker->pool = pool;
	worker->lane = lane;
	worker->job = NULL;
	memset(&worker->meter, 0, sizeof(worker->meter));

	/* a refused size leaves the default, which only costs address space */
	(void) pthread_attr_setstacksize(&attr, THREAD_STACK);

	/* signals are for the main thread */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&worker->thread, &attr, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (error == 0)
	{
		worker->state = WORKER_RUNNING;
		lane->running++;
	}
	return error;
}

/*
 * Queues a job and sees to it that somebody does it.  *wake as from
 * finish_locked(): where no thread can be had at all, the job has failed.
 */
static void
enqueue_locked(HashPool *pool, Lane *lane, HashJob *job, bool *wake)
{
	int			error = 0;

	list_append(list_of(lane, job), job);
	lane->queued++;
	if (lane->queued > (size_t) lane->idle && lane->running < lane->wanted && !pool->stopping)
		error = start_worker_locked(pool, lane);
	if (error != 0 && lane->running == 0)
	{
		list_remove(list_of(lane, job), job);
		lane->queued--;
		job->result = HASH_ERROR;
		job->error = error;
		*wake = finish_locked(pool, job);
		return;
	}
	pthread_cond_signal(&lane->work);
}

/* ---------------------------------------------------------------------
 * The owner's side
 * ---------------------------------------------------------------------
 */

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
	pthread_condattr_t attr;
	int			error;

	if (pool == NULL)
		return NULL;
	pool->small.wanted = clamp_threads(threads);
	pool->large.wanted = 1;
	pool->large.large = true;
	pool->rootfd = -1;
	pool->notify_fd = notify_fd;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	error = pthread_mutex_init(&pool->lock, NULL);
	if (error == 0)
		error = pthread_cond_init(&pool->small.work, &attr);
	if (error == 0)
		error = pthread_cond_init(&pool->large.work, &attr);
	pthread_condattr_destroy(&attr);
	if (error != 0)
	{
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
		if (start_worker_locked(pool, lane) != 0)
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
hash_pool_submit(HashPool *pool, HashJob *job)
{
	bool		wake = false;

	job->error = 0;
	job->bytes = 0;
	job->duration_us = 0;
	__atomic_store_n(&job->cancelled, 0, __ATOMIC_RELAXED);

	pthread_mutex_lock(&pool->lock);
	job->rootfd = pool->rootfd;
	pool->outstanding++;
	enqueue_locked(pool, job->expected_size >= HASH_LARGE_FILE ? &pool->large : &pool->small,
				   job, &wake);
	pthread_mutex_unlock(&pool->lock);
	if (wake)
		notify(pool);
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
	for (job = list; job != NULL; job = job->next)
		pool->outstanding--;
	pthread_mutex_unlock(&pool->lock);
	return list;
}

/*
 * A job in work sees its flag at the next chunk.  One that still waits in the
 * small lane will soon be taken up and dropped; in the large lane it could
 * wait for hours, so it is taken out.
 */
void
hash_pool_cancel(HashPool *pool, HashJob *job)
{
	bool		wake = false;

	pthread_mutex_lock(&pool->lock);
	__atomic_store_n(&job->cancelled, 1, __ATOMIC_RELAXED);
	if (list_remove(list_of(&pool->large, job), job))
	{
		pool->large.queued--;
		job->result = HASH_CANCELLED;
		wake = finish_locked(pool, job);
	}
	pthread_mutex_unlock(&pool->lock);
	if (wake)
		notify(pool);
}

static void
free_jobs(JobList *list)
{
	HashJob    *job;

	while ((job = list_take(list)) != NULL)
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
	for (i = 0; i < MAX_WORKERS; i++)
	{
		if (pool->workers[i].state == WORKER_RUNNING && pool->workers[i].job != NULL)
			__atomic_store_n(&pool->workers[i].job->cancelled, 1, __ATOMIC_RELAXED);
	}
	pthread_cond_broadcast(&pool->small.work);
	pthread_cond_broadcast(&pool->large.work);
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
	free_jobs(&pool->done);
	pthread_cond_destroy(&pool->small.work);
	pthread_cond_destroy(&pool->large.work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
