/*-------------------------------------------------------------------------
 *
 * hash_file.c
 *		One file on its way to its hash: a piece of its content at a time.
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
#include "hash_file.h"

#include "clock.h"
#include "inode_hashes.h"
#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND		INT64_C(1000000000)
#define NS_PER_MS			INT64_C(1000000)

/* About a tick of the coarse clock with HZ=250. */
#define TICK_NS				(4 * NS_PER_MS)

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

/* The longest wait between two looks. */
#define WAIT_MAX_NS			(50 * NS_PER_MS)

/* When is asked whether another name's hash is there: then, and ever later. */
#define ASK_US				1000
#define ASK_LATER			6

/* From this size on a file is worth two system calls of advice. */
#define ADVICE_SIZE			(256 * 1024)

/* Linux 6.14; the headers may be older. */
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE		0x00000080
#endif

static HashStep
end(HashFile *file, HashResult result)
{
	file->job->result = result;
	if (file->for_all)
		inode_hashes_end(file->job->shared, file->job);
	file->for_all = false;
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
	return HASH_STEP_END;
}

static HashStep
end_with_error(HashFile *file)
{
	file->job->error = errno;
	return end(file, shortage_is(errno) ? HASH_STARVED : HASH_ERROR);
}

HashStep
hash_file_cancel(HashFile *file)
{
	return end(file, HASH_CANCELLED);
}

/* ---------------------------------------------------------------------
 * Before it is read
 * ---------------------------------------------------------------------
 */

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

/* Its stamps are settled: whether another name of the file has its hash. */
static HashStep
read_or_share(HashFile *file)
{
	HashJob    *job = file->job;
	InodeTurn	turn = job->shared == NULL ? INODE_READ : inode_hashes_begin(job->shared, job);

	switch (turn)
	{
		case INODE_KNOWN:
			return end(file, HASH_DONE);
		case INODE_WAIT:
			file->due_us = monotonic_us() + ((int64_t) ASK_US << file->asked);
			file->asked += file->asked < ASK_LATER;
			return HASH_STEP_WAIT;
		default:
			file->for_all = turn == INODE_READ_FOR_ALL;
			return HASH_STEP_GO_ON;
	}
}

/* What is to be done with a file that looked so just after this time. */
static HashStep
judge(HashFile *file, int64_t now)
{
	const FileInfo *info = &file->job->info;
	int64_t		wait = unsettled_ns(info, now);

	__atomic_store_n(&file->job->size, info->stat.size, __ATOMIC_RELAXED);
	if (wait == 0)
		return info->stat.size >= file->limit ? end(file, HASH_CHANGED) : read_or_share(file);
	if (info->stat.ctime_ns != file->last_ctime && ++file->looks > RESTLESS_LOOKS)
		return end(file, HASH_CHANGED);
	file->last_ctime = info->stat.ctime_ns;
	file->due_us = monotonic_us() + (wait < WAIT_MAX_NS ? wait : WAIT_MAX_NS) / 1000;
	return HASH_STEP_WAIT;
}

HashStep
hash_file_open(HashFile *file, HashJob *job, int64_t limit)
{
	int64_t		now = coarse_now();

	memset(file, 0, sizeof(*file));
	file->job = job;
	file->limit = limit;
	file->fd = -1;
	job->error = 0;
	__atomic_store_n(&job->bytes, 0, __ATOMIC_RELAXED);
	if (__atomic_load_n(&job->cancelled, __ATOMIC_RELAXED) != 0)
		return hash_file_cancel(file);
	file->fd = beneath_open_file(job->rootfd, job->path, job->len, &job->info);
	if (file->fd >= 0)
		return judge(file, now);
	switch (errno)
	{
		case ENOENT:
		case ENOTDIR:
		case ELOOP:
		case EINVAL:
			return end(file, HASH_GONE);
		case EAGAIN:
			return end(file, HASH_LEASED);
		default:
			return end_with_error(file);
	}
}

/*
 * The clock is read before each look: a write after the look then cannot fall
 * into an earlier tick.
 */
