/*-------------------------------------------------------------------------
 *
 * test_hash_pool.c
 *		Threads that hash files, with each kind of SHA-256 that this processor
 *		can do.
 *
 * The pool takes the one that OPENSSL_ia32cap leaves it, once a process; so
 * each is tried in a process of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "clock.h"
#include "files.h"
#include "hash.h"
#include "sha256_lanes.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Longer than anything here takes, and shorter than to hash a terabyte. */
#define PATIENCE_MS			180000

static char *root;
static int	rootfd;

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
one_shot(const void *data, size_t len, uint8_t hash[PROTO_HASH_LEN])
{
	FILES_MUST(EVP_Digest(data, len, hash, NULL, EVP_sha256(), NULL) == 1);
}

static HashJob *
new_job(const char *path, int64_t expected_size)
{
	HashJob    *job = calloc(1, sizeof(HashJob));

	FILES_MUST(job != NULL);
	job->path = strdup(path);
	FILES_MUST(job->path != NULL);
	job->len = strlen(path);
	job->expected_size = expected_size;
	return job;
}

static void
free_job(HashJob *job)
{
	free(job->path);
	free(job);
}

/* The next finished jobs, waiting at most so long; NULL when none came. */
static HashJob *
wait_collect(HashPool *pool, int notify_fd, int timeout_ms)
{
	int64_t		end = now_ms() + timeout_ms;

	for (;;)
	{
		HashJob    *jobs = hash_pool_collect(pool);
		struct pollfd pfd = {notify_fd, POLLIN, 0};
		uint64_t	count;
		int64_t		left = end - now_ms();

		if (jobs != NULL || left <= 0)
			return jobs;
		if (poll(&pfd, 1, (int) left) == 1)
			FILES_MUST(read(notify_fd, &count, sizeof(count)) == sizeof(count));
	}
}

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

/* ---------------------------------------------------------------------
 * Many files at once
 * ---------------------------------------------------------------------
 */

#define MIXED_FILES			400
#define MIXED_MAX			(5 * 1024 * 1024)

/* The edges of blocks and of what is read at once, the others at random. */
static size_t
mixed_size(int i)
{
	static const size_t edges[] = {
		0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129,
		32 * 1024 - 65, 32 * 1024 - 64, 32 * 1024 - 9, 32 * 1024 - 8, 32 * 1024 - 1,
		32 * 1024, 32 * 1024 + 1, 32 * 1024 + 55, 32 * 1024 + 56, 64 * 1024,
		128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 256 * 1024, 1000003, MIXED_MAX,
	};

	if (i < (int) (sizeof(edges) / sizeof(edges[0])))
		return edges[i];
	if (i % 20 == 0)
		return unit_below(MIXED_MAX);
	return unit_below(i % 3 == 0 ? 100000 : 8000);
}

/*
 * A file of so many parts, each of one letter; it is overwritten part by part,
 * since within one write(2) no time stamp moves.
 */
#define PART				4096
#define PARTS				64
#define LETTERS				4
#define BUSY				20

static void *
rewrite(void *arg)
{
	int			fd = openat(rootfd, "busy", O_WRONLY);
	char		data[PART];

	FILES_MUST(fd >= 0);
	for (int letter = 1; __atomic_load_n((int *) arg, __ATOMIC_RELAXED) == 0;
		 letter = (letter + 1) % LETTERS)
	{
		memset(data, 'a' + letter, PART);
		for (int i = 0; i < PARTS; i++)
			FILES_MUST(pwrite(fd, data, PART, i * PART) == PART);
		usleep(letter % 2 * 20000);
	}
	close(fd);
	return NULL;
}

/*
 * Fails if one file's content gets into the hash of another, or a file is
 * hashed wrongly for its size, its place among the others, or because another
 * one changes while it is read; or if a hash of that one is shown that was
 * never its content.
 */
