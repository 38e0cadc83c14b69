/*-------------------------------------------------------------------------
 *
 * test_inode_hashes.c
 *		Files with several names are read once, and no name gets a hash of
 *		another state, or one that is in doubt.
 *
 *-------------------------------------------------------------------------
 */
#include "hash_jobs.h"

#include "inode_hashes.h"

#include <sys/time.h>

static HashJob
job_of(dev_t dev, int64_t inode)
{
	HashJob		job = {.urgent = true};

	job.info.dev = dev;
	job.info.nlink = 2;
	job.info.stat.inode = inode;
	job.info.stat.size = 100;
	job.info.stat.mtime_ns = 1000;
	job.info.stat.mtime_nsec = 1000;
	job.info.stat.ctime_ns = 2000;
	job.info.stat.btime_ns = 500;
	return job;
}

static void
done(InodeHashes *hashes, HashJob *job, uint8_t hash)
{
	job->result = HASH_DONE;
	memset(job->hash, hash, PROTO_HASH_LEN);
	job->begun_us = hash;
	inode_hashes_end(hashes, job);
}

/* Fails if names are read that need not be, or do not wait, or get no hash. */
static void
test_one_reads(void)
{
	InodeHashes *hashes = inode_hashes_create(100);
	HashJob		first = job_of(1, 10);
	HashJob		second = job_of(1, 10);
	HashJob		single = job_of(1, 11);

	FILES_MUST(hashes != NULL);
	HOLDS(inode_hashes_begin(hashes, &first) == INODE_READ_FOR_ALL);
	HOLDS(inode_hashes_begin(hashes, &second) == INODE_WAIT);
	HOLDS(inode_hashes_begin(hashes, &second) == INODE_WAIT);
	done(hashes, &first, 7);
	HOLDS(inode_hashes_begin(hashes, &second) == INODE_KNOWN);
	HOLDS(second.hash[0] == 7 && second.hash[PROTO_HASH_LEN - 1] == 7);
	HOLDS(second.begun_us == 7);
	HOLDS(inode_hashes_begin(hashes, &second) == INODE_KNOWN);

	/* one that failed is followed by another */
	first.info.stat.ctime_ns = second.info.stat.ctime_ns = 3000;
	HOLDS(inode_hashes_begin(hashes, &first) == INODE_READ_FOR_ALL);
	HOLDS(inode_hashes_begin(hashes, &second) == INODE_WAIT);
	first.result = HASH_CANCELLED;
	inode_hashes_end(hashes, &first);
	HOLDS(inode_hashes_begin(hashes, &second) == INODE_READ_FOR_ALL);
	done(hashes, &second, 8);
	HOLDS(inode_hashes_begin(hashes, &first) == INODE_KNOWN && first.hash[0] == 8);

	HOLDS(!inode_hashes_is_doubted(hashes, &first) && !inode_hashes_is_doubted(hashes, &second));

	/* a single name has nobody to share with, but where a mount shows it twice */
	single.info.nlink = 1;
	HOLDS(inode_hashes_begin(hashes, &single) == INODE_READ);
	HOLDS(inode_hashes_begin(hashes, &single) == INODE_READ);
	inode_hashes_share_all(hashes, true);
	HOLDS(inode_hashes_begin(hashes, &single) == INODE_READ_FOR_ALL);
	done(hashes, &single, 9);
	HOLDS(inode_hashes_begin(hashes, &single) == INODE_KNOWN);
	inode_hashes_free(hashes);
}

/* Fails if a hash is given to another file, or to another state of the file. */
static void
test_states(void)
{
	InodeHashes *hashes = inode_hashes_create(100);
	HashJob		job = job_of(1, 10);

	FILES_MUST(hashes != NULL);
	for (int what = 0; what < 6; what++)
	{
		HashJob		other = job_of(1, 10);

		inode_hashes_forget(hashes);
		FILES_MUST(inode_hashes_begin(hashes, &job) == INODE_READ_FOR_ALL);
		done(hashes, &job, 1);
		FILES_MUST(inode_hashes_begin(hashes, &other) == INODE_KNOWN);
		switch (what)
		{
			case 0:
				other.info.dev++;
				break;
			case 1:
				other.info.stat.inode++;
				break;
			case 2:
				other.info.stat.size++;
				break;
			case 3:
				other.info.stat.mtime_ns++;
				break;
			case 4:
				other.info.stat.ctime_ns++;
				break;
			default:
				other.info.stat.btime_ns++;
		}
		CHECK(inode_hashes_begin(hashes, &other) == INODE_READ_FOR_ALL,
			  "another file or state is read: %d", what);
		other.result = HASH_CHANGED;
		inode_hashes_end(hashes, &other);
	}

	/* nor does it wait for the reader of another state */
	FILES_MUST(inode_hashes_begin(hashes, &job) != INODE_WAIT);
	{
		HashJob		later = job_of(1, 10);

		later.info.stat.ctime_ns += 5;
		HOLDS(inode_hashes_begin(hashes, &later) == INODE_READ_FOR_ALL);
		done(hashes, &job, 2);
		HOLDS(inode_hashes_begin(hashes, &job) == INODE_READ_FOR_ALL);
		done(hashes, &job, 3);
		done(hashes, &later, 4);
		HOLDS(inode_hashes_begin(hashes, &job) == INODE_KNOWN && job.hash[0] == 3);
	}
	inode_hashes_free(hashes);
}

