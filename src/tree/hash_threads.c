/*-------------------------------------------------------------------------
 *
 * hash_threads.c
 *		The threads of a hash pool: who takes what, and when it is handed back.
 *
 * Threads come into being when there is work for them and then wait on a
 * condition without a timeout, so that an idle pool wakes nobody.  Those with
 * low priority, beyond the processors, end when a second has brought nothing:
 * what comes later, one by one, is not for them.
 *
 * A thread with room for more files takes them only as far as idle threads
 * leave them: two processors that hash one file each are faster than one that
 * hashes two.  Small files are taken, hashed and handed back several at a time:
 * what costs most about them is to take turns at the lock.
 *
 * The lock is held for a few instructions at a time, never while a file is
 * touched.  A file that proves large when it is opened by the small lane is
 * handed over.
 *
 * A throttle holds up files that are not urgent: none is begun, and those in
 * work rest.  A thread that waits for that waits on its lane's condition, and
 * so an urgent job is never behind it.
 *
 *-------------------------------------------------------------------------
 */
#include "hash_threads.h"

#include "clock.h"
#include "shortage.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREAD_STACK		(256 * 1024)
#define POLITE_NICE			10

/* Steps of small files before the lock is taken again take about so long. */
#define STEPS_US			200

/* Results of jobs that are not urgent are collected together. */
#define NOTIFY_JOBS			64
#define NOTIFY_US			2000

/* A thread beyond the processors ends when there was nothing to do for so long. */
#define LINGER_US			1000000

void
hash_threads_finish(HashPool *pool, HashJob *job)
{
	job_list_append(&pool->done, job);
	if (pool->n_done++ == 0)
		pool->done_us = monotonic_us();
	pool->urgent_done |= job->urgent && !job->low;
}

bool
hash_threads_must_notify(HashPool *pool, bool at_once)
{
	if (pool->notified || pool->n_done == 0)
		return false;
	if (!at_once && !pool->urgent_done && pool->n_done < NOTIFY_JOBS &&
		monotonic_us() - pool->done_us < NOTIFY_US)
		return false;
	pool->notified = true;
	return true;
}

void
hash_threads_notify(const HashPool *pool)
{
	eventfd_write(pool->notify_fd, 1);
}

JobList *
hash_threads_list(Lane *lane, const HashJob *job)
{
	return job->urgent ? &lane->urgent : &lane->queue;
}

static bool
is_throttled(const Throttle *throttle)
{
	return throttle != NULL && throttle_clock(throttle) >= 0;
}

/*
 * How long files that are not urgent have to rest, in nanoseconds; 0: not at
 * all.  With a limit they also rest while a thread has urgent ones, so that
 * each step is either charged or not.
 */
static int64_t
rest_locked(HashPool *pool, const HashLanes *lanes)
{
	if (!is_throttled(pool->throttle))
		return 0;
	if (hash_lanes_urgent(lanes) > 0)
		return THROTTLE_SLEEP_NS;
	return throttle_delay_ns(pool->throttle);
}

/*
 * The next job for a thread with these in work and n that it has taken already,
 * or NULL.  One that is cancelled need not wait.
 */
static HashJob *
take_locked(Lane *lane, const HashLanes *lanes, int n, bool resting)
{
	HashJob    *job = NULL;

	if (lane->running > lane->wanted)
		return NULL;
	if (hash_lanes_room(lanes, n, !lane->low))
		job = job_list_take(&lane->urgent);
	if (job == NULL && lane->queue.head != NULL && hash_lanes_room(lanes, n, false) &&
		(!resting || __atomic_load_n(&lane->queue.head->cancelled, __ATOMIC_RELAXED) != 0))
		job = job_list_take(&lane->queue);
	if (job != NULL)
		lane->queued--;
	return job;
}

/* Hands over what has ended. */
static void
finish_all_locked(HashPool *pool, Lane *lane, HashLanes *lanes)
{
	HashJob    *job;

	while ((job = hash_lanes_take_done(lanes)) != NULL)
	{
		if (lane->large || job->result != HASH_CHANGED ||
			job->info.stat.size < HASH_LARGE_FILE)
			hash_threads_finish(pool, job);
		else if (__atomic_load_n(&job->cancelled, __ATOMIC_RELAXED) != 0)
		{
			/* the large lane's queue is no place for it, see hash_pool_cancel() */
			job->result = HASH_CANCELLED;
			hash_threads_finish(pool, job);
		}
		else
			hash_threads_enqueue(pool, &pool->large, job);
	}
}

static void
notify_unlocked(HashPool *pool)
{
	pthread_mutex_unlock(&pool->lock);
	hash_threads_notify(pool);
	pthread_mutex_lock(&pool->lock);
}

/*
 * Waits until there may be a job, or until a file in work is due, or rested
 * for so many nanoseconds.  False when there is something to do at once.
 */
