/*-------------------------------------------------------------------------
 *
 * test_throttle.c
 *		A scan gets its share of CPU time and no more; what is not a scan's is
 *		never held up, and who is held up can be called off.
 *
 * The bucket's clock is a number.  Threads are held up by a limit so small
 * that it is never paid off, so nothing here depends on how fast they are.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "hash.h"
#include "scan.h"
#include "throttle.h"

#include <linux/ioprio.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>

#define MS			INT64_C(1000000)
#define SECOND		(1000 * MS)

/* A core for a hundred seconds pays off an hour: never. */
#define TINY_PPM	1
#define HOUR		(3600 * SECOND)

static char *root;
static int	rootfd;
static int64_t clock_now;

static int64_t
test_clock(void)
{
	return clock_now;
}

/* ---------------------------------------------------------------------
 * The bucket
 * ---------------------------------------------------------------------
 */

/* Fails if there is a limit where none was set. */
static void
test_no_limit(void)
{
	Throttle	throttle;

	clock_now = SECOND;
	throttle_init(&throttle, test_clock);
	throttle_charge(&throttle, HOUR);
	EQUALS(throttle_delay_ns(&throttle), 0);
	EQUALS(throttle_clock(&throttle), -1);
	throttle_charge_since(&throttle, -1, 1, 1);

	/* what was used before there was a limit is free */
	throttle_set(&throttle, 100000, PROTO_IO_NONE);
	EQUALS(throttle_delay_ns(&throttle), 0);
	HOLDS(throttle_clock(&throttle) >= 0);
}

/*
 * Works as fast as the throttle lets it, in pieces of random length, for some
 * time of the clock.  Returns the share of a core that was used, in ppm.
 */
static int64_t
share_used(Throttle *throttle, int64_t longest_piece, int64_t duration)
{
	int64_t		begin = clock_now;
	int64_t		used = 0;

	while (clock_now - begin < duration)
	{
		int64_t		delay = throttle_delay_ns(throttle);
		int64_t		piece = 1 + (int64_t) unit_below(longest_piece);

		if (delay > 0)
		{
			/* not always as long as it says, as when somebody looks in */
			clock_now += unit_below(4) == 0 ? delay / 2 + 1 : delay;
			continue;
		}
		clock_now += piece;
		used += piece;
		throttle_charge(throttle, piece);
	}
	return used * 1000 / ((clock_now - begin) / 1000);
}

/* Fails if more or much less is let through than the limit says. */
static void
test_share(void)
{
	static const int limits[] = {1000, 10000, 100000, 500000, 900000};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		for (int64_t piece = MS / 10; piece <= 100 * MS; piece *= 10)
		{
			Throttle	throttle;
			int64_t		used;

			clock_now = 7 * SECOND;
			throttle_init(&throttle, test_clock);
			throttle_set(&throttle, limits[i], PROTO_IO_NONE);
			used = share_used(&throttle, piece, 200 * SECOND);
			CHECK(used <= limits[i] * 1.01 + 600 && used >= limits[i] * 0.9 - 600,
				  "limit of %d ppm, pieces of up to %lld us: %lld ppm", limits[i],
				  (long long) piece / 1000, (long long) used);
		}
}

/* Fails if several who are charged at once get a share each. */
static void
test_shared(void)
{
	Throttle	throttle;

	clock_now = SECOND;
	throttle_init(&throttle, test_clock);
	throttle_set(&throttle, 100000, PROTO_IO_NONE);
	for (int i = 0; i < 5; i++)
		throttle_charge(&throttle, 100 * MS);

	/* 500 ms less the 20 that were there, and 5 to go on with, of a tenth */
	EQUALS(throttle_delay_ns(&throttle), 4850 * MS + 1);
	clock_now += 4849 * MS;
	HOLDS(throttle_delay_ns(&throttle) > 0);
	clock_now += MS;
	EQUALS(throttle_delay_ns(&throttle), 0);
}

