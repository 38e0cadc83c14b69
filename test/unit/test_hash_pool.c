/*-------------------------------------------------------------------------
 *
 * test_hash_pool.c
 *		Threads that hash files: who does what, in which order, and who ends.
 *
 *-------------------------------------------------------------------------
 */
#include "hash_jobs.h"

#include "clock.h"

#include <dirent.h>
#include <sys/resource.h>

/* Fails if a job is lost, done twice, or mixed up with another. */
static void
test_pool_all_done(void)
{
	enum { files = 300, rounds = 3 };
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(4, notify_fd);
	int			seen[files] = {0};
	int			wrong = 0;
	int64_t		start_us = clock_us(CLOCK_REALTIME);
	int			round;
	int			i;

	FILES_MUST(pool != NULL);
	hash_pool_set_root(pool, rootfd);
	files_mkdir_at(rootfd, "many");
	for (i = 0; i < files; i++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "many/%d", i);
		files_write_at(rootfd, name, name, strlen(name));
	}
	for (round = 0; round < rounds; round++)
	{
		int			got = 0;

		for (i = 0; i < files; i++)
		{
			char		name[32];

			snprintf(name, sizeof(name), "many/%d", i);
			hash_pool_submit(pool, new_job(name, (int64_t) strlen(name)));
			if (i % 100 == 50)
				hash_pool_resize(pool, 1 + (round * 3 + i / 100) % 8);
		}
		while (got < files)
		{
			HashJob    *job = wait_collect(pool, notify_fd, 20000);

			HOLDS(job != NULL);
			if (job == NULL)
				break;
			while (job != NULL)
			{
				HashJob    *next = job->next;
				uint8_t		expected[PROTO_HASH_LEN];

				one_shot(job->path, job->len, expected);
				wrong += job->result != HASH_DONE ||
					memcmp(job->hash, expected, PROTO_HASH_LEN) != 0 ||
					job->bytes != (int64_t) job->len ||
					job->begun_us < start_us || job->begun_us > clock_us(CLOCK_REALTIME);
				seen[atoi(job->path + 5)]++;
				got++;
				free_job(job);
				job = next;
			}
		}
		EQUALS(got, files);
		EQUALS(hash_pool_outstanding(pool), 0);
	}
	for (i = 0; i < files; i++)
		wrong += seen[i] != rounds;
	EQUALS(wrong, 0);
	hash_pool_destroy(pool);
	close(notify_fd);
}

/*
 * Fails if threads that become fewer, each with results to hand over, all end
 * and leave what is queued to nobody.
 */
static void
test_pool_fewer(void)
{
	enum { files = 100, rounds = 100 };
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(8, notify_fd);
	int			left = 0;

	FILES_MUST(pool != NULL);
	hash_pool_set_root(pool, rootfd);
	for (int round = 0; round < rounds; round++)
	{
		hash_pool_resize(pool, 8);
		for (int i = 0; i < files; i++)
		{
			hash_pool_submit(pool, new_job("abc", 3));
			if (i == files / 2)
				hash_pool_resize(pool, 1);
		}
		left += files;
		while (left > 0)
		{
			HashJob    *job = wait_collect(pool, notify_fd, PATIENCE_MS);

			FILES_MUST(job != NULL);
			while (job != NULL)
			{
				HashJob    *next = job->next;

				free_job(job);
				left--;
				job = next;
			}
		}
	}
	EQUALS(hash_pool_outstanding(pool), 0);
	hash_pool_destroy(pool);
	close(notify_fd);
}

static void
make_sparse(const char *name, int64_t size)
{
	int			fd = openat(rootfd, name, O_CREAT | O_WRONLY, 0644);

	FILES_MUST(fd >= 0 && ftruncate(fd, size) == 0);
	close(fd);
}