static bool
wait_locked(Worker *worker, int64_t rest_ns)
{
	HashPool   *pool = worker->pool;
	Lane	   *lane = worker->lane;
	HashLanes  *lanes = worker->lanes;
	int64_t		due = hash_lanes_due(lanes, rest_ns > 0);
	int64_t		start;
	bool		lingers;
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
	lingers = due == INT64_MAX && worker->polite && (!lane->large || lane->low);
	if (lingers)
		due = start + LINGER_US;
	if (hash_threads_must_notify(pool, true))
	{
		notify_unlocked(pool);
		return true;
	}
	if (!hash_lanes_room(lanes, 0, !lane->low))
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
	worker->ends = lingers && lane->queued == 0 && monotonic_us() >= due;
	if (rest_ns > 0)
		hash_lanes_rested(lanes, monotonic_us() - start);
	return true;
}

/*
 * Takes up jobs, as many as there is room for and a fair share; the last ones
 * are not all for one thread.
 */
static void
take_all_locked(const HashPool *pool, Lane *lane, const HashLanes *lanes, bool resting,
				bool *woken, JobList *jobs)
{
	size_t		most = 1 + lane->queued / (size_t) (2 * lane->running);
	HashJob    *job;

	if (is_throttled(pool->throttle))
		most = 1;				/* whether others rest depends on each */

	for (size_t n = 0; n < most && (*woken || lane->queued > (size_t) lane->idle); n++)
	{
		job = take_locked(lane, lanes, (int) n, resting);
		if (job == NULL)
			break;
		job_list_append(jobs, job);
		*woken = false;
	}

	/* one that must rest, or has no room, is to look again: others leave
	 * the job to who was woken for it */
	if (lane->queued == 0)
		*woken = false;
}

/*
 * The thread's next piece of work, unlocked: new files, then a step of all, or
 * a few if they are so small that one or the other ends with each.
 */
static void
work(Worker *worker, JobList *jobs, Throttle *throttle, bool urgent_only)
{
	HashLanes  *lanes = worker->lanes;
	int64_t		start = monotonic_us();
	HashJob    *job;

	while ((job = job_list_take(jobs)) != NULL)
	{
		throttle_begin(&worker->meter, job->urgent ? NULL : throttle);
		hash_lanes_add(lanes, job);
		throttle_end(&worker->meter);
	}
	if (hash_lanes_urgent(lanes) > 0)
	{
		urgent_only |= is_throttled(throttle);
		throttle = NULL;
	}
	throttle_begin(&worker->meter, throttle);
	do
		hash_lanes_step(lanes, urgent_only);
	while (!urgent_only && hash_lanes_should_go_on(lanes) &&
		   monotonic_us() - start < STEPS_US);
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
	bool		wake_owner;

	/*
	 * More threads than processors are there for disks that are waited for;
	 * where all compute, the database comes first.  Linux has priorities for
	 * each thread; failing, it is only less polite.
	 */
	if (worker->polite)
		(void) setpriority(PRIO_PROCESS, 0, POLITE_NICE);

	pthread_mutex_lock(&pool->lock);
	lane->idle--;
	while (!pool->stopping && !worker->ends &&
		   (lane->running <= lane->wanted || hash_lanes_count(lanes) > 0))
	{
		int64_t		rest_ns = rest_locked(pool, lanes);
		Throttle   *throttle = pool->throttle;
		JobList		jobs = {0};

		take_all_locked(pool, lane, lanes, rest_ns > 0, &woken, &jobs);
		if (jobs.head == NULL && wait_locked(worker, rest_ns))
		{
			woken = true;
			continue;
		}
		pthread_mutex_unlock(&pool->lock);

		work(worker, &jobs, throttle, rest_ns > 0);

		pthread_mutex_lock(&pool->lock);
		finish_all_locked(pool, lane, lanes);
		if (hash_threads_must_notify(pool, false))
			notify_unlocked(pool);
	}

	/* without unlocking: as long as it counts, others find themselves too many */
	lane->running--;
	hash_lanes_cancel(lanes);
	finish_all_locked(pool, lane, lanes);
	worker->state = WORKER_ENDED;
	wake_owner = hash_threads_must_notify(pool, true);
	pthread_mutex_unlock(&pool->lock);
	if (wake_owner)
		hash_threads_notify(pool);
	hash_lanes_free(lanes);
	return NULL;
}

int
hash_threads_start(HashPool *pool, Lane *lane)
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
	worker->polite = lane->large || lane->running >= sysconf(_SC_NPROCESSORS_ONLN);
	worker->lanes = hash_lanes_create(lane->low ? &sha256_single : sha256_kernel(),
									  lane->large ? INT64_MAX : HASH_LARGE_FILE);
	if (worker->lanes == NULL)
		return ENOMEM;
	memset(&worker->meter, 0, sizeof(worker->meter));
	worker->ends = false;
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

void
hash_threads_enqueue(HashPool *pool, Lane *lane, HashJob *job)
{
	int			error = 0;

	if (lane->queued >= (size_t) lane->idle && lane->running < lane->wanted && !pool->stopping)
		error = hash_threads_start(pool, lane);
	if (error != 0 && lane->running == 0)
	{
		job->result = HASH_STARVED;
		job->error = error == ENOMEM ? ENOMEM : SHORTAGE_OF_THREADS;
		hash_threads_finish(pool, job);
		return;
	}
	job_list_append(hash_threads_list(lane, job), job);
	lane->queued++;
	pthread_cond_signal(&lane->work);
}