static void
test_pool_mixed(int threads)
{
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(threads, notify_fd);
	static uint8_t expected[MIXED_FILES][PROTO_HASH_LEN];
	static size_t sizes[MIXED_FILES];
	static uint8_t states[LETTERS * PARTS][PROTO_HASH_LEN];
	unsigned char *data = malloc(MIXED_MAX);
	pthread_t	writer;
	int			stop = 0;
	int			left = MIXED_FILES + BUSY;
	int			busy_done = 0;
	int			wrong = 0;
	int			torn = 0;

	FILES_MUST(pool != NULL && data != NULL);
	hash_pool_set_root(pool, rootfd);
	files_mkdir_at(rootfd, "mixed");
	for (int i = 0; i < MIXED_FILES; i++)
	{
		char		name[32];

		sizes[i] = mixed_size(i);
		for (size_t k = 0; k < sizes[i]; k++)
			data[k] = (unsigned char) (k * 31 + (k >> 7) + (size_t) i * 17);
		snprintf(name, sizeof(name), "mixed/%d", i);
		files_write_at(rootfd, name, data, sizes[i]);
		one_shot(data, sizes[i], expected[i]);
	}
	memset(data, 'a', PARTS * PART);
	files_write_at(rootfd, "busy", data, PARTS * PART);
	for (int i = 0; i < LETTERS * PARTS; i++)
	{
		memset(data + i % PARTS * PART, 'a' + (i / PARTS + 1) % LETTERS, PART);
		one_shot(data, PARTS * PART, states[i]);
	}
	FILES_MUST(pthread_create(&writer, NULL, rewrite, &stop) == 0);

	for (int i = 0; i < MIXED_FILES; i++)
	{
		int			at = i * 7 % MIXED_FILES;
		char		name[32];
		HashJob    *job;

		snprintf(name, sizeof(name), "mixed/%d", at);
		job = new_job(name, (int64_t) sizes[at]);
		job->urgent = i % 11 == 0;
		hash_pool_submit(pool, job);
		if (i % (MIXED_FILES / BUSY) == 0)
			hash_pool_submit(pool, new_job("busy", PARTS * PART));
	}
	while (left > 0)
	{
		HashJob    *job = wait_collect(pool, notify_fd, PATIENCE_MS);

		FILES_MUST(job != NULL);
		while (job != NULL)
		{
			HashJob    *next = job->next;

			if (strcmp(job->path, "busy") == 0)
			{
				int			known = job->result == HASH_CHANGED;

				for (int i = 0; i < LETTERS * PARTS && job->result == HASH_DONE; i++)
					known |= memcmp(job->hash, states[i], PROTO_HASH_LEN) == 0;
				torn += !known;
				busy_done += job->result == HASH_DONE;
			}
			else
			{
				int			i = atoi(job->path + strlen("mixed/"));
				bool		good = job->result == HASH_DONE &&
					memcmp(job->hash, expected[i], PROTO_HASH_LEN) == 0 &&
					job->bytes == (int64_t) sizes[i] && job->info.stat.size == job->bytes;

				if (!good && wrong++ < 5)
					printf("# %s of %zu bytes: result %d, %lld bytes\n", job->path, sizes[i],
						   job->result, (long long) job->bytes);
			}
			free_job(job);
			left--;
			job = next;
		}
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(writer, NULL);
	printf("# %d hashes of the file that changed\n", busy_done);
	EQUALS(wrong, 0);
	EQUALS(torn, 0);
	hash_pool_destroy(pool);
	close(notify_fd);
	free(data);
	for (int i = 0; i < MIXED_FILES; i++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "mixed/%d", i);
		unlinkat(rootfd, name, 0);
	}
	unlinkat(rootfd, "mixed", AT_REMOVEDIR);
}

/*
 * Fails if files that were written this moment, and have to wait until the
 * clock tick is over, are forgotten or get the wrong hash; and if a write
 * right after the hash of a single one leaves no trace.
 */
