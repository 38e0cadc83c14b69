/*-------------------------------------------------------------------------
 *
 * hash_lanes.h
 *		The files that one thread has in work.
 *
 * As many files as the kernel of sha256_lanes.h has lanes are read and hashed
 * in step; with libcrypto's that is one file.
 * Files whose stamps are not settled wait beside them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_HASH_LANES_H
#define FSYNC_HASH_LANES_H

#include "hash.h"
#include "sha256_lanes.h"

typedef struct HashLanes HashLanes;

/*
 * Files of limit bytes or more are not read: they are HASH_CHANGED, with their
 * size in info.  NULL with errno on failure.
 */
extern HashLanes *hash_lanes_create(const Sha256Kernel *kernel, int64_t limit);

/* No file may be in work. */
extern void hash_lanes_free(HashLanes *lanes);

/* Files in work. */
extern int	hash_lanes_count(const HashLanes *lanes);

/* Of these, urgent ones. */
extern int	hash_lanes_urgent(const HashLanes *lanes);

/*
 * Whether another file may be added after so many more; an urgent one need not
 * wait for a lane.
 */
extern bool hash_lanes_room(const HashLanes *lanes, int more, bool urgent);

/* Opens the job's file. */
extern void hash_lanes_add(HashLanes *lanes, HashJob *job);

/* Takes all files a piece further, at most; or the urgent ones alone. */
extern void hash_lanes_step(HashLanes *lanes, bool urgent_only);

/*
 * Whether further steps come before what ended is to be taken out: where files
 * are small, it would be one at a time.
 */
extern bool hash_lanes_should_go_on(const HashLanes *lanes);

/*
 * When such a step has something to do, in microseconds of CLOCK_MONOTONIC;
 * 0: at once; INT64_MAX: never.
 */
extern int64_t hash_lanes_due(const HashLanes *lanes, bool urgent_only);

/* Those that are not urgent have rested, which is no part of their duration. */
extern void hash_lanes_rested(HashLanes *lanes, int64_t us);

/* A job that has ended, or NULL. */
extern HashJob *hash_lanes_take_done(HashLanes *lanes);

/* Ends all with HASH_CANCELLED. */
extern void hash_lanes_cancel(HashLanes *lanes);

#endif							/* FSYNC_HASH_LANES_H */
