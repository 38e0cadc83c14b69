/*-------------------------------------------------------------------------
 *
 * test_events.c
 *		Events arrive complete and in order, or are known to be lost.
 *
 *-------------------------------------------------------------------------
 */
#include "events.h"
#include "files.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

/* A buffer as read(2) fills it. */
static char raw[400000];
static size_t raw_len;

static void
put_event(int wd, uint32_t mask, uint32_t cookie, const char *name, size_t padded)
{
	struct inotify_event ev = {.wd = wd, .mask = mask, .cookie = cookie, .len = (uint32_t) padded};
	size_t		len = strlen(name);

	FILES_MUST(len <= padded && raw_len + sizeof(ev) + padded <= sizeof(raw));
	memcpy(raw + raw_len, &ev, sizeof(ev));
	memset(raw + raw_len + sizeof(ev), 0, padded);
	memcpy(raw + raw_len + sizeof(ev), name, len);
	raw_len += sizeof(ev) + padded;
}

/* Decodes the first len bytes from memory that ends there, and empties raw. */
static void
decode(EventBatch *batch, size_t len)
{
	char	   *copy = malloc(len ? len : 1);

	FILES_MUST(copy != NULL);
	memcpy(copy, raw, len);
	events_decode(batch, copy, len);
	free(copy);
}

static const char *
name_of(const EventBatch *batch, size_t i)
{
	return batch->names + batch->events[i].name;
}

/* The names of a batch, with a space behind each. */
static const char *
names(const EventBatch *batch)
{
	static char text[8192];

	text[0] = '\0';
	for (size_t i = 0; i < batch->count; i++)
	{
		strcat(text, name_of(batch, i));
		strcat(text, " ");
	}
	return text;
}

/* Fails if a name or a field of an event is not what the kernel wrote. */
static void
test_fields(void)
{
	EventBatch	batch = {0};

	raw_len = 0;
	put_event(3, IN_CREATE | IN_ISDIR, 0, "dir", 16);
	put_event(4, IN_DELETE_SELF, 0, "", 0);
	put_event(5, IN_MOVED_TO, 77, "full", 4);
	put_event(6, IN_MOVED_FROM, 78, "", 16);
	decode(&batch, raw_len);
	EQUALS(batch.count, 4);
	HOLDS(!batch.lost);
	CHECK_EQ_STR(name_of(&batch, 0), "dir", "the name ends where its padding begins");
	EQUALS(batch.events[0].name_len, 3);
	EQUALS(batch.events[0].wd, 3);
	EQUALS(batch.events[0].mask, IN_CREATE | IN_ISDIR);
	CHECK_EQ_STR(name_of(&batch, 1), "", "an event of the directory itself has no name");
	EQUALS(batch.events[1].name_len, 0);
	EQUALS(batch.events[1].wd, 4);
	CHECK_EQ_STR(name_of(&batch, 2), "full", "a name without padding is terminated here");
	EQUALS(batch.events[2].name_len, 4);
	EQUALS(batch.events[2].cookie, 77);
	EQUALS(batch.events[3].name_len, 0);
	events_batch_free(&batch);
	EQUALS(batch.count, 0);
}

/*
 * Fails if a program that writes two files in turn fills the memory, or if a
 * write is left out that came after the name was given to another file.
 */
static void
test_repetitions(void)
{
	EventBatch	batch = {0};

	raw_len = 0;
	for (int i = 0; i < 10; i++)
	{
		put_event(1, IN_MODIFY, 0, "a", 16);
		put_event(1, IN_MODIFY, 0, "b", 16);
	}
	put_event(2, IN_MODIFY, 0, "a", 16);
	put_event(1, IN_MODIFY, 0, "ab", 16);
	decode(&batch, raw_len);
	CHECK_EQ_STR(names(&batch), "a b a ab ", "repeated writes are one event a file");
	EQUALS(batch.events[2].wd, 2);

	/* across two reads as well */
	raw_len = 0;
	put_event(1, IN_MODIFY, 0, "b", 32);
	decode(&batch, raw_len);
	EQUALS(batch.count, 4);
	raw_len = 0;
	put_event(1, IN_MOVED_TO, 5, "b", 16);
	put_event(1, IN_MODIFY, 0, "b", 16);
	put_event(1, IN_CLOSE_WRITE, 0, "b", 16);
	put_event(1, IN_CLOSE_WRITE, 0, "b", 16);
	put_event(1, IN_MODIFY, 0, "b", 16);
	decode(&batch, raw_len);
	EQUALS(batch.count, 4 + 5);
	EQUALS(batch.events[5].mask, IN_MODIFY);
	EQUALS(batch.events[8].mask, IN_MODIFY);
	events_batch_free(&batch);
}

