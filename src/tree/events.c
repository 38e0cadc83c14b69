/*-------------------------------------------------------------------------
 *
 * events.c
 *		The kernel's inotify queue, emptied by a thread that does nothing else.
 *
 * Reading eagerly costs the writer: each event is then a wake-up of this
 * thread, and a program that writes 512 MB in small pieces is slowed to half.
 * So after a first event has been read at once, the reader lingers a few
 * milliseconds before the next, in which the kernel merges repeated events,
 * unless the queue is filling.
 *
 *-------------------------------------------------------------------------
 */
#include "events.h"

#include "clock.h"
#include "grow.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* A queue this full is read without lingering: a quarter of the default. */
#define EVENTS_FULL			(64 * 1024)
#define EVENTS_LINGER_NS	3000000
#define EVENTS_QUIET_US		50000

/* Events kept in memory; beyond it they count as lost, and are scanned for. */
#define EVENTS_MAX			1000000

struct EventReader
{
	int			fd;
	int			notify_fd;
	int			stop_fd;
	pthread_t	thread;
	pthread_mutex_t lock;		/* held while reading: a barrier must not pass
								 * between a read and its bookkeeping */
	EventBatch	batch;			/* read, not taken */
	char	   *buffer;
	size_t		buffer_size;
};

static bool
batch_append(EventBatch *batch, const struct inotify_event *ev,
			 const char *name, size_t name_len)
{
	Event	   *e;
	char	   *names;

	if (batch->count == EVENTS_MAX)
		return false;
	e = grow(batch->events, &batch->capacity, batch->count + 1, sizeof(Event));
	if (e == NULL)
		return false;
	batch->events = e;
	names = grow(batch->names, &batch->names_capacity, batch->names_len + name_len + 1, 1);
	if (names == NULL)
		return false;
	batch->names = names;
	e += batch->count++;
	e->wd = ev->wd;
	e->mask = ev->mask;
	e->cookie = ev->cookie;
	e->name_len = name_len;
	e->name = batch->names_len;
	memcpy(batch->names + batch->names_len, name, name_len);
	batch->names[batch->names_len + name_len] = '\0';
	batch->names_len += name_len + 1;
	return true;
}

/*
 * A repetition of one of the last few MODIFY events says nothing new; two
 * files that are written alternately defeat the kernel's own merging.  The
 * look back ends at the first event of another kind, which may have given the
 * name to another file.
 */
static bool
batch_repeats(const EventBatch *batch, const struct inotify_event *ev,
			  const char *name, size_t name_len)
{
	size_t		i = batch->count;
	size_t		stop = i > 8 ? i - 8 : 0;

	if (ev->mask != IN_MODIFY)
		return false;
	while (i-- > stop)
	{
		const Event *e = &batch->events[i];

		if (e->mask != IN_MODIFY)
			return false;
		if (e->wd == ev->wd && e->name_len == name_len &&
			memcmp(batch->names + e->name, name, name_len) == 0)
			return true;
	}
	return false;
}

/*
 * Counts what there is most of, with a few counters (Misra and Gries, "Finding
 * repeated elements", 1982): the directory that makes the queue overflow is to
 * be known, and at 400,000 events a second nothing may be slow.
 */
static void
count_modified(EventBatch *batch, int wd)
{
	BusyWatch  *unused = NULL;

	for (int i = 0; i < EVENTS_BUSIEST; i++)
	{
		BusyWatch  *busy = &batch->busiest[i];

		if (busy->modified == 0)
			unused = busy;
		else if (busy->wd == wd)
		{
			busy->modified++;
			return;
		}
	}
	if (unused != NULL)
		*unused = (BusyWatch) {wd, 1};
	else
		for (int i = 0; i < EVENTS_BUSIEST; i++)
			batch->busiest[i].modified--;
}

void
events_decode(EventBatch *batch, const char *data, size_t len)
{
	while (len >= sizeof(struct inotify_event))
	{
		struct inotify_event ev;
		const char *name = data + sizeof(ev);
		size_t		name_len;

		memcpy(&ev, data, sizeof(ev));
		if (ev.len > len - sizeof(ev))
		{
			batch->lost = true;
			return;
		}
		name_len = strnlen(name, ev.len);
		batch->decoded++;
		if (ev.mask == IN_MODIFY)
			count_modified(batch, ev.wd);
		if (ev.mask & IN_Q_OVERFLOW)
			batch->lost = true;
		else if (!batch->lost && !batch_repeats(batch, &ev, name, name_len) &&
				 !batch_append(batch, &ev, name, name_len))
			batch->lost = true;
		data += sizeof(ev) + ev.len;
		len -= sizeof(ev) + ev.len;
	}
	if (len > 0)
		batch->lost = true;
}