static void
test_pool_fresh(void)
{
	enum { files = 60 };
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(1, notify_fd);
	int			left = files;
	int			wrong = 0;
	int			invisible = 0;

	FILES_MUST(pool != NULL);
	hash_pool_set_root(pool, rootfd);
	for (int i = 0; i < 100; i++)
	{
		char		letter = (char) ('a' + i % 26);
		HashJob    *job;
		FileInfo	after;

		files_write_at(rootfd, "tick", &letter, 1);
		hash_pool_submit(pool, new_job("tick", 1));
		job = wait_collect(pool, notify_fd, PATIENCE_MS);
		FILES_MUST(job != NULL);
		wrong += job->result != HASH_DONE;
		letter ^= 1;
		files_write_at(rootfd, "tick", &letter, 1);
		FILES_MUST(beneath_stat(rootfd, "tick", 4, &after) == 0);
		invisible += after.stat.ctime_ns == job->info.stat.ctime_ns;
		free_job(job);
	}
	EQUALS(invisible, 0);
	for (int i = 0; i < files; i++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "fresh%d", i);
		files_write_at(rootfd, name, name, strlen(name));
		hash_pool_submit(pool, new_job(name, (int64_t) strlen(name)));
	}
	while (left > 0)
	{
		HashJob    *job = wait_collect(pool, notify_fd, PATIENCE_MS);

		FILES_MUST(job != NULL);
		while (job != NULL)
		{
			HashJob    *next = job->next;
			uint8_t		expected[PROTO_HASH_LEN];

			one_shot(job->path, job->len, expected);
			wrong += job->result != HASH_DONE ||
				memcmp(job->hash, expected, PROTO_HASH_LEN) != 0;
			free_job(job);
			left--;
			job = next;
		}
	}
	EQUALS(wrong, 0);
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

/* The same on ramfs, see files_mount_ramfs(). */
static void
test_pool_fresh_ramfs(const char *path)
{
	pid_t		pid = fork();
	int			status;

	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		if (!files_mount_ramfs(path))
			files_end_child(77);
		rootfd = files_open_dir(path);
		test_pool_fresh();
		files_end_child(unit_done());
	}
	FILES_MUST(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("fresh files on ramfs", "cannot mount a ramfs");
	else
		EQUALS(status, 0);
}

static void
run_all(void)
{
	files_write_at(rootfd, "abc", "abc", 3);
	test_pool_fresh_ramfs(root);
	test_pool_all_done();
	test_pool_fewer();
	test_pool_polite();
	test_pool_list();
	test_pool_large();
	test_pool_urgent();
	test_pool_no_root();
	test_pool_idle();
	test_pool_fresh();
	test_pool_mixed(1);
	test_pool_mixed(4);
}

/* The processor without what these bits of CPUID leaf 7, EBX stand for. */
static void
run_masked(const char *name, uint64_t masked)
{
	pid_t		pid = fork();
	int			status;

	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		char		value[64];

		FILES_MUST(dup2(STDERR_FILENO, STDOUT_FILENO) >= 0);
		snprintf(value, sizeof(value), ":~0x%llx", (unsigned long long) masked);
		FILES_MUST(setenv("OPENSSL_ia32cap", value, 1) == 0);
		if (strcmp(sha256_kernel()->name, name) != 0)
			files_end_child(77);
		files_mkdir_at(rootfd, name);
		rootfd = openat(rootfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		FILES_MUST(rootfd >= 0);
		run_all();
		files_end_child(unit_done());
	}
	FILES_MUST(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP(name, "not on this processor");
	else
		CHECK(status == 0, "the pool with %s", name);
}

int
main(void)
{
	root = files_temp_dir();
	rootfd = files_open_dir(root);

	run_masked("AVX-512", 0);
	run_masked("AVX2", UINT64_C(1) << 29 | UINT64_C(1) << 16);
	run_masked("libcrypto", ~UINT64_C(0));

	close(rootfd);
	files_remove_tree(root);
	free(root);
	return unit_done();
}
