/*-------------------------------------------------------------------------
 *
 * test_hash.c
 *		A hash is SHA-256 of what the file once was, or there is none.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "hash.h"

#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <time.h>

/* Longer than anything here takes, and shorter than to hash a terabyte. */
#define PATIENCE_MS			120000

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

static HashResult
hash_path(const char *path, FileInfo *info, uint8_t hash[PROTO_HASH_LEN], int *error)
{
	int64_t		bytes;

	return hash_file(rootfd, path, strlen(path), NULL, info, hash, &bytes, error);
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

/* ---------------------------------------------------------------------
 * One file
 * ---------------------------------------------------------------------
 */

/* Fails if a size at the edge of a buffer or block is hashed wrongly. */
static void
test_sizes(void)
{
	static const size_t sizes[] = {
		0, 1, 55, 56, 63, 64, 65, 4095, 4096, 4097,
		256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 1000003,
	};
	static unsigned char data[1000003];
	size_t		i;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char) (i * 7 + i / 251);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		uint8_t		expected[PROTO_HASH_LEN];
		uint8_t		hash[PROTO_HASH_LEN];
		FileInfo	info;
		int			error;

		files_write_at(rootfd, "sized", data, sizes[i]);
		one_shot(data, sizes[i], expected);
		EQUALS(hash_path("sized", &info, hash, &error), HASH_DONE);
		HOLDS(memcmp(hash, expected, PROTO_HASH_LEN) == 0);
		EQUALS(info.stat.size, (int64_t) sizes[i]);
	}
}

/* Fails if the hash is another function than everybody's sha256sum. */
static void
test_known_hash(void)
{
	static const uint8_t abc[PROTO_HASH_LEN] = {
		0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
		0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
	};
	uint8_t		hash[PROTO_HASH_LEN];
	FileInfo	info;
	int			error;

	files_write_at(rootfd, "abc", "abc", 3);
	EQUALS(hash_path("abc", &info, hash, &error), HASH_DONE);
	HOLDS(memcmp(hash, abc, PROTO_HASH_LEN) == 0);
}

/* Fails if what cannot be hashed is opened, or gives the wrong reason. */
static void
test_reasons(void)
{
	uint8_t		hash[PROTO_HASH_LEN];
	FileInfo	info;
	int			error;
	int			cancelled = 1;
	int64_t		bytes;
	int			fd;

	FILES_MUST(mkfifoat(rootfd, "fifo", 0600) == 0);
	FILES_MUST(symlinkat("abc", rootfd, "link") == 0);
	EQUALS(hash_path("fifo", &info, hash, &error), HASH_GONE);
	EQUALS(hash_path("link", &info, hash, &error), HASH_GONE);
	EQUALS(hash_path("absent", &info, hash, &error), HASH_GONE);
	EQUALS(hash_path("abc/x", &info, hash, &error), HASH_GONE);
	EQUALS(hash_path("", &info, hash, &error), HASH_GONE);
	EQUALS(hash_file(rootfd, "abc", 3, &cancelled, &info, hash, &bytes, &error),
				 HASH_CANCELLED);
	EQUALS(hash_file(-1, "abc", 3, NULL, &info, hash, &bytes, &error), HASH_ERROR);
	EQUALS(error, EBADF);

	signal(SIGIO, SIG_IGN);
	fd = openat(rootfd, "abc", O_WRONLY);
	FILES_MUST(fd >= 0);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0)
		EQUALS(hash_path("abc", &info, hash, &error), HASH_LEASED);
	close(fd);
}

/*
 * Fails if a change in the clock tick of the hash goes unnoticed: when a file
 * is written at once after it was hashed, its ctime must be another one.
 */
static void
test_clock_tick(void)
{
	int			i;
	int			invisible = 0;

	for (i = 0; i < 200; i++)
	{
		char		content = (char) ('a' + i % 26);
		uint8_t		hash[PROTO_HASH_LEN];
		FileInfo	before;
		FileInfo	after;
		int			error;

		files_write_at(rootfd, "tick", &content, 1);
		EQUALS(hash_path("tick", &before, hash, &error), HASH_DONE);
		content ^= 1;
		files_write_at(rootfd, "tick", &content, 1);
		FILES_MUST(beneath_stat(rootfd, "tick", 4, &after) == 0);
		invisible += before.stat.ctime_ns == after.stat.ctime_ns;
	}
	EQUALS(invisible, 0);
}

/*
 * The same on ramfs, whose stamps move in ticks on every kernel; recent ones
 * give other file systems finer stamps, where nothing can go wrong.
 */
static void
test_clock_tick_ramfs(void)
{
	pid_t		pid;
	int			status;

	files_mkdir_at(rootfd, "ramfs");
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		FILES_MUST(dup2(STDERR_FILENO, STDOUT_FILENO) >= 0);
		if (unshare(CLONE_NEWNS) < 0 ||
			mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
			fchdir(rootfd) < 0 ||
			mount("none", "ramfs", "ramfs", 0, NULL) < 0)
			files_end_child(77);
		rootfd = openat(rootfd, "ramfs", O_PATH | O_DIRECTORY | O_CLOEXEC);
		FILES_MUST(rootfd >= 0);
		test_clock_tick();
		files_end_child(unit_done());
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("no change within a clock tick goes unnoticed", "cannot mount a ramfs");
	else
		EQUALS(status, 0);
}

