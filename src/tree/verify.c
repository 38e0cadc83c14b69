/*-------------------------------------------------------------------------
 *
 * verify.c
 *		Reading files again, to see whether their content is still what their
 *		hash says.
 *
 *-------------------------------------------------------------------------
 */
#include "verify.h"
#include "clock.h"
#include "hash_lanes.h"
#include "scan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VERIFY_NICE			15
#define VERIFY_STACK		(256 * 1024)

/* Between two readings of content that differs: more than a clock tick. */
#define VERIFY_AGAIN_US		100000

/* The longest sleep, so that cancelling is noticed. */
#define VERIFY_SLEEP_US		50000

struct Verify
{
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_t	thread;
	VerifyItem *queue;
	VerifyItem *done;
	VerifyItem **done_end;
	size_t		outstanding;
	int			rootfd;			/* while something is outstanding */
	int64_t		rate;
	volatile int cancelled;		/* atomic */
	int			notify_fd;

	/* the thread's own */
	HashLanes  *lanes;
	int64_t		due_us;			/* the rate allows more from here on */
};

static bool
is_cancelled(const Verify *verify)
{
	return __atomic_load_n(&verify->cancelled, __ATOMIC_RELAXED) != 0;
}

static void
sleep_until(const Verify *verify, int64_t until_us)
{
	int64_t		now;

	while ((now = monotonic_us()) < until_us && !is_cancelled(verify))
		hash_sleep_until(until_us - now < VERIFY_SLEEP_US ? until_us :
						 now + VERIFY_SLEEP_US);
}

/* Waits as long as the rate wants for so many bytes. */
static void
pace(Verify *verify, int64_t piece)
{
	int64_t		now = monotonic_us();

	if (verify->rate == 0 || piece == 0)
		return;
	if (verify->due_us < now)
		verify->due_us = now;
	verify->due_us += (int64_t) ((double) piece * 1000000 / verify->rate);
	sleep_until(verify, verify->due_us);
}

/* As hash_file(), at the rate, and can be cancelled. */
static void
hash_gently(Verify *verify, HashJob *job)
{
	int64_t		paced = 0;

	hash_lanes_add(verify->lanes, job);
	while (hash_lanes_take_done(verify->lanes) == NULL)
	{
		int64_t		due = hash_lanes_due(verify->lanes, false);

		if (is_cancelled(verify))
			job->cancelled = 1;
		else if (due > 0)
			hash_sleep_until(due);
		hash_lanes_step(verify->lanes, false);
		pace(verify, job->bytes - paced);
		paced = job->bytes;
	}
}

/* Reads the file once; false: result is decided. */
static bool
read_once(Verify *verify, VerifyItem *item, int fd, uint8_t hash[PROTO_HASH_LEN])
{
	HashJob		job = {
		.path = item->path, .len = item->belief.path.len, .rootfd = verify->rootfd
	};

	/* what is dirty stays: its content is not that of the disk yet */
	(void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	hash_gently(verify, &job);
	item->result.bytes += job.bytes;
	(void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);

	switch (job.result)
	{
		case HASH_DONE:
			memcpy(hash, job.hash, PROTO_HASH_LEN);
			return scan_belief_matches(&item->belief, &job.info.stat);
		case HASH_ERROR:
			item->result.verdict = PROTO_VERIFIED_UNREADABLE;
			item->result.error = job.error;
			return false;
		case HASH_CANCELLED:
			item->cancelled = true;
			return false;
		default:
			return false;
	}
}

static void
verify_file(Verify *verify, VerifyItem *item)
{
	ProtoVerified *result = &item->result;
	uint8_t		again[PROTO_HASH_LEN];
	FileInfo	info;
	int			fd;

	result->verdict = PROTO_VERIFIED_CHANGED;
	fd = beneath_open_file(verify->rootfd, item->path, item->belief.path.len, &info);
	if (fd < 0)
	{
		if (errno == EIO)
		{
			result->verdict = PROTO_VERIFIED_UNREADABLE;
			result->error = errno;
		}
		return;
	}
	if (scan_belief_matches(&item->belief, &info.stat) &&
		read_once(verify, item, fd, result->found))
	{
		if (memcmp(result->found, item->belief.hash, PROTO_HASH_LEN) == 0)
			result->verdict = PROTO_VERIFIED_RIGHT;
		else
		{
			sleep_until(verify, monotonic_us() + VERIFY_AGAIN_US);
			if (read_once(verify, item, fd, again) &&
				memcmp(result->found, again, PROTO_HASH_LEN) == 0)
				result->verdict = PROTO_VERIFIED_CORRUPT;
		}
	}
	close(fd);
}

static void *
verify_main(void *arg)
{
	Verify	   *verify = arg;

	(void) setpriority(PRIO_PROCESS, 0, VERIFY_NICE);
	(void) syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
				   IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7));
	pthread_mutex_lock(&verify->lock);
	for (;;)
	{
		VerifyItem *item = verify->queue;

		if (item == NULL)
		{
			pthread_cond_wait(&verify->work, &verify->lock);
			continue;
		}
		verify->queue = item->next;
		item->next = NULL;
		pthread_mutex_unlock(&verify->lock);

		if (is_cancelled(verify))
			item->cancelled = true;
		else
			verify_file(verify, item);

		pthread_mutex_lock(&verify->lock);
		*verify->done_end = item;
		verify->done_end = &item->next;
		eventfd_write(verify->notify_fd, 1);
	}
	return NULL;
}

