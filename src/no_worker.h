/*-------------------------------------------------------------------------
 *
 * no_worker.h
 *		Why nobody takes care of a repository, and what is to be done.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_NO_WORKER_H
#define FSYNC_NO_WORKER_H

/*
 * Of an active repository of this database that has no status in shared memory.
 * Both are sentences, or nearly, in the current memory context.
 */
extern void no_worker_explain(const char **reason, const char **hint);

#endif							/* FSYNC_NO_WORKER_H */
