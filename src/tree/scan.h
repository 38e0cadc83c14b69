/*-------------------------------------------------------------------------
 *
 * scan.h
 *		Comparing what is on disk with what the worker believes.
 *
 * A scan merges two streams in path order, the walk and the beliefs, on a
 * thread of its own; it covers the whole tree, or some directories.  It
 * decides nothing: what differs becomes a candidate, which the engine looks
 * at again, with a fresh belief, after the scan has ended.  Only what a
 * repository without any row is filled with goes out at once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SCAN_H
#define FSYNC_SCAN_H

#include "candidates.h"
#include "findings.h"
#include "links.h"
#include "shortage.h"
#include "spelling.h"
#include "throttle.h"
#include "walk.h"

/* A place to compare: everything below a directory ("": the root). */
typedef struct ScanPlace
{
	char	   *path;			/* terminated; the scan takes it over */
	size_t		len;
	bool		local;			/* not into mounts that are remote; rows there
								 * stay */
} ScanPlace;

/* Sorts, and drops places that another one covers; how many are left. */
extern size_t scan_reduce_places(ScanPlace *places, size_t n);

/* Whether one of such places is at or above path. */
extern bool scan_place_covers(const ScanPlace *places, size_t n, const char *path, size_t len);

typedef struct ScanOptions
{
	int			rootfd;			/* stays open until scan_free() */
	const Filter *filter;
	bool		utf8;
	const MountSet *guarded;	/* copied */
	const MountSet *mounts;		/* copied, those that are polled; may be NULL */
	bool		calculate_hashes;	/* a row without a hash differs */
	int64_t		doubt_since_ns; /* so does one that scan_doubts() since then */
	bool		distrust;		/* so does every row: it is of another disk */
	SpellingDevices folding;	/* devices that are known to fold names */
	Spools	   *spools;
	Links	   *links;
	Throttle   *throttle;		/* of what the scan's threads do; NULL: none */
	Shortage   *shortage;		/* where they wait for descriptors or memory;
								 * NULL: what lacks them is unknown */
	int			notify_fd;		/* eventfd, written when there is something to
								 * do for the engine */
} ScanOptions;

typedef struct Scan Scan;

/*
 * Takes over places (an array from malloc) in any order, also overlapping.  NULL
 * with errno when out of memory or threads; then they remain the caller's, some
 * of them perhaps freed: *n_places says how many are left.
 */
extern Scan *scan_start(ScanPlace *places, size_t *n_places, const ScanOptions *options);

/* Joins the thread, which ends soon. */
extern void scan_cancel(Scan *scan);
extern void scan_free(Scan *scan);

/*
 * If the scan waits for beliefs: fills kind, inclusive, after, before, limit
 * and paths of the request (valid until the beliefs are given), once a page.
 */
extern bool scan_wants_beliefs(Scan *scan, ProtoBeliefsRequest *request);

/* The answer's body, after its header; copied.  False: it does not parse. */
extern bool scan_give_beliefs(Scan *scan, const ProtoBeliefsHeader *header,
							  ProtoReader body);

/* The oldest of what goes to the engine at once, which the caller frees, or NULL. */
extern Finding *scan_take_finding(Scan *scan);

typedef struct ScanStatus
{
	bool		finished;		/* and no finding is left */
	bool		failed;			/* error is the errno */
	bool		cancelled;
	bool		direct;			/* there were no rows: all goes out at once, with
								 * the names that were found only */
	int			error;
	uint64_t	files;			/* compared */
	uint64_t	believed;		/* rows */
} ScanStatus;

extern void scan_status(Scan *scan, ScanStatus *status);

/* After it has finished; candidates_match() was called. */
extern Candidates *scan_candidates(Scan *scan);

/* The scan's places, which cover each other nowhere. */
extern const ScanPlace *scan_places_of(const Scan *scan, size_t *n);

/* Whether the scan looked at path: at one of its places, or below. */
extern bool scan_covers(const Scan *scan, const char *path, size_t len);

/* The same, or whether one of its places is below path. */
extern bool scan_concerns(const Scan *scan, const char *path, size_t len);

/* Size, times, inode number: the file is as the row says. */
extern bool scan_belief_matches(const ProtoBelief *belief, const ProtoStat *stat);

/*
 * Whether the hash was taken so soon after the file's last change that shows,
 * if that is not older, that the same writer may have written more without a
 * trace: a store into a mapped page moves no time stamp until the kernel has
 * written the page back, and within one write(2) they do not move.
 */
extern bool scan_doubts(const ProtoBelief *belief, int64_t since_ns);

#endif							/* FSYNC_SCAN_H */
