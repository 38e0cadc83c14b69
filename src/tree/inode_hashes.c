/*-------------------------------------------------------------------------
 *
 * inode_hashes.c
 *		Hashes of files that have several names, so that each is read once.
 *
 * An entry is a file, by device and inode number, with one of its states: the
 * hash of that, or the job that reads it now.  Order is counted, not timed: each reading that
 * begins and each doubt takes the next number, and a hash is shared only if its
 * reading began after the last doubt.  An entry that nobody reads can be
 * forgotten at any time; the file is read once more.
 *
 * Entries are bounded in number.  When they are too many, those that nobody has
 * asked for lately make way; if there are none, a file is not remembered, and
 * read for each of its names.  So a walk through more files than that still finds
 * the hashes of the first ones.
 *
 *-------------------------------------------------------------------------
 */
#include "inode_hashes.h"

#include "clock.h"
#include "table.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* So long after it was asked for last an entry makes way for another; and so
 * often such are looked for. */
#define ENTRY_AGE_US		(INT64_C(600) * 1000000)
#define SWEEP_US			(INT64_C(10) * 1000000)

typedef struct InodeHash
{
	TableLink	link;
	dev_t		dev;
	int64_t		inode;

	/* the state that was hashed, or that is read now */
	int64_t		size;
	int64_t		mtime_ns;
	int64_t		ctime_ns;
	int64_t		btime_ns;
	uint8_t		hash[PROTO_HASH_LEN];
	int64_t		begun_us;		/* as in the job that read it */

	const HashJob *reader;		/* NULL: the hash is there */
	bool		urgent;			/* the reader is */
	uint64_t	reading;		/* the number of the reading */
	uint64_t	doubt;			/* ... and of the last doubt */
	int64_t		used_us;		/* when it was asked for last */
} InodeHash;

struct InodeHashes
{
	pthread_mutex_t lock;
	Table		table;
	size_t		max;
	uint64_t	number;			/* the last one given */
	uint64_t	doubt;			/* of all files */
	atomic_bool all;
	int64_t		sweep_us;		/* no sooner is there another one */
};

InodeHashes *
inode_hashes_create(size_t max)
{
	InodeHashes *hashes = calloc(1, sizeof(InodeHashes));
	int			error;

	if (hashes == NULL)
		return NULL;
	error = pthread_mutex_init(&hashes->lock, NULL);
	if (error != 0)
	{
		free(hashes);
		errno = error;
		return NULL;
	}
	table_init(&hashes->table);
	hashes->max = max;
	return hashes;
}

static void
drop(InodeHashes *hashes, InodeHash *entry)
{
	table_remove(&hashes->table, &entry->link);
	free(entry);
}

/* Drops what nobody reads and nobody has asked for since then. */
static void
drop_unused(InodeHashes *hashes, int64_t since_us)
{
	for (size_t i = 0; i < hashes->table.n_buckets; i++)
	{
		TableLink  *link = hashes->table.buckets[i];

		while (link != NULL)
		{
			InodeHash  *entry = table_container(link, InodeHash, link);

			link = link->next;
			if (entry->reader == NULL && entry->used_us < since_us)
				drop(hashes, entry);
		}
	}
	if (hashes->table.count == 0)
		table_clear(&hashes->table);
}

void
inode_hashes_free(InodeHashes *hashes)
{
	if (hashes == NULL)
		return;
	for (size_t i = 0; i < hashes->table.n_buckets; i++)
		while (hashes->table.buckets[i] != NULL)
			drop(hashes, table_container(hashes->table.buckets[i], InodeHash, link));
	table_clear(&hashes->table);
	pthread_mutex_destroy(&hashes->lock);
	free(hashes);
}

void
inode_hashes_share_all(InodeHashes *hashes, bool all)
{
	hashes->all = all;
}

static uint64_t
hash_of(const FileInfo *info)
{
	return table_hash(&info->stat.inode, sizeof(info->stat.inode), info->dev);
}

static InodeHash *
find(const InodeHashes *hashes, const FileInfo *info)
{
	for (TableLink *link = table_first(&hashes->table, hash_of(info)); link;
		 link = table_next(link))
	{
		InodeHash  *entry = table_container(link, InodeHash, link);

		if (entry->dev == info->dev && entry->inode == info->stat.inode)
			return entry;
	}
	return NULL;
}