/* Threads with lower priority than this one. */
static int
count_polite(void)
{
	DIR		   *dir = opendir("/proc/self/task");
	struct dirent *entry;
	int			n = 0;

	FILES_MUST(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
		n += atoi(entry->d_name) > 0 &&
			getpriority(PRIO_PROCESS, (id_t) atoi(entry->d_name)) > getpriority(PRIO_PROCESS, 0);
	closedir(dir);
	return n;
}

/*
 * Fails if threads beyond the processors take these from others, or are still
 * there, with their low priority, when small work comes later.
 */
static void
test_pool_polite(void)
{
	enum { files = 200 };
	int			processors = (int) sysconf(_SC_NPROCESSORS_ONLN);
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(processors + 3, notify_fd);
	int64_t		end = now_ms() + PATIENCE_MS;
	int			most = 0;
	int			left = files;

	FILES_MUST(pool != NULL);
	make_sparse("much", 4 * 1024 * 1024);
	hash_pool_set_root(pool, rootfd);
	for (int i = 0; i < files; i++)
		hash_pool_submit(pool, new_job("much", 4 * 1024 * 1024));
	while (left > 0)
	{
		HashJob    *job = wait_collect(pool, notify_fd, PATIENCE_MS);
		int			polite = count_polite();

		FILES_MUST(job != NULL);
		most = polite > most ? polite : most;
		while (job != NULL)
		{
			HashJob    *next = job->next;

			free_job(job);
			left--;
			job = next;
		}
	}
	/* one that has low priority itself makes threads that are like it */
	EQUALS(most, getpriority(PRIO_PROCESS, 0) < 10 ? 3 : 0);
	while (count_polite() > 0 && now_ms() < end)
		usleep(10000);
	EQUALS(count_polite(), 0);
	hash_pool_submit(pool, new_job("abc", 3));
	free_job(wait_collect(pool, notify_fd, PATIENCE_MS));
	EQUALS(count_polite(), 0);
	hash_pool_destroy(pool);
	close(notify_fd);
	unlinkat(rootfd, "much", 0);
}

/*
 * Fails if a huge file cannot be cancelled, holds up small ones, or holds up
 * the cancelling of the large one behind it; also if a file that is larger
 * than it was said to be stays in the small lane.
 */
static void
test_pool_large(void)
{
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(1, notify_fd);
	HashJob    *huge = new_job("huge", INT64_C(1) << 40);
	HashJob    *second = new_job("huge", INT64_C(1) << 40);
	HashJob    *sneaky = new_job("huge", 10);
	HashJob    *small = new_job("abc", 3);
	HashJob    *job;
	int64_t		start;

	FILES_MUST(pool != NULL);
	make_sparse("huge", INT64_C(1) << 40);
	hash_pool_set_root(pool, rootfd);
	hash_pool_submit(pool, huge);
	hash_pool_submit(pool, second);
	hash_pool_submit(pool, sneaky);
	hash_pool_submit(pool, small);

	job = wait_collect(pool, notify_fd, PATIENCE_MS);
	HOLDS(job == small && small->next == NULL);
	EQUALS(small->result, HASH_DONE);

	hash_pool_cancel(pool, second);
	job = wait_collect(pool, notify_fd, PATIENCE_MS);
	HOLDS(job == second && second->next == NULL);
	EQUALS(second->result, HASH_CANCELLED);
	hash_pool_cancel(pool, sneaky);
	job = wait_collect(pool, notify_fd, PATIENCE_MS);
	HOLDS(job == sneaky && sneaky->next == NULL);
	EQUALS(sneaky->result, HASH_CANCELLED);
	hash_pool_cancel(pool, huge);
	job = wait_collect(pool, notify_fd, PATIENCE_MS);
	HOLDS(job == huge);
	EQUALS(huge->result, HASH_CANCELLED);
	EQUALS(hash_pool_outstanding(pool), 0);
	free_job(small);
	free_job(second);
	free_job(sneaky);
	free_job(huge);

	/* destroying ends what runs, and frees what nobody collected */
	hash_pool_submit(pool, new_job("huge", INT64_C(1) << 40));
	hash_pool_submit(pool, new_job("huge", INT64_C(1) << 40));
	hash_pool_submit(pool, new_job("abc", 3));
	usleep(20000);
	start = now_ms();
	hash_pool_destroy(pool);
	HOLDS(now_ms() - start < PATIENCE_MS);
	close(notify_fd);
	unlinkat(rootfd, "huge", 0);
}

/*
 * Fails if what is most likely unchanged holds up anything else, is read more
 * than one at a time, or cannot be cancelled; or if its thread stays.
 */
static void
test_pool_low(void)
{
	enum { lows = 20 };
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(1, notify_fd);
	HashJob    *low[lows];
	HashJob    *small = new_job("abc", 3);
	HashJob    *large = new_job("large", HASH_LARGE_FILE);
	HashJob    *job;
	int64_t		end = now_ms() + PATIENCE_MS;
	int			done = 0;
	int			beside = 0;

	FILES_MUST(pool != NULL);
	make_sparse("huge", INT64_C(1) << 40);
	make_sparse("large", HASH_LARGE_FILE);
	hash_pool_set_root(pool, rootfd);
	for (int i = 0; i < lows; i++)
	{
		low[i] = new_job(i == 0 ? "huge" : "abc", i == 0 ? INT64_C(1) << 40 : 3);
		low[i]->low = true;
		low[i]->urgent = i % 2 != 0;
		hash_pool_submit(pool, low[i]);
		while (i == 0 && hash_bytes(low[0]) == 0 && now_ms() < end)
			usleep(1000);
	}
	hash_pool_submit(pool, small);
	hash_pool_submit(pool, large);
	while (done < 2 && now_ms() < end)
	{
		for (job = wait_collect(pool, notify_fd, PATIENCE_MS); job != NULL; job = job->next)
		{
			done += (job == small || job == large) && job->result == HASH_DONE;
			EQUALS(job->result, HASH_DONE);
			beside += job->low;
		}
	}
	EQUALS(done, 2);
	EQUALS(beside, 0);
	hash_pool_cancel(pool, low[lows - 2]);
	hash_pool_cancel(pool, low[0]);
	for (done = 0; done < lows && now_ms() < end;)
	{
		for (job = wait_collect(pool, notify_fd, PATIENCE_MS); job != NULL; job = job->next)
		{
			done++;
			HOLDS(job->result == (job == low[0] || job == low[lows - 2] ?
								  HASH_CANCELLED : HASH_DONE));
		}
	}
	EQUALS(done, lows);
	EQUALS(hash_pool_outstanding(pool), 0);
	for (int i = 0; i < lows; i++)
		free_job(low[i]);
	free_job(small);
	free_job(large);

	/* what nobody collected is freed */
	job = new_job("huge", INT64_C(1) << 40);
	job->low = true;
	hash_pool_submit(pool, job);
	job = new_job("abc", 3);
	job->low = true;
	hash_pool_submit(pool, job);
	hash_pool_destroy(pool);
	close(notify_fd);
	unlinkat(rootfd, "huge", 0);
	unlinkat(rootfd, "large", 0);
}

/* Fails if a change waits for all that a scan has queued before it. */
static void
test_pool_urgent(void)
{
	enum { queued = 400, size = 60 * 1024 * 1024 };
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(1, notify_fd);
	HashJob    *urgent = new_job("abc", 3);
	int			before = 0;
	bool		met = false;

	FILES_MUST(pool != NULL);
	make_sparse("slow", size);
	hash_pool_set_root(pool, rootfd);
	for (int i = 0; i < queued; i++)
		hash_pool_submit(pool, new_job("slow", size));
	urgent->urgent = true;
	hash_pool_submit(pool, urgent);
	while (!met)
	{
		HashJob    *job = wait_collect(pool, notify_fd, PATIENCE_MS);

		FILES_MUST(job != NULL);
		while (job != NULL)
		{
			HashJob    *next = job->next;

			if (job == urgent)
				met = true;
			else if (!met)
				before++;
			free_job(job);
			job = next;
		}
	}
	HOLDS(before < queued / 2);
	hash_pool_destroy(pool);
	close(notify_fd);
	unlinkat(rootfd, "slow", 0);
}

/* Fails if without a root something is said of a file. */
static void
test_pool_no_root(void)
{
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(2, notify_fd);
	HashJob    *job;

	FILES_MUST(pool != NULL);
	hash_pool_submit(pool, new_job("abc", 3));
	job = wait_collect(pool, notify_fd, PATIENCE_MS);
	HOLDS(job != NULL && job->result == HASH_CANCELLED);
	free_job(job);
	hash_pool_destroy(pool);
	close(notify_fd);
}

/* Fails if a pool that has nothing to do uses the processor. */
static void
test_pool_idle(void)
{
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(4, notify_fd);
	struct timespec before;
	struct timespec after;
	HashJob    *job;

	FILES_MUST(pool != NULL);
	hash_pool_set_root(pool, rootfd);
	hash_pool_submit(pool, new_job("abc", 3));
	job = wait_collect(pool, notify_fd, PATIENCE_MS);
	FILES_MUST(job != NULL);
	free_job(job);
	usleep(10000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	usleep(300000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	HOLDS((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec < 20000000);
	hash_pool_destroy(pool);
	close(notify_fd);
}

/*
 * Fails if jobs that are submitted together are not all done, or if one that
 * was cancelled before is hashed, or waits in the large lane.
 */
static void
test_pool_list(void)
{
	enum { files = 300 };
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(3, notify_fd);
	HashJob    *jobs = NULL;
	int			left = files;
	int			wrong = 0;

	FILES_MUST(pool != NULL);
	hash_pool_set_root(pool, rootfd);
	files_write_at(rootfd, "abc", "abc", 3);
	for (int i = 0; i < files; i++)
	{
		HashJob    *job = new_job("abc", i % 3 == 2 ? INT64_C(1) << 40 : 3);

		job->next = jobs;
		jobs = job;
		if (i % 3 != 0)
			hash_pool_cancel(pool, job);
	}
	hash_pool_submit(pool, jobs);
	EQUALS(hash_pool_outstanding(pool), files);
	while (left > 0)
	{
		HashJob    *job = wait_collect(pool, notify_fd, PATIENCE_MS);

		FILES_MUST(job != NULL);
		while (job != NULL)
		{
			HashJob    *next = job->next;

			wrong += job->result != (job->cancelled ? HASH_CANCELLED : HASH_DONE);
			free_job(job);
			left--;
			job = next;
		}
	}
	EQUALS(wrong, 0);
	EQUALS(hash_pool_outstanding(pool), 0);
	hash_pool_destroy(pool);
	close(notify_fd);
}

static void
run_all(void)
{
	files_write_at(rootfd, "abc", "abc", 3);
	test_pool_all_done();
	test_pool_fewer();
	test_pool_polite();
	test_pool_list();
	test_pool_large();
	test_pool_low();
	test_pool_urgent();
	test_pool_no_root();
	test_pool_idle();
}

int
main(void)
{
	return hash_jobs_main(run_all);
}
