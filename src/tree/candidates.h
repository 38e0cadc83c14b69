/*-------------------------------------------------------------------------
 *
 * candidates.h
 *		What a scan found to be different, kept until the scan has ended.
 *
 * A scan may find a file's new name long before it finds the old one gone.
 * So additions and removals wait here until the walk is over; then renames
 * are matched by inode and birth time.  Records are written to
 * an unnamed temporary file when they outgrow the memory given; in memory
 * stay sixteen bytes a record.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_CANDIDATES_H
#define FSYNC_CANDIDATES_H

#include "spools.h"

typedef enum CandidateKind
{
	CANDIDATE_ADDED = 'a',		/* on disk, no row */
	CANDIDATE_CHANGED = 'c',	/* on disk and in the table, different */
	CANDIDATE_REMOVED = 'r',	/* row, not seen on disk */
} CandidateKind;

typedef struct Candidate
{
	CandidateKind kind;
	const char *path;			/* valid until the next call */
	size_t		len;
	int64_t		inode;
	int64_t		btime_ns;		/* PROTO_NO_TIME: never matches */
	int64_t		size;
	int64_t		mtime_ns;
} Candidate;

typedef struct Candidates Candidates;

/*
 * spools may be NULL, or have no file left: then everything stays in memory.
 * Created and freed by the thread that spools belongs to.
 */
extern Candidates *candidates_create(Spools *spools, size_t memory_limit);
extern void candidates_free(Candidates *c);

/* 0, or -1 with errno (memory, or the temporary file). */
extern int	candidates_add(Candidates *c, const Candidate *candidate);
extern size_t candidates_count(const Candidates *c, CandidateKind kind);

/*
 * Matches additions with removals; call once, after the last add.  A removal
 * matches at most one addition (the first in order of adding) and the other
 * way round, and only if inode and birth time are equal and that is known: what
 * else has changed does not matter.
 * Returns the number of pairs, or -1 with errno.
 */
extern int64_t candidates_match(Candidates *c);

/*
 * After candidates_match(): steps through everything once, in this order:
 * pairs (1: removed and added are both filled), then changed files, then
 * unmatched additions, then unmatched removals (1: the respective one is
 * filled, kind says which, in *removed for removals, in *added for the
 * others, and the other's path is NULL).  0 at the end, -1 with errno.
 */
extern int	candidates_next(Candidates *c, Candidate *removed, Candidate *added);

#endif							/* FSYNC_CANDIDATES_H */