/* Fails if an idle time is saved up, or a clock set back is charged. */
static void
test_idle(void)
{
	Throttle	throttle;

	clock_now = SECOND;
	throttle_init(&throttle, test_clock);
	throttle_set(&throttle, 100000, PROTO_IO_NONE);
	throttle_charge(&throttle, 50 * MS);
	clock_now += 24 * HOUR;
	EQUALS(throttle_delay_ns(&throttle), 0);
	throttle_charge(&throttle, 30 * MS);
	EQUALS(throttle_delay_ns(&throttle), 150 * MS + 1);
	clock_now -= HOUR;
	HOLDS(throttle_delay_ns(&throttle) > 0);
	clock_now += 150 * MS + 1;
	EQUALS(throttle_delay_ns(&throttle), 0);
}

/* Fails if a new limit is not followed at once, or numbers overflow. */
static void
test_new_limit(void)
{
	Throttle	throttle;

	clock_now = SECOND;
	throttle_init(&throttle, test_clock);
	throttle_set(&throttle, TINY_PPM, PROTO_IO_NONE);
	for (int i = 0; i < 100; i++)
		throttle_charge(&throttle, INT64_MAX);
	HOLDS(throttle_delay_ns(&throttle) > HOUR);
	clock_now += 100 * HOUR;
	HOLDS(throttle_delay_ns(&throttle) > HOUR);
	throttle_set(&throttle, INT32_MAX, PROTO_IO_NONE);
	HOLDS(throttle_delay_ns(&throttle) > 0);
	clock_now += 2 * SECOND;
	EQUALS(throttle_delay_ns(&throttle), 0);
	throttle_set(&throttle, TINY_PPM, PROTO_IO_NONE);
	throttle_charge(&throttle, HOUR);
	throttle_set(&throttle, 0, PROTO_IO_NONE);
	EQUALS(throttle_delay_ns(&throttle), 0);

	/* and what is owed is forgotten with the limit */
	clock_now++;
	throttle_set(&throttle, TINY_PPM, PROTO_IO_NONE);
	EQUALS(throttle_delay_ns(&throttle), 0);
}

static int
own_io_priority(void)
{
	return (int) syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
}

/* Fails if a thread reads with another priority than it should. */
static void
test_io_priority(void)
{
	Throttle	throttle;
	ThrottleMeter meter = {0};
	int			before = own_io_priority();

	throttle_init(&throttle, NULL);
	throttle_begin(&meter, &throttle);
	EQUALS(own_io_priority(), before);
	throttle_set(&throttle, 0, PROTO_IO_BEST_EFFORT);
	EQUALS(throttle_used(&meter), 0);
	EQUALS(own_io_priority(), IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7));
	throttle_set(&throttle, 0, PROTO_IO_IDLE);
	throttle_end(&meter);
	EQUALS(IOPRIO_PRIO_CLASS(own_io_priority()), IOPRIO_CLASS_IDLE);
	throttle_begin(&meter, NULL);
	EQUALS(own_io_priority(), before);
	EQUALS(throttle_used(&meter), 0);
	throttle_end(&meter);
}

static void
use_cpu(int64_t ns)
{
	struct timespec now;
	int64_t		end = 0;

	do
	{
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
		if (end == 0)
			end = now.tv_sec * SECOND + now.tv_nsec + ns;
	} while (now.tv_sec * SECOND + now.tv_nsec < end);
}

/*
 * Fails if what a thread does for others is charged, or what it does between
 * two pieces of work for a scan is not.
 */
