/*-------------------------------------------------------------------------
 *
 * hash_file.h
 *		One file on its way to its hash: a piece of its content at a time.
 *
 * Nothing here waits but for the disk, so that a thread can have many files in
 * work.  For the file's owner: open, look until it is settled, start, and then
 * fill and have the blocks hashed by turns, until the file has ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_HASH_FILE_H
#define FSYNC_HASH_FILE_H

#include "hash.h"
#include "sha256_lanes.h"

typedef struct HashFile
{
	HashJob    *job;			/* result, error, info, hash and bytes are set */
	int			fd;				/* -1: closed */
	int64_t		limit;			/* files of this size and more are not read */

	/* until its stamps are settled */
	int64_t		due_us;			/* CLOCK_MONOTONIC; not to be looked at before */
	int64_t		last_ctime;
	int			looks;
	bool		for_all;		/* other names wait for its hash */
	int			asked;			/* times that it was another name's turn */

	/* then */
	Sha256State state;
	uint8_t    *buffer;			/* the owner's */
	const uint8_t *next;		/* of the blocks that wait, in the buffer */
	size_t		blocks;
	size_t		rest;			/* bytes behind them that are no block yet */
	bool		padded;			/* these are the last blocks */
} HashFile;

typedef enum HashStep
{
	HASH_STEP_GO_ON,			/* start it, or take its blocks and fill again */
	HASH_STEP_WAIT,				/* look again when it is due */
	HASH_STEP_END,				/* nothing is open; the job has its result */
} HashStep;

/* What a buffer must hold to take pieces of so many bytes. */
#define HASH_FILE_BUFFER(piece)	((piece) + SHA256_PADDING)

/* Opens the job's file and looks at it. */
extern HashStep hash_file_open(HashFile *file, HashJob *job, int64_t limit);

/* Looks again at a file that had to wait. */
extern HashStep hash_file_look(HashFile *file);

/* Begins to read; the buffer is the file's until its end. */
extern void hash_file_start(HashFile *file, uint8_t *buffer, size_t piece);

/*
 * Reads the next piece, when no block waits.  *uncached says whether what is
 * read only for this may be dropped from the page cache, and is made false
 * where the system has no way to do that.
 */
extern HashStep hash_file_fill(HashFile *file, size_t piece, bool *uncached);

/* Blocks were taken; END when they were the last. */
extern HashStep hash_file_took(HashFile *file, size_t blocks);

/* Ends it without a hash. */
extern HashStep hash_file_cancel(HashFile *file);

#endif							/* FSYNC_HASH_FILE_H */
