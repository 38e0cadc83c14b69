/*-------------------------------------------------------------------------
 *
 * inode_hashes.h
 *		Hashes of files that have several names, so that each is read once.
 *
 * A hash belongs to one state of a file: its device, inode number, birth time,
 * size, mtime and ctime.  A name that is found in that very state has that hash.
 * That holds for a hash whose reading began when its ctime was settled
 * (hash_file.c), since every write after that gives another ctime.  What leaves
 * the times as they are, a store to a page that is dirty already, is heard of as
 * an event: from then on, what was read before it is in doubt and not shared.
 *
 * While one name is read, the others wait for it.
 *
 * Any thread may call these.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_INODE_HASHES_H
#define FSYNC_INODE_HASHES_H

#include "hash.h"

typedef struct InodeHashes InodeHashes;

/* The files that are remembered; beyond that, each name is read. */
#define INODE_HASHES_MAX	500000

/* max: how many files are remembered at most.  NULL with errno on failure. */
extern InodeHashes *inode_hashes_create(size_t max);
extern void inode_hashes_free(InodeHashes *hashes);

/* Whether files with a single name are shared as well: a mount may show them
 * under another one. */
extern void inode_hashes_share_all(InodeHashes *hashes, bool all);

typedef enum InodeTurn
{
	INODE_READ,					/* read it */
	INODE_READ_FOR_ALL,			/* read it, and then call inode_hashes_end() */
	INODE_WAIT,					/* another job reads it: ask again soon */
	INODE_KNOWN,				/* the job's hash and begun_us are set */
} InodeTurn;

/*
 * What is to be done for a job whose info is of now and settled.  An urgent job
 * does not wait for one that is not.
 */
extern InodeTurn inode_hashes_begin(InodeHashes *hashes, HashJob *job);

/* The job that was to read for all has ended, with its result and hash. */
extern void inode_hashes_end(InodeHashes *hashes, const HashJob *job);

/* Something was heard of the file: what was begun to be read before is not shared. */
extern void inode_hashes_doubt(InodeHashes *hashes, const FileInfo *info);

/* The same of all files. */
extern void inode_hashes_doubt_all(InodeHashes *hashes);

/*
 * Whether something was heard of the file since the job's hash, its own or that
 * of another name, was begun to be read; true also where that is not known.
 */
extern bool inode_hashes_is_doubted(InodeHashes *hashes, const HashJob *job);

/* Forgets all hashes: no name is expected that has one of these states. */
extern void inode_hashes_forget(InodeHashes *hashes);

#endif							/* FSYNC_INODE_HASHES_H */
