/*-------------------------------------------------------------------------
 *
 * findings.h
 *		What a scan hands to the engine while it runs.
 *
 * The scan's thread gathers new files and hands over many at a time, and the
 * engine takes all that there are: two threads that met at a lock for each
 * file would take turns instead of working at the same time.  A problem is
 * handed over at once, with what was gathered before it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_FINDINGS_H
#define FSYNC_FINDINGS_H

#include "beneath.h"

#include <pthread.h>

/* When so many wait for the engine, the thread waits with its next batch. */
#define FINDINGS_QUEUE		2048

typedef enum FindingKind
{
	FINDING_ADDED,				/* a file of a repository without rows */
	FINDING_PROBLEM,			/* problem and message; the path is not to be
								 * tracked, or its rows stay */
	FINDING_RULES,				/* the same of a .fsyncignore */
} FindingKind;

typedef struct Finding
{
	struct Finding *next;
	FindingKind kind;
	ProtoProblem problem;
	int			error;			/* errno, or 0 */
	size_t		len;
	char		path[];
} Finding;

typedef struct FindingList
{
	Finding    *first;
	Finding   **end;
	size_t		count;
} FindingList;

typedef struct Findings
{
	FindingList gathered;		/* the scan's thread's */
	int64_t		gathered_us;	/* when the first of them was */

	pthread_mutex_t lock;
	pthread_cond_t room;
	FindingList queue;
	bool		waiting;		/* the thread, for room */
	bool		cancelled;
	int			notify_fd;

	FindingList taken;			/* the engine's */
} Findings;

/* notify_fd: an eventfd that is written when findings wait. */
extern void findings_init(Findings *findings, int notify_fd);
extern void findings_free(Findings *findings);

/* ---- the scan's thread ---- */

/*
 * Adds a finding; waits while the engine is far behind.  False: out of memory,
 * and there is one less.
 */
extern bool findings_add(Findings *findings, FindingKind kind, const char *path, size_t len,
						 ProtoProblem problem, int error);

/* Hands over what is gathered: before the thread ends, or waits for beliefs. */
extern void findings_flush(Findings *findings);

/* ---- the engine ---- */

/* The oldest finding, which the caller frees, or NULL; never waits. */
extern Finding *findings_take(Findings *findings);

/* Whether there is one to take. */
extern bool findings_left(Findings *findings);

/* The thread waits for room no more. */
extern void findings_cancel(Findings *findings);

#endif							/* FSYNC_FINDINGS_H */
