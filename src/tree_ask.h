/*-------------------------------------------------------------------------
 *
 * tree_ask.h
 *		One question to fsync-tree, for a session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TREE_ASK_H
#define FSYNC_TREE_ASK_H

#include "fsync.h"

#define TREE_ASK_TIMEOUT_S	10

/* More than a path and a message can take. */
#define TREE_ASK_ANSWER		(128 * 1024)

/*
 * Runs "fsync-tree ARGS…" (args ends with NULL, without the program's name)
 * with the input, if any, to read from.  Returns what it writes, the first max
 * bytes or so, with a zero byte behind it and *len bytes long; NULL when it has
 * not ended within timeout_ms milliseconds.  Interruptible; errors when it
 * cannot be run.
 */
extern char *tree_ask(const char *const *args, const void *input, size_t input_len,
					  int timeout_ms, size_t max, size_t *len);

#endif							/* FSYNC_TREE_ASK_H */
