/*-------------------------------------------------------------------------
 *
 * hash.c
 *		The SHA-256 of one state of a file.
 *
 * Equal stats before and after reading mean that nobody wrote meanwhile only
 * if a write would have changed them.  Time stamps move in ticks of the
 * kernel's coarse clock (1 to 10 ms), on some file systems in seconds: a
 * write in the tick of the stamp that we saw leaves the stamp as it is.  So
 * reading begins when the tick (or second) of ctime is over; from then on
 * each write gives a later ctime.
 *
 *-------------------------------------------------------------------------
 */
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_SIZE			(256 * 1024)

#define NS_PER_SECOND		INT64_C(1000000000)
#define NS_PER_MS			INT64_C(1000000)

/* About a tick of the coarse clock with HZ=250. */
#define TICK_NS				(4 * NS_PER_MS)

/* The longest sleep, so that cancelling is noticed. */
#define SLEEP_MAX_NS		(50 * NS_PER_MS)

/*
 * Stamps without nanoseconds come from a file system that keeps seconds (old
 * ext3, ext2), or even numbers of seconds (FAT).
 */
#define WHOLE_SECONDS_NS	(2 * NS_PER_SECOND)

/*
 * A ctime this far ahead is another machine's clock or a clock set back: to
 * wait for it is no use, it may be years.
 */
#define FUTURE_NS			(2 * NS_PER_SECOND)

/*
 * A file that has a new ctime each time that we look is being written; it is
 * given up after so many looks.
 */
#define RESTLESS_LOOKS		16

struct HashScratch
{
	EVP_MD	   *sha256;			/* fetched once: a look-up for each file costs
								 * as much as hashing a small one */
	EVP_MD_CTX *digest;
	HashPause	pause;
	void	   *pause_arg;
	unsigned char buffer[BUFFER_SIZE];
};

HashScratch *
hash_scratch_create(void)
{
	HashScratch *scratch = malloc(sizeof(HashScratch));

	if (scratch == NULL)
		return NULL;
	scratch->pause = NULL;
	scratch->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	scratch->digest = EVP_MD_CTX_new();
	if (scratch->sha256 == NULL || scratch->digest == NULL)
	{
		hash_scratch_free(scratch);
		errno = ENOMEM;
		return NULL;
	}
	return scratch;
}

void
hash_scratch_free(HashScratch *scratch)
{
	if (scratch == NULL)
		return;
	EVP_MD_CTX_free(scratch->digest);
	EVP_MD_free(scratch->sha256);
	free(scratch);
}

void
hash_scratch_set_pause(HashScratch *scratch, HashPause pause, void *arg)
{
	scratch->pause = pause;
	scratch->pause_arg = arg;
}

static bool
is_cancelled(const volatile int *cancelled)
{
	return cancelled != NULL && __atomic_load_n(cancelled, __ATOMIC_RELAXED) != 0;
}

static int64_t
coarse_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return beneath_ns(now.tv_sec, now.tv_nsec);
}

/* How long after now a new write is sure to give another ctime; 0: already. */
static int64_t
unsettled_ns(const FileInfo *info, int64_t now)
{
	int64_t		ctime_ns = info->stat.ctime_ns;
	int64_t		granularity = 0;

	/* differences of saturated times could overflow; these are old or odd */
	if (ctime_ns < now - WHOLE_SECONDS_NS || ctime_ns > now + FUTURE_NS)
		return 0;
	if (ctime_ns % NS_PER_SECOND == 0 && info->stat.mtime_nsec == 0)
		granularity = WHOLE_SECONDS_NS;
	if (ctime_ns + granularity < now)
		return 0;
	return ctime_ns + granularity - now + TICK_NS;
}

/*
 * Looks at the file until its stamps are settled.  The clock is read before
 * each look: a write after the look then cannot fall into an earlier tick.
 */