static void
test_meter(void)
{
	Throttle	throttle;
	ThrottleMeter meter = {0};

	clock_now = SECOND;
	throttle_init(&throttle, test_clock);
	throttle_set(&throttle, 500000, PROTO_IO_NONE);
	throttle_begin(&meter, NULL);
	use_cpu(50 * MS);
	throttle_end(&meter);
	throttle_begin(&meter, &throttle);
	throttle_end(&meter);
	EQUALS(throttle_delay_ns(&throttle), 0);
	use_cpu(50 * MS);
	throttle_begin(&meter, &throttle);
	HOLDS(throttle_used(&meter) >= 60 * MS);
	throttle_end(&meter);

	/* nor what was done before there was a limit */
	throttle_set(&throttle, 0, PROTO_IO_NONE);
	throttle_begin(&meter, &throttle);
	use_cpu(50 * MS);
	throttle_end(&meter);
	clock_now++;
	throttle_set(&throttle, 500000, PROTO_IO_NONE);
	throttle_begin(&meter, &throttle);
	EQUALS(throttle_used(&meter), 0);
	throttle_end(&meter);
}

/* ---------------------------------------------------------------------
 * Threads that hash
 * ---------------------------------------------------------------------
 */

static HashJob *
new_job(const char *name, int64_t size, bool urgent)
{
	HashJob    *job = calloc(1, sizeof(HashJob));
	int			fd = openat(rootfd, name, O_CREAT | O_WRONLY, 0644);

	FILES_MUST(job != NULL && fd >= 0 && ftruncate(fd, size) == 0);
	close(fd);
	job->path = strdup(name);
	FILES_MUST(job->path != NULL);
	job->len = strlen(name);
	job->expected_size = size;
	job->urgent = urgent;
	return job;
}

/* Waits for the job, which has to be the next one that is done. */
static HashResult
wait_for_job(HashPool *pool, int notify_fd, HashJob *job)
{
	static HashJob *collected;
	HashResult	result;
	HashJob    *done = collected;
	uint64_t	n;

	while (done == NULL && (done = hash_pool_collect(pool)) == NULL)
	{
		struct pollfd pfd = {notify_fd, POLLIN, 0};

		if (poll(&pfd, 1, 180000) != 1)
			break;
		FILES_MUST(read(notify_fd, &n, sizeof(n)) == sizeof(n));
	}
	HOLDS(done == job);
	FILES_MUST(done != NULL);
	collected = done->next;
	result = done->result;
	free(done->path);
	free(done);
	return result;
}

/*
 * Fails if a scan's files are hashed though it may not go on, if a change
 * waits behind them, or if they stay where they are when the limit goes.
 */
static void
test_pool(int64_t size)
{
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(1, notify_fd);
	Throttle	throttle;
	HashJob    *of_scan = new_job("of_scan", size, false);
	HashJob    *cancelled = new_job("cancelled", size, false);

	FILES_MUST(pool != NULL);
	throttle_init(&throttle, NULL);
	throttle_set(&throttle, TINY_PPM, PROTO_IO_NONE);
	throttle_charge(&throttle, HOUR);
	hash_pool_set_throttle(pool, &throttle);
	hash_pool_set_root(pool, rootfd);
	hash_pool_submit(pool, cancelled);
	hash_pool_submit(pool, of_scan);
	for (int i = 0; i < 3; i++)
	{
		HashJob    *urgent = new_job("urgent", size, true);

		hash_pool_submit(pool, urgent);
		EQUALS(wait_for_job(pool, notify_fd, urgent), HASH_DONE);
	}
	EQUALS(hash_pool_outstanding(pool), 2);
	hash_pool_cancel(pool, cancelled);
	EQUALS(wait_for_job(pool, notify_fd, cancelled), HASH_CANCELLED);
	throttle_set(&throttle, 0, PROTO_IO_NONE);
	EQUALS(wait_for_job(pool, notify_fd, of_scan), HASH_DONE);

	/* and that the pool can be destroyed while it waits */
	throttle_set(&throttle, TINY_PPM, PROTO_IO_NONE);
	throttle_charge(&throttle, HOUR);
	hash_pool_submit(pool, new_job("of_scan", size, false));
	hash_pool_destroy(pool);
	close(notify_fd);
}