/* A new entry for the file; NULL where there is no room. */
static InodeHash *
add(InodeHashes *hashes, const FileInfo *info, int64_t now_us)
{
	InodeHash  *entry;

	if (hashes->table.count >= hashes->max && hashes->sweep_us <= now_us)
	{
		hashes->sweep_us = now_us + SWEEP_US;
		drop_unused(hashes, now_us - ENTRY_AGE_US);
	}
	if (hashes->table.count >= hashes->max ||
		(entry = calloc(1, sizeof(InodeHash))) == NULL)
		return NULL;
	entry->dev = info->dev;
	entry->inode = info->stat.inode;
	if (!table_insert(&hashes->table, &entry->link, hash_of(info)))
	{
		free(entry);
		return NULL;
	}
	return entry;
}

/* Whether the entry is of this state, and read after every doubt of the file. */
static bool
is_of_state(const InodeHashes *hashes, const InodeHash *entry, const ProtoStat *s)
{
	return entry->reading > entry->doubt && entry->reading > hashes->doubt &&
		entry->size == s->size && entry->mtime_ns == s->mtime_ns &&
		entry->ctime_ns == s->ctime_ns && entry->btime_ns == s->btime_ns;
}

/* The job reads the file for all names from now on.  What an older reader finds
 * out is for its own name only. */
static void
set_reader(InodeHashes *hashes, InodeHash *entry, const HashJob *job)
{
	const ProtoStat *s = &job->info.stat;

	entry->size = s->size;
	entry->mtime_ns = s->mtime_ns;
	entry->ctime_ns = s->ctime_ns;
	entry->btime_ns = s->btime_ns;
	entry->reader = job;
	entry->urgent = job->urgent;
	entry->reading = ++hashes->number;
}

InodeTurn
inode_hashes_begin(InodeHashes *hashes, HashJob *job)
{
	InodeTurn	turn = INODE_READ;
	InodeHash  *entry;
	int64_t		now_us;

	if (job->info.nlink < 2 && !hashes->all)
		return INODE_READ;
	now_us = monotonic_us();
	pthread_mutex_lock(&hashes->lock);
	entry = find(hashes, &job->info);
	if (entry == NULL)
		entry = add(hashes, &job->info, now_us);
	if (entry != NULL)
	{
		bool		same = is_of_state(hashes, entry, &job->info.stat);

		entry->used_us = now_us;
		if (same && entry->reader == NULL)
		{
			memcpy(job->hash, entry->hash, PROTO_HASH_LEN);
			job->begun_us = entry->begun_us;
			job->reading = entry->reading;
			turn = INODE_KNOWN;
		}
		else if (same && (entry->urgent || !job->urgent))
			turn = INODE_WAIT;
		else
		{
			set_reader(hashes, entry, job);
			job->reading = entry->reading;
			turn = INODE_READ_FOR_ALL;
		}
	}
	pthread_mutex_unlock(&hashes->lock);
	return turn;
}

void
inode_hashes_end(InodeHashes *hashes, const HashJob *job)
{
	InodeHash  *entry;

	pthread_mutex_lock(&hashes->lock);
	entry = find(hashes, &job->info);
	if (entry != NULL && entry->reader == job)
	{
		entry->reader = NULL;
		memcpy(entry->hash, job->hash, PROTO_HASH_LEN);
		entry->begun_us = job->begun_us;
		if (job->result != HASH_DONE)
			drop(hashes, entry);
	}
	pthread_mutex_unlock(&hashes->lock);
}

void
inode_hashes_doubt(InodeHashes *hashes, const FileInfo *info)
{
	InodeHash  *entry;

	pthread_mutex_lock(&hashes->lock);
	entry = find(hashes, info);
	if (entry != NULL && entry->reader == NULL)
		drop(hashes, entry);
	else if (entry != NULL)
		entry->doubt = ++hashes->number;
	pthread_mutex_unlock(&hashes->lock);
}

bool
inode_hashes_is_doubted(InodeHashes *hashes, const HashJob *job)
{
	const InodeHash *entry;
	bool		doubted;

	if (job->reading == 0)
		return false;
	pthread_mutex_lock(&hashes->lock);
	entry = find(hashes, &job->info);
	doubted = entry == NULL || entry->reading != job->reading ||
		!is_of_state(hashes, entry, &job->info.stat);
	pthread_mutex_unlock(&hashes->lock);
	return doubted;
}

void
inode_hashes_doubt_all(InodeHashes *hashes)
{
	pthread_mutex_lock(&hashes->lock);
	hashes->doubt = ++hashes->number;
	pthread_mutex_unlock(&hashes->lock);
}

void
inode_hashes_forget(InodeHashes *hashes)
{
	pthread_mutex_lock(&hashes->lock);
	drop_unused(hashes, INT64_MAX);
	pthread_mutex_unlock(&hashes->lock);
}