static int
start_thread(Verify *verify)
{
	pthread_attr_t attr;
	sigset_t	all;
	sigset_t	old;
	int			error = pthread_attr_init(&attr);

	if (error != 0)
		return error;
	(void) pthread_attr_setstacksize(&attr, VERIFY_STACK);
	(void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);

	/* signals are for the main thread */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&verify->thread, &attr, verify_main, verify);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return error;
}

Verify *
verify_create(int notify_fd)
{
	Verify	   *verify = calloc(1, sizeof(Verify));
	int			error = ENOMEM;

	if (verify == NULL)
		return NULL;
	verify->notify_fd = notify_fd;
	verify->rootfd = -1;
	verify->done_end = &verify->done;
	verify->lanes = hash_lanes_create(&sha256_single, INT64_MAX);
	if (verify->lanes != NULL)
	{
		error = pthread_mutex_init(&verify->lock, NULL);
		if (error == 0)
			error = pthread_cond_init(&verify->work, NULL);
		if (error == 0)
			error = start_thread(verify);
	}
	if (error != 0)
	{
		if (verify->lanes != NULL)
			hash_lanes_free(verify->lanes);
		free(verify);
		errno = error;
		return NULL;
	}
	return verify;
}

int
verify_submit(Verify *verify, VerifyItem *items, int rootfd, int64_t rate)
{
	int			fd = fcntl(rootfd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return -1;
	pthread_mutex_lock(&verify->lock);
	verify->rootfd = fd;
	verify->rate = rate;
	__atomic_store_n(&verify->cancelled, 0, __ATOMIC_RELAXED);
	verify->queue = items;
	for (; items != NULL; items = items->next)
		verify->outstanding++;
	pthread_cond_signal(&verify->work);
	pthread_mutex_unlock(&verify->lock);
	return 0;
}

void
verify_cancel(Verify *verify)
{
	__atomic_store_n(&verify->cancelled, 1, __ATOMIC_RELAXED);
}

VerifyItem *
verify_collect(Verify *verify, bool *last)
{
	VerifyItem *list;
	int			fd = -1;

	pthread_mutex_lock(&verify->lock);
	list = verify->done;
	verify->done = NULL;
	verify->done_end = &verify->done;
	for (VerifyItem *item = list; item != NULL; item = item->next)
		verify->outstanding--;
	*last = list != NULL && verify->outstanding == 0;
	if (*last)
	{
		fd = verify->rootfd;
		verify->rootfd = -1;
	}
	pthread_mutex_unlock(&verify->lock);
	if (fd >= 0)
		close(fd);
	return list;
}