/*
 * A file of so many parts, each of one letter; it is overwritten part by part,
 * since within one write(2) no time stamp moves.
 */
#define PART				4096
#define PARTS				128
#define LETTERS				4

static int	stop_rewriting;

static void *
rewrite(void *arg)
{
	int			fd = openat(rootfd, "busy", O_WRONLY);
	char		data[PART];

	FILES_MUST(fd >= 0);
	for (int letter = 1; __atomic_load_n(&stop_rewriting, __ATOMIC_RELAXED) == 0;
		 letter = (letter + 1) % LETTERS)
	{
		memset(data, 'a' + letter, PART);
		for (int i = 0; i < PARTS; i++)
			FILES_MUST(pwrite(fd, data, PART, i * PART) == PART);
		usleep(*(const useconds_t *) arg);
	}
	close(fd);
	return NULL;
}

/* Fails if a hash is of a mixture that the file never was. */
static void
test_rewritten(useconds_t pause)
{
	uint8_t		states[LETTERS * PARTS][PROTO_HASH_LEN];
	char	   *data = malloc(PARTS * PART);
	pthread_t	writer;
	int64_t		end = now_ms() + 1000;
	int			done = 0;
	int			changed = 0;
	int			wrong = 0;

	/* all of one letter, and then one part after the other of the next one */
	FILES_MUST(data != NULL);
	memset(data, 'a', PARTS * PART);
	files_write_at(rootfd, "busy", data, PARTS * PART);
	for (int i = 0; i < LETTERS * PARTS; i++)
	{
		memset(data + i % PARTS * PART, 'a' + (i / PARTS + 1) % LETTERS, PART);
		one_shot(data, PARTS * PART, states[i]);
	}
	free(data);
	__atomic_store_n(&stop_rewriting, 0, __ATOMIC_RELAXED);
	FILES_MUST(pthread_create(&writer, NULL, rewrite, &pause) == 0);
	do
	{
		uint8_t		hash[PROTO_HASH_LEN];
		FileInfo	info;
		int			error;
		HashResult	result = hash_path("busy", &info, hash, &error);

		if (result == HASH_DONE)
		{
			int			known = 0;

			for (int i = 0; i < LETTERS * PARTS; i++)
				known |= memcmp(hash, states[i], PROTO_HASH_LEN) == 0;
			wrong += !known;
			done++;
		}
		else if (result == HASH_CHANGED)
			changed++;
		else
			wrong++;
	} while (now_ms() < end);
	__atomic_store_n(&stop_rewriting, 1, __ATOMIC_RELAXED);
	pthread_join(writer, NULL);
	printf("# pause %u us: %d hashes, %d times changed\n", (unsigned int) pause, done, changed);
	EQUALS(wrong, 0);
	if (pause == 0)
		HOLDS(changed > 0);
}

/* Fails if a file that grows faster than it is read keeps its reader. */
static void
test_growing(void)
{
	uint8_t		hash[PROTO_HASH_LEN];
	FileInfo	info;
	int			error;
	HashResult	result = HASH_DONE;
	pid_t		pid;

	files_write_at(rootfd, "growing", "", 0);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		static char block[65536];
		int			fd = openat(rootfd, "growing", O_WRONLY | O_APPEND);
		int			i;

		for (i = 0; i < 5000; i++)
		{
			if (write(fd, block, sizeof(block)) < 0)
				break;
			usleep(200);
		}
		_exit(0);
	}
	/* The writer may be kept off the CPU for as long as a hash takes. */
	for (int i = 0; i < 1000 && result != HASH_CHANGED; i++)
	{
		result = hash_path("growing", &info, hash, &error);
		HOLDS(result == HASH_CHANGED || result == HASH_DONE);
	}
	EQUALS(result, HASH_CHANGED);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlinkat(rootfd, "growing", 0);
}

/* ---------------------------------------------------------------------
 * The pool
 * ---------------------------------------------------------------------
 */

/* Fails if a job is lost, done twice, or mixed up with another. */
static void
test_pool_all_done(void)
{
	enum { files = 300, rounds = 3 };
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(4, notify_fd);
	int			seen[files] = {0};
	int			wrong = 0;
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
					job->bytes != (int64_t) job->len;
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

static void
make_sparse(const char *name, int64_t size)
{
	int			fd = openat(rootfd, name, O_CREAT | O_WRONLY, 0644);

	FILES_MUST(fd >= 0 && ftruncate(fd, size) == 0);
	close(fd);
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

int
main(void)
{
	root = files_temp_dir();
	rootfd = files_open_dir(root);

	test_sizes();
	test_known_hash();
	test_reasons();
	test_clock_tick();
	test_clock_tick_ramfs();
	test_rewritten(0);
	test_rewritten(15000);
	test_growing();
	test_pool_all_done();
	test_pool_large();
	test_pool_urgent();
	test_pool_no_root();
	test_pool_idle();

	close(rootfd);
	files_remove_tree(root);
	free(root);
	return unit_done();
}