/* Fails if what was read before an event is given to a name after it. */
static void
test_doubt(void)
{
	InodeHashes *hashes = inode_hashes_create(100);
	HashJob		first = job_of(1, 10);
	HashJob		second = job_of(1, 10);
	HashJob		third = job_of(1, 10);
	HashJob		other = job_of(1, 20);

	FILES_MUST(hashes != NULL);
	inode_hashes_doubt(hashes, &first.info);
	HOLDS(inode_hashes_begin(hashes, &first) == INODE_READ_FOR_ALL);
	done(hashes, &first, 1);
	inode_hashes_doubt(hashes, &first.info);
	HOLDS(inode_hashes_begin(hashes, &second) == INODE_READ_FOR_ALL);

	/* while it is read: who comes later reads anew, and the first one's is its own */
	inode_hashes_doubt(hashes, &first.info);
	HOLDS(inode_hashes_begin(hashes, &third) == INODE_READ_FOR_ALL);
	done(hashes, &second, 2);
	HOLDS(inode_hashes_begin(hashes, &first) == INODE_WAIT);
	done(hashes, &third, 3);
	HOLDS(inode_hashes_begin(hashes, &first) == INODE_KNOWN && first.hash[0] == 3);

	/* while it is read, and nobody comes before it ends */
	inode_hashes_doubt(hashes, &first.info);
	FILES_MUST(inode_hashes_begin(hashes, &first) == INODE_READ_FOR_ALL);
	inode_hashes_doubt(hashes, &first.info);
	done(hashes, &first, 4);
	HOLDS(inode_hashes_begin(hashes, &second) == INODE_READ_FOR_ALL);
	done(hashes, &second, 5);

	/* what has been read, and is collected after an event */
	HOLDS(!inode_hashes_is_doubted(hashes, &second));
	HOLDS(inode_hashes_begin(hashes, &third) == INODE_KNOWN);
	HOLDS(!inode_hashes_is_doubted(hashes, &third));
	HOLDS(inode_hashes_is_doubted(hashes, &first));
	inode_hashes_doubt(hashes, &first.info);
	HOLDS(inode_hashes_is_doubted(hashes, &second));
	HOLDS(inode_hashes_is_doubted(hashes, &third));
	FILES_MUST(inode_hashes_begin(hashes, &first) == INODE_READ_FOR_ALL);
	done(hashes, &first, 6);
	HOLDS(inode_hashes_is_doubted(hashes, &second));
	HOLDS(!inode_hashes_is_doubted(hashes, &first));
	first.reading = 0;
	HOLDS(!inode_hashes_is_doubted(hashes, &first));

	/* of one file, and of all */
	FILES_MUST(inode_hashes_begin(hashes, &other) == INODE_READ_FOR_ALL);
	done(hashes, &other, 6);
	inode_hashes_doubt(hashes, &first.info);
	HOLDS(inode_hashes_begin(hashes, &other) == INODE_KNOWN);
	inode_hashes_doubt_all(hashes);
	HOLDS(inode_hashes_begin(hashes, &other) == INODE_READ_FOR_ALL);
	done(hashes, &other, 7);
	HOLDS(inode_hashes_begin(hashes, &other) == INODE_KNOWN);
	inode_hashes_free(hashes);
}