/* Fails if lost events go unnoticed, or what came with them is trusted. */
static void
test_overflow(void)
{
	EventBatch	batch = {0};

	raw_len = 0;
	put_event(1, IN_CREATE, 0, "before", 16);
	put_event(-1, IN_Q_OVERFLOW, 0, "", 0);
	put_event(1, IN_CREATE, 0, "after", 16);
	decode(&batch, raw_len);
	HOLDS(batch.lost);
	EQUALS(batch.count, 1);
	events_batch_free(&batch);
	HOLDS(!batch.lost);
}

/* Fails if a buffer that ends inside an event is read beyond, or believed. */
static void
test_truncated(void)
{
	size_t		ends[4] = {0};
	int			wrong = 0;

	raw_len = 0;
	put_event(1, IN_CREATE, 0, "one", 16);
	ends[1] = raw_len;
	put_event(1, IN_DELETE_SELF, 0, "", 0);
	ends[2] = raw_len;
	put_event(1, IN_CREATE, 0, "four", 4);
	ends[3] = raw_len;
	for (size_t len = 0; len <= raw_len; len++)
	{
		EventBatch	batch = {0};
		size_t		whole = 0;

		while (whole < 3 && ends[whole + 1] <= len)
			whole++;
		decode(&batch, len);
		wrong += batch.count != whole || batch.lost != (len != ends[whole]);
		events_batch_free(&batch);
	}
	EQUALS(wrong, 0);
}

/* Fails if a batch that grows loses or mixes up what it had. */
static void
test_growth(void)
{
	EventBatch	batch = {0};
	char		name[32];
	char	   *huge;
	int			wrong = 0;

	raw_len = 0;
	for (int i = 0; i < 5000; i++)
	{
		snprintf(name, sizeof(name), "name-%d", i);
		put_event(i, IN_CREATE, 0, name, 32);
	}
	decode(&batch, raw_len);
	EQUALS(batch.count, 5000);
	for (int i = 0; i < 5000; i++)
	{
		snprintf(name, sizeof(name), "name-%d", i);
		wrong += batch.events[i].wd != i || strcmp(name_of(&batch, i), name) != 0 ||
			batch.events[i].name_len != strlen(name);
	}
	EQUALS(wrong, 0);
	events_batch_free(&batch);

	/* longer than any file system has it, and than the room that is made */
	huge = malloc(100001);
	FILES_MUST(huge != NULL);
	memset(huge, 'x', 100000);
	huge[100000] = '\0';
	raw_len = 0;
	put_event(1, IN_CREATE, 0, huge, 100000);
	decode(&batch, raw_len);
	EQUALS(batch.count, 1);
	EQUALS(batch.events[0].name_len, 100000);
	HOLDS(strcmp(name_of(&batch, 0), huge) == 0);
	events_batch_free(&batch);
	free(huge);
}

/* ---------------------------------------------------------------------
 * The reader
 * ---------------------------------------------------------------------
 */

static char *root;
static int	rootfd;
static int	notify_fd;

/* A reader that watches the root. */
static EventReader *
start(void)
{
	EventReader *reader;

	root = files_temp_dir();
	rootfd = files_open_dir(root);
	notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	FILES_MUST(notify_fd >= 0);
	reader = events_start(notify_fd);
	FILES_MUST(reader != NULL);
	FILES_MUST(inotify_add_watch(events_fd(reader), root, IN_CREATE | IN_MODIFY |
								 IN_CLOSE_WRITE | IN_MOVE | IN_DELETE | IN_ONLYDIR) >= 0);
	return reader;
}

static void
stop(EventReader *reader)
{
	events_stop(reader);
	close(notify_fd);
	close(rootfd);
	files_remove_tree(root);
	free(root);
}

/* Fails if events come in another order than they happened, or not at all. */
static void
test_order(void)
{
	static const uint32_t masks[] = {
		IN_CREATE, IN_MODIFY, IN_CLOSE_WRITE, IN_CREATE | IN_ISDIR, IN_MOVED_FROM,
		IN_MOVED_TO, IN_DELETE, IN_DELETE | IN_ISDIR,
	};
	EventReader *reader = start();
	EventBatch	batch = {0};
	EventBatch	all = {0};
	struct pollfd waiting = {.fd = notify_fd, .events = POLLIN};
	uint64_t	n;

	HOLDS(!events_take(reader, &batch));
	files_write_at(rootfd, "a", "x", 1);
	files_mkdir_at(rootfd, "d");
	FILES_MUST(renameat(rootfd, "a", rootfd, "b") == 0);
	FILES_MUST(unlinkat(rootfd, "b", 0) == 0);
	FILES_MUST(unlinkat(rootfd, "d", AT_REMOVEDIR) == 0);
	events_drain(reader);
	HOLDS(events_take(reader, &batch));
	all = batch;
	HOLDS(!all.lost);
	CHECK_EQ_STR(names(&all), "a a a d a b b d ", "events arrive in order");
	if (all.count == sizeof(masks) / sizeof(masks[0]))
	{
		for (size_t i = 0; i < all.count; i++)
			EQUALS(all.events[i].mask, masks[i]);
		HOLDS(all.events[4].cookie != 0);
		EQUALS(all.events[4].cookie, all.events[5].cookie);
	}
	events_batch_free(&batch);
	HOLDS(!events_take(reader, &batch));

	/* without a barrier: the reader reads by itself, and says so */
	while (read(notify_fd, &n, sizeof(n)) == sizeof(n))
		;
	files_mkdir_at(rootfd, "later");
	EQUALS(poll(&waiting, 1, 60000), 1);
	HOLDS(events_take(reader, &batch));
	CHECK_EQ_STR(names(&batch), "later ", "the descriptor is written when events can be taken");

	/* what nobody takes is dropped with the reader */
	files_mkdir_at(rootfd, "untaken");
	events_drain(reader);
	events_batch_free(&batch);
	stop(reader);
}