/* Fails if a thread that is woken for a job while it rests forgets it. */
static void
test_short_rests(void)
{
	enum { rounds = 50, jobs = 100 };
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(4, notify_fd);
	Throttle	throttle;
	int			done = 0;
	bool		forgotten = false;

	FILES_MUST(pool != NULL);
	throttle_init(&throttle, NULL);

	/* what is overdrawn is paid in a microsecond or so */
	throttle_set(&throttle, 1000000000, PROTO_IO_NONE);
	hash_pool_set_throttle(pool, &throttle);
	hash_pool_set_root(pool, rootfd);
	for (int round = 0; round < rounds && !forgotten; round++)
	{
		for (int i = 0; i < jobs; i++)
			hash_pool_submit(pool, new_job("small", 3, false));
		for (int waits = 0; hash_pool_outstanding(pool) > 0 && !forgotten; waits++)
		{
			HashJob    *job;

			throttle_charge(&throttle, 25 * MS);
			while ((job = hash_pool_collect(pool)) != NULL)
				while (job != NULL)
				{
					HashJob    *next = job->next;

					free(job->path);
					free(job);
					job = next;
					done++;
				}
			if (waits > 1000)
				usleep(1000);
			forgotten = waits > 120000;
		}
	}
	HOLDS(!forgotten);
	EQUALS(done, rounds * jobs);
	hash_pool_destroy(pool);
	close(notify_fd);
}

/*
 * Fails if a large file is read to its end though its time is up, if an urgent
 * one behind it waits for the limit, or if it cannot be cancelled.
 */
static void
test_within_large(void)
{
	int64_t		size = INT64_C(4) * 1024 * 1024 * 1024;
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(1, notify_fd);
	HashJob    *of_scan = new_job("huge", size, false);
	HashJob    *second = new_job("large", 4 * HASH_LARGE_FILE, false);
	HashJob    *urgent = new_job("urgent", HASH_LARGE_FILE, true);
	Throttle	throttle;
	int64_t		bytes;

	FILES_MUST(pool != NULL);
	throttle_init(&throttle, NULL);
	throttle_set(&throttle, TINY_PPM, PROTO_IO_NONE);
	hash_pool_set_throttle(pool, &throttle);
	hash_pool_set_root(pool, rootfd);
	hash_pool_submit(pool, of_scan);
	while (throttle_delay_ns(&throttle) == 0 && hash_bytes(of_scan) < size)
		usleep(1000);
	bytes = hash_bytes(of_scan);
	for (int quiet = 0; quiet < 20; quiet++)
	{
		usleep(100000);
		if (hash_bytes(of_scan) > bytes)
			quiet = 0;
		bytes = hash_bytes(of_scan);
	}
	HOLDS(bytes > 0 && bytes < size);
	hash_pool_cancel(pool, of_scan);
	EQUALS(wait_for_job(pool, notify_fd, of_scan), HASH_CANCELLED);

	/* the credit for the beginning of another one */
	throttle_set(&throttle, 0, PROTO_IO_NONE);
	EQUALS(throttle_delay_ns(&throttle), 0);
	throttle_set(&throttle, TINY_PPM, PROTO_IO_NONE);
	hash_pool_submit(pool, second);
	while (throttle_delay_ns(&throttle) == 0)
		usleep(1000);
	hash_pool_submit(pool, urgent);
	EQUALS(wait_for_job(pool, notify_fd, urgent), HASH_DONE);
	EQUALS(hash_pool_outstanding(pool), 1);
	throttle_set(&throttle, 0, PROTO_IO_NONE);
	EQUALS(wait_for_job(pool, notify_fd, second), HASH_DONE);
	hash_pool_destroy(pool);
	close(notify_fd);
}

/* ---------------------------------------------------------------------
 * Scans
 * ---------------------------------------------------------------------
 */

