/*-------------------------------------------------------------------------
 *
 * problems.h
 *		The paths that were reported as problems and not yet as cured.
 *
 * fsync_problems must lose a row when its cause goes, also where the cure
 * leaves nothing else to report (the file is gone, or is as its row says).
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PROBLEMS_H
#define FSYNC_PROBLEMS_H

#include "table.h"

typedef struct Problems
{
	Table		table;
	uint64_t	round;			/* see problems_next_round() */
} Problems;

extern void problems_init(Problems *problems);
extern void problems_free(Problems *problems);

/* Remembers a problem, in the present round. */
extern void problems_note(Problems *problems, const char *path, size_t len);

extern bool problems_has(const Problems *problems, const char *path, size_t len);

/* Forgets it; true if it was known. */
extern bool problems_forget(Problems *problems, const char *path, size_t len);

/*
 * A scan that begins starts a round; at its end, problems of paths that it
 * covered (covers() says so) and did not meet again are forgotten, and
 * cured() is called for each.
 */
extern uint64_t problems_next_round(Problems *problems);
extern void problems_expire(Problems *problems, uint64_t round,
							bool (*covers) (void *arg, const char *path, size_t len),
							void (*cured) (void *arg, const char *path, size_t len),
							void *arg);

#endif							/* FSYNC_PROBLEMS_H */
