/*-------------------------------------------------------------------------
 *
 * shortage.c
 *		What the process lacks: a thread, a descriptor, memory.
 *
 * A shortage begins when something is first put off for it, and has ended when
 * nothing is put off and nothing was for longer than the longest pause between
 * two attempts: what is tried again is put off by nobody while it is under way.
 *
 *-------------------------------------------------------------------------
 */
#include "shortage.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Between two attempts, as the shortage lasts. */
#define SHORTAGE_PAUSE_MIN_US	50000
#define SHORTAGE_PAUSE_MAX_US	500000

/* From then on it is worth a word in the state. */
#define SHORTAGE_LASTS_US		1000000

/* Without any attempt that failed, it is over. */
#define SHORTAGE_OVER_US		1500000

/* Descriptors that one look at a file may need at once. */
#define SHORTAGE_PROBES			4

void
shortage_init(Shortage *shortage, int notify_fd)
{
	memset(shortage, 0, sizeof(*shortage));
	pthread_mutex_init(&shortage->lock, NULL);
	shortage->notify_fd = notify_fd;
}

bool
shortage_is(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

bool
shortage_confirmed(int error)
{
	int			fds[SHORTAGE_PROBES];
	int			n = 0;
	bool		lacking = false;

	if (error == SHORTAGE_OF_THREADS)
		return true;
	if (error != EMFILE && error != ENFILE)
		return false;
	while (n < SHORTAGE_PROBES && !lacking)
	{
		fds[n] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		lacking = fds[n] < 0;
		n += !lacking;
	}
	while (n > 0)
		close(fds[--n]);
	return lacking;
}

int64_t
shortage_note(Shortage *shortage, int error)
{
	int64_t		now = monotonic_us();
	int64_t		pause;
	bool		begins;

	pthread_mutex_lock(&shortage->lock);
	begins = shortage->error == 0;
	if (begins)
		shortage->since_us = now;
	shortage->error = error;
	shortage->last_us = now;
	pause = (now - shortage->since_us) / 2;
	pthread_mutex_unlock(&shortage->lock);
	if (begins && shortage->notify_fd >= 0)
		eventfd_write(shortage->notify_fd, 1);
	if (pause < SHORTAGE_PAUSE_MIN_US)
		pause = SHORTAGE_PAUSE_MIN_US;
	return now + (pause < SHORTAGE_PAUSE_MAX_US ? pause : SHORTAGE_PAUSE_MAX_US);
}

static void
count_waiting(Shortage *shortage, int by)
{
	pthread_mutex_lock(&shortage->lock);
	shortage->waiting += (unsigned) by;
	pthread_mutex_unlock(&shortage->lock);
}

bool
shortage_wait(Shortage *shortage, int error, const atomic_bool *stop)
{
	int64_t		due = shortage_note(shortage, error);
	int64_t		left;

	count_waiting(shortage, 1);
	while (!(stop != NULL && *stop) && (left = due - monotonic_us()) > 0)
		usleep(left < SHORTAGE_PAUSE_MIN_US ? (useconds_t) left : SHORTAGE_PAUSE_MIN_US);
	count_waiting(shortage, -1);
	return !(stop != NULL && *stop);
}

const char *
shortage_hint(int error)
{
	switch (error)
	{
		case SHORTAGE_OF_THREADS:
			return "Raise the number of processes that the server's user may have (ulimit -u, TasksMax of its systemd unit, pids.max of its control group). Until then files wait, and fsync_wait() with them.";
		case EMFILE:
			return "Raise the number of files that the server's processes may have open (ulimit -n, LimitNOFILE of its systemd unit). Until then files wait, and fsync_wait() with them.";
		case ENFILE:
			return "Raise fs.file-max with sysctl, or end programs that have many files open. Until then files wait, and fsync_wait() with them.";
		default:
			return "Free memory, or raise the limit of the server's control group. Until then files wait, and fsync_wait() with them.";
	}
}

static const char *
lacking_what(int error)
{
	switch (error)
	{
		case SHORTAGE_OF_THREADS:
			return "thread";
		case EMFILE:
		case ENFILE:
			return "file descriptor";
		default:
			return "memory";
	}
}

bool
shortage_lasts(Shortage *shortage, bool outstanding, char *reason, size_t size,
			   const char **hint)
{
	int64_t		now = monotonic_us();
	int			error;
	bool		lasts;

	pthread_mutex_lock(&shortage->lock);
	if (shortage->error != 0 && !outstanding && shortage->waiting == 0 &&
		now - shortage->last_us >= SHORTAGE_OVER_US)
		shortage->error = 0;
	error = shortage->error;
	lasts = error != 0 && now - shortage->since_us >= SHORTAGE_LASTS_US &&
		(outstanding || shortage->waiting > 0 ||
		 shortage->last_us - shortage->since_us >= SHORTAGE_LASTS_US / 2);
	pthread_mutex_unlock(&shortage->lock);
	if (!lasts)
		return false;
	snprintf(reason, size, "no %s is to be had: %s", lacking_what(error), strerror(error));
	*hint = shortage_hint(error);
	return true;
}

int64_t
shortage_due(Shortage *shortage)
{
	int64_t		now = monotonic_us();
	int64_t		due = INT64_MAX;

	pthread_mutex_lock(&shortage->lock);
	if (shortage->error != 0)
	{
		int64_t		lasts = shortage->since_us + SHORTAGE_LASTS_US;
		int64_t		over = shortage->last_us + SHORTAGE_OVER_US;

		due = lasts > now ? lasts : over > now ? over : now + SHORTAGE_PAUSE_MAX_US;
	}
	pthread_mutex_unlock(&shortage->lock);
	return due;
}
