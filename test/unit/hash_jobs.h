/*-------------------------------------------------------------------------
 *
 * hash_jobs.h
 *		Jobs for a hash pool, in the unit tests, and each kind of SHA-256 that
 *		this processor can do.
 *
 * The pool takes the one that OPENSSL_ia32cap leaves it, once a process; so
 * each is tried in a process of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TEST_HASH_JOBS_H
#define FSYNC_TEST_HASH_JOBS_H

#include "files.h"
#include "hash.h"
#include "sha256_lanes.h"

#include <openssl/evp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

/* Longer than anything here takes, and shorter than to hash a terabyte. */
#define PATIENCE_MS			180000

static char *root;
static int	rootfd;

static inline int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void
one_shot(const void *data, size_t len, uint8_t hash[PROTO_HASH_LEN])
{
	FILES_MUST(EVP_Digest(data, len, hash, NULL, EVP_sha256(), NULL) == 1);
}

static inline HashJob *
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

static inline void
free_job(HashJob *job)
{
	free(job->path);
	free(job);
}

/* The next finished jobs, waiting at most so long; NULL when none came. */
static inline HashJob *
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

/* The processor without what these bits of CPUID leaf 7, EBX stand for. */
static inline void
hash_jobs_run_masked(const char *name, uint64_t masked, void (*run) (void))
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
		run();
		files_end_child(unit_done());
	}
	FILES_MUST(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP(name, "not on this processor");
	else
		CHECK(status == 0, "the pool with %s", name);
}

/* Runs the tests below a new directory, with one kind after the other. */
static inline int
hash_jobs_main(void (*run) (void))
{
	root = files_temp_dir();
	rootfd = files_open_dir(root);

	hash_jobs_run_masked("AVX-512", 0, run);
	hash_jobs_run_masked("AVX2", UINT64_C(1) << 29 | UINT64_C(1) << 16, run);
	hash_jobs_run_masked("libcrypto", ~UINT64_C(0), run);

	close(rootfd);
	files_remove_tree(root);
	free(root);
	return unit_done();
}

#endif							/* FSYNC_TEST_HASH_JOBS_H */
