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
 * A thread with room for more files takes them only as far as idle threads
 * leave them: two processors that hash one file each are faster than one that
 * hashes two.
 *
 * One mutex guards everything; it is held for a few instructions at a time,
 * never while a file is touched.  A file that proves large when it is opened
 * by the small lane is handed over.
 *
 * A throttle holds up files that are not urgent: none is begun, and those in
 * work rest.  A thread that waits for that waits on its lane's condition, and
 * so an urgent job is never behind it.
 *
 *-------------------------------------------------------------------------
 */
#include "hash.h"

#include "clock.h"
#include "hash_lanes.h"

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
	int			idle;			/* of these, waiting or about to take a job */
	size_t		queued;
	bool		large;
} Lane;

typedef struct Worker
{
	struct HashPool *pool;
	Lane	   *lane;
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

static JobList *
list_of(Lane *lane, const HashJob *job)
{
	return job->urgent ? &lane->urgent : &lane->queue;
}

static void enqueue_locked(HashPool *pool, Lane *lane, HashJob *job, bool *wake);

/*
 * How long files that are not urgent have to rest, in nanoseconds; 0: not at
 * all.  With a limit they also rest while a thread has urgent ones, so that
 * each step is either charged or not.
 */
static int64_t
rest_locked(HashPool *pool, const HashLanes *lanes)
{
	if (pool->throttle == NULL || throttle_clock(pool->throttle) < 0)
		return 0;
	if (hash_lanes_urgent(lanes) > 0)
		return THROTTLE_SLEEP_NS;
	return throttle_delay_ns(pool->throttle);
}

/*
 * The next job for a thread with these in work, or NULL.  One that is
 * cancelled need not wait.
 */
static HashJob *
take_locked(Lane *lane, const HashLanes *lanes, bool resting)
{
	HashJob    *job = NULL;

	if (lane->running > lane->wanted)
		return NULL;
	if (hash_lanes_room(lanes, true))
		job = list_take(&lane->urgent);
	if (job == NULL && lane->queue.head != NULL && hash_lanes_room(lanes, false) &&
		(!resting || __atomic_load_n(&lane->queue.head->cancelled, __ATOMIC_RELAXED) != 0))
		job = list_take(&lane->queue);
	if (job != NULL)
		lane->queued--;
	return job;
}

/* Hands over what has ended; true when the owner is to be notified. */
static bool
finish_all_locked(HashPool *pool, Lane *lane, HashLanes *lanes)
{
	bool		notify_owner = false;
	HashJob    *job;

	while ((job = hash_lanes_take_done(lanes)) != NULL)
	{
		bool		wake = false;

		if (lane->large || job->result != HASH_CHANGED ||
			job->info.stat.size < HASH_LARGE_FILE)
			wake = finish_locked(pool, job);
		else if (__atomic_load_n(&job->cancelled, __ATOMIC_RELAXED) != 0)
		{
			/* the large lane's queue is no place for it, see hash_pool_cancel() */
			job->result = HASH_CANCELLED;
			wake = finish_locked(pool, job);
		}
		else
			enqueue_locked(pool, &pool->large, job, &wake);
		notify_owner |= wake;
	}
	return notify_owner;
}

/*
 * Waits until there may be a job, or until a file in work is due, or rested
 * for so many nanoseconds.  False when there is something to do at once.
 */
static bool
wait_locked(HashPool *pool, Lane *lane, HashLanes *lanes, int64_t rest_ns)
{
	int64_t		due = hash_lanes_due(lanes, rest_ns > 0);
	int64_t		start;
	struct timespec until;

	if (rest_ns > 0 && (hash_lanes_count(lanes) > 0 || lane->queued > 0))
	{
		int64_t		rested = monotonic_us() + 1 +
			(rest_ns < THROTTLE_SLEEP_NS ? rest_ns : THROTTLE_SLEEP_NS) / 1000;

		due = rested < due ? rested : due;
	}
	start = monotonic_us();
	if (due <= start)
		return false;
	if (!hash_lanes_room(lanes, true))
	{
		/* the signal for a new job is for a thread that can take it */
		pthread_mutex_unlock(&pool->lock);
		hash_sleep_until(due);
		pthread_mutex_lock(&pool->lock);
	}
	else
	{
		until.tv_sec = due / 1000000;
		until.tv_nsec = due % 1000000 * 1000;
		lane->idle++;
		if (due == INT64_MAX)
			pthread_cond_wait(&lane->work, &pool->lock);
		else
			(void) pthread_cond_timedwait(&lane->work, &pool->lock, &until);
		lane->idle--;
	}
	if (rest_ns > 0)
		hash_lanes_rested(lanes, monotonic_us() - start);
	return true;
}

/* The thread's next piece of work, unlocked: a new file, or a step of all. */
static void
work(Worker *worker, HashJob *job, Throttle *throttle, bool urgent_only)
{
	HashLanes  *lanes = worker->lanes;
	bool		urgent = job != NULL ? job->urgent : hash_lanes_urgent(lanes) > 0;

	throttle_begin(&worker->meter, urgent ? NULL : throttle);
	if (job != NULL)
		hash_lanes_add(lanes, job);
	else
		hash_lanes_step(lanes, urgent_only);
	throttle_end(&worker->meter);
}

static void *
worker_main(void *arg)
{
	Worker	   *worker = arg;
	HashPool   *pool = worker->pool;
	Lane	   *lane = worker->lane;
	HashLanes  *lanes = worker->lanes;
	bool		woken = true;

	/* Linux has priorities for each thread; failing, it is only less polite */
	if (lane->large)
		(void) setpriority(PRIO_PROCESS, (id_t) syscall(SYS_gettid), LARGE_NICE);

	pthread_mutex_lock(&pool->lock);
	lane->idle--;
	while (!pool->stopping &&
		   (lane->running <= lane->wanted || hash_lanes_count(lanes) > 0))
	{
		int64_t		rest_ns = rest_locked(pool, lanes);
		Throttle   *throttle = pool->throttle;
		HashJob    *job = NULL;

		if (woken || lane->queued > (size_t) lane->idle)
			job = take_locked(lane, lanes, rest_ns > 0);

		/* one that must rest, or has no room, is to look again: others leave
		 * the job to who was woken for it */
		if (job != NULL || lane->queued == 0)
			woken = false;
		if (job == NULL && wait_locked(pool, lane, lanes, rest_ns))
		{
			woken = true;
			continue;
		}
		pthread_mutex_unlock(&pool->lock);

		work(worker, job, throttle, rest_ns > 0);

		pthread_mutex_lock(&pool->lock);
		if (finish_all_locked(pool, lane, lanes))
		{
			pthread_mutex_unlock(&pool->lock);
			notify(pool);
			pthread_mutex_lock(&pool->lock);
		}
	}
	hash_lanes_cancel(lanes);
	(void) finish_all_locked(pool, lane, lanes);
	lane->running--;
	worker->state = WORKER_ENDED;
	pthread_mutex_unlock(&pool->lock);
	hash_lanes_free(lanes);
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

	worker->pool = pool;
	worker->lane = lane;
	worker->lanes = hash_lanes_create(sha256_kernel(),
									  lane->large ? INT64_MAX : HASH_LARGE_FILE);
	if (worker->lanes == NULL)
		return ENOMEM;
	memset(&worker->meter, 0, sizeof(worker->meter));
	error = pthread_attr_init(&attr);
	if (error != 0)
	{
		hash_lanes_free(worker->lanes);
		return error;
	}

	/* a refused size leaves the default, which only costs address space */
	(void) pthread_attr_setstacksize(&attr, THREAD_STACK);

	/* signals are for the main thread */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&worker->thread, &attr, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (error != 0)
	{
		hash_lanes_free(worker->lanes);
		return error;
	}
	worker->state = WORKER_RUNNING;
	lane->running++;
	lane->idle++;
	return 0;
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
	pthread_condattr_t monotonic;
	int			error;

	if (pool == NULL)
		return NULL;
	pool->small.wanted = clamp_threads(threads);
	pool->large.wanted = 1;
	pool->large.large = true;
	pool->rootfd = -1;
	pool->notify_fd = notify_fd;
	error = pthread_mutex_init(&pool->lock, NULL);
	if (error == 0)
		error = pthread_condattr_init(&monotonic);
	if (error == 0)
	{
		pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
		error = pthread_cond_init(&pool->small.work, &monotonic);
		if (error == 0)
			error = pthread_cond_init(&pool->large.work, &monotonic);
		pthread_condattr_destroy(&monotonic);
	}
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
	if (pool->rootfd < 0)
	{
		/* without a root nothing can be said of the file, so say nothing */
		job->result = HASH_CANCELLED;
		wake = finish_locked(pool, job);
	}
	else
		enqueue_locked(pool,
					   job->expected_size >= HASH_LARGE_FILE ? &pool->large : &pool->small,
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

	/* it may wait for its stamps */
	pthread_cond_broadcast(&pool->small.work);
	pthread_cond_broadcast(&pool->large.work);
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