static HashResult
wait_until_settled(int fd, const volatile int *cancelled, FileInfo *info)
{
	int64_t		last_ctime = 0;
	int			looks = 0;

	for (;;)
	{
		int64_t		now = coarse_now();
		int64_t		wait;
		struct timespec pause = {0, 0};

		if (is_cancelled(cancelled))
			return HASH_CANCELLED;
		if (beneath_stat_fd(fd, info) < 0)
			return HASH_ERROR;
		wait = unsettled_ns(info, now);
		if (wait == 0)
			return HASH_DONE;
		if (info->stat.ctime_ns != last_ctime && ++looks > RESTLESS_LOOKS)
			return HASH_CHANGED;
		last_ctime = info->stat.ctime_ns;
		pause.tv_nsec = wait < SLEEP_MAX_NS ? wait : SLEEP_MAX_NS;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
}

/*
 * Feeds size bytes to the digest and no more, however fast the file grows; a
 * shorter file has changed.
 */
static HashResult
read_content(HashScratch *scratch, int fd, int64_t size, const volatile int *cancelled,
			 int64_t *bytes)
{
	while (*bytes < size)
	{
		int64_t		want = size - *bytes;
		ssize_t		n;

		if (is_cancelled(cancelled))
			return HASH_CANCELLED;
		n = read(fd, scratch->buffer, want < BUFFER_SIZE ? (size_t) want : BUFFER_SIZE);
		if (n < 0)
		{
			if (errno == EINTR)
				continue;
			return HASH_ERROR;
		}
		if (n == 0)
			return HASH_CHANGED;
		__atomic_store_n(bytes, *bytes + n, __ATOMIC_RELAXED);
		if (!EVP_DigestUpdate(scratch->digest, scratch->buffer, (size_t) n))
		{
			errno = ENOTSUP;
			return HASH_ERROR;
		}
		if (scratch->pause != NULL)
			scratch->pause(scratch->pause_arg);
	}
	return HASH_DONE;
}

/* Hashes an open file; HASH_ERROR with errno. */
static HashResult
hash_open_file(HashScratch *scratch, int fd, int64_t limit, const volatile int *cancelled,
			   FileInfo *info, uint8_t hash[PROTO_HASH_LEN], int64_t *bytes)
{
	FileInfo	after;
	HashResult	result;

	result = wait_until_settled(fd, cancelled, info);
	if (result != HASH_DONE)
		return result;
	if (info->stat.size >= limit)
		return HASH_CHANGED;

	/* what it refuses is only an advice; one read needs none */
	if (info->stat.size > BUFFER_SIZE)
		(void) posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	if (!EVP_DigestInit_ex(scratch->digest, scratch->sha256, NULL))
	{
		errno = ENOTSUP;
		return HASH_ERROR;
	}
	result = read_content(scratch, fd, info->stat.size, cancelled, bytes);
	if (result != HASH_DONE)
		return result;
	if (beneath_stat_fd(fd, &after) < 0)
		return HASH_ERROR;
	if (!beneath_same_state(info, &after))
	{
		*info = after;
		return HASH_CHANGED;
	}
	*info = after;
	if (!EVP_DigestFinal_ex(scratch->digest, hash, NULL))
	{
		errno = ENOTSUP;
		return HASH_ERROR;
	}
	return HASH_DONE;
}

HashResult
hash_with_scratch(HashScratch *scratch, int rootfd, const char *path, size_t len, int64_t limit,
				  const volatile int *cancelled, FileInfo *info, uint8_t hash[PROTO_HASH_LEN],
				  int64_t *bytes, int *error)
{
	HashResult	result;
	int			fd;

	__atomic_store_n(bytes, 0, __ATOMIC_RELAXED);
	*error = 0;
	if (is_cancelled(cancelled))
		return HASH_CANCELLED;
	fd = beneath_open_file(rootfd, path, len, info);
	if (fd < 0)
	{
		switch (errno)
		{
			case ENOENT:
			case ENOTDIR:
			case ELOOP:
			case EINVAL:
				return HASH_GONE;
			case EAGAIN:
				return HASH_LEASED;
			default:
				*error = errno;
				return HASH_ERROR;
		}
	}
	result = hash_open_file(scratch, fd, limit, cancelled, info, hash, bytes);
	if (result == HASH_ERROR)
		*error = errno;
	close(fd);
	return result;
}

int64_t
hash_bytes(const HashJob *job)
{
	return __atomic_load_n(&job->bytes, __ATOMIC_RELAXED);
}

HashResult
hash_file(int rootfd, const char *path, size_t len, const volatile int *cancelled,
		  FileInfo *info, uint8_t hash[PROTO_HASH_LEN], int64_t *bytes, int *error)
{
	HashScratch *scratch = hash_scratch_create();
	HashResult	result;

	*bytes = 0;
	if (scratch == NULL)
	{
		*error = errno;
		return HASH_ERROR;
	}
	result = hash_with_scratch(scratch, rootfd, path, len, INT64_MAX, cancelled, info, hash,
							   bytes, error);
	hash_scratch_free(scratch);
	return result;
}
