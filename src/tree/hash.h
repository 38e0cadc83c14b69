/*-------------------------------------------------------------------------
 *
 * hash.h
 *		Hashing files on threads of their own: SHA-256 (FIPS 180-4).
 *
 * A result is either the hash of one state of the file or a reason why there
 * is none, never a hash that was not once the content: the file is examined
 * before and after it is read, and hashing begins only when its ctime lies
 * before the clock tick in which it was examined, since a second write within
 * one tick leaves no trace in any time stamp on many file systems.
 *
 * Each thread hashes as many files in step as the processor's vectors have
 * lanes (hash_lanes.h).  Large files have a thread of their own with low
 * priority, so that they delay nobody, and can be cancelled; threads beyond the
 * processors have a low one, too.  So have files that are read to be sure, which
 * are most likely as they were: one thread, which reads one file at a time.
 *
 *		hash.c			jobs, and the hash of a single file
 *		hash_pool.c		what the owner does: submit, collect, cancel
 *		hash_threads.c	threads, and who does what
 *		hash_lanes.c	the files that one thread has in work
 *		hash_file.c		one file: its state before and after, its content
 *		inode_hashes.c	files with several names, which are read once
 *		sha256_lanes.c	SHA-256 of many messages at once
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_HASH_H
#define FSYNC_HASH_H

#include "beneath.h"
#include "throttle.h"

/* Files from this size on go to the large lane. */
#define HASH_LARGE_FILE		(INT64_C(64) * 1024 * 1024)

typedef enum HashResult
{
	HASH_DONE,					/* info and hash are one state of the file */
	HASH_CHANGED,				/* it changed while it was read */
	HASH_GONE,					/* nothing there, or not a regular file */
	HASH_LEASED,				/* another process holds a lease */
	HASH_ERROR,					/* error is the errno */
	HASH_STARVED,				/* no thread, descriptor or memory to read it:
								 * error is the errno, shortage.h */
	HASH_CANCELLED,
} HashResult;

typedef struct HashJob
{
	struct HashJob *next;		/* the submitted list's, the pool's, the
								 * collected list's */

	/* set by the submitter, who owns the job before and after */
	char	   *path;			/* relative to the root, terminated */
	size_t		len;
	int64_t		expected_size;	/* chooses the lane */
	bool		low;			/* the lane of what is most likely unchanged */
	bool		urgent;			/* goes before those that are not, which are a
								 * scan's and subject to the throttle: a
								 * change must not wait for a scan */
	void	   *owner;			/* not touched by the pool */

	/* set by the pool */
	HashResult	result;
	int			error;
	FileInfo	info;
	uint8_t		hash[PROTO_HASH_LEN];
	int64_t		begun_us;		/* CLOCK_REALTIME before the content was read */
	int64_t		bytes;			/* read; may be asked for meanwhile, with
								 * hash_bytes() */
	int64_t		size;			/* as far as is known: what was expected, or found;
								 * likewise, with hash_size() */
	int64_t		duration_us;

	int			rootfd;			/* the pool's: its root at submission */
	struct InodeHashes *shared; /* what other names of its file give; NULL: it
								 * is read in any case */
	uint64_t	reading;		/* there: by which its hash came; 0: its own */
	volatile int cancelled;		/* set by hash_pool_cancel(), atomic */
} HashJob;

typedef struct HashPool HashPool;

/*
 * rootfd is asked for by each job and given back: the pool's owner may close
 * it when nothing is in the pool.  notify_fd is an eventfd that is written
 * when results wait: urgent ones at once, others when they are many or a while
 * has passed.  NULL with errno on failure.
 */
extern HashPool *hash_pool_create(int threads, int notify_fd);

/* Changes the number of threads; takes effect as threads become idle. */
extern void hash_pool_resize(HashPool *pool, int threads);

/* What jobs that are not urgent are charged to, and wait for; NULL: none. */
extern void hash_pool_set_throttle(HashPool *pool, Throttle *throttle);

/* The root for the jobs submitted from now on; -1: none. */
extern void hash_pool_set_root(HashPool *pool, int rootfd);

/*
 * A file that has several names is read once for all of them (inode_hashes.h).
 * doubt: something was heard of the file, or, where info is NULL, may have been
 * missed of any; what was begun to be read before is not for other names.
 * share_all: a mount may show a file under a second name, of which its links
 * say nothing.  forget: all names are up to date; gives the memory back.
 * is_doubted: whether the collected job's hash came before such a doubt.
 */
extern void hash_pool_doubt(HashPool *pool, const FileInfo *info);
extern bool hash_pool_is_doubted(HashPool *pool, const HashJob *job);
extern void hash_pool_share_all(HashPool *pool, bool all);
extern void hash_pool_forget(HashPool *pool);

/* A list of jobs, linked by next; those that are cancelled end at once. */
extern void hash_pool_submit(HashPool *pool, HashJob *jobs);

/* Bytes that a submitted job has read so far. */
extern int64_t hash_bytes(const HashJob *job);
extern int64_t hash_size(const HashJob *job);

/* Jobs submitted and not yet collected. */
extern size_t hash_pool_outstanding(HashPool *pool);

/* All finished jobs as a list, oldest first, or NULL; never waits. */
extern HashJob *hash_pool_collect(HashPool *pool);

/* The job ends soon with HASH_CANCELLED (or with its result). */
extern void hash_pool_cancel(HashPool *pool, HashJob *job);

/* Cancels all, joins the threads; jobs not collected are freed (path, job). */
extern void hash_pool_destroy(HashPool *pool);

/*
 * Hashes one file of any size as the pool does, in the calling thread; of the
 * job, path and len are set.
 */
extern void hash_file(int rootfd, HashJob *job);

/* Sleeps until then, in the time of monotonic_us(). */
extern void hash_sleep_until(int64_t due_us);

#endif							/* FSYNC_HASH_H */