/* Fails if a change waits for a scan, or memory has no bound. */
static void
test_limits(void)
{
	InodeHashes *hashes = inode_hashes_create(2);
	HashJob		of_scan = job_of(1, 10);
	HashJob		urgent = job_of(1, 10);
	HashJob		two = job_of(1, 20);
	HashJob		three = job_of(1, 30);

	FILES_MUST(hashes != NULL);
	of_scan.urgent = false;
	HOLDS(inode_hashes_begin(hashes, &of_scan) == INODE_READ_FOR_ALL);
	HOLDS(inode_hashes_begin(hashes, &urgent) == INODE_READ_FOR_ALL);
	done(hashes, &of_scan, 1);
	HOLDS(inode_hashes_begin(hashes, &of_scan) == INODE_WAIT);
	done(hashes, &urgent, 2);
	HOLDS(inode_hashes_begin(hashes, &of_scan) == INODE_KNOWN && of_scan.hash[0] == 2);

	HOLDS(inode_hashes_begin(hashes, &two) == INODE_READ_FOR_ALL);
	HOLDS(inode_hashes_begin(hashes, &three) == INODE_READ);
	inode_hashes_forget(hashes);
	HOLDS(inode_hashes_begin(hashes, &three) == INODE_READ_FOR_ALL);
	done(hashes, &two, 3);
	HOLDS(inode_hashes_begin(hashes, &two) == INODE_KNOWN);
	HOLDS(inode_hashes_begin(hashes, &of_scan) == INODE_READ);
	done(hashes, &three, 4);
	inode_hashes_free(hashes);
}

#define NAMES		300

/* Hashes all names in a pool; the bytes that were read.  Checks each hash. */
static int64_t
hash_names(HashPool *pool, int notify_fd, const uint8_t expected[PROTO_HASH_LEN])
{
	HashJob    *jobs = NULL;
	int64_t		bytes = 0;
	int			collected = 0;
	int			wrong = 0;

	for (int i = 0; i < NAMES; i++)
	{
		char		name[20];
		HashJob    *job;

		snprintf(name, sizeof(name), "name%d", i);
		job = new_job(name, 100);
		job->urgent = i % 3 != 0;
		job->next = jobs;
		jobs = job;
	}
	hash_pool_submit(pool, jobs);
	while (collected < NAMES)
	{
		HashJob    *job = wait_collect(pool, notify_fd, PATIENCE_MS);

		FILES_MUST(job != NULL);
		while (job != NULL)
		{
			HashJob    *next = job->next;

			collected++;
			bytes += job->bytes;
			wrong += job->result != HASH_DONE || job->begun_us == 0 ||
				memcmp(job->hash, expected, PROTO_HASH_LEN) != 0;
			free_job(job);
			job = next;
		}
	}
	EQUALS(wrong, 0);
	return bytes;
}

/* Fails if a pool reads a file more than once for all its names, or not when it
 * has changed. */
static void
test_pool(void)
{
	static char data[1000000];
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	HashPool   *pool = hash_pool_create(3, notify_fd);
	uint8_t		hash[PROTO_HASH_LEN];
	struct stat st;

	FILES_MUST(pool != NULL);
	hash_pool_set_root(pool, rootfd);
	for (int round = 0; round < 4; round++)
	{
		memset(data, 'a' + round, sizeof(data));
		one_shot(data, sizeof(data), hash);
		if (round == 0)
		{
			files_write_at(rootfd, "name0", data, sizeof(data));
			for (int i = 1; i < NAMES; i++)
			{
				char		name[20];

				snprintf(name, sizeof(name), "name%d", i);
				FILES_MUST(linkat(rootfd, "name0", rootfd, name, 0) == 0);
			}
		}
		else
		{
			/* of the same size and mtime */
			struct timespec times[2];
			int			fd = openat(rootfd, "name5", O_WRONLY);

			FILES_MUST(fd >= 0 && fstat(fd, &st) == 0 &&
					   write(fd, data, sizeof(data)) == sizeof(data));
			times[0] = st.st_atim;
			times[1] = st.st_mtim;
			FILES_MUST(futimens(fd, times) == 0 && close(fd) == 0);
		}

		/* an urgent one may read beside one that is not */
		HOLDS(hash_names(pool, notify_fd, hash) <= 2 * (int64_t) sizeof(data));
		EQUALS(hash_names(pool, notify_fd, hash), 0);
		FILES_MUST(fstatat(rootfd, "name0", &st, 0) == 0);
		{
			FileInfo	info = {.dev = st.st_dev, .stat.inode = (int64_t) st.st_ino};

			hash_pool_doubt(pool, &info);
		}
		HOLDS(hash_names(pool, notify_fd, hash) > 0);
		hash_pool_doubt(pool, NULL);
		HOLDS(hash_names(pool, notify_fd, hash) > 0);
		hash_pool_forget(pool);
		HOLDS(hash_names(pool, notify_fd, hash) > 0);
	}
	hash_pool_destroy(pool);
	close(notify_fd);
}

int
main(void)
{
	root = files_temp_dir();
	rootfd = files_open_dir(root);
	test_one_reads();
	test_states();
	test_doubt();
	test_limits();
	test_pool();
	close(rootfd);
	files_remove_tree(root);
	free(root);
	return unit_done();
}