/* Fails if a flush could return before a change that was made before it. */
static void
test_barrier(void)
{
	EventReader *reader = start();
	EventBatch	batch = {0};
	int			wrong = 0;

	for (int i = 0; i < 300; i++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "d%d", i);
		files_mkdir_at(rootfd, name);
		events_drain(reader);
		wrong += !events_take(reader, &batch) || batch.lost || batch.count != 1 ||
			strcmp(name_of(&batch, 0), name) != 0;
	}
	EQUALS(wrong, 0);
	events_batch_free(&batch);
	stop(reader);
}

/* How many directories were seen so far, for the thread that makes them. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more_seen = PTHREAD_COND_INITIALIZER;
static int	n_seen;

#define MADE				1000

/* Never so many ahead that the kernel's queue could overflow. */
#define AHEAD				50

static void *
make_directories(void *arg)
{
	(void) arg;
	for (int i = 0; i < MADE; i++)
	{
		char		name[32];

		pthread_mutex_lock(&lock);
		while (i >= n_seen + AHEAD)
			pthread_cond_wait(&more_seen, &lock);
		pthread_mutex_unlock(&lock);
		snprintf(name, sizeof(name), "%d", i);
		files_mkdir_at(rootfd, name);
	}
	return NULL;
}

/*
 * Fails if events are lost, doubled or out of order while the thread, a
 * barrier and the one who takes are at it together.
 */
static void
test_together(void)
{
	EventReader *reader = start();
	EventBatch	batch = {0};
	pthread_t	thread;
	struct pollfd waiting = {.fd = notify_fd, .events = POLLIN};
	int			wrong = 0;
	int			seen = 0;

	FILES_MUST(pthread_create(&thread, NULL, make_directories, NULL) == 0);
	for (int turn = 0; seen < MADE; turn++)
	{
		uint64_t	n;

		if (turn % 3 == 0)
			events_drain(reader);
		else if (poll(&waiting, 1, 60000) != 1)
			break;
		if (read(notify_fd, &n, sizeof(n)) < 0)
			FILES_MUST(errno == EAGAIN);
		if (!events_take(reader, &batch))
			continue;
		wrong += batch.lost;
		for (size_t i = 0; i < batch.count; i++)
			wrong += atoi(name_of(&batch, i)) != seen++;
		pthread_mutex_lock(&lock);
		n_seen = seen;
		pthread_cond_signal(&more_seen);
		pthread_mutex_unlock(&lock);
	}
	EQUALS(seen, MADE);
	EQUALS(wrong, 0);
	pthread_mutex_lock(&lock);
	n_seen = MADE;
	pthread_cond_signal(&more_seen);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	events_batch_free(&batch);
	stop(reader);
}

/* Fails if the watch that most writing is of is not known, or is said to be more. */
static void
test_busiest(void)
{
	EventBatch	batch = {0};
	unsigned	most = 0;
	int			wd = 0;

	for (int round = 0; round < 50; round++)
	{
		raw_len = 0;
		for (int i = 0; i < 100; i++)
		{
			put_event(7, IN_MODIFY, 0, i % 2 ? "a" : "b", 16);
			put_event(100 + round * 100 + i, IN_MODIFY, 0, "once", 16);
			put_event(9, i % 3 ? IN_CLOSE_WRITE : IN_MODIFY, 0, "closed", 16);
		}
		decode(&batch, raw_len);
	}
	for (int i = 0; i < EVENTS_BUSIEST; i++)
	{
		if (batch.busiest[i].modified > most)
		{
			most = batch.busiest[i].modified;
			wd = batch.busiest[i].wd;
		}
	}
	EQUALS(batch.decoded, 50 * 300);
	EQUALS(wd, 7);
	HOLDS(most <= 50 * 100 && most >= 50 * 100 - batch.decoded / (EVENTS_BUSIEST + 1));
	events_batch_free(&batch);
	EQUALS(batch.decoded + batch.busiest[0].modified, 0);
}

int
main(void)
{
	test_fields();
	test_repetitions();
	test_busiest();
	test_overflow();
	test_truncated();
	test_growth();
	test_order();
	test_barrier();
	test_together();
	return unit_done();
}
