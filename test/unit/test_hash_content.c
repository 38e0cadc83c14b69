/*-------------------------------------------------------------------------
 *
 * test_hash_content.c
 *		What a hash pool says of files: many at once, files that are written
 *		meanwhile, and files that were written this moment.
 *
 *-------------------------------------------------------------------------
 */
#include "hash_jobs.h"

#include <pthread.h>

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
	test_pool_fresh_ramfs(root);
	test_pool_fresh();
	test_pool_mixed(1);
	test_pool_mixed(4);
}

int
main(void)
{
	return hash_jobs_main(run_all);
}