static Scan *
start_scan(const ScanOptions *options)
{
	ScanPlace  *place = calloc(1, sizeof(ScanPlace));
	size_t		n = 1;
	Scan	   *scan;

	FILES_MUST(place != NULL && (place->path = strdup("")) != NULL);
	scan = scan_start(place, &n, options);
	FILES_MUST(scan != NULL);
	return scan;
}

/* Serves the scan until it has ended; no rows are believed. */
static ScanStatus
finish_scan(Scan *scan, int notify_fd)
{
	ProtoBeliefsHeader header = {.last = true};
	ScanStatus	status;

	for (;;)
	{
		ProtoBeliefsRequest request;
		struct pollfd pfd = {notify_fd, POLLIN, 0};
		Finding    *finding;
		uint64_t	n;

		if (scan_wants_beliefs(scan, &request))
			FILES_MUST(scan_give_beliefs(scan, &header, proto_reader("", 0)));
		while ((finding = scan_take_finding(scan)) != NULL)
			free(finding);
		scan_status(scan, &status);
		if (status.finished)
			break;
		FILES_MUST(poll(&pfd, 1, 180000) == 1);
		FILES_MUST(read(notify_fd, &n, sizeof(n)) == sizeof(n));
	}
	return status;
}

/* Fails if a scan that must wait cannot be cancelled, or goes on for ever. */
static void
test_scan(void)
{
	enum { files = 1000 };
	Throttle	throttle;
	ScanOptions options = {
		.rootfd = rootfd, .throttle = &throttle, .doubt_since_ns = INT64_MAX
	};
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	const char *error;
	ProtoBeliefsHeader header = {.last = true};
	ProtoBeliefsRequest request;
	ScanStatus	status;
	Scan	   *scan;

	options.notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	options.filter = filter_create(&settings, &error);
	options.links = links_create();
	FILES_MUST(options.filter != NULL && options.links != NULL);
	for (int i = 0; i < files; i++)
	{
		char		name[16];

		snprintf(name, sizeof(name), "%04d", i);
		FILES_MUST(mknodat(rootfd, name, S_IFREG | 0644, 0) == 0);
	}
	throttle_init(&throttle, NULL);
	throttle_set(&throttle, TINY_PPM, PROTO_IO_NONE);
	throttle_charge(&throttle, HOUR);

	scan = start_scan(&options);
	while (!scan_wants_beliefs(scan, &request))
		usleep(1000);
	FILES_MUST(scan_give_beliefs(scan, &header, proto_reader("", 0)));
	usleep(20000);
	scan_cancel(scan);
	status = finish_scan(scan, options.notify_fd);
	HOLDS(status.cancelled && status.files < files);
	scan_free(scan);

	/* freed while it sleeps */
	scan = start_scan(&options);
	while (!scan_wants_beliefs(scan, &request))
		usleep(1000);
	FILES_MUST(scan_give_beliefs(scan, &header, proto_reader("", 0)));
	scan_free(scan);

	/* the limit is lifted while it sleeps */
	scan = start_scan(&options);
	while (!scan_wants_beliefs(scan, &request))
		usleep(1000);
	FILES_MUST(scan_give_beliefs(scan, &header, proto_reader("", 0)));
	throttle_set(&throttle, 0, PROTO_IO_NONE);
	status = finish_scan(scan, options.notify_fd);
	HOLDS(!status.cancelled && !status.failed);
	HOLDS(status.files >= files);
	scan_free(scan);
	filter_free((Filter *) options.filter);
	links_free(options.links);
	close(options.notify_fd);
}

int
main(void)
{
	root = files_temp_dir();
	rootfd = files_open_dir(root);

	test_no_limit();
	test_share();
	test_shared();
	test_idle();
	test_new_limit();
	test_io_priority();
	test_meter();
	test_pool(3);
	test_pool(HASH_LARGE_FILE);
	test_short_rests();
	test_within_large();
	test_scan();

	close(rootfd);
	files_remove_tree(root);
	free(root);
	return unit_done();
}