HashStep
hash_file_look(HashFile *file)
{
	int64_t		now = coarse_now();

	if (beneath_stat_fd(file->fd, &file->job->info) < 0)
		return end_with_error(file);
	return judge(file, now);
}

/* ---------------------------------------------------------------------
 * Reading
 * ---------------------------------------------------------------------
 */

/*
 * Waits for the end of a write(2) that is under way: its stamps are from its
 * beginning, so nothing would tell of what it has not written yet.  Where file
 * systems hold the inode's lock while they write (ext4, btrfs, f2fs, tmpfs),
 * they take it to look for data too, and with it they see that there is none at
 * the end; where they do not, as XFS, to read waits.  A write that begins later
 * changes the stamps.
 */
static void
await_write(int fd, int64_t size)
{
	(void) lseek(fd, size, SEEK_DATA);
}

void
hash_file_start(HashFile *file, uint8_t *buffer, size_t piece)
{
	int64_t		size = file->job->info.stat.size;

	file->job->begun_us = clock_us(CLOCK_REALTIME);
	await_write(file->fd, size);
	sha256_start(file->state);
	file->buffer = buffer;

	/* what it refuses is only an advice */
	if (size >= ADVICE_SIZE && (size_t) size > piece)
	{
		(void) posix_fadvise(file->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
		(void) posix_fadvise(file->fd, 0, 0, POSIX_FADV_NOREUSE);
	}
}

/*
 * What was not in the page cache before need not stay there.  Only where one
 * read takes the whole file: the kernel drops a folio when a part of it has
 * been read, and would read it from the disk again for the next part.
 */
static ssize_t
read_uncached(int fd, void *buffer, size_t size, bool *uncached)
{
	struct iovec part = {.iov_base = buffer, .iov_len = size};
	ssize_t		n;

	n = preadv2(fd, &part, 1, 0, RWF_DONTCACHE);
	if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EPERM))
		return n;
	*uncached = false;
	return pread(fd, buffer, size, 0);
}

/* All was read: whether it is one state of the file. */
static HashStep
close_after_reading(HashFile *file)
{
	FileInfo	after;
	bool		same;

	if (beneath_stat_fd(file->fd, &after) < 0)
		return end_with_error(file);
	same = beneath_same_state(&file->job->info, &after);
	file->job->info = after;
	if (!same)
		return end(file, HASH_CHANGED);
	close(file->fd);
	file->fd = -1;
	return HASH_STEP_GO_ON;
}

/*
 * Reads as many bytes as the file had and no more, however fast it grows; a
 * shorter file has changed.
 */
HashStep
hash_file_fill(HashFile *file, size_t piece, bool *uncached)
{
	HashJob    *job = file->job;
	int64_t		size = job->info.stat.size;
	size_t		have = file->rest;
	uint8_t    *buffer = file->buffer;

	if (have > 0)
		memmove(buffer, file->next, have);
	while (have < SHA256_BLOCK && job->bytes < size)
	{
		size_t		want = piece - have;
		ssize_t		n;

		if ((int64_t) want > size - job->bytes)
			want = (size_t) (size - job->bytes);
		if (*uncached && (int64_t) want == size)
			n = read_uncached(file->fd, buffer, want, uncached);
		else
			n = pread(file->fd, buffer + have, want, job->bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return end_with_error(file);
		if (n == 0)
			return end(file, HASH_CHANGED);
		have += (size_t) n;
		__atomic_store_n(&job->bytes, job->bytes + n, __ATOMIC_RELAXED);
	}
	if (job->bytes == size)
	{
		if (close_after_reading(file) == HASH_STEP_END)
			return HASH_STEP_END;
		have += sha256_pad(buffer + have, (uint64_t) size);
		file->padded = true;
	}
	file->next = buffer;
	file->blocks = have / SHA256_BLOCK;
	file->rest = have % SHA256_BLOCK;
	return HASH_STEP_GO_ON;
}

HashStep
hash_file_took(HashFile *file, size_t blocks)
{
	file->next += blocks * SHA256_BLOCK;
	file->blocks -= blocks;
	if (file->blocks > 0 || !file->padded)
		return HASH_STEP_GO_ON;
	sha256_result(file->state, file->job->hash);
	return end(file, HASH_DONE);
}