void
events_batch_free(EventBatch *batch)
{
	free(batch->events);
	free(batch->names);
	memset(batch, 0, sizeof(*batch));
}

/* Reads at least `want` bytes if they are there; called with the lock held. */
static void
read_queue(EventReader *reader, int want)
{
	while (want > 0)
	{
		ssize_t		n = read(reader->fd, reader->buffer, reader->buffer_size);

		if (n <= 0)
		{
			if (n < 0 && errno == EINTR)
				continue;
			break;
		}
		events_decode(&reader->batch, reader->buffer, n);
		want -= n;
	}
	if (reader->batch.count > 0 || reader->batch.lost)
		eventfd_write(reader->notify_fd, 1);
}

static void *
reader_main(void *arg)
{
	EventReader *reader = arg;
	struct pollfd fds[2] = {
		{.fd = reader->fd, .events = POLLIN},
		{.fd = reader->stop_fd, .events = POLLIN},
	};
	int64_t		last_read = 0;

	for (;;)
	{
		int			queued = 0;

		if (poll(fds, 2, -1) < 0)
		{
			/* the engine, which needs more descriptors, says what lacks */
			if (errno != EINTR)
				usleep(EVENTS_QUIET_US);
			continue;
		}
		if (fds[1].revents)
			return NULL;
		if (!fds[0].revents)
			continue;
		if (ioctl(reader->fd, FIONREAD, &queued) == 0 && queued < EVENTS_FULL &&
			monotonic_us() - last_read < EVENTS_QUIET_US)
		{
			struct timespec linger = {0, EVENTS_LINGER_NS};

			nanosleep(&linger, NULL);
			ioctl(reader->fd, FIONREAD, &queued);
		}
		pthread_mutex_lock(&reader->lock);
		read_queue(reader, queued > 0 ? queued : 1);
		pthread_mutex_unlock(&reader->lock);
		last_read = monotonic_us();
	}
}

EventReader *
events_start(int notify_fd)
{
	EventReader *reader = calloc(1, sizeof(EventReader));
	int			error;

	if (reader == NULL)
		return NULL;
	reader->notify_fd = notify_fd;
	reader->buffer_size = 64 * (sizeof(struct inotify_event) + NAME_MAX + 1);
	reader->buffer = malloc(reader->buffer_size);
	reader->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	reader->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	error = errno;
	pthread_mutex_init(&reader->lock, NULL);
	if (reader->buffer != NULL && reader->stop_fd >= 0 && reader->fd >= 0)
	{
		error = pthread_create(&reader->thread, NULL, reader_main, reader);
		if (error == 0)
			return reader;
	}
	if (reader->fd >= 0)
		close(reader->fd);
	if (reader->stop_fd >= 0)
		close(reader->stop_fd);
	free(reader->buffer);
	pthread_mutex_destroy(&reader->lock);
	free(reader);
	errno = error;
	return NULL;
}

void
events_stop(EventReader *reader)
{
	eventfd_write(reader->stop_fd, 1);
	pthread_join(reader->thread, NULL);
	close(reader->fd);
	close(reader->stop_fd);
	pthread_mutex_destroy(&reader->lock);
	events_batch_free(&reader->batch);
	free(reader->buffer);
	free(reader);
}

int
events_fd(const EventReader *reader)
{
	return reader->fd;
}

bool
events_take(EventReader *reader, EventBatch *batch)
{
	EventBatch	empty = {0};
	bool		any;

	events_batch_free(batch);
	pthread_mutex_lock(&reader->lock);
	any = reader->batch.count > 0 || reader->batch.lost;
	if (any)
	{
		*batch = reader->batch;
		reader->batch = empty;
	}
	pthread_mutex_unlock(&reader->lock);
	return any;
}

void
events_drain(EventReader *reader)
{
	int			queued = 0;

	pthread_mutex_lock(&reader->lock);
	if (ioctl(reader->fd, FIONREAD, &queued) == 0 && queued > 0)
		read_queue(reader, queued);
	pthread_mutex_unlock(&reader->lock);
}
